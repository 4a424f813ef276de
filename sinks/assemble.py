"""Records of the log and of the row topics → whole transactions, in order, each once. Pure.

In: log records in order, row records in order per partition; the log may be ahead of the rows or behind.
Out: `ChangeTransaction`s. Refuses: what `sinks.continuity` refuses; events that an END counts and that are
not there (EVENTS_LOST); records that cannot be read (CORRUPT_LOG, CORRUPT_EVENT). Each when its turn comes,
after everything before it was handed on.

An END names first offset, last offset and count of its events per partition. Rows wait as raw bytes until an
END names them; what lies between the ranges (tombstones, events of dead runs, transactions never finished) is
dropped there. Within a range an event belongs to the transaction if it carries its epoch, run and number.

    log      … END 7   END 8   START b   END 9 (run a: ignored)   END 9 (run b)
    rows p0  … 7.1  7.2  8.1  9.1(a)  9.1(b)  9.2(b)              ranges: 7 [0,1], 8 [2,2], 9 [4,5]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from cdc.errors import CORRUPT_EVENT, CORRUPT_LOG, EVENTS_LOST, CdcError
from cdc.event import RowEvent
from cdc.log import End, Span, Start, parse
from cdc.topics import log_topic
from sinks.continuity import Continuity
from sinks.transaction import ChangeTransaction, Progress

Partition = tuple[str, int]
STREAMED_EVENTS = 20_000
"""A transaction of more events is handed on while it is read: its END is seen, so it is whole and valid."""
_PLAIN_FIELDS = 8
"""before, after, source, transaction, op, ts_ms, ts_us, ts_ns: an event with no optional field."""


class _Buffer:
    """Raw records of one partition that no END has claimed. `next` is the offset behind the last one fed."""

    __slots__ = ("bytes", "next", "records")

    def __init__(self) -> None:
        self.records: deque[tuple[int, bytes | None]] = deque()
        self.bytes = 0
        self.next = 0


class _Range:
    """The part of a transaction that lies in one partition, while it is taken from the buffer."""

    __slots__ = ("_buffer", "_end", "_source", "bytes", "dead", "found", "span")

    def __init__(self, source: str, end: End, span: Span, buffer: _Buffer) -> None:
        self._source, self._end, self.span, self._buffer = source, end, span, buffer
        self.found = self.dead = self.bytes = 0
        records = buffer.records
        while records and records[0][0] < span.first:
            buffer.bytes -= len(records.popleft()[1] or b"")

    @property
    def complete(self) -> bool:
        """Whether all its records have been fed."""
        return self._buffer.next > self.span.last

    def take(self) -> RowEvent | None:
        """The next event of the transaction, None if the buffer holds no more of it."""
        records, last, end = self._buffer.records, self.span.last, self._end
        while records and records[0][0] <= last:
            offset, value = records.popleft()
            if value is None:
                continue
            size = len(value)
            self._buffer.bytes -= size
            self.bytes += size
            try:
                event = orjson.loads(value)
                source = event["source"]
                if source["run"] == end.run and source["txn_seq"] == end.txn_seq and source["epoch"] == end.epoch:
                    self.found += 1
                    return _row_event(event, source)
                self.dead += 1
            except (ValueError, KeyError, TypeError) as error:
                raise CdcError(
                    CORRUPT_EVENT,
                    source=self._source,
                    topic=self.span.topic,
                    partition=self.span.partition,
                    offset=offset,
                    problem=f"{type(error).__name__}: {error}",
                ) from None
        return None


def _row_event(event: dict[str, Any], source: dict[str, Any]) -> RowEvent:
    op = event["op"]
    if op == "m":
        return RowEvent("", op, source["ordinal"], "", None, event["message"])
    table, ordinal, schema_id = (
        f"{source['schema']}.{source['table']}",
        source["ordinal"],
        source["schema_id"],
    )
    if len(event) == _PLAIN_FIELDS:
        return RowEvent(table, op, ordinal, schema_id, event["before"], event["after"])
    if "part" in event:
        raise ValueError("one part of a split event, which this version does not join")
    return RowEvent(
        table,
        op,
        ordinal,
        schema_id,
        event["before"],
        event["after"],
        tuple(event.get("unchanged", ())),
        tuple(event.get("before_absent", ())),
        event.get("moved_to"),
        event.get("moved_from"),
    )


class _Merge:
    """The events of one transaction, from all its partitions, in the order of their ordinals."""

    def __init__(self, source: str, end: End, buffers: Mapping[Partition, _Buffer]) -> None:
        self._source, self._end = source, end
        self._ranges = [_Range(source, end, s, buffers[s.topic, s.partition]) for s in end.offsets]
        self._open = list(self._ranges)
        self._fronts: dict[int, tuple[_Range, RowEvent]] = {}
        self._next = 1

    @property
    def dead(self) -> int:
        """Events of dead runs among what was taken."""
        return sum(part.dead for part in self._ranges)

    @property
    def bytes(self) -> int:
        """What was taken so far."""
        return sum(part.bytes for part in self._ranges)

    @property
    def done(self) -> bool:
        return not self._open and not self._fronts

    def waits_for(self) -> list[Partition]:
        """Partitions whose records must come before `take` can go on."""
        fronts = {id(part) for part, _ in self._fronts.values()}
        waiting = (part for part in self._open if id(part) not in fronts and not part.complete)
        return [(part.span.topic, part.span.partition) for part in waiting]

    def take(self, limit: int) -> list[RowEvent]:
        """What the buffers hold of it from here on without a hole, at most `limit` events."""
        events: list[RowEvent] = []
        while len(events) < limit:
            if self._next not in self._fronts:
                if self._refill():
                    continue
                break
            part, front = self._fronts.pop(self._next)
            event: RowEvent | None = front
            while event is not None and event.ordinal == self._next and len(events) < limit:
                events.append(event)
                self._next += 1
                event = part.take()
            self._put(part, event)
        return events

    def _refill(self) -> bool:
        """Bring up the front of every partition that has none; whether any came."""
        with_front = {id(part) for part, _ in self._fronts.values()}
        came = False
        for part in [part for part in self._open if id(part) not in with_front]:
            if self._put(part, part.take()):
                came = True
            elif part.complete:
                self._close(part)
        if not came and not self.waits_for():
            self._check_end()
        return came

    def _put(self, part: _Range, event: RowEvent | None) -> bool:
        """Make the event its partition's front. Of a number that comes again only the first counts."""
        while event is not None and (event.ordinal < self._next or event.ordinal in self._fronts):
            part.found -= 1
            event = part.take()
        if event is None:
            return False
        self._fronts[event.ordinal] = part, event
        return True

    def _close(self, part: _Range) -> None:
        self._open.remove(part)
        if part.found != part.span.count:
            raise self._lost(part.span, f"{part.found} of its {part.span.count} events are there")

    def _check_end(self) -> None:
        if self._fronts or self._next != self._end.event_count + 1:
            span = self._end.offsets[0] if self._end.offsets else Span("no topic", 0, 0, 0, 0)
            raise self._lost(span, f"event {self._next} of {self._end.event_count} is not there")

    def _lost(self, span: Span, problem: str) -> CdcError:
        return CdcError(
            EVENTS_LOST,
            source=self._source,
            position=self._end.position,
            txn_seq=self._end.txn_seq,
            first=span.first,
            last=span.last,
            topic=span.topic,
            partition=span.partition,
            problem=problem,
        )


class Assembler:
    """Holds what was read until it is a whole transaction. It asks for nothing: its reader looks and feeds.

    `last` is the END at `after`. `origin` finds the START of its run; only an adopted epoch needs it.
    """

    def __init__(
        self,
        source: str,
        after: Progress | None = None,
        *,
        last: End | None = None,
        origin: Callable[[], Start | None] = lambda: None,
    ) -> None:
        self.source = source
        self.progress = after
        self._continuity = Continuity(source, after, last, origin)
        self._log: deque[tuple[int, bytes | None]] = deque()
        self._head: tuple[int, End] | None = None
        self._buffers: dict[Partition, _Buffer] = {}
        self._stream: tuple[_Merge, ChangeTransaction] | None = None
        self._dead = 0

    # -- feeding --
    def log(self, offset: int, value: bytes | None) -> None:
        """The next record of the log."""
        self._log.append((offset, value))

    def assigned(self, partition: Partition) -> None:
        """Records of this partition will be fed, from the offset that `unassigned` named."""
        self._buffers[partition] = _Buffer()

    def row(self, partition: Partition, offset: int, value: bytes | None) -> None:
        """The next record of a row partition. One that nobody asked for, or does no longer, is dropped."""
        buffer = self._buffers.get(partition)
        if buffer is None:
            return
        buffer.records.append((offset, value))
        buffer.next = offset + 1
        if value is not None:
            buffer.bytes += len(value)

    # -- what the reader looks at --
    @property
    def ignored(self) -> int:
        """Records of dead runs so far, ENDs and events."""
        return self._continuity.ignored + self._dead

    @property
    def epoch(self) -> int | None:
        """The epoch that is being read, None before the first."""
        return self._continuity.epoch

    @property
    def missed_beginning(self) -> bool:
        """Whether the log was found not to begin with an epoch's first START."""
        return self._continuity.missed_beginning and self.progress is None

    @property
    def head(self) -> End | None:
        """The END whose events are awaited."""
        return self._head[1] if self._head else None

    @property
    def log_pending(self) -> int:
        return len(self._log)

    def buffered_bytes(self) -> int:
        return sum(buffer.bytes for buffer in self._buffers.values())

    def buffered(self) -> list[Partition]:
        """Partitions that hold records."""
        return [partition for partition, buffer in self._buffers.items() if buffer.records]

    def unassigned(self) -> dict[Partition, int]:
        """Partitions that the head is the first to name, with the offset to read them from."""
        spans = self._head[1].offsets if self._head else ()
        named = {(s.topic, s.partition): s.first for s in spans}
        return {partition: first for partition, first in named.items() if partition not in self._buffers}

    def wanted(self) -> list[Partition]:
        """Partitions whose next records are needed before anything can be handed on."""
        if self._stream is not None:
            return self._stream[0].waits_for()
        spans = self._head[1].offsets if self._head else ()
        return [(s.topic, s.partition) for s in spans if not self._reached(s)]

    def reach(self, partition: Partition) -> int:
        """The offset behind the last record fed, 0 before the first."""
        return self._buffers[partition].next

    def _reached(self, span: Span) -> bool:
        buffer = self._buffers.get((span.topic, span.partition))
        return buffer is not None and buffer.next > span.last

    # -- handing on --
    def next(self, *, full: bool = False, stream: bool = True) -> ChangeTransaction | None:
        """The next transaction, None until more is fed.

        One that is huge, or whose events have no room while the buffers are `full`, is handed on without
        events, unless `stream` forbids it: they come from `take`.
        """
        while self._head is not None or self._log:
            if self._head is None:
                self._admit(*self._log.popleft())
                continue
            offset, end = self._head
            if self.unassigned():
                return None
            whole = all(self._reached(span) for span in end.offsets)
            streamed = end.event_count > STREAMED_EVENTS or (full and not whole)
            if not stream if streamed else not whole:
                return None
            merge = _Merge(self.source, end, self._buffers)
            events = iter(()) if streamed else merge.take(end.event_count + 1)
            transaction = ChangeTransaction(end, self._continuity.start, offset, events, merge.bytes)
            if streamed:
                self._stream = merge, transaction
            self._dead += merge.dead
            self._head = None
            self.progress = Progress.behind(end, offset, self.progress)
            return transaction
        return None

    @property
    def streaming(self) -> bool:
        """Whether `take` has events of a transaction to give that is already handed on."""
        return self._stream is not None

    def take(self, limit: int) -> list[RowEvent]:
        """The next events of the streamed transaction, [] until more is fed or when it ends."""
        if self._stream is None:
            return []
        merge, transaction = self._stream
        events = merge.take(limit)
        transaction.bytes = merge.bytes
        if not events and merge.done:
            self._dead += merge.dead
            self._stream = None
        return events

    def _admit(self, offset: int, value: bytes | None) -> None:
        try:
            record = parse(value or b"")
        except ValueError as error:
            topic = log_topic(self.source)
            raise CdcError(CORRUPT_LOG, source=self.source, topic=topic, offset=offset, problem=error) from None
        if record is None:
            return
        epoch = self._continuity.epoch
        end = self._continuity.accept(record)
        if self._continuity.epoch != epoch:
            # A copy may have made the topics anew: this epoch's ENDs say from where to read them.
            self._buffers.clear()
        if end is None:
            return
        if end.numbered:
            self._head = offset, end
        else:
            self.progress = Progress.behind(end, offset, self.progress)
