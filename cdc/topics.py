"""Names of topics, slots and publications, and the partition of a key. Pure.

Debezium's names: rows `<prefix>.<schema>.<table>`, log `<prefix>.transaction`, shapes `<prefix>`. Characters that
Kafka does not allow become `_`, so two tables can meet in one topic: `row_topics` refuses that (CORRECTNESS 40).
Keys go to the partition that Java's default partitioner chooses, so that a topic taken over keeps its order per key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cdc.errors import TOPIC_NAMES_COLLIDE, CdcError

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]")


def row_topic(prefix: str, schema: str, table: str) -> str:
    return _NOT_ALLOWED.sub("_", f"{prefix}.{schema}.{table}")


def log_topic(prefix: str) -> str:
    return f"{prefix}.transaction"


def shape_topic(prefix: str) -> str:
    return prefix


def message_topic(prefix: str) -> str:
    """Foreign logical messages: what other programs write by pg_logical_emit_message."""
    return f"{prefix}.message"


def row_topics(prefix: str, tables: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The topic of each (schema, table); refuses two tables in one topic, or a table in a topic of ours."""
    taken = dict.fromkeys((log_topic(prefix), shape_topic(prefix), message_topic(prefix)), "the service's own")
    topics: dict[tuple[str, str], str] = {}
    for schema, table in tables:
        topic = row_topic(prefix, schema, table)
        name = f"{schema}.{table}"
        if topic in taken:
            raise CdcError(TOPIC_NAMES_COLLIDE, source=prefix, first=taken[topic], second=name, topic=topic)
        taken[topic] = name
        topics[schema, table] = topic
    return topics


def slot_name(source: str) -> str:
    """Also the publication's. A source name is `[a-z][a-z0-9_-]*`; a slot has no `-`."""
    return f"cdc_{source.replace('-', '_')}"


def murmur2(key: bytes) -> int:
    """Kafka's murmur2 (32 bits, seed 0x9747b28c) of a key, as Java's DefaultPartitioner computes it."""
    m = 0x5BD1E995
    length = len(key)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ k >> 24) * m & 0xFFFFFFFF
        h = h * m & 0xFFFFFFFF ^ k
    tail = key[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & 0xFFFFFFFF
    h = (h ^ h >> 13) * m & 0xFFFFFFFF
    return h ^ h >> 15


def partition_of(key: bytes | None, partitions: int) -> int:
    """The partition of a row's key; rows without a key share partition 0."""
    if key is None or partitions == 1:
        return 0
    return (murmur2(key) & 0x7FFFFFFF) % partitions
