"""Real Debezium connectors under load, and our sink on what they write: whole transactions, then the source's rows."""

import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from cdc.errors import DEBEZIUM_GONE, CdcError
from sinks.debezium.reader import DebeziumReader
from tests.servers.connect import (
    JSON,
    JSON_WITH_SCHEMA,
    LOSSLESS,
    Connect,
    Properties,
    avro,
    debezium_mysql,
    debezium_postgres,
)
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQLDatabase
from tests.servers.postgres import Database
from tests.servers.process import Process
from tests.servers.registry import Registry
from tests.system.ends import AnyDatabase
from tests.system.pipeline import CDC, wait_until

BANK = """
CREATE TABLE accounts (id int PRIMARY KEY, balance numeric(12,2) NOT NULL, note varchar(6000), opened date NOT NULL);
CREATE TABLE ledger (id bigint PRIMARY KEY, account int NOT NULL, amount numeric(12,2) NOT NULL, at {moment});
CREATE TABLE totals (id int PRIMARY KEY, amount numeric(12,2) NOT NULL, transfers int NOT NULL);
INSERT INTO totals VALUES (1, 0, 0);
"""
ACCOUNTS = 40
MOMENT = {"postgres": "timestamptz", "mysql": "timestamp(6) NULL", "mariadb": "timestamp(6) NULL"}
SOURCE = {"postgres": "database", "mysql": "mysql_database", "mariadb": "mariadb_database"}
"""Fixtures."""
MATRIX = pytest.mark.matrix
NOT_YET = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.DeadlockDetected)
"""Of a reading while the tables are being made or emptied."""
READING = """
SELECT (SELECT sum(balance) FROM {0}.accounts), (SELECT sum(amount) FROM {0}.ledger), amount, transfers,
  (SELECT count(*) FROM {0}.ledger) FROM {0}.totals
"""


class Bank:
    """A source under load: each transfer is a transaction over three tables, whose sums tell whether it is whole."""

    def __init__(self, database: AnyDatabase, engine: str, *, moving: bool = True) -> None:
        self.database, self.engine, self._moving = database, engine, moving
        self.schema = "public" if engine == "postgres" else database.name
        for statement in BANK.format(moment=MOMENT[engine]).strip().split(";")[:-1]:
            database.execute(statement)
        for id_ in range(ACCOUNTS):
            database.execute(
                f"INSERT INTO accounts VALUES ({id_}, 100, '{random.randbytes(2500).hex()}', '2024-02-29')"
            )
        self.transfers = 0
        self._stop = threading.Event()

    def transfer(self) -> None:
        self.transfers += 1
        giver, taker = random.sample(range(ACCOUNTS), 2)
        amount = random.randint(1, 999) / 100
        statements = [
            f"UPDATE accounts SET balance = balance - {amount} WHERE id = {giver}",
            f"UPDATE accounts SET balance = balance + {amount} WHERE id = {taker}",
            f"INSERT INTO ledger VALUES ({self.transfers}, {giver}, {amount}, CURRENT_TIMESTAMP)",
            f"UPDATE totals SET amount = amount + {amount}, transfers = transfers + 1",
        ]
        if (
            self._moving and self.transfers % 10 == 0
        ):  # a key that moves with a row whose note is not sent, and comes back
            moved = [f"UPDATE accounts SET id = {1000 + giver} WHERE id = {giver}"]
            statements += [*moved, f"UPDATE accounts SET id = {giver} WHERE id = {1000 + giver}"]
        begin = "BEGIN" if self.engine == "postgres" else "START TRANSACTION"
        self.database.execute("; ".join([begin, *statements, "COMMIT"]))

    @contextmanager
    def working(self) -> Iterator[None]:
        def work() -> None:
            while not self._stop.wait(0.02):
                self.transfer()

        self._stop.clear()
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


class Replica:
    """A sink of what the connector of this name writes."""

    def __init__(self, directory: Path, name: str, kafka: Kafka, registry: Registry | None, target: Database) -> None:
        self.target, self._directory, self._started = target, directory, 0
        lines = [
            "[kafka]", f'bootstrap_servers = "{kafka.bootstrap}"',
            *(["[registry]", f'url = "{registry.url}"'] if registry else []),
            f"[debezium.{name}]",
            "[sink.eu]", f'source = "{name}"', f'url = "{target.url()}"', 'password = "${TARGET_PASSWORD}"',
        ]  # fmt: skip
        (directory / "cdc.toml").write_text("\n".join(lines))

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "CDC_CONFIG": str(self._directory / "cdc.toml"),
            "TARGET_PASSWORD": self.target.server.password, "PGPASSWORD": self.target.server.password,
        }  # fmt: skip

    def prepare(self, schema: str) -> None:
        """The tables, as somebody made them."""
        self.target.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'.encode())
        tables = BANK.format(moment="timestamptz").rpartition("INSERT")[0]
        self.target.execute(f'SET search_path = "{schema}"; {tables}'.encode())

    @contextmanager
    def running(self) -> Iterator[Process]:
        self._started += 1
        log = self._directory / f"sink-{self._started}.log"
        process = Process([str(CDC), "sink", "run", "eu"], log, env=self.environment)
        try:
            yield process
        except AssertionError as error:
            error.add_note(process.tail())
            raise
        finally:
            if process.running:
                process.kill9()

    def command(self, *arguments: str) -> str:
        """`cdc …` to its good end, and what it said."""
        self._started += 1
        log = self._directory / f"{self._started}-{arguments[0]}.log"
        done = Process([str(CDC), *arguments], log, env=self.environment)
        assert done.wait(60) == 0, done.tail()
        return log.read_text()

    def status(self) -> dict[str, Any]:
        (sink,) = json.loads(self.command("status", "--json"))["sinks"]
        return dict(sink)

    def reading(self, schema: str) -> tuple[Any, ...] | None:
        """None before there is anything."""
        try:
            return self.target.execute(READING.format(schema).encode())[0]
        except (*NOT_YET, IndexError):
            return None


class Watch:
    """Reads the replica all the time: no reading may see half a transfer."""

    def __init__(self, replica: Replica, schema: str) -> None:
        self._replica, self._schema = replica, schema
        self.readings = 0
        self.halves: list[Any] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            reading = self._replica.reading(self._schema)
            if reading is None or reading[0] is None:
                continue
            balance, ledger, amount, transfers, entries = reading
            self.readings += 1
            if (ledger or 0) != amount or transfers != entries or balance != 100 * ACCOUNTS:
                self.halves.append(reading)


def rows(database: AnyDatabase, schema: str) -> list[Any]:
    columns = ("id, balance, note, opened", "id, account, amount", "id, amount, transfers")
    tables = zip(("accounts", "ledger", "totals"), columns, strict=True)
    return [sorted(database.execute(f"SELECT {names} FROM {schema}.{table}")) for table, names in tables]


@pytest.mark.parametrize(
    ("engine", "converter", "modes"),
    [
        ("postgres", "avro", {}),
        pytest.param("postgres", "json", LOSSLESS, marks=MATRIX),
        pytest.param("mysql", "avro", LOSSLESS, marks=MATRIX),
        pytest.param("mysql", "json", {}, marks=MATRIX),
        pytest.param("mariadb", "avro", {}, marks=MATRIX),
        pytest.param("mariadb", "json", LOSSLESS, marks=MATRIX),
    ],
)
def test_a_sink_of_debeziums_topics_holds_whole_transactions_and_converges(  # noqa: PLR0917 - it names every server
    request: pytest.FixtureRequest, begin: Callable[[Properties], None], connect: Connect, kafka: Kafka,
    registry: Registry, target_database: Database, unique_name: str, tmp_path: Path, engine: str, converter: str,
    modes: dict[str, str],
) -> None:  # fmt: skip
    database: AnyDatabase = request.getfixturevalue(SOURCE[engine])
    bank = Bank(database, engine)
    connector = connector_of(database, unique_name, tmp_path)
    connector |= {**modes, **(avro(registry) if converter == "avro" else JSON_WITH_SCHEMA)}
    begin(connector)
    replica = Replica(tmp_path, unique_name, kafka, registry if converter == "avro" else None, target_database)
    if engine == "postgres":
        assert "cdc_progress" in replica.command("setup", "eu", "--dry-run", "--admin-url", target_database.url())
        assert "FAIL" not in replica.command("check", "eu")
    if modes:  # in which decimals are texts: tables that are there keep their types
        replica.prepare(bank.schema)
    with bank.working():
        with replica.running() as sink:
            wait_until(lambda: (replica.reading(bank.schema) or (0, 0, 0, 0))[3] > 20, "the first transfers", 120)
            with Watch(replica, bank.schema) as first:
                wait_until(lambda: first.readings > 50 and streams(connect, unique_name), "readings", 120)
                sink.kill9()
        with replica.running(), Watch(replica, bank.schema) as second:
            connect.kill9()  # what it does not know to be written, it writes again
            connect.start()
            begin(connector)
            at = bank.transfers
            wait_until(lambda: (replica.reading(bank.schema) or (0, 0, 0, 0))[3] > at, "transfers behind the kill", 180)
            status = replica.status()
    with replica.running():
        wait_until(
            lambda: (replica.reading(bank.schema) or (0, 0, 0, 0))[3] == bank.transfers, "the last transfer", 180
        )
    assert first.halves == []
    assert second.halves == []
    assert second.readings > 50
    assert rows(target_database, bank.schema) == rows(database, bank.schema)
    assert (status["state"], status["copying"]) == ("applying", [])
    assert "no gap is detected" in status["promise"]


def streams(connect: Connect, name: str) -> bool:
    """Whether the connector's place is in a transaction: its copy is behind it."""
    return any("transaction_id" in place["offset"] for place in connect.offsets(name))


def connector_of(database: AnyDatabase, name: str, directory: Path) -> dict[str, str | int]:
    if isinstance(database, MySQLDatabase):
        return debezium_mysql(name, database.server, database.name, directory)
    return debezium_postgres(name, database.server, database)


def test_status_says_that_the_connector_has_no_topics(
    kafka: Kafka, target_database: Database, unique_name: str, tmp_path: Path
) -> None:
    status = Replica(tmp_path, unique_name, kafka, None, target_database).status()
    assert f"topic {unique_name}.transaction is not there" in status["problem"]
    assert status["known_divergence"] is None


def test_what_cannot_be_followed_stops_the_sink_by_name(
    begin: Callable[[Properties], None], kafka: Kafka, database: Database, target_database: Database,
    unique_name: str, tmp_path: Path,
) -> None:  # fmt: skip
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    begin({**connector_of(database, unique_name, tmp_path), **JSON})
    with Replica(tmp_path, unique_name, kafka, None, target_database).running() as sink:
        assert sink.wait(60) == 5
        assert "DEBEZIUM_RECORD" in sink.tail()
        assert "schemas.enable=true" in sink.tail()


def test_topics_whose_beginning_is_gone_are_not_begun(kafka: Kafka, unique_name: str) -> None:
    topic, admin = f"{unique_name}.public.t", AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for _ in range(2):
        producer.produce(topic, b"{}", b"{}")
    producer.flush(20)
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 1)]).values()
    deleted.result(20)
    with DebeziumReader(
        {"bootstrap.servers": kafka.bootstrap}, prefix=unique_name, after=None, known={},
        at_target=lambda _schema, _name: None, client="test",
    ) as reader, pytest.raises(CdcError) as refused:  # fmt: skip
        reader.poll(30)
    assert refused.value.code is DEBEZIUM_GONE
