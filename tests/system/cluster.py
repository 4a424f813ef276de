"""What `tests.log_writer` wrote in memory, brought into a real Kafka: same partitions, same offsets.

In: `Topics`. Out: topics as a source makes them, and, with `publish`, the records that are new since the last time.
"""

import time
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from cdc.event import Table
from cdc.kafka_admin import Admin
from cdc.shape import SchemaRecord, schema_id
from cdc.topics import log_topic, row_topic, shape_topic
from tests.log_writer import Partition, Run, Topics

NO_COMPACTION = {"cleanup.policy": "delete"}


@dataclass
class Cluster:
    """One prefix in one broker. `options` are what a reader needs."""

    topics: Topics
    bootstrap: str

    def __post_init__(self) -> None:
        self.options = {"bootstrap.servers": self.bootstrap}
        self.admin = Admin(self.options)
        self._client = AdminClient({"bootstrap.servers": self.bootstrap})
        self._producer = Producer({**self.options, "linger.ms": 0, "enable.idempotence": True})
        self._published: dict[Partition, int] = {}
        self._known: set[str] = set()

    def make(self, *shapes: Table) -> list[tuple[str, int]]:
        """The topics, and a record of each shape: what an END lists as `schemas`."""
        prefix = self.topics.prefix
        for name in (log_topic(prefix), shape_topic(prefix)):
            self.admin.create(name, partitions=1, replicas=1, config=NO_COMPACTION)
        return [self.remember(shape) for shape in shapes]

    def remember(self, shape: Table) -> tuple[str, int]:
        """Make the row topic of a shape, if it is not there, and append its schema record."""
        topic = row_topic(self.topics.prefix, shape.schema, shape.name)
        self.admin.create(topic, partitions=self.topics.partitions, replicas=1, config=NO_COMPACTION)
        while topic not in (found := self.admin.describe([topic])):
            time.sleep(0.05)  # the broker that made it has not told itself yet
        record = SchemaRecord(schema_id(shape), shape, "a" * 16, 1, 1, topic, found[topic].id)
        value = record.to_bytes(source={}, ts_ms=0, database="shop")
        return record.schema_id, self.topics.append((shape_topic(self.topics.prefix), 0), None, value)

    def publish(self, *, rows: bool = True) -> None:
        """Send what is new; without `rows` only the log and the shapes."""
        own = log_topic(self.topics.prefix), shape_topic(self.topics.prefix)
        for partition, records in self.topics.records.items():
            if partition[0] in own or rows:
                for key, value in records[self._published.get(partition, 0) :]:
                    self._producer.produce(partition[0], value, key, partition[1])
                self._published[partition] = len(records)
        assert self._producer.flush(30) == 0

    def forget(self, partition: Partition) -> None:
        """The topic was made anew: its offsets begin again."""
        self.topics.records[partition] = []
        self._published[partition] = 0

    def expire(self, topic: str, before: int, partition: int = 0) -> None:
        """Remove records as retention does."""
        futures = self._client.delete_records([TopicPartition(topic, partition, before)])
        for future in futures.values():
            future.result()

    def delete(self, topic: str) -> None:
        self.admin.delete([topic])

    def alter(self, topic: str, **config: str) -> None:
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for future in self._client.incremental_alter_configs([resource]).values():
            future.result()


def run_of(topics: Topics, letter: str = "a", **facts: Any) -> Run:
    return Run(topics, letter * 16, **facts)
