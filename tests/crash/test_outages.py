"""Kafka or the replica away for longer than every client waits: the processes wait in little memory, then go on."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.servers.process import Process
from tests.servers.proxy import Proxy
from tests.system.pipeline import Pipeline

RSS_MAX = 300 << 20
AWAY_S = 40
SHORT = {"socket.timeout.ms": "5000", "socket.connection.setup.timeout.ms": "5000", "reconnect.backoff.max.ms": "1000"}


@contextmanager
def memory_bounded(*processes: Process) -> Iterator[None]:
    """Sampled each second; an AssertionError at the end if one went above."""
    peaks = dict.fromkeys(processes, 0)
    done = threading.Event()

    def sample() -> None:
        while not done.wait(1):
            for process in processes:
                if process.running:
                    peaks[process] = max(peaks[process], process.rss())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield
    finally:
        done.set()
        sampler.join()
    assert all(peaks.values()), "sampled"
    assert max(peaks.values()) <= RSS_MAX


def change_much(pipeline: Pipeline) -> None:
    """About 200 MB of events, more than any buffer of ours holds."""
    pipeline.source.execute("UPDATE accounts SET notes = repeat(md5(random()::text), 300)")
    for number in range(20):
        pipeline.source.execute(
            "INSERT INTO accounts SELECT i, 'many', 1, repeat(md5(i::text), 30) "
            "FROM generate_series(%s::int, %s::int) i",
            [10_000 * (number + 1), 10_000 * (number + 1) + 9_999],
        )


def test_kafka_away(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, kafka_proxy: Proxy
) -> None:
    database.execute(SHOP)
    pipeline = Pipeline(tmp_path, database, target_database, kafka.proxied_bootstrap, kafka_options=SHORT)
    pipeline.publish()
    with pipeline.source_running() as source, pipeline.sink_running() as sink:
        pipeline.wait_caught_up()
        with memory_bounded(source, sink):
            kafka_proxy.cut()
            change_much(pipeline)
            time.sleep(AWAY_S)
            assert source.running
            assert sink.running
            kafka_proxy.restore()
            pipeline.wait_caught_up(120)
        pipeline.assert_equal()
        assert "KAFKA_STALLED" in source.log.read_text()


def test_a_fast_shutdown_of_the_source_is_not_held_up_while_kafka_is_away(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, kafka_proxy: Proxy
) -> None:
    """CORRECTNESS 9: the walsender waits for a client that cannot acknowledge, so ours leaves."""
    database.execute(SHOP)
    pipeline = Pipeline(tmp_path, database, target_database, kafka.proxied_bootstrap, kafka_options=SHORT)
    pipeline.publish()
    with pipeline.source_running() as source, pipeline.sink_running():
        pipeline.wait_caught_up()
        kafka_proxy.cut()
        database.execute("UPDATE accounts SET balance = balance + 1")
        time.sleep(AWAY_S)
        began = time.monotonic()
        database.server.restart("fast")
        assert time.monotonic() - began < 20
        assert source.running
        kafka_proxy.restore()
        pipeline.wait_caught_up(90)
        pipeline.assert_equal()


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_the_replica_away(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, how: str
) -> None:
    database.execute(SHOP)
    with Proxy(target_database.server.port) as proxy:
        pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap, target_port=proxy.port)
        pipeline.publish()
        with pipeline.source_running(), pipeline.sink_running() as sink:
            pipeline.wait_caught_up()
            with memory_bounded(sink):
                proxy.cut() if how == "cut" else proxy.stall()
                change_much(pipeline)
                time.sleep(15)
                assert sink.running
                proxy.restore()
                pipeline.wait_caught_up(120)
            pipeline.assert_equal()
