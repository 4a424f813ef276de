"""Restores on real servers: what comes back is what the source held at that very moment, or a word why not."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from cdc.position import Lsn, PgPosition
from cdc.postgres.catalog import Catalog
from cdc.postgres.session import Server, Side
from sinks.archive.plan import Moment
from sinks.archive.restore import Outcome, Wanted, restore
from sinks.archive.window import Windows
from sinks.digest import Digests, digests
from sinks.postgres.digest import digest_query
from sinks.postgres.restoring import RestoreTarget
from tests.conftest import unused_name
from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.system.pipeline import CDC, Pipeline, wait_until
from tests.system.test_archive_writer import logged

pytestmark = pytest.mark.postgres_versions("target")


class Quiet:
    """Watches nothing."""

    def begun(self, changes: int, rows: Mapping[str, int]) -> None: ...
    def reading(self, changes: int) -> None: ...
    def loading(self, table: str, rows: int, *, done: bool) -> None: ...
    def step(self, what: str) -> None: ...


@pytest.fixture
def pipeline(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka) -> Pipeline:
    database.execute(SHOP)
    made = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    made.publish()
    return made


def at_source(pipeline: Pipeline) -> tuple[Lsn, dict[str, Digests]]:
    """The source's digests while nobody writes, and a position between them and what comes next."""
    server = Server(Side.SOURCE, "test", pipeline.source.url(), pipeline.source.server.password)
    with closing(Catalog(server)) as catalog:
        (lsn,) = catalog.rows("SELECT pg_current_wal_insert_lsn()::text")[0]
        publication = catalog.publication(f"cdc_{pipeline.name}", lambda *_: True)
        assert publication is not None
        shapes = catalog.shapes([table.oid for table in publication.tables])
        found = {t.full_name: digests(catalog.connection.execute(digest_query(t, only=True))) for t in shapes}
    return Lsn.parse(lsn), found


def restored(pipeline: Pipeline, moment: Moment, wanted: Wanted | None = None) -> Outcome:
    server = Server(Side.TARGET, "restore", pipeline.target.url(), pipeline.target.server.password)
    archive = pipeline.archive()
    with RestoreTarget(server) as target:
        return restore(archive, Windows(archive).plan(moment), wanted or Wanted(), target, Quiet())


def work(pipeline: Pipeline) -> None:
    pipeline.source.execute("""
        UPDATE accounts SET balance = balance + 1 WHERE id % 3 = 0;
        UPDATE accounts SET id = id + 1000 WHERE id % 7 = 0 AND id < 1000;
        DELETE FROM accounts WHERE id % 11 = 0;
        INSERT INTO accounts (id, owner, balance, notes)
          SELECT 5000 + coalesce(max(id), 0), 'new', 1, repeat(md5(random()::text), 300) FROM accounts;
        INSERT INTO visits VALUES (now(), 'x'), (now(), 'x');
        DELETE FROM visits WHERE ctid IN (SELECT ctid FROM visits LIMIT 1);
        UPDATE visits SET page = page || '!' WHERE page = 'x';
    """)


def test_restores_to_positions_equal_the_source(pipeline: Pipeline) -> None:
    moments = []
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: len(logged(pipeline)) >= 2, "the copy")
        pipeline.wait_archived()
        for number in range(6):
            work(pipeline)
            if number == 2:
                pipeline.source.execute("ALTER TABLE accounts ADD COLUMN tier int NOT NULL DEFAULT 3")
            if number == 3:
                pipeline.source.execute("TRUNCATE visits")
            if number == 4:
                pipeline.source.execute("ALTER TABLE accounts DROP COLUMN tier")
            moments.append(at_source(pipeline))
            time.sleep(0.3)
        work(pipeline)
        pipeline.wait_archived()
    for lsn, expected in moments:
        pipeline.target.execute("DROP TABLE IF EXISTS accounts, visits; DROP SCHEMA IF EXISTS cdc CASCADE")
        outcome = restored(pipeline, Moment(position=PgPosition(1, lsn)))
        assert {table.table: table.digests for table in outcome.tables} == expected


def cdc_restore(pipeline: Pipeline, *arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "CDC_ARCHIVE_KEY": pipeline.archive_key if key is None else key,
        "PGPASSWORD": pipeline.target.server.password,
    }
    command: list[str | Path] = [CDC.with_name("cdc-restore"), "--archive", pipeline.archive_url, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def live(pipeline: Pipeline) -> Pipeline:
    """A little history in the archive; nothing runs any more."""
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: len(logged(pipeline)) >= 2, "the copy")
        pipeline.wait_archived()
        work(pipeline)
        time.sleep(1.5)
        pipeline.source.execute("DELETE FROM accounts")
        pipeline.wait_archived()
    return pipeline


@pytest.fixture(scope="session")
def history(
    tmp_path_factory: pytest.TempPathFactory, postgres_source: Postgres, postgres_target: Postgres, kafka: Kafka
) -> Iterator[Pipeline]:
    """Lived once; who changes something has a copy."""
    name = unused_name("history")
    source, target = postgres_source.create_database(name), postgres_target.create_database(name)
    source.execute(SHOP)
    made = Pipeline(tmp_path_factory.mktemp("history"), source, target, kafka.bootstrap)
    made.publish()
    yield live(made)
    source.drop()
    target.drop()


@pytest.fixture
def archived(history: Pipeline, tmp_path: Path, target_database: Database) -> Pipeline:
    """Its archive, and an empty target."""
    made = Pipeline(tmp_path, history.source, target_database, history.bootstrap)
    made.archive_key = history.archive_key
    shutil.copytree(history.directory / "archive", tmp_path / "archive")
    return made


def test_the_command(archived: Pipeline) -> None:
    """Yesterday's table, beside the live one and in an empty database, by the archive and its key alone."""
    found = cdc_restore(archived, "--list", "--json")
    (window,) = json.loads(found.stdout)["windows"]
    assert window["base"] == "the log's own copy"
    before_delete = str(window["last_txn"])
    into = ("--into", archived.target.url())
    dry = cdc_restore(archived, "--to-txn", before_delete, "--exclusive", "--dry-run", "--json")
    assert json.loads(dry.stdout)["first_out"]["txn"] == int(before_delete)
    whole = cdc_restore(archived, "--to-txn", before_delete, "--exclusive", *into)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.splitlines()[-1].startswith("VERIFIED: 2 tables")
    again = cdc_restore(archived, "--to-txn", before_delete, "--exclusive", *into)
    assert (again.returncode, "RESTORE_EXISTS" in again.stderr) == (5, True)
    found_by_row = cdc_restore(archived, "--before-delete", "public.accounts:1", "--dry-run", "--json")
    assert json.loads(found_by_row.stdout)["first_out"]["txn"] == int(before_delete)
    beside = cdc_restore(
        archived, "--to-time", window["to"], "--table", "public.accounts", "--as", "after delete", *into
    )  # fmt: skip
    assert beside.returncode == 0, beside.stderr
    assert archived.target.execute('SELECT count(*) FROM "after delete"') == [(0,)]
    assert archived.target.execute("SELECT count(*) > 40 FROM accounts") == [(True,)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--to-time", "2026-11-22 03:10:00"], 2, "has no offset from UTC"),
        (["--to-time", "yesterday"], 2, "is no time"),
        (["--to-time", "2199-01-01 00:00:00+00:00"], 5, "BEYOND_ARCHIVE"),
        (["--to-time", "1999-01-01 00:00:00+00:00"], 5, "BEFORE_ARCHIVE"),
        (["--to-txn", "1"], 5, "TABLE_COPYING"),
        (["--to-lsn", "FFFF/0"], 5, "BEYOND_ARCHIVE"),
        (["--to-lsn", "x"], 2, "is no position"),
        ([], 2, "which moment is meant?"),
        (["--before-delete", "public.accounts:777"], 2, "DELETE_UNKNOWN"),
        (["--before-delete", "public.accounts:1", "--to-txn", "3"], 2, "which moment is meant?"),
        (["--to-txn", "3", "--table", "public.nothing"], 2, "TABLE_UNKNOWN"),
        (["--to-txn", "3", "--as", "x"], 2, "--as names one table"),
        (["--to-txn", "3", "--schema", "there is none"], 5, "RESTORE_REFUSED"),
    ],
)
def test_what_the_command_refuses(archived: Pipeline, arguments: list[str], code: int, words: str) -> None:
    done = cdc_restore(archived, *arguments, "--into", archived.target.url())
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert archived.target.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_rows_that_the_target_changes_are_noticed(archived: Pipeline) -> None:
    """Compared before the commit: nothing wrong is ever seen."""
    archived.target.execute("""
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.page := NEW.page || 1; RETURN NEW; END';
        CREATE FUNCTION on_create() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
          IF to_regclass('public.visits') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 't') THEN
            EXECUTE 'CREATE TRIGGER t BEFORE INSERT ON public.visits FOR EACH ROW EXECUTE FUNCTION public.spoil()';
          END IF; END $$;
        CREATE EVENT TRIGGER spoil ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION on_create();
    """)
    done = cdc_restore(archived, "--to-txn", "3", "--into", archived.target.url())
    assert (done.returncode, "RESTORE_FAILED" in done.stderr) == (1, True), done.stderr
    assert 'in the first of them rows "' in done.stderr
    assert archived.target.execute("SELECT to_regclass('public.visits')") == [(None,)]


def test_a_region_is_added_by_a_restore(pipeline: Pipeline) -> None:
    """The sink goes on behind the cut, exactly once, without copying."""
    archived = live(pipeline)
    whole = cdc_restore(archived, "--to-txn", "4", "--into", archived.target.url())
    assert whole.returncode == 0, whole.stderr
    with archived.source_running(), archived.sink_running() as sink:
        archived.source.execute("INSERT INTO accounts VALUES (1, 'back', 3, 'x')")
        archived.wait_caught_up()
        archived.assert_equal()
        assert "started sink=eu position=1:0/" in sink.log.read_text()
        assert archived.target.execute("SELECT pipeline FROM cdc.cdc_progress") == [("eu",)]


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "deleted":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize(("what", "how"), [("body/*/*.rows.parquet", "altered"), ("log/*/*.json", "deleted")])
def test_damage_through_the_commands(archived: Pipeline, what: str, how: str) -> None:
    """By `verify`, and by a restore that needs the object; test_archive_faults.py tries every kind of it."""
    root = archived.directory / "archive" / archived.name
    intact = archived.run("archive", "verify", "main", "--json")
    assert (intact.wait(60), json.loads(intact.log.read_text())["intact"]) == (0, True)
    path = min(root.glob(what))
    damage(path, how)
    found = archived.run("archive", "verify", "main", "--json")
    assert found.wait(60) == 1
    names = [one["name"] for one in json.loads(found.log.read_text())["damages"]]
    # A manifest that is gone shows by the one that vouches for it.
    assert str(path.relative_to(root)) in names or how == "deleted"
    assert names
    done = cdc_restore(archived, "--to-txn", "4", "--into", archived.target.url())
    assert done.returncode == 5, done.stdout
    assert "ARCHIVE_CORRUPT" in done.stderr or "CHAIN_BROKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert archived.target.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'so so');
CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT upper($1) || '; -- Name: x; Type: TABLE' $$;
CREATE TABLE customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text UNIQUE NOT NULL,
  m mood DEFAULT 'sad', loud text GENERATED ALWAYS AS (upper(email)) STORED, CHECK (email <> ''));
CREATE TABLE orders (id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers ON DELETE CASCADE, note text);
CREATE INDEX by_note ON orders (lower(note)) WHERE note IS NOT NULL;
CREATE VIEW big AS SELECT * FROM orders WHERE id > 10;
CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
COMMENT ON TABLE orders IS 'what people bought';
INSERT INTO customers (email) SELECT 'c' || i || '@example.org' FROM generate_series(1, 20) i;
INSERT INTO orders (customer, note) SELECT i, 'n' || i FROM generate_series(1, 20) i;
"""


def test_a_whole_database_out_of_a_base(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schema and all: what the source's own tools say of both databases is the same, and the application goes on."""
    monkeypatch.setenv("PATH", f"{Postgres.pg_dump.parent}:{os.environ['PATH']}")
    pipeline.source.execute(SCHEMA)
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: len(logged(pipeline)) >= 4, "the copy")
        pipeline.source.execute("UPDATE orders SET note = 'before the base' WHERE id < 3")
        backup = pipeline.run("archive", "backup", "main")
        assert backup.wait(60) == 0, backup.log.read_text()
        pipeline.source.execute("DELETE FROM customers WHERE id = 4")
        pipeline.source.execute("INSERT INTO orders (customer, note) VALUES (5, 'later')")
        work(pipeline)
        pipeline.source.execute("ALTER TABLE orders ADD COLUMN priority int NOT NULL DEFAULT 1")
        lsn, expected = at_source(pipeline)
        pipeline.wait_archived()
        done = cdc_restore(pipeline, "--to-lsn", str(lsn), "--into", pipeline.target.url())
        assert done.returncode == 0, done.stderr
        assert "from base/" in done.stdout
        _, there = at_target(pipeline)
        assert there == expected
        pipeline.target.execute("INSERT INTO orders (customer, note) VALUES (5, 'the application goes on')")
    assert_same_schema(pipeline)


def test_what_went_with_a_dropped_column_does_not_come_back(pipeline: Pipeline) -> None:
    """Not on a new column of the same name either; each is named."""
    pipeline.source.execute("""
        CREATE TABLE goods (id int PRIMARY KEY, code text UNIQUE, price int CHECK (price > 0), stock int,
          total int GENERATED ALWAYS AS (price * stock) STORED, CHECK (stock < 1000));
        CREATE INDEX by_price ON goods (price); CREATE INDEX by_both ON goods (stock, price);
        CREATE INDEX by_stock ON goods (stock); COMMENT ON INDEX by_price IS 'gone with it';
        CREATE STATISTICS together ON price, stock FROM goods;
        CREATE VIEW dear AS SELECT id FROM goods WHERE price > 100;
        CREATE VIEW short AS SELECT id FROM goods WHERE stock < 3;
        CREATE TABLE lots (id int PRIMARY KEY, code text REFERENCES goods (code), n int);
        INSERT INTO goods SELECT i, 'c' || i, i, i FROM generate_series(1, 50) i;
        INSERT INTO lots SELECT i, 'c' || i, i FROM generate_series(1, 50) i;
    """)
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: len(logged(pipeline)) >= 4, "the copy")
        backup = pipeline.run("archive", "backup", "main")
        assert backup.wait(60) == 0, backup.log.read_text()
        pipeline.source.execute("ALTER TABLE goods DROP COLUMN price CASCADE")
        pipeline.source.execute("ALTER TABLE goods ADD COLUMN price int NOT NULL DEFAULT 7")
        pipeline.source.execute("ALTER TABLE goods DROP COLUMN code CASCADE")
        pipeline.source.execute("UPDATE goods SET stock = stock + 1, price = 9 WHERE id < 10")
        lsn, expected = at_source(pipeline)
        pipeline.wait_archived()
        done = cdc_restore(pipeline, "--to-lsn", str(lsn), "--into", pipeline.target.url())
    assert done.returncode == 0, done.stderr
    assert at_target(pipeline)[1] == expected
    for what in ("index public.by_price", "index public.by_both", "view public.dear", "statistics object",
                 "table constraint lots_code_fkey on public.lots", "table column public.goods.total"):  # fmt: skip
        assert f"gone with a column that the source dropped after the schema was dumped: {what}" in done.stdout, what
    assert "short" not in done.stdout
    assert_same_schema(pipeline)


def at_target(pipeline: Pipeline) -> tuple[Lsn, dict[str, Digests]]:
    """As `at_source`, of the same tables on the target."""
    lsn, found = at_source(pipeline)
    server = Server(Side.TARGET, "test", pipeline.target.url(), pipeline.target.server.password)
    with closing(Catalog(server)) as catalog:
        oids = [catalog.rows("SELECT to_regclass(%s)::oid::bigint", name)[0][0] for name in found]
        shapes = catalog.shapes(oids)
        return lsn, {t.full_name: digests(catalog.connection.execute(digest_query(t, only=True))) for t in shapes}


def assert_same_schema(pipeline: Pipeline) -> None:
    """Where both servers spell a view alike: one version writes `SELECT t.id` of another's `SELECT id`."""
    source, target = pipeline.source, pipeline.target
    if source.server.version == target.server.version:
        assert dumped(target) == dumped(source)


def dumped(database: Database) -> list[str]:
    """What pg_dump says of a schema, without what is ours and what changes with each run."""
    command: list[str | Path] = [
        Postgres.pg_dump,
        "--schema-only",
        "--no-owner",
        "--no-privileges",
        "--exclude-schema=cdc",
        database.url(),
    ]
    environment = {**os.environ, "PGPASSWORD": database.server.password}
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    lines = [line for line in text.splitlines() if line and not line.startswith(("--", "\\"))]
    return [line for line in lines if "cdc_" not in line and "FUNCTION cdc." not in line]
