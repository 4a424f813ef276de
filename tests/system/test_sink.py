"""The sink's loop with a real Kafka and a real target: batches, restarts, standby, a target that goes away."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pymysql
import pytest

from cdc.errors import LOG_LOST, SINK_HELD, CdcError
from cdc.event import Table
from cdc.log import Change, Chunk, Opened
from cdc.shape import schema_id
from sinks.consumer import Applied, Sink, SinkSettings
from sinks.transaction import Progress
from tests.log_writer import Event, Topics, table
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQLDatabase
from tests.servers.postgres import Database
from tests.system.cluster import Cluster, run_of
from tests.system.pipeline import wait_until
from tests.system.replica import BOTH, AnyDatabase, kept, server_of

pytestmark = pytest.mark.postgres_versions("target")

ACCOUNTS = table("public.accounts", {"id": "int4", "v": "text"}, ["id"])
NOTES = table("public.notes", {"v": "text"})


class Watcher:
    """Remembers what a sink tells."""

    def __init__(self) -> None:
        self.applications: list[Applied] = []
        self.retries: list[CdcError] = []
        self.holders: list[str] = []
        self.starts: list[Progress | None] = []
        self.signs = 0

    def standing_by(self, holder: str) -> None:
        self.holders.append(holder)

    def started(self, progress: Progress | None) -> None:
        self.starts.append(progress)

    def applied(self, applied: Applied) -> None:
        self.applications.append(applied)

    def alive(self) -> None:
        self.signs += 1

    def retry(self, error: CdcError, wait_s: float) -> None:
        assert wait_s > 0
        self.retries.append(error)

    @property
    def transactions(self) -> int:
        return sum(applied.transactions for applied in self.applications)


class Running:
    """A sink in a thread; `error` is what ended it."""

    def __init__(self, settings: SinkSettings) -> None:
        self.seen = Watcher()
        self.error: CdcError | None = None
        self._stop = threading.Event()
        self._sink = Sink(settings, self.seen)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._sink.run(self._stop.is_set)
        except CdcError as error:
            self.error = error

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self.alive


class Shop:
    """A source without a database: its log in Kafka, two tables, copied."""

    def __init__(self, prefix: str, bootstrap: str) -> None:
        self.topics = Topics(prefix)
        self.cluster = Cluster(self.topics, bootstrap)
        self.run = run_of(self.topics)
        self.schemas = tuple(self.cluster.make(ACCOUNTS, NOTES))
        self.run.start(copy="initial", opened=Opened("first", None))
        self.copy(ACCOUNTS, NOTES)

    def copy(self, *shapes: Table) -> None:
        self.commit(changes=[Change(0, s.full_name, None, schema_id(s), "copying", "copy") for s in shapes])
        for shape in shapes:
            self.commit(copy=Chunk("copy", shape.full_name, 1, None, None, "1:0/1", last=True))

    def commit(self, *events: Event, **facts: Any) -> None:
        position = f"1:0/{len(self.topics.log):X}"
        self.run.transaction(events, position=position, schemas=self.schemas, **facts)

    def transfers(self, first: int, count: int) -> None:
        """Transactions over both tables, of one row each."""
        for key in range(first, first + count):
            self.commit(insert(key), Event(NOTES, "c", after={"v": str(key)}))
        self.cluster.publish()


def insert(key: int, v: str = "") -> Event:
    return Event(ACCOUNTS, "c", after={"id": key, "v": v})


@pytest.fixture
def shop(kafka: Kafka, unique_name: str) -> Shop:
    return Shop(unique_name, kafka.bootstrap)


@pytest.fixture
def run(shop: Shop, target: AnyDatabase) -> Iterator[Callable[..., Running]]:
    """Starts sinks of the name `eu`, which end with the test."""
    running: list[Running] = []

    def start(**facts: Any) -> Running:
        given: dict[str, Any] = {"name": "eu", "server": server_of(target)} | facts
        running.append(Running(SinkSettings(source=shop.topics.prefix, kafka=shop.cluster.options, **given)))
        return running[-1]

    yield start
    for sink in running:
        sink.stop()


def count(database: AnyDatabase) -> tuple[int, int]:
    """Rows of both tables in one snapshot."""
    made = (
        "SELECT count(*) FROM information_schema.tables WHERE table_name IN ('accounts', 'notes') AND table_schema = "
    )
    if database.execute(made + ("'public'" if isinstance(database, Database) else "DATABASE()")) != [(2,)]:
        return 0, 0
    query = "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM notes)"
    ((accounts, notes),) = database.execute(query)
    return accounts, notes


def settled(database: AnyDatabase, rows: int) -> None:
    wait_until(lambda: count(database) == (rows, rows), f"{rows} rows in both tables")


def _more_than(database: AnyDatabase, rows: int) -> bool:
    return count(database) > (rows, rows)


def end_sessions(database: AnyDatabase) -> None:
    """Those of the sink."""
    if isinstance(database, Database):
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cdc sink eu'"
        )
        return
    query = "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()"
    for (session,) in database.execute(query, [database.name]):
        with suppress(pymysql.OperationalError):  # it has just gone
            database.execute(f"KILL {session}")


@BOTH
def test_applies_what_there_is_and_what_comes(shop: Shop, run: Callable[..., Running], target: AnyDatabase) -> None:
    shop.transfers(0, 50)
    sink = run()
    settled(target, 50)
    for key in range(50, 60):
        shop.transfers(key, 1)
        settled(target, key + 1)
    assert sink.seen.transactions == 63
    assert len(sink.seen.applications) <= 30
    shop.run.heartbeat(position="1:0/FFFF")
    shop.cluster.publish()
    position = f"SELECT position FROM {kept(target, 'cdc_progress')}"
    wait_until(lambda: target.execute(position) == [("1:0/FFFF",)], "the heartbeat's position")
    assert sink.seen.applications[-1].transactions == 0


@BOTH
def test_never_shows_half_a_transaction(shop: Shop, run: Callable[..., Running], target: AnyDatabase) -> None:
    run(batch_events=3)
    for first in range(0, 300, 20):
        shop.transfers(first, 20)
        accounts, notes = count(target)
        assert accounts == notes
    settled(target, 300)


def test_a_restart_goes_on_behind_the_progress(shop: Shop, run: Callable[..., Running], target: AnyDatabase) -> None:
    for first in range(0, 100, 25):
        shop.transfers(first, 25)
        sink = run()
        settled(target, first + 25)
        sink.stop()
        assert sink.error is None
        assert sink.seen.transactions == (28 if first == 0 else 25)


@BOTH
def test_a_second_process_stands_by_and_takes_over(
    shop: Shop, run: Callable[..., Running], target: AnyDatabase
) -> None:
    shop.transfers(0, 10)
    first = run()
    settled(target, 10)
    second = run()
    wait_until(lambda: bool(second.seen.holders), "the second stands by")
    # MariaDB knows no session by its name, out of the box.
    assert any(name in second.seen.holders[0] for name in ("cdc sink eu", "root"))
    impatient = run(no_wait=True)
    wait_until(lambda: not impatient.alive, "the third gives up")
    assert impatient.error is not None
    assert impatient.error.code is SINK_HELD
    first.stop()
    shop.transfers(10, 10)
    settled(target, 20)
    assert second.seen.transactions == 10


@BOTH
def test_sessions_that_the_target_ends_are_opened_again(
    shop: Shop, run: Callable[..., Running], target: AnyDatabase
) -> None:
    sink = run(batch_events=5)
    for first in range(0, 200, 100):
        shop.transfers(first, 100)
        wait_until(partial(_more_than, target, first), "the sink is at work in its sessions")
        end_sessions(target)
    settled(target, 200)
    assert sink.alive
    assert {error.code.name for error in sink.seen.retries} == {"TARGET_UNREACHABLE"}


def test_a_loss_ends_the_sink_by_name(shop: Shop, run: Callable[..., Running], target: AnyDatabase) -> None:
    shop.transfers(0, 10)
    run().stop()
    shop.cluster.expire(f"{shop.topics.prefix}.public.notes", 5)
    sink = run()
    wait_until(lambda: not sink.alive, "the sink has stopped")
    assert sink.error is not None
    assert sink.error.code is LOG_LOST
    assert count(target) == (0, 0)


@BOTH
def test_a_transaction_larger_than_a_batch_is_one_commit(
    shop: Shop, run: Callable[..., Running], target: AnyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.assemble.STREAMED_EVENTS", 50)
    monkeypatch.setattr("sinks.target.PIECE_EVENTS", 10)
    sink = run()
    shop.transfers(0, 5)
    shop.commit(*[event for key in range(5, 500) for event in (insert(key), Event(NOTES, "c", after={"v": ""}))])
    shop.transfers(500, 5)
    seen = set()
    deadline = time.monotonic() + 30
    while (rows := count(target)) != (505, 505) and time.monotonic() < deadline:
        seen.add(rows)
    assert {accounts - notes for accounts, notes in seen} == {0}
    assert {accounts for accounts, _ in seen} <= {0, *range(6), *range(500, 505)}
    settled(target, 505)
    assert sink.error is None
    # A sign of life behind each piece, and not only when all of it is applied.
    assert sink.seen.signs >= 99


@pytest.mark.parametrize("target_engine", ["mysql"], indirect=True)
def test_a_target_that_is_killed_and_frozen_loses_nothing(
    shop: Shop, run: Callable[..., Running], target: MySQLDatabase
) -> None:
    sink = run(batch_events=5)
    shop.transfers(0, 100)
    wait_until(lambda: bool(sink.seen.applications), "a first batch")
    target.server.kill9()
    shop.transfers(100, 50)
    target.server.start()
    target.server.pause()
    shop.transfers(150, 50)
    target.server.cont()
    settled(target, 200)
    assert sink.alive
    assert {error.code.name for error in sink.seen.retries} == {"TARGET_UNREACHABLE"}
    assert target.execute("SELECT COUNT(DISTINCT id) FROM accounts") == [(200,)]
