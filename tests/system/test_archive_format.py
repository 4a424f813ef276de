"""docs/ARCHIVE_FORMAT.md is enough: its SQL and its Python, as they stand there, give what the source held."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import duckdb_extension_httpfs
import pytest
from pydantic import BaseModel

from cdc.position import PgPosition
from cdc.secret import new_key
from sinks.archive.archive import Archive
from sinks.archive.chain import read_tail
from sinks.archive.crypt import WrappedKey
from sinks.archive.manifest import (
    Anchor,
    AnchorTable,
    Base,
    BaseTable,
    Head,
    Identity,
    RestoredTable,
    RestoreRecord,
    SchemaChange,
    Segment,
    Stored,
    TableRows,
)
from sinks.archive.segment import ROWS, TRANSACTIONS
from tests.conftest import unused_name
from tests.servers.fetch import ROOT
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.servers.s3 import ACCESS_KEY, REGION, S3, SECRET_KEY
from tests.system.pipeline import CDC, Pipeline, wait_until
from tests.system.test_archive_writer import logged

FORMAT = (ROOT / "docs/ARCHIVE_FORMAT.md").read_text()
PG_DUMP = {"PG_DUMP": str(Postgres.pg_dump)}
TABLE = "public.accounts"
SHOP = """
CREATE TABLE accounts (region text, id int, owner text NOT NULL, balance numeric(12,2), notes text,
  PRIMARY KEY (region, id));
ALTER TABLE accounts ALTER COLUMN notes SET STORAGE EXTERNAL;
CREATE TABLE visits (page text); ALTER TABLE visits REPLICA IDENTITY FULL;
INSERT INTO accounts SELECT 'eu', i, 'owner ' || i, 100, repeat(md5(i::text), 300) FROM generate_series(1, 40) i;
INSERT INTO accounts VALUES ('us', 1, 'a "b", c', NULL, E'\\n'), ('us', 2, '', 0, NULL), ('us', 3, '\\.', 0, '');
"""
WORK = """
UPDATE accounts SET balance = balance + 1 WHERE id % 3 = 0;
UPDATE accounts SET id = id + 100 WHERE id % 7 = 0 AND id < 500;
UPDATE accounts SET region = 'as' WHERE id % 100 = 14;
UPDATE accounts SET notes = repeat(md5(random()::text), 300) WHERE id % 100 = 21;
DELETE FROM accounts WHERE id % 11 = 0;
INSERT INTO accounts (region, id, {owner} balance, notes)
  SELECT 'eu', 1000 + (SELECT count(*) FROM visits) + i, {name} i, repeat(md5(i::text), 300)
  FROM generate_series(1, 3) i;
INSERT INTO visits SELECT 'x' FROM generate_series(1, 5);
"""
Rows = list[dict[str, str | None]]


@dataclass(frozen=True)
class Recorded:
    """The source's own rows, and a time between them and what came next."""

    time: str
    rows: Rows


@dataclass(frozen=True)
class Lived:
    pipeline: Pipeline
    moments: list[Recorded]

    def root(self, archive: str) -> Path:
        return self.pipeline.directory / archive / self.pipeline.name


def shown(name: str, text: str = FORMAT) -> str:
    """The code block behind `<!-- test: name -->`."""
    match = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert match is not None
    return match[1]


def recorded(source: Database) -> Recorded:
    """Nobody writes meanwhile."""
    time.sleep(0.05)
    ((at,),) = source.execute("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00:00')")
    time.sleep(0.05)
    return Recorded(at, rows_of(source, "accounts"))


def rows_of(database: Database, table: str) -> Rows:
    names = [row[0] for row in database.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped", [table]
    )]  # fmt: skip
    columns = ", ".join(f"{name}::text" for name in names)
    return ordered([dict(zip(names, row, strict=True)) for row in database.execute(f"SELECT {columns} FROM {table}")])


def ordered(rows: Rows) -> Rows:
    return sorted((dict(sorted(row.items())) for row in rows), key=repr)


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory, postgres_source: Postgres, postgres_target: Postgres, kafka: Kafka
) -> Iterator[Lived]:
    """One history in two archives, one of them encrypted: bases in the middle, then every kind of change."""
    name = unused_name("format")
    source, target = postgres_source.create_database(name), postgres_target.create_database(name)
    source.execute(SHOP)
    pipeline = Pipeline(tmp_path_factory.mktemp("format"), source, target, kafka.bootstrap)
    text = pipeline.config.read_text()
    plain = text[text.index("[archive.main]") :].replace("archive.main", "archive.plain").replace("/archive", "/plain")
    pipeline.config.write_text(text + "\n" + plain.replace("${ARCHIVE_KEY}", "none"))
    pipeline.publish()
    with pipeline.source_running(), pipeline.archive_running():
        second = pipeline.run("archive", "run", "plain", env=PG_DUMP)
        try:
            moments = list(live(pipeline))
        finally:
            second.kill9()
    yield Lived(pipeline, moments)
    source.drop()
    target.drop()


def live(pipeline: Pipeline) -> Iterator[Recorded]:
    """The moments of a history, each behind other changes."""
    source = pipeline.source
    wait_until(lambda: len(logged(pipeline)) >= 2, "the copy")
    pipeline.wait_archived()
    source.execute(WORK.format(owner="owner,", name="'new',").encode())
    for archive in ("main", "plain"):
        backup = pipeline.run("archive", "backup", archive, env=PG_DUMP)
        assert backup.wait(60) == 0, backup.log.read_text()
    yield recorded(source)
    source.execute(WORK.format(owner="owner,", name="'new',").encode())
    yield recorded(source)
    source.execute("ALTER TABLE accounts ADD COLUMN tier int NOT NULL DEFAULT 3, ADD COLUMN flag bool")
    source.execute(WORK.format(owner="owner,", name="'new',").encode())
    yield recorded(source)
    time.sleep(1.2)
    source.execute("ALTER TABLE accounts DROP COLUMN owner")
    source.execute(WORK.format(owner="", name="").encode())
    yield recorded(source)
    source.execute("TRUNCATE accounts")
    source.execute(WORK.format(owner="", name="").encode())
    yield recorded(source)
    source.execute(WORK.format(owner="", name="").encode())
    pipeline.wait_archived()
    at = position(pipeline.archive())
    plain = Archive.open(f"file://{pipeline.directory}/plain/{pipeline.name}", None)
    wait_until(lambda: position(plain) >= at, "the second archive")


def position(archive: Archive) -> PgPosition:
    """Up to where it is complete."""
    tail = read_tail(archive)
    return PgPosition.parse(tail.progress.position if tail else "1:0/0")


def by_sql(root: Path, moment: str, directory: Path) -> Rows:
    """What the document's SQL leaves."""
    epoch, csv = max(path.name for path in (root / "log").iterdir()), directory / "restored.csv"
    sql = shown("restore").replace("/backup/shop", str(root)).replace("2026-11-22 03:10:00+01:00", moment)
    sql = sql.replace("00000000000000000001", epoch).replace("restored.csv", str(csv))
    with duckdb.connect() as connection:
        connection.execute(sql)
        # An empty text stands in quotes, NULL is nothing: Python's own reader would not tell them apart.
        cursor = connection.execute("FROM read_csv(?, all_varchar = true, allow_quoted_nulls = false)", [str(csv)])
        names = [column[0] for column in cursor.description]
        return ordered([dict(zip(names, row, strict=True)) for row in cursor.fetchall()])


def by_command(lived: Lived, archive: str, moment: str) -> Rows:
    """What `cdc-restore` leaves."""
    pipeline = lived.pipeline
    pipeline.target.execute("DROP TABLE IF EXISTS restored")
    key = {"CDC_ARCHIVE_KEY": lived.pipeline.archive_key} if archive == "archive" else {}
    done = subprocess.run(
        [CDC.with_name("cdc-restore"), "--archive", f"file://{lived.root(archive)}", "--to-time", moment,
         "--table", TABLE, "--as", "restored", "--into", pipeline.target.url()],
        env={**os.environ, **key, "PGPASSWORD": pipeline.target.server.password},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return rows_of(pipeline.target, "restored")


def test_every_field_is_told() -> None:
    models: list[type[BaseModel]] = [Identity, Segment, TableRows, SchemaChange, Stored, Head, Base, BaseTable, Anchor,
                                     AnchorTable, RestoreRecord, RestoredTable, WrappedKey]  # fmt: skip
    names = {name for model in models for name in model.model_fields} | {*ROWS.names, *TRANSACTIONS.names}
    assert [name for name in sorted(names) if f"`{name}`" not in FORMAT] == []


def test_the_sql_restores_what_the_source_held(lived: Lived, tmp_path: Path) -> None:
    assert len(shown("restore").splitlines()) <= 40
    for moment in lived.moments:
        assert by_sql(lived.root("plain"), moment.time, tmp_path) == moment.rows, moment.time
        assert by_command(lived, "plain", moment.time) == moment.rows, moment.time


def test_the_csv_is_what_copy_reads(lived: Lived, tmp_path: Path) -> None:
    moment, target = lived.moments[1], lived.pipeline.target
    by_sql(lived.root("plain"), moment.time, tmp_path)
    target.execute("CREATE TABLE copied (balance text, id text, notes text, owner text, region text)")
    statement = "COPY copied FROM STDIN (FORMAT csv, HEADER match)"
    with target.connect() as connection, connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write((tmp_path / "restored.csv").read_bytes())
    assert rows_of(target, "copied") == moment.rows


def test_the_python_decrypts_the_whole_archive(lived: Lived, tmp_path: Path) -> None:
    """And the SQL goes on from there."""
    program, copy = tmp_path / "decrypt.py", tmp_path / "copy"
    program.write_text(shown("decrypt"))

    def decrypt(key: str) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [sys.executable, program, lived.root("archive"), copy]
        return subprocess.run(
            command, env={**os.environ, "CDC_ARCHIVE_KEY": key}, capture_output=True, text=True, check=False
        )

    assert "InvalidTag" in decrypt(new_key()).stderr
    done = decrypt(lived.pipeline.archive_key)
    assert done.returncode == 0, done.stderr
    moment = lived.moments[2]
    assert by_sql(copy, moment.time, tmp_path) == moment.rows
    assert by_command(lived, "archive", moment.time) == moment.rows


# -- cdc archive sql --------------------------------------------------------------------------------------------
def history(lived: Lived, *arguments: str) -> duckdb.DuckDBPyConnection:
    """What the command prints, run as it stands."""
    process = lived.pipeline.run("archive", "sql", *arguments)
    assert process.wait(60) == 0, process.log.read_text()
    connection = duckdb.connect()
    connection.execute(process.log.read_text())
    return connection


def test_history_by_column_name(lived: Lived) -> None:
    """Over a column that came and one that went."""
    with history(lived, "plain") as connection:
        rows = connection.execute("""
            SELECT op, after_region, after_id, after_balance, after_owner, after_tier, unchanged, moved_to IS NOT NULL
            FROM public.accounts_history WHERE coalesce(after_id, before_id) IN ('3', '7', '107') AND op <> 'r'
              AND coalesce(after_region, before_region) = 'eu' AND committed IS NOT NULL
            ORDER BY epoch, txn_seq, ordinal LIMIT 5""").fetchall()
        assert rows == [
            ("u", "eu", "3", "101.00", "owner 3", None, ["notes"], False),
            ("d", None, None, None, None, None, None, True),
            ("c", "eu", "107", "100.00", "owner 7", None, ["notes"], False),
            ("u", "eu", "3", "102.00", "owner 3", None, ["notes"], False),
            ("u", "eu", "3", "103.00", "owner 3", "3", ["notes"], False),
        ]
        after = (
            "SELECT DISTINCT after_tier, after_owner IS NULL FROM public.accounts_history WHERE op = 'c' ORDER BY ALL"
        )
        assert connection.execute(after).fetchall() == [("3", False), ("3", True), (None, False)]
        ((events,),) = connection.execute("SELECT sum(events) FROM transactions").fetchall()
        queries = [f"SELECT count(*) FROM public.{table}_history" for table in ("accounts", "visits")]
        counts = [connection.execute(query).fetchall()[0][0] for query in queries]
        # TRUNCATE is an event, and no row.
        assert sum(counts) == events - 1
        columns = ", ".join(lived.moments[0].rows[0])
        found = connection.execute(f"SELECT {columns} FROM public.accounts_base").fetchall()
        assert ordered([dict(zip(columns.split(", "), row, strict=True)) for row in found]) == lived.moments[0].rows


def test_history_of_an_encrypted_archive(lived: Lived, tmp_path: Path) -> None:
    """By a copy that has only what was asked for, and only for its owner."""
    refused = lived.pipeline.run("archive", "sql", "main")
    assert refused.wait(60) == 2
    assert "--export DIRECTORY" in refused.log.read_text()
    copy = tmp_path / "copy"
    span = ("--from", lived.moments[0].time, "--to", lived.moments[2].time.replace(" ", "T"))
    everything = "SELECT * REPLACE (committed::VARCHAR AS committed) FROM public.accounts_history ORDER BY ALL"
    with history(lived, "plain") as connection:
        expected = connection.execute(everything).fetchall()
    with history(lived, "main", "--table", TABLE, "--export", str(copy)) as connection:
        assert connection.execute(everything).fetchall() == expected
        tables = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert sorted(tables) == [("accounts_base",), ("accounts_history",), ("transactions",)]
    assert copy.stat().st_mode & 0o777 == 0o700
    again = lived.pipeline.run("archive", "sql", "main", "--export", str(copy))
    assert (again.wait(60), "FILE_EXISTS" in again.log.read_text()) == (2, True)
    with history(lived, "main", *span, "--export", str(tmp_path / "part")) as connection:
        ((part,),) = connection.execute("SELECT count(*) FROM public.accounts_history").fetchall()
        assert 0 < part < len(expected)
    unknown = lived.pipeline.run("archive", "sql", "plain", "--table", "public.nothing")
    assert (unknown.wait(60), "TABLE_UNKNOWN" in unknown.log.read_text()) == (2, True)


def test_the_question_of_the_document(lived: Lived, tmp_path: Path) -> None:
    """Its second command wants DuckDB's own shell, which does what is done here."""
    command = shown("history").splitlines()[0]
    environment = {**lived.pipeline.environment, "PATH": f"{CDC.parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=environment, check=True, timeout=60)
    with duckdb.connect() as connection:
        connection.execute((tmp_path / "history.sql").read_text())
        found = connection.execute(f"SELECT op, after_balance, balance_before FROM ({shown('question').strip()[:-1]})")
        assert found.fetchall()[:3] == [("r", "100.00", None), ("u", "101.00", "100.00"), ("u", "102.00", "101.00")]


def test_history_in_s3(lived: Lived, s3: S3, tmp_path: Path) -> None:
    """Only the credentials' chain is not tried: it wants an extension that DuckDB fetches."""
    bucket, root = s3.bucket("history"), lived.root("plain")
    for path in (path for path in root.rglob("*") if path.is_file()):
        s3.client().upload_file(str(path), bucket, f"kept/{lived.pipeline.name}/{path.relative_to(root)}")
    config = tmp_path / "cdc.toml"
    place = f"file://{lived.pipeline.directory}/plain"
    config.write_text(lived.pipeline.config.read_text().replace(place, f"s3://{bucket}/kept"))
    process = lived.pipeline.run("archive", "sql", "plain", "--config", str(config), env=s3.env())
    assert process.wait(60) == 0, process.log.read_text()
    secret = f"KEY_ID '{ACCESS_KEY}', SECRET '{SECRET_KEY}', REGION '{REGION}'"
    statements = process.log.read_text()
    assert "PROVIDER credential_chain" in statements
    assert SECRET_KEY not in statements
    (extension,) = Path(duckdb_extension_httpfs.__path__[0]).glob("extensions/*/httpfs.duckdb_extension")
    with duckdb.connect() as connection, history(lived, "plain") as here:
        connection.execute(f"LOAD '{extension}'")
        connection.execute(statements.replace("PROVIDER credential_chain", secret))
        counted = "SELECT op, count(*) FROM public.accounts_history GROUP BY 1 ORDER BY 1"
        assert connection.execute(counted).fetchall() == here.execute(counted).fetchall()
