"""The archive's loop: transactions out of Kafka into segments, each durable before it is named.

In: `ArchiveSettings`. Out: an unbroken chain of segments, and a head that moves while nothing is written. Refuses:
another archiver of the same name (ARCHIVE_HELD), and what the reader refuses.

    bodies → manifest (only if nobody else wrote it) → head

A kill before the manifest leaves bodies that nobody names; after it, the next start finds it by listing. The manifest
is named by the first transaction it holds, so two archivers that stand at the same place want the same name, and one
of them learns that he is not alone (CORRECTNESS 31).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from cdc.errors import ARCHIVE_HELD, EVENTS_LOST, LOG_LOST, CdcError
from cdc.event import Engine, Table
from cdc.failpoint import failpoint
from cdc.kafka import Reader
from cdc.retry import keep_trying
from cdc.status_tail import read_tail as read_log_tail
from sinks.archive.archive import Archive
from sinks.archive.body import Body
from sinks.archive.chain import HEAD, Tail, read_head, read_tail
from sinks.archive.manifest import Head, Link, Segment, body_name
from sinks.archive.segment import SegmentWriter
from sinks.decode import SchemaOf
from sinks.reader import TransactionReader
from sinks.transaction import ChangeTransaction, Progress

_IDLE_S = 0.5
_GONE = {EVENTS_LOST, LOG_LOST}


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """One source of an `[archive.NAME]` section. `source` is the topic prefix, `kafka` librdkafka's properties."""

    name: str
    source: str
    url: str
    kafka: Mapping[str, str] = field(repr=False)
    key: bytes | None = field(repr=False)
    roll_every: float = 60.0
    roll_bytes: int = 256 << 20
    """Of events, as records."""
    accept_gap: bool = False
    engine: Engine = "postgresql"
    """The source's."""
    schema_of: SchemaOf | None = None
    """Of the registry, where one is configured."""


@dataclass(frozen=True, slots=True)
class Archived:
    """What is durable now."""

    progress: Progress
    segment: Segment | None
    """The one just written; None if only the head moved."""
    stored_bytes: int
    seconds: float


class Observer(Protocol):
    """What an archiver tells those who watch it."""

    def started(self, progress: Progress | None) -> None: ...
    def archived(self, archived: Archived) -> None: ...
    def turn(self, pending_since_us: int | None) -> None: ...
    def retry(self, error: CdcError, wait_s: float) -> None: ...


class Tended(Protocol):
    """What goes on beside the log: bases and anchors."""

    def tend(self, epoch: int, *, alone: bool) -> None: ...
    def close(self) -> None: ...


class Archiver:
    """An archive of the configuration, until it is stopped or somebody has to decide."""

    def __init__(self, settings: ArchiveSettings, observer: Observer, jobs: Tended) -> None:
        self._settings, self._observer, self._jobs = settings, observer, jobs
        self._at_end = settings.accept_gap
        self._writer = secrets.token_hex(8)

    def run(self, stop: Callable[[], bool]) -> None:
        try:
            keep_trying(lambda: self._follow(stop), stop, self._observer.retry)
        finally:
            self._jobs.close()

    def _follow(self, stop: Callable[[], bool]) -> None:
        settings = self._settings
        archive = Archive.open_or_make(settings.url, settings.key, settings.source, settings.engine)
        tail = read_tail(archive)
        self._observer.started(tail.progress if tail else None)
        after = tail.progress if tail else None
        if self._at_end:
            after = self._end_of_log()
        client = f"cdc-archive-{settings.name}"
        with TransactionReader(
            settings.kafka, source=settings.source, after=after, client=client, schema_of=settings.schema_of
        ) as reader:
            chain = _Chain(archive, self._writer, tail, reader.schema, self._observer)
            try:
                self._write(chain, reader, stop)
            except CdcError as error:
                if error.code not in _GONE or chain.previous is not None:
                    raise
                # Nothing is archived yet and the log's beginning is gone: what can be kept begins now.
                self._at_end = True

    def _write(self, chain: _Chain, reader: TransactionReader, stop: Callable[[], bool]) -> None:
        settings = self._settings
        while not stop():
            transaction = reader.poll(_IDLE_S)
            if reader.progress is not None:
                chain.sampled(reader.progress.epoch, reader.take_sequences())
            if transaction is not None:
                chain.add(transaction)
                self._at_end = False
            if chain.is_due(settings.roll_every, settings.roll_bytes):
                chain.roll()
            elif reader.progress is not None and chain.is_idle(settings.roll_every):
                chain.move_head(reader.progress)
            self._observer.turn(chain.pending_since_us)
            if reader.progress is not None:
                self._jobs.tend(reader.progress.epoch, alone=chain.alone)
        chain.roll()
        if reader.progress is not None:
            chain.move_head(reader.progress)

    def _end_of_log(self) -> Progress | None:
        with closing(Reader(self._settings.kafka, client=f"cdc-archive-{self._settings.name}")) as reader:
            end = read_log_tail(reader, self._settings.source)
        return Progress.behind(end.last, end.offset) if end.last and end.offset is not None else None


class _Chain:
    """The end of the chain, and the segment that is being put together behind it."""

    def __init__(
        self,
        archive: Archive,
        writer: str,
        tail: Tail | None,
        shape_of: Callable[[str], Table],
        observer: Observer,
    ) -> None:
        self._archive, self._writer, self._shape_of, self._observer = archive, writer, shape_of, observer
        self.alone = False
        """Whether nobody else wrote here since this process wrote last."""
        self.previous: Link | None = tail.link if tail else None
        self._segment: Segment | None = tail.segment if tail else None
        self._progress: Progress | None = tail.progress if tail else None
        self._sequences: dict[str, int] = dict(tail.sequences) if tail else {}
        self._open: _Open | None = None
        self._moved_at = time.monotonic()

    @property
    def pending_since_us(self) -> int | None:
        """The commit time of the oldest transaction that is not durable here."""
        return self._open.since_us if self._open else None

    def add(self, transaction: ChangeTransaction) -> None:
        if self._open and self._open.epoch != transaction.epoch:
            self.roll()
        if self._open is None:
            self._open = _Open(self._archive, transaction, self._shape_of)
        self._open.add(transaction)

    def sampled(self, epoch: int, sequences: Mapping[str, int]) -> None:
        """They go into the segment that is open, else into the head, and from there into the next segment."""
        if self._open and self._open.epoch != epoch:
            self.roll()
        self._sequences |= sequences

    def is_due(self, roll_every: float, roll_bytes: int) -> bool:
        return self._open is not None and (self._open.age >= roll_every or self._open.bytes >= roll_bytes)

    def is_idle(self, seconds: float) -> bool:
        return self._open is None and time.monotonic() - self._moved_at >= seconds

    def roll(self) -> None:
        """Make what is put together durable; then name it; then point to it."""
        if self._open is None:
            return
        began, segment = time.monotonic(), self._open.finish(self.previous, self._segment, self._sequences)
        stored = self._archive.put_new(segment.name, segment.to_bytes())
        if stored is None:
            raise CdcError(ARCHIVE_HELD, url=self._archive.store.url, name=segment.name)
        failpoint("archive.after_manifest")
        bodies = [body for body in (segment.rows, segment.transactions) if body]
        self._open, self._segment, self._sequences, self.alone = None, segment, {}, True
        self.previous = Link(name=segment.name, sha256=stored.sha256)
        behind = Progress(
            segment.epoch, segment.last_seq, segment.run, segment.position, segment.log_offset, segment.commit_us
        )
        self._put_head(behind)
        size = stored.size + sum(body.size for body in bodies)
        self._observer.archived(Archived(behind, segment, size, time.monotonic() - began))

    def move_head(self, progress: Progress) -> None:
        """Nothing was committed up to there. Before the first segment there is nothing to point from."""
        if self.previous is None or progress == self._progress or self._open is not None:
            return
        head = read_head(self._archive)
        self.alone = head is not None and head.writer == self._writer
        self._put_head(progress)
        self._observer.archived(Archived(progress, None, 0, 0.0))

    def _put_head(self, progress: Progress) -> None:
        assert self.previous is not None
        head = Head(
            segment=self.previous.name,
            sha256=self.previous.sha256,
            epoch=progress.epoch,
            txn_seq=progress.txn_seq,
            run=progress.run,
            position=progress.position,
            log_offset=progress.log_offset,
            commit_us=progress.commit_ts_us,
            written_ms=time.time_ns() // 1_000_000,
            sequences=self._sequences,
            writer=self._writer,
        )
        self._archive.put(HEAD, head.to_bytes())
        failpoint("archive.after_head")
        self._progress, self._moved_at = progress, time.monotonic()


class _Open:
    """A segment that is being put together, in two files without a name that hold only what would be stored."""

    def __init__(self, archive: Archive, first: ChangeTransaction, shape_of: Callable[[str], Table]) -> None:
        self._archive, self._shape_of = archive, shape_of
        self._first, self._last = first, first
        self.epoch, self.bytes = first.epoch, 0
        self._began = time.monotonic()
        body_id = secrets.token_hex(8)
        self._rows = Body(archive, body_name(first.epoch, first.txn_seq, body_id, "rows"))
        self._transactions = Body(archive, body_name(first.epoch, first.txn_seq, body_id, "txns"))
        self._writer = SegmentWriter(self._rows.stream, self._transactions.stream, shape_of)
        self._commits: list[int] = []

    @property
    def since_us(self) -> int | None:
        return self._commits[0] if self._commits else None

    @property
    def age(self) -> float:
        return time.monotonic() - self._began

    def add(self, transaction: ChangeTransaction) -> None:
        self._writer.add(transaction)
        self._last = transaction
        self.bytes += transaction.bytes
        if transaction.end.commit_ts_us is not None:
            self._commits.append(transaction.end.commit_ts_us)

    def finish(self, previous: Link | None, before: Segment | None, sequences: Mapping[str, int]) -> Segment:
        """Shapes and bodies are durable when this returns; the manifest is the caller's to write."""
        writer, end = self._writer, self._last.end
        writer.close()
        for schema_id in sorted(writer.used_shapes):
            self._archive.put_shape(self._shape_of(schema_id))
        rows = self._rows.put() if writer.events else None
        transactions = self._transactions.put()
        failpoint("archive.after_bodies")
        same_epoch = before is not None and before.epoch == self.epoch
        earlier = [before.running_max_us] if before and same_epoch and before.running_max_us is not None else []
        start = self._last.start
        same_run = before is not None and before.run == end.run
        opened = self._first.start.opened if self._first.start else None
        return Segment(
            archive=self._archive.identity.archive,
            epoch=self.epoch,
            first_seq=self._first.txn_seq,
            last_seq=end.txn_seq,
            run=end.run,
            prev_position=self._first.end.prev_position,
            position=end.position,
            log_offset=self._last.log_offset,
            events=writer.events,
            min_commit_us=min(self._commits, default=None),
            max_commit_us=max(self._commits, default=None),
            running_max_us=max([*self._commits, *earlier], default=None),
            commit_us=self._commits[-1] if self._commits else (before.commit_us if before and same_epoch else None),
            system_id=start.source.system_id if start else (before.system_id if before and same_run else None),
            database=start.source.database if start else (before.database if before and same_run else None),
            opened=opened.reason if opened and not same_epoch else None,
            tables=writer.tables,
            changes=tuple(writer.changes),
            sequences=dict(sequences),
            rows=rows,
            transactions=transactions,
            previous=previous,
        )
