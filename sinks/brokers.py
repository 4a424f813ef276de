"""What a reader asks the brokers: whether topics are what the log says they are, and where runs began.

In: topic names with the ids that shape records remember. Out: descriptions, and every START of a log.
Refuses: a topic that is missing, made anew, compacted, or has partitions that its kind does not have (TOPIC_…).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cdc.errors import TOPIC_COMPACTED, TOPIC_MISSING, TOPIC_PARTITIONS, TOPIC_REPLACED, CdcError
from cdc.kafka import Reader
from cdc.kafka_admin import Admin, Topic
from cdc.log import Start
from cdc.logparse import parse
from cdc.topics import log_topic

_BLOCK = 20_000


def check_rows(admin: Admin, source: str, names: Sequence[str], ids: Mapping[str, str]) -> None:
    """Row topics; `ids` are those known by name, foreign messages have none."""
    topics = admin.describe(names)
    for name in names:
        topic, known = topics.get(name), ids.get(name)
        if topic is None:
            raise CdcError(TOPIC_MISSING, source=source, topic=name)
        if known is not None and topic.id != known:
            raise CdcError(TOPIC_REPLACED, source=source, topic=name, now=topic.id, before=known)
        _refuse_compacted(source, topic)


def check_own(admin: Admin, source: str, names: Sequence[str]) -> str | None:
    """The log and the shapes, of one partition each; the name of one that is missing."""
    topics = admin.describe(names)
    for name in names:
        topic = topics.get(name)
        if topic is None:
            return name
        _refuse_compacted(source, topic)
        if topic.partitions != 1:
            raise CdcError(TOPIC_PARTITIONS, source=source, topic=name, now=topic.partitions, wanted=1)
    return None


def _refuse_compacted(source: str, topic: Topic) -> None:
    policy = topic.config.get("cleanup.policy", "delete")
    if "compact" in policy:
        raise CdcError(TOPIC_COMPACTED, source=source, topic=topic.name, policy=policy)


def starts(options: Mapping[str, str], source: str, client: str) -> Iterator[tuple[int, Start]]:
    """Every START of the log with its offset, read by a client of its own: the caller's keeps its place."""
    topic = log_topic(source)
    reader = Reader(options, client=client)
    try:
        begins, ends = reader.watermarks(topic, 0)
        for first in range(begins, ends, _BLOCK):
            for record in reader.read_range(topic, 0, first, min(first + _BLOCK, ends)):
                value = record.value() or b""
                start = parse(value) if b'"START"' in value[:40] else None
                if isinstance(start, Start):
                    yield record.offset(), start
    finally:
        reader.close()
