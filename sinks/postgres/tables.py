"""The target's tables: made from shapes, checked against them, changed with them; state and shape of each.

In: schema changes and ends of base copies, in their transaction. Out: the DDL, and the rows of `cdc.cdc_table`.
Refuses: existing tables that do not fit, all of them at once (TARGET_MISMATCH); rows that no sink of this name
brought (TARGET_NOT_EMPTY); a change that is not followed yet (SCHEMA_CHANGE_UNSUPPORTED).

A shape of MySQL becomes one of Postgres first (`sinks.across`), its database a schema. A shape's type expression is
text from elsewhere: before it becomes part of a statement the target has read all of it as one type name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from cdc.errors import SCHEMA_CHANGE_UNSUPPORTED, TARGET_MISMATCH, TARGET_NOT_EMPTY, CdcError
from cdc.event import Column, Table
from cdc.log import Change, Chunk, End
from sinks.across import UnfitError, on_target, problems, target_columns
from sinks.forms import Form, difference, form
from sinks.postgres.existing import find, lacks_labels, misfits
from sinks.postgres.statements import name_of
from sinks.target import ExistingRows

_READY, _COPYING = "ready", "copying"
_NOT_TO_BE_DROPPED = (psycopg.errors.DependentObjectsStillExist, psycopg.errors.InsufficientPrivilege)
_LOAD = "SELECT source_table, schema_id, state, copy_id FROM cdc.cdc_table WHERE pipeline = %s"
_SAVE = """
INSERT INTO cdc.cdc_table (pipeline, source_table, target_table, schema_id, state, copy_id)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (pipeline, source_table) DO UPDATE
SET target_table = EXCLUDED.target_table, schema_id = EXCLUDED.schema_id, state = EXCLUDED.state,
  copy_id = EXCLUDED.copy_id
"""


@dataclass(frozen=True, slots=True)
class _Known:
    """What `cdc_table` says of a table."""

    schema_id: str
    state: str
    copy_id: str | None


class Tables:
    """The tables of one sink, on one connection, in whatever transaction is open there."""

    def __init__(
        self,
        connection: psycopg.Connection,
        pipeline: str,
        source: str,
        shape_of: Callable[[str], Table],
        existing_rows: ExistingRows,
    ) -> None:
        self._connection, self._pipeline, self._source = connection, pipeline, source
        self._source_shape, self._existing_rows = shape_of, existing_rows
        self._known: dict[str, _Known] = {}
        self.load()

    def load(self) -> None:
        """Read what is known; after a rollback too."""
        rows = self._connection.execute(_LOAD, [self._pipeline])
        self._known = {name: _Known(schema_id, state, copy_id) for name, schema_id, state, copy_id in rows}

    def schemas(self) -> list[str]:
        """The shape that every table has now."""
        return [known.schema_id for known in self._known.values()]

    def exact(self, table: Table, schema_id: str, end: End) -> bool:
        """Whether every row of this table is there: it is not being copied. Its shape must be the one we have."""
        known = self._known.get(table.full_name)
        if known is None:
            raise self._unsupported(table.full_name, end, "no base copy has brought it")
        if known.schema_id != schema_id:
            before, table = self._shape_of(known.schema_id), on_target(table, "postgresql")
            if form(before, _column_form) != form(table, _column_form):
                raise self._unsupported(table.full_name, end, difference(before, table, _column_form))
            self._save(table, schema_id, known.state, known.copy_id)
        return known.state == _READY

    def _shape_of(self, schema_id: str) -> Table:
        """As this server has it."""
        return on_target(self._source_shape(schema_id), "postgresql")

    def truncate(self, names: Sequence[str], end: End) -> None:
        for name in names:
            if name not in self._known:
                raise self._unsupported(name, end, "no base copy has brought it")
        self._truncate([self._shape_of(self._known[name].schema_id) for name in names])

    def turn(self, end: End, changes: Sequence[Change | Chunk]) -> None:
        """Carry out what holds at one point of a transaction."""
        copied = [c for c in changes if isinstance(c, Change) and c.effect == "copying"]
        if copied:
            self._open_copy(copied)
        for change in changes:
            if isinstance(change, Chunk):
                self._close_copy(change)
            elif change.effect in ("add_column", "drop_column"):
                self._alter(change, end)
            elif change.effect != "copying":
                raise self._unsupported(change.table, end, change.effect.replace("_", " "))

    # -- base copies --
    def _open_copy(self, changes: Sequence[Change]) -> None:
        """Empty tables of the right form, whether they were there or not."""
        shapes = [(change, self._shape_of(change.new or "")) for change in changes]
        existing = {c.table: oid for c, shape in shapes if (oid := find(self._connection, shape)) is not None}
        there = [shape for change, shape in shapes if change.table in existing]
        foreign = [shape for shape in there if shape.full_name not in self._known]
        names = [problem for _, shape in shapes for problem in problems(shape, "postgresql")]
        self._refuse([*names, *self._misfits(foreign, existing)])
        if self._existing_rows != "truncate":
            self._refuse_rows(foreign)
        self._truncate(there)
        ours = [shape for shape in there if shape.full_name in self._known]
        befores = [self._shape_of(self._known[shape.full_name].schema_id) for shape in ours]
        for before, shape in zip(befores, ours, strict=True):
            self._drop_changed(before, shape)
        self._drop_changed_enums([shape for _, shape in shapes])
        for before, shape in zip(befores, ours, strict=True):
            self._add_changed(before, shape)
        for change, shape in shapes:
            if change.table not in existing:
                self._create(shape)
                existing[change.table] = find(self._connection, shape) or 0
        self._refuse(self._misfits([shape for _, shape in shapes if shape not in foreign], existing))
        for change, shape in shapes:
            self._save(shape, change.new or "", _COPYING, change.copy_id)

    def _misfits(self, tables: Sequence[Table], existing: Mapping[str, int]) -> list[str]:
        return [p for table in tables for p in misfits(self._connection, table, existing[table.full_name])]

    def _refuse(self, found: Sequence[str]) -> None:
        if found:
            raise CdcError(TARGET_MISMATCH, source=self._source, problems="\n".join(found))

    def _drop_changed(self, before: Table, after: Table) -> None:
        """Columns of a table of ours that another copy brings in another form. It is empty by now."""
        target, new = name_of(after), {column.name: _column_form(column) for column in after.columns}
        for column in before.columns:
            if new.get(column.name) != _column_form(column):
                drop = sql.SQL("ALTER TABLE {} DROP COLUMN IF EXISTS {}")
                self._connection.execute(drop.format(target, sql.Identifier(column.name)))

    def _add_changed(self, before: Table, after: Table) -> None:
        """The same columns in their new form, and the key."""
        target, old = name_of(after), {column.name: _column_form(column) for column in before.columns}
        changed = [column for column in after.columns if old.get(column.name) != _column_form(column)]
        for column in changed:
            self._make_enum(column)
            self._connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(target, self._column(column)))
        if after.key and (before.key != after.key or any(column.name in after.key for column in changed)):
            key = sql.SQL(", ").join([sql.Identifier(name) for name in after.key])
            self._drop_primary_key(target, after)
            self._connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(target, key))

    def _drop_changed_enums(self, tables: Sequence[Table]) -> None:
        """Types without a label that is needed now, if nothing uses them any more: they are made anew."""
        columns = [column for table in tables for column in table.columns if lacks_labels(self._connection, column)]
        for name in sorted({column.type_expression.removesuffix("[]") for column in columns}):
            # Where somebody else uses it, or it is not ours, the misfit is named afterwards.
            with suppress(*_NOT_TO_BE_DROPPED), self._connection.transaction():
                (parts,) = self._connection.execute("SELECT parse_ident(%s)", [name]).fetchone() or ((),)
                self._connection.execute(sql.SQL("DROP TYPE {}").format(sql.Identifier(*parts)))

    def _drop_primary_key(self, target: sql.Identifier, table: Table) -> None:
        query = "SELECT conname FROM pg_constraint WHERE contype = 'p' AND conrelid = %s"
        for (name,) in self._connection.execute(query, [find(self._connection, table)]).fetchall():
            self._connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(target, sql.Identifier(name)))

    def _refuse_rows(self, tables: Sequence[Table]) -> None:
        exists = sql.SQL("SELECT EXISTS (SELECT FROM {})")
        for table in tables:
            row = self._connection.execute(exists.format(name_of(table))).fetchone()
            if row is not None and row[0]:
                raise CdcError(TARGET_NOT_EMPTY, source=self._source, table=table.full_name, sink=self._pipeline)

    def _close_copy(self, chunk: Chunk) -> None:
        known = self._known.get(chunk.table)
        if known is not None and known.copy_id == chunk.id:
            self._save(self._shape_of(known.schema_id), known.schema_id, _READY, None)

    def _truncate(self, tables: Sequence[Table]) -> None:
        if tables:
            names = sql.SQL(", ").join([name_of(table) for table in tables])
            self._connection.execute(sql.SQL("TRUNCATE {}").format(names))

    # -- DDL --
    def _create(self, table: Table) -> None:
        self._make_schema(table.schema)
        for column in table.columns:
            self._make_enum(column)
        parts = [self._column(column) for column in table.columns]
        if table.key:
            key = sql.SQL(", ").join([sql.Identifier(name) for name in table.key])
            parts.append(sql.SQL("PRIMARY KEY ({})").format(key))
        self._connection.execute(sql.SQL("CREATE TABLE {} ({})").format(name_of(table), sql.SQL(", ").join(parts)))

    def _column(self, column: Column) -> sql.Composed:
        null = sql.SQL(" NOT NULL" if column.not_null else "")
        return sql.SQL("{} {}{}").format(sql.Identifier(column.name), self._type(column), null)

    def _type(self, column: Column) -> sql.SQL:
        """The type's name as SQL, which the target has parsed as a type name and nothing else."""
        found = self._connection.execute("SELECT to_regtype(%s)::oid", [column.type_expression]).fetchone()
        if found is None or found[0] is None:
            problem = f"column {column.name}: the target has no type {column.type_expression}"
            raise CdcError(TARGET_MISMATCH, source=self._source, problems=problem)
        return sql.SQL(column.type_expression)

    def _make_schema(self, name: str) -> None:
        # CREATE SCHEMA IF NOT EXISTS asks for the right to make one even where there is nothing to make.
        query = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)"
        found = self._connection.execute(query, [name]).fetchone()
        if found is not None and not found[0]:
            self._connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))

    def _make_enum(self, column: Column) -> None:
        if column.enum_values is None:
            return
        query = "SELECT to_regtype(%s)::oid, parse_ident(%s)"
        name = column.type_expression.removesuffix("[]")
        found = self._connection.execute(query, [name, name]).fetchone()
        if found is None or found[0] is not None:
            return
        schema = found[1]
        self._make_schema(schema[0])
        labels = sql.SQL(", ").join([sql.Literal(label) for label in column.enum_values])
        self._connection.execute(sql.SQL("CREATE TYPE {} AS ENUM ({})").format(sql.Identifier(*schema), labels))

    def _alter(self, change: Change, end: End) -> None:
        known = self._known.get(change.table)
        if known is None or change.old is None or change.new is None:
            raise self._unsupported(change.table, end, "no base copy has brought it")
        before, after = self._shape_of(known.schema_id), self._shape_of(change.new)
        if form(before, _column_form) != form(self._shape_of(change.old), _column_form):
            raise self._unsupported(change.table, end, "it is not in the form that the change starts from")
        kept = {column.attnum for column in before.columns} & {column.attnum for column in after.columns}
        added = [column for column in after.columns if column.attnum not in kept]
        dropped = [column for column in before.columns if column.attnum not in kept]
        if form(before, _column_form, kept) != form(after, _column_form, kept):
            raise self._unsupported(change.table, end, difference(before, after, _column_form))
        self._refuse(problems(after, "postgresql"))
        target = name_of(after)
        for column in dropped:
            drop = sql.SQL("ALTER TABLE {} DROP COLUMN {}")
            self._connection.execute(drop.format(target, sql.Identifier(column.name)))
        missing = self._missing(self._source_shape(change.new), {column.name for column in added})
        for column in added:
            self._add(target, column, missing.get(column.name))
        self._save(after, change.new, known.state, known.copy_id)

    def _missing(self, table: Table, added: set[str]) -> dict[str, str]:
        """What rows that existed before a column was added have in it, as text of this server."""
        found = {}
        for column, there in zip(table.columns, target_columns(table, "postgresql"), strict=True):
            if column.name in added and column.missing is not None:
                try:
                    found[column.name] = there.from_source(column.missing)
                except UnfitError as error:
                    self._refuse([f"{table.full_name}: existing rows cannot be given {error}"])
        return found

    def _add(self, target: sql.Identifier, column: Column, missing: str | None) -> None:
        """Existing rows get the text the source gave them; the default itself stays at the source."""
        self._make_enum(column)
        add = sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(target, self._column(column))
        if missing is None:
            self._connection.execute(add)
            return
        self._connection.execute(add + sql.SQL(" DEFAULT {}").format(sql.Literal(missing)))
        drop = sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT")
        self._connection.execute(drop.format(target, sql.Identifier(column.name)))

    def _save(self, table: Table, schema_id: str, state: str, copy_id: str | None) -> None:
        name = table.full_name
        self._connection.execute(_SAVE, [self._pipeline, name, name, schema_id, state, copy_id])
        self._known[name] = _Known(schema_id, state, copy_id)

    def _unsupported(self, table: str, end: End, change: str) -> CdcError:
        return CdcError(
            SCHEMA_CHANGE_UNSUPPORTED, source=self._source, table=table, position=end.position, change=change
        )


def _column_form(column: Column) -> Form:
    return column.type_expression, column.not_null, column.enum_values
