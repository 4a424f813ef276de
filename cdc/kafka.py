"""Kafka: with `kafka_errors` the only home of confluent_kafka. Producer, reader, topics; no opinions about records.

In: librdkafka properties as a mapping, records as bytes. Out: acknowledgements by callback, records with offsets.
Refuses: properties that the promises rest on (`FIXED_OPTIONS`); every error of the client comes as a `CdcError`.

The producer waits for all in-sync replicas, is idempotent and never gives up on a record by time
(`message.timeout.ms=0`): a record given up while later ones go out is a hole in the log (CORRECTNESS 7).
Readers assign and seek by themselves; an offset that is gone is an error, never a silent jump.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import Producer as _Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from cdc.errors import (
    DELIVERY_FAILED,
    KAFKA_OPTIONS,
    LOG_LOST,
    TOPIC_MISSING,
    VALUE_TOO_LARGE,
    CdcError,
)
from cdc.kafka_errors import AWAY, GONE, LOST, REFUSALS, Options, Reports, kafka_error
from cdc.secret import redact

__all__ = ["Admin", "KafkaError", "KafkaException", "Options", "Partition", "Producer", "Reader", "Record", "Topic"]

Partition = tuple[str, int]
_log = logging.getLogger(__name__)


class _OnceAMinute(logging.Filter):
    """librdkafka repeats itself at every try to connect, many a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text, now = _NUMBERS.sub("", record.getMessage()), time.monotonic()
        if now - self._said.get(text, -60.0) < 60:
            return False
        self._said[text] = now
        return True


_NUMBERS = re.compile(r"[0-9]+")
_log.addFilter(_OnceAMinute())

FIXED_OPTIONS = {
    "acks": "all",
    "enable.idempotence": "true",
    "message.timeout.ms": "0",
    "enable.auto.commit": "false",
    "auto.offset.reset": "error",
    "isolation.level": "read_uncommitted",
}
_PRODUCER = {
    "acks": "all",
    "enable.idempotence": "true",
    "message.timeout.ms": "0",
    "linger.ms": "2",
    "batch.size": "262144",
    "compression.type": "lz4",
    # Bounds what an unreachable broker makes us hold; produce() then blocks the stream, not the memory.
    "queue.buffering.max.kbytes": "65536",
    "queue.buffering.max.messages": "100000",
}
_CONSUMER = {
    "enable.auto.commit": "false",
    "auto.offset.reset": "error",
    "isolation.level": "read_uncommitted",
    "check.crcs": "true",
    "enable.partition.eof": "false",
    # Per partition queue; a sink follows the log and a topic a table within 300 MB.
    "queued.max.messages.kbytes": "8192",
    "fetch.queue.backoff.ms": "50",
    # A partition that is added or resumed waits until the request before it is answered.
    "fetch.wait.max.ms": "100",
    # Of a partition at once, compressed: large rows may be a hundred times that.
    "fetch.message.max.bytes": "262144",
}
_POLL_BYTES = 8 << 20
"""About so much is handed over at once, judged by the records before."""
_REQUEST_TIMEOUT_S = 30.0
_DOWN_S = 5.0
"""So long may all brokers be away before somebody who asks is told."""
_MOMENT_S = 2.0
_CLOSE_S = 10.0


class Record(Protocol):
    """A record that was read or delivered: confluent_kafka's Message."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]:
        """What kind it is, and milliseconds since 1970."""
        ...


OnDelivery = Callable[[KafkaError | None, Record], None]


def _client(make: Callable[[dict[str, Any]], Any], settings: dict[str, Any]) -> Any:
    """Options that librdkafka cannot use, it refuses here."""
    try:
        return make(settings)
    except KafkaException as error:
        raise CdcError(KAFKA_OPTIONS, problem=redact(error.args[0].str())) from None


class Producer:
    """Sends records in order per partition. `poll` serves the delivery callbacks in the caller's thread."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.errors = Reports(options, "Write")
        self._producer = _client(
            _Producer,
            {
                **_PRODUCER,
                **options,
                **_fixed("acks", "enable.idempotence", "message.timeout.ms"),
                "error_cb": self.errors,
                "logger": _log,
            },
        )
        self.produce_raw: Callable[..., None] = self._producer.produce
        """`produce(topic, value, key, partition, on_delivery)`; BufferError when the queue is full (see `send`)."""

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve acknowledgements and what the client reports beside them."""
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:
            raise kafka_error(self._options, error.args[0], operation="Write") from None
        self.errors.check()

    def pending(self) -> int:
        """Records that are neither delivered nor failed."""
        return len(self._producer)

    def lacking(self, names: Iterable[str]) -> list[str]:
        """Those of the topics that the cluster does not have; [] too where it does not answer in a moment."""
        try:
            known = self._producer.list_topics(timeout=_MOMENT_S).topics
        except KafkaException:
            return []
        return [name for name in names if name not in known]

    def refused(self, error: KafkaException, topic: str, source: str, size: int) -> CdcError:
        """What a failed `produce` call means."""
        cause: KafkaError = error.args[0]
        if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return CdcError(
                VALUE_TOO_LARGE,
                source=source,
                table=topic.partition(".")[2],
                size=size,
                topic=topic,
                limit=self._options.get("message.max.bytes", "1000000"),
            )
        return kafka_error(self._options, cause, topic=topic, source=source, operation="Write")

    def failed(self, error: KafkaError, record: Record, source: str) -> CdcError:
        """What a failed delivery means: the end of the run, for a reason that passes or not."""
        topic = record.topic()
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return CdcError(
                VALUE_TOO_LARGE,
                source=source,
                table=topic.partition(".")[2],
                topic=topic,
                size=len(record.value() or b""),
                limit="fewer",
            )
        if error.code() in REFUSALS | GONE:
            return kafka_error(self._options, error, topic=topic, source=source, operation="Write")
        return CdcError(DELIVERY_FAILED, source=source, topic=topic, problem=error.str())

    def abandon(self) -> None:
        """Drop what is not delivered: nothing after a failure may go out. Callbacks may call this."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)

    def close(self) -> None:
        """The run is over. Every callback is served here: the client aborts the process if one comes later.

        By polling: where there is a fatal error to tell, flush() calls back with that exception set.
        """
        self.abandon()
        deadline = time.monotonic() + _CLOSE_S
        while self.pending() and time.monotonic() < deadline:
            with suppress(KafkaException):
                self._producer.poll(0.1)


def _fixed(*names: str) -> dict[str, str]:
    return {name: FIXED_OPTIONS[name] for name in names}


class Reader:
    """Reads chosen partitions from chosen offsets. It joins no group and commits nothing."""

    def __init__(self, options: Options, *, client: str = "cdc-reader") -> None:
        self._options = {**options, "group.id": client}
        self._at_once = 1 << 20
        self.errors = Reports(self._options, "Read")
        self._consumer = _client(
            Consumer,
            {
                **_CONSUMER,
                **self._options,
                **_fixed("enable.auto.commit", "auto.offset.reset", "isolation.level"),
                "error_cb": self.errors,
                "logger": _log,
            },
        )

    def assign(self, offsets: Mapping[Partition, int]) -> None:
        """Read exactly these partitions, each from the given offset."""
        self._consumer.assign([TopicPartition(t, p, offset) for (t, p), offset in offsets.items()])

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions too."""
        self._consumer.incremental_assign([TopicPartition(t, p, offset) for (t, p), offset in offsets.items()])

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """The next records, in order per partition; an empty list after the time-out.

        `consume` waits until it has all it was asked for, so it is asked for one, then for what came with it.
        """
        records: list[Any] = self._consumer.consume(1, timeout_s)
        if records:
            like_the_first = _POLL_BYTES // (len(records[0].value() or b"") + 1)
            records += self._consumer.consume(max(1, min(max_records, self._at_once, like_the_first)), 0)
        self.errors.check()
        size = 0
        for record in records:
            if record.error() is not None:
                raise self._read_error(record)
            size += len(record.value() or b"")
        if records:
            self._at_once = _POLL_BYTES * len(records) // (size + 1)
        return records

    def _read_error(self, record: Any) -> CdcError:
        error, topic = record.error(), record.topic() or "?"
        if error.code() in LOST:
            begins = self.watermarks(topic, record.partition())[0]
            return CdcError(
                LOG_LOST,
                source=topic.partition(".")[0],
                topic=topic,
                partition=record.partition(),
                begins=begins,
                needs=record.offset(),
            )
        return kafka_error(self._options, error, topic=topic, operation="Read")

    def pause(self, partitions: Iterable[Partition]) -> None:
        self._consumer.pause([TopicPartition(t, p) for t, p in partitions])

    def resume(self, partitions: Iterable[Partition]) -> None:
        self._consumer.resume([TopicPartition(t, p) for t, p in partitions])

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset that is there, and the one that the next record will get."""
        asked_at = time.monotonic()
        while True:
            try:
                found = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), _DOWN_S)
            except KafkaException as error:
                cause = error.args[0]
            else:
                if found is not None:
                    first, behind = found
                    return int(first), int(behind)
                cause = KafkaError(KafkaError._TIMED_OUT)
            if cause.code() not in AWAY:
                raise kafka_error(self._options, cause, topic=topic) from None
            if not self._consumer.assignment():
                # What the client has to say comes with its records, of which there are none.
                self._consumer.consume(1, 0)
            self.errors.check()
            patience = 2 * _DOWN_S if cause.code() == KafkaError._ALL_BROKERS_DOWN else _REQUEST_TIMEOUT_S
            if time.monotonic() > asked_at + patience - 1:
                raise self.errors.unreachable()

    def read_range(
        self, topic: str, partition: int, first: int, end: int, waiting: Callable[[], None] = lambda: None
    ) -> list[Record]:
        """Every record with an offset in [first, end). `waiting` is called while it takes long."""
        records: list[Record] = []
        if first >= end:
            return records
        self.assign({(topic, partition): first})
        deadline = time.monotonic() + _REQUEST_TIMEOUT_S
        while not records or records[-1].offset() < end - 1:
            waiting()
            batch = self.poll(10_000, 0.2)
            if batch:
                records += batch
                deadline = time.monotonic() + _REQUEST_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise self.errors.unreachable()
        self.assign({})
        return [record for record in records if record.offset() < end]

    def close(self) -> None:
        self._consumer.close()


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the brokers describe it."""

    name: str
    id: str
    partitions: int
    replicas: int
    config: Mapping[str, str]


class Admin:
    """Asks about and creates topics. Only the source creates."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.errors = Reports(options, "Describe")
        known = {k: v for k, v in options.items() if k not in _PRODUCER and k not in _CONSUMER}
        settings: dict[str, Any] = {**known, "error_cb": self.errors, "logger": _log}
        self._admin = _client(AdminClient, settings)

    def cluster(self) -> tuple[str, int]:
        """The cluster's id and its number of brokers."""
        found = self._ask(self._admin.describe_cluster(request_timeout=_REQUEST_TIMEOUT_S))
        return found.cluster_id, len(found.nodes)

    def broker_config(self) -> dict[str, str]:
        """The settings of one broker, which topics have where they set nothing themselves."""
        found = self._ask(self._admin.describe_cluster(request_timeout=_REQUEST_TIMEOUT_S))
        broker = ConfigResource(ResourceType.BROKER, str(found.nodes[0].id))
        future = self._admin.describe_configs([broker], request_timeout=_REQUEST_TIMEOUT_S)[broker]
        return {key: entry.value for key, entry in self._ask(future, operation="DescribeConfigs").items()}

    def names(self) -> list[str]:
        """Of every topic that this account may see."""
        try:
            return list(self._admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics)
        except KafkaException as error:
            raise kafka_error(self._options, error.args[0]) from None

    def describe(self, names: Sequence[str]) -> dict[str, Topic]:
        """Those of the topics that exist."""
        if not names:
            return {}
        futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=_REQUEST_TIMEOUT_S)
        found = {}
        for name, future in futures.items():
            try:
                description = self._ask(future, name)
            except CdcError as error:
                if error.code is TOPIC_MISSING:
                    continue
                raise
            found[name] = description
        configs = self._configs(list(found))
        return {
            name: Topic(
                name,
                str(d.topic_id),
                len(d.partitions),
                min((len(p.replicas) for p in d.partitions), default=0),
                configs[name],
            )
            for name, d in found.items()
        }

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self._admin.describe_configs(resources, request_timeout=_REQUEST_TIMEOUT_S)
        return {
            resource.name: {
                key: entry.value for key, entry in self._ask(future, resource.name, operation="DescribeConfigs").items()
            }
            for resource, future in futures.items()
        }

    def create(self, name: str, *, partitions: int, replicas: int, config: Mapping[str, str]) -> None:
        """Make a topic; one that exists by now is left as it is."""
        topic = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=dict(config))
        future = self._admin.create_topics([topic], request_timeout=_REQUEST_TIMEOUT_S)[name]
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise kafka_error(self._options, error.args[0], topic=name, operation="Create") from None

    def delete(self, names: Sequence[str]) -> None:
        if names:
            futures = self._admin.delete_topics(list(names), operation_timeout=_REQUEST_TIMEOUT_S)
            for name, future in futures.items():
                self._ask(future, name, operation="Delete")

    def configure(self, name: str, config: Mapping[str, str]) -> None:
        """Set these properties of a topic, leave the others."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        for future in self._admin.incremental_alter_configs([resource]).values():
            self._ask(future, name, operation="AlterConfigs")

    def topic_names(self) -> list[str]:
        try:
            return list(self._admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics)
        except KafkaException as error:
            raise kafka_error(self._options, error.args[0]) from None

    def _ask(self, future: Any, topic: str = "?", *, operation: str = "Describe") -> Any:
        """The answer; where no broker can be connected to, no longer than some seconds are waited for one."""
        asked_at = time.monotonic()
        while True:
            try:
                return future.result(0.1)
            except KafkaException as error:
                if error.args[0].code() in AWAY:
                    raise self.errors.unreachable() from None
                raise kafka_error(self._options, error.args[0], topic=topic, operation=operation) from None
            except TimeoutError:
                self._admin.poll(0)
            self.errors.check()
            now = time.monotonic()
            if now > asked_at + _REQUEST_TIMEOUT_S + 5 or asked_at <= self.errors.all_down_at < now - _DOWN_S:
                raise self.errors.unreachable()
