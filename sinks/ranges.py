"""The events of a transaction out of the records of its partitions: whole, or while they come. Pure.

In: buffers of raw records, and the END that names a range of offsets in each. Out: `RowEvent`s in the order of their
ordinals. Refuses: a range with fewer events than the END counts, a missing ordinal (EVENTS_LOST); a record that
cannot be read (CORRUPT_EVENT).

What lies before a range belongs to nobody and is dropped. Within it, an event belongs to the transaction if it
carries its run, epoch and number; tombstones are no events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from cdc.errors import CORRUPT_EVENT, EVENTS_LOST, CdcError
from cdc.event import RowEvent
from cdc.log import End, Span

Partition = tuple[str, int]
Decode = Callable[[bytes, str], Any]
"""Of the bytes of a record of this topic: its value."""
_PLAIN_FIELDS = 8
"""before, after, source, transaction, op, ts_ms, ts_us, ts_ns: an event with no optional field."""
_ORDINAL = attrgetter("ordinal")


class Buffer:
    """Raw records of one partition that no END has claimed. `next` is the offset behind the last one fed."""

    __slots__ = ("next", "records")

    def __init__(self) -> None:
        self.records: deque[tuple[int, bytes | None]] = deque()
        self.next = 0


class Range:
    """The part of a transaction that lies in one partition, while it is taken from the buffer.

    `bytes` is what the events taken weigh, `freed` what left the buffer, `dead` counts events of other runs.
    """

    __slots__ = ("_buffer", "_decode", "_end", "_source", "bytes", "dead", "found", "freed", "span")

    def __init__(self, source: str, end: End, span: Span, buffer: Buffer, decode: Decode) -> None:
        self._source, self._end, self.span, self._buffer, self._decode = source, end, span, buffer, decode
        self.found = self.dead = self.bytes = self.freed = 0
        records, first = buffer.records, span.first
        while records and records[0][0] < first:
            self.freed += len(records.popleft()[1] or b"")

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
            self.freed += size
            try:
                event = self._decode(value, self.span.topic)
                source = event["source"]
                if source["run"] == end.run and source["txn_seq"] == end.txn_seq and source["epoch"] == end.epoch:
                    self.found += 1
                    self.bytes += size
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
        # MySQL has databases where others have schemas.
        f"{source['schema'] if 'schema' in source else source['db']}.{source['table']}",
        source["ordinal"],
        source["schema_id"],
    )
    if len(event) == _PLAIN_FIELDS:
        return RowEvent(table, op, ordinal, schema_id, event["before"], event["after"])
    if event.get("part"):
        raise ValueError("one part of a split event, which this version does not join")
    before, absent = event["before"], event.get("before_absent") or ()
    return RowEvent(
        table,
        op,
        ordinal,
        schema_id,
        # What stands there for a column that the log did not carry is no value.
        before | dict.fromkeys(absent) if absent else before,
        event["after"],
        tuple(event.get("unchanged") or ()),
        tuple(absent),
        event.get("moved_to"),
        event.get("moved_from"),
    )


class Whole:
    """The events of one transaction whose records have all been fed, in the order of their ordinals."""

    def __init__(self, source: str, end: End, buffers: Mapping[Partition, Buffer], decode: Decode) -> None:
        self.events: list[RowEvent] = []
        self.bytes = self.freed = self.dead = 0
        for span in end.offsets:
            part = Range(source, end, span, buffers[span.topic, span.partition], decode)
            self._take(part)
            _check_count(source, end, part)
            self.bytes += part.bytes
            self.freed += part.freed
            self.dead += part.dead
        if len(end.offsets) > 1:
            self.events.sort(key=_ORDINAL)
        for ordinal, event in enumerate(self.events, 1):
            if event.ordinal != ordinal:
                raise _missing(source, end, ordinal)
        if len(self.events) != end.event_count:
            raise _missing(source, end, len(self.events) + 1)

    def _take(self, part: Range) -> None:
        """A partition has the ordinals in order; of one that comes again only the first counts."""
        before = 0
        while (event := part.take()) is not None:
            if event.ordinal > before:
                self.events.append(event)
                before = event.ordinal
            else:
                part.found -= 1


class Merge:
    """The same while its records are still coming: what there is without a hole, piece by piece."""

    def __init__(self, source: str, end: End, buffers: Mapping[Partition, Buffer], decode: Decode) -> None:
        self._source, self._end = source, end
        self._ranges = [Range(source, end, s, buffers[s.topic, s.partition], decode) for s in end.offsets]
        self._open = list(self._ranges)
        self._fronts: dict[int, tuple[Range, RowEvent]] = {}
        self._next = 1

    @property
    def dead(self) -> int:
        """Events of dead runs among what was taken."""
        return sum(part.dead for part in self._ranges)

    @property
    def bytes(self) -> int:
        """What the events taken so far weigh."""
        return sum(part.bytes for part in self._ranges)

    @property
    def freed(self) -> int:
        """What left the buffers so far."""
        return sum(part.freed for part in self._ranges)

    @property
    def done(self) -> bool:
        return not self._open and not self._fronts

    def waits_for(self) -> list[Partition]:
        """Partitions whose records must come before `take` can go on."""
        fronts = {id(part) for part, _ in self._fronts.values()}
        waiting = (part for part in self._open if id(part) not in fronts and not part.complete)
        return [(part.span.topic, part.span.partition) for part in waiting]

    def take(self, limit: int, limit_bytes: int) -> list[RowEvent]:
        """What the buffers hold of it from here on without a hole: `limit` events, or `limit_bytes` and one event."""
        events: list[RowEvent] = []
        full = self.bytes + limit_bytes
        while len(events) < limit and self.bytes < full:
            if self._next not in self._fronts:
                if self._refill():
                    continue
                break
            part, front = self._fronts.pop(self._next)
            event: RowEvent | None = front
            while event is not None and event.ordinal == self._next and len(events) < limit and self.bytes < full:
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

    def _put(self, part: Range, event: RowEvent | None) -> bool:
        """Make the event its partition's front. Of a number that comes again only the first counts."""
        while event is not None and (event.ordinal < self._next or event.ordinal in self._fronts):
            part.found -= 1
            event = part.take()
        if event is None:
            return False
        self._fronts[event.ordinal] = part, event
        return True

    def _close(self, part: Range) -> None:
        self._open.remove(part)
        _check_count(self._source, self._end, part)

    def _check_end(self) -> None:
        if self._fronts or self._next != self._end.event_count + 1:
            raise _missing(self._source, self._end, self._next)


def _check_count(source: str, end: End, part: Range) -> None:
    if part.found != part.span.count:
        raise lost(source, end, part.span, f"{part.found} of its {part.span.count} events are there")


def _missing(source: str, end: End, ordinal: int) -> CdcError:
    span = end.offsets[0] if end.offsets else Span("no topic", 0, 0, 0, 0)
    return lost(source, end, span, f"event {ordinal} of {end.event_count} is not there")


def lost(source: str, end: End, span: Span, problem: str) -> CdcError:
    """Events that an END counts and that are not there."""
    return CdcError(
        EVENTS_LOST,
        source=source,
        position=end.position,
        txn_seq=end.txn_seq,
        first=span.first,
        last=span.last,
        topic=span.topic,
        partition=span.partition,
        problem=problem,
    )
