"""The topics of a source: made where missing, compared where they exist. Only the source makes topics.

In: the names, what the configuration wants, what the shape records remember. Out: each row topic's partitions and id.
Refuses: a topic that the log counts on and that is gone, replaced, compacted, or has another number of partitions.

Durability is the brokers' word (`cdc check` reads it); here only new topics get it: as many replicas as there are
brokers, up to three, and two of them in sync before a record counts as written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cdc.errors import TOPIC_COMPACTED, TOPIC_MISSING, TOPIC_PARTITIONS, TOPIC_REPLACED, CdcError
from cdc.kafka_admin import Admin, Topic
from cdc.topics import log_topic, message_topic, shape_topic

_APPEARS_S = 15.0
_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What new topics get."""

    partitions: int
    replicas: int | None
    max_record: int
    retention_s: float


class Provision:
    """Makes and compares topics of one source."""

    def __init__(self, admin: Admin, source: str, prefix: str, wanted: Wanted) -> None:
        self._admin, self._source, self._prefix, self._wanted = admin, source, prefix, wanted
        self.cluster_id, brokers = admin.cluster()
        self._replicas = wanted.replicas or min(3, brokers)

    def log(self) -> None:
        """The log and shape topics, one partition each, kept for ever; foreign messages beside them."""
        for name in (log_topic(self._prefix), shape_topic(self._prefix), message_topic(self._prefix)):
            topic = self._ensure(name, partitions=1, config=_FOR_EVER)
            if topic.partitions != 1:
                raise CdcError(TOPIC_PARTITIONS, source=self._source, topic=name, now=topic.partitions, wanted=1)
            self._not_compacted(topic)

    def rows(self, names: Iterable[str], known_ids: Mapping[str, str], *, create: bool) -> dict[str, Topic]:
        """The row topics by name. `known_ids`: the ids that the log's shape records remember."""
        found = self._admin.describe(list(names))
        for name in names:
            if name not in found:
                if not create:
                    raise CdcError(TOPIC_MISSING, source=self._source, topic=name)
                found[name] = self._ensure(
                    name,
                    partitions=self._wanted.partitions,
                    config={
                        "cleanup.policy": "delete",
                        "retention.ms": str(int(self._wanted.retention_s * 1000)),
                    },
                )
            topic = found[name]
            self._not_compacted(topic)
            if not create and known_ids.get(name, topic.id) != topic.id:
                raise CdcError(TOPIC_REPLACED, source=self._source, topic=name, now=topic.id, before=known_ids[name])
        return found

    def _ensure(self, name: str, *, partitions: int, config: Mapping[str, str]) -> Topic:
        found = self._admin.describe([name])
        if name not in found:
            in_sync = str(min(2, self._replicas))
            self._admin.create(
                name,
                partitions=partitions,
                replicas=self._replicas,
                config={
                    **config,
                    "min.insync.replicas": in_sync,
                    "max.message.bytes": str(self._wanted.max_record),
                },
            )
            found = self._appeared(name)
        return found[name]

    def _appeared(self, name: str) -> dict[str, Topic]:
        """A topic just made: brokers learn of it one after the other."""
        deadline = time.monotonic() + _APPEARS_S
        while name not in (found := self._admin.describe([name])):
            if time.monotonic() > deadline:
                raise CdcError(TOPIC_MISSING, source=self._source, topic=name)
            time.sleep(0.1)
        return found

    def _not_compacted(self, topic: Topic) -> None:
        policy = topic.config.get("cleanup.policy", "delete")
        if "compact" in policy:
            raise CdcError(TOPIC_COMPACTED, source=self._source, topic=topic.name, policy=policy)
