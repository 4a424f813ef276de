"""The base copy: rows of tables under the slot's exported snapshot, in chunks. I/O; rows look as in the stream.

In: a server, the name of an exported snapshot, tables. Out: chunks of rows as lists of text, ready for the same
encoders as the stream's; or as lines of CSV, for a base of the archive. Refuses: a table that was rewritten since the
snapshot was taken (COPY_TORN): under the older snapshot it reads as empty (CORRECTNESS 20).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from cdc.errors import COPY_TORN, ROW_TOO_LARGE, CdcError
from cdc.event import Table
from cdc.postgres.catalog import Catalog, PublishedTable
from cdc.postgres.session import Server
from cdc.rowevents import Row

CHUNK_ROWS = 10_000
CHUNK_BYTES = 8 << 20

_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"\\": b"\\"}

_REWRITTEN = """
WITH RECURSIVE tree(oid) AS (
  SELECT %s::oid
  UNION ALL
  SELECT i.inhrelid FROM pg_catalog.pg_inherits i
  JOIN tree ON i.inhparent = tree.oid
  JOIN pg_catalog.pg_class p ON p.oid = i.inhparent AND p.relkind = 'p'
)
SELECT count(*) FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid
WHERE c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)
"""
"""pg_class is read under the snapshot, the function answers for now."""


class BaseCopy:
    """One session under an exported snapshot; the walsender that exported it must stay idle meanwhile.

    Without one it takes its own, once `locked` tables are locked: TRUNCATE would empty them under any snapshot.
    """

    def __init__(self, server: Server, snapshot: str | None, locked: Sequence[PublishedTable] = ()) -> None:
        self._catalog = Catalog(server, statement_timeout="0")
        connection = self._catalog.connection
        with server.errors():
            # Between two tables the session may wait long for Kafka or for an object store.
            connection.execute("SET idle_in_transaction_session_timeout = 0")
            if self._catalog.version >= 170000:
                connection.execute("SET transaction_timeout = 0")
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if snapshot is not None:
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
            for table in locked:
                self._lock(table)
        self.xid = int(
            self._catalog.rows("SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text")[0][0]
        ) % (1 << 32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._catalog.close()

    def shape(self, table: PublishedTable) -> Table:
        """Lock the table against rewriting, then its shape; the lock lasts as long as the copy."""
        with self._catalog.server.errors():
            self._lock(table)
        if self._catalog.rows(_REWRITTEN, table.oid)[0][0]:
            raise CdcError(COPY_TORN, source=self._catalog.server.name, table=table.full_name)
        return self._catalog.shapes([table.oid])[0]

    def _lock(self, table: PublishedTable) -> None:
        self._catalog.connection.execute(
            sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(table.schema, table.name))
        )

    def export(self) -> str:
        """The snapshot's name, under which other sessions see the same while this one lasts."""
        return str(self._catalog.rows("SELECT pg_catalog.pg_export_snapshot()")[0][0])

    @property
    def catalog(self) -> Catalog:
        """Questions that the snapshot answers, but for what the server's functions look up for now."""
        return self._catalog

    def rows(self, query: sql.Composed) -> list[tuple[Any, ...]]:
        with self._catalog.server.errors():
            return self._catalog.connection.execute(query).fetchall()

    def csv(self, table: Table) -> Iterator[bytes]:
        """The table's own rows, a line of CSV each: every value in quotes, nothing for NULL."""
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        query = sql.SQL("COPY (SELECT {} FROM ONLY {}) TO STDOUT (FORMAT csv, FORCE_QUOTE *)").format(
            columns, sql.Identifier(table.schema, table.name)
        )
        server = self._catalog.server
        with server.errors():
            try:
                with self._catalog.connection.cursor().copy(query) as copy:
                    for line in copy:
                        yield bytes(line)
            except psycopg.errors.ProgramLimitExceeded as error:
                problem = server.problem(error)
                raise CdcError(ROW_TOO_LARGE, source=server.name, table=table.full_name, problem=problem) from None

    def chunks(self, table: Table, *, partitioned: bool) -> Iterator[list[Row]]:
        """The table's rows, in no order; nothing for an empty table."""
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        only = sql.SQL("" if partitioned else "ONLY ")
        query = sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT").format(
            columns, only, sql.Identifier(table.schema, table.name)
        )
        rows: list[Row] = []
        size = 0
        with self._catalog.server.errors(), self._catalog.connection.cursor().copy(query) as copy:
            for line in copy:
                data = bytes(line)
                rows.append(parse_line(data))
                size += len(data)
                if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                    yield rows
                    rows, size = [], 0
        if rows:
            yield rows


def parse_line(line: bytes) -> Row:
    """A line of COPY's text format, with its newline."""
    fields = line[:-1].split(b"\t")
    return [None if f == rb"\N" else _unescaped(f) if b"\\" in f else f for f in fields]


def _unescaped(value: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: _ESCAPED[found[1]], value)
