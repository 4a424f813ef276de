"""How far a restore is proven, by a real source that goes on working: PROVEN, VERIFIED, FAILED, and why."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cdc.errors import ANCHOR_OF_ANOTHER, CdcError
from cdc.postgres.session import Server, Side
from sinks.archive import judge as judge_module
from sinks.archive.anchor import take_anchor
from sinks.archive.judge import judge
from sinks.archive.manifest import Anchor, RestoreRecord
from sinks.archive.plan import Moment
from sinks.archive.restore import Wanted, restore
from sinks.archive.window import Windows
from sinks.postgres.restoring import RestoreTarget
from tests.conftest import unused_name
from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.system.pipeline import CDC, Pipeline, wait_until
from tests.system.test_archive_restore import Quiet, at_source, work
from tests.system.test_archive_writer import logged

pytestmark = pytest.mark.postgres_versions("source")


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, postgres_source: Postgres, postgres_target: Postgres, kafka: Kafka
) -> Iterator[Pipeline]:
    """A source and its archiver, both at work; the archive has a base with changes behind it."""
    name = unused_name("proof")
    source, target = postgres_source.create_database(name), postgres_target.create_database(name)
    source.execute(SHOP)
    made = Pipeline(tmp_path_factory.mktemp("proof"), source, target, kafka.bootstrap)
    made.publish()
    with ExitStack() as running:
        running.enter_context(made.source_running())
        running.enter_context(made.archive_running())
        wait_until(lambda: len(logged(made)) >= 2, "the copy")
        work(made)
        backup = made.run("archive", "backup", "main")
        assert backup.wait(60) == 0, backup.log.read_text()
        work(made)
        made.wait_archived()
        yield made
    source.drop()
    target.drop()


@pytest.fixture
def target(target_database: Database) -> Database:
    return target_database


def environment(shop: Pipeline) -> dict[str, str]:
    return {
        **os.environ,
        "CDC_ARCHIVE_KEY": shop.archive_key,
        "PGPASSWORD": shop.target.server.password,
        "CDC_SOURCE_PASSWORD": shop.source.server.password,
    }


def cdc_restore(shop: Pipeline, target: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Away from any cdc.toml."""
    command: list[str | Path] = [
        CDC.with_name("cdc-restore"),
        "--archive",
        shop.archive_url,
        "--into",
        target.url(),
        *arguments,
    ]
    return subprocess.run(command, env=environment(shop), capture_output=True, text=True, timeout=120, check=False)


def cdc_archive(shop: Pipeline, *arguments: str) -> subprocess.CompletedProcess[str]:
    return shop.command("archive", *arguments)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1] if done.stdout else done.stderr


def now(shop: Pipeline) -> str:
    """A position with transactions before and behind it that no anchor has seen yet."""
    work(shop)
    lsn, _ = at_source(shop)
    work(shop)
    shop.wait_archived()
    return str(lsn)


def test_the_source_is_asked_and_proves_it(shop: Pipeline, target: Database) -> None:
    """While it goes on; the anchor lies behind the cut, the base before it."""
    done = cdc_restore(shop, target, "--to-lsn", now(shop), "--source", shop.source.url(), "--require-proof")
    assert (done.returncode, last_line(done).startswith("PROVEN: 2 tables, ")) == (0, True), done.stdout + done.stderr
    assert "(base/" in last_line(done)
    assert "(anchor/" in last_line(done)


def test_a_configuration_that_has_the_archive_says_where_the_source_is(shop: Pipeline, target: Database) -> None:
    done = subprocess.run(
        [CDC.with_name("cdc-restore"), "--archive", shop.archive_url, "--into", target.url(), "--to-lsn", now(shop),
         "--table", "public.accounts", "--as", "accounts_then", "--json"],
        env={**environment(shop), **shop.environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert (said["verdict"], said["proof"]["lacking"]) == ("PROVEN", [])
    assert said["restored"][0]["as"] == "public.accounts_then"
    anchor = shop.archive().read(Anchor, said["proof"]["after"]["witness"])
    assert list(anchor.tables) == ["public.accounts"]


def test_verified_first_and_proven_later(shop: Pipeline, target: Database) -> None:
    moment = now(shop)
    done = cdc_restore(shop, target, "--to-lsn", moment, "--require-proof")
    assert (done.returncode, last_line(done).startswith("VERIFIED: ")) == (3, True), done.stdout + done.stderr
    assert "not proven: nothing of the source behind it" in done.stdout
    restore_id = last_line(done).split()[-1]
    work(shop)
    taken = cdc_archive(shop, "anchor", "main")
    assert (taken.returncode, taken.stdout.startswith("anchor/")) == (0, True), taken.stderr
    work(shop)
    shop.wait_archived()
    proven = cdc_archive(shop, "prove", restore_id)
    assert (proven.returncode, last_line(proven).startswith("PROVEN: 2 tables")) == (0, True), proven.stderr
    assert shop.archive().read(RestoreRecord, f"restore/{restore_id}.json").verdict == "PROVEN"
    unknown = cdc_archive(shop, "prove", "0123456789abcdef")
    assert (unknown.returncode, "RESTORE_UNRECORDED" in unknown.stderr) == (2, True)


def altered_anchor(shop: Pipeline) -> Anchor:
    """The newest, as if the source had held another row."""
    archive = shop.archive()
    anchor = max((archive.read(Anchor, name) for name in archive.names("anchor/")), key=lambda a: a.taken_ms)
    table = anchor.tables["public.accounts"]
    bucket, (rows, first, second) = min(table.digests.items())
    wrong = table.model_copy(update={"digests": {**table.digests, bucket: (rows, first + 1, second)}})
    altered = anchor.model_copy(update={"id": "0" * 16, "tables": {**anchor.tables, "public.accounts": wrong}})
    archive.put(altered.name, altered.to_bytes())
    return altered


def test_what_the_source_did_not_hold_has_failed(shop: Pipeline, target: Database) -> None:
    moment = now(shop)
    assert cdc_archive(shop, "anchor", "main").returncode == 0
    altered = altered_anchor(shop)
    shop.archive().store.delete(max(n for n in shop.archive().names("anchor/") if n != altered.name))
    shop.wait_archived()
    done = cdc_restore(shop, target, "--to-lsn", moment)
    shop.archive().store.delete(altered.name)
    assert (done.returncode, last_line(done).startswith("FAILED: ")) == (1, True), done.stdout + done.stderr
    bucket = min(altered.tables["public.accounts"].digests)
    assert f"different: public.accounts, in buckets {bucket}, from {altered.name}" in done.stdout


def test_an_archive_that_does_not_go_on_is_named(
    shop: Pipeline, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No archiver: the anchor stays beyond the archive's end."""
    monkeypatch.setattr(judge_module, "_PATIENCE_S", 1.0)
    monkeypatch.setattr(judge_module, "read_tail", lambda _: None)
    archive = shop.archive()
    plan = Windows(archive).plan(Moment(txn_seq=logged(shop)[-1][0]))
    source = Server(Side.SOURCE, "shop", shop.source.url(), shop.source.server.password)
    with RestoreTarget(Server(Side.TARGET, "restore", target.url(), target.server.password)) as into:
        outcome = restore(archive, plan, Wanted(), into, Quiet())
    began = time.monotonic()
    judged = judge(archive, plan, outcome, lambda: source, Quiet())
    assert time.monotonic() - began < 30
    assert judged.proof.verdict == "VERIFIED"
    assert judged.notes == ("the archive stands at its beginning and does not go on: is the archiver running?",)


def test_a_source_that_cannot_be_asked(shop: Pipeline, target: Database) -> None:
    nowhere = shop.source.url().replace(f":{shop.source.server.port}/", ":1/")
    done = cdc_restore(shop, target, "--to-lsn", now(shop), "--source", nowhere)
    assert (done.returncode, last_line(done).startswith("VERIFIED: ")) == (0, True), done.stdout + done.stderr
    assert "note: the source gave no anchor: " in done.stdout


def test_an_anchor_without_the_table_proves_nothing_of_it(shop: Pipeline, target: Database) -> None:
    moment = now(shop)
    source = Server(Side.SOURCE, "shop", shop.source.url(), shop.source.server.password)
    anchor = take_anchor(shop.archive(), source, ["public.accounts", "public.gone"], lambda _: None)
    assert list(anchor.tables) == ["public.accounts"]
    shop.wait_archived()
    done = cdc_restore(shop, target, "--to-lsn", moment)
    shop.archive().store.delete(anchor.name)
    assert last_line(done).startswith("VERIFIED: "), done.stdout + done.stderr
    assert f"not {anchor.name}: it does not cover table public.visits" in done.stdout


@pytest.mark.matrix
def test_a_damaged_witness_is_passed_over_and_named(shop: Pipeline, target: Database) -> None:
    assert cdc_archive(shop, "anchor", "main").returncode == 0
    moment = now(shop)
    assert cdc_archive(shop, "anchor", "main").returncode == 0
    shop.wait_archived()
    name = max(shop.archive().names("anchor/"))
    other = min(shop.archive().names("anchor/"))
    stored = Path(shop.archive_url.removeprefix("file://")) / name
    whole, another = stored.read_bytes(), stored.parent.joinpath(Path(other).name).read_bytes()
    for bad in (whole[:-1] + bytes([whole[-1] ^ 1]), another):
        stored.write_bytes(bad)
        done = cdc_restore(shop, target, "--to-lsn", moment)
        target.execute("DROP SCHEMA public, cdc CASCADE; CREATE SCHEMA public")
        assert last_line(done).startswith("VERIFIED: "), done.stdout + done.stderr
        assert f"not proven: {name} is no witness: " in done.stdout
        checked = cdc_archive(shop, "verify", "main")
        assert (checked.returncode, f"damaged  {name}: " in checked.stdout) == (1, True), checked.stdout
    stored.unlink()
    assert cdc_archive(shop, "verify", "main").returncode == 0


def test_another_database_of_the_same_server_is_no_source(shop: Pipeline, target: Database, database: Database) -> None:
    """It would say for ever that the archive is wrong."""
    database.execute(SHOP)
    before = list(shop.archive().names("anchor/"))
    done = cdc_restore(shop, target, "--to-lsn", now(shop), "--source", database.url())
    assert (done.returncode, last_line(done).startswith("VERIFIED: ")) == (0, True), done.stdout + done.stderr
    assert f"database {database.name} of server" in done.stdout
    source = Server(Side.SOURCE, "shop", database.url(), database.server.password)
    with pytest.raises(CdcError) as caught:
        take_anchor(shop.archive(), source, ["public.accounts"], lambda _: None)
    assert caught.value.code is ANCHOR_OF_ANOTHER
    assert list(shop.archive().names("anchor/")) == before


def test_an_anchor_of_another_server_is_no_witness(shop: Pipeline, target: Database) -> None:
    moment = now(shop)
    assert cdc_archive(shop, "anchor", "main").returncode == 0
    archive = shop.archive()
    name = max(archive.names("anchor/"))
    anchor = archive.read(Anchor, name)
    archive.put(name, anchor.model_copy(update={"system_id": "1"}).to_bytes())
    shop.wait_archived()
    done = cdc_restore(shop, target, "--to-lsn", moment)
    archive.store.delete(name)
    assert last_line(done).startswith("VERIFIED: "), done.stdout + done.stderr
    assert f"not {name}: it is of another server, database or timeline" in done.stdout
