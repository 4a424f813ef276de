"""A replica at the position that its sink has applied: rows for a base, without reading them from the source. I/O.

In: a sink, the tables that are captured. Out: a session under one snapshot that shows rows and progress together.
Refuses: a replica that does not hold exactly what the source held (REPLICA_UNFIT, CORRECTNESS 32): nothing applied,
another epoch, a table that is missing, being copied, or has columns of another type; and, to begin again by itself, a
shape that the source has left by now or the sink has not reached (BASE_OVERTAKEN).

A sink in transaction mode stops at the first row that differs, so one that goes on has no known divergence. While the
base is read, its sink waits with TRUNCATE and schema changes of these tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from cdc.errors import BASE_OVERTAKEN, REPLICA_UNFIT, CdcError
from cdc.event import Table
from cdc.log import End
from cdc.postgres.catalog import PublishedTable
from cdc.postgres.session import Server
from cdc.postgres.snapshot import BaseCopy
from cdc.sections import Sink
from cdc.shape import schema_id
from sinks.transaction import Progress

_PROGRESS = """
SELECT epoch, txn_seq, run, position, log_offset, commit_ts_us FROM cdc.cdc_progress
WHERE pipeline = %s AND source = %s AND position IS NOT NULL
"""
_TABLES = "SELECT source_table, target_table, schema_id, state FROM cdc.cdc_table WHERE pipeline = %s"
_COLUMNS = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
"""


class Replica:
    """One snapshot of it. `copy` reads rows."""

    def __init__(self, sink: Sink, prefix: str, copy: BaseCopy) -> None:
        self._sink, self._prefix, self.copy = sink, prefix, copy

    def applied(self, last: End) -> Progress:
        """Where it stands; `last` was the end of the log a moment ago."""
        rows = self.copy.catalog.rows(_PROGRESS, self._sink.name, self._prefix)
        if not rows:
            raise self._unfit(f"it has applied nothing of {self._prefix} yet")
        epoch, txn_seq, run, position, log_offset, commit_us = rows[0]
        if epoch < last.epoch:
            raise self._unfit(f"it stands in epoch {epoch}, the log in {last.epoch}")
        if epoch > last.epoch:
            raise self._overtaken("the log began anew")
        return Progress(epoch, txn_seq, run, position, log_offset, commit_us)

    def refuse(self, tables: Sequence[Table]) -> None:
        """Unless it holds these tables, which have their shapes at the source now."""
        held = {row[0]: row[1:] for row in self.copy.catalog.rows(_TABLES, self._sink.name)}
        for table in tables:
            name = table.full_name
            if name not in held:
                raise self._unfit(f"it does not hold {name}")
            target, shape, state = held[name]
            if state != "ready":
                raise self._unfit(f"{name} is being copied")
            if target != name:
                raise self._unfit(f"{name} is called {target} there")
            if shape != schema_id(table):
                raise self._overtaken(f"{name} had another shape at the source than sink {self._sink.name} had applied")
            self._refuse_types(table)

    def _refuse_types(self, table: Table) -> None:
        """A value's text is the source's only in a column of its type."""
        there = dict(self.copy.catalog.rows(_COLUMNS, table.schema, table.name))
        for column in table.columns:
            found, wanted = there.get(column.name, "missing"), column.type_expression
            if found != wanted:
                raise self._unfit(f"column {column.name} of {table.full_name} is {found} there, {wanted} at the source")

    def _overtaken(self, problem: str) -> CdcError:
        return CdcError(BASE_OVERTAKEN, source=self._sink.source, problem=problem)

    def _unfit(self, problem: str) -> CdcError:
        return CdcError(REPLICA_UNFIT, sink=self._sink.name, problem=problem)


@contextmanager
def replica_snapshot(sink: Sink, server: Server, prefix: str, tables: Sequence[PublishedTable]) -> Iterator[Replica]:
    """`server`: the sink's; `prefix`: the source's, as the sink's progress names it."""
    with BaseCopy(replace(server, purpose="base"), None, tables) as copy:
        yield Replica(sink, prefix, copy)
