"""Events of the binary log → records and transactions: a pure state machine.

In: events in the server's order, header and body (`feed`). Out, per event: records to send, a new shape to publish
before anything else, a statement to tell of, a transaction that is complete, or nothing. Refuses, by name with table
and transaction: an event out of order, a table that looks otherwise than its shape, a change that is not followed, rows
that the log does not carry as rows, an event that nobody here knows and that may carry rows.

Transactions that the checkpoint holds are passed over. The numbers of a run are given here: `txn_seq` for each
transaction that carries something, `ordinal` for each event in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cdc.decoded import Captured, Decoded, NewShapes, Statement, Transaction
from cdc.errors import (
    EVENT_UNSUPPORTED,
    RELATION_MISMATCH,
    SCHEMA_CHANGE_UNSUPPORTED,
    STATEMENT_NOT_ROWS,
    STREAM_OUT_OF_ORDER,
    CdcError,
)
from cdc.event import Table
from cdc.excerpt import excerpt
from cdc.log import Change
from cdc.mysql import mariadb, wire
from cdc.mysql.ddl import UnfollowableError, effects
from cdc.mysql.events import MySqlTransaction, TableStream
from cdc.mysql.rows import parse_rows
from cdc.mysql.silent import unreadable
from cdc.mysql.statements import Altered, Created, RowsChanged, Stopping, Truncated, is_told, read_statement
from cdc.mysql.tablemap import TableMap, cell, mapped_table, parse_table_map
from cdc.mysql.tables import difference, told_apart
from cdc.mysql.undone import HELD_BYTES, Held, UndoneError
from cdc.mysql.wire import Gtid, Header, Query
from cdc.position import GtidPosition
from cdc.rowevents import Record, RunFacts
from cdc.shape import schema_id

_ROWS = frozenset({wire.WRITE_ROWS, wire.UPDATE_ROWS, wire.DELETE_ROWS})
_OTHER_ROWS = {
    wire.PARTIAL_UPDATE_ROWS: "partial updates of JSON (binlog_row_value_options = PARTIAL_JSON)",
}
_CARRIERS = "A schema change is followed by its statement in the log: under sql_log_bin = 0 it is not there"
_MAPPED = 10_000
"""Descriptions that are kept; a server of more tables has them compiled again."""
_NUMBERS_PER_TRANSACTION = 4096
"""Of added columns: a table has no more of them."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the server a decoder must know. `bystanders` tells the tables whose statements change their own rows
    alone: no views, no triggers, as far as the role may see that."""

    bystanders: Callable[[], frozenset[str]]
    heartbeats: tuple[str, str]
    checksum: bool
    """Of events that come before the log says it itself."""
    uncaptured: Callable[[str], None]
    """Told of a table that is wanted and whose rows are passed over: it has no copy."""
    lower: bool = False
    """Names of tables are in lower case, however a statement writes them."""


class Decoder:
    """Decodes one run's stream. `tokens` are the heartbeats that count as ours."""

    def __init__(
        self,
        facts: RunFacts,
        captured: Captured,
        around: Surroundings,
        *,
        after: GtidPosition,
        last_seq: int,
        tokens: frozenset[str],
        clock_ns: Callable[[], int],
    ) -> None:
        self._facts, self._captured, self._around = facts, captured, around
        self._created: set[str] = set()  # which the catalog may no longer have when we ask
        self._tokens, self._clock_ns = tokens, clock_ns
        self._executed = after
        self._seq = last_seq
        self._shapes = dict(captured.shapes)
        self._mapped: dict[bytes, TableStream | TableMap | None] = {}
        self._tables: dict[bytes, TableStream | TableMap | None] = {}
        self._gtid: Gtid | mariadb.Gtid | None = None
        self._txn: MySqlTransaction | None = None
        self._began = self._heartbeat = self._prepared = False
        self._changes: list[Change] = []
        self._held = Held()
        self._checksum = around.checksum
        self.file = ""
        self.position = 0
        self.committed_us: int | None = None

    @property
    def last_seq(self) -> int:
        """The last number given."""
        return self._seq

    @property
    def executed(self) -> GtidPosition:
        """Every transaction up to the last that is complete."""
        return self._executed

    @property
    def inside(self) -> bool:
        """Whether a transaction has begun that is not complete."""
        return self._gtid is not None

    # -- events -------------------------------------------------------------------------------------------------
    def feed(self, data: bytes) -> Iterable[Decoded]:
        """What an event as the server sent it means, those inside of it too."""
        kind = data[4] if len(data) > 4 else 0
        if kind == wire.FORMAT_DESCRIPTION:
            self._checksum = wire.parse_format_description(data).checksum
            return ()
        header, body = wire.parse_event(data, checksum=self._checksum)
        if header.end:
            self.position = header.end
        return self._payload(body) if kind == wire.TRANSACTION_PAYLOAD else self._event(header, body)

    def _payload(self, body: bytes) -> Iterator[Decoded]:
        for header, inner in wire.parse_payload(body):
            yield from self._event(header, inner)

    def _event(self, header: Header, body: bytes) -> Iterable[Decoded]:
        """Rows first: they are nearly all of them."""
        if header.type in mariadb.REWRITTEN:
            header, body = mariadb.as_mysql(header, body)
        kind = header.type
        if kind in _ROWS:
            stream = self._stream(body, header)
            if not isinstance(stream, TableStream):
                return ()
            txn = self._open()
            return self._held.put(txn, stream.rows(txn, header, body), len(body))
        if kind == wire.TABLE_MAP:
            self._map(body)
        elif kind == wire.GTID:
            self._begin(header, wire.parse_gtid(body))
        elif kind == mariadb.GTID:
            self._begin_mariadb(header, mariadb.parse_gtid(header, body))
        elif kind == wire.XID:
            return self._commit(wire.parse_xid(body))
        elif kind == wire.QUERY:
            return self._query(wire.parse_query(body))
        elif kind == wire.XA_PREPARE:
            return self._commit(None)
        else:
            self._seldom(header, body)
        return ()

    def _seldom(self, header: Header, body: bytes) -> None:
        kind = header.type
        if kind == wire.ROTATE:
            self.file = wire.parse_rotate(body).file
        elif kind in _OTHER_ROWS:
            if self._stream(body, header) is not None:
                raise self._unsupported(kind, _OTHER_ROWS[kind])
        elif problem := unreadable(header):
            raise self._unsupported(kind, problem)

    # -- transactions -------------------------------------------------------------------------------------------
    def _begin_mariadb(self, header: Header, gtid: mariadb.Gtid) -> None:
        """What stands for BEGIN too. A number that did not grow would be taken for one that was read already."""
        if self._executed.holds(gtid.sid, gtid.number):
            problem = f"{gtid} comes behind {self._executed}: numbers of a domain must grow (gtid_strict_mode = ON)"
            raise self._unsupported(mariadb.GTID, problem)
        if gtid.two_phases:
            raise self._unsupported(mariadb.GTID, "an ALTER TABLE in two phases (binlog_alter_two_phase = ON)")
        self._begin(header, gtid)
        self._began = not gtid.flags & mariadb.Flags.STANDALONE
        self._prepared = bool(gtid.flags & mariadb.Flags.PREPARED_XA)

    def _begin(self, header: Header, gtid: Gtid | mariadb.Gtid) -> None:
        if self._gtid is not None:
            raise self._disorder(f"transaction {gtid} inside {self._gtid}")
        self._gtid, self._began, self._heartbeat, self._prepared = gtid, False, False, False
        self._tables.clear()
        self._held.begin(HELD_BYTES if isinstance(gtid, mariadb.Gtid) else 0)
        self._changes = []
        if self._executed.holds(gtid.sid, gtid.number):
            self._txn = None
            return
        original_us = gtid.original_us if isinstance(gtid, Gtid) else None
        committed_us = original_us if original_us is not None else header.timestamp * 1_000_000
        self._txn = MySqlTransaction(
            commit_ts_us=committed_us, seq=self._seq + 1, now_ns=self._clock_ns(), gtid=str(gtid), file=self.file,
            pos=self.position, server_id=header.server_id, thread=None,
        )  # fmt: skip

    def _open(self) -> MySqlTransaction:
        if self._txn is None:
            raise self._disorder("rows outside a transaction")
        if self._prepared:
            raise self._unsupported(wire.XA_PREPARE, "rows of an XA transaction, which may still be undone")
        return self._txn

    def _commit(self, xid: int | None) -> Iterable[Decoded]:
        gtid, txn = self._gtid, self._txn
        if gtid is None:
            raise self._disorder("the end of a transaction that did not begin")
        self._gtid = self._txn = None
        if txn is None:
            return ()
        self._executed = self._executed.add(gtid.sid, gtid.number)
        self.committed_us = txn.commit_ts_us
        if txn.ordinal or self._changes:
            self._seq = txn.seq
        transaction = Transaction(
            txn.id,
            xid,
            self._seq,
            self._executed,
            txn.commit_ts_us,
            txn.ordinal,
            tuple(txn.counts.items()),
            tuple(self._changes),
            self._heartbeat,
        )
        return (*self._held.take(), transaction)

    def _take_back(self, text: str) -> None:
        """SAVEPOINT, and ROLLBACK [TO one] behind the rows it undoes."""
        if self._txn is None:
            return
        if self._changes and not text.startswith("SAVEPOINT "):
            raise self._unsupported(wire.QUERY, "a schema change is undone by ROLLBACK")
        try:
            self._held.heed(text, self._txn)
        except UndoneError as problem:
            raise self._unsupported(wire.QUERY, str(problem)) from None

    # -- tables -------------------------------------------------------------------------------------------------
    def _map(self, body: bytes) -> None:
        """Which table the number means that the following rows name, until the transaction's end."""
        described = body[6:]
        if described not in self._mapped:
            if len(self._mapped) >= _MAPPED:
                self._mapped.clear()
            self._mapped[described] = self._match(body)
        self._tables[body[:6]] = self._mapped[described]

    def _match(self, body: bytes) -> TableStream | TableMap | None:
        """Compare the log's description with the shape that holds, once per description."""
        found = mapped_table(body)
        name = f"{found.schema}.{found.name}"
        table = self._shapes.get(name)
        if (found.schema, found.name) == self._around.heartbeats:
            return parse_table_map(body)
        if table is None:
            if self._captured.wanted(found.schema, found.name):
                self._around.uncaptured(name)
            return None
        mapped = parse_table_map(body)
        changed = difference(table, mapped)
        if changed:
            raise CdcError(
                RELATION_MISMATCH, source=self._facts.source, table=name, position=self._where, change=changed,
                carriers=_CARRIERS,
            )  # fmt: skip
        topic = self._captured.topic_of(table.schema, table.name)
        return TableStream(table, told_apart(table, mapped), schema_id(table), topic, self._facts)

    def _stream(self, body: bytes, header: Header) -> TableStream | TableMap | None:
        """Where these rows go; None if their table is not captured or the transaction is passed over."""
        if self._txn is None:
            if self._gtid is None:
                raise self._disorder("rows outside a transaction")
            return None
        try:
            stream = self._tables[body[:6]]
        except KeyError:
            raise self._disorder("rows of a table that was not described") from None
        if isinstance(stream, TableMap):
            self._beat(stream, header, body)
            return None
        return stream

    def _beat(self, mapped: TableMap, header: Header, body: bytes) -> None:
        names = [column.name for column in mapped.columns]
        if header.type not in _ROWS or "token" not in names:
            return
        at = names.index("token")
        for _, after in parse_rows(header.type, body, [cell(column) for column in mapped.columns]):
            token = after[at] if after else None
            if isinstance(token, bytes) and token.decode(errors="replace") in self._tokens:
                self._heartbeat = True

    # -- statements ---------------------------------------------------------------------------------------------
    def _query(self, query: Query) -> Iterable[Decoded]:
        text = query.text
        if text == "BEGIN" or text.startswith("XA START"):
            self._began, self._prepared = True, text != "BEGIN"
            if self._txn is not None:
                self._txn.thread = query.thread
            return ()
        if self._gtid is None:
            raise self._disorder(f"a statement outside a transaction: {text[:80]}")
        if self._began and text == "COMMIT":
            return self._commit(None)
        if self._began and (text == "ROLLBACK" or text.startswith(("SAVEPOINT ", "ROLLBACK TO "))):
            self._take_back(text)
            return self._commit(None) if text == "ROLLBACK" else ()
        if self._began and text.startswith("XA END"):
            return ()
        decoded = self._statement(query) if self._txn is not None else None
        told = () if decoded is None else (decoded,)
        # One that stands alone is a transaction of its own.
        return told if self._began else (*told, *self._commit(None))

    def _statement(self, query: Query) -> Decoded | None:
        meaning = read_statement(query.text, query.schema, query.sql_mode, lower=self._around.lower)
        match meaning:
            case RowsChanged():
                self._refuse_rows(meaning, query)
                return None
            case Stopping():
                self._refuse_stopping(meaning)
            case Created(None):
                self._created.clear()
            case Created(str(name)):
                self._created.add(name)
            case Truncated() if meaning.table in self._shapes:
                return self._truncate(meaning.table)
            case Altered() if meaning.table in self._shapes:
                return self._alter(meaning, query)
            case _:
                pass
        return Statement(query.text, query.schema) if is_told(query.text, query.sql_mode) else None

    def _refuse_rows(self, meaning: RowsChanged, query: Query) -> None:
        """Rows that only the statement tells of; a view or a trigger may have changed captured ones too."""
        tables = set(meaning.tables or ())
        if not tables or tables & self._shapes.keys() or tables - self._created - self._around.bystanders():
            raise CdcError(
                STATEMENT_NOT_ROWS,
                source=self._facts.source,
                table=next((name for name in meaning.tables or () if name in self._shapes), "some table"),
                position=self._where,
                statement=excerpt(" ".join(query.text.split()), 200),
            )

    def _refuse_stopping(self, meaning: Stopping) -> None:
        for name in self._shapes:
            if meaning.concerns(name):
                raise self._changed(name, meaning.change)

    def _truncate(self, name: str) -> list[Record]:
        table = self._shapes[name]
        topic = self._captured.topic_of(table.schema, table.name)
        return TableStream(table, None, schema_id(table), topic, self._facts).truncate(self._open())

    def _alter(self, altered: Altered, query: Query) -> Decoded:
        """The new shape. The TABLE_MAP before the next row must agree (`_match`)."""
        old, txn = self._shapes[altered.table], self._open()
        try:
            steps = effects(old, altered, txn.seq * _NUMBERS_PER_TRANSACTION)
        except UnfollowableError as change:
            raise self._changed(altered.table, str(change)) from None
        if not steps:
            return Statement(query.text, query.schema)
        shapes = tuple((schema_id(table), table) for _, table in steps)
        before = schema_id(old)
        for (effect, _), (after, _) in zip(steps, shapes, strict=True):
            self._changes.append(Change(txn.ordinal, altered.table, before, after, effect))
            before = after
        self._shapes[altered.table] = shapes[-1][1]
        self._mapped.clear()
        return NewShapes(txn.seq, shapes, query.text)

    # -- refusals -----------------------------------------------------------------------------------------------
    @property
    def _where(self) -> str:
        return f"{self._gtid or 'no transaction'} ({self.file}, before {self.position})"

    @property
    def shapes(self) -> dict[str, Table]:
        """Each table's shape by now."""
        return dict(self._shapes)

    def _changed(self, table: str, change: str) -> CdcError:
        return CdcError(
            SCHEMA_CHANGE_UNSUPPORTED, source=self._facts.source, table=table, position=self._where, change=change
        )

    def _unsupported(self, kind: int, problem: str) -> CdcError:
        return CdcError(EVENT_UNSUPPORTED, source=self._facts.source, position=self._where, event=kind, problem=problem)

    def _disorder(self, what: str) -> CdcError:
        return CdcError(STREAM_OUT_OF_ORDER, source=self._facts.source, position=self._where, what=what)
