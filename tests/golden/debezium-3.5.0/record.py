"""Records what Debezium's Postgres connector writes for `values.toml`, `schema.sql` and `stream.sql`.

    python record.py POSTGRES-DSN BOOTSTRAP CONNECT-LIBS-DIR

In: an empty Postgres 18 server (wal_level=logical; database `shop` is made here), an empty Kafka, the jars of
Kafka Connect and the connector. Out, beside this file: `postgres_exact.jsonl`, every record of every topic
`shop*` in order of (topic, partition, offset), and `postgres_exact_text.jsonl`, the values as server text.
Ends with a message when the connector's task fails; the path of its log is printed first.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

HERE = Path(__file__).parent
SESSION = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
OPTIONS = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
PARTITIONED = ("shop.public.many", "shop.public.many_keyless")


def tables() -> dict[str, tuple[str, list[str]]]:
    """Table name → (type of its column v, values as text)."""
    values: dict[str, dict[str, list[str]]] = tomllib.loads((HERE / "values.toml").read_text())
    suffix = {"types": ("", ""), "arrays": ("_array", "[]"), "shaped_arrays": ("_shaped", "[]")}
    return {
        "v_" + re.sub(r"[^a-z0-9]+", "_", name).strip("_") + suffix[kind][0]: (name + suffix[kind][1], texts)
        for kind, by_type in values.items()
        for name, texts in by_type.items()
    }


def connect(dsn: str, database: str) -> psycopg.Connection[TupleRow]:
    """A session whose text output is fixed."""
    return psycopg.connect(dsn, dbname=database, autocommit=True, options=OPTIONS)


def create_database(dsn: str) -> None:
    """Everything that the snapshot will find."""
    with connect(dsn, "postgres") as admin:
        admin.execute("CREATE DATABASE shop")
    with connect(dsn, "shop") as shop:
        shop.execute((HERE / "schema.sql").read_bytes())
        columns = {table: type_name for table, (type_name, _) in tables().items()}
        for table, type_name in columns.items():
            shop.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v {type_name})".encode())
        insert_values(shop, first_id=1)
        nullable = ", ".join(f"{table} {type_name}" for table, type_name in columns.items())
        shop.execute(f"CREATE TABLE nulls (id int PRIMARY KEY, {nullable})".encode())
        shop.execute("INSERT INTO nulls VALUES (1)")
        required = ", ".join(f"{table} {type_name} NOT NULL" for table, type_name in columns.items())
        firsts = ", ".join(f"(SELECT v FROM {table} WHERE id = 1)" for table in columns)
        shop.execute(f"CREATE TABLE required (id int PRIMARY KEY, {required})".encode())
        shop.execute(f"INSERT INTO required VALUES (1, {firsts})".encode())
        shop.execute("CREATE PUBLICATION shop_pub FOR ALL TABLES")


def insert_values(shop: psycopg.Connection[TupleRow], first_id: int) -> None:
    """One row per value."""
    for table, (_, texts) in tables().items():
        for id_, text in enumerate(texts, first_id):
            shop.execute(f"INSERT INTO {table} VALUES (%s, %s)".encode(), [id_, text])


def stream_changes(dsn: str) -> None:
    """The values again in one transaction, then the scripted transactions, then a last one to wait for."""
    with connect(dsn, "shop") as shop:
        with shop.transaction():
            insert_values(shop, first_id=101)
        shop.execute((HERE / "stream.sql").read_bytes())
        shop.execute("CREATE TABLE the_end (id int PRIMARY KEY)")
        shop.execute("INSERT INTO the_end VALUES (1)")


def server_text(dsn: str) -> list[dict[str, Any]]:
    """The snapshot's values as the server writes them."""
    with connect(dsn, "shop") as shop:
        return [
            {"table": table, "type": type_name, "id": id_, "text": text}
            for table, (type_name, _) in tables().items()
            for id_, text in shop.execute(
                f"SELECT id, v::text FROM {table} WHERE id < 100 ORDER BY id".encode()
            ).fetchall()
        ]


def start_connect(dsn: str, bootstrap: str, libs: Path, work: Path) -> subprocess.Popen[bytes]:
    """Connect standalone with the two property files, filled in."""
    params = conninfo_to_dict(dsn)
    fill = {"bootstrap": bootstrap, "offsets": work / "offsets"}
    fill |= {name: params[name] for name in ("host", "port", "user")} | {"password": params.get("password", "")}
    files = [work / "worker.properties", work / "connector.properties"]
    for file in files:
        file.write_text((HERE / file.name).read_text().format(**fill))
    program = "org.apache.kafka.connect.cli.ConnectStandalone"
    with (work / "log").open("wb") as log:
        return subprocess.Popen(
            ["java", "-Xmx1g", "-cp", f"{libs}/*", program, *map(str, files)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TZ": "UTC"},
        )


def check_alive(work: Path) -> str:
    """The connector's log so far."""
    log = (work / "log").read_text()
    if "Task threw an uncaught" in log:
        raise SystemExit(f"the connector's task failed: {work}/log")
    return log


def wait_for(work: Path, message: str, seconds: float = 120) -> None:
    """Until the connector logs `message`."""
    deadline = time.monotonic() + seconds
    while message not in check_alive(work):
        if time.monotonic() > deadline:
            raise SystemExit(f"the connector is stuck before {message!r}: {work}/log")
        time.sleep(0.3)


def read_to_the_end(bootstrap: str, work: Path) -> list[dict[str, Any]]:
    """All records, once the last transaction's row and, moments later, its END are there."""
    for _ in range(60):
        if any(record["topic"] == "shop.public.the_end" for record in read_all(bootstrap)):
            time.sleep(3)
            return read_all(bootstrap)
        check_alive(work)
        time.sleep(1)
    raise SystemExit(f"the last transaction did not arrive: {work}/log")


def read_all(bootstrap: str) -> list[dict[str, Any]]:
    """Every record of every topic `shop*`."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "record", "enable.auto.commit": False})
    topics = consumer.list_topics(timeout=10).topics
    every = [TopicPartition(t, p, 0) for t in topics if t.startswith("shop") for p in topics[t].partitions]
    expected = sum(consumer.get_watermark_offsets(each, timeout=10)[1] for each in every)
    consumer.assign(every)
    records: list[dict[str, Any]] = []
    while len(records) < expected:
        message = consumer.poll(10)
        assert message is not None, "a record within the end offsets did not come"
        assert message.error() is None, message.error()
        records.append(record_of(message))
    consumer.close()
    return sorted(records, key=lambda record: (record["topic"], record["partition"], record["offset"]))


def record_of(message: Any) -> dict[str, Any]:
    """One line of the file."""

    def text(raw: bytes | None) -> str | None:
        return None if raw is None else raw.decode()

    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "headers": [[name, text(value)] for name, value in message.headers() or []],
        "key": text(message.key()),
        "value": text(message.value()),
    }


def write_lines(name: str, rows: list[dict[str, Any]]) -> None:
    """JSON lines, ASCII only."""
    (HERE / name).write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def main(dsn: str, bootstrap: str, libs: str) -> None:
    """Make both files anew."""
    work = Path(tempfile.mkdtemp(prefix="record-"))
    print("log:", work / "log")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, 4, 1) for topic in PARTITIONED]).values():
        future.result()
    create_database(dsn)
    worker = start_connect(dsn, bootstrap, Path(libs), work)
    try:
        wait_for(work, "Processing messages")
        stream_changes(dsn)
        records = read_to_the_end(bootstrap, work)
    finally:
        worker.terminate()
        worker.wait()
    write_lines("postgres_exact.jsonl", records)
    write_lines("postgres_exact_text.jsonl", server_text(dsn))
    print(len(records), "records")


if __name__ == "__main__":
    main(*sys.argv[1:4])
