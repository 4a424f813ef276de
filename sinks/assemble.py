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
from collections.abc import Callable, Iterable

from cdc.errors import CORRUPT_LOG, CdcError
from cdc.event import RowEvent
from cdc.log import End, Start, Validity
from cdc.logparse import parse
from cdc.topics import log_topic
from sinks.continuity import Continuity
from sinks.decode import Decoder
from sinks.ranges import Buffer, Decode, Merge, Partition, Whole
from sinks.transaction import ChangeTransaction, Progress

STREAMED_EVENTS = 20_000
"""A transaction of more events is handed on while it is read: its END is seen, so it is whole and valid."""

TAKEN_BYTES = 4 << 20
"""Of a streamed transaction at once: parsed, an event takes several times the room of its record."""


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
        decode: Decode | None = None,
    ) -> None:
        self.source = source
        self._decode = decode or Decoder().value
        self._progress = after
        self._continuity = Continuity(source, after, last, origin)
        self._log: deque[tuple[int, Start | End | ValueError | None]] = deque()
        self._ahead = _Ahead((after.epoch, after.run) if after else None)
        self._head: tuple[int, End] | None = None
        self._buffers: dict[Partition, Buffer] = {}
        self._stream: tuple[Merge, ChangeTransaction] | None = None
        self._behind: tuple[int, End] | None = None
        self._dead = 0
        self.sequences: dict[str, int] = {}
        """Samples of heartbeats, the newest of each; whoever keeps them takes them out."""
        self.buffered_bytes = 0
        """What is held of rows."""

    # -- feeding --
    def log(self, offset: int, value: bytes | None) -> None:
        """The next record of the log."""
        record: Start | End | ValueError | None
        try:
            record = parse(value or b"")
        except ValueError as error:
            record = error
        self._log.append((offset, record))
        self._ahead.see(record)

    def assigned(self, partition: Partition) -> None:
        """Records of this partition will be fed, from the offset that `unassigned` named."""
        self._buffers[partition] = Buffer()

    def row(self, partition: Partition, offset: int, value: bytes | None) -> None:
        """The next record of a row partition. One that nobody asked for, or does no longer, is dropped."""
        buffer = self._buffers.get(partition)
        if buffer is None:
            return
        buffer.records.append((offset, value))
        buffer.next = offset + 1
        if value is not None:
            self.buffered_bytes += len(value)

    # -- what the reader looks at --
    @property
    def progress(self) -> Progress | None:
        """Behind the last transaction handed on, or the last heartbeat since."""
        if self._behind is not None:
            offset, end = self._behind
            self._progress, self._behind = Progress.behind(end, offset, self._progress), None
        return self._progress

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

    def buffered(self) -> list[Partition]:
        """Partitions that hold records."""
        return [partition for partition, buffer in self._buffers.items() if buffer.records]

    def unassigned(self) -> dict[Partition, int]:
        """Partitions that the head is the first to name, with the offset to read them from."""
        spans = self._head[1].offsets if self._head else ()
        named = {(s.topic, s.partition): s.first for s in spans}
        return {partition: first for partition, first in named.items() if partition not in self._buffers}

    def ahead(self) -> dict[Partition, int]:
        """Likewise for the ENDs that were fed and whose turn has not come: they can be assigned along."""
        return {partition: first for partition, first in self._ahead.firsts.items() if partition not in self._buffers}

    def wanted(self) -> list[Partition]:
        """Partitions whose next records are needed before anything can be handed on."""
        if self._stream is not None:
            return self._stream[0].waits_for()
        spans = self._head[1].offsets if self._head else ()
        named = ((span, (span.topic, span.partition)) for span in spans)
        return [p for span, p in named if p not in self._buffers or self._buffers[p].next <= span.last]

    def reach(self, partition: Partition) -> int:
        """The offset behind the last record fed, 0 before the first."""
        return self._buffers[partition].next

    # -- handing on --
    def next(self, *, full: bool = False, stream: bool = True) -> ChangeTransaction | None:
        """The next transaction, None until more is fed.

        One that is huge, or whose events have no room while the buffers are `full`, is handed on without
        events, unless `stream` forbids it: they come from `take`.
        """
        while self._head is None:
            if not self._log:
                return None
            self._admit(*self._log.popleft())
        offset, end = self._head
        whole = True
        for span in end.offsets:
            buffer = self._buffers.get((span.topic, span.partition))
            if buffer is None:
                return None
            whole = whole and buffer.next > span.last
        if end.event_count > STREAMED_EVENTS or (full and not whole):
            return self._streamed(offset, end) if stream else None
        if not whole:
            return None
        taken = Whole(self.source, end, self._buffers, self._decode)
        self.buffered_bytes -= taken.freed
        self._dead += taken.dead
        return self._hand_on(offset, end, taken.events, taken.bytes)

    def _streamed(self, offset: int, end: End) -> ChangeTransaction:
        merge = Merge(self.source, end, self._buffers, self._decode)
        self.buffered_bytes -= merge.freed
        transaction = self._hand_on(offset, end, iter(()), 0)
        self._stream = merge, transaction
        return transaction

    def _hand_on(self, offset: int, end: End, events: Iterable[RowEvent], size: int) -> ChangeTransaction:
        self._head = None
        self._moved(offset, end)
        return ChangeTransaction(end, self._continuity.start, offset, events, size)

    @property
    def streaming(self) -> bool:
        """Whether `take` has events of a transaction to give that is already handed on."""
        return self._stream is not None

    def take(self, limit: int) -> list[RowEvent]:
        """The next events of the streamed transaction, [] until more is fed or when it ends; few if they are large."""
        if self._stream is None:
            return []
        merge, transaction = self._stream
        before = merge.freed
        events = merge.take(limit, TAKEN_BYTES)
        self.buffered_bytes -= merge.freed - before
        transaction.bytes = merge.bytes
        if not events and merge.done:
            self._dead += merge.dead
            self._stream = None
        return events

    def _admit(self, offset: int, record: Start | End | ValueError | None) -> None:
        """The next log record; a numbered END that counts becomes the head."""
        if isinstance(record, ValueError):
            topic = log_topic(self.source)
            raise CdcError(CORRUPT_LOG, source=self.source, topic=topic, offset=offset, problem=record)
        if record is None:
            return
        epoch = self._continuity.epoch
        end = self._continuity.accept(record)
        if self._continuity.epoch != epoch:
            # A copy may have made the topics anew: this epoch's ENDs say from where to read them.
            self._buffers.clear()
            self.buffered_bytes = 0
            assert isinstance(record, Start)
            self._ahead = _Ahead((record.epoch, record.run))
            for _, later in self._log:
                self._ahead.see(later)
        if end is None:
            return
        if end.numbered:
            self._head = offset, end
        else:
            self._moved(offset, end)
            self.sequences |= end.sequences

    def _moved(self, offset: int, end: End) -> None:
        if end.commit_ts_us is None:
            # The last known one stands: it has to be worked out before this END takes the other's place.
            self._progress = self.progress
        self._behind = offset, end


class _Ahead:
    """Where partitions begin that valid ENDs of the epoch in force name, as far as the log was fed."""

    def __init__(self, in_force: tuple[int, str] | None) -> None:
        self._validity = Validity(in_force=in_force)
        self._epoch = in_force[0] if in_force else None
        self.firsts: dict[Partition, int] = {}

    def see(self, record: Start | End | ValueError | None) -> None:
        # Beyond the START of another epoch, partitions of one name may be others: they wait until it is in force.
        if not isinstance(record, Start | End) or record.epoch != self._epoch or not self._validity.admit(record):
            return
        if isinstance(record, End):
            for span in record.offsets:
                self.firsts.setdefault((span.topic, span.partition), span.first)
