"""What was committed while a snapshot began without a lock: the rows it may or may not show, as they were afterwards.

In: a server, two sets of executed transactions: one read before the snapshot, one behind a commit of ours that followed
it. Every transaction that the snapshot shows is in the second, all of the first are shown; of those between nobody can
say. Out: for each table the keys that they touched, with the whole row behind the last of them, None where it is gone.
Refuses: what cannot be patched into a copy, by COPY_TORN, so that it begins again: rows of a table without a key,
images that lack columns, a change of a table's shape, rows whose children change by a foreign key, below the log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from cdc.errors import COPY_TORN, CdcError
from cdc.event import Table
from cdc.mysql import mariadb, wire
from cdc.mysql.cells import Cell
from cdc.mysql.rows import parse_rows
from cdc.mysql.session import Server
from cdc.mysql.startup import cascading_parents
from cdc.mysql.statements import Altered, Meaning, RowsChanged, Stopping, Truncated, read_statement
from cdc.mysql.stream import BinlogStream
from cdc.mysql.tablemap import cell, parse_table_map
from cdc.mysql.tables import difference, told_apart
from cdc.mysql.wire import Gtid, Header
from cdc.position import GtidPosition
from cdc.rowevents import UNCHANGED, Row, Value

Key = tuple[Value, ...]
Touched = dict[Key, Row | None]
_PATIENCE_S = 60.0
_ROWS = frozenset({wire.WRITE_ROWS, wire.UPDATE_ROWS, wire.DELETE_ROWS})


def read_window(
    server: Server, tables: Sequence[Table], after: GtidPosition, until: GtidPosition, *, checksum: bool
) -> dict[str, Touched]:
    """Keys touched by transactions of `until` that are not in `after`, by table."""
    window = _Window(server.name, tables, after, until, checksum=checksum)
    deadline = time.monotonic() + _PATIENCE_S
    with closing(BinlogStream(server)) as stream:
        stream.start(after)
        while not until <= window.executed:
            for event in stream.read(1.0):
                window.feed(event)
            if time.monotonic() > deadline:
                raise server.unreachable(f"the log did not reach {until} within {_PATIENCE_S:.0f} s")
    return window.touched


class _Window:
    """The rows of the span, last images last. What lies behind it may come too and is left alone."""

    def __init__(
        self, source: str, tables: Sequence[Table], after: GtidPosition, until: GtidPosition, *, checksum: bool
    ) -> None:
        self._source, self._until, self._checksum = source, until, checksum
        self._tables = {table.full_name: table for table in tables}
        self._parents = cascading_parents(tables)
        self._mapped: dict[bytes, tuple[Table, list[Cell]] | None] = {}
        self._gtid: Gtid | mariadb.Gtid | None = None
        self._began = False
        self.executed = after
        self.touched: dict[str, Touched] = {}

    def feed(self, data: bytes) -> None:
        if data[4:5] == bytes([wire.FORMAT_DESCRIPTION]):
            self._checksum = wire.parse_format_description(data).checksum
            return
        header, body = wire.parse_event(data, checksum=self._checksum)
        for inner, inner_body in _unpacked(header, body):
            self._event(inner, inner_body)

    def _event(self, header: Header, body: bytes) -> None:
        if header.type == wire.GTID:
            self._begin(wire.parse_gtid(body), began=False)
        elif header.type == mariadb.GTID:
            gtid = mariadb.parse_gtid(header, body)
            self._begin(gtid, began=not gtid.flags & mariadb.Flags.STANDALONE)
        if self._gtid is None:
            return
        match header.type:
            case wire.TABLE_MAP:
                self._map(body)
            case kind if kind in _ROWS:
                self._rows(kind, body)
            case wire.PARTIAL_UPDATE_ROWS:
                mapped = self._mapped.get(body[:6])
                if mapped:
                    raise self._torn(mapped[0].full_name)
            case wire.QUERY:
                self._query(wire.parse_query(body))
            case wire.XID | wire.XA_PREPARE:
                self._end()

    def _begin(self, gtid: Gtid | mariadb.Gtid, *, began: bool) -> None:
        self._gtid = gtid if self._until.holds(gtid.sid, gtid.number) else None
        self._began = began

    def _map(self, body: bytes) -> None:
        found = parse_table_map(body)
        table = self._tables.get(f"{found.schema}.{found.name}")
        if table is not None and difference(table, found):
            raise self._torn(table.full_name)
        told = told_apart(table, found) if table is not None else found
        self._mapped[body[:6]] = (table, [cell(column) for column in told.columns]) if table else None

    def _rows(self, kind: int, body: bytes) -> None:
        mapped = self._mapped[body[:6]]
        if mapped is None:
            return
        table, cells = mapped
        touched = self.touched.setdefault(table.full_name, {})
        for before, after in parse_rows(kind, body, cells):
            if table.keyless or (after is not None and UNCHANGED in after):
                raise self._torn(table.full_name)
            if before is not None:
                if table.full_name in self._parents:
                    raise self._torn(table.full_name)
                touched[key_of(table, before)] = None
            if after is not None:
                touched[key_of(table, after)] = after

    def _query(self, query: wire.Query) -> None:
        if query.text == "BEGIN" or query.text.startswith("XA START"):
            self._began = True
            return
        meaning = read_statement(query.text, query.schema, query.sql_mode)
        for name in self._tables:
            if _concerns(meaning, name):
                raise self._torn(name)
        if not self._began or query.text == "COMMIT":
            self._end()

    def _end(self) -> None:
        if self._gtid is not None:
            self.executed = self.executed.add(self._gtid.sid, self._gtid.number)
            self._gtid = None

    def _torn(self, table: str) -> CdcError:
        return CdcError(COPY_TORN, source=self._source, table=table)


def _unpacked(header: Header, body: bytes) -> Iterator[tuple[Header, bytes]]:
    if header.type == wire.TRANSACTION_PAYLOAD:
        return wire.parse_payload(body)
    return iter([mariadb.as_mysql(header, body) if header.type in mariadb.REWRITTEN else (header, body)])


def _concerns(meaning: Meaning, name: str) -> bool:
    """Rather once too often: the copy is tried again."""
    match meaning:
        case RowsChanged():
            return True
        case Stopping():
            return meaning.concerns(name) or name.lower() in map(str.lower, meaning.tables)
        case Altered(table) | Truncated(table):
            return table.lower() == name.lower()
    return False


def key_of(table: Table, row: Row) -> Key:
    """The values of the key columns, in source text."""
    places = [at for at, column in enumerate(table.columns) if column.name in table.key]
    return tuple(row[at] for at in places)
