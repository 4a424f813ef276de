"""MariaDB at both ends, by the commands. What it shares with MySQL is tested with that, in the matrix."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition

from cdc.log import Start
from cdc.topics import row_topic
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQLDatabase
from tests.servers.postgres import Database
from tests.servers.registry import Registry
from tests.system.pipeline import AnyPipeline, wait_until
from tests.system.shop import Shop
from tests.system.test_source_mysql import copied, piped, stopped


def equal(pipeline: AnyPipeline) -> bool:
    """As `cdc verify` says."""
    done: subprocess.CompletedProcess[str] = pipeline.command(
        "verify", pipeline.name, "--sink", "eu", "--json", "--wait", "30"
    )
    return bool(orjson.loads(done.stdout)["result"] == "EQUAL")


def test_into_postgres(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop("mariadb", "postgres")
    with shop.source_running(), shop.sink_running():
        shop.work()
        shop.wait_caught_up()
        shop.assert_equal()
        wait_until(lambda: equal(shop), "a verdict")
    (start, *_) = (record for record in shop.log() if isinstance(record, Start))
    assert start.source.connector == "mariadb"
    assert start.source.system_id == shop.source.execute("SELECT mark FROM cdc.history")[0][0]


def test_from_postgres(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop("postgres", "mariadb")
    with shop.source_running(), shop.sink_running():
        shop.work()
        shop.wait_caught_up()
        shop.assert_equal()
        wait_until(lambda: equal(shop), "a verdict")


# -- what it alone has ------------------------------------------------------------------------------------------
@pytest.fixture
def pipeline(tmp_path: Path, mariadb_database: MySQLDatabase, target_database: Database, kafka: Kafka) -> AnyPipeline:
    return piped(tmp_path, mariadb_database, target_database, kafka)


@pytest.mark.matrix
@pytest.mark.parametrize("format_", ["json", "avro"])
def test_what_it_alone_has_passes_or_is_followed(
    tmp_path: Path, mariadb_database: MySQLDatabase, target_database: Database, kafka: Kafka, registry: Registry,
    format_: str,
) -> None:  # fmt: skip
    """Sequences, domains, columns that are there already, settings for one statement; others may do all of it."""
    source = mariadb_database
    options, table = {"exclude": [f"{source.name}.beside"], "format": format_}, f"{source.name}.t"
    pipeline = piped(tmp_path, source, target_database, kafka, source_options=options, registry=registry.url)
    source.execute("CREATE SEQUENCE numbers; CREATE TABLE beside (id int PRIMARY KEY) WITH SYSTEM VERSIONING")
    with pipeline.source_running() as running, pipeline.sink_running():
        copied(pipeline)
        source.execute("SELECT NEXTVAL(numbers); INSERT INTO beside VALUES (1); UPDATE beside SET id = 2")
        source.execute("INSERT INTO t (id) VALUES (2); SET SESSION gtid_domain_id = 7; INSERT INTO t (id) VALUES (3)")
        source.execute("ALTER TABLE t ADD COLUMN IF NOT EXISTS a int, ADD COLUMN IF NOT EXISTS u uuid NULL")
        source.execute("ALTER TABLE t DROP COLUMN IF EXISTS nothing")
        source.execute(
            "ALTER TABLE t ADD four inet4, ADD six inet6 NOT NULL DEFAULT '2001:DB8::', ADD own uuid NOT NULL;"
            "ALTER TABLE t ALTER own SET DEFAULT 'f27a4b6d-e73d-11f1-932d-02fc00000000';"
            "UPDATE t SET four = '10.0.0.0', own = UUID() WHERE id = 3"
        )
        source.execute("SET STATEMENT lock_wait_timeout = 9 FOR ALTER TABLE t ADD COLUMN more int NOT NULL DEFAULT 5")
        source.execute("CREATE OR REPLACE TABLE other (id int); CREATE OR REPLACE TABLE other (id bigint)")
        source.execute(
            "INSERT INTO t (id, u) VALUES (4, '123e4567-e89b-42d3-a456-426614174000');"
            "XA START 'x'; INSERT INTO t (id) VALUES (5); XA END 'x'; XA COMMIT 'x' ONE PHASE"
        )
        pipeline.wait_caught_up()
        assert pipeline.rows_at_target(table) == pipeline.rows_at_source(table)
        assert running.running
        assert "numbers" not in running.log.read_text()
    assert str(pipeline.valid_ends()[-1].position).count(",") >= 1
    source.execute("SET SESSION gtid_domain_id = 7; DELETE FROM t WHERE id = 2; SET SESSION gtid_domain_id = 0")
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
        assert pipeline.rows_at_target(table) == pipeline.rows_at_source(table)


UNDONE = [
    (
        "INSERT INTO t (id) VALUES (10)",
        "SAVEPOINT s",
        "INSERT INTO t (id) VALUES (11)",
        "INSERT INTO plain VALUES (1)",
        "ROLLBACK TO s",
        "INSERT INTO t (id) VALUES (12)",
        "COMMIT",
    ),
    (
        "CREATE TEMPORARY TABLE a (i int)",
        "INSERT INTO t (id) VALUES (20)",
        "SAVEPOINT s1",
        "UPDATE t SET id = 21 WHERE id = 20",
        "SAVEPOINT `S``2`",
        "DELETE FROM t",
        "ROLLBACK TO `s``2`",
        "ROLLBACK TO S1",
        "INSERT INTO t (id) VALUES (22)",
        "COMMIT",
    ),
    (
        "INSERT INTO t (id) VALUES (30)",
        "CREATE TEMPORARY TABLE b (i int)",
        "INSERT INTO t (id) VALUES (31)",
        "ROLLBACK",
    ),
    (
        "INSERT INTO t (id) VALUES (40)",
        "DROP TEMPORARY TABLE b",
        "SAVEPOINT s",
        "DELETE FROM t",
        "ROLLBACK TO s",
        "ROLLBACK",
    ),
    ("INSERT INTO t (id) VALUES (50)", "COMMIT"),
]
"""Transactions whose log MariaDB does not cut: it writes what was undone, and ROLLBACK behind it."""


def test_what_was_rolled_back_is_published_nowhere(
    tmp_path: Path, mariadb_database: MySQLDatabase, target_database: Database, kafka: Kafka
) -> None:
    source, table = mariadb_database, f"{mariadb_database.name}.t"
    source.execute("CREATE TABLE plain (i int PRIMARY KEY) ENGINE = MyISAM")
    pipeline = piped(tmp_path, source, target_database, kafka, source_options={"exclude": [f"{source.name}.plain"]})
    with pipeline.source_running(), pipeline.sink_running():
        copied(pipeline)
        ((file, begins, *_),) = source.execute("SHOW MASTER STATUS")
        source.execute(";".join(f"START TRANSACTION; {'; '.join(statements)}" for statements in UNDONE))
        written = [row[5] for row in source.execute(f"SHOW BINLOG EVENTS IN '{file}' FROM {begins}")]
        assert [text for text in written if str(text).startswith("ROLLBACK")] == [
            "ROLLBACK TO `s`", "ROLLBACK TO `s``2`", "ROLLBACK TO `S1`", "ROLLBACK", "ROLLBACK TO `s`", "ROLLBACK",
        ]  # fmt: skip
        pipeline.wait_caught_up()
        assert pipeline.rows_at_target(table) == pipeline.rows_at_source(table)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": pipeline.name})
    topic = row_topic(pipeline.name, source.name, "t")
    consumer.assign(
        [TopicPartition(topic, partition, 0) for partition in consumer.list_topics(topic).topics[topic].partitions]
    )
    published = {orjson.loads(record.key() or b"")["id"] for record in iter(lambda: consumer.poll(5), None)}
    consumer.close()
    assert published == {1, 10, 12, 20, 22, 50}


TWICE = (
    "START TRANSACTION; CREATE TEMPORARY TABLE a (i int); INSERT INTO t (id) VALUES (60); SAVEPOINT s;"
    "INSERT INTO t (id) VALUES (61); SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; COMMIT"
)
STOPS = [
    (TWICE, "more than one savepoint has that name"),
    ("CREATE OR REPLACE TABLE t (id int PRIMARY KEY)", "SCHEMA_CHANGE_UNSUPPORTED"),
    ("SET STATEMENT lock_wait_timeout = 9 FOR TRUNCATE TABLE t; SET STATEMENT lock_wait_timeout = 9 FOR DROP TABLE t",
     "SCHEMA_CHANGE_UNSUPPORTED"),
    ("ALTER TABLE t ADD SYSTEM VERSIONING", "SCHEMA_CHANGE_UNSUPPORTED"),
    ("XA START 'p'; INSERT INTO t (id) VALUES (8); XA END 'p'; XA PREPARE 'p'; XA COMMIT 'p'", "EVENT_UNSUPPORTED"),
    ("SET SESSION binlog_alter_two_phase = 1; ALTER TABLE t COMMENT 'two'", "EVENT_UNSUPPORTED"),
    ("SET SESSION server_id = 9, SESSION gtid_seq_no = 1; INSERT INTO t (id) VALUES (9)", "EVENT_UNSUPPORTED"),
    ("ALTER TABLE t ADD COLUMN c varchar(20) COMPRESSED", "SCHEMA_CHANGE_UNSUPPORTED"),
]  # fmt: skip


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[MySQLDatabase]:
    """On a server of its own, whose numbers may be spoilt."""
    with MariaDB(tmp_path / "alone") as server:
        yield server.create_database("shop")


@pytest.mark.matrix
@pytest.mark.parametrize(("statement", "code"), STOPS)
def test_what_is_not_followed_stops_by_name(
    tmp_path: Path, alone: MySQLDatabase, target_database: Database, kafka: Kafka, unique_name: str, statement: str,
    code: str,
) -> None:  # fmt: skip
    pipeline = piped(tmp_path, alone, target_database, kafka, name=unique_name)
    with pipeline.source_running() as source:
        copied(pipeline)
        alone.execute(statement)
        assert code in stopped(source)


@pytest.mark.matrix
def test_tables_that_cannot_be_captured_are_named(pipeline: AnyPipeline) -> None:
    pipeline.source.execute("CREATE TABLE kept (id int PRIMARY KEY) WITH SYSTEM VERSIONING")
    assert "TABLE_VERSIONED" in stopped(pipeline.run("source", "run", pipeline.name))
    assert "kept stays out: it is system-versioned" in pipeline.command("check", pipeline.name).stdout
    pipeline.source.execute("DROP TABLE kept; CREATE TABLE pressed (v varchar(20) COMPRESSED)")
    output = stopped(pipeline.run("source", "run", pipeline.name))
    assert "TYPE_UNSUPPORTED" in output
    assert "COMPRESSED" in output


@pytest.mark.matrix
def test_a_server_that_counts_alike_is_another(
    tmp_path: Path, target_database: Database, kafka: Kafka, unique_name: str
) -> None:
    """Both have transactions 0-1-1, 0-1-2, …; so has a server whose log began anew."""
    settings = {"server_id": 1}
    with MariaDB(tmp_path / "one", settings) as one, MariaDB(tmp_path / "two", settings) as two:
        pipeline = piped(tmp_path, one.create_database("shop"), target_database, kafka, name=unique_name)
        with pipeline.source_running():
            copied(pipeline)
        stranger = piped(tmp_path, two.create_database("shop"), target_database, kafka, name=unique_name)
        for number in range(10, 40):
            two.execute(f"INSERT INTO shop.t (id) VALUES ({number})")
        assert "SOURCE_IDENTITY" in stopped(stranger.run("source", "run", stranger.name))
        one.execute("RESET MASTER; INSERT INTO shop.t (id) VALUES (2)")
        again = AnyPipeline(tmp_path, MySQLDatabase(one, "shop"), target_database, kafka.bootstrap, name=unique_name)
        assert "HISTORY_FORKED" in stopped(again.run("source", "run", again.name))
