"""A MySQL source's archive on real servers: what comes back is what the source held, into MySQL and into Postgres."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import duckdb
import psycopg
import pymysql
import pytest

from cdc.errors import ARCHIVE_CORRUPT, RESTORE_EXISTS, CdcError
from cdc.event import Table
from cdc.mysql.catalog import Catalog
from cdc.mysql.session import Server
from cdc.position import Gtid, Position, parse_position
from cdc.server import Side
from sinks.archive.chain import read_tail
from sinks.archive.judge import judge
from sinks.archive.place import Place
from sinks.archive.plan import Moment
from sinks.archive.restore import Outcome, Wanted, restore
from sinks.archive.window import Windows
from sinks.digest import Digests, digests
from sinks.mysql.digest import digest_query
from sinks.mysql.restoring import RestoreTarget
from tests.conftest import unused_name
from tests.servers.kafka import Kafka
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQL, MySQLDatabase
from tests.servers.postgres import Database
from tests.system.conftest import Lived
from tests.system.ends import AnyDatabase
from tests.system.pipeline import CDC, AnyPipeline, wait_until
from tests.system.test_archive_format import shown
from tests.system.test_archive_restore import Quiet
from tests.system.test_restore_runbook import block

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)

SHOP = """
CREATE TABLE customers (id int PRIMARY KEY AUTO_INCREMENT, name varchar(40) NOT NULL, note text,
  city varchar(20) DEFAULT 'Köln', UNIQUE KEY by_name (name), KEY by_city (city, name)) AUTO_INCREMENT = 5;
CREATE TABLE orders (id bigint unsigned NOT NULL AUTO_INCREMENT, customer int NOT NULL, at datetime(3) NOT NULL,
  total decimal(10,2), price double, f float, b bit(5), y year, doc json, raw varbinary(20), mood enum('good','bad'),
  flags set('x','y'), t time(2), d date, note varchar(40), twice decimal(12,2) AS (total * 2) STORED,
  hidden int INVISIBLE DEFAULT 7, PRIMARY KEY (id), CONSTRAINT of_customer FOREIGN KEY (customer)
  REFERENCES customers (id));
CREATE TABLE visits (page varchar(40), n int);
CREATE TABLE secrets (id int PRIMARY KEY);
CREATE VIEW buyers AS SELECT c.id, c.name FROM customers c JOIN orders o ON o.customer = c.id;
CREATE VIEW a_few AS SELECT name FROM buyers WHERE id < 3;
CREATE FUNCTION twice(x int) RETURNS int DETERMINISTIC RETURN 2 * x;
CREATE PROCEDURE touch_all() UPDATE customers SET note = 'touched';
CREATE TRIGGER stamp BEFORE INSERT ON orders FOR EACH ROW SET NEW.at = COALESCE(NEW.at, '2020-01-01');
CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY DO DELETE FROM visits;
INSERT INTO customers (name, note) VALUES ('a', NULL), ('b', ''), ('Ünï', 'quote " and \\\\ back'), ('d', 'x');
INSERT INTO secrets VALUES (1);
"""
ORDER = """
INSERT INTO orders (customer, at, total, price, f, b, y, doc, raw, mood, flags, t, d, note)
VALUES (6, '2024-02-29 01:02:03.450', -0.50, 0.1e-7, 1.1, b'10101', 1999, '{"b": [1, 2.5], "a": "é"}', x'00ff00',
  'bad', 'x,y', '-12:34:56.70', '2024-12-31', 'as sent')
"""


class Past(NamedTuple):
    pipeline: AnyPipeline
    moments: dict[str, tuple[str, dict[str, Digests]]]
    """By name: the GTID that it stands behind, and the source's digests."""


def at_source(database: MySQLDatabase) -> tuple[str, dict[str, Digests]]:
    """What it holds while nobody writes, and its last transaction."""
    return database.server.last_gtid(), held(database, database.name)


def server_of(database: MySQLDatabase) -> Server:
    return Server(Side.TARGET, "test", database.url(), database.server.password)


def held(database: MySQLDatabase, schema: str, *, in_order_of: MySQLDatabase | None = None) -> dict[str, Digests]:
    shapes = {table.name: table for table in shapes_of(in_order_of or database, schema)}
    with closing(Catalog(server_of(database))) as catalog:
        return {
            name: digests(catalog.rows(digest_query(table, catalog.dialect, only=True)))
            for name, table in shapes.items()
        }


def shapes_of(database: MySQLDatabase, schema: str) -> list[Table]:
    beside = ("cdc_progress", "cdc_table", "secrets")
    with closing(Catalog(server_of(database))) as catalog:
        tables = catalog.publication("", ((), ()), lambda of, name: of == schema and name not in beside).tables
        return catalog.shapes(tables)


def work(database: MySQLDatabase) -> None:
    database.execute(
        "START TRANSACTION; INSERT INTO customers (name) SELECT CONCAT('n', COUNT(*)) FROM customers; "
        f"{ORDER}; UPDATE orders SET total = total + 1 WHERE id % 2 = 1; COMMIT; "
        "INSERT INTO visits VALUES ('p', NULL), ('p', NULL), (NULL, 3); DELETE FROM visits WHERE n = 3 LIMIT 1"
    )


@pytest.fixture(scope="module")
def mysql_lived(
    tmp_path_factory: pytest.TempPathFactory, mysql_server: MySQL, mysql_target: MySQL, kafka: Kafka, flavour: str
) -> Iterator[Past]:
    """Once: `copy`, a base, `first`, columns that come and go, `second`, rows deleted by accident."""
    name = unused_name(f"lived_{flavour}")
    source, target = mysql_server.create_database(name), mysql_target.create_database(name)
    source.execute(SHOP)
    if flavour == "mariadb":
        source.execute("CREATE SEQUENCE numbers")
    options = {"tables": [f"{source.name}.*"], "exclude": [f"{source.name}.secrets"]}
    made = AnyPipeline(tmp_path_factory.mktemp("lived-mysql"), source, target, kafka.bootstrap, source_options=options)
    made.publish()
    moments = {}

    with made.source_running(), made.archive_running():
        made.wait_archived()
        work(source)
        made.done("archive", "anchor", "main")
        moments["copy"] = at_source(source)
        work(source)
        source.execute("ALTER TABLE customers ADD COLUMN tier int NOT NULL DEFAULT 3 AFTER name")
        made.done("archive", "backup", "main")
        work(source)
        moments["first"] = at_source(source)
        source.execute("ALTER TABLE customers DROP COLUMN city")
        source.execute("ALTER TABLE customers ADD COLUMN city varchar(9) DEFAULT 'Bonn' FIRST")
        source.execute("TRUNCATE TABLE visits")
        work(source)
        time.sleep(0.1)
        moments["second"] = at_source(source)
        time.sleep(1.2)
        source.execute("DELETE FROM orders WHERE id > 2")
        work(source)
        made.wait_archived()
        made.done("archive", "anchor", "main")
        made.wait_archived()
    yield Past(made, moments)
    source.drop()
    target.drop()


@pytest.fixture
def mysql_past(mysql_lived: Past, tmp_path: Path) -> Iterator[Past]:
    """A copy of its archive; the target has nothing of it."""
    pipeline = mysql_lived.pipeline
    shutil.copytree(pipeline.directory / "archive", tmp_path / "archive")
    made = AnyPipeline(tmp_path, pipeline.source, pipeline.target, pipeline.bootstrap)
    made.archive_key = pipeline.archive_key
    yield Past(made, mysql_lived.moments)
    pipeline.target.execute(f"DROP DATABASE {pipeline.target.name}; CREATE DATABASE {pipeline.target.name}")
    assert scratches(into(made)) == []


def of_source(pipeline: AnyPipeline) -> MySQLDatabase:
    assert isinstance(pipeline.source, MySQLDatabase)
    return pipeline.source


def into(pipeline: AnyPipeline) -> MySQLDatabase:
    assert isinstance(pipeline.target, MySQLDatabase)
    return pipeline.target


def scratches(database: MySQLDatabase) -> list[str]:
    query = "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'cdc\\_restore\\_%'"
    return [row[0] for row in database.execute(query)]


def cdc_restore(
    pipeline: AnyPipeline, *arguments: str, target: AnyDatabase | None = None, failpoint: str = ""
) -> subprocess.CompletedProcess[str]:
    target = target or pipeline.target
    environment = {
        **os.environ, "CDC_ARCHIVE_KEY": pipeline.archive_key, "CDC_FAILPOINT": failpoint,
        "PGPASSWORD": target.server.password, "MYSQL_PWD": target.server.password,
    }  # fmt: skip
    command: list[str | Path] = [CDC.with_name("cdc-restore"), "--archive", pipeline.archive_url, *arguments]
    return subprocess.run(
        [*command, "--into", target.url()], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def restored(pipeline: AnyPipeline, moment: Moment, wanted: Wanted) -> tuple[Outcome, str]:
    """And the verdict, by what the archive has."""
    archive = pipeline.archive()
    windows = Windows(archive)
    plan = windows.plan(moment)
    with RestoreTarget(server_of(into(pipeline))) as target:
        outcome = restore(archive, plan, wanted, target, Quiet())
    return outcome, judge(archive, plan, outcome, None, Quiet()).proof.verdict


@pytest.mark.parametrize("moment", ["copy", "first", "second"])
def test_a_whole_database_at_a_gtid(mysql_past: Past, moment: str) -> None:
    gtid, expected = mysql_past.moments[moment]
    outcome, verdict = restored(mysql_past.pipeline, Moment(gtid=Gtid.parse(gtid)), Wanted())
    target = into(mysql_past.pipeline)
    assert {table.table.partition(".")[2]: table.digests for table in outcome.tables} == expected
    assert {name: found for name, found in held(target, target.name).items() if found} == expected
    assert verdict == "PROVEN"


def test_the_objects_around_the_rows(mysql_past: Past, flavour: str) -> None:
    """By the command: after the accident the newest moment has the source's whole schema, and the shop goes on."""
    pipeline = mysql_past.pipeline
    source, target = of_source(pipeline), into(pipeline)
    tail = read_tail(pipeline.archive())
    assert tail is not None
    origin = Gtid.parse(source.server.last_gtid()).origin
    (reached,) = (each for each in tail.segment.position.split(",") if each.startswith(origin))
    last = str(Gtid(origin, int(reached.rpartition("-")[2])))
    done = cdc_restore(pipeline, "--to-gtid", last)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("PROVEN"), done.stdout
    for what in ("TABLE customers", "TABLE orders", "TABLE visits", "TABLE secrets", "VIEW buyers", "VIEW a_few"):
        assert created(target, what) == created(source, what)
    for what in ("TRIGGER stamp", "FUNCTION twice", "PROCEDURE touch_all"):
        assert created(target, what)[:3] == created(source, what)[:3]
    assert target.execute("SELECT status FROM information_schema.events WHERE event_schema = DATABASE()") == (
        [("DISABLED",)]
    )
    for said in (f"event {target.name}.tidy is restored asleep", "definer `root`@`%`", "triggers stamp fire"):
        assert said in done.stdout
    assert f"rows of table {target.name}.secrets, which is not captured" in done.stdout
    assert re.findall("not restored: (sequence.*)", done.stdout) == (
        [f"sequence {target.name}.numbers"] if flavour == "mariadb" else []
    )
    there = target.execute("SELECT MAX(id) FROM orders")[0][0]
    target.execute("INSERT INTO orders (customer, at) VALUES (6, NOW())")
    assert target.execute("SELECT MAX(id) FROM orders")[0][0] > there
    with pytest.raises(pymysql.IntegrityError, match="of_customer"):
        target.execute("INSERT INTO orders (customer, at) VALUES (999, NOW())")


def archived(pipeline: AnyPipeline) -> Position:
    tail = read_tail(pipeline.archive())
    assert tail is not None
    return parse_position(tail.segment.position)


def created(database: MySQLDatabase, what: str) -> tuple[str, ...]:
    """Test statements end with a semicolon, which MySQL keeps in a body."""
    row = database.execute(f"SHOW CREATE {what}")[0]
    return tuple(str(cell).rstrip(";") for cell in row if not isinstance(cell, datetime))


def test_one_table_beside_the_live_one(mysql_past: Past) -> None:
    pipeline, (_, expected) = mysql_past.pipeline, mysql_past.moments["second"]
    target = into(pipeline)
    target.execute("CREATE TABLE orders (id int)")
    wanted = Wanted((f"{target.name}.orders",), "orders_then")
    moment = Windows(pipeline.archive()).before_delete(f"{target.name}.orders", ["4"])
    outcome, verdict = restored(pipeline, moment, wanted)
    assert (outcome.tables[0].place, verdict) == (f"{target.name}.orders_then", "PROVEN")
    assert held(target, target.name)["orders_then"] == expected["orders"]
    assert target.execute("SELECT COUNT(*) FROM orders") == [(0,)]
    with pytest.raises(CdcError) as caught:
        restored(pipeline, moment, Wanted())
    assert caught.value.code is RESTORE_EXISTS
    assert "createdb" not in caught.value.hint
    target.execute("INSERT INTO orders_then (customer, at) VALUES (1, NOW())")


def test_a_whole_database_at_a_time_under_another_name(mysql_past: Past) -> None:
    pipeline, (gtid, expected) = mysql_past.pipeline, mysql_past.moments["second"]
    target = into(pipeline)
    at = Windows(pipeline.archive()).plan(Moment(gtid=Gtid.parse(gtid))).cut.last
    assert at is not None
    name = f"{target.name}_then"
    try:
        _, verdict = restored(pipeline, Moment(time_us=at.commit_us), Wanted(schema=name))
        assert held(target, name) == expected
        assert verdict == "PROVEN"
        assert target.server.execute("SELECT * FROM a_few", dbname=name) == []
    finally:
        target.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize("edge", ["restore.in_load:2", "restore.before_commit"])
def test_a_restore_killed_before_its_move(mysql_past: Past, edge: str) -> None:
    pipeline, (gtid, expected) = mysql_past.pipeline, mysql_past.moments["first"]
    target = into(pipeline)
    assert cdc_restore(pipeline, "--to-gtid", gtid, failpoint=edge).returncode == -9
    assert target.execute("SHOW TABLES") == []
    assert scratches(target)
    outcome, _ = restored(pipeline, Moment(gtid=Gtid.parse(gtid)), Wanted())
    assert held(target, target.name) == expected
    assert any(note.startswith("removed what a killed restore left: cdc_restore_") for note in outcome.notes)


def test_a_restore_killed_behind_its_move_is_finished_by_the_next(mysql_past: Past) -> None:
    pipeline, (gtid, expected) = mysql_past.pipeline, mysql_past.moments["first"]
    target = into(pipeline)
    assert cdc_restore(pipeline, "--to-gtid", gtid, failpoint="restore.after_move").returncode == -9
    assert scratches(target)
    with pytest.raises(CdcError) as caught:
        restored(pipeline, Moment(gtid=Gtid.parse(gtid)), Wanted())
    assert caught.value.code is RESTORE_EXISTS
    assert held(target, target.name) == expected
    target.execute("SELECT * FROM a_few; CALL touch_all(); SHOW CREATE TRIGGER stamp")
    assert target.execute("SELECT pipeline FROM cdc_progress") == [(f"restored:{target.name}",)]


def test_a_sink_goes_on_from_a_restore(mysql_past: Past) -> None:
    pipeline, (gtid, _) = mysql_past.pipeline, mysql_past.moments["first"]
    source, target = of_source(pipeline), into(pipeline)
    restored(pipeline, Moment(gtid=Gtid.parse(gtid)), Wanted())
    with pipeline.sink_running() as refused:
        assert refused.wait(60) == 5
    assert f"DROP TRIGGER `{target.name}`.`stamp`;" in refused.log.read_text()
    target.execute("DROP TRIGGER stamp; ALTER TABLE orders MODIFY twice decimal(12,2)")
    with pipeline.sink_running():
        wait_until(lambda: (at := pipeline.progress()) is not None and archived(pipeline) <= at, "the rest")
    # Columns that came later stand last in a replica: it is asked in the source's order.
    assert held(target, target.name, in_order_of=source) == held(source, source.name)


def test_a_damaged_base_is_refused(mysql_past: Past) -> None:
    pipeline, (gtid, _) = mysql_past.pipeline, mysql_past.moments["second"]
    (file,) = (pipeline.directory / "archive").glob("*/base/files/*/000001.parquet")
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    with pytest.raises(CdcError) as caught:
        restored(pipeline, Moment(gtid=Gtid.parse(gtid)), Wanted())
    assert caught.value.code is ARCHIVE_CORRUPT
    assert into(pipeline).execute("SHOW TABLES") == []


def test_mysql_into_postgres(mysql_past: Past, target_database: Database) -> None:
    pipeline, (gtid, expected) = mysql_past.pipeline, mysql_past.moments["second"]
    done = cdc_restore(pipeline, "--to-gtid", gtid, "--json", target=target_database)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["verdict"] == "PROVEN"
    assert {name.partition(".")[2] for name in (table["table"] for table in said["restored"])} == expected.keys()
    lacking = " ".join(said["notes"])
    for what in ("view buyers, a_few", "trigger stamp", "index by_city of customers", "default of "):
        assert f"not restored: {what}" in lacking, what
    schema = pipeline.source.name
    rows = target_database.execute(f"SELECT total, f, raw, flags, t::text FROM {schema}.orders WHERE id = 2")
    assert rows == [(Decimal("-0.50"), pytest.approx(1.1), b"\x00\xff\x00", "x,y", "-12:34:56.7")]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        target_database.execute(f"INSERT INTO {schema}.orders (id, customer, at) VALUES (99, 999, now())")


@pytest.mark.matrix
def test_into_the_relative(mysql_past: Past, request: pytest.FixtureRequest, flavour: str, unique_name: str) -> None:
    """MySQL's archive into MariaDB, MariaDB's into MySQL: as across engines, out of shapes."""
    pipeline, (gtid, expected) = mysql_past.pipeline, mysql_past.moments["second"]
    other: MySQL = request.getfixturevalue("mariadb_target" if flavour == "mysql" else "real_mysql_target")
    database = other.create_database(unique_name)
    done = cdc_restore(pipeline, "--to-gtid", gtid, "--json", target=database)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["verdict"] == "PROVEN"
    assert {name.partition(".")[2] for name in (table["table"] for table in said["restored"])} == expected.keys()
    assert "not restored: view buyers, a_few" in " ".join(said["notes"])
    place = pipeline.source.name
    with pytest.raises(pymysql.IntegrityError, match="of_customer"):
        other.execute(f"INSERT INTO {place}.orders (id, customer, at) VALUES (99, 999, now())")
    other.execute(f"DROP DATABASE {place}")
    database.drop()


def test_postgres_into_mysql(past: Lived, mysql_target_database: MySQLDatabase) -> None:
    lsn, expected = past.moments["second"]
    done = cdc_restore(past.pipeline, "--to-lsn", str(lsn), "--no-anchor", "--json", target=mysql_target_database)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {table["table"] for table in said["restored"]} == expected.keys()
    assert (said["verdict"], said["proof"]["before"] is None) == ("VERIFIED", True)
    assert any(note.startswith("not restored: view") for note in said["notes"])
    for name in expected:
        table = name.partition(".")[2]
        assert mysql_target_database.execute(f"SELECT COUNT(*) FROM {table}") == [
            (sum(count for count, _, _ in expected[name].values()),)
        ]


def test_a_position_of_the_other_engine_is_refused(mysql_past: Past) -> None:
    done = cdc_restore(mysql_past.pipeline, "--to-lsn", "0/1")
    assert (done.returncode, "whose log has GTIDs" in done.stderr) == (2, True)


def test_a_moment_before_the_copy_is_refused(mysql_past: Past) -> None:
    """It would be an empty database, and whole at that."""
    origin = Gtid.parse(of_source(mysql_past.pipeline).server.last_gtid()).origin
    done = cdc_restore(mysql_past.pipeline, "--to-gtid", str(Gtid(origin, 1)))
    assert (done.returncode, "BEFORE_ARCHIVE" in done.stderr) == (5, True), done.stderr
    assert "the first that it holds is the log's own copy" in done.stderr


def test_a_restore_that_lives_is_left_alone(mysql_past: Past) -> None:
    pipeline, (gtid, expected) = mysql_past.pipeline, mysql_past.moments["copy"]
    target = into(pipeline)
    shape = shapes_of(of_source(pipeline), pipeline.source.name)[0]
    with RestoreTarget(server_of(target)) as other:
        other.create(shape, Place("elsewhere", "t"))
        (kept,) = scratches(target)
        restored(pipeline, Moment(gtid=Gtid.parse(gtid)), Wanted())
        assert held(target, target.name) == expected
        assert scratches(target) == [kept]


def test_the_runbook(mysql_past: Past) -> None:
    """docs/RESTORE.md, command by command."""
    pipeline = mysql_past.pipeline
    target, name = into(pipeline), pipeline.source.name

    def sql(part: str) -> str:
        return block(part)[1].replace("shop.", f"{name}.").replace("'shop'", f"'{name}'")

    text = re.sub(r"mysql://\S+", target.url(), sql("mysql"))
    environment = {
        **os.environ, "PATH": f"{CDC.parent}:{os.environ['PATH']}", "ARCHIVE": pipeline.archive_url,
        "CDC_ARCHIVE_KEY": pipeline.archive_key, "MYSQL_PWD": target.server.password,
    }  # fmt: skip
    done = subprocess.run(["bash", "-euc", text], env=environment, capture_output=True, text=True, check=False)
    try:
        assert (done.returncode, done.stdout.count("PROVEN: ")) == (0, 3), done.stderr + done.stdout
        assert held(target, "shop_then") == mysql_past.moments["second"][1]
        # The last command's tables become the live ones, which lose rows, and of which others change.
        target.execute("DELETE FROM orders WHERE id = 3; UPDATE orders SET note = 'AS SENT' WHERE id = 4")
        missing, differing = (target.execute(query) for query in sql("mysql compare").split(";\n")[:2])
        assert missing == [(1,)]
        assert [row[0] for row in differing] == [4]
        target.execute("UPDATE orders SET note = 'as sent' WHERE id = 4")
        ((columns,),) = target.execute(sql("mysql columns"))
        assert ("`hidden`" in columns, "`twice`" in columns) == (True, False)
        target.execute(sql("mysql merge").replace("id, customer, at, note", columns))
        assert held(target, name) == mysql_past.moments["second"][1]
    finally:
        target.execute("DROP DATABASE shop_then; DROP DATABASE IF EXISTS restored")


def test_the_sql_of_the_document(mysql_past: Past, tmp_path: Path) -> None:
    """docs/ARCHIVE_FORMAT.md reads an archive of MySQL as it stands: decrypted, one table at a moment."""
    pipeline, (gtid, _) = mysql_past.pipeline, mysql_past.moments["second"]
    target, table = into(pipeline), f"{pipeline.source.name}.customers"
    last = Windows(pipeline.archive()).plan(Moment(gtid=Gtid.parse(gtid))).cut.last
    assert last is not None
    assert last.commit_us is not None
    at = datetime.fromtimestamp(last.commit_us / 1e6, UTC).isoformat(" ")
    restored(pipeline, Moment(time_us=last.commit_us), Wanted((table,)))
    rows = target.execute("SELECT city, CAST(id AS CHAR), name, note, CAST(tier AS CHAR) FROM customers")
    program, plain, csv = tmp_path / "decrypt.py", tmp_path / "plain", tmp_path / "restored.csv"
    program.write_text(shown("decrypt"))
    archive = pipeline.archive_url.removeprefix("file://")
    environment = {**os.environ, "CDC_ARCHIVE_KEY": pipeline.archive_key}
    subprocess.run([sys.executable, program, archive, plain], env=environment, check=True)
    (epoch,) = (path.name for path in (plain / "log").iterdir())
    sql = shown("restore").replace("/backup/shop", str(plain)).replace("2026-11-22 03:10:00+01:00", at)
    sql = sql.replace("00000000000000000001", epoch).replace("restored.csv", str(csv)).replace("public.accounts", table)
    with duckdb.connect() as connection:
        connection.execute(sql)
        found = connection.execute("FROM read_csv(?, all_varchar = true, allow_quoted_nulls = false)", [str(csv)])
        assert sorted(found.fetchall(), key=repr) == sorted(rows, key=repr)
