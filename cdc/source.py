"""The source loop: one database's log to Kafka, every transaction once in the log, whole, in commit order.

In: a source of the configuration. Out: events, then an END each (docs/EVENTS.md). Refuses: to start over a gap, to go
on over anything it cannot carry; both by name.

    hold → read the log → START → checkpoint → (copy) → stream: publish → END → acknowledge

A run is one pass through that line. What was in flight when a run ended is sent again by the next one; readers ignore
what no valid END names. Progress is kept in the log alone.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from cdc.config import Kafka
from cdc.config import Source as Settings
from cdc.copy import Copy
from cdc.errors import (
    LOG_TRUNCATED,
    PUBLICATION_CHANGED,
    PUBLICATION_MISSING,
    SOURCE_HELD,
    SOURCE_PREREQUISITE,
    TABLE_NOT_PUBLISHED,
    CdcError,
    Kind,
)
from cdc.event import Table
from cdc.failpoint import failpoint
from cdc.kafka import Admin, Options, Producer, Reader
from cdc.log import Identity, Start, log_key
from cdc.logtail import LogState, read_log
from cdc.position import PgPosition
from cdc.postgres.catalog import Catalog, Publication
from cdc.postgres.decode import Captured, Decoded, Decoder, Lone, NewShapes, Transaction
from cdc.postgres.sequences import SequenceSamples
from cdc.postgres.snapshot import BaseCopy
from cdc.postgres.startup import Plan, Server, decide, refuse_shapes, refuse_uncapturable
from cdc.postgres.stream import ReplicationStream
from cdc.provision import Provision, Wanted
from cdc.publisher import Committed, PublishedRun, Publisher
from cdc.retry import keep_trying
from cdc.rowevents import RunFacts
from cdc.shapes import ShapeTopic
from cdc.topics import log_topic, message_topic, row_topic, row_topics, shape_topic

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, told about once a second."""

    run: str
    epoch: int
    txn_seq: int
    events: int
    ends: int
    in_flight: int
    durable: PgPosition | None
    durable_commit_us: int | None
    server_wal_end: int
    foreign_messages: int


class Observer(Protocol):
    """What a source tells those who watch it."""

    def run_started(self, start: Start) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def waiting(self, what: str) -> None: ...
    def copying(self, table: str, rows: int, *, done: bool) -> None: ...
    def lacking(self, what: str) -> None: ...
    def retry(self, error: CdcError, wait_s: float) -> None: ...


class Source:
    """A source of the configuration, run after run until it is stopped or somebody has to decide."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        kafka: Kafka,
        observer: Observer,
        *,
        no_wait: bool = False,
        reopen: str | None = None,
    ) -> None:
        self._settings, self._options, self._kafka = settings, options, kafka
        self._observer, self._no_wait, self._reopen = observer, no_wait, reopen

    def run(self, stop: Callable[[], bool]) -> None:
        def attempt() -> None:
            with Run(self._settings, self._options, self._kafka, self._observer, self._reopen) as run:
                run.begin()
                self._reopen = None
                run.stream(stop)

        keep_trying(attempt, stop, self._observer.retry, standing_by=() if self._no_wait else (SOURCE_HELD,))


class Run:
    """One run. `begin` holds the source and ends with the checkpoint known; `stream` publishes until stopped."""

    def __init__(
        self, settings: Settings, options: Options, kafka: Kafka, observer: Observer, reopen: str | None
    ) -> None:
        self._settings, self._options, self._kafka = settings, options, kafka
        self._observer, self._reopen = observer, reopen
        self._name, self._prefix = settings.name, settings.topic_prefix
        self._run = secrets.token_hex(8)
        self._server = settings.server()
        self._resources = ExitStack()
        self._shapes: dict[str, Table] = {}
        self._shape_topic = ShapeTopic(self._name, self._prefix)
        self._partitions: dict[str, int] = {
            log_topic(self._prefix): 1,
            shape_topic(self._prefix): 1,
            message_topic(self._prefix): 1,
        }
        self._topic_ids: dict[str, str] = {}
        self._streaming = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    # -- the line of a start ------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Hold the source, read the log, write START, read on to it; copy if the plan says so."""
        self._connect()
        self._publication_held = publication = self._publication()
        self._hold()
        state = self._read_log()
        plan = self._decide(state, publication)
        start_offset = self._write_start(plan, publication)
        if start_offset > state.end_offset:
            state = read_log(self._reader, self._prefix, until=start_offset, waiting=self._waiting)
            # What an earlier run added meanwhile moves the checkpoint; the epoch stands in START by now.
            plan = replace(self._decide(state, publication), epoch=plan.epoch, opened=plan.opened, gaps=plan.gaps)
        self._publisher = self._publisher_at(plan, start_offset)
        self._shape_topic.load(self._reader, self._waiting)
        if plan.copy:
            self._copy(plan, publication)
        else:
            self._continue(plan, state, publication)
        self._catalog.unlock(self._name)
        earlier = {record.run for record in (state.checkpoint, state.start) if record}
        self._tokens = frozenset({self._run} | earlier)

    def _connect(self) -> None:
        """Kafka first: a slot that is held without being acknowledged keeps the server from stopping."""
        admin = Admin(self._options)
        wanted = Wanted(
            self._settings.partitions,
            self._kafka.replication_factor,
            self._settings.max_record,
            self._kafka.retention,
        )
        self._provision = Provision(admin, self._name, self._prefix, wanted)
        self._provision.log()
        self._reader = self._resources.enter_context(closing(Reader(self._options, client=f"cdc-{self._name}")))
        self._producer = Producer({**self._options, "message.max.bytes": str(self._settings.max_record)})
        self._resources.callback(self._producer.close)
        self._catalog = self._resources.enter_context(closing(Catalog(self._server)))
        self._sequences = SequenceSamples(self._catalog, self._observer.lacking)
        self._stream = self._resources.enter_context(closing(ReplicationStream(self._server)))
        if self._catalog.in_recovery():
            raise CdcError(
                SOURCE_PREREQUISITE,
                source=self._name,
                problem="the server is a standby",
                fix="point the source at the primary",
            )

    def _publication(self) -> Publication:
        """The publication as it is now; refuses tables that cannot be captured."""
        publication = self._current_publication()
        shapes = self._catalog.shapes([table.oid for table in publication.tables])
        refuse_uncapturable(self._name, self._settings.tables, publication, shapes)
        return publication

    def _current_publication(self) -> Publication:
        name = self._settings.publication
        publication = self._catalog.publication(name, self._settings.wanted)
        if publication is None:
            raise CdcError(PUBLICATION_MISSING, source=self._name, publication=name)
        return publication

    def _hold(self) -> None:
        """By the slot; before it exists, and until it streams, by an advisory lock."""
        if not self._catalog.try_lock(self._name):
            raise CdcError(SOURCE_HELD, source=self._name, holder=self._catalog.lock_holder(self._name))
        system = self._stream.identify()
        self._identity = Identity(
            "postgresql", system.system_id, system.timeline, self._catalog.database, self._settings.slot
        )
        self._switches = self._stream.timeline_switches(system.timeline)
        slot = self._catalog.slot(self._settings.slot)
        if slot and not slot.lost and slot.plugin == "pgoutput" and slot.database == self._catalog.database:
            self._stream.start(slot.name, self._settings.publication)
            self._streaming = True

    def _read_log(self) -> LogState:
        try:
            return read_log(self._reader, self._prefix, waiting=self._waiting)
        except CdcError as error:
            if error.code is LOG_TRUNCATED and self._reopen:
                return LogState(self._reader.watermarks(log_topic(self._prefix), 0)[1])
            raise

    def _decide(self, state: LogState, publication: Publication) -> Plan:
        server = Server(self._identity, self._switches, publication.fingerprint, time.time_ns() // 1_000_000)
        return decide(self._name, state, self._catalog.slot(self._settings.slot), server, self._reopen)

    def _write_start(self, plan: Plan, publication: Publication) -> int:
        self._published = PublishedRun(self._name, self._prefix, self._run, plan.epoch)
        self._facts = RunFacts(self._prefix, self._catalog.database, self._run, plan.epoch)
        self._start = Start(
            run=self._run,
            epoch=plan.epoch,
            source=self._identity,
            publication=publication.fingerprint,
            copy="initial" if plan.copy else "none",
            cluster_id=self._provision.cluster_id,
            ts_ms=time.time_ns() // 1_000_000,
            opened=plan.opened,
            gaps=plan.gaps,
        )
        publisher = self._publisher_at(plan, log_offset=-1)
        offset = publisher.publish_and_wait(log_topic(self._prefix), log_key(self._start.id), self._start.to_bytes())
        failpoint("source.after_start")
        self._observer.run_started(self._start)
        return offset

    def _publisher_at(self, plan: Plan, log_offset: int) -> Publisher:
        return Publisher(
            self._producer,
            self._published,
            partitions=self._partitions,
            previous=plan.previous,
            log_offset=log_offset,
            waiting=self._waiting,
        )

    def _waiting(self) -> None:
        if self._streaming:
            self._stream.keep_alive()

    # -- where the stream begins --------------------------------------------------------------------------------
    def _continue(self, plan: Plan, state: LogState, publication: Publication) -> None:
        """Go on at the checkpoint, with the shapes that the log holds for it."""
        adopted = plan.last_seq == 0
        for schema, name, _ in self._catalog.unpublished(publication, self._settings.wanted):
            self._observer.waiting(f"for a copy of {schema}.{name}, which is wanted and not in the publication")
        self._shapes = self._shape_topic.in_force(state)
        unknown = [table.oid for table in publication.tables if table.full_name not in self._shapes]
        live = self._catalog.shapes(unknown) if adopted else []
        self._shapes |= {table.full_name: table for table in live}
        self._know_topics(create=adopted)
        for table in self._shapes.values():
            if table in live:
                self._publish_shape(table, 1)
            else:
                self._publisher.announce([self._shape_topic.offset(table)])
        assert plan.position is not None
        self._position, self._last_seq = plan.position, plan.last_seq

    def _refuse_unpublished(self, publication: Publication) -> None:
        """A copy begins with every table that is wanted; one that came later waits for the next copy."""
        missing = self._catalog.unpublished(publication, self._settings.wanted)
        refuse_shapes(self._name, self._catalog.shapes([oid for _, _, oid in missing]))
        for schema, name, _ in missing:
            raise CdcError(
                TABLE_NOT_PUBLISHED, source=self._name, table=f"{schema}.{name}", publication=publication.name
            )

    def _copy(self, plan: Plan, publication: Publication) -> None:
        """Make the slot anew and copy every table under its snapshot; then stream from its consistent point."""
        self._refuse_unpublished(publication)
        self._renew_slot()
        slot = self._stream.create_slot(
            self._settings.slot, lambda: self._observer.waiting(f"for open transactions of {self._catalog.writing()}")
        )
        self._position = PgPosition(self._identity.timeline, slot.consistent_point)
        copy = Copy(
            self._publisher, self._facts, secrets.token_hex(8), self._position, plan.last_seq, self._observer.copying
        )
        with BaseCopy(self._server, slot.snapshot) as snapshot:
            tables = [snapshot.shape(table) for table in publication.tables]
            self._shapes = {table.full_name: table for table in tables}
            self._know_topics(create=True)
            for table in tables:
                self._publish_shape(table, copy.seq + 1)
            copy.open(tables)
            for table, published in zip(tables, publication.tables, strict=True):
                copy.table(table, snapshot.xid, snapshot.chunks(table, partitioned=published.partitioned))
        copy.close()
        self._last_seq = copy.seq
        self._stream.start(self._settings.slot, self._settings.publication)
        self._streaming = True

    def _renew_slot(self) -> None:
        """The connection that held an earlier slot ends with it; the advisory lock holds the name meanwhile."""
        if self._streaming:
            self._stream.close()
            self._streaming = False
            self._stream = self._resources.enter_context(closing(ReplicationStream(self._server)))
        if self._catalog.slot(self._settings.slot) is not None:
            self._catalog.drop_slot(self._settings.slot)

    def _know_topics(self, *, create: bool) -> None:
        topics = row_topics(self._prefix, [(t.schema, t.name) for t in self._shapes.values()])
        found = self._provision.rows(list(topics.values()), self._shape_topic.topic_ids(), create=create)
        for name, topic in found.items():
            self._partitions[name], self._topic_ids[name] = topic.partitions, topic.id

    def _publish_shape(self, table: Table, seq: int) -> None:
        self._shape_topic.publish(self._publisher, self._published, table, seq, self._catalog.database, self._topic_ids)

    # -- the stream ---------------------------------------------------------------------------------------------
    def stream(self, stop: Callable[[], bool]) -> None:
        """Publish what the server sends until stopped; what was committed before an error that lasts still arrives."""
        try:
            self._pump(stop)
        except CdcError as error:
            if error.code.kind is Kind.STOP:
                # The error is what counts; where Kafka is in trouble too, the next run sends it all again.
                with suppress(CdcError):
                    self._finish()
            raise
        self._finish()

    def _finish(self) -> None:
        self._publisher.flush()
        if self._publisher.durable:
            self._stream.acknowledge(self._publisher.durable.lsn)
            self._stream.report()

    def _pump(self, stop: Callable[[], bool]) -> None:
        """Send what the server sends; acknowledge what is durable, nothing else."""
        decoder = self._decoder()
        heartbeat_at = told_at = 0.0
        while not stop():
            busy = self._publisher.in_flight > 0
            messages = self._stream.read(0.0 if busy else _POLL_S)
            for lsn, data in messages:
                decoded = decoder.feed(data, lsn)
                if decoded is not None:
                    self._dispatch(decoded)
            self._publisher.poll(0.001 if busy and not messages else 0.0)
            durable = self._publisher.durable
            if durable and durable.lsn > self._stream.acknowledged:
                failpoint("source.before_acknowledge")
                self._stream.acknowledge(durable.lsn)
            now = time.monotonic()
            if now - heartbeat_at >= self._settings.heartbeat_every:
                self._heartbeat()
                heartbeat_at = now
            if now - told_at >= 1:
                self._tell(decoder)
                told_at = now

    def _decoder(self) -> Decoder:
        captured = Captured(
            self._shapes,
            partial(row_topic, self._prefix),
            message_topic(self._prefix),
            self._settings.wanted,
        )
        return Decoder(
            self._facts,
            captured,
            after=self._position,
            last_seq=self._last_seq,
            tokens=self._tokens,
            secret=self._catalog.secret(),
            clock_ns=time.time_ns,
        )

    def _dispatch(self, decoded: Decoded) -> None:
        if isinstance(decoded, list):
            self._publisher.send(decoded)
        elif isinstance(decoded, Transaction):
            self._commit(decoded)
        elif isinstance(decoded, NewShapes):
            for _, table in decoded.shapes:
                self._publish_shape(table, decoded.seq)
        elif isinstance(decoded, Lone):
            self._publisher.send(decoded.records)
            self._commit(decoded.transaction)

    def _commit(self, txn: Transaction) -> None:
        """Its END, if it carries anything or brings back our heartbeat."""
        if txn.numbered:
            self._publisher.commit(
                Committed(
                    "data" if txn.event_count else "schema",
                    txn.id,
                    txn.seq,
                    txn.position,
                    txn.event_count,
                    txn.collections,
                    txn.commit_ts_us,
                    txn.xid,
                    txn.origin,
                    txn.changes,
                )
            )
        elif txn.heartbeat:
            self._publisher.commit(
                Committed(
                    "heartbeat",
                    f"heartbeat:{txn.position}",
                    txn.seq,
                    txn.position,
                    0,
                    commit_ts_us=txn.commit_ts_us,
                    publication=self._start.publication,
                    sequences=self._sequences.take(),
                )
            )

    def _heartbeat(self) -> None:
        """Commit a message that the stream brings back, and look whether the ground moved meanwhile."""
        publication = self._current_publication()
        if publication.fingerprint != self._start.publication:
            raise CdcError(
                PUBLICATION_CHANGED,
                source=self._name,
                publication=publication.name,
                last=self._publisher.durable or self._position,
                change=self._publication_held.difference(publication),
            )
        if self._publisher.interrupted:
            state = read_log(self._reader, self._prefix, waiting=self._waiting)
            if state.start and state.start.run != self._run:
                raise self._publisher.superseded_by(state.start.run)
            self._publisher.interrupted = False
        self._catalog.heartbeat(self._run)
        self._sequences.look()

    def _tell(self, decoder: Decoder) -> None:
        p = self._publisher
        self._observer.progress(
            Progress(
                self._run,
                self._start.epoch,
                decoder.last_seq,
                p.events,
                p.ends,
                p.in_flight,
                p.durable,
                p.durable_commit_us,
                int(self._stream.wal_end),
                decoder.foreign_messages,
            )
        )
