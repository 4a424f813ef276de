"""Sends transactions and writes their ENDs: the one place where a source's progress advances.

In: records of the open transaction (`send`), then its facts (`commit`). Out: END records in commit order, each after
Kafka acknowledged every event of its transaction; `durable`, the position of the last END that is acknowledged, which
is all that the server may ever be told. Refuses: any failed delivery; the run ends with it.

Many transactions are in flight at once. The producer keeps the order within a partition; between partitions nothing
needs to hold, because readers go by ENDs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from cdc.errors import KAFKA_STALLED, SUPERSEDED, TOPIC_MISSING, CdcError
from cdc.failpoint import failpoint
from cdc.kafka import KafkaError, KafkaException, OnDelivery, Producer, Record
from cdc.log import Change, Chunk, End, OrdinaryEnds, Span, log_key
from cdc.position import Position
from cdc.topics import log_topic, partition_of

_LOOK_EVERY_S = 3.0
_STALLED_AFTER_S = 30.0


class _SpanInFlight:
    """The events of one transaction in one partition: their offsets as acknowledgements come."""

    __slots__ = ("count", "first", "flight", "last", "partition", "publisher", "topic")

    def __init__(self, publisher: Publisher, flight: _Flight, topic: str, partition: int) -> None:
        self.publisher, self.flight, self.topic, self.partition = publisher, flight, topic, partition
        self.first, self.last, self.count = -1, -1, 0

    def delivered(self, error: KafkaError | None, record: Record) -> None:
        if error is not None:
            self.publisher.fail(error, record)
            return
        self.last = record.offset()
        if self.first < 0:
            self.first = self.last
        self.count += 1
        self.flight.pending -= 1
        self.publisher.heard = True

    def passed(self, error: KafkaError | None, record: Record) -> None:
        """A tombstone: it has to arrive, and counts for nothing."""
        if error is not None:
            self.publisher.fail(error, record)
            return
        self.flight.pending -= 1
        self.publisher.heard = True


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """Whose run it is: the source's name in the configuration, its topics' prefix, the run and its epoch."""

    source: str
    prefix: str
    run: str
    epoch: int


@dataclass(slots=True)  # not frozen: see `Transaction`
class Committed:
    """What the END of a transaction will say."""

    kind: str
    id: str
    txn_seq: int
    position: Position
    event_count: int
    collections: tuple[tuple[str, int], ...] = ()
    commit_ts_us: int | None = None
    xid: int | None = None
    origin: str | None = None
    changes: tuple[Change, ...] = ()
    copy: Chunk | None = None
    publication: str | None = None
    sequences: tuple[tuple[str, int], ...] = ()

    @property
    def ordinary(self) -> bool:
        """A transaction of rows alone, which is nearly all of them."""
        rest = self.changes or self.copy or self.publication or self.sequences
        return self.kind == "data" and self.origin is None and not rest


class _Flight:
    """A transaction on its way: `committed` is set when all its events were handed to the producer."""

    __slots__ = ("committed", "pending", "schemas", "spans")

    def __init__(self) -> None:
        self.pending = 0
        self.spans: dict[tuple[str, int], _SpanInFlight] = {}
        self.schemas: tuple[tuple[str, int], ...] = ()
        self.committed: Committed | None = None


class Publisher:
    """Publishes one run. `waiting` is called whenever it has to wait, to keep the server's connection alive."""

    def __init__(
        self,
        producer: Producer,
        run: PublishedRun,
        *,
        partitions: Mapping[str, int],
        previous: Position | None,
        log_offset: int,
        waiting: Callable[[], None],
        commit_us: int | None = None,
    ) -> None:
        self._producer, self._run, self._source = producer, run, run.source
        self._log_topic = log_topic(run.prefix)
        self._partitions, self._log_offset = partitions, log_offset
        self._previous = None if previous is None else str(previous)
        self._ordinary_ends = OrdinaryEnds(run.run, run.epoch)
        self._waiting = waiting
        self._open = _Flight()
        self._flights: deque[_Flight] = deque()
        self._ends_unacknowledged = 0
        self._announce: list[tuple[str, int]] = []
        self._failure: CdcError | None = None
        self._alive_at = self._looked_at = time.monotonic()
        self._produce = producer.produce_raw
        self.durable: Position | None = None
        self.durable_commit_us = commit_us
        """Of the last END that told one, of this run or before it."""
        self.heard = False
        """Kafka acknowledged something since the last look (CORRECTNESS 9)."""
        self.interrupted = False
        """Somebody else appended to the log between our ENDs: the source looks who."""
        self.events = 0
        self.ends = 0

    # -- a transaction's way ------------------------------------------------------------------------------------
    def announce(self, schemas: Iterable[tuple[str, int]]) -> None:
        """Shapes that the next END names: (schema id, offset of its record)."""
        self._announce += schemas

    def send(self, records: Iterable[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]] | None]]) -> None:
        """Hand records of the open transaction to the producer, in order."""
        flight = self._open
        for topic, key, value, headers in records:
            partition = partition_of(key, self._partitions[topic])
            span = flight.spans.get((topic, partition))
            if span is None:
                span = flight.spans[topic, partition] = _SpanInFlight(self, flight, topic, partition)
            flight.pending += 1
            on_delivery = span.passed if value is None else span.delivered
            try:
                if headers is None:
                    self._produce(topic, value, key, partition, on_delivery)
                else:
                    self._produce(topic, value, key, partition, on_delivery, headers=headers)
            except (BufferError, KafkaException) as error:
                self._retry(error, topic, value, key, partition, on_delivery, headers)

    def _retry(
        self,
        error: Exception,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: OnDelivery,
        headers: list[tuple[str, bytes]] | None,
    ) -> None:
        """The producer's queue is full: wait for room. Anything else ends the run."""
        while True:
            if isinstance(error, KafkaException):
                raise self._producer.refused(error, topic, self._source, len(value or b""))
            self.poll(0.05)
            self._waiting()
            try:
                self._produce(topic, value, key, partition, on_delivery, headers=headers or [])
            except (BufferError, KafkaException) as again:
                error = again
            else:
                return

    def commit(self, committed: Committed) -> None:
        """The open transaction is complete; its END follows when everything before it is acknowledged."""
        flight, self._open = self._open, _Flight()
        flight.committed = committed
        flight.schemas, self._announce = tuple(self._announce), []
        self.events += committed.event_count
        self._flights.append(flight)

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve acknowledgements and write the ENDs that are due."""
        self._serve(timeout_s)
        flights = self._flights
        while flights and flights[0].pending == 0:
            self._write_end(flights.popleft())
        self._check_alive()

    def _serve(self, timeout_s: float) -> None:
        self._producer.poll(timeout_s)
        if self._failure:
            raise self._failure

    def _write_end(self, flight: _Flight) -> None:
        failpoint("source.before_end")
        c = flight.committed
        assert c is not None
        position = str(c.position)
        value, key = self._end(c, flight, position), log_key(c.id)
        self._previous = position
        self._ends_unacknowledged += 1
        acknowledged = partial(self._end_acknowledged, c)
        try:
            self._produce(self._log_topic, value, key, 0, acknowledged)
        except (BufferError, KafkaException) as error:
            self._retry_end(error, value, key, acknowledged)

    def _end(self, c: Committed, flight: _Flight, position: str) -> bytes:
        offsets = [(s.topic, s.partition, s.first, s.last, s.count) for s in flight.spans.values() if s.count]
        if c.ordinary and not flight.schemas and c.xid is not None and c.commit_ts_us is not None:
            return self._ordinary_ends.to_bytes(
                c.id, c.collections, c.commit_ts_us, c.txn_seq, position, self._previous, c.xid, offsets
            )
        return End(
            id=c.id,
            event_count=c.event_count,
            data_collections=c.collections,
            ts_ms=time.time_ns() // 1_000_000 if c.commit_ts_us is None else c.commit_ts_us // 1000,
            kind=c.kind,
            run=self._run.run,
            epoch=self._run.epoch,
            txn_seq=c.txn_seq,
            position=position,
            prev_position=self._previous,
            commit_ts_us=c.commit_ts_us,
            xid=c.xid,
            origin=c.origin,
            offsets=tuple(Span(*span) for span in offsets),
            schemas=flight.schemas,
            changes=c.changes,
            copy=c.copy,
            publication=c.publication,
            sequences=c.sequences,
        ).to_bytes()

    def _retry_end(
        self,
        error: Exception,
        value: bytes,
        key: bytes,
        acknowledged: OnDelivery,
    ) -> None:
        """As `_retry`, but without writing further ENDs meanwhile: their order is the log."""
        while True:
            if isinstance(error, KafkaException):
                raise self._producer.refused(error, self._log_topic, self._source, len(value))
            self._serve(0.05)
            self._check_alive()
            self._waiting()
            try:
                self._produce(self._log_topic, value, key, 0, acknowledged)
            except (BufferError, KafkaException) as again:
                error = again
            else:
                return

    def _end_acknowledged(self, committed: Committed, error: KafkaError | None, record: Record) -> None:
        if error is not None:
            self.fail(error, record)
            return
        offset = record.offset()
        self.interrupted = self.interrupted or offset != self._log_offset + 1
        self._log_offset = offset
        self._ends_unacknowledged -= 1
        self.heard = True
        self.ends += 1
        self.durable = committed.position
        self.durable_commit_us = committed.commit_ts_us or self.durable_commit_us
        failpoint("source.after_end")

    # -- records that are waited for ----------------------------------------------------------------------------
    def publish_and_wait(self, topic: str, key: bytes, value: bytes) -> int:
        """Send one record and wait until it is durable; its offset."""
        offsets: list[int] = []

        def acknowledged(error: KafkaError | None, record: Record) -> None:
            if error is not None:
                self.fail(error, record)
            else:
                offsets.append(record.offset())

        try:
            self._produce(topic, value, key, 0, acknowledged)
        except (BufferError, KafkaException) as error:
            self._retry(error, topic, value, key, 0, acknowledged, None)
        started = time.monotonic()
        while not offsets:
            self.poll(0.05)
            self._waiting()
            if time.monotonic() - started > _STALLED_AFTER_S:
                raise self._stalled()
        return offsets[0]

    def flush(self) -> None:
        """Wait until everything that was committed is durable."""
        while not self.idle:
            self.poll(0.05)
            self._waiting()

    @property
    def idle(self) -> bool:
        return not self._flights and not self._ends_unacknowledged

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    # -- the end of a run ---------------------------------------------------------------------------------------
    def fail(self, error: KafkaError, record: Record) -> None:
        """A delivery failed: nothing after it may go out. The first failure is the one that is told."""
        if self._failure is None:
            self._failure = self._producer.failed(error, record, self._source)
            self._producer.abandon()

    def _check_alive(self) -> None:
        """CORRECTNESS 9: an unanswered producer must not hold up the database's shutdown."""
        if self.heard or (self.idle and self._producer.pending() == 0):
            self.heard, self._alive_at, self._looked_at = False, time.monotonic(), time.monotonic()
        elif time.monotonic() - self._alive_at > _STALLED_AFTER_S:
            raise self._stalled()
        elif time.monotonic() - self._looked_at > _LOOK_EVERY_S:
            self._look_for_topics()

    def _look_for_topics(self) -> None:
        """The client waits for a topic that was deleted as it waits for a broker that is away."""
        for topic in self._producer.lacking(self._partitions):
            raise CdcError(TOPIC_MISSING, source=self._source, topic=topic)
        self._looked_at = time.monotonic()

    def _stalled(self) -> CdcError:
        return CdcError(KAFKA_STALLED, source=self._source, seconds=int(_STALLED_AFTER_S))

    def superseded_by(self, run: str) -> CdcError:
        return CdcError(SUPERSEDED, source=self._source, other=run, run=self._run.run)
