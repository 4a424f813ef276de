"""The net effect on a table, written in few statements, each with an exact row count.

In: a `Net`. Out: rows on the target. Refuses: a statement that changed more or fewer rows than it named
(`Mismatch`), unless the table is being copied, where a row may be missing (CORRECTNESS 22); a single row that the
server refuses (`RefusedRow`).

Order: deletes, moves of keys, updates, inserts. A few rows go as one statement each, in one round trip; more
go through a temporary staging table and one statement for all; inserts by COPY straight into the target.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg

from cdc.event import Table
from cdc.postgres.session import Server
from sinks.cascades import Derived
from sinks.fold import Group, Key, Net, Values
from sinks.postgres.cascade import cascade
from sinks.postgres.statements import Statement, Statements, Text
from sinks.replay import RefusedRow
from sinks.target import Mismatch

FEW = 32
"""Up to so many rows, single statements take less time than staging (measured: equal at about 50)."""
REFUSALS = (psycopg.IntegrityError, psycopg.DataError, psycopg.errors.RaiseException)
"""What is wrong with the rows, not with the connection, the statement or our rights."""
TextRow = Sequence[Text]


class Rows:
    """Writes rows on one connection, in whatever transaction is open there."""

    def __init__(self, server: Server, connection: psycopg.Connection) -> None:
        self._server, self._cursor = server, connection.cursor()
        self._statements: dict[str, Statements] = {}
        self._staged: set[str] = set()
        self._ops = itertools.count(1)

    def of(self, table: Table, schema_id: str) -> Statements:
        """The statements of this shape."""
        statements = self._statements.get(schema_id)
        if statements is None:
            statements = self._statements[schema_id] = Statements(table, schema_id)
        return statements

    def rolled_back(self) -> None:
        """Staging tables made in the meantime may be gone."""
        self._staged.clear()

    def write(self, net: Net, *, exact: bool) -> None:
        """Carry out the net effect. Not `exact`: the table is being copied, and a row may be missing."""
        sql = self.of(net.table, net.schema_id)
        wanted = len(net.deletes) + sum(n for _, n in net.removed)
        found = self._deletes(sql, net.deletes) + self.removes(sql, net.removed)
        for groups, moved in ((net.moves, True), (net.updates, False)):
            for columns, group in groups.items():
                found += self._updates(sql, columns if moved else sql.without_key(columns), group)
                wanted += len(group)
        if found != wanted and exact:
            raise Mismatch
        if net.inserts:
            rows = (sql.row(sql.columns, values) for values in net.inserts)
            if self._copy(sql.copy, rows) != len(net.inserts):
                raise Mismatch

    def _deletes(self, sql: Statements, keys: Sequence[Key]) -> int:
        rows = [sql.key(key) for key in keys]
        if len(rows) <= FEW:
            return self._one_by_one(sql.delete_one, rows)
        return self._staged_rows(sql, sql.delete, (), rows)

    def removes(self, sql: Statements, copies: Sequence[tuple[Values, int]]) -> int:
        """Remove so many copies of each of these rows of a keyless table."""
        if not copies:
            return 0
        rows = ([str(n), *sql.row(sql.columns, values)] for values, n in copies)
        with self._refusing():
            return self._staged_rows(sql, sql.remove, sql.columns, rows)

    def _updates(self, sql: Statements, columns: tuple[str, ...], group: Group) -> int:
        if not columns:
            return len(group)
        if len(group) <= FEW:
            rows = [[*sql.row(columns, values), *sql.key(base)] for base, values in group]
            return self._one_by_one(sql.update_one(columns), rows)
        rows = [[*sql.key(base), *sql.row(columns, values)] for base, values in group]
        return self._staged_rows(sql, sql.update(columns), columns, rows)

    def derive(self, derived: Derived) -> int:
        """What a foreign key of the source did below its log."""
        self._cursor.execute(*cascade(derived))
        return self._cursor.rowcount

    # -- one row --
    def insert_one(self, sql: Statements, values: Values) -> int:
        return self._one(sql.insert_one, sql.row(sql.columns, values))

    def replace_one(self, sql: Statements, key: Key, values: Values) -> int:  # noqa: ARG002 - it names its key
        return self._one(sql.replace_one, sql.row(sql.columns, values))

    def update_one(self, sql: Statements, columns: tuple[str, ...], values: Values, key: Key) -> int:
        return self._one(sql.update_one(columns), [*sql.row(columns, values), *sql.key(key)])

    def delete_one(self, sql: Statements, key: Key) -> int:
        return self._one(sql.delete_one, sql.key(key))

    def _one(self, statement: Statement, parameters: TextRow) -> int:
        with self._refusing():
            return self._cursor.execute(statement, parameters).rowcount

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except REFUSALS as error:
            raise RefusedRow(self._server.problem(error)) from None

    # -- ways to the server --
    def _one_by_one(self, statement: Statement, rows: Sequence[TextRow]) -> int:
        if not rows:
            return 0
        self._cursor.executemany(statement, rows)
        return self._cursor.rowcount

    def _staged_rows(
        self, sql: Statements, statement: Statement, columns: tuple[str, ...], rows: Iterable[TextRow]
    ) -> int:
        if sql.schema_id not in self._staged:
            self._cursor.execute(sql.create_stage)
            self._staged.add(sql.schema_id)
        op = str(next(self._ops))
        self._copy(sql.copy_stage(columns), ([op, *row] for row in rows))
        # Prepared, its plan would be made for the size that the staging table has now.
        self._cursor.execute(statement, [op], prepare=False)
        return self._cursor.rowcount

    def _copy(self, statement: Statement, rows: Iterable[TextRow]) -> int:
        with self._cursor.copy(statement) as copy:
            write = copy.write_row
            for row in rows:
                write(row)
        return self._cursor.rowcount
