"""Debezium's JDBC sink: UNNEST, upsert, deletes, reduction buffer, batches that its consumer can deliver.

It reads a topic that Debezium wrote with schemas, which it needs, and drains the first `SAMPLE` changes of
it: the rounds of a workload are all alike, and at its pace the whole would take minutes.
"""

from tests.bench import connect, topics
from tests.bench.contender import Task, create_slot
from tests.bench.measure import Drain, watch
from tests.bench.peer_debezium import running
from tests.bench.workload import TABLE, Milestones, create_table

SAMPLE = 100_000
BATCH = 5_000


class JdbcSink:
    """Kafka → target table."""

    name = "jdbc"

    def __init__(self) -> None:
        self._topics: dict[str, str] = {}

    def prepare(self, task: Task) -> None:
        """See `Contender`; one topic serves all runs."""
        if task.workload.name not in self._topics:
            self._topics[task.workload.name] = f"{task.name('schemas')}.public.{TABLE}"
            create_slot(task, task.name("schemas"))

    def drain(self, task: Task, milestones: Milestones) -> Drain:
        """See `Contender`."""
        del milestones
        workload, bench, name = task.workload, task.bench, task.name(self.name)
        sample = min(SAMPLE, workload.events)
        topic = self._topics[workload.name]
        self._fill(task, topic, sample)
        target = bench.target.create_database(name)
        create_table(target)
        connector = _connector(task, name, topic)
        running_sink = connect.running(bench.directory / name, bench.kafka.bootstrap, connector, schemas=True)
        with running_sink as sink, target.connect() as connection:

            def arrived() -> float:
                newest = connection.execute(f"SELECT coalesce(max(id), 0) FROM {TABLE}".encode()).fetchall()[0][0]
                return float(newest / workload.inserts * workload.events_per_round)

            drain = watch(
                self.name,
                workload.name,
                task.run,
                events=sample,
                arrived=arrived,
                pids=sink.process.family,
                explain=sink.explain,
            )
        target.drop()
        return drain

    def _fill(self, task: Task, topic: str, sample: int) -> None:
        rows = topics.counter(task.bench.kafka.bootstrap, topic)
        enough = sample * 1.2 * task.workload.records / task.workload.events
        if rows() >= min(enough, task.workload.records):
            return
        with running(task, topic.removesuffix(f".public.{TABLE}"), {}, schemas=True) as worker:
            watch(
                "schemas",
                task.workload.name,
                task.run,
                events=min(round(enough), task.workload.records),
                arrived=rows,
                pids=worker.process.family,
                explain=worker.explain,
            )


def _connector(task: Task, name: str, topic: str) -> dict[str, str | int]:
    target = task.bench.target
    return {
        "name": name,
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": 1,
        "topics": topic,
        "connection.url": f"jdbc:postgresql://127.0.0.1:{target.port}/{name}",
        "connection.username": "postgres",
        "connection.password": target.password,
        "collection.name.format": TABLE,
        "insert.mode": "upsert",
        "delete.enabled": "true",
        "primary.key.mode": "record_key",
        "schema.evolution": "none",
        "use.reduction.buffer": "true",
        "dialect.postgres.unnest.insert.enabled": "true",
        "batch.size": BATCH,
        "consumer.override.auto.offset.reset": "earliest",
        "consumer.override.max.poll.records": BATCH,
        "consumer.override.fetch.min.bytes": 1 << 20,
        "consumer.override.max.partition.fetch.bytes": 64 << 20,
        "consumer.override.fetch.max.bytes": 64 << 20,
    }
