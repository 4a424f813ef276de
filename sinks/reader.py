"""`TransactionReader`: whole committed transactions of a source out of Kafka, in commit order, each once.

    with TransactionReader({"bootstrap.servers": "kafka1:9092"}, source="shop", after=saved) as reader:
        for transaction in reader:
            for event in transaction.events:
                ...
            saved = reader.progress     # keep it in the same place, and the same commit, as your result

In: librdkafka properties, the source's topic prefix, the `Progress` of an earlier reader (None: from the beginning, or
with `latest_copy` from the last base copy, which is all that a replica needs); for events in Avro `schema_of`, which
gives a schema by its id: `sinks.Registry(…).schema`.
Out: `ChangeTransaction`s; `progress` behind the last one, moved by heartbeats in between; shapes by their id.
Refuses: a progress that the log does not hold (PROGRESS_UNKNOWN), records that are gone (LOG_LOST, EVENTS_LOST), topics
deleted, made anew or compacted (TOPIC_…), holes in the log. A copy that begins further on makes all of this
irrelevant: then it goes on there.

It assigns partitions itself and commits nothing to Kafka. Rows are read ahead of the log up to `budget_bytes`; then
partitions that hold records nobody waits for are paused, never those that the next transaction needs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping

from cdc.closing import Closing
from cdc.errors import (
    CORRUPT_EVENT,
    CORRUPT_LOG,
    EPOCH_GAP,
    EVENTS_LOST,
    LOG_GAP,
    LOG_LOST,
    PROGRESS_UNKNOWN,
    SCHEMA_UNKNOWN,
    TOPIC_MISSING,
    TOPIC_REPLACED,
    CdcError,
)
from cdc.event import RowEvent, Table
from cdc.kafka import Reader
from cdc.kafka_admin import Admin
from cdc.log import End, Span, Start
from cdc.logparse import parse
from cdc.shape import SchemaRecord, holds_no_shape, parse_shape
from cdc.topics import log_topic, shape_topic
from sinks.assemble import Assembler
from sinks.brokers import check_own, check_rows, starts
from sinks.decode import Decoder, SchemaOf
from sinks.ranges import Partition, lost
from sinks.transaction import ChangeTransaction, Progress

BUDGET_BYTES = 32 << 20
_POLL_RECORDS = 2_000
_LOG_AHEAD = 20_000
"""ENDs read ahead of their rows; each is small."""
_LATE_S = 2.0
"""Without a record for so long, what is awaited is looked for."""
_LOST_S = 15.0
"""An acknowledged record that the broker does not have after so long is not hidden by a change of leader."""
_GRACE_S = 0.5
_VOIDED_BY_A_COPY = {
    CORRUPT_EVENT, CORRUPT_LOG, EPOCH_GAP, EVENTS_LOST, LOG_GAP, LOG_LOST, PROGRESS_UNKNOWN, SCHEMA_UNKNOWN,
    TOPIC_MISSING, TOPIC_REPLACED,
}  # fmt: skip
_log = logging.getLogger(__name__)


class TransactionReader(Closing):
    """See the module. Errors are final for a reader, but not for its progress: make a new one from there."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        *,
        source: str,
        after: Progress | None = None,
        latest_copy: bool = False,
        budget_bytes: int = BUDGET_BYTES,
        client: str = "cdc-transactions",
        schema_of: SchemaOf | None = None,
    ) -> None:
        self.source = source
        self._options, self._client, self._budget = kafka, client, budget_bytes
        self._log, self._shape_log = (log_topic(source), 0), (shape_topic(source), 0)
        self._after, self._latest_copy = after, latest_copy
        self._kafka = Reader(kafka, client=client)
        self._admin = Admin(kafka)
        self._decode = Decoder(schema_of).value
        self._assembler = Assembler(source, after, decode=self._decode)
        self._opened = False
        self._shapes: dict[str, SchemaRecord] = {}
        self._topic_ids: dict[str, str] = {}
        self._next: dict[Partition, int] = {}
        self._assigned: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._awaited: list[tuple[Partition, int]] = []
        self._awaited_since = self._examined = 0.0
        self._voided = 0

    # -- what a caller uses --
    def __iter__(self) -> Iterator[ChangeTransaction]:
        """Every transaction, waiting for the next one for ever."""
        while True:
            transaction = self.poll(1.0)
            if transaction is not None:
                yield transaction

    def poll(self, timeout_s: float, *, stream: bool = True) -> ChangeTransaction | None:
        """The next transaction, or None if none is complete in that time. The last one's events must be taken.

        Records that are there already are read in any case, for a little longer if need be. Without `stream` one
        that does not fit into memory stays where it is.
        """
        if self._assembler.streaming:
            raise RuntimeError("take all events of a transaction before asking for the next one")
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if self._opened or self._open():
                    transaction = self._hand_on(stream=stream)
                    if transaction is not None:
                        return transaction
                left = deadline - time.monotonic()
                if (not self._read(max(0.0, left)) and left <= 0) or left < -_GRACE_S:
                    return None
            except CdcError as error:
                if error.code not in _VOIDED_BY_A_COPY or not self.skip_to_copy(error.text):
                    raise

    @property
    def progress(self) -> Progress | None:
        """Behind the last transaction handed on, or the last heartbeat since; None if there was none."""
        return self._assembler.progress

    def take_sequences(self) -> dict[str, int]:
        """What heartbeats up to `progress` said of sequences since the last time: name and last value."""
        taken, self._assembler.sequences = self._assembler.sequences, {}
        return taken

    @property
    def ignored(self) -> int:
        """Records of dead runs that were passed over."""
        return self._assembler.ignored

    @property
    def buffered_bytes(self) -> int:
        return self._assembler.buffered_bytes

    def schema(self, schema_id: str) -> Table:
        """The shape that events of this id have."""
        record = self._shapes.get(schema_id)
        if record is None:
            raise self._unknown(schema_id)
        return record.table

    def close(self) -> None:
        self._kafka.close()

    # -- opening --
    def _open(self) -> bool:
        """Whether the source's log is there; a reader from the beginning may be earlier than its source."""
        missing = check_own(self._admin, self.source, [self._log[0], self._shape_log[0]])
        if missing is not None:
            if self._after is None:
                return False
            raise CdcError(TOPIC_MISSING, source=self.source, topic=missing)
        begins, ends = self._kafka.watermarks(*self._shape_log)
        for record in self._kafka.read_range(*self._shape_log, begins, ends):
            self._learn(record.offset(), record.value())
        self._next[self._shape_log] = ends
        self._next[self._log] = self._resume(self._after) if self._after else self._kafka.watermarks(*self._log)[0]
        self._assign_again({})
        self._opened = True
        if self._after is None and self._latest_copy:
            self.skip_to_copy("what lies before the last base copy is void")
        return True

    def _resume(self, after: Progress) -> int:
        """The offset behind our progress, whose record must be the one we saw."""
        begins, ends = self._kafka.watermarks(*self._log)
        if not begins <= after.log_offset < ends:
            raise self._progress_unknown(after, f"the topic holds offsets {begins} to {ends - 1}")
        (record,) = self._kafka.read_range(*self._log, after.log_offset, after.log_offset + 1)
        try:
            last = parse(record.value() or b"")
        except ValueError as error:
            raise self._progress_unknown(after, str(error)) from None
        if not isinstance(last, End) or (last.epoch, last.run, last.txn_seq) != (after.epoch, after.run, after.txn_seq):
            found = f"END {last.txn_seq} of epoch {last.epoch}, run {last.run}" if isinstance(last, End) else "no END"
            raise self._progress_unknown(after, f"there is {found}")
        self._assembler = Assembler(
            self.source, after, last=last, origin=lambda: self._start_of(after.run), decode=self._decode
        )
        return after.log_offset + 1

    def _progress_unknown(self, after: Progress, problem: str) -> CdcError:
        return CdcError(
            PROGRESS_UNKNOWN, source=self.source, epoch=after.epoch, txn_seq=after.txn_seq, run=after.run,
            offset=after.log_offset, sink=self._client, problem=problem,
        )  # fmt: skip

    # -- handing on --
    def _hand_on(self, *, stream: bool) -> ChangeTransaction | None:
        transaction = self._assembler.next(full=self._assembler.buffered_bytes > self._budget, stream=stream)
        if transaction is None:
            return None
        self._await_shapes(transaction.end)
        if self._assembler.streaming:
            for span in transaction.end.offsets:
                self._look_for(span, transaction.end, certain=True)
            transaction.events = self._stream()
        return transaction

    def _stream(self) -> Iterator[RowEvent]:
        while self._assembler.streaming:
            events = self._assembler.take(1_000)
            yield from events
            if not events and self._assembler.streaming:
                self._read(1.0)

    def _await_shapes(self, end: End) -> None:
        """An END's shapes were acknowledged before it: they are there, if perhaps not read yet."""
        if not end.schemas:
            return
        deadline = time.monotonic() + _LOST_S
        for schema_id, offset in end.schemas:
            while self._next[self._shape_log] <= offset and time.monotonic() < deadline:
                self._feed(0.2)
            if schema_id not in self._shapes:
                raise self._unknown(schema_id)

    def _unknown(self, schema_id: str) -> CdcError:
        topic = self._shape_log[0]
        return CdcError(SCHEMA_UNKNOWN, source=self.source, topic=topic, schema_id=schema_id)

    # -- reading --
    def _read(self, timeout_s: float) -> bool:
        """Feed the assembler; whether anything came."""
        if not self._opened:
            time.sleep(min(timeout_s, 1.0))
            return False
        self._assign(self._assembler.unassigned())
        self._balance()
        came = self._feed(timeout_s)
        self._examine()
        return came

    def _feed(self, timeout_s: float) -> bool:
        records = self._kafka.poll(_POLL_RECORDS, timeout_s)
        assembler, log, shapes = self._assembler, self._log[0], self._shape_log[0]
        for record in records:
            topic, offset = record.topic(), record.offset()
            if topic == log:
                assembler.log(offset, record.value())
                self._next[self._log] = offset + 1
            elif topic == shapes:
                self._learn(offset, record.value())
                self._next[self._shape_log] = offset + 1
            else:
                assembler.row((topic, record.partition()), offset, record.value())
        return bool(records)

    def _learn(self, offset: int, value: bytes | None) -> None:
        if holds_no_shape(value or b""):
            return
        try:
            record = parse_shape(value or b"")
        except ValueError as error:
            topic = self._shape_log[0]
            raise CdcError(CORRUPT_LOG, source=self.source, topic=topic, offset=offset, problem=error) from None
        self._shapes[record.schema_id] = record
        self._topic_ids[record.topic] = record.topic_id

    def _assign(self, offsets: Mapping[Partition, int]) -> None:
        if not offsets:
            return
        if self._assembler.head:
            self._await_shapes(self._assembler.head)
        self._check_topics(offsets)
        offsets = {**self._along(), **offsets}
        if self._assigned & offsets.keys():
            self._assign_again(offsets)
        else:
            self._kafka.add(offsets)
            self._assigned |= offsets.keys()
        for partition in offsets:
            self._assembler.assigned(partition)

    def _along(self) -> dict[Partition, int]:
        """What comes later and can be had in the same step: each step costs the client a fetch that waits in vain.

        What is wrong with one of these is said when its turn comes.
        """
        later = {p: first for p, first in self._assembler.ahead().items() if p[0] in self._topic_ids}
        try:
            self._check_topics(later)
        except CdcError:
            return {}
        return later

    def _assign_again(self, offsets: Mapping[Partition, int]) -> None:
        """Read exactly these row partitions from now on."""
        self._kafka.assign({**self._next, **offsets})
        self._assigned, self._paused = set(offsets), set()

    def _balance(self) -> None:
        """Pause what runs ahead while there is no room; wake what is needed, and all when there is room again."""
        held = self._assembler.buffered_bytes
        log_ahead = self._assembler.log_pending > _LOG_AHEAD
        if held <= self._budget and not log_ahead and not self._paused:
            return
        wanted = set(self._assembler.wanted())
        pause = set(self._assembler.buffered()) - wanted if held > self._budget else set()
        if log_ahead:
            pause.add(self._log)
        keep = self._paused - wanted - {self._log} if held > self._budget // 2 else set()
        if self._assembler.log_pending > _LOG_AHEAD // 4:
            keep |= self._paused & {self._log}
        wake = self._paused - keep - pause
        if wake:
            self._kafka.resume(wake)
        if pause - self._paused:
            self._kafka.pause(pause - self._paused)
        self._paused = (self._paused - wake) | pause

    # -- late or lost --
    def _examine(self) -> None:
        """Is what we wait for still on its way, or gone?"""
        if self._assembler.missed_beginning and self._assembler.log_pending == 0:
            begins, ends = self._kafka.watermarks(*self._log)
            if self._next[self._log] >= ends:
                raise self._log_lost(self._log, begins, 0)
        wanted = [p for p in self._assembler.wanted() if p in self._assigned]
        awaited, now = [(p, self._assembler.reach(p)) for p in wanted], time.monotonic()
        if awaited != self._awaited:
            self._awaited, self._awaited_since = awaited, now
        late = now - self._awaited_since
        if not wanted or late < _LATE_S or now - self._examined < _LATE_S:
            return
        self._examined = now
        self._check_topics(wanted)
        end = self._assembler.head
        for span in end.offsets if end else ():
            if end and (span.topic, span.partition) in wanted:
                self._look_for(span, end, certain=late > _LOST_S)

    def _look_for(self, span: Span, end: End, *, certain: bool) -> None:
        begins, ends = self._kafka.watermarks(span.topic, span.partition)
        needs = max(span.first, self._assembler.reach((span.topic, span.partition)))
        if begins > needs:
            raise self._log_lost((span.topic, span.partition), begins, needs)
        if ends <= span.last and certain:
            raise lost(self.source, end, span, f"the partition ends at offset {ends - 1}")

    def _check_topics(self, partitions: Iterable[Partition]) -> None:
        check_rows(self._admin, self.source, sorted({name for name, _ in partitions}), self._topic_ids)

    def _log_lost(self, partition: Partition, begins: int, needs: int) -> CdcError:
        topic, number = partition
        return CdcError(LOG_LOST, source=self.source, topic=topic, partition=number, begins=begins, needs=needs)

    # -- looking along the log --
    def skip_to_copy(self, why: str, epoch: int | None = None) -> bool:
        """Go on at the log's last base copy, if it is in a later epoch: it voids every table, whatever came before."""
        epoch = max(self._assembler.epoch or 0 if epoch is None else epoch, self._voided)
        copies = [
            (offset, start)
            for offset, start in starts(self._options, self.source, self._client)
            if start.copy == "initial" and start.opened is not None and start.epoch > epoch
        ]
        if not copies or copies[-1][0] == self._next.get(self._log):
            return False
        offset, start = copies[-1]
        _log.warning("%s; going on at the copy of epoch %d, offset %d of the log", why, start.epoch, offset)
        self._assembler = Assembler(self.source, decode=self._decode)
        self._after, self._voided = None, start.epoch
        # The old client may still hold the same error about a partition that is of no interest any more.
        self._kafka.close()
        self._kafka = Reader(self._options, client=self._client)
        if not self._opened and not self._open():
            return False
        self._next[self._log] = offset
        self._assign_again({})
        return True

    def _start_of(self, run: str) -> Start | None:
        found = [start for _, start in starts(self._options, self.source, self._client) if start.run == run]
        return found[-1] if found else None
