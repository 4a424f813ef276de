"""A database that a restore fills: all of it in one transaction, so that nothing half done is ever seen.

In: schema as pg_dump wrote it, or shapes; lines of rows; sequences. Out: tables, counted and compared. Refuses: tables
that are there already (RESTORE_EXISTS), a statement that the server refuses (RESTORE_REFUSED, with the object's name),
another number of rows than was sent (RESTORE_FAILED).

A killed restore leaves nothing: the server rolls it back. Run again, it begins from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from cdc.errors import RESTORE_EXISTS, RESTORE_FAILED, RESTORE_REFUSED, CdcError
from cdc.event import Column, Table
from cdc.postgres.session import Server
from sinks.postgres.digest import Digests, digest_query, digests
from sinks.postgres.progress import PROGRESS_TABLES
from sinks.transaction import Progress

_SETTINGS = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": "30s",
             "check_function_bodies": "off"}  # fmt: skip


_OWNED = """
SELECT d.objid::regclass::text, n.nspname, c.relname, a.attname FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_catalog.pg_class c ON c.oid = d.refobjid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
  AND d.deptype IN ('a', 'i') AND a.atttypid = ANY ('{int2,int4,int8}'::regtype[])
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table's rows go."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


class RestoreTarget:
    """One open transaction on the target; `commit` is the only thing that makes it visible."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = server.connect(settings=_SETTINGS, autocommit=False)

    def refuse_existing(self, places: Sequence[Place]) -> None:
        """Nothing is written over."""
        query = "SELECT pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s::text, %s::text)) IS NOT NULL"
        there = [str(place) for place in places if self._one(query, place.schema, place.name)[0]]
        if there:
            raise CdcError(RESTORE_EXISTS, tables=", ".join(there[:10]), database=self._connection.info.dbname)

    # -- schema -------------------------------------------------------------------------------------------------
    def run(self, statement: str, kind: str, name: str) -> None:
        """What makes one object of the dump."""
        self._execute(statement.encode(), kind, name)

    def create(self, table: Table, place: Place) -> None:
        """A table out of its shape alone; primary key and unique constraints come with `add_keys`."""
        columns = [self._column(column) for column in table.columns]
        create = sql.SQL("CREATE TABLE {} ({})").format(place.sql, sql.SQL(", ").join(columns))
        self._execute(create, "table", str(place))

    def add_keys(self, table: Table, place: Place) -> None:
        constraints = [("PRIMARY KEY", table.primary_key)] if table.primary_key else []
        constraints += [("UNIQUE", columns) for columns in table.unique]
        for kind, columns in constraints:
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            self._execute(sql.SQL("ALTER TABLE {} ADD {} ({})").format(place.sql, sql.SQL(kind), names), kind.lower(),
                          str(place))  # fmt: skip

    def reshape(self, before: Table, after: Table) -> None:
        """What changed between the dump and the cut."""
        place = Place(before.schema, before.name)
        kept = {c.attnum for c in before.columns} & {c.attnum for c in after.columns}
        for column in before.columns:
            if column.attnum not in kept:
                drop = sql.SQL("ALTER TABLE {} DROP COLUMN {} CASCADE").format(place.sql, sql.Identifier(column.name))
                self._execute(drop, "column", f"{place}.{column.name}")
        for column in after.columns:
            if column.attnum not in kept:
                add = sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(place.sql, self._column(column))
                default = sql.SQL("") if column.default is None else sql.SQL(" DEFAULT " + column.default)
                self._execute(add + default, "column", f"{place}.{column.name}")

    def _column(self, column: Column) -> sql.Composed:
        found = self._one("SELECT pg_catalog.to_regtype(%s)::oid", column.type_expression)[0]
        if found is None:
            problem = f"the target has no type {column.type_expression}"
            raise CdcError(RESTORE_REFUSED, kind="column", object=column.name, problem=problem)
        null = " NOT NULL" if column.not_null else ""
        return sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type_expression + null))

    # -- rows ---------------------------------------------------------------------------------------------------
    def load(self, table: Table, place: Place, blocks: Iterable[tuple[int, bytes]]) -> int:
        """COPY lines; every row that was sent must have arrived (CORRECTNESS 35)."""
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        copy_in = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(place.sql, names)
        sent = 0
        try:
            with self._connection.cursor() as cursor:
                with cursor.copy(copy_in) as copy:
                    for rows, block in blocks:
                        copy.write(block)
                        sent += rows
                arrived = cursor.rowcount
        except psycopg.Error as error:
            raise self._failed(place, self._server.problem(error)) from None
        if arrived != sent:
            raise self._failed(place, f"{sent} rows were sent, {arrived} arrived")
        return arrived

    def set_sequence(self, name: str, value: int, *, called: bool) -> None:
        self._connection.execute("SELECT pg_catalog.setval(%s::regclass, %s, %s)", [name, value, called])

    def advance_sequences(self) -> None:
        """A sequence that a column owns is at least at the column's greatest value (CORRECTNESS 36)."""
        owned = self._connection.execute(_OWNED).fetchall()
        for sequence, schema, table, column in owned:
            statement = sql.SQL(
                "SELECT pg_catalog.setval({0}::regclass, greatest(m.value, s.last_value), true) "
                "FROM (SELECT max({1})::bigint AS value FROM {2}) m, {3} s "
                "WHERE m.value > s.last_value OR (m.value = s.last_value AND NOT s.is_called)"
            ).format(sql.Literal(sequence), sql.Identifier(column), sql.Identifier(schema, table), sql.SQL(sequence))
            self._execute(statement, "sequence", sequence)

    def analyze(self, places: Sequence[Place]) -> None:
        for place in places:
            self._execute(sql.SQL("ANALYZE {}").format(place.sql), "table", str(place))

    # -- proof --------------------------------------------------------------------------------------------------
    def digests(self, table: Table, place: Place) -> Digests:
        """By SQL, of what is there now."""
        return digests(self._connection.execute(digest_query(table, only=True, at=place.sql)))

    def write_progress(self, pipeline: str, source: str, progress: Progress, tables: Mapping[str, str]) -> None:
        """A sink that is named later goes on from here; `tables`: shape's id by name."""
        execute = self._connection.execute
        execute("CREATE SCHEMA IF NOT EXISTS cdc")
        execute(PROGRESS_TABLES)
        execute(
            "INSERT INTO cdc.cdc_progress (pipeline, source, epoch, txn_seq, position, run, log_offset, commit_ts_us, "
            "writer, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'restore', clock_timestamp())",
            [pipeline, source, progress.epoch, progress.txn_seq, progress.position, progress.run, progress.log_offset,
             progress.commit_ts_us],
        )  # fmt: skip
        for name, schema_id in tables.items():
            execute(
                "INSERT INTO cdc.cdc_table VALUES (%s, %s, %s, %s, 'ready', NULL)", [pipeline, name, name, schema_id]
            )

    def commit(self) -> None:
        with self._server.errors():
            self._connection.commit()

    def _execute(self, statement: sql.Composed | bytes, kind: str, name: str) -> None:
        try:
            self._connection.execute(statement)
        except psycopg.Error as error:
            raise CdcError(RESTORE_REFUSED, kind=kind, object=name, problem=self._server.problem(error)) from None

    def _failed(self, place: Place, problem: str) -> CdcError:
        return CdcError(RESTORE_FAILED, table=str(place), problem=problem)

    def _one(self, query: str, *parameters: object) -> tuple[Any, ...]:
        with self._server.errors():
            row = self._connection.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
