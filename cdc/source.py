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
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from cdc.avro_format import AvroFormat, refuse_alike
from cdc.closing import Closing
from cdc.copy import Copy, Stopped
from cdc.decoded import Captured, Decoded, Lone, NewShapes, Statement, Transaction
from cdc.envelope import Format
from cdc.errors import LOG_TRUNCATED, SOURCE_HELD, TYPES_CHANGED, CdcError, Kind
from cdc.event import Table
from cdc.failpoint import failpoint
from cdc.json_format import JsonFormat
from cdc.kafka import Options, Producer, Reader
from cdc.kafka_admin import Admin
from cdc.log import Start, log_key
from cdc.logtail import LogState, read_log
from cdc.position import Position
from cdc.provision import Provision, Wanted
from cdc.publisher import Committed, PublishedRun, Publisher
from cdc.registry import Registry, RegistryServer
from cdc.retry import keep_trying
from cdc.rowevents import RunFacts
from cdc.sections import Kafka
from cdc.sections import Source as Settings
from cdc.shapes import ShapeTopic
from cdc.topics import log_topic, message_topic, row_topic, row_topics, shape_topic
from cdc.upstream import Plan, Publication, Resumed, Upstream
from cdc.upstreams import upstream_of
from cdc.waiting import Waiting

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
    durable: Position | None
    durable_commit_us: int | None
    foreign_messages: int


class Observer(Protocol):
    """What a source tells those who watch it."""

    def run_started(self, start: Start) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def waiting(self, what: str) -> None: ...
    def behind(self, log_bytes: int) -> None: ...
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
        registry: RegistryServer | None = None,
        no_wait: bool = False,
        reopen: str | None = None,
    ) -> None:
        self._settings, self._options, self._kafka, self._registry = settings, options, kafka, registry
        self._observer, self._no_wait, self._reopen = observer, no_wait, reopen

    def run(self, stop: Callable[[], bool]) -> None:
        def attempt() -> None:
            with Run(self._settings, self._options, self._kafka, self._observer, self._registry, self._reopen) as run:
                run.begin(stop)
                waiting.over()
                self._reopen = None
                run.stream(stop)

        with Waiting(self._settings.server(), self._observer.retry) as waiting, suppress(Stopped):
            keep_trying(attempt, stop, waiting.retry, standing_by=() if self._no_wait else (SOURCE_HELD,))


class Run(Closing):
    """One run. `begin` holds the source and ends with the checkpoint known; `stream` publishes until stopped."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        kafka: Kafka,
        observer: Observer,
        registry: RegistryServer | None,
        reopen: str | None,
    ) -> None:
        self._settings, self._options, self._kafka = settings, options, kafka
        self._observer, self._registry, self._reopen = observer, registry, reopen
        self._name, self._prefix = settings.name, settings.topic_prefix
        self._run = secrets.token_hex(8)
        self._upstream: Upstream = upstream_of(settings, observer.waiting, observer.lacking)
        self._resources = ExitStack()
        self._shapes: dict[str, Table] = {}
        self._shape_topic = ShapeTopic(self._name, self._prefix)
        self._partitions: dict[str, int] = {
            log_topic(self._prefix): 1,
            shape_topic(self._prefix): 1,
            message_topic(self._prefix): 1,
        }
        self._topic_ids: dict[str, str] = {}
        self._looked_at = 0.0

    def close(self) -> None:
        self._resources.close()

    # -- the line of a start ------------------------------------------------------------------------------------
    def begin(self, stop: Callable[[], bool]) -> None:
        """Hold the source, read the log, write START, read on to it; copy if the plan says so."""
        self._connect()
        publication = self._upstream.publication()
        self._upstream.hold()
        state = self._read_log()
        plan = self._upstream.decide(state, self._reopen)
        start_offset = self._write_start(plan, publication)
        if start_offset > state.end_offset:
            state = read_log(self._reader, self._prefix, until=start_offset, waiting=self._upstream.keep_alive)
            # What an earlier run added meanwhile moves the checkpoint; the epoch stands in START by now.
            plan = replace(
                self._upstream.decide(state, self._reopen), epoch=plan.epoch, opened=plan.opened, gaps=plan.gaps
            )
        commit_us = state.checkpoint.commit_ts_us if state.checkpoint else None
        self._publisher = self._publisher_at(plan, start_offset, commit_us)
        self._shape_topic.load(self._reader, self._upstream.keep_alive)
        if plan.copy:
            self._copy(plan, stop)
        else:
            self._continue(plan, state)
        self._upstream.begin(self._resumed(state))

    def _connect(self) -> None:
        """Kafka first: a source that is held without being acknowledged keeps its server from stopping."""
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
        self._resources.callback(self._upstream.close)
        self._upstream.connect()

    def _read_log(self) -> LogState:
        try:
            return read_log(self._reader, self._prefix, waiting=self._upstream.keep_alive)
        except CdcError as error:
            if error.code is LOG_TRUNCATED and self._reopen:
                return LogState(self._reader.watermarks(log_topic(self._prefix), 0)[1])
            raise

    def _write_start(self, plan: Plan, publication: Publication) -> int:
        self._published = PublishedRun(self._name, self._prefix, self._run, plan.epoch)
        self._facts = RunFacts(self._prefix, self._upstream.identity.database, self._run, plan.epoch, self._format())
        self._start = Start(
            run=self._run,
            epoch=plan.epoch,
            source=self._upstream.identity,
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

    def _format(self) -> Format:
        if self._settings.format == "avro":
            assert self._registry is not None
            registry = self._resources.enter_context(closing(Registry(self._registry)))
            return AvroFormat(registry.register)
        return JsonFormat(with_schema=self._settings.format == "json-with-schema")

    def _publisher_at(self, plan: Plan, log_offset: int, commit_us: int | None = None) -> Publisher:
        return Publisher(
            self._producer,
            self._published,
            partitions=self._partitions,
            previous=plan.previous,
            log_offset=log_offset,
            waiting=self._upstream.keep_alive,
            commit_us=commit_us,
        )

    # -- where the stream begins --------------------------------------------------------------------------------
    def _continue(self, plan: Plan, state: LogState) -> None:
        """Go on at the checkpoint, with the shapes that the log holds for it."""
        adopted = plan.last_seq == 0
        self._shapes = self._shape_topic.in_force(state)
        live = [self._typed(table) for table in self._upstream.adopted(self._shapes)] if adopted else []
        self._refuse_other_types()
        self._shapes |= {table.full_name: table for table in live}
        for name in self._upstream.uncopied(self._shapes):
            again = f"cdc source run {self._facts.source} --reopen copy-again"
            self._observer.waiting(f"for a copy of {name}, which is wanted and not captured yet: {again}")
        self._know_topics(create=adopted)
        for table in self._shapes.values():
            if table in live:
                self._publish_shape(table, 1)
            else:
                self._publisher.announce([self._shape_topic.offset(table)])
        assert plan.position is not None
        self._position, self._last_seq = plan.position, plan.last_seq

    def _copy(self, plan: Plan, stop: Callable[[], bool]) -> None:
        """Copy every table under one snapshot; then stream from what it shows."""
        with self._upstream.snapshot() as snapshot:
            copy_id = secrets.token_hex(8)
            copy = Copy(self._publisher, self._facts, snapshot, copy_id, plan.last_seq, self._copied, stop)
            self._position = snapshot.position
            tables = [self._typed(table) for table in snapshot.tables]
            self._refuse_alike(tables)
            self._shapes = {table.full_name: table for table in tables}
            self._know_topics(create=True)
            for table in tables:
                self._publish_shape(table, copy.seq + 1)
            copy.open(tables)
            for table in tables:
                copy.table(table)
        copy.close()
        self._last_seq = copy.seq

    def _copied(self, table: str, rows: int, *, done: bool) -> None:
        """Told to who watches. The server keeps its log for as long as the copy takes."""
        self._observer.copying(table, rows, done=done)
        if time.monotonic() - self._looked_at >= self._settings.heartbeat_every:
            self._look()

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        self._observer.behind(self._upstream.behind_bytes())

    def _typed(self, table: Table) -> Table:
        """A shape of the catalog, which knows nothing of the form that values have in events."""
        return replace(table, types=self._settings.types)

    def _refuse_alike(self, tables: Iterable[Table]) -> None:
        """Before the first row of the first table goes out."""
        if self._settings.format == "avro":
            for table in tables:
                refuse_alike(table.full_name, [column.name for column in table.columns])

    def _refuse_other_types(self) -> None:
        for name, table in self._shapes.items():
            if table.types != self._settings.types:
                raise CdcError(
                    TYPES_CHANGED,
                    source=self._name,
                    table=name,
                    logged=table.types,
                    configured=self._settings.types,
                )

    def _resumed(self, state: LogState) -> Resumed:
        """Heartbeats of the run that wrote the checkpoint may still come back."""
        captured = Captured(
            self._shapes, partial(row_topic, self._prefix), message_topic(self._prefix), self._settings.wanted
        )
        earlier = {record.run for record in (state.checkpoint, state.start) if record}
        return Resumed(self._facts, captured, self._position, self._last_seq, frozenset({self._run} | earlier))

    def _know_topics(self, *, create: bool) -> None:
        topics = row_topics(self._prefix, [(t.schema, t.name) for t in self._shapes.values()])
        found = self._provision.rows(list(topics.values()), self._shape_topic.topic_ids(), create=create)
        for name, topic in found.items():
            self._partitions[name], self._topic_ids[name] = topic.partitions, topic.id
        others = [name for name, topic in found.items() if topic.partitions != self._settings.partitions]
        if others:
            kept = f"{others[0]} has {self._partitions[others[0]]} and keeps them"
            more = f", as {len(others) - 1} more" if others[1:] else ""
            wanted = self._settings.partitions
            self._observer.lacking(f"partitions = {wanted} is for topics that are made: {kept}{more}")

    def _publish_shape(self, table: Table, seq: int, ddl: str | None = None) -> None:
        database = self._facts.database
        self._shape_topic.publish(self._publisher, self._published, table, seq, database, self._topic_ids, ddl)

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
            self._upstream.finish(self._publisher.durable)

    def _pump(self, stop: Callable[[], bool]) -> None:
        """Send what the server sends; acknowledge what is durable, nothing else."""
        told_at = self._looked_at = 0.0
        while not stop():
            busy, came = self._publisher.in_flight > 0, False
            for decoded in self._upstream.read(0.0 if busy else _POLL_S):
                came = True
                self._dispatch(decoded)
            self._publisher.poll(0.001 if busy and not came else 0.0)
            if self._publisher.durable:
                self._upstream.acknowledge(self._publisher.durable)
            now = time.monotonic()
            if now - self._looked_at >= self._settings.heartbeat_every:
                self._look()
                self._heartbeat()
            if now - told_at >= 1:
                self._tell()
                told_at = now

    def _dispatch(self, decoded: Decoded) -> None:
        if isinstance(decoded, list):
            self._publisher.send(decoded)
        elif isinstance(decoded, Transaction):
            self._commit(decoded)
        elif isinstance(decoded, NewShapes):
            for _, table in decoded.shapes:
                self._publish_shape(table, decoded.seq, decoded.ddl)
        elif isinstance(decoded, Statement):
            self._shape_topic.publish_statement(self._publisher, self._upstream.engine, decoded)
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
                    sequences=self._upstream.sequences(),
                )
            )

    def _heartbeat(self) -> None:
        """Commit a message that the stream brings back, and look whether the ground moved meanwhile.

        A heartbeat's END says that the publication was still the same: where that cannot be told, there is none.
        """
        if not self._upstream.refuse_changed(self._publisher.durable or self._position):
            return
        if self._publisher.interrupted:
            state = read_log(self._reader, self._prefix, waiting=self._upstream.keep_alive)
            if state.start and state.start.run != self._run:
                raise self._publisher.superseded_by(state.start.run)
            self._publisher.interrupted = False
        self._upstream.heartbeat(self._run)

    def _tell(self) -> None:
        p = self._publisher
        self._observer.progress(
            Progress(
                self._run,
                self._start.epoch,
                self._upstream.last_seq,
                p.events,
                p.ends,
                p.in_flight,
                p.durable,
                p.durable_commit_us,
                self._upstream.foreign_messages,
            )
        )
