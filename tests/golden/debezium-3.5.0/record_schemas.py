"""Records what Debezium's connectors write with schemas, in their lossless modes and in their own.

    PYTHONPATH=. python tests/golden/debezium-3.5.0/record_schemas.py [postgres] [mysql]

In: the checkout's servers (`make servers`). Out, beside this file, for each engine and each of the modes `exact` and
`debezium`: `<engine>_<mode>_schema.json`, the records as Connect's JSON converter wrote them, `schemas` being each text
of a schema once, and a record's `key` and `value` the number of its schema and the payload's text; and
`<engine>_<mode>_avro.json`, those of another connector on the same log, base64, with every version that it registered.
The prefix of a connector's topics is its mode, `_avro` behind it for Avro.
"""

import base64
import json
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.servers.connect import JSON_WITH_SCHEMA, LOSSLESS, Connect, avro, debezium_mysql, debezium_postgres
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL
from tests.servers.postgres import Postgres
from tests.servers.registry import Registry

HERE = Path(__file__).parent
MODES: dict[str, dict[str, str]] = {"exact": LOSSLESS, "debezium": {}}
PLAIN = {"extended.headers.enabled": "false", "topic.creation.default.partitions": "1"}
NOT_CARRIED = {"name", '"char"', "timetz", "interval", "money_amount"}
NO_DAY = re.compile(r"'(0000|....-00|....-..-00|2023-02-29|....-0[2469]-3[01])")
"""Dates of MySQL's that no calendar has: a snapshot dies of them."""
Connector = dict[str, str | int]


# -- the databases ----------------------------------------------------------------------------------------------
def typed_columns(values: dict[str, dict[str, list[str]]]) -> list[tuple[str, str, list[str]]]:
    """Name, type and values of a column for each type that we carry, and for each array."""
    suffixes = {"types": "", "arrays": "[]"}
    return [
        (column(name + suffixes[kind]), name + suffixes[kind], [text for text in texts if not NO_DAY.match(text)])
        for kind in suffixes
        for name, texts in values.get(kind, {}).items()
        if name not in NOT_CARRIED
    ]


def column(type_: str) -> str:
    """A name that needs no quotes."""
    return "v_" + re.sub(r"[^a-z0-9]+", "_", type_.replace("[]", "_array")).strip("_")


def rows(columns: Sequence[tuple[str, str, list[str]]]) -> list[list[str | None]]:
    """Every value of every column, as few rows as that takes."""
    longest = max(len(texts) for _, _, texts in columns)
    return [[texts[at] if at < len(texts) else None for _, _, texts in columns] for at in range(longest)]


def postgres_values(server: Postgres, first_id: int) -> None:
    columns = typed_columns(tomllib.loads((HERE / "values.toml").read_text()))
    with server.connect("shop") as shop, shop.transaction():
        for id_, row in enumerate(rows(columns), first_id):
            marks = ", ".join(["%s"] * (len(row) + 1))
            shop.execute(f"INSERT INTO nulls VALUES ({marks})".encode(), [id_, *row])


def postgres_schema(server: Postgres) -> None:
    columns = typed_columns(tomllib.loads((HERE / "values.toml").read_text()))
    with server.connect("shop") as shop:
        shop.execute((HERE / "schema.sql").read_bytes())
        for table, constraint in (("nulls", ""), ("required", " NOT NULL")):
            listed = ", ".join(f"{name} {type_}{constraint}" for name, type_, _ in columns)
            shop.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, {listed})".encode())
        marks = ", ".join(["%s"] * len(columns))
        shop.execute(f"INSERT INTO required VALUES (1, {marks})".encode(), [texts[0] for _, _, texts in columns])
        shop.execute('CREATE TABLE names ("1a" int PRIMARY KEY, "a-b" text, "c d é" text DEFAULT \'x\')')
        shop.execute('CREATE SCHEMA "odd-schema"')
        shop.execute('CREATE TABLE "odd-schema"."2nd" (id int PRIMARY KEY)')
        shop.execute('INSERT INTO "odd-schema"."2nd" VALUES (1)')
        shop.execute("INSERT INTO names VALUES (1, 'p', 'q')")
        shop.execute("CREATE PUBLICATION shop_pub FOR ALL TABLES")
    postgres_values(server, 201)


def postgres_stream(server: Postgres) -> None:
    postgres_values(server, 301)
    with server.connect("shop") as shop:
        shop.execute((HERE / "stream.sql").read_bytes())
        shop.execute("CREATE TABLE the_end (id int PRIMARY KEY)")
        shop.execute("INSERT INTO the_end VALUES (1)")


def mysql_values(server: MySQL, first_id: int) -> None:
    columns = typed_columns(tomllib.loads((HERE.parent / "mysql" / "values.toml").read_text()))
    statements = ["SET sql_mode = 'ALLOW_INVALID_DATES'", "SET time_zone = '+00:00'"]
    for id_, row in enumerate(rows(columns), first_id):
        listed = ", ".join("NULL" if value is None else value for value in row)
        statements.append(f"INSERT INTO golden.types VALUES ({id_}, {listed})")
    server.execute(";".join(statements))


def mysql_schema(server: MySQL) -> None:
    columns = typed_columns(tomllib.loads((HERE.parent / "mysql" / "values.toml").read_text()))
    database = server.create_database("golden")
    database.execute((HERE / "mysql.sql").read_text().partition("-- the stream\n")[0])
    listed = ", ".join(f"{name} {type_} NULL" for name, type_, _ in columns)
    firsts = ", ".join(f"{name} {type_} NOT NULL" for name, type_, _ in columns)
    database.execute(f"CREATE TABLE types (id int PRIMARY KEY, {listed})")
    database.execute(f"CREATE TABLE required (id int PRIMARY KEY, {firsts})")
    mysql_values(server, 1)


def mysql_stream(server: MySQL) -> None:
    mysql_values(server, 101)
    server.execute("USE golden;" + (HERE / "mysql.sql").read_text().partition("-- the stream\n")[2])
    server.execute("CREATE TABLE golden.the_end (id int PRIMARY KEY); INSERT INTO golden.the_end VALUES (1)")


# -- the recording ----------------------------------------------------------------------------------------------
def record(
    work: Path, kafka: Kafka, registry: Registry, connector: Callable[[str], Connector], stream: Callable[[], None]
) -> dict[str, list[Any]]:
    """All records of each connector: two for each mode."""
    started = []
    with Connect(work / "connect", kafka.bootstrap, {"offset.flush.interval.ms": 1000}) as worker:
        for mode, options in MODES.items():
            for name, converter in ((mode, JSON_WITH_SCHEMA), (f"{mode}_avro", avro(registry))):
                worker.create({**connector(name), **options, **PLAIN, **converter})
                started.append(name)
        settle(kafka, worker, started, "")
        stream()
        settle(kafka, worker, started, "the_end")
        return {name: read(kafka, name) for name in started}


def settle(kafka: Kafka, worker: Connect, names: Sequence[str], table: str) -> None:
    """Until every connector has written rows (of this table), and nothing more comes."""
    deadline, seen = time.monotonic() + 120, -1
    while True:
        for name in names:
            worker.check(name)
        topics = places(kafka, "")
        now = sum(count for _, count in topics)
        there = [
            name
            for name in names
            if any(place.topic.startswith(f"{name}.") and place.topic.endswith(table) for place, _ in topics)
        ]
        if now == seen and len(there) == len(names):
            return
        assert time.monotonic() < deadline, f"{there} {worker.explain()}"
        seen = now
        time.sleep(5)


def places(kafka: Kafka, name: str) -> list[tuple[TopicPartition, int]]:
    """Each partition of a connector's topics, and how many records it holds."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "record", "enable.auto.commit": False})
    topics = consumer.list_topics(timeout=10).topics
    mine = [t for t in topics if not t.startswith("__") and (not name or t == name or t.startswith(f"{name}."))]
    every = [TopicPartition(topic, partition, 0) for topic in sorted(mine) for partition in topics[topic].partitions]
    counted = [(place, consumer.get_watermark_offsets(place, timeout=10)[1]) for place in every]
    consumer.close()
    return counted


def read(kafka: Kafka, name: str) -> list[Any]:
    """Every record of a connector's topics, in order of topic and offset."""
    found = places(kafka, name)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "record", "enable.auto.commit": False})
    consumer.assign([place for place, _ in found])
    messages = [consumer.poll(10) for _ in range(sum(count for _, count in found))]
    consumer.close()
    assert all(message is not None and message.error() is None for message in messages)
    return sorted(messages, key=lambda message: (message.topic(), message.partition(), message.offset()))


# -- the files --------------------------------------------------------------------------------------------------
def with_schemas(messages: Sequence[Any]) -> dict[str, Any]:
    """Each text of a schema once."""
    schemas: dict[str, int] = {}

    def split(raw: bytes | None) -> list[int | str] | None:
        if raw is None:
            return None
        text = raw.decode()
        head, middle = '{"schema":', ',"payload":'
        assert text.startswith(head), text
        _, end = json.JSONDecoder().raw_decode(text, len(head))
        assert text[end:].startswith(middle), text
        return [schemas.setdefault(text[len(head) : end], len(schemas)), text[end + len(middle) : -1]]

    records = [{**place(message), "key": split(message.key()), "value": split(message.value())} for message in messages]
    return {"schemas": list(schemas), "records": records}


def as_avro(messages: Sequence[Any], registry: Registry, name: str) -> dict[str, Any]:
    """The bytes, and what is registered of these topics."""

    def text(raw: bytes | None) -> str | None:
        return None if raw is None else base64.b64encode(raw).decode()

    subjects = [s for s in registry.subjects() if s.startswith((f"{name}.", f"{name}-"))]
    versions = [registry.schema(s, v) for s in sorted(subjects) for v in registry.versions(s)]
    records = [{**place(message), "key": text(message.key()), "value": text(message.value())} for message in messages]
    return {"subjects": versions, "records": records}


def place(message: Any) -> dict[str, Any]:
    headers = [
        [name, value.decode() if len(value) and value[0] else base64.b64encode(value).decode()]
        for name, value in message.headers() or []
    ]
    return {"topic": message.topic(), "offset": message.offset(), "headers": headers}


def write(name: str, made: dict[str, Any]) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(made, indent=0, ensure_ascii=True) + "\n")
    print(name, len(made["records"]), "records")


def save(engine: str, records: dict[str, list[Any]], registry: Registry) -> None:
    """The four files of an engine."""
    for mode in MODES:
        write(f"{engine}_{mode}_schema", with_schemas(records[mode]))
        write(f"{engine}_{mode}_avro", as_avro(records[f"{mode}_avro"], registry, f"{mode}_avro"))


def record_postgres(work: Path) -> None:
    with Postgres(work / "pg") as server, Kafka(work / "kafka") as kafka, Registry(work / "registry") as registry:
        database = server.create_database("shop")
        postgres_schema(server)

        def connector(name: str) -> Connector:
            options = {"publication.name": "shop_pub", "publication.autocreate.mode": "disabled"}
            return debezium_postgres(name, server, database, **options)

        save("postgres", record(work, kafka, registry, connector, lambda: postgres_stream(server)), registry)


def record_mysql(work: Path) -> None:
    settings: dict[str, str | int] = {"default-time-zone": "+00:00"}
    with MySQL(work / "mysql", settings) as server, Kafka(work / "kafka") as kafka, Registry(work / "r") as registry:
        mysql_schema(server)
        ids = iter(range(4711, 4811))

        def connector(name: str) -> Connector:
            return {**debezium_mysql(name, server, "golden", work), "database.server.id": next(ids)}

        save("mysql", record(work, kafka, registry, connector, lambda: mysql_stream(server)), registry)


def main(engines: Sequence[str]) -> None:
    """Make the files anew."""
    for engine in engines or ("postgres", "mysql"):
        work = Path(tempfile.mkdtemp(prefix="record-"))
        work.chmod(0o755)
        print("logs:", work)
        {"postgres": record_postgres, "mysql": record_mysql}[engine](work)


if __name__ == "__main__":
    main(sys.argv[1:])
