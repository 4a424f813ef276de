"""A Postgres server being compared: positions, a snapshot, digests under it, a sink's progress. Reads only.

In: a server. Out: what `sinks.verify` asks of a side, source or replica.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from cdc.event import Table
from cdc.position import Lsn, PgPosition
from cdc.postgres.session import Server
from sinks.digest import Digests, digests
from sinks.postgres.digest import digest_query, rows_query

_SETTINGS = {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"}


class Reading:
    """One connection. The first question within `snapshot` takes it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = server.connect(settings=_SETTINGS)

    def close(self) -> None:
        self._connection.close()

    def errors(self) -> AbstractContextManager[None]:
        return self._server.errors()

    def snapshot(self) -> AbstractContextManager[object]:
        return self._connection.transaction()

    def position(self) -> PgPosition:
        """Of a source: what was committed is before it. The timeline is of no consequence for an order."""
        return PgPosition(1, Lsn.parse(self._rows("SELECT pg_catalog.pg_current_wal_insert_lsn()::text")[0][0]))

    def progress(self) -> tuple[str, int, int]:
        """Position, epoch and number where the sink of this name stands."""
        if self._rows("SELECT pg_catalog.to_regclass('cdc.cdc_progress')")[0][0] is None:
            return "", 0, 0
        query = "SELECT coalesce(p.position, ''), p.epoch, p.txn_seq FROM cdc.cdc_progress p WHERE p.pipeline = %s"
        found = self._rows(query, self._server.name)
        return (str(found[0][0]), int(found[0][1]), int(found[0][2])) if found else ("", 0, 0)

    def copying(self) -> tuple[str, ...]:
        """Tables of which the sink does not have every row yet."""
        query = "SELECT t.source_table FROM cdc.cdc_table t WHERE t.pipeline = %s AND t.state = 'copying' ORDER BY 1"
        return tuple(str(row[0]) for row in self._rows(query, self._server.name))

    def digests(self, table: Table, *, only: bool) -> Digests:
        """`only`: without the tables that inherit from it."""
        return digests(self._connection.execute(digest_query(table, only=only)), table.full_name, self._server.name)

    def rows_in(self, table: Table, bucket: str, *, only: bool) -> list[tuple[str, str]]:
        """Key's line and row's hash of every row in a bucket."""
        return [(str(key), str(of)) for key, of in self._connection.execute(rows_query(table, bucket, only=only))]

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.encode(), parameters or None).fetchall()
