"""A MySQL server being compared: positions, a snapshot, digests under it, a sink's progress. Reads only.

In: a server. Out: what `sinks.verify` asks of a side, source or replica.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from cdc.event import Table
from cdc.mysql.catalog import executed_in
from cdc.mysql.session import Server, close, dialect_in
from cdc.position import GtidPosition
from sinks.digest import Digests, digests
from sinks.mysql.digest import digest_query, rows_query
from sinks.mysql.names import name_of

_PROGRESS_TABLE = """
SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'cdc_progress'
"""


class Reading:
    """One connection."""

    def __init__(self, server: Server) -> None:
        self._server, self._home = server, server.database
        self._connection = server.connect()
        self._dialect = dialect_in(self._connection)

    def close(self) -> None:
        close(self._connection)

    def errors(self) -> AbstractContextManager[None]:
        return self._server.errors()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self._rows("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        yield
        self._rows("COMMIT")

    def position(self) -> GtidPosition:
        """Of a source: what it has executed."""
        return executed_in(self._connection)

    def progress(self) -> tuple[str, int, int]:
        """Position, epoch and number where the sink of this name stands."""
        if not self._rows(_PROGRESS_TABLE):
            return "", 0, 0
        query = "SELECT COALESCE(position, ''), epoch, txn_seq FROM cdc_progress WHERE pipeline = %s"
        found = self._rows(query, self._server.name)
        return (str(found[0][0]), int(found[0][1]), int(found[0][2])) if found else ("", 0, 0)

    def copying(self) -> tuple[str, ...]:
        """Tables of which the sink does not have every row yet."""
        query = "SELECT source_table FROM cdc_table WHERE pipeline = %s AND state = 'copying' ORDER BY 1"
        return tuple(str(row[0]) for row in self._rows(query, self._server.name))

    def digests(self, table: Table, *, only: bool) -> Digests:
        """Nothing inherits here: `only` says nothing."""
        query = digest_query(table, self._dialect, only=only, at=name_of(table, self._home))
        return digests(self._rows(query), table.full_name, self._server.name)

    def rows_in(self, table: Table, bucket: str, *, only: bool) -> list[tuple[str, str]]:
        """Key's line and row's hash of every row in a bucket."""
        query = rows_query(table, bucket, self._dialect, only=only, at=name_of(table, self._home))
        return [(str(key), str(of)) for key, of in self._rows(query)]

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return list(cursor.fetchall())
