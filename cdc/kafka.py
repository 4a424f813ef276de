"""Kafka: with `kafka_admin` and `kafka_errors` the only home of confluent_kafka. No opinions about records.

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
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Producer as _Producer

from cdc.errors import (
    DELIVERY_FAILED,
    KAFKA_OPTIONS,
    LOG_LOST,
    VALUE_TOO_LARGE,
    CdcError,
)
from cdc.kafka_errors import AWAY, GONE, LOST, REFUSALS, Options, Reports, kafka_error
from cdc.secret import redact

__all__ = ["KafkaError", "KafkaException", "Options", "Partition", "Producer", "Reader", "Record"]

Partition = tuple[str, int]
log = logging.getLogger(__name__)


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
log.addFilter(_OnceAMinute())

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
OF_ONE_KIND = _PRODUCER.keys() | _CONSUMER.keys()
"""What another client would warn of."""
_POLL_BYTES = 8 << 20
"""About so much is handed over at once, judged by the records before."""
REQUEST_TIMEOUT_S = 30.0
DOWN_S = 5.0
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
    def headers(self) -> Sequence[tuple[str, bytes | str | None]] | None: ...
    def timestamp(self) -> tuple[int, int]:
        """What kind it is, and milliseconds since 1970."""
        ...


OnDelivery = Callable[[KafkaError | None, Record], None]


def client_of(make: Callable[[dict[str, Any]], Any], settings: dict[str, Any]) -> Any:
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
        self._producer = client_of(
            _Producer,
            {
                **_PRODUCER,
                **options,
                **_fixed("acks", "enable.idempotence", "message.timeout.ms"),
                "error_cb": self.errors,
                "logger": log,
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
        self._consumer = client_of(
            Consumer,
            {
                **_CONSUMER,
                **self._options,
                **_fixed("enable.auto.commit", "auto.offset.reset", "isolation.level"),
                "error_cb": self.errors,
                "logger": log,
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
                found = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), DOWN_S)
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
            patience = 2 * DOWN_S if cause.code() == KafkaError._ALL_BROKERS_DOWN else REQUEST_TIMEOUT_S
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
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while not records or records[-1].offset() < end - 1:
            waiting()
            batch = self.poll(10_000, 0.2)
            if batch:
                records += batch
                deadline = time.monotonic() + REQUEST_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise self.errors.unreachable()
        self.assign({})
        return [record for record in records if record.offset() < end]

    def close(self) -> None:
        self._consumer.close()
