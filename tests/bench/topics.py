"""Topics of a benchmark: made, watched, deleted."""

from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

GIB = 1 << 30
Count = Callable[[], int]


def create(bootstrap: str, *topics: str) -> None:
    """One partition each: a peer's best case for batching, and order over the whole topic."""
    config = {"segment.bytes": str(GIB), "retention.ms": "-1"}
    made = [NewTopic(topic, 1, 1, config=config) for topic in topics]
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})  # its futures die with it
    for future in admin.create_topics(made).values():
        future.result()


def delete(bootstrap: str, prefixes: Sequence[str]) -> None:
    """All topics whose names start with one of the prefixes."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    doomed = [topic for topic in admin.list_topics(timeout=10).topics if topic.startswith(tuple(prefixes))]
    if doomed:
        for future in admin.delete_topics(doomed).values():
            future.result()


def counter(bootstrap: str, topic: str) -> Count:
    """A function that tells how many records a topic holds; 0 before it exists."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    partitions: list[TopicPartition] = []

    def count() -> int:
        if not partitions:
            known = consumer.list_topics(timeout=10).topics.get(topic)
            partitions.extend(TopicPartition(topic, p) for p in (known.partitions if known else ()))
        marks = [consumer.get_watermark_offsets(partition, timeout=10) for partition in partitions]
        return sum(high - low for low, high in marks)

    return count
