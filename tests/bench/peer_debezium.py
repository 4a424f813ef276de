"""Debezium's Postgres connector, set for throughput.

It writes what our source writes: the lossless modes, JSON without schemas, tombstones; BEGIN and END for the
single-row transactions. In the mixed workload it is spared them, and always the headers that we do not write
(`extended.headers.enabled`, on by default), which take about a fifth of its CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench import connect, topics
from tests.bench.contender import Task, create_slot, expect
from tests.bench.measure import Drain, watch
from tests.bench.workload import PUBLICATION, SINGLE, TABLE, Milestones
from tests.servers.connect import Connect

LOSSLESS = {
    "decimal.handling.mode": "string",
    "time.precision.mode": "isostring",
    "interval.handling.mode": "string",
}
NO_CONTEXT_HEADERS = {"extended.headers.enabled": "false"}


class Debezium:
    """Source log → Kafka."""

    name = "debezium"

    def prepare(self, task: Task) -> None:
        """See `Contender`."""
        create_slot(task, task.name(self.name))

    def drain(self, task: Task, milestones: Milestones) -> Drain:
        """See `Contender`."""
        del milestones
        workload, prefix = task.workload, task.name(self.name)
        with_transactions = workload.name == SINGLE.name
        options = {**LOSSLESS, **NO_CONTEXT_HEADERS, "provide.transaction.metadata": str(with_transactions).lower()}
        with running(task, prefix, options) as worker:
            rows = topics.counter(task.bench.kafka.bootstrap, f"{prefix}.public.{TABLE}")
            drain = watch(
                self.name,
                workload.name,
                task.run,
                events=workload.events,
                arrived=lambda: workload.events_of_records(rows()),
                pids=worker.process.family,
                explain=worker.explain,
            )
            ends = topics.counter(task.bench.kafka.bootstrap, f"{prefix}.transaction")
            transactions = 2 * workload.transactions if with_transactions else 0
            expect(
                f"records and transactions of {prefix}",
                lambda: (rows(), min(ends(), transactions)),
                (workload.records, transactions),
                worker.explain,
            )
        return drain


@contextmanager
def running(task: Task, prefix: str, options: dict[str, str], *, schemas: bool = False) -> Iterator[Connect]:
    """The connector on the slot named like the prefix; topics are made first, with one partition."""
    bench = task.bench
    topics.create(bench.kafka.bootstrap, f"{prefix}.public.{TABLE}", f"{prefix}.transaction")
    connector: dict[str, str | int] = {
        "name": prefix,
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": 1,
        "database.hostname": "127.0.0.1",
        "database.port": bench.source.port,
        "database.user": "postgres",
        "database.password": bench.source.password,
        "database.dbname": task.database.name,
        "topic.prefix": prefix,
        "plugin.name": "pgoutput",
        "slot.name": prefix,
        "publication.name": PUBLICATION,
        "publication.autocreate.mode": "disabled",
        "table.include.list": f"public.{TABLE}",
        "snapshot.mode": "no_data",
        "message.prefix.exclude.list": ".*",  # our source's heartbeats
        "max.batch.size": 8192,
        "max.queue.size": 32768,
        **options,
    }
    with connect.running(bench.directory / prefix, bench.kafka.bootstrap, connector, schemas=schemas) as worker:
        yield worker
