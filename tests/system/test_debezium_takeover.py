"""`cdc source run` goes on where a real Debezium connector was stopped under load: its slot, publication and topics."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from cdc.position import parse_position
from sinks.decode import Decoder
from tests.servers.connect import JSON, LOSSLESS, Connect, Properties, avro
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQLDatabase
from tests.servers.registry import Registry
from tests.system.ends import AnyDatabase
from tests.system.pipeline import AnyPipeline, wait_until
from tests.system.test_debezium import SOURCE, Bank, connector_of, streams

MATRIX = pytest.mark.matrix
Key = bytes


class Consumed:
    """Every record of a bank's topics, as anybody's consumer sees it."""

    def __init__(self, bootstrap: str, prefix: str, registry: Registry) -> None:
        schemas: dict[int, Any] = {}

        def schema_of(number: int) -> Any:
            if number not in schemas:
                schemas[number] = registry.by_id(number)
            return schemas[number]

        decoder = Decoder(schema_of)
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "anybody", "enable.auto.commit": False})
        topics = consumer.list_topics(timeout=10).topics
        mine = [topic for topic in topics if re.fullmatch(rf"{prefix}\.\w+\.(accounts|ledger|totals)", topic)]
        places = [TopicPartition(topic, partition, 0) for topic in mine for partition in topics[topic].partitions]
        count = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        consumer.assign(places)
        self.last: dict[str, dict[Key, Any]] = {}
        self.partitions: dict[tuple[str, Key], set[int]] = {}
        self.seen: dict[str, set[Any]] = {}
        self.writers: set[str] = set()
        for _ in range(count):
            record = consumer.poll(10)
            assert record is not None
            assert record.error() is None
            table, key, value = str(record.topic()).rpartition(".")[2], record.key() or b"", record.value()
            self.partitions.setdefault((table, key), set()).add(record.partition() or 0)
            after = None
            if value is not None:
                event = decoder.value(value, "t")
                after = event["after"]
                self.writers.add(event["source"]["version"])
            if after is None:
                self.last.setdefault(table, {}).pop(key, None)
            else:
                rows, unchanged = self.last.setdefault(table, {}), "__debezium_unavailable_value"
                old = rows.get(key, {})
                rows[key] = {name: old.get(name) if v == unchanged else v for name, v in after.items()}
                self.seen.setdefault(table, set()).add(after["transfers"] if table == "totals" else after["id"])
        consumer.close()


@pytest.mark.parametrize(
    ("engine", "format_", "types"),
    [
        ("postgres", "json", "exact"),
        pytest.param("postgres", "avro", "debezium", marks=MATRIX),
        pytest.param("mysql", "avro", "exact", marks=MATRIX),
        pytest.param("mariadb", "json", "exact", marks=MATRIX),
    ],
)
def test_nothing_is_lost_and_the_order_of_each_key_is_kept(  # noqa: PLR0917 - it names every server
    request: pytest.FixtureRequest, begin: Callable[[Properties], None], connect: Connect, kafka: Kafka,
    registry: Registry, unique_name: str, tmp_path: Path, engine: str, format_: str, types: str,
) -> None:  # fmt: skip
    database: AnyDatabase = request.getfixturevalue(SOURCE[engine])
    bank = Bank(database, engine, moving=False)
    connector = connector_of(database, unique_name, tmp_path)
    connector |= {**(LOSSLESS if types == "exact" else {}), **(avro(registry) if format_ == "avro" else JSON)}
    begin(connector)
    with bank.working():
        wait_until(lambda: bank.transfers > 100 and streams(connect, unique_name), "work, and a place in it", 120)
        connect.stop_connector(unique_name)
        options: dict[str, Any] = {"snapshot": "never", "format": format_, "types": types, "topic_prefix": unique_name}
        if isinstance(database, MySQLDatabase):
            (place,) = connect.offsets(unique_name)
            options |= {"begin_after": place["offset"]["gtids"]}
        else:
            options |= {"slot": unique_name, "publication": unique_name}
        pipeline = AnyPipeline(
            tmp_path, database, database, kafka.bootstrap, source_options=options, name=unique_name,
            registry=registry.url,
        )  # fmt: skip
        if engine != "postgres":
            pipeline.publish()
        if engine == "postgres":
            as_admin = {"PGPASSWORD": database.server.password}
            for command in (["setup", "--admin-url", database.url()], ["check"]):
                done = pipeline.run(*command, f"source.{unique_name}", env=as_admin)
                assert done.wait(60) == 0, done.tail()
        at = bank.transfers
        with pipeline.source_running() as source:
            wait_until(lambda: bank.transfers > at + 100 or not source.running, "more work")
            assert source.running, source.tail()
    with pipeline.source_running():  # a start like any other
        now = pipeline.from_.now()
        ends = pipeline.valid_ends
        wait_until(lambda: any(parse_position(end.position) >= now for end in ends()), "the end of the work")
    consumed = Consumed(kafka.bootstrap, unique_name, registry)
    assert len(consumed.writers) == 2
    assert {key: found for key, found in consumed.partitions.items() if len(found) > 1} == {}
    assert consumed.seen["ledger"] == set(range(1, bank.transfers + 1))
    assert set(range(bank.transfers // 2, bank.transfers + 1)) <= consumed.seen["totals"]
    for table in ("accounts", "ledger", "totals"):
        wanted = database.execute(f"SELECT id FROM {table}")
        assert sorted(row["id"] for row in consumed.last[table].values()) == sorted(row[0] for row in wanted)
    notes: dict[int, str] = dict(database.execute("SELECT id, note FROM accounts"))
    assert {row["id"]: row["note"] for row in consumed.last["accounts"].values()} == notes
    if types == "exact":
        balances = {id_: str(balance) for id_, balance in database.execute("SELECT id, balance FROM accounts")}
        assert {row["id"]: row["balance"] for row in consumed.last["accounts"].values()} == balances
