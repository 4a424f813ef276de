"""MySQL as the source loop sees it: lock, snapshot, dump. I/O; implements `cdc.upstream.Upstream`.

A name on the server holds the source while the run lasts (`held`); on a server that took over from another nobody has
it, and there the log's own rule keeps a second run out. Nothing is acknowledged: the server keeps its log by its own
settings, and a start whose log is gone says so.

Heartbeats are rows of a table of ours. Where it may not be written (a replica), they carry the position alone, and the
commit time of the last transaction that was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from cdc.decoded import Decoded, Transaction
from cdc.errors import SOURCE_HELD, SOURCE_PREREQUISITE, CdcError
from cdc.event import Engine, Table
from cdc.log import Identity
from cdc.logtail import LogState
from cdc.mysql.ahead import ReadAhead
from cdc.mysql.catalog import HEARTBEATS, Catalog, Publication, lock_name
from cdc.mysql.check import grants_of
from cdc.mysql.decode import Decoder, Surroundings
from cdc.mysql.events import MySqlTransaction, TableStream
from cdc.mysql.held import HeldName
from cdc.mysql.prerequisites import first_failing
from cdc.mysql.sequences import AutoIncrements
from cdc.mysql.session import Server
from cdc.mysql.snapshot import SESSIONS, BaseCopy
from cdc.mysql.startup import Here, decide, identity_of, refuse_cascades, refuse_nothing, refuse_uncapturable
from cdc.mysql.stream import BinlogStream
from cdc.position import GtidPosition, Position, parse_gtids
from cdc.rowevents import Record, Row, RunFacts
from cdc.sections import Source as Settings
from cdc.upstream import Plan, Resumed


class MySqlUpstream:
    """One run's connections. `waiting` and `lacking` are told what holds it up and what is missing."""

    engine: Engine = "mysql"
    foreign_messages = 0

    def __init__(
        self, settings: Settings, server: Server, waiting: Callable[[str], None], lacking: Callable[[str], None]
    ) -> None:
        self._settings, self._server, self._name = settings, server, settings.name
        self._tell_waiting, self._tell_lacking = waiting, lacking
        self._catalog: Catalog | None = None
        self._held_name: HeldName | None = None
        self._stream = BinlogStream(server)
        self._decoder: Decoder | None = None
        self._beat_due = False
        self._beaten: GtidPosition | None = None
        self._told: set[str] = set()
        self.identity = Identity(self.engine, "", 0, server.database, "")

    # -- connections --------------------------------------------------------------------------------------------
    def connect(self) -> None:
        self._catalog = Catalog(self._server)
        self.engine = self._catalog.dialect.engine
        failing = first_failing(self._catalog)
        if failing is not None:
            raise CdcError(SOURCE_PREREQUISITE, source=self._name, problem=failing.what, fix=failing.fix)
        self._samples = AutoIncrements(self._catalog)
        self._writes = self._catalog.may_beat()
        if not self._writes:
            self._tell_lacking(
                "table cdc.heartbeat is not there or may not be written: heartbeats carry the position alone"
            )

    def close(self) -> None:
        self._stream.close()
        if self._catalog is not None:
            self._catalog.close()
        if self._held_name is not None:
            self._held_name.close()

    @property
    def _now(self) -> Catalog:
        assert self._catalog, "connect() first"
        return self._catalog

    # -- a start ------------------------------------------------------------------------------------------------
    def publication(self) -> Publication:
        self._held = self._publication()
        refuse_uncapturable(self._name, self._held)
        derive = self._settings.cascades == "derive"
        refuse_cascades(self._name, self._now.shapes(self._held.tables), derive=derive)
        return self._held

    def _publication(self) -> Publication:
        patterns = self._settings.tables, self._settings.exclude
        return self._now.publication(self._settings.topic_prefix, patterns, self._settings.wanted)

    def refuse_changed(self, last: Position) -> bool:
        """What is captured is what the configuration says."""
        assert self._held_name, "hold() first"
        self._held_name.refuse_lost()
        return True

    def hold(self) -> None:
        self._held_name = HeldName(self._server, lock_name(self._name))
        if not self._held_name.try_take():
            holder = self._now.lock_holder(lock_name(self._name)) or "nobody by now"
            raise CdcError(SOURCE_HELD, source=self._name, holder=holder)
        if self._writes:
            self._now.heartbeat(self._name, "-")

    def decide(self, state: LogState, reopen: str | None) -> Plan:
        here = Identity(self.engine, self._now.identity(), 0, self._server.database, "")
        self.identity = here if reopen else identity_of(state, here)
        begin_after = self._settings.begin_after
        now = Here(
            here, self._now.history(), self._now.purged(), self._held.fingerprint, time.time_ns() // 1_000_000,
            parse_gtids(begin_after) if begin_after else None,
        )  # fmt: skip
        plan = decide(self._name, state, now, reopen)
        if plan.copy:
            refuse_nothing(self._name, self._held)
        return plan

    def keep_alive(self) -> None:
        """The server waits for nobody."""

    def uncopied(self, known: Collection[str]) -> list[str]:
        return [table.full_name for table in self._held.tables if table.full_name not in known]

    def adopted(self, known: Mapping[str, Table]) -> list[Table]:
        if self._settings.begin_after is None:
            return []
        return [shape for shape in self._now.shapes(self._held.tables) if shape.full_name not in known]

    # -- a base copy --------------------------------------------------------------------------------------------
    @contextmanager
    def snapshot(self) -> Iterator[MySqlSnapshot]:
        self._tell_waiting("for the moment in which the snapshot begins")
        server, tables = replace(self._server, purpose="copy"), self._held.tables
        with BaseCopy(server, tables, sessions=SESSIONS, patched=True) as copy, copy.reading(copy.shapes) as ahead:
            yield MySqlSnapshot(copy, ahead)

    # -- the stream ---------------------------------------------------------------------------------------------
    def begin(self, resumed: Resumed) -> None:
        assert isinstance(resumed.after, GtidPosition)
        self._decoder = Decoder(
            resumed.facts,
            resumed.captured,
            Surroundings(
                self._bystanders,
                HEARTBEATS,
                checksum=self._now.variable("binlog_checksum") != "NONE",
                uncaptured=self._uncaptured,
                lower=self._now.variable("lower_case_table_names") == "1",
            ),
            after=resumed.after,
            last_seq=resumed.last_seq,
            tokens=resumed.tokens,
            clock_ns=time.time_ns,
        )
        self._stream.start(resumed.after)

    def _uncaptured(self, name: str) -> None:
        """Once a run."""
        if name not in self._told and not self._now.is_sequence(name):
            self._told.add(name)
            again = f"cdc source run {self._name} --reopen copy-again"
            self._tell_lacking(f"rows of {name} are passed over: it is wanted, and came after the last copy; {again}")

    def _bystanders(self) -> frozenset[str]:
        """Tables without triggers; none where the role may not see every trigger."""
        return self._now.without_triggers() if grants_of(self._now).everywhere("TRIGGER") else frozenset()

    def read(self, timeout_s: float) -> Iterator[Decoded]:
        decoder = self._decoder
        assert decoder, "begin() first"
        for event in self._stream.read(timeout_s):
            yield from decoder.feed(event)
        if self._beat_due and not decoder.inside:
            self._beat_due = False
            if decoder.executed != self._beaten:
                self._beaten = decoder.executed
                yield Transaction(
                    "", None, decoder.last_seq, decoder.executed, decoder.committed_us, 0, (), (), heartbeat=True
                )

    def acknowledge(self, durable: Position) -> None:
        """The server does not ask."""

    def finish(self, durable: Position) -> None:
        """Nor wait for a last word."""

    def heartbeat(self, token: str) -> None:
        if self._writes:
            self._now.heartbeat(self._name, token)
        else:
            self._beat_due = True
        self._samples.look()

    def sequences(self) -> tuple[tuple[str, int], ...]:
        return self._samples.take()

    @property
    def last_seq(self) -> int:
        return self._decoder.last_seq if self._decoder else 0

    def behind_bytes(self) -> int:
        """What is written and was not read; how long the server keeps it is told by time, not by us."""
        if self._decoder is None or not self._decoder.file:
            return 0
        return self._now.bytes_behind(self._decoder.file, self._decoder.position)


class MySqlSnapshot:
    """Every captured table behind the same transactions."""

    def __init__(self, copy: BaseCopy, ahead: ReadAhead) -> None:
        self._copy, self._ahead = copy, ahead
        self.position, self.tables = copy.executed, copy.shapes

    def rows(self, table: Table) -> Iterator[list[Row]]:
        return self._ahead.chunks(table)

    def stream(self, table: Table, schema_id: str, topic: str, facts: RunFacts) -> MySqlCopyStream:
        stream = TableStream(table, None, schema_id, topic, facts)
        return MySqlCopyStream(stream, self._copy.file, self._copy.position)


class MySqlCopyStream:
    """One table's copied rows: all stand behind the same transactions."""

    def __init__(self, stream: TableStream, file: str, position: int) -> None:
        self._stream, self._file, self._position = stream, file, position
        self._now_ns = time.time_ns()

    def open(self, seq: int) -> MySqlTransaction:
        return MySqlTransaction(
            commit_ts_us=self._now_ns // 1000, seq=seq, now_ns=self._now_ns, snapshot=True, gtid=None, file=self._file,
            pos=self._position, server_id=0, thread=None,
        )  # fmt: skip

    def read(self, txn: MySqlTransaction, row: Row, marker: str) -> list[Record]:
        return self._stream.read(txn, row, marker)
