"""Records of Debezium's log and of its row topics → whole transactions, in the order of their ENDs. Pure.

In: log records in order, rows in order per partition; the log may be ahead of the rows or behind. Out:
`ChangeTransaction`s; rows outside of any transaction (an initial or incremental snapshot) in batches, each after what
stands before it in its partition. Refuses: more rows than an END counts, a record of our own source in the log, what
`rows` refuses; fewer rows are waited for.

A connector that was killed writes again what it does not know to be written: ENDs and rows whose transaction was handed
on already are passed over, as far back as the `past` goes; beyond, they are applied again and converge.
It may also go on in the middle of a transaction: its BEGIN comes again, and its END counts the changes after that
alone. Then those that were sent since must all be there, and every partition must have been read up to its end for
those sent before; a change is known by its place in the database's log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from cdc.errors import DEBEZIUM_ENDED, DEBEZIUM_INCOMPLETE, DEBEZIUM_RECORD, CdcError
from cdc.event import RowEvent
from cdc.log import Change, End
from cdc.topics import log_topic, row_topic
from sinks.debezium.rows import Incoming, Row, Rows, transaction_key
from sinks.debezium.shapes import Shapes
from sinks.decode import Decoder
from sinks.ranges import Partition
from sinks.transaction import ChangeTransaction, Progress

RUN = "debezium"
"""In the place of a run: nobody numbers these."""
REMEMBERED = 100_000
_BATCH = 5_000
_NO_TABLE = "io.debezium."
"""So begins what the connector counts logical messages under."""


@dataclass(frozen=True, slots=True)
class _End:
    """`rows` are counted without logical messages, `topics` are those that hold them.

    `resumed_ms` is when the connector began it again.
    """

    offset: int
    resumed_ms: int | None
    id: str
    key: str
    ts_ms: int
    collections: tuple[tuple[str, int], ...]
    topics: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(count for _, count in self.collections)


@dataclass(slots=True)
class Past:
    """What the log tells of transactions up to a place: those that ended, and when others began, however often."""

    ended: dict[str, None] = field(default_factory=dict)
    begun: dict[str, list[int]] = field(default_factory=dict)

    def see(self, record: Mapping[str, Any], sent_ms: int) -> None:
        key = transaction_key(record["id"])
        if record["status"] == "BEGIN":
            self.begun.setdefault(key, []).append(sent_ms)
        elif record["status"] == "END":
            self.begun.pop(key, None)
            self.ended[key] = None


class Assembler:
    """Holds what was read until it is whole. `past` is that before `after`."""

    def __init__(
        self, prefix: str, decoder: Decoder, shapes: Shapes, after: Progress | None, past: Past | None = None
    ) -> None:
        self._prefix, self._decoder, self._shapes = prefix, decoder, shapes
        self._rows = Rows(prefix, decoder)
        self._number = after.txn_seq if after else 0
        self._log_offset = after.log_offset if after else -1
        self._commit_ts_us = after.commit_ts_us if after else None
        self._log: deque[_End] = deque()
        self._waiting: dict[Partition, deque[Row]] = {}
        self._next: dict[Partition, int] = {}
        self._partitions: dict[str, int] = {}
        self._open: dict[str, dict[object, Row]] = {}
        self._past = past or Past()
        self._read_to_the_end = ""
        self._moved = False
        self.repeated = 0
        """Records that were passed over because they had been applied."""
        self.buffered_bytes = 0

    # -- feeding --
    def log(self, record: Incoming) -> None:
        """The next record of the log."""
        if record.value is None:
            return
        try:
            end = self._end(record, record.value)
        except (ValueError, KeyError, TypeError) as error:
            raise self._bad(log_topic(self._prefix), 0, record.offset, error) from None
        if end is not None:
            self._log.append(end)

    def assigned(self, partition: Partition, offset: int, partitions: int) -> None:
        """Records of this partition will be fed from here on."""
        self._waiting[partition], self._next[partition] = deque(), offset
        self._partitions[partition[0]] = partitions

    def row(self, partition: Partition, record: Incoming) -> None:
        """The next record of a row partition."""
        self._next[partition] = record.offset + 1
        topic = partition[0]
        try:
            row = self._rows.row(topic, self._partitions[topic], record)
        except (ValueError, KeyError, TypeError) as error:
            raise self._bad(topic, partition[1], record.offset, error) from None
        if row is None:
            return
        if row.transaction in self._past.ended:
            self.repeated += 1
            return
        self._waiting[partition].append(row)
        self.buffered_bytes += row.bytes
        if row.transaction:
            self._take(self._open.setdefault(row.transaction, {}), row)

    def _take(self, rows: dict[object, Row], row: Row) -> None:
        """Of a change that comes again before its END the last counts."""
        before = rows.pop(row.identity, None)
        if before is not None:
            before.done = True
            self.repeated += 1
        rows[row.identity] = row

    # -- what the reader looks at --
    @property
    def progress(self) -> Progress | None:
        """Behind what was handed on. Its position is where every partition goes on."""
        if not self._moved:
            return None
        offsets: dict[str, dict[str, int]] = {}
        for (topic, partition), behind in self._next.items():
            waiting = self._trimmed((topic, partition))
            offsets.setdefault(topic, {})[str(partition)] = waiting[0].offset if waiting else behind
        position = orjson.dumps({"rows": offsets}).decode()
        return Progress(0, self._number, RUN, position, self._log_offset, self._commit_ts_us)

    def awaited(self) -> tuple[str, int, int] | None:
        """The transaction whose rows are not all there: its id, how many are and should be."""
        if not self._log:
            return None
        end = self._log[0]
        return end.id, self._found(end), end.rows

    @property
    def resumed(self) -> str | None:
        """The transaction that wants every partition read to its end before it can be called whole."""
        end = self._log[0] if self._log else None
        return end.id if end and end.resumed_ms is not None and self._read_to_the_end != end.id else None

    def read_to_the_end(self, id_: str) -> None:
        """What `resumed` wants is so."""
        self._read_to_the_end = id_

    def topics_awaited(self) -> tuple[str, ...]:
        return self._log[0].topics if self._log else ()

    def buffered(self) -> list[Partition]:
        return [partition for partition, rows in self._waiting.items() if rows]

    # -- handing on --
    def next(self) -> ChangeTransaction | None:
        """The next transaction, None until more is fed."""
        loose = self._loose()
        if loose:
            return self._hand_on(None, loose)
        while self._log:
            end = self._log[0]
            if end.key in self._past.ended:
                self.repeated += 1
                self._log_offset = self._log.popleft().offset
                continue
            found = self._found(end)
            if found > end.rows:
                raise incomplete(self._prefix, end.id, found, end.rows)
            if found < end.rows or self.resumed:
                return None
            self._log_offset = self._log.popleft().offset
            rows = list(self._open.pop(end.key, {}).values())
            self._remember(end.key)
            if rows:
                rows.sort(key=_by_order if end.resumed_ms is None else _by_place)
                return self._hand_on(end, rows)
        return None

    def _found(self, end: _End) -> int:
        """How many of the changes that it counts are there."""
        rows = self._open.get(end.key, {})
        if end.resumed_ms is None:
            return len(rows)
        return sum(row.sent_ms >= end.resumed_ms for row in rows.values())

    def _loose(self) -> list[Row]:
        """Rows outside of any transaction, up to the first that is in one."""
        found: list[Row] = []
        for partition in self._waiting:
            rows = self._trimmed(partition)
            while rows and not rows[0].transaction and len(found) < _BATCH:
                found.append(rows.popleft())
                self.buffered_bytes -= found[-1].bytes
        return found

    def _trimmed(self, partition: Partition) -> deque[Row]:
        rows = self._waiting[partition]
        while rows and rows[0].done:
            self.buffered_bytes -= rows.popleft().bytes
        return rows

    def _hand_on(self, end: _End | None, rows: Sequence[Row]) -> ChangeTransaction:
        changes: list[Change] = []
        events: list[RowEvent] = []
        for before, row, after in zip([None, *rows], rows, [*rows[1:], None], strict=False):
            row.done = True
            if row.op == "t" and not self._shapes.known(row.table):
                continue
            if row.op != "t" and (change := self._shapes.change(row, len(events))):
                changes.append(change)
            other = before if _moves(before, row) else after if _moves(row, after) else None
            events.append(self._shapes.event(row, len(events) + 1, other))
        self._number += 1
        self._moved = True
        if end is None:
            made = self._made("copy", 0, len(events), (), tuple(changes), "snapshot")
        else:
            self._commit_ts_us = end.ts_ms * 1000
            made = self._made(end.id, end.ts_ms, len(events), end.collections, tuple(changes), "data")
        return ChangeTransaction(made, None, self._log_offset, events, sum(row.bytes for row in rows))

    def _made(
        self, id_: str, ts_ms: int, count: int, collections: tuple[tuple[str, int], ...], changes: tuple[Change, ...],
        kind: str,
    ) -> End:  # fmt: skip
        return End(
            id_, count, collections, ts_ms, kind, RUN, 0, self._number, id_, None, self._commit_ts_us, changes=changes
        )

    def _remember(self, key: str) -> None:
        self._past.ended[key] = None
        if len(self._past.ended) > REMEMBERED:
            del self._past.ended[next(iter(self._past.ended))]

    # -- records --
    def _end(self, incoming: Incoming, value: bytes) -> _End | None:
        record = self._decoder.value(value, log_topic(self._prefix))
        if record["status"] == "START":
            topic = log_topic(self._prefix)
            raise CdcError(DEBEZIUM_ENDED, source=self._prefix, topic=topic, offset=incoming.offset)
        if record["status"] == "BEGIN":
            self._past.see(record, incoming.sent_ms)
            return None
        if record["status"] != "END":
            raise ValueError(f"unknown status {record['status']!r}")
        found = ((one["data_collection"], one["event_count"]) for one in record["data_collections"] or ())
        collections = tuple((name, count) for name, count in found if not name.startswith(_NO_TABLE))
        topics = tuple(row_topic(self._prefix, *name.split(".", 1)) for name, _ in collections)
        key = transaction_key(record["id"])
        begun = self._past.begun.pop(key, ())
        resumed_ms = begun[-1] if len(begun) > 1 else None
        return _End(incoming.offset, resumed_ms, record["id"], key, record["ts_ms"], collections, topics)

    def _bad(self, topic: str, partition: int, offset: int, error: Exception) -> CdcError:
        problem = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        return CdcError(
            DEBEZIUM_RECORD, source=self._prefix, topic=topic, partition=partition, offset=offset, problem=problem
        )


def _moves(deleted: Row | None, inserted: Row | None) -> bool:
    """Whether these are a row under another key. Only such an insert may lack values that were not sent.

    All others stay a delete and an insert: in whatever state a repeated one finds the replica, both can be carried out.
    """
    if deleted is None or inserted is None or deleted.table != inserted.table:
        return False
    return deleted.op == "d" and inserted.op == "c" and bool(inserted.unchanged)


def incomplete(prefix: str, id_: str, found: int, counted: int) -> CdcError:
    return CdcError(DEBEZIUM_INCOMPLETE, source=prefix, transaction=id_, found=found, counted=counted)


def _by_order(row: Row) -> int:
    return row.order


def _by_place(row: Row) -> tuple[tuple[int, ...], int]:
    return row.place, row.order


def past_of(records: Iterable[Incoming], decoder: Decoder, topic: str) -> Past:
    """What these records of the log tell."""
    past = Past()
    for record in records:
        if record.value is not None:
            past.see(decoder.value(record.value, topic), record.sent_ms)
    return past


def offsets_of(progress: Progress) -> Mapping[Partition, int]:
    """Where every partition goes on behind a progress."""
    rows = orjson.loads(progress.position)["rows"]
    return {(topic, int(number)): offset for topic, found in rows.items() for number, offset in found.items()}
