"""Records of Debezium's log and of its row topics → whole transactions, in the order of their ENDs. Pure.

In: log records in order, rows in order per partition; the log may be ahead of the rows or behind. Out:
`ChangeTransaction`s; rows outside of any transaction (an initial or incremental snapshot) in batches, each after what
stands before it in its partition. Refuses: more rows than an END counts, a record of our own source in the log, what
`rows` refuses; fewer rows are waited for.

A connector that was killed writes again what it does not know to be written: ENDs and rows whose transaction was handed
on already are passed over, as far back as `remembered` goes; beyond, they are applied again and converge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from cdc.errors import DEBEZIUM_ENDED, DEBEZIUM_INCOMPLETE, DEBEZIUM_RECORD, CdcError
from cdc.event import RowEvent
from cdc.log import Change, End
from cdc.topics import log_topic, row_topic
from sinks.debezium.rows import Row, Rows, transaction_key
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
    """`rows` are counted without logical messages, `topics` are those that hold them."""

    offset: int
    id: str
    key: str
    ts_ms: int
    collections: tuple[tuple[str, int], ...]
    topics: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(count for _, count in self.collections)


class Assembler:
    """Holds what was read until it is whole. `remembered` are the transactions before `after`."""

    def __init__(
        self, prefix: str, decoder: Decoder, shapes: Shapes, after: Progress | None, remembered: Iterable[str] = ()
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
        self._open: dict[str, dict[int, Row]] = {}
        self._past = dict.fromkeys(remembered)
        self._moved = False
        self.repeated = 0
        """Records that were passed over because they had been applied."""
        self.buffered_bytes = 0

    # -- feeding --
    def log(self, offset: int, value: bytes | None) -> None:
        """The next record of the log."""
        if value is None:
            return
        try:
            end = self._end(offset, value)
        except (ValueError, KeyError, TypeError) as error:
            raise self._bad(log_topic(self._prefix), 0, offset, error) from None
        if end is not None:
            self._log.append(end)

    def assigned(self, partition: Partition, offset: int, partitions: int) -> None:
        """Records of this partition will be fed from here on."""
        self._waiting[partition], self._next[partition] = deque(), offset
        self._partitions[partition[0]] = partitions

    def row(self, partition: Partition, offset: int, key: bytes | None, value: bytes | None) -> None:
        """The next record of a row partition."""
        self._next[partition] = offset + 1
        topic = partition[0]
        try:
            row = self._rows.row(topic, self._partitions[topic], offset, key, value)
        except (ValueError, KeyError, TypeError) as error:
            raise self._bad(topic, partition[1], offset, error) from None
        if row is None:
            return
        if row.transaction in self._past:
            self.repeated += 1
            return
        self._waiting[partition].append(row)
        self.buffered_bytes += row.bytes
        if row.transaction:
            self._take(self._open.setdefault(row.transaction, {}), row)

    def _take(self, rows: dict[int, Row], row: Row) -> None:
        """Of a change that comes again before its END the first counts."""
        if row.order in rows:
            row.done = True
            self.repeated += 1
        else:
            rows[row.order] = row

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
        return end.id, len(self._open.get(end.key, ())), end.rows

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
            if end.key in self._past:
                self.repeated += 1
                self._behind(self._log.popleft())
                continue
            rows = self._open.get(end.key, {})
            if len(rows) > end.rows:
                raise incomplete(self._prefix, end.id, len(rows), end.rows)
            if len(rows) < end.rows:
                return None
            self._behind(self._log.popleft())
            self._open.pop(end.key, None)
            self._remember(end.key)
            if rows:
                return self._hand_on(end, [rows[order] for order in sorted(rows)])
        return None

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

    def _behind(self, end: _End) -> None:
        self._log_offset = end.offset

    def _remember(self, key: str) -> None:
        self._past[key] = None
        if len(self._past) > REMEMBERED:
            del self._past[next(iter(self._past))]

    # -- records --
    def _end(self, offset: int, value: bytes) -> _End | None:
        record = self._decoder.value(value, log_topic(self._prefix))
        if record["status"] == "START":
            raise CdcError(DEBEZIUM_ENDED, source=self._prefix, topic=log_topic(self._prefix), offset=offset)
        if record["status"] == "BEGIN":
            return None
        if record["status"] != "END":
            raise ValueError(f"unknown status {record['status']!r}")
        found = ((one["data_collection"], one["event_count"]) for one in record["data_collections"] or ())
        collections = tuple((name, count) for name, count in found if not name.startswith(_NO_TABLE))
        topics = tuple(row_topic(self._prefix, *name.split(".", 1)) for name, _ in collections)
        return _End(offset, record["id"], transaction_key(record["id"]), record["ts_ms"], collections, topics)

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


def ends(records: Iterable[bytes | None], decoder: Decoder, topic: str) -> list[str]:
    """The transactions that these records of the log end."""
    values = (decoder.value(value, topic) for value in records if value is not None)
    return [transaction_key(value["id"]) for value in values if value["status"] == "END"]


def offsets_of(progress: Progress) -> Mapping[Partition, int]:
    """Where every partition goes on behind a progress."""
    rows = orjson.loads(progress.position)["rows"]
    return {(topic, int(number)): offset for topic, found in rows.items() for number, offset in found.items()}
