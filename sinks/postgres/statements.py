"""The SQL for the rows of one table, written once per shape. Values travel as text, as parameters or by COPY.

In: a table's shape, of either engine. Out: statements as bytes, and rows of JSON values as rows of text. Names are
quoted by psycopg; `%` in a name is doubled where a statement has parameters.

A staging table has one row per changed row: `op`, the number of the statement that it is for, `b0…` the key the row
has in the target, `c0…` the columns to set; for a table without a key `n` copies of the whole row to remove.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from typing import Any

from psycopg import sql

from cdc.event import Table
from sinks.across import target_columns
from sinks.fold import Key, Values, key_values

Text = str | None
Statement = bytes


def name_of(table: Table) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)


class Statements:
    """One shape's statements. `stage` is the name of its staging table."""

    def __init__(self, table: Table, schema_id: str) -> None:
        self.table, self.schema_id = table, schema_id
        self.stage = sql.Identifier("pg_temp", f"cdc_{schema_id}")
        self._target = name_of(table)
        self.columns = tuple(column.name for column in table.columns)
        self._text: dict[str, Callable[[Any], str]] = {c.name: c.text for c in target_columns(table, "postgresql")}
        self.update = cache(self._update)
        self.copy_stage = cache(self._copy_stage)
        self.update_one = cache(self._update_one)

    # -- text --
    def row(self, columns: Sequence[str], values: Values) -> list[Text]:
        text = self._text
        return [None if (v := values[name]) is None else text[name](v) for name in columns]

    def key(self, key: Key) -> list[Text]:
        values = key_values(self.table, key)
        return [self._text[name](v) for name, v in zip(self.table.key, values, strict=True)]

    def without_key(self, carried: tuple[str, ...]) -> tuple[str, ...]:
        """What an update sets of the columns it carries: the key only if there is nothing else."""
        return tuple(name for name in carried if name not in self.table.key) or carried

    # -- staging --
    @cached_property
    def create_stage(self) -> Statement:
        first: list[sql.Composable] = [_as(name, f"b{at}") for at, name in enumerate(self.table.key)]
        if self.table.keyless:
            first = [sql.SQL("NULL::int8 AS n")]
        rows = [_as(name, f"c{at}") for at, name in enumerate(self.columns)]
        return _bytes(
            sql.SQL(
                "CREATE TEMP TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS "
                "SELECT NULL::int4 AS op, {} FROM {} t WITH NO DATA"
            ).format(self.stage, _list([*first, *rows]), self._target)
        )

    def _copy_stage(self, columns: tuple[str, ...]) -> Statement:
        """COPY of op, base key (or number of copies) and these columns."""
        base = ["n"] if self.table.keyless else [f"b{at}" for at in range(len(self.table.key))]
        names = ["op", *base, *(self._staged(name) for name in columns)]
        return _bytes(sql.SQL("COPY {} ({}) FROM STDIN").format(self.stage, _names(names)))

    def _staged(self, column: str) -> str:
        return f"c{self.columns.index(column)}"

    def _base_matches(self) -> sql.Composed:
        pairs = [
            sql.SQL("t.{} = s.{}").format(sql.Identifier(name), sql.Identifier(f"b{at}"))
            for at, name in enumerate(self.table.key)
        ]
        return sql.SQL(" AND ").join(pairs)

    # -- a batch: op is the parameter --
    @cached_property
    def delete(self) -> Statement:
        statement = sql.SQL("DELETE FROM {} t USING {} s WHERE s.op = %s AND {}")
        return with_parameters(statement.format(self._target, self.stage, self._base_matches()))

    def _update(self, columns: tuple[str, ...]) -> Statement:
        sets = [
            sql.SQL("{} = s.{}").format(sql.Identifier(name), sql.Identifier(self._staged(name))) for name in columns
        ]
        statement = sql.SQL("UPDATE {} t SET {} FROM {} s WHERE s.op = %s AND {}")
        return with_parameters(statement.format(self._target, _list(sets), self.stage, self._base_matches()))

    @cached_property
    def remove(self) -> Statement:
        """So many copies of each row. As the text of the whole row it compares exactly, and by a hash join.

        Text tells 1.0 from 1.00 and NULL from '', and every type has it; json has no equality of its own.
        """
        rows = (
            _list([sql.SQL("t.{}").format(sql.Identifier(name)) for name in self.columns]),
            _list([sql.SQL("s.{}").format(sql.Identifier(self._staged(name))) for name in self.columns]),
        )
        statement = sql.SQL(
            "DELETE FROM {0} WHERE (tableoid, ctid) IN (SELECT m.o, m.c FROM ("
            "SELECT t.tableoid AS o, t.ctid AS c, s.n, row_number() OVER (PARTITION BY s.ctid) AS k "
            "FROM {0} t JOIN {1} s ON ROW({2})::text = ROW({3})::text WHERE s.op = %s) m WHERE m.k <= m.n)"
        )
        return with_parameters(statement.format(self._target, self.stage, *rows))

    @cached_property
    def copy(self) -> Statement:
        """COPY of whole new rows."""
        return _bytes(sql.SQL("COPY {} ({}) FROM STDIN").format(self._target, _names(self.columns)))

    # -- one row --
    @cached_property
    def insert_one(self) -> Statement:
        """Parameters: every column."""
        return with_parameters(self._insert())

    @cached_property
    def replace_one(self) -> Statement:
        """Parameters: every column. It takes the place of a row with the same key."""
        if self.table.keyless:
            return self.insert_one
        sets = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in self.columns]
        clause = sql.SQL(" ON CONFLICT ({}) DO UPDATE SET {}")
        return with_parameters(self._insert() + clause.format(_names(self.table.key), _list(sets)))

    def _insert(self) -> sql.Composed:
        values = _list([sql.Placeholder()] * len(self.columns))
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})")
        return statement.format(self._target, _names(self.columns), values)

    def _update_one(self, columns: tuple[str, ...]) -> Statement:
        """Parameters: these columns, then the key."""
        sets = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in columns]
        statement = sql.SQL("UPDATE {} SET {} WHERE {}")
        return with_parameters(statement.format(self._target, _list(sets), self._key_is()))

    @cached_property
    def delete_one(self) -> Statement:
        """Parameters: the key."""
        return with_parameters(sql.SQL("DELETE FROM {} WHERE {}").format(self._target, self._key_is()))

    def _key_is(self) -> sql.Composed:
        return sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(n)) for n in self.table.key)


def _as(name: str, alias: str) -> sql.Composed:
    return sql.SQL("t.{} AS {}").format(sql.Identifier(name), sql.Identifier(alias))


def _names(names: Iterable[str]) -> sql.Composed:
    return _list([sql.Identifier(name) for name in names])


def _list(parts: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def _bytes(statement: sql.Composable) -> Statement:
    return statement.as_bytes()


def with_parameters(statement: sql.Composable) -> Statement:
    """As bytes, for a statement whose `%s` are parameters: a `%` in a name is none."""
    if isinstance(statement, sql.Composed):
        return b"".join(with_parameters(part) for part in statement)
    text = statement.as_bytes()
    return text.replace(b"%", b"%%") if isinstance(statement, sql.Identifier) else text
