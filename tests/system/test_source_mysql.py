"""A MySQL source on a real server: what its sessions may do, what stops it, and what a new start goes on from."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from cdc.kafka import Reader
from cdc.log import End, Start
from tests.servers.kafka import Kafka
from tests.servers.mariadb import FLAVOURS, MariaDB
from tests.servers.mysql import MySQL, MySQLDatabase
from tests.servers.postgres import Database
from tests.servers.process import Process
from tests.servers.proxy import Proxy
from tests.system.pipeline import AnyPipeline, wait_until
from tests.system.shop import Shop

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)

STOPPED, HELD = 5, 4
TABLE = "CREATE TABLE t (id int PRIMARY KEY, a int DEFAULT 7, b text, j json); INSERT INTO t (id, b) VALUES (1, 'x')"


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop("mysql", "postgres")


@pytest.fixture
def pipeline(tmp_path: Path, mysql_database: MySQLDatabase, target_database: Database, kafka: Kafka) -> AnyPipeline:
    """One table, nothing runs yet."""
    return piped(tmp_path, mysql_database, target_database, kafka)


def piped(directory: Path, source: MySQLDatabase, target: Database, kafka: Kafka, **options: object) -> AnyPipeline:
    source.execute(TABLE)
    made = AnyPipeline(directory, source, target, kafka.bootstrap, **options)  # type: ignore[arg-type]
    made.publish()
    return made


def stopped(process: Process) -> str:
    assert process.wait(60) == STOPPED, process.log.read_text()
    return process.log.read_text()


def ends(pipeline: AnyPipeline) -> list[End]:
    try:
        return pipeline.valid_ends()
    except Exception:  # noqa: BLE001 - before its first start the topic is not there
        return []


def copied(pipeline: AnyPipeline) -> None:
    wait_until(lambda: "snapshot" in [end.kind for end in ends(pipeline)], "the copy")


# -- sessions ---------------------------------------------------------------------------------------------------
@pytest.fixture
def compressed(mysql_server: MySQL, flavour: str) -> Iterator[str]:
    """What a session says to have its changes compressed: of MariaDB the server is told."""
    if flavour == "mysql":
        yield "SET SESSION binlog_transaction_compression = ON;"
        return
    for setting in ("log_bin_compress_min_len = 10", "log_bin_compress = ON"):
        mysql_server.execute(f"SET GLOBAL {setting}")
    yield ""
    mysql_server.execute("SET GLOBAL log_bin_compress = OFF")


def test_rows_come_whatever_a_session_sets(pipeline: AnyPipeline, compressed: str) -> None:
    """Compressed transactions, images without what did not change, hostile settings of text and time."""
    with pipeline.source_running(), pipeline.sink_running():
        copied(pipeline)
        pipeline.source.execute(
            f"{compressed} START TRANSACTION;"
            "INSERT INTO t VALUES (2, 2, 'two', '{}'), (3, 3, 'three', NULL); UPDATE t SET a = 4 WHERE id = 2; COMMIT;"
            "SET SESSION binlog_row_image = MINIMAL; UPDATE t SET b = NULL WHERE id = 3;"
            "UPDATE t SET id = 9 WHERE id = 2;"
            "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (4, 4, 'four', '[1]');"
            "SET SESSION binlog_row_image = NOBLOB; UPDATE t SET a = 5 WHERE id = 9;"
            "SET SESSION sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES', time_zone = '+05:00', NAMES latin1;"
            "SAVEPOINT s; INSERT INTO t VALUES (5, NULL, 'x\\\\', NULL)"
        )
        pipeline.wait_caught_up()
        pipeline.assert_equal()


def test_what_cannot_be_carried_stops_by_name(pipeline: AnyPipeline) -> None:
    """One of them; all are in the decoder's tests. What was committed before it has arrived."""
    with pipeline.source_running() as source:
        copied(pipeline)
        pipeline.source.execute(
            "INSERT INTO t VALUES (77, 1, 'before', NULL); SET SESSION binlog_format = STATEMENT; UPDATE t SET a = 8"
        )
        output = stopped(source)
    assert all(word in output for word in ("STATEMENT_NOT_ROWS", ".t", "UPDATE t SET a = 8", "binlog.0")), output
    assert [end.event_count for end in pipeline.valid_ends() if end.kind == "data"] == [1]
    assert "STATEMENT_NOT_ROWS" in stopped(pipeline.run("source", "run", pipeline.name))
    with pipeline.source_running("--reopen", "copy-again"), pipeline.sink_running():
        pipeline.wait_caught_up()
        pipeline.assert_equal()


def test_others_may_do_all_that(pipeline: AnyPipeline) -> None:
    """Statements, XA and DDL on tables that are not captured; what concerns no row of captured ones."""
    with pipeline.source_running() as source, pipeline.sink_running():
        copied(pipeline)
        pipeline.source.server.execute(
            f"CREATE DATABASE other_{pipeline.name}; USE other_{pipeline.name}; CREATE TABLE o (id int PRIMARY KEY);"
            "XA START 'o'; INSERT INTO o VALUES (1); XA END 'o'; XA PREPARE 'o'; XA COMMIT 'o';"
            "SET SESSION binlog_format = STATEMENT; INSERT INTO o VALUES (2); ALTER TABLE o ADD COLUMN g geometry;"
            f"DROP DATABASE other_{pipeline.name}"
        )
        pipeline.source.execute(
            "ALTER TABLE t ADD INDEX (a), COMMENT = 'x'; ALTER TABLE t ENGINE = InnoDB; ANALYZE TABLE t;"
            "CREATE VIEW v AS SELECT 1; CREATE TEMPORARY TABLE tt (id int); INSERT INTO tt VALUES (1);"
            "INSERT INTO t VALUES (2, 2, 'two', NULL)"
        )
        pipeline.wait_caught_up()
        assert pipeline.into.rows(f"{pipeline.name}.t") == pipeline.from_.rows(f"{pipeline.name}.t")
        assert source.running
    told = [orjson.loads(record)["ddl"] for record in shape_records(pipeline)]
    assert "ALTER TABLE t ADD INDEX (a), COMMENT = 'x'" in told
    assert any(ddl and "VIEW `v` AS" in ddl for ddl in told), told


def shape_records(pipeline: AnyPipeline) -> list[bytes]:
    with closing(Reader({"bootstrap.servers": pipeline.bootstrap})) as reader:
        first, end = reader.watermarks(pipeline.name, 0)
        return [record.value() or b"" for record in reader.read_range(pipeline.name, 0, first, end)]


# -- starts -----------------------------------------------------------------------------------------------------
def test_a_second_source_of_one_name_waits(pipeline: AnyPipeline) -> None:
    with pipeline.source_running() as first:
        copied(pipeline)
        refused = pipeline.run("source", "run", pipeline.name, "--no-wait")
        assert refused.wait(30) == HELD, refused.log.read_text()
        with pipeline.source_running() as second, pipeline.sink_running():
            time.sleep(1)
            first.kill9()
            pipeline.source.execute("INSERT INTO t VALUES (2, 2, 'two', NULL)")
            pipeline.wait_caught_up()
            pipeline.assert_equal()
            assert second.running


def test_without_its_table_heartbeats_carry_the_position(
    tmp_path: Path, mysql_database: MySQLDatabase, target_database: Database, kafka: Kafka
) -> None:
    """As on a replica, where nobody may write."""
    mysql_database.execute(TABLE)
    pipeline = AnyPipeline(tmp_path, mysql_database, target_database, kafka.bootstrap)
    mysql_database.execute(
        f"CREATE USER IF NOT EXISTS {pipeline.name} IDENTIFIED BY 'p'; GRANT REPLICATION SLAVE, REPLICATION CLIENT, "
        f"RELOAD ON *.* TO {pipeline.name}; GRANT SELECT ON {pipeline.name}.* TO {pipeline.name}"
    )
    config = pipeline.config.read_text().replace("mysql://root@", f"mysql://{pipeline.name}@")
    pipeline.config.write_text(config)
    environment = {"SOURCE_PASSWORD": "p"}
    source = pipeline.run("source", "run", pipeline.name, env=environment)
    copied(pipeline)
    mysql_database.execute("CREATE TABLE cdc_unseen (id int PRIMARY KEY); INSERT INTO cdc_unseen VALUES (1)")
    now = pipeline.from_.now()
    wait_until(lambda: str(now) == ends(pipeline)[-1].position, "a heartbeat at the server's end")
    assert "cdc.heartbeat is not there" in source.log.read_text()
    source.kill9()


def test_a_network_that_is_cut(tmp_path: Path, mysql_database: MySQLDatabase, target_database: Database,
                               kafka: Kafka) -> None:  # fmt: skip
    with Proxy(mysql_database.server.port) as proxy:
        pipeline = piped(tmp_path, mysql_database, target_database, kafka, source_port=proxy.port)
        with pipeline.source_running() as source, pipeline.sink_running():
            copied(pipeline)
            for number in range(3):
                proxy.cut()
                mysql_database.execute(f"INSERT INTO t (id) VALUES ({10 + number}); UPDATE t SET a = a + 1")
                proxy.restore()
                time.sleep(0.5)
            pipeline.wait_caught_up()
            pipeline.assert_equal()
            assert source.running
    assert len([record for record in pipeline.log() if isinstance(record, Start)]) >= 2


# -- servers ----------------------------------------------------------------------------------------------------
@pytest.mark.timeout(300)
def test_restart_fail_over_purge_and_fork(
    tmp_path: Path, target_database: Database, kafka: Kafka, flavour: str, unique_name: str
) -> None:
    """Two real servers: the log goes on by GTID, whatever the files are called; what is missing is named."""
    kind = MySQL if flavour == "mysql" else MariaDB
    with (
        kind(tmp_path / "one") as one,
        kind(tmp_path / "two", {"log_bin": "other", "log_slave_updates": "ON"}) as two,
    ):
        pipeline = piped(tmp_path, one.create_database("shop"), target_database, kafka, name=unique_name)
        follow(two, one)
        with pipeline.source_running(), pipeline.sink_running():
            copied(pipeline)
            one.execute("INSERT INTO shop.t (id) VALUES (2)")
            one.restart()
            one.execute("INSERT INTO shop.t (id) VALUES (3)")
            pipeline.wait_caught_up()
            pipeline.assert_equal()
        one.execute("INSERT INTO shop.t (id) VALUES (4)")
        wait_until(lambda: two.gtids() == one.gtids(), "the replica")
        two.execute("STOP REPLICA; SET GLOBAL read_only = OFF")
        # The first server writes on alone: nobody but a source that reads it will know.
        moved = AnyPipeline(tmp_path, MySQLDatabase(two, "shop"), target_database, kafka.bootstrap, name=unique_name)
        two.execute("INSERT INTO shop.t (id) VALUES (5)")
        with moved.source_running(), moved.sink_running():
            moved.wait_caught_up()
            moved.assert_equal()
        assert [row[0] for row in target_database.execute("SELECT id FROM shop.t ORDER BY 1")] == [1, 2, 3, 4, 5]
        assert len({record.source.system_id for record in moved.log() if isinstance(record, Start)}) == 1

        back = AnyPipeline(tmp_path, MySQLDatabase(one, "shop"), target_database, kafka.bootstrap, name=unique_name)
        output = stopped(back.run("source", "run", back.name, env={"SOURCE_PASSWORD": one.password}))
        assert "HISTORY_FORKED" in output
        own = "@@server_uuid" if flavour == "mysql" else "CONCAT('0-', @@server_id, '-')"
        assert two.execute(f"SELECT {own}")[0][0] in output

        two.execute("INSERT INTO shop.t (id) VALUES (6); FLUSH BINARY LOGS; FLUSH BINARY LOGS")
        wait_until(lambda: purged(two), "the only file")
        moved = AnyPipeline(tmp_path, MySQLDatabase(two, "shop"), target_database, kafka.bootstrap, name=unique_name)
        assert "LOG_PURGED" in stopped(moved.run("source", "run", moved.name))
        with moved.source_running("--reopen", "copy-again"), moved.sink_running():
            moved.wait_caught_up()
            moved.assert_equal()


def purged(server: MySQL) -> bool:
    """MariaDB keeps files until it is sure that no crash needs them."""
    server.execute(f"PURGE BINARY LOGS TO '{server.execute('SHOW MASTER STATUS')[0][0]}'")
    return len(server.execute("SHOW BINARY LOGS")) == 1


def follow(replica: MySQL, primary: MySQL) -> None:
    primary.execute("CREATE USER repl IDENTIFIED BY 'repl'; GRANT REPLICATION SLAVE ON *.* TO repl")
    if isinstance(replica, MariaDB):
        replica.execute(
            "RESET MASTER; CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %s, MASTER_USER = 'repl', "
            "MASTER_PASSWORD = 'repl', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1; "
            "SET GLOBAL read_only = ON; START SLAVE", [primary.port],
        )  # fmt: skip
        return
    replica.execute(
        "RESET MASTER; CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = %s, SOURCE_USER = 'repl', "
        "SOURCE_PASSWORD = 'repl', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1; "
        "SET GLOBAL read_only = ON; START REPLICA", [primary.port],
    )  # fmt: skip


def test_a_table_that_came_after_the_copy(pipeline: AnyPipeline) -> None:
    """It is wanted: that it is passed over is said while it happens, at every start, and by verify."""
    again = f"cdc source run {pipeline.name} --reopen copy-again"
    with pipeline.source_running() as source, pipeline.sink_running():
        copied(pipeline)
        pipeline.source.execute("CREATE TABLE came (id int PRIMARY KEY); INSERT INTO came VALUES (1)")
        pipeline.source.execute("INSERT INTO came VALUES (2)")
        pipeline.wait_caught_up()
        said = [line for line in source.log.read_text().splitlines() if "lacking" in line]
        assert len(said) == 1
        assert f"rows of {pipeline.name}.came are passed over" in said[0]
        assert again in said[0]
    with pipeline.source_running() as source, pipeline.sink_running():
        waits = f"for a copy of {pipeline.name}.came, which is wanted and not captured yet: {again}"
        wait_until(lambda: waits in source.log.read_text(), "its word at the start")
        verified = pipeline.run("verify", pipeline.name, "--sink", "eu")
        assert verified.wait(60) == 0, verified.log.read_text()
    told = verified.log.read_text()
    assert f"left out   {pipeline.name}.came" in told
    assert "EQUAL: 1 tables" in told
    pipeline.source.execute("INSERT INTO came VALUES (3)")
    with pipeline.source_running("--reopen", "copy-again"), pipeline.sink_running():
        pipeline.wait_caught_up()
        assert pipeline.into.rows(f"{pipeline.name}.came") == pipeline.from_.rows(f"{pipeline.name}.came")


def test_a_unique_key_that_serves_as_the_primary_one(pipeline: AnyPipeline) -> None:
    """The log tells it as the primary key; the catalog does not."""
    pipeline.source.execute("CREATE TABLE u (u int NOT NULL UNIQUE, v int); INSERT INTO u VALUES (1, 1)")
    with pipeline.source_running(), pipeline.sink_running():
        copied(pipeline)
        pipeline.source.execute(
            "INSERT INTO u VALUES (2, 2); UPDATE u SET v = 3 WHERE u = 1; DELETE FROM u WHERE u > 1"
        )
        pipeline.wait_caught_up()
        assert pipeline.into.rows(f"{pipeline.name}.u") == pipeline.from_.rows(f"{pipeline.name}.u")
