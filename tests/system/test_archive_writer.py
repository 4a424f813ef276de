"""The archiver on real servers: the chain holds what the log holds, through kills; two archivers never mix."""

import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cdc.errors import CdcError
from cdc.log import End
from cdc.secret import new_key
from sinks.archive.archive import Archive
from sinks.archive.chain import check, fetch
from sinks.archive.manifest import Segment
from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.system.pipeline import Pipeline, wait_until


@pytest.fixture
def pipeline(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka) -> Pipeline:
    database.execute(SHOP)
    made = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    made.publish()
    return made


def chain(archive: Archive) -> list[Segment]:
    """All manifests, their links checked."""
    found = fetch(archive, list(archive.names("log/")))
    check(found)
    return [segment for _, segment in found]


def transactions(archive: Archive) -> list[tuple[int, str, str, int]]:
    """(number, kind, position, events) of everything archived."""
    rows = []
    for segment in chain(archive):
        table = pq.read_table(io.BytesIO(archive.vouched(segment.transactions)))
        rows += [(r["txn_seq"], r["kind"], r["position"], r["events"]) for r in table.to_pylist()]
    return rows


def logged(pipeline: Pipeline) -> list[tuple[int, str, str, int]]:
    ends: list[End] = []
    with suppress(CdcError):  # before the source's first start there are no topics
        ends = [end for end in pipeline.valid_ends() if end.numbered]
    return [(end.txn_seq, end.kind, end.position, end.event_count) for end in ends]


def work(pipeline: Pipeline, rounds: int) -> bool:
    """Two transactions a round; False, so that it can stand in a condition."""
    with pipeline.source.connect() as connection:
        for number in range(rounds):
            connection.execute("UPDATE accounts SET balance = balance + 1 WHERE id = %s", [number % 50 + 1])
            connection.execute("INSERT INTO visits VALUES (now(), %s)", [str(number)])
    return False


def test_the_archive_holds_what_the_log_holds(pipeline: Pipeline) -> None:
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: bool(logged(pipeline)), "the log")
        work(pipeline, 30)
        pipeline.source.execute("ALTER TABLE accounts ADD COLUMN tier int NOT NULL DEFAULT 3")
        pipeline.source.execute("TRUNCATE visits")
        work(pipeline, 5)
        pipeline.wait_archived()
    archive = pipeline.archive()
    assert transactions(archive) == logged(pipeline)
    assert [(c.table, c.effect) for s in chain(archive) for c in s.changes][-2:] == [
        ("public.accounts", "add_column"), ("public.visits", "truncate"),
    ]  # fmt: skip
    # Nothing of it can be read without the key.
    for path in pipeline.directory.joinpath("archive").rglob("*.parquet"):
        assert b"PAR1" not in path.read_bytes()


@pytest.mark.parametrize("where", ["archive.after_bodies", "archive.after_manifest", "archive.after_head"])
def test_a_kill_between_two_durable_steps(pipeline: Pipeline, where: str) -> None:
    with pipeline.source_running():
        with pipeline.archive_running(failpoint=f"{where}:2") as archiver:
            wait_until(lambda: bool(logged(pipeline)), "the log")
            wait_until(lambda: not (work(pipeline, 3) or archiver.running), "the kill")
        with pipeline.archive_running():
            work(pipeline, 5)
            pipeline.wait_archived()
    assert transactions(pipeline.archive()) == logged(pipeline)


def test_of_two_archivers_one_stops_and_the_chain_is_whole(pipeline: Pipeline) -> None:
    """CORRECTNESS 31: range-named segments would not have told them of each other."""
    with pipeline.source_running(), pipeline.archive_running() as one, pipeline.archive_running() as other:
        wait_until(lambda: bool(logged(pipeline)), "the log")
        wait_until(lambda: not (work(pipeline, 3) or (one.running and other.running)), "one of them gives way")
        loser = other if one.running else one
        assert loser.returncode == 4
        assert "ARCHIVE_HELD" in loser.log.read_text()
        work(pipeline, 5)
        pipeline.wait_archived()
    assert transactions(pipeline.archive()) == logged(pipeline)


def test_status_and_check_tell_how_far_it_is(pipeline: Pipeline) -> None:
    def call(*arguments: str) -> dict[str, Any]:
        process = pipeline.run(*arguments, "--json")
        process.wait(60)
        found: dict[str, Any] = json.loads(process.log.read_text())
        return found

    def lines() -> list[str]:
        sections = {s["section"]: s["findings"] for s in call("check")["sections"]}
        return [f"{f['level']} {f['what']}" for f in sections[f"archive.main.{pipeline.name}"]]

    empty, rights, program, schedule = lines()
    assert empty == f"NOTE {pipeline.archive_url} can be written; the archive is made by the archiver's first start"
    assert rights.startswith("OK role postgres of [source.")
    assert program.startswith("OK pg_dump 18.")
    assert schedule == "NOTE no base is taken by itself: base_every = never"
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: bool(logged(pipeline)), "the log")
        work(pipeline, 3)
        pipeline.wait_archived()
        (archive,) = call("status")["archives"]
        assert (archive["state"], archive["problem"], archive["lag_transactions"]) == ("archiving", None, 0)
        assert archive["txn_seq"] == logged(pipeline)[-1][0]
        assert (archive["base_due"], archive["base_overdue"], archive["unarchived_age_seconds"]) == (None, False, 0.0)
        encrypted, writable, upto, newest, *_ = lines()
        assert encrypted == "OK encrypted by AES-256-GCM, and this key opens it"
        assert writable == "OK the store can be written, and refuses to write over an object"
        assert upto.startswith("OK archived up to 20")
        assert newest == "NOTE no base yet"
        assert pipeline.run("archive", "backup", "main").wait(60) == 0
        assert lines()[3].startswith("OK newest base: base/0")
        (archive,) = call("status")["archives"]
        assert archive["restorable_from_us"] <= archive["archived_to_us"]
        assert 0 < archive["base_age_seconds"] < 60
        assert archive["anchor_age_seconds"] == archive["base_age_seconds"]
    pipeline.archive_key = new_key()
    (archive,) = call("status")["archives"]
    assert "ARCHIVE_KEY_WRONG" in archive["problem"]
    assert lines()[0].startswith("FAIL ARCHIVE_KEY_WRONG")
    assert pipeline.archive_key not in str(archive)
