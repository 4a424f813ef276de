"""Kafka or the replica away for longer than every client waits: the processes wait in little memory, then go on."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQL, MySQLDatabase
from tests.servers.postgres import Database
from tests.servers.process import Process
from tests.servers.proxy import Proxy
from tests.system.pipeline import AnyPipeline, Pipeline

BOTH = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)
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


def change_much(pipeline: AnyPipeline) -> None:
    """About 100 MB of events, more than any buffer of ours holds."""
    if isinstance(pipeline.source, MySQLDatabase):
        depth = "cte_max_recursion_depth" if pipeline.source.server.kind == "MySQL" else "max_recursive_iterations"
        pipeline.source.execute("UPDATE accounts SET notes = REPEAT(MD5(RAND()), 300)")
        for number in range(9):
            pipeline.source.execute(
                f"SET SESSION {depth} = 10000; INSERT INTO accounts WITH RECURSIVE n(i) AS "
                f"(SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) SELECT i + {10_000 * (number + 1)}, 'many', "
                "1, REPEAT(MD5(i), 30), NULL FROM n"
            )
        return
    pipeline.source.execute("UPDATE accounts SET notes = repeat(md5(random()::text), 300)")
    for number in range(9):
        pipeline.source.execute(
            "INSERT INTO accounts SELECT i, 'many', 1, repeat(md5(i::text), 30) "
            "FROM generate_series(%s::int, %s::int) i",
            [10_000 * (number + 1), 10_000 * (number + 1) + 9_999],
        )


@contextmanager
def running(*pipelines: AnyPipeline) -> Iterator[list[Process]]:
    """Sources and sinks, caught up."""
    with ExitStack() as stack:
        processes = []
        for pipeline in pipelines:
            processes += [stack.enter_context(pipeline.source_running()), stack.enter_context(pipeline.sink_running())]
        for pipeline in pipelines:
            pipeline.wait_caught_up()
        yield processes


@BOTH
def test_kafka_away(
    tmp_path: Path, database: Database, target_database: Database, make_shop: Callable[..., AnyPipeline],
    kafka: Kafka, kafka_proxy: Proxy,
) -> None:  # fmt: skip
    """Of both engines. CORRECTNESS 9: Postgres' walsender waits for one that cannot acknowledge, so ours leaves."""
    database.execute(SHOP)
    one = Pipeline(tmp_path, database, target_database, kafka.proxied_bootstrap, kafka_options=SHORT)
    one.publish()
    two = make_shop("mysql", "mysql", bootstrap=kafka.proxied_bootstrap, kafka_options=SHORT, name=f"my{one.name}")
    with running(one, two) as processes:
        with memory_bounded(*processes):
            kafka_proxy.cut()
            change_much(one)
            change_much(two)
            time.sleep(AWAY_S)
            began = time.monotonic()
            database.server.restart("fast")
            assert time.monotonic() - began < 20
            assert all(process.running for process in processes)
            kafka_proxy.restore()
            one.wait_caught_up(120)
            two.wait_caught_up(120)
        one.assert_equal()
        two.assert_equal()
        assert all("KAFKA_STALLED" in source.log.read_text() for source in processes[::2])


@BOTH
@pytest.mark.matrix
def test_the_replica_away(
    tmp_path: Path, database: Database, target_database: Database, make_shop: Callable[..., AnyPipeline], kafka: Kafka,
    mysql_target: MySQL,
) -> None:  # fmt: skip
    """Of both engines: its connections are cut, later it falls silent."""
    database.execute(SHOP)
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(server.port)) for server in (target_database.server, mysql_target)]
        one = Pipeline(tmp_path, database, target_database, kafka.bootstrap, target_port=proxies[0].port)
        one.publish()
        two = make_shop("mysql", "mysql", target_port=proxies[1].port, name=f"my{one.name}")
        with running(one, two) as processes:
            sinks = processes[1::2]
            with memory_bounded(*sinks):
                for away in (Proxy.cut, Proxy.stall):
                    for each in proxies:
                        away(each)
                    if away is Proxy.cut:
                        change_much(one)
                        change_much(two)
                    else:
                        one.source.execute("UPDATE accounts SET balance = balance + 1")
                        two.source.execute("UPDATE accounts SET balance = balance + 1")
                    time.sleep(7)
                    assert all(sink.running for sink in sinks)
                    for each in proxies:
                        each.restore()
                one.wait_caught_up(120)
                two.wait_caught_up(120)
            one.assert_equal()
            two.assert_equal()
