"""The servers do what the tests rely on."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import boto3
import psycopg
import pymysql
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.servers import postgres
from tests.servers.connect import Connect, avro, debezium_postgres
from tests.servers.fetch import POSTGRES_BIN, kcat
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL, MySQLDatabase
from tests.servers.postgres import Database, Postgres
from tests.servers.process import Process
from tests.servers.proxy import Proxy
from tests.servers.registry import Registry
from tests.servers.s3 import ACCESS_KEY, S3


def create_topic(broker: Kafka, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)


def produce(bootstrap: str, topic: str, value: bytes, timeout: float = 20) -> bool:
    """Whether the broker acknowledged the record in time."""
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "acks": "all",
        "message.timeout.ms": int(timeout * 1000),
        "reconnect.backoff.max.ms": 200,
        "log_level": 0,
    })  # fmt: skip
    outcome: list[bool] = []
    producer.produce(topic, value, on_delivery=lambda error, _: outcome.append(error is None))
    producer.flush(timeout + 5)
    return outcome == [True]


def consume(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    values: list[bytes | None] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            values.append(message.value())
    consumer.close()
    return values


def test_postgres_speaks_sql_and_logical_decoding(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, x text)")
    database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [database.name])
    database.execute("INSERT INTO t VALUES (1, %s)", ["ä"])
    assert database.execute("SELECT id, x FROM t") == [(1, "ä")]
    assert database.execute("SHOW wal_level") == [("logical",)]


def test_postgres_refuses_a_wrong_password(database: Database) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database.dsn(password="wrong"))


def test_postgres_programs_run(database: Database) -> None:
    server = database.server
    done = subprocess.run(
        [server.psql, "-Atc", "SELECT 42"],
        env=server.env(database.name),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "42\n"
    for program in (server.pgbench, server.pg_dump):
        subprocess.run([program, "--version"], capture_output=True, check=True)


def test_postgres_survives_kill9_freeze_and_reuse(tmp_path: Path) -> None:
    directory = tmp_path / "postgres"
    with Postgres(directory, {"max_slot_wal_keep_size": "64MB"}, fsync=True) as server:
        port = server.port
        server.execute("CREATE TABLE t AS SELECT 1 AS id")
        server.kill9()
        assert not server.running
        server.start()
        assert server.execute("SELECT * FROM t") == [(1,)]
        assert server.execute("SHOW max_slot_wal_keep_size") == [("64MB",)]
        server.pause()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.dsn(), connect_timeout=2)
        server.cont()
        assert server.execute("SELECT 1") == [(1,)]
        server.restart("immediate")
    with Postgres(directory) as again:
        assert again.port == port
        assert again.execute("SELECT * FROM t") == [(1,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="a plain user runs Postgres as himself")
def test_postgres_runs_from_a_checkout_closed_to_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = POSTGRES_BIN.parents[1]
    for folder in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        shutil.copytree(folder, closed / folder.name)
    monkeypatch.setattr(postgres, "POSTGRES_BIN", closed / wheel.name / "pginstall" / "bin")
    with Postgres(closed / "server") as server:
        assert server.execute("SELECT 1") == [(1,)]


def test_mysql_speaks_sql_and_writes_rows_with_gtids_to_its_binlog(mysql_database: MySQLDatabase) -> None:
    before = mysql_database.server.gtids()
    mysql_database.execute("CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t VALUES (1, %s)", ["ä"])
    assert mysql_database.execute("SELECT id, x FROM t") == [(1, "ä")]
    assert mysql_database.server.gtids() != before
    facts = "@@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@gtid_mode"
    assert mysql_database.execute(f"SELECT {facts}") == [("ROW", "FULL", "FULL", "ON")]


def test_mysql_refuses_a_wrong_password_and_speaks_tls(mysql_server: MySQL) -> None:
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        mysql_server.connect(password="wrong")
    with (
        pymysql.connect(host="127.0.0.1", port=mysql_server.port, user="root", password=mysql_server.password) as other,
        other.cursor() as cursor,
    ):
        cursor.execute("SHOW STATUS LIKE 'Ssl_version'")
        assert cursor.fetchone()[1].startswith("TLS")


@pytest.mark.matrix
def test_mysql_survives_kill9_freeze_and_reuse_and_stands_beside_another(tmp_path: Path, mysql_server: MySQL) -> None:
    directory = tmp_path / "mysql"
    with MySQL(directory, {"binlog_row_image": "NOBLOB"}, fsync=True) as server:
        port, (identity,) = server.port, server.execute("SELECT @@server_uuid")
        server.execute("CREATE DATABASE d; CREATE TABLE d.t AS SELECT 1 AS id")
        server.kill9()
        assert not server.running
        server.start()
        assert server.execute("SELECT * FROM d.t") == [(1,)]
        assert server.execute("SELECT @@binlog_row_image") == [("NOBLOB",)]
        server.pause()
        with pytest.raises(pymysql.OperationalError):
            pymysql.connect(host="127.0.0.1", port=port, user="root", read_timeout=1)
        server.cont()
    with MySQL(directory) as again:
        assert again.port == port
        assert again.execute("SELECT @@server_uuid") == [identity] != mysql_server.execute("SELECT @@server_uuid")
        assert again.execute("SELECT * FROM d.t") == [(1,)]


@pytest.mark.matrix
def test_kafka_keeps_records_through_kill9_and_restart(tmp_path: Path) -> None:
    with Kafka(tmp_path / "kafka", {"message.max.bytes": 2_000_000}) as broker:
        create_topic(broker, "t")
        assert produce(broker.bootstrap, "t", b"one")
        broker.kill9()
        broker.start()
        assert produce(broker.bootstrap, "t", b"two")
        broker.pause()
        assert not produce(broker.bootstrap, "t", b"lost", timeout=2)
        broker.cont()
        broker.restart()
        assert consume(broker.bootstrap, "t", 2) == [b"one", b"two"]


def test_kafka_creates_no_topic_by_itself(kafka: Kafka, unique_name: str) -> None:
    assert not produce(kafka.bootstrap, unique_name, b"x", timeout=2)


def test_kcat_reads_a_topic(kafka: Kafka, unique_name: str) -> None:
    create_topic(kafka, unique_name)
    assert produce(kafka.bootstrap, unique_name, b"seen")
    command = [str(kcat()), "-b", kafka.bootstrap, "-C", "-t", unique_name, "-e", "-q", "-o", "beginning"]
    assert subprocess.run(command, capture_output=True, check=True, timeout=30).stdout == b"seen\n"


def test_a_cut_proxy_takes_kafka_away(kafka: Kafka, kafka_proxy: Proxy, unique_name: str) -> None:
    create_topic(kafka, unique_name)
    assert produce(kafka.proxied_bootstrap, unique_name, b"one")
    kafka_proxy.cut()
    assert not produce(kafka.proxied_bootstrap, unique_name, b"lost", timeout=2)
    assert produce(kafka.bootstrap, unique_name, b"two")
    kafka_proxy.restore()
    assert produce(kafka.proxied_bootstrap, unique_name, b"three")
    assert consume(kafka.bootstrap, unique_name, 3) == [b"one", b"two", b"three"]


def test_a_proxy_cuts_stalls_and_restores_postgres(database: Database) -> None:
    with Proxy(database.server.port) as proxy:
        dsn = database.dsn(port=proxy.port)
        with psycopg.connect(dsn) as connection:
            assert proxy.connections == 1
            proxy.cut()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(dsn)
        proxy.restore()
        proxy.stall()
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(dsn, connect_timeout=2)
        proxy.restore()
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.matrix
def test_s3_keeps_objects_through_kill9_and_restart(tmp_path: Path) -> None:
    with S3(tmp_path / "s3") as store:
        bucket, client = store.bucket("T_1"), store.client()
        client.put_object(Bucket=bucket, Key="k", Body=b"one", IfNoneMatch="*")
        store.kill9()
        assert not store.running
        store.start()
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket=bucket, Key="k", Body=b"two", IfNoneMatch="*")
        store.pause()
        with pytest.raises(BotoCoreError, match="timeout"):
            client.list_buckets()
        store.cont()
        store.restart()
        assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"one"


def test_s3_asks_for_its_keys(s3: S3, unique_name: str) -> None:
    s3.bucket(unique_name)
    facts = {"endpoint_url": s3.endpoint, "region_name": "us-east-1"}
    nobody = boto3.client("s3", config=Config(signature_version=UNSIGNED), **facts)
    other = boto3.client("s3", aws_access_key_id=ACCESS_KEY, aws_secret_access_key="another", **facts)
    for client in (nobody, other):
        with pytest.raises(ClientError, match=r"AccessDenied|SignatureDoesNotMatch"):
            client.list_buckets()


@pytest.mark.matrix
def test_connect_writes_confluents_avro_and_goes_on_where_it_ended(
    connect: Connect, registry: Registry, kafka: Kafka, postgres_source: Postgres, database: Database, unique_name: str
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    connector = {**debezium_postgres(unique_name, postgres_source, database), **avro(registry)}
    connect.create(connector)
    topic = f"{unique_name}.public.t"
    (copied,) = consume(kafka.bootstrap, topic, 1)
    assert copied
    assert int.from_bytes(copied[1:5], "big") == registry.schema(f"{topic}-value")["id"]
    connect.end(unique_name)
    database.execute("INSERT INTO t VALUES (2)")
    connect.create(connector)
    (streamed,) = consume(kafka.bootstrap, topic, 1)
    assert streamed
    connect.check(unique_name)
    connect.end(unique_name)


def test_a_server_ends_with_the_program_that_started_it(tmp_path: Path) -> None:
    starter = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from tests.servers.postgres import Postgres
        server = Postgres(Path({str(tmp_path / "postgres")!r}))
        server.start()
        print(server.process.pid, flush=True)
        time.sleep(60)
    """)
    log = tmp_path / "starter.log"
    parent = Process([sys.executable, "-c", starter], log)
    deadline = time.monotonic() + 30
    while not (log.exists() and log.read_text().strip()):
        assert parent.running, parent.tail()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    postmaster = Path(f"/proc/{log.read_text().strip()}")
    assert postmaster.exists()
    parent.send(9)
    parent.wait(10)
    while postmaster.exists() and "State:\tZ" not in (postmaster / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
