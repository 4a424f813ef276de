"""Postgres as the source loop sees it: publication, slot, snapshot, stream. I/O; implements `cdc.upstream.Upstream`.

The slot holds the source; before it exists, and until it streams, an advisory lock does. The server keeps its log
until `acknowledge`, which is told nothing that is not durable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cdc.decoded import Decoded
from cdc.errors import (
    PUBLICATION_CHANGED,
    PUBLICATION_MISSING,
    SOURCE_HELD,
    SOURCE_PREREQUISITE,
    TABLE_NOT_PUBLISHED,
    CdcError,
)
from cdc.event import Engine, Table
from cdc.failpoint import failpoint
from cdc.log import Identity
from cdc.logtail import LogState
from cdc.position import Lsn, PgPosition, Position
from cdc.postgres.catalog import Catalog, LockedError, Publication
from cdc.postgres.decode import Decoder
from cdc.postgres.events import PgTransaction, TableStream
from cdc.postgres.sequences import SequenceSamples
from cdc.postgres.session import Server
from cdc.postgres.snapshot import BaseCopy
from cdc.postgres.startup import Here, decide, refuse_shapes, refuse_uncapturable
from cdc.postgres.stream import ReplicationStream
from cdc.rowevents import Record, Row, RunFacts
from cdc.sections import Source as Settings
from cdc.topics import log_topic
from cdc.upstream import Plan, Resumed


class PostgresUpstream:
    """One run's connections. `waiting` and `lacking` are told what holds it up and what is missing."""

    engine: Engine = "postgresql"
    identity: Identity

    def __init__(
        self, settings: Settings, server: Server, waiting: Callable[[str], None], lacking: Callable[[str], None]
    ) -> None:
        self._settings, self._server, self._name = settings, server, settings.name
        self._tell_waiting, self._tell_lacking = waiting, lacking
        self._locked = False
        self._catalog: Catalog | None = None
        self._stream: ReplicationStream | None = None
        self._decoder: Decoder | None = None
        self._streaming = False

    # -- connections --------------------------------------------------------------------------------------------
    def connect(self) -> None:
        self._catalog = Catalog(self._server)
        self._samples = SequenceSamples(self._catalog, self._tell_lacking)
        self._stream = ReplicationStream(self._server)
        if self._catalog.in_recovery():
            raise CdcError(
                SOURCE_PREREQUISITE,
                source=self._name,
                problem="the server is a standby",
                fix="point the source at the primary",
            )

    def close(self) -> None:
        for connection in (self._stream, self._catalog):
            if connection is not None:
                connection.close()

    @property
    def _now(self) -> Catalog:
        assert self._catalog, "connect() first"
        return self._catalog

    @property
    def _log(self) -> ReplicationStream:
        assert self._stream, "connect() first"
        return self._stream

    # -- a start ------------------------------------------------------------------------------------------------
    def publication(self) -> Publication:
        found = self._now.publication(self._settings.publication, self._settings.wanted)
        publication = self._held = self._there(found)
        shapes = self._now.shapes([table.oid for table in publication.tables])
        refuse_uncapturable(self._name, self._settings.tables, publication, shapes)
        return publication

    def _there(self, publication: Publication | None) -> Publication:
        if publication is None:
            raise CdcError(PUBLICATION_MISSING, source=self._name, publication=self._settings.publication)
        return publication

    def refuse_changed(self, last: Position) -> bool:
        name, wanted = self._settings.publication, self._settings.wanted
        try:
            publication = self._there(self._now.publication_unless_locked(name, wanted))
        except LockedError:
            if not self._locked:
                self._tell_waiting("for a lock that somebody has on a captured table: no heartbeat until it is gone")
            self._locked = True
            return False
        self._locked = False
        if publication.fingerprint != self._held.fingerprint:
            raise CdcError(
                PUBLICATION_CHANGED,
                source=self._name,
                publication=publication.name,
                last=last,
                change=self._held.difference(publication),
            )
        return True

    def hold(self) -> None:
        if not self._now.try_lock(self._name):
            raise CdcError(SOURCE_HELD, source=self._name, holder=self._now.lock_holder(self._name))
        system = self._log.identify()
        self.identity = Identity(
            "postgresql", system.system_id, system.timeline, self._now.database, self._settings.slot
        )
        self._switches = self._log.timeline_switches(system.timeline)
        slot = self._now.slot(self._settings.slot)
        if slot and not slot.lost and slot.plugin == "pgoutput" and slot.database == self._now.database:
            self._start()

    def _start(self) -> None:
        self._log.start(self._settings.slot, self._settings.publication)
        self._streaming = True

    def decide(self, state: LogState, reopen: str | None) -> Plan:
        takes_over = self._settings.snapshot == "never"
        now_ms = time.time_ns() // 1_000_000
        topic = log_topic(self._settings.topic_prefix)
        here = Here(self.identity, self._switches, self._held.fingerprint, now_ms, topic, takes_over)
        plan = decide(self._name, state, self._now.slot(self._settings.slot), here, reopen)
        if plan.copy:
            self._refuse_unpublished()
        return plan

    def keep_alive(self) -> None:
        if self._streaming:
            self._log.keep_alive()

    def uncopied(self, known: Collection[str]) -> list[str]:
        return [f"{schema}.{name}" for schema, name, _ in self._now.unpublished(self._held, self._settings.wanted)]

    def adopted(self, known: Mapping[str, Table]) -> list[Table]:
        return self._now.shapes([table.oid for table in self._held.tables if table.full_name not in known])

    # -- a base copy --------------------------------------------------------------------------------------------
    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """Make the slot anew; its snapshot shows what is before its consistent point."""
        self._renew_slot()
        slot = self._log.create_slot(
            self._settings.slot, lambda: self._tell_waiting(f"for open transactions of {self._now.writing()}")
        )
        position = PgPosition(self.identity.timeline, slot.consistent_point)
        with BaseCopy(self._server, slot.snapshot) as copy:
            yield PostgresSnapshot(position, copy, self._held)

    def _refuse_unpublished(self) -> None:
        """A copy begins with every table that is wanted; one that came later waits for the next copy."""
        missing = self._now.unpublished(self._held, self._settings.wanted)
        refuse_shapes(self._name, self._now.shapes([oid for _, _, oid in missing]))
        for schema, name, _ in missing:
            raise CdcError(
                TABLE_NOT_PUBLISHED, source=self._name, table=f"{schema}.{name}", publication=self._held.name
            )

    def _renew_slot(self) -> None:
        """The connection that held an earlier slot ends with it; the advisory lock holds the name meanwhile."""
        if self._streaming:
            self._log.close()
            self._streaming = False
            self._stream = ReplicationStream(self._server)
        if self._now.slot(self._settings.slot) is not None:
            self._now.drop_slot(self._settings.slot)

    # -- the stream ---------------------------------------------------------------------------------------------
    def begin(self, resumed: Resumed) -> None:
        if not self._streaming:
            self._start()
        assert isinstance(resumed.after, PgPosition)
        self._decoder = Decoder(
            resumed.facts,
            resumed.captured,
            after=resumed.after,
            last_seq=resumed.last_seq,
            tokens=resumed.tokens,
            secret=self._now.secret(),
            clock_ns=time.time_ns,
        )
        self._now.unlock(self._name)

    def read(self, timeout_s: float) -> Iterator[Decoded]:
        assert self._decoder, "begin() first"
        feed = self._decoder.feed
        for lsn, data in self._log.read(timeout_s):
            decoded = feed(data, lsn)
            if decoded is not None:
                yield decoded

    def acknowledge(self, durable: Position) -> None:
        lsn = _lsn(durable)
        if lsn > self._log.acknowledged:
            failpoint("source.before_acknowledge")
            self._log.acknowledge(lsn)

    def finish(self, durable: Position) -> None:
        self._log.acknowledge(_lsn(durable))
        self._log.report()

    def heartbeat(self, token: str) -> None:
        self._now.heartbeat(token)
        self._samples.look()

    def sequences(self) -> tuple[tuple[str, int], ...]:
        return self._samples.take()

    @property
    def last_seq(self) -> int:
        return self._decoder.last_seq if self._decoder else 0

    @property
    def foreign_messages(self) -> int:
        return self._decoder.foreign_messages if self._decoder else 0

    def behind_bytes(self) -> int:
        """What the slot keeps: also what an open transaction holds, though we have read it."""
        return self._now.retained_bytes(self._settings.slot)


class PostgresSnapshot:
    """Every published table under the slot's snapshot."""

    def __init__(self, position: PgPosition, copy: BaseCopy, publication: Publication) -> None:
        self.position, self._copy = position, copy
        self._partitioned = {table.full_name: table.partitioned for table in publication.tables}
        self.tables: Sequence[Table] = [copy.shape(table) for table in publication.tables]

    def rows(self, table: Table) -> Iterator[list[Row]]:
        return self._copy.chunks(table, partitioned=self._partitioned[table.full_name])

    def stream(self, table: Table, schema_id: str, topic: str, facts: RunFacts) -> PostgresCopyStream:
        return PostgresCopyStream(TableStream(table, schema_id, topic, facts), int(self.position.lsn), self._copy.xid)


class PostgresCopyStream:
    """One table's copied rows: all stand at the consistent point."""

    def __init__(self, stream: TableStream, lsn: int, xid: int) -> None:
        self._stream, self._lsn, self._xid = stream, lsn, xid
        self._now_ns = time.time_ns()

    def open(self, seq: int) -> PgTransaction:
        return PgTransaction(
            xid=self._xid, final_lsn=self._lsn, commit_ts_us=self._now_ns // 1000, seq=seq, last_commit_lsn=None,
            now_ns=self._now_ns, snapshot=True,
        )  # fmt: skip

    def read(self, txn: PgTransaction, row: Row, marker: str) -> list[Record]:
        return self._stream.read(txn, row, self._lsn, marker)


def _lsn(position: Position) -> Lsn:
    assert isinstance(position, PgPosition)
    return position.lsn
