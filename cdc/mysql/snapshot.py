"""The base copy: rows of tables as they stood behind one set of transactions, in chunks. I/O; rows as in the stream.

In: a server, tables. Out: the position, shapes, chunks of rows as lists of source text. Refuses: a role that may
neither lock nor write a heartbeat (SOURCE_PREREQUISITE); locks that are not to be had for a while (COPY_LOCKED); what
changed too much while a snapshot without lock began (COPY_TORN).

    lock → read what is executed → in each session: begin a consistent snapshot, touch every table → unlock

The lock lasts for the time of these few statements; under it nothing is committed, so all sessions show the same. What
is touched cannot be altered until the copy is over: the server makes ALTER and TRUNCATE wait, rows can be written all
the while. Each session touches all tables, so that it can rely on none but itself.

    MariaDB: snapshots → touch → where in the log the first one stands

There a snapshot says it itself, and no lock is needed. Sessions that did not come to the same place are done with.

    no lock: what is executed → snapshots → touch → a commit of ours → what is executed

Where no lock may be taken, what was committed between the two readings is read from the log (`window`) and patched into
the copy, which then stands at the second. The commit of ours makes sure that nothing that a snapshot shows is missing.
Sessions may begin apart within this span and differ in what was written in it: of that, what is patched in counts.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.connections import Connection

from cdc.errors import COPY_LOCKED, COPY_TORN, SOURCE_PREREQUISITE, CdcError
from cdc.event import Table
from cdc.mysql.ahead import ReadAhead
from cdc.mysql.catalog import Catalog, FoundTable
from cdc.mysql.dialect import Setting
from cdc.mysql.names import quoted
from cdc.mysql.session import SESSION, Server, close, dialect_in, number_of, streamed
from cdc.mysql.values import select_expression
from cdc.mysql.window import Touched, key_of, read_window
from cdc.position import GtidPosition
from cdc.rowevents import Row

CHUNK_ROWS = 10_000
CHUNK_BYTES = 8 << 20
SESSIONS = 4

_SETTINGS: dict[str, Setting] = {
    # A session that has read ahead waits for its turn: as long as the largest table takes.
    "net_write_timeout": 86_400,
    "wait_timeout": 86_400,
}
_PATIENCE_S = 10
_TRIES = 5
_DENIED = (1044, 1045, 1142, 1227)
"""1045: a managed server that lets nobody lock all of it."""
_LOCK_WAIT = 1205
_TIMED_OUT = (_LOCK_WAIT, 3024)


class BaseCopy:
    """Sessions under consistent snapshots. `executed` are the transactions that they show."""

    def __init__(
        self, server: Server, tables: Sequence[FoundTable], *, sessions: int = 1, patched: bool = False
    ) -> None:
        """`patched`: rows come by `reading` alone, where a window can be patched in; else there must be none."""
        self._server = server
        self._window: dict[str, Touched] = {}
        self._sessions: list[Connection] = []
        catalog = Catalog(server)
        try:
            for _ in range(max(1, min(sessions, len(tables)))):
                self._sessions.append(server.connect(settings=_SETTINGS, raw=True, multi_statements=True))
            if catalog.dialect.snapshot_tells_position:
                self._begin_where_it_stands(catalog, tables)
            else:
                self._begin_under_lock(catalog, tables, patched=patched)
        except BaseException:
            self._close()
            raise
        finally:
            # Closing it gives the locks back, whatever they were.
            catalog.close()

    def _begin_under_lock(self, catalog: Catalog, tables: Sequence[FoundTable], *, patched: bool) -> None:
        locked = self._lock(catalog, tables)
        self.executed: GtidPosition = catalog.executed()
        self.file, self.position = catalog.end_of_log()
        for session in self._sessions:
            self._begin(session, tables)
        catalog.rows("UNLOCK TABLES")
        self.shapes: list[Table] = catalog.shapes(tables)
        if not locked:
            self._read_window(catalog, patched=patched)

    def _begin_where_it_stands(self, catalog: Catalog, tables: Sequence[FoundTable]) -> None:
        """The first session decides; of the others those stay that came to the same place."""
        before = catalog.shapes(tables)
        first, *others = self._sessions
        self.file, self.position = place = self._begin_somewhere(first, tables)
        for session in others:
            if not any(self._begin_somewhere(session, tables) == place for _ in range(_TRIES)):
                close(session)
                self._sessions.remove(session)
        self.executed = catalog.executed_at(*place)
        self.shapes = catalog.shapes(tables)
        # What changed before the tables were touched may have come behind the snapshot.
        for then, now in zip(before, self.shapes, strict=False):
            if then != now:
                raise CdcError(COPY_TORN, source=self._server.name, table=then.full_name)

    def _begin_somewhere(self, session: Connection, tables: Sequence[FoundTable]) -> tuple[str, int]:
        """A snapshot, and where in the log it stands."""
        try:
            self._begin(session, tables)
        except CdcError as error:
            if f"({_LOCK_WAIT})" not in error.text:
                raise
            raise CdcError(COPY_LOCKED, source=self._server.name, seconds=SESSION["lock_wait_timeout"]) from None
        with self._server.errors(), session.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Binlog\\_snapshot\\_%'")
            told = {name.decode(): value.decode() for name, value in cursor.fetchall()}
        return told["Binlog_snapshot_file"], int(told["Binlog_snapshot_position"])

    def _begin(self, session: Connection, tables: Sequence[FoundTable]) -> None:
        """In one round trip, as long as the lock lasts."""
        touch = (f"SELECT 1 FROM {_quoted(table)} LIMIT 0" for table in tables)
        with self._server.errors(), session.cursor() as cursor:
            cursor.execute(";".join(["START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", *touch]))
            while cursor.nextset():
                pass

    def _read_window(self, catalog: Catalog, *, patched: bool) -> None:
        """The copy stands behind what was committed while it began, whether the snapshot shows it or not."""
        if not catalog.may_beat() or catalog.variable("binlog_order_commits") != "ON":
            raise self._denied("and without a lock it must write cdc.heartbeat, under binlog_order_commits = ON")
        before = self.executed
        catalog.heartbeat(f"{self._server.name[:55]} copy", "-")
        self.executed = catalog.executed()
        checksum = catalog.variable("binlog_checksum") != "NONE"
        self._window = read_window(self._server, self.shapes, before, self.executed, checksum=checksum)
        for table in () if patched else self._window:
            raise CdcError(COPY_TORN, source=self._server.name, table=table)

    def _lock(self, catalog: Catalog, tables: Sequence[FoundTable]) -> bool:
        """No commit of these tables from here on: of all, where we may, or else of each. False if we may neither."""
        try:
            with catalog.connection.cursor() as cursor:
                cursor.execute(f"SET SESSION lock_wait_timeout = {_PATIENCE_S}")
                try:
                    cursor.execute("FLUSH TABLES WITH READ LOCK")
                except pymysql.MySQLError as error:
                    if number_of(error) not in _DENIED:
                        raise
                    cursor.execute("LOCK TABLES " + ", ".join(f"{_quoted(table)} READ" for table in tables))
        except pymysql.MySQLError as error:
            if number_of(error) in _DENIED:
                return False
            raise self._not_locked(error) from None
        return True

    def _not_locked(self, error: pymysql.MySQLError) -> CdcError:
        if number_of(error) in _TIMED_OUT:
            return CdcError(COPY_LOCKED, source=self._server.name, seconds=_PATIENCE_S)
        return self._server.error(error)

    def _denied(self, besides: str) -> CdcError:
        user = self._server.address.user
        return CdcError(
            SOURCE_PREREQUISITE,
            source=self._server.name,
            problem=f"the role may lock neither the server nor its tables, {besides}",
            fix=f"GRANT FLUSH_TABLES ON *.* TO '{user}'; where that is not to be had, LOCK TABLES on the databases",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for session in self._sessions:
            close(session)

    def rows(self, query: str) -> list[tuple[bytes | None, ...]]:
        """What a query gives under the snapshot, while nothing else is being read."""
        with self._server.errors(), self._sessions[0].cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def reading(self, tables: Sequence[Table]) -> ReadAhead:
        """All rows of these tables, in their order; a table's own in none."""
        return ReadAhead(self._chunks, self._sessions, tables)

    def _chunks(self, session: Connection, table: Table) -> Generator[list[Row], None, None]:
        dialect = dialect_in(session)
        columns = ", ".join(select_expression(column, quoted(column.name), dialect) for column in table.columns)
        touched = self._window.get(table.full_name, {})
        rows: list[Row] = [row for row in touched.values() if row is not None]
        size = 0
        with self._server.errors(), streamed(session, f"SELECT {columns} FROM {_quoted(table)}") as found:
            for values in found:
                row: list[Any] = list(values)
                if touched and key_of(table, row) in touched:
                    continue
                rows.append(row)
                size += sum(len(value) for value in row if value is not None)
                if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                    yield rows
                    rows, size = [], 0
        if rows:
            yield rows


def _quoted(table: FoundTable | Table) -> str:
    return f"{quoted(table.schema)}.{quoted(table.name)}"
