"""Bases on real servers: exactly what the source held behind one transaction of its log, or no base at all."""

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdc import config
from cdc.errors import (
    BASE_MISCOUNTED,
    BASE_OVERTAKEN,
    COPY_TORN,
    PG_DUMP_FAILED,
    PG_DUMP_MISSING,
    ROW_TOO_LARGE,
    TABLE_WITHOUT_COLUMNS,
    CdcError,
)
from cdc.event import Column, Table
from cdc.failpoint import failpoint
from cdc.postgres.catalog import Catalog
from cdc.postgres.session import SESSION, Server, Side
from cdc.postgres.snapshot import BaseCopy
from cdc.secret import parse_key
from sinks.archive import base as base_module
from sinks.archive import of_postgres, table_files
from sinks.archive import snapshot as snapshot_module
from sinks.archive.archive import Archive
from sinks.archive.base import BaseSettings, take_base
from sinks.archive.dump import Dump, Entry, dump, find_program
from sinks.archive.manifest import Base, BaseTable, Digests
from sinks.archive.snapshot import exact_snapshot
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.servers.process import Process
from tests.servers.s3 import S3
from tests.system.pipeline import Pipeline, wait_until

pytestmark = pytest.mark.postgres_versions("source")

PG_DUMP = {"PG_DUMP": str(Postgres.pg_dump)}
GOLDEN = Path(__file__).parents[1] / "golden/pg_dump"
HOSTILE = ["", "\\.", "\\N", '"', '""', "\r", "\n", "\r\n", "a\rb\n\nc\r\n", ",", "'", "\\", "\ufeffx", "NULL", "\t",
           " ", "  padded  ", "é\U0001f600", "\x01\x7f", "\u2028", '",\n"', "0", "--", "x" * 70_000]  # fmt: skip
Row = tuple[str | None, ...]


class Shop(Pipeline):
    """A pipeline whose source holds what is given, and its bases."""

    def backup(self, *, failpoint: str | None = None, env: Mapping[str, str] | None = None) -> Process:
        return self.run("archive", "backup", "main", failpoint=failpoint, env={**PG_DUMP, **(env or {})})

    def backed_up(self) -> Base:
        """The base of one more successful backup."""
        before = {base.id for base in self.bases()}
        process = self.backup()
        assert process.wait(60) == 0, process.log.read_text()
        [made] = [base for base in self.bases() if base.id not in before]
        return made

    def bases(self) -> list[Base]:
        if not (self.directory / "archive").exists():
            return []
        archive = self.archive()
        return [archive.read(Base, name) for name in archive.names("base/0")]

    def rows_of(self, table: BaseTable) -> list[Row]:
        return rows_in(self.archive(), table)

    def at_source(self, table: str, columns: Sequence[str]) -> list[Row]:
        """Its own rows as the server's text, asked for in another way than by COPY."""
        cells = ", ".join(f'CASE WHEN t."{c}" IS NULL THEN NULL ELSE format(\'%%s\', t."{c}") END' for c in columns)
        with self.source.connect() as connection:
            for name, value in SESSION.items():
                connection.execute("SELECT set_config(%s, %s, false)", [name, value])
            return ordered(connection.execute(f"SELECT {cells} FROM ONLY public.{table} t", []).fetchall())

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Once the source's own copy is over."""
        wait_until(lambda: self.slots() != [] and any(end.publication for end in self.valid_ends()), "a heartbeat")
        yield

    def slots(self) -> list[str]:
        rows = self.source.execute(
            "SELECT slot_name FROM pg_replication_slots WHERE database = %s ORDER BY 1", [self.source.name]
        )
        return [row[0] for row in rows]


@pytest.fixture
def make(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka
) -> Callable[..., Shop]:  # fmt: skip
    def start(tables: str, **options: Any) -> Shop:
        database.execute(tables)
        made = Shop(tmp_path, database, target_database, kafka.bootstrap, **options)
        made.publish()
        return made

    return start


@pytest.fixture
def shop(make: Callable[..., Shop]) -> Shop:
    return make("""
        CREATE TABLE accounts (id int PRIMARY KEY, owner text, balance numeric(12,2) NOT NULL);
        CREATE TABLE empty (id int PRIMARY KEY);
        INSERT INTO accounts SELECT i, 'owner ' || i, 100 FROM generate_series(1, 50) i;
    """)


def ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=repr)


def rows_in(archive: Archive, table: BaseTable) -> list[Row]:
    """What a reader finds who knows the manifest and Parquet."""
    rows: list[Row] = []
    for stored in table.files:
        found = pq.read_table(pa.BufferReader(archive.vouched(stored)))
        assert set(found.schema.types) == {pa.string()}
        rows += zip(*(column.to_pylist() for column in found.columns), strict=True)
    return ordered(rows)


def digest_of(rows: Sequence[Row], names: Sequence[str], key: Sequence[str]) -> Digests:
    """As the digest's module describes it, in plain Python."""
    found: Digests = {}
    for row in rows:
        by_name = dict(zip(names, row, strict=True))
        row_hash, key_hash = hashed(row), hashed([by_name[name] for name in key or names])
        count, first, second = found.get(key_hash[:2], (0, 0, 0))
        found[key_hash[:2]] = (count + 1, first + int(row_hash[:15], 16), second + int(row_hash[15:30], 16))
    return found


def hashed(cells: Sequence[str | None]) -> str:
    line = ",".join("" if cell is None else '"' + cell.replace('"', '""') + '"' for cell in cells)
    return hashlib.sha256(line.encode()).hexdigest()


class Watcher:
    """An observer that remembers, and may act."""

    def __init__(self) -> None:
        self.waited: list[str] = []
        self.errors: list[CdcError] = []
        self.rows: dict[str, list[int]] = {}
        self.estimates: Mapping[str, int] = {}

    def waiting(self, what: str) -> None:
        self.waited.append(what)

    def begun(self, estimates: Mapping[str, int]) -> None:
        self.estimates = estimates

    def copying(self, table: str, rows: int, *, done: bool) -> None:
        del done
        self.rows.setdefault(table, []).append(rows)

    def again(self, error: CdcError) -> None:
        self.errors.append(error)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[[Shop], BaseSettings]:
    """To take a base in this process."""

    def of(shop: Shop) -> BaseSettings:
        monkeypatch.setenv("SOURCE_PASSWORD", shop.source.server.password)
        monkeypatch.setenv("PG_DUMP", PG_DUMP["PG_DUMP"])
        loaded = config.load(shop.config)
        key = parse_key(shop.archive_key)
        return BaseSettings("main", loaded.source(shop.name), shop.archive_url, loaded.kafka_options(), key)

    return of


def act_once(monkeypatch: pytest.MonkeyPatch, at: str, act: Callable[[], object]) -> None:
    """Do something when a base is at this place for the first time."""
    left = [act]

    def hook(name: str) -> None:
        failpoint(name)
        if name == at and left:
            left.pop()()

    for module in (base_module, snapshot_module):
        monkeypatch.setattr(module, "failpoint", hook)


# -- rows -------------------------------------------------------------------------------------------------------
ODD = """
CREATE TYPE mood AS ENUM ('fine', 'it''s', '"');
CREATE TABLE texts (id int PRIMARY KEY, value text, other varchar(80000), fixed char(6));
CREATE TABLE types (id bigint PRIMARY KEY, f4 real, f8 double precision, n numeric, b boolean, raw bytea, u uuid,
  d date, t time, ts timestamp, tz timestamptz, j json, jb jsonb, m mood, o oid, s smallint,
  texts text[], moods mood[], numbers numeric[],
  twice bigint GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE "Odd ""%s name" ("select" int PRIMARY KEY, "a %b" text, "x,""y" text);
CREATE SEQUENCE "odd %";
CREATE TABLE alone ("only" text); ALTER TABLE alone REPLICA IDENTITY FULL;
CREATE TABLE parent (id int PRIMARY KEY, note text);
CREATE TABLE child (more text, PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE empty (id int PRIMARY KEY);
INSERT INTO types VALUES
  (1, 'NaN', '-Infinity', 'NaN', true, '\\x00ff5c', '00000000-0000-0000-0000-000000000001', 'infinity', '24:00',
   '4713-01-01 BC', '294276-12-31 23:59:59.999999+00', '{"a" : "\\u0041\\n"}', '{"b":1.50}', 'it''s', 4294967295, -1,
   ARRAY['', NULL, 'NULL', '"', 'a,b', '\\', '{}'], ARRAY['"', 'fine']::mood[], ARRAY[1.10, NULL, 'NaN']),
  (2, 0.1, 0.30000000000000004, 1.10, false, '', NULL, '0001-01-01 BC', '00:00:00.000001', '-infinity', 'infinity',
   'null', 'null', 'fine', 0, 32767, '{}', NULL, '{}');
INSERT INTO types VALUES (3), (-4611686018427387904);
INSERT INTO "Odd ""%s name" VALUES (1, NULL, ''), (2, '', NULL), (3, '"', ',');
INSERT INTO alone VALUES (U&'\\FEFFfirst'), (NULL), (NULL), (''), ('"'), (''), (E'\\n'), ('\\.');
INSERT INTO parent VALUES (1, 'parent'); INSERT INTO child VALUES (2, 'child', 'more');
"""
COLUMNS = {
    "texts": ["id", "value", "other", "fixed"],
    "types": [
        "id",
        "f4",
        "f8",
        "n",
        "b",
        "raw",
        "u",
        "d",
        "t",
        "ts",
        "tz",
        "j",
        "jb",
        "m",
        "o",
        "s",
        "texts",
        "moods",
        "numbers",
    ],
    "alone": ["only"],
    "parent": ["id", "note"],
    "child": ["id", "note", "more"],
    "empty": ["id"],
}
KEYLESS = {"alone"}


@pytest.fixture
def odd(make: Callable[..., Shop]) -> Shop:
    made = make(ODD)
    with made.source.connect() as connection:
        pairs = [(a, b) for a in [*HOSTILE, None] for b in (HOSTILE[0], HOSTILE[1], None, a)]
        for number, (value, other) in enumerate(pairs):
            fixed = value if value and len(value) < 6 else None
            connection.execute("INSERT INTO texts VALUES (%s, %s, %s, %s)", [number, value, other, fixed])
    return made


def test_rows_are_the_servers_very_text(odd: Shop) -> None:
    with odd.source_running():
        base = odd.backed_up()
    for table, columns in COLUMNS.items():
        taken, expected = base.tables[f"public.{table}"], odd.at_source(table, columns)
        rows = odd.rows_of(taken)
        assert rows == expected, table
        assert taken.rows == len(expected)
        assert taken.digests == digest_of(rows, columns, [] if table in KEYLESS else ["id"]), table
        shape = odd.archive().shape(taken.schema_id)
        assert [column.name for column in shape.columns] == columns
        assert bool(taken.files) == bool(expected)
    hostile = odd.rows_of(base.tables['public.Odd "%s name'])
    assert hostile == ordered([("1", None, ""), ("2", "", None), ("3", '"', ",")])
    assert base.tables.keys() == {f"public.{table}" for table in [*COLUMNS, 'Odd "%s name']}
    # Which encryption leaves nothing to read of.
    stored = b"".join(p.read_bytes() for p in (odd.directory / "archive").rglob("*") if p.is_file())
    assert b"PAR1" not in stored
    assert b"CREATE TABLE" not in stored


def test_a_table_of_several_files(
    shop: Shop, settings: Callable[[Shop], BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a row that is larger than what is parsed at a time."""
    monkeypatch.setattr(table_files, "BATCH_BYTES", 4_000)
    monkeypatch.setattr(table_files, "FILE_BYTES", 20_000)
    shop.source.execute("INSERT INTO accounts SELECT i, repeat('x', i), i FROM generate_series(51, 500) i")
    shop.source.execute("INSERT INTO accounts VALUES (501, repeat(E'\"\\r\\n', 200000), 0)")
    shop.source.execute("ANALYZE accounts")
    watcher = Watcher()
    with shop.source_running():
        base = take_base(settings(shop), watcher)
    taken = base.tables["public.accounts"]
    assert len(taken.files) > 5
    assert shop.rows_of(taken) == shop.at_source("accounts", ["id", "owner", "balance"])
    names = [stored.name for table in base.tables.values() for stored in table.files]
    assert names == [f"base/files/{base.id}/{n:06d}.parquet" for n in range(1, len(names) + 1)]
    assert watcher.estimates == {"public.accounts": 501, "public.empty": 0}
    told = watcher.rows["public.accounts"]
    assert told == sorted(told)
    assert (told[-1], watcher.rows["public.empty"]) == (501, [0])
    assert shop.bases() == [base]


@contextmanager
def writers(shop: Shop, count: int) -> Iterator[None]:
    """Transactions of several sessions at once; each leaves its number in its rows."""
    stop = threading.Event()

    def write(worker: int) -> None:
        with shop.source.connect(autocommit=False) as connection:
            while not stop.is_set():
                connection.execute(
                    "INSERT INTO ledger SELECT pg_current_xact_id()::text, g FROM generate_series(1, 3) g"
                )
                connection.execute("UPDATE accounts SET balance = balance + 1 WHERE id = %s", [worker])
                time.sleep(0.005)
                connection.commit()

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_base_stands_behind_its_transaction_and_no_other(make: Callable[..., Shop]) -> None:
    """While several sessions write: it holds all of every transaction up to its number, and nothing later."""
    shop = make("""
        CREATE TABLE ledger (xid text, part int, PRIMARY KEY (xid, part));
        CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);
        INSERT INTO accounts SELECT i, 0 FROM generate_series(0, 9) i;
    """)
    with shop.source_running(), shop.streaming(), writers(shop, 4):
        wait_until(lambda: len(shop.source.execute("SELECT 1 FROM ledger LIMIT 300")) == 300, "writers")
        bases = [shop.backed_up() for _ in range(3)]
    ends = [end for end in shop.valid_ends() if end.kind == "data"]
    for base in bases:
        before = {str(end.xid) for end in ends if end.txn_seq <= base.txn_seq}
        rows = shop.rows_of(base.tables["public.ledger"])
        assert {xid for xid, _ in rows} == before
        assert len(rows) == 3 * len(before)
        assert sum(int(balance or 0) for _, balance in shop.rows_of(base.tables["public.accounts"])) == len(before)
        [at] = [end for end in shop.valid_ends() if end.txn_seq == base.txn_seq and end.kind == "data"]
        assert (base.epoch, base.position, base.commit_us) == (at.epoch, at.position, at.commit_ts_us)
        assert any(end.txn_seq > base.txn_seq for end in ends)
    assert bases[0].txn_seq < bases[1].txn_seq < bases[2].txn_seq


# -- schema, sequences, what is not in it -----------------------------------------------------------------------
def test_sequences_and_what_a_restore_will_lack(make: Callable[..., Shop]) -> None:
    shop = make(
        """
        CREATE TABLE accounts (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n serial);
        CREATE TABLE aside (id int PRIMARY KEY); CREATE SCHEMA other; CREATE TABLE other.far (id int PRIMARY KEY);
        CREATE UNLOGGED TABLE cache (id int PRIMARY KEY);
        CREATE MATERIALIZED VIEW counts AS SELECT count(*) FROM accounts;
        CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
        CREATE FOREIGN TABLE remote (id int) SERVER far;
        CREATE SEQUENCE "Fresh one" START 7; CREATE SEQUENCE other.used INCREMENT 5;
        SELECT nextval('other.used'), nextval('other.used'), lo_create(0), lo_create(0);
        INSERT INTO accounts DEFAULT VALUES; INSERT INTO accounts DEFAULT VALUES;
        """,
        source_options={"tables": ["public.accounts"]},
    )
    with shop.source_running():
        base = shop.backed_up()
    assert base.sequences == {
        "public.accounts_id_seq": (2, True),
        "public.accounts_n_seq": (2, True),
        "public.Fresh one": (7, False),
        "other.used": (6, True),
    }
    assert set(base.not_covered) == {
        "roles, grants and owners; tablespaces; subscriptions",
        "2 large objects",
        "rows of unlogged table public.cache",
        "rows of foreign table public.remote",
        "contents of materialized view public.counts",
        "rows of table public.aside, which is not captured",
        "rows of table other.far, which is not captured",
    }
    assert base.server_version // 10000 == shop.source.server.version
    assert base.taken_from == "source"
    assert base.started_ms < base.finished_ms
    schema = Dump.parse(shop.archive().vouched(base.schema_file))
    assert schema.pg_dump.startswith("18.")
    text = "\n".join(entry.sql for entry in [*schema.pre, *schema.post])
    assert "CREATE TABLE other.far" in text
    assert "cdc" not in text


def test_a_sequence_that_goes_meanwhile_is_named(
    shop: Shop, settings: Callable[[Shop], BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.source.execute("CREATE SEQUENCE short; CREATE SEQUENCE long; SELECT nextval('long')")
    act_once(
        monkeypatch, "base.after_table", lambda: shop.source.execute("DROP SEQUENCE short; SELECT nextval('long')")
    )
    with shop.source_running():
        base = take_base(settings(shop), Watcher())
    assert base.sequences == {"public.long": (2, True)}
    assert "value of sequence public.short, dropped while the base was taken" in base.not_covered


def test_the_schema_makes_the_same_database_again(
    database: Database, target_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_DUMP", PG_DUMP["PG_DUMP"])
    database.execute((GOLDEN / "schema.sql").read_text())
    server = Server(Side.SOURCE, "odd", database.url(), database.server.password)
    with database.connect(autocommit=False) as connection:
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row
        database.execute("CREATE TABLE later (id int)")
        made = dump(find_program(server, 180000), server, row[0], "cdc_shop")
    assert not any(entry.name == "later" for entry in made.pre)
    database.execute("DROP TABLE later; DROP PUBLICATION cdc_shop")
    again(target_database, [*made.pre, *made.post])
    if database.server.version == target_database.server.version:  # each spells views in its own way
        assert dumped(target_database) == dumped(database)


def again(database: Database, entries: Sequence[Entry]) -> None:
    with database.connect() as connection:
        connection.execute(
            "SELECT set_config('search_path', '', false), set_config('check_function_bodies', 'off', false)"
        )
        for entry in entries:
            connection.execute(entry.sql.encode())


def dumped(database: Database) -> list[str]:
    env = database.server.env(database.name)
    command = [str(Postgres.pg_dump), "--schema-only", "--no-owner", "--no-privileges"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if not line.startswith(("\\", "-- Dumped from"))]


def test_a_pg_dump_that_will_not_do(shop: Shop, tmp_path: Path) -> None:
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.22'\n")
    old.chmod(0o755)
    with shop.source_running():
        for program, said in ((old, "older than the server"), (tmp_path / "nothing", "is no program")):
            process = shop.backup(env={"PG_DUMP": str(program)})
            assert process.wait(60) == 5
            assert PG_DUMP_MISSING.name in process.tail()
            assert said in process.tail()
    assert shop.bases() == []
    assert shop.slots() == [f"cdc_{shop.name}"]


def test_setup_lets_the_source_of_an_archive_read_every_definition(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka
) -> None:
    """A role that may read what is captured alone cannot dump; it is granted more only where there is an archive."""
    database.execute("CREATE TABLE accounts (id int PRIMARY KEY); CREATE TABLE aside (id int); CREATE SCHEMA closed")
    database.execute("CREATE TABLE closed.secret (id serial)")
    role, password = f"{database.name}_reader", "reader's s3cret"
    shop = Shop(tmp_path, database, target_database, kafka.bootstrap, source_options={
        "url": database.url(role), "tables": ["public.accounts"]})  # fmt: skip
    env = {**PG_DUMP, "SOURCE_PASSWORD": password}
    whole = shop.config.read_text()
    grant = "GRANT pg_read_all_data TO"

    def set_up(*options: str) -> str:
        process = shop.run("setup", shop.name, *options, "--admin-url", database.url(),
                           env=env | {"PGPASSWORD": database.server.password})  # fmt: skip
        assert process.wait(60) == 0, process.tail()
        return process.log.read_text()

    try:
        shop.config.write_text(whole.partition("[archive.main]")[0])
        assert grant not in set_up("--dry-run")
        set_up()
        shop.config.write_text(whole)
        check = shop.run("check", "main", env=env)
        assert check.wait(60) == 1
        for said in ("may not read closed.secret, closed.secret_id_seq, public.aside", f"{grant} {role};"):
            assert said in check.log.read_text()
        with kept(shop.run("source", "run", shop.name, env=env)):
            process = shop.backup(env=env)
            assert process.wait(60) == 5
            assert PG_DUMP_FAILED.name in process.tail()
            assert "permission denied" in process.tail()
            assert "pg_read_all_data" in process.tail()
            assert password not in process.log.read_text()
            assert "pg_dump reads the definition of every table" in set_up("--dry-run")
            set_up()
            check = shop.run("check", "main", env=env)
            check.wait(60)
            assert "may read what pg_dump and bases read" in check.log.read_text()
            process = shop.backup(env=env)
            assert process.wait(60) == 0, process.tail()
        [base] = shop.bases()
        assert base.sequences == {"closed.secret_id_seq": (1, False)}
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@contextmanager
def kept(process: Process) -> Iterator[Process]:
    try:
        yield process
    finally:
        process.kill9()


# -- kills, and what happens meanwhile --------------------------------------------------------------------------
@pytest.mark.parametrize(
    "place",
    ["base.after_slot", "base.after_table", "base.after_table:2", "base.before_manifest", "base.after_manifest"],
)
def test_a_killed_base_leaves_nothing_to_mend(shop: Shop, place: str) -> None:
    with shop.source_running():
        process = shop.backup(failpoint=place)
        assert process.wait(60) == -9, process.tail()
        assert len(shop.bases()) == (place == "base.after_manifest")
        wait_until(lambda: shop.slots() == [f"cdc_{shop.name}"], "the slot is gone")
        base = shop.backed_up()
    assert shop.rows_of(base.tables["public.accounts"]) == shop.at_source("accounts", ["id", "owner", "balance"])
    for found in shop.bases():
        assert [len(shop.rows_of(table)) for table in found.tables.values()] == [50, 0]


def test_it_waits_for_the_sources_own_copy(shop: Shop) -> None:
    shop.source.execute("INSERT INTO accounts SELECT i, 'more', 1 FROM generate_series(51, 40000) i")
    with shop.source_running(failpoint="source.in_copy:3") as source:
        source.wait(60)
    process = shop.backup()
    wait_until(lambda: "for the source's own copy of public.accounts" in process.tail(), "it waits")
    assert shop.bases() == []
    assert shop.slots() == [f"cdc_{shop.name}"]
    with shop.source_running():
        assert process.wait(60) == 0, process.tail()
    [base] = shop.bases()
    assert shop.rows_of(base.tables["public.accounts"]) == shop.at_source("accounts", ["id", "owner", "balance"])
    closing = next(end for end in shop.valid_ends() if end.kind == "heartbeat")
    assert base.txn_seq >= closing.txn_seq


@pytest.mark.matrix
def test_it_waits_for_a_source_that_never_ran_or_stands_still(shop: Shop) -> None:
    process = shop.backup()
    wait_until(lambda: "for the source's first transaction" in process.tail(), "it waits")
    # Whoever looks for the source's own sessions must not take these for it.
    sessions = shop.source.execute(
        "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'cdc%%'",
        [shop.source.name],
    )
    assert sessions == [(f"cdc source {shop.name} base",)]
    with shop.source_running():
        assert process.wait(60) == 0, process.tail()
    process = shop.backup()
    wait_until(lambda: "for the log to pass" in process.tail(), "it waits")
    # The snapshot is let go by now: nothing is held on production while the source is away.
    assert shop.slots() == [f"cdc_{shop.name}"]
    assert len(shop.bases()) == 1
    with shop.source_running():
        assert process.wait(60) == 0, process.tail()
    assert len(shop.bases()) == 2


def test_a_log_that_begins_anew_meanwhile_begins_the_base_anew(
    shop: Shop, settings: Callable[[Shop], BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the epochs rows changed that no log holds."""
    watcher = Watcher()
    with shop.source_running() as source, shop.streaming():

        def copy_again() -> None:
            source.kill9()
            shop.source.execute("UPDATE accounts SET balance = 7")
            running.append(shop.run("source", "run", shop.name, "--reopen", "copy-again"))

        running: list[Process] = []
        # Before another heartbeat comes: behind that the base would stand in the old epoch, rightly.
        act_once(monkeypatch, "base.after_slot", copy_again)
        base = take_base(settings(shop), watcher)
    running[0].kill9()
    assert [error.code for error in watcher.errors] == [BASE_OVERTAKEN]
    assert "began anew" in watcher.errors[0].text
    assert base.epoch == shop.valid_ends()[-1].epoch
    assert {row[2] for row in shop.rows_of(base.tables["public.accounts"])} == {"7.00"}
    assert len(shop.bases()) == 1


def test_an_alter_that_waits_for_our_lock_does_not_keep_us_waiting(database: Database) -> None:
    """Who asks for a lock behind it waits for it, and it waits for us: nobody would see the circle."""
    database.execute("CREATE TABLE accounts (id int PRIMARY KEY, note text DEFAULT 'x' || 'y'); CREATE PUBLICATION p "
                     "FOR TABLE accounts")  # fmt: skip
    server = Server(Side.SOURCE, "shop", database.url(), database.server.password, "anchor")
    with closing(Catalog(server, statement_timeout="5s")) as now:
        publication = now.publication("p", lambda *_: True)
        assert publication is not None
        [accounts] = publication.tables
        with exact_snapshot(server, now, lambda _: None) as exact:
            exact.copy.shape(accounts)
            alter = threading.Thread(target=database.execute, args=("ALTER TABLE accounts ADD COLUMN late int",))
            alter.start()
            waiting = f"SELECT 1 FROM pg_locks WHERE NOT granted AND relation = {accounts.oid}"
            wait_until(lambda: bool(database.execute(waiting)), "the ALTER in the lock's queue")
            [shape] = exact.shapes([accounts])
        alter.join(30)
        assert [column.name for column in shape.columns] == ["id", "note"]
        assert [column.name for column in now.shapes([accounts.oid])[0].columns] == ["id", "note", "late"]


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM FULL accounts",
        "ALTER TABLE accounts ADD COLUMN note text DEFAULT 'x'",
        "ALTER TABLE accounts DROP COLUMN owner; ALTER TABLE accounts ADD COLUMN owner text DEFAULT 'x'",
    ],
)
def test_a_table_that_is_altered_between_snapshot_and_lock_begins_the_base_anew(
    shop: Shop, settings: Callable[[Shop], BaseSettings], monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """Under the older snapshot a rewritten table reads as empty, one with another column of a name reads wrongly."""
    watcher = Watcher()
    with shop.source_running(), shop.streaming():
        act_once(monkeypatch, "base.after_slot", lambda: shop.source.execute(statement))
        base = take_base(settings(shop), watcher)
    assert [error.code for error in watcher.errors] == [COPY_TORN]
    assert base.tables["public.accounts"].rows == 50
    shape = shop.archive().shape(base.tables["public.accounts"].schema_id)
    columns = [column.name for column in shape.columns]
    assert shop.rows_of(base.tables["public.accounts"]) == shop.at_source("accounts", columns)


def test_a_publication_that_changes_meanwhile_begins_the_base_anew(
    shop: Shop, settings: Callable[[Shop], BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source stops at it; from the copy that it then makes on, the new table is in the log and in the base."""
    watcher, made, given = Watcher(), [], settings(shop)
    with shop.source_running() as source, shop.streaming():
        act_once(monkeypatch, "base.after_slot", lambda: shop.source.execute("CREATE TABLE later (id int PRIMARY KEY)"))
        thread = threading.Thread(target=lambda: made.append(take_base(given, watcher)))
        thread.start()
        assert source.wait(60) == 5
    assert shop.bases() == []
    with shop.source_running("--reopen", "copy-again"):
        thread.join(60)
    assert [error.code for error in watcher.errors] == [BASE_OVERTAKEN]
    assert "public.later" in made[0].tables
    assert shop.bases() == made


def test_a_source_that_streams_other_tables_than_are_named_now(shop: Shop) -> None:
    """Its configuration was edited and it was not started again: log and base would hold different tables."""
    with shop.source_running(), shop.streaming():
        shop.config.write_text(shop.config.read_text().replace("public.*", "public.a*"))
        with kept(shop.backup()) as process:
            wait_until(lambda: "for the source to stream its publication" in process.tail(), "it waits")
    assert shop.bases() == []


def test_the_log_has_the_last_word_on_which_tables_are_captured(
    shop: Shop, settings: Callable[[Shop], BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no heartbeat was in sight before the copy, the one behind it says so."""

    class Impatient(Watcher):
        def again(self, error: CdcError) -> None:
            raise error

    monkeypatch.setattr(base_module._Attempt, "_streamed", lambda *_: None)
    with shop.source_running(), shop.streaming():
        shop.config.write_text(shop.config.read_text().replace("public.*", "public.a*"))
        with pytest.raises(CdcError, match="publication") as caught:
            take_base(settings(shop), Impatient())
    assert caught.value.code is BASE_OVERTAKEN
    assert shop.bases() == []


def test_a_server_that_ends_idle_sessions(
    shop: Shop, settings: Callable[[Shop], BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base is idle in its transaction while it waits for the store, and while pg_dump works."""
    later = ["transaction_timeout"] if shop.source.server.version >= 17 else []
    for name in ("idle_in_transaction_session_timeout", "statement_timeout", *later):
        shop.source.execute(f"ALTER DATABASE {shop.source.name} SET {name} = '300ms'")
    acts = {"base.after_slot": 1, "base.after_table": 1}
    monkeypatch.setattr(base_module, "failpoint", lambda name: time.sleep(acts.pop(name, 0)))
    with shop.source_running():
        base = take_base(settings(shop), Watcher())
    assert shop.rows_of(base.tables["public.accounts"]) == shop.at_source("accounts", ["id", "owner", "balance"])


# -- what is refused --------------------------------------------------------------------------------------------
def test_a_table_without_columns_is_refused(make: Callable[..., Shop]) -> None:
    shop = make("CREATE TABLE accounts (id int PRIMARY KEY); CREATE TABLE hollow ();"
                "ALTER TABLE hollow REPLICA IDENTITY FULL")  # fmt: skip
    with shop.source_running():
        process = shop.backup()
        assert process.wait(60) == 5
    assert f"{TABLE_WITHOUT_COLUMNS.name} (source {shop.name}, table public.hollow)" in process.tail()
    assert shop.bases() == []


def test_rows_and_digest_that_do_not_count_the_same(
    shop: Shop, settings: Callable[[Shop], BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_postgres, "digests", lambda rows: {b: (n + 1, x, y) for b, n, x, y in rows})
    with shop.source_running(), pytest.raises(CdcError) as caught:
        take_base(settings(shop), Watcher())
    assert caught.value.code is BASE_MISCOUNTED
    assert shop.bases() == []


def test_a_row_that_the_server_cannot_write_is_named(database: Database) -> None:
    """What the server says of a line above 1 GiB, without one."""
    database.execute("""
        CREATE FUNCTION long() RETURNS text LANGUAGE plpgsql AS $$
          BEGIN RAISE 'string buffer exceeds maximum allowed length' USING ERRCODE = '54000'; END $$;
        CREATE VIEW wide AS SELECT public.long() AS value;
    """)
    server = Server(Side.SOURCE, "shop", database.url(), database.server.password)
    value = Column("value", "text", "text", 25, -1, 1, not_null=False)
    with database.connect(autocommit=False) as connection:
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row
        with BaseCopy(server, row[0]) as copy, pytest.raises(CdcError) as caught:
            list(copy.csv(Table("public", "wide", 1, (value,), (), "f", ("value",))))
    assert caught.value.code is ROW_TOO_LARGE
    assert caught.value.table == "public.wide"
    assert "maximum allowed length" in caught.value.text


# -- stores -----------------------------------------------------------------------------------------------------
@pytest.mark.matrix
def test_a_base_in_a_bucket(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, s3: S3, unique_name: str
) -> None:
    bucket = unique_name.replace("_", "-")
    s3.bucket(bucket)
    database.execute("CREATE TABLE accounts (id int PRIMARY KEY, note text)")
    database.execute("INSERT INTO accounts SELECT i, md5(i::text) FROM generate_series(1, 1000) i")
    shop = Shop(tmp_path, database, target_database, kafka.bootstrap, archive_options={"url": f"s3://{bucket}/cdc"})
    shop.publish()
    with shop.source_running():
        process = shop.backup(env=s3.env())
        assert process.wait(60) == 0, process.tail()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.env().items():
            patch.setenv(name, value)
        archive = Archive.open(f"s3://{bucket}/cdc/{shop.name}", parse_key(shop.archive_key))
        [base] = [archive.read(Base, name) for name in archive.names("base/0")]
        assert rows_in(archive, base.tables["public.accounts"]) == shop.at_source("accounts", ["id", "note"])
    assert os.environ.get("AWS_ENDPOINT_URL_S3") is None
