"""`DebeziumReader`: whole transactions out of the topics that a Debezium connector writes.

In: librdkafka's properties, the connector's topic prefix, the `Progress` of an earlier reader (None: from the beginning
of every topic), the replica's shapes. Out: what a `TransactionReader` gives, from another writer.
Refuses: topics that are compacted, or whose beginning is gone where it is needed (DEBEZIUM_GONE); a log of several
partitions (TOPIC_PARTITIONS); a transaction of which rows are missing (DEBEZIUM_INCOMPLETE); what `assemble` refuses.

Its promise is less than that of our own topics: a transaction comes whole and in order, but what was never written, or
is gone between two transactions, leaves no trace.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from cdc.closing import Closing
from cdc.errors import DEBEZIUM_GONE, PROGRESS_UNKNOWN, TOPIC_PARTITIONS, CdcError
from cdc.event import Table
from cdc.kafka import Reader, Record
from cdc.kafka_admin import Admin
from cdc.topics import log_topic, message_topic
from sinks.brokers import check_rows
from sinks.debezium.assemble import REMEMBERED, RUN, Assembler, incomplete, offsets_of, past_of
from sinks.debezium.rows import Incoming
from sinks.debezium.shapes import AtTarget, Shapes
from sinks.decode import Decoder, SchemaOf
from sinks.ranges import Partition
from sinks.transaction import ChangeTransaction, Progress

BUDGET_BYTES = 32 << 20
_OLD_KEY = "__debezium.oldkey"
_POLL_RECORDS = 2_000
_LOOK_EVERY_S = 2.0
"""How often topics are looked for that were not there."""
_LOST_S = 60.0
"""Rows are sent before their END: one that does not come so long after it has to be told of."""


class DebeziumReader(Closing):
    """See the module. Errors are final for a reader, but not for its progress: make a new one from there."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        *,
        prefix: str,
        after: Progress | None,
        known: Mapping[str, tuple[str, Table]],
        at_target: AtTarget,
        client: str,
        schema_of: SchemaOf | None = None,
    ) -> None:
        self._prefix, self._log, self._client = prefix, (log_topic(prefix), 0), client
        self._kafka, self._admin = Reader(kafka, client=client), Admin(kafka)
        self._decoder, self._shapes = Decoder(schema_of), Shapes(known, at_target)
        self._after = after
        self._assembler: Assembler | None = None
        self._from = offsets_of(after) if after else {}
        self._reached: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._looked = float("-inf")
        self._ends: tuple[str, dict[Partition, int]] | None = None
        self._awaited: object = None
        self._awaited_since = 0.0

    # -- what a caller uses --

    def close(self) -> None:
        self._kafka.close()

    def poll(self, timeout_s: float, *, stream: bool = True) -> ChangeTransaction | None:  # noqa: ARG002 - none is streamed
        """The next transaction, or None if none is complete in that time."""
        deadline = time.monotonic() + timeout_s
        assembler = self._assembler or self._open()
        while True:
            transaction = assembler.next()
            if transaction is not None:
                return transaction
            self._look(assembler)
            if assembler.resumed:
                self._read_to_the_end(assembler, assembler.resumed)
            left = deadline - time.monotonic()
            if not self._read(assembler, max(0.0, left)) and left <= 0:
                return None

    @property
    def progress(self) -> Progress | None:
        """Behind the last transaction handed on."""
        return (self._assembler.progress if self._assembler else None) or self._after

    @property
    def ignored(self) -> int:
        """Repeated records that were passed over."""
        return self._assembler.repeated if self._assembler else 0

    @property
    def buffered_bytes(self) -> int:
        return self._assembler.buffered_bytes if self._assembler else 0

    def schema(self, schema_id: str) -> Table:
        """The shape that events of this id have."""
        return self._shapes.by_id[schema_id]

    def skip_to_copy(self, why: str, epoch: int | None = None) -> bool:  # noqa: ARG002 - as a `TransactionReader`
        """There is no copy in these topics that would void what was before it."""
        return False

    # -- opening --
    def _open(self) -> Assembler:
        """The transactions before our progress are remembered: the connector may write them again."""
        after, past = self._after, None
        if after is not None:
            self._check_progress(after)
            if after.log_offset >= 0:
                begins, behind = self._kafka.watermarks(*self._log)
                if not begins <= after.log_offset < behind:
                    raise self._unknown(after, f"the topic holds offsets {begins} to {behind - 1}")
                first = max(begins, after.log_offset + 1 - REMEMBERED)
                records = self._kafka.read_range(*self._log, first, after.log_offset + 1)
                past = past_of(map(_incoming, records), self._decoder, self._log[0])
        self._assembler = Assembler(self._prefix, self._decoder, self._shapes, after, past)
        return self._assembler

    def _check_progress(self, after: Progress) -> None:
        if after.run != RUN:
            raise self._unknown(after, "it was made of the topics of our own source")

    def _unknown(self, after: Progress, problem: str) -> CdcError:
        return CdcError(
            PROGRESS_UNKNOWN, source=self._prefix, epoch=after.epoch, txn_seq=after.txn_seq, run=after.run,
            offset=after.log_offset, sink=self._client, problem=problem,
        )  # fmt: skip

    def _look(self, assembler: Assembler) -> None:
        """For topics that were not there before; a connector makes each with its first record."""
        now, missing = time.monotonic(), set(assembler.topics_awaited()) - {topic for topic, _ in self._reached}
        if now - self._looked < (_LOOK_EVERY_S if not missing else 0.2):
            return
        self._looked = now
        names = self._admin.names()
        found = [name for name in names if name.startswith(f"{self._prefix}.") and name != message_topic(self._prefix)]
        new = [name for name in found if (name, 0) not in self._reached]
        if new:
            self._add(assembler, new)

    def _add(self, assembler: Assembler, names: list[str]) -> None:
        check_rows(self._admin, self._prefix, names, {})
        offsets: dict[Partition, int] = {}
        for name, topic in self._admin.describe(names).items():
            if name == self._log[0] and topic.partitions != 1:
                raise CdcError(TOPIC_PARTITIONS, source=self._prefix, topic=name, now=topic.partitions, wanted=1)
            for partition in range(topic.partitions):
                offsets[name, partition] = self._first(name, partition)
                if name != self._log[0]:
                    assembler.assigned((name, partition), offsets[name, partition], topic.partitions)
        self._kafka.add(offsets)
        self._reached |= offsets

    def _first(self, topic: str, partition: int) -> int:
        begins, _ = self._kafka.watermarks(topic, partition)
        is_log = topic == self._log[0]
        wanted = (self._after.log_offset + 1 if self._after else 0) if is_log else self._from.get((topic, partition), 0)
        if begins > wanted:
            raise CdcError(
                DEBEZIUM_GONE, source=self._prefix, topic=topic, partition=partition, begins=begins, needs=wanted
            )
        return wanted

    # -- reading --
    def _read(self, assembler: Assembler, timeout_s: float) -> bool:
        """Feed the assembler; whether anything came."""
        if not self._reached:
            time.sleep(min(timeout_s, 0.2))
            return False
        self._balance(assembler)
        records = self._kafka.poll(_POLL_RECORDS, min(timeout_s, _LOOK_EVERY_S))
        for record in records:
            partition, offset = (record.topic(), record.partition()), record.offset()
            self._reached[partition] = offset + 1
            if partition == self._log:
                assembler.log(_incoming(record))
            else:
                assembler.row(partition, _incoming(record))
        self._examine(assembler)
        return bool(records)

    def _read_to_the_end(self, assembler: Assembler, id_: str) -> None:
        """Once every row partition was read up to where it ended when this was first asked for."""
        if self._ends is None or self._ends[0] != id_:
            partitions = [partition for partition in self._reached if partition != self._log]
            self._ends = id_, {partition: self._kafka.watermarks(*partition)[1] for partition in partitions}
        if all(self._reached[partition] >= end for partition, end in self._ends[1].items()):
            assembler.read_to_the_end(id_)

    def _balance(self, assembler: Assembler) -> None:
        """Pause what holds rows that nobody waits for while there is no room."""
        full = assembler.buffered_bytes > BUDGET_BYTES and not assembler.resumed
        awaited = set(assembler.topics_awaited())
        keep = {partition for partition in assembler.buffered() if full and partition[0] not in awaited}
        if self._paused - keep:
            self._kafka.resume(self._paused - keep)
        if keep - self._paused:
            self._kafka.pause(keep - self._paused)
        self._paused = keep

    def _examine(self, assembler: Assembler) -> None:
        """Are the rows that an END counts still on their way, or gone?"""
        awaited, now = assembler.awaited(), time.monotonic()
        if awaited != self._awaited:
            self._awaited, self._awaited_since = awaited, now
        if awaited is None or now - self._awaited_since < _LOST_S:
            return
        places = [place for place in self._reached if place[0] in assembler.topics_awaited()]
        if all(self._kafka.watermarks(*place)[1] <= self._reached[place] for place in places):
            raise incomplete(self._prefix, *awaited)


def _incoming(record: Record) -> Incoming:
    _, sent_ms = record.timestamp()
    moved = any(name == _OLD_KEY for name, _ in record.headers() or ())
    return Incoming(record.offset(), record.key(), record.value(), sent_ms, moved)
