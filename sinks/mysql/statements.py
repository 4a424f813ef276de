"""The SQL for the rows of one table, written once per shape. Values travel as literals in the statements.

In: a table's shape. Out: statements, and rows of JSON values as rows of literals. Names and strings are quoted here;
what stands as a bare number has been read as one, and as hex likewise. Refuses: a value that its type cannot have, by
ValueError.

Literals, because only a statement with many rows in it is fast where LOAD DATA LOCAL is off, as it is out of the box.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from pymysql.converters import escape_string

from cdc.event import Table
from cdc.mysql.dialect import Dialect
from cdc.mysql.names import quoted
from sinks.across import TargetColumn, target_columns
from sinks.fold import Key, Values, key_values
from sinks.mysql.names import listed, name_of

Literal = str
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_NUMBERS = ("tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "bit")
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_CHARACTERS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json")
_FLOATS = ("float", "double")


def literal_of(column: TargetColumn) -> Callable[[str], Literal]:
    """From the target's text of a value to SQL. A float goes as a string: as a number -0 would lose its sign."""
    kind = column.type.removesuffix(" unsigned")
    if kind in _NUMBERS:
        return _number
    return _bytes if kind in _BYTES else _string


def _number(text: str) -> Literal:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is no number")
    return text


def _bytes(text: str) -> Literal:
    bytes.fromhex(text)
    return f"X'{text}'"


def _string(text: str) -> Literal:
    return f"'{escape_string(text)}'"


class Statements:
    """One shape's statements, in a target whose own database is `home`."""

    def __init__(self, table: Table, schema_id: str, home: str, dialect: Dialect) -> None:
        self.table, self.schema_id = table, schema_id
        self._binary = dialect.collation
        self._home, self._target = home, name_of(table, home)
        self._columns = {column.name: column for column in target_columns(table, dialect.engine)}
        self.columns = tuple(self._columns)
        self._literal = {name: _of_value(column) for name, column in self._columns.items()}
        self._stages: dict[tuple[str, ...], str] = {}
        key = listed(table.key)
        self.insert = f"INSERT INTO {self._target} ({listed(self.columns)}) VALUES "
        self.delete = f"DELETE FROM {self._target} WHERE {f'({key})' if len(table.key) > 1 else key} IN "
        self.update_staged = cache(self._update_staged)

    # -- values --
    def row(self, columns: Sequence[str], values: Values) -> list[Literal]:
        literal = self._literal
        return ["NULL" if (v := values[name]) is None else literal[name](v) for name in columns]

    def key(self, key: Key) -> list[Literal]:
        return [self._literal[name](v) for name, v in zip(self.table.key, key_values(self.table, key), strict=True)]

    def key_tuple(self, key: Key) -> str:
        """As it stands in the list of `delete`."""
        parts = self.key(key)
        return parts[0] if len(parts) == 1 else f"({','.join(parts)})"

    def without_key(self, carried: tuple[str, ...]) -> tuple[str, ...]:
        """What an update sets of the columns it carries: the key only if there is nothing else."""
        return tuple(name for name in carried if name not in self.table.key) or carried

    # -- one row --
    def update_one(self, columns: Sequence[str], values: Values, key: Key) -> str:
        pairs = zip(columns, self.row(columns, values), strict=True)
        sets = ", ".join(f"{quoted(name)} = {value}" for name, value in pairs)
        return f"UPDATE {self._target} SET {sets} WHERE {self._key_is(key)}"

    def delete_one(self, key: Key) -> str:
        return f"DELETE FROM {self._target} WHERE {self._key_is(key)}"

    def _key_is(self, key: Key) -> str:
        pairs = zip(self.table.key, self.key(key), strict=True)
        return " AND ".join(f"{quoted(name)} = {value}" for name, value in pairs)

    def remove(self, values: Values, copies: int) -> str:
        """So many copies of a row that equals this one to the byte."""
        same = " AND ".join(self._is(name, values[name]) for name in self.columns)
        return f"DELETE FROM {self._target} WHERE {same} LIMIT {copies}"

    def _is(self, name: str, value: Any) -> str:
        column = quoted(name)
        if value is None:
            return f"{column} IS NULL"
        literal, kind = self._literal[name](value), self._columns[name].type
        if kind in _CHARACTERS:
            return f"CONVERT({column} USING utf8mb4) COLLATE {self._binary} = {literal}"
        if kind in _FLOATS and float(value) == 0:
            return f"{column} = 0 AND LEFT({column}, 1) {'=' if literal.startswith(chr(39) + '-') else '<>'} '-'"
        return f"{column} = {literal}"

    # -- many rows: b0… is the key that a row has in the target, c0… what it is set to --
    def stage(self, columns: tuple[str, ...]) -> str:
        """The name of a staging table for updates of these columns."""
        if columns not in self._stages:
            name = f"cdc_{self.schema_id}_{len(self._stages)}"
            self._stages[columns] = f"{quoted(self._home)}.{quoted(name)}"
        return self._stages[columns]

    def create_stage(self, columns: tuple[str, ...]) -> str:
        staged = self._staged(columns)
        defined = ", ".join(f"{alias} {self._columns[name].type_sql} NULL" for alias, name in staged)
        return f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.stage(columns)} ({defined}) ENGINE=InnoDB"

    def _staged(self, columns: tuple[str, ...]) -> list[tuple[str, str]]:
        keys = [(f"b{at}", name) for at, name in enumerate(self.table.key)]
        return [*keys, *((f"c{at}", name) for at, name in enumerate(columns))]

    def _update_staged(self, columns: tuple[str, ...]) -> str:
        on = " AND ".join(f"t.{quoted(name)} = s.b{at}" for at, name in enumerate(self.table.key))
        sets = ", ".join(f"t.{quoted(name)} = s.c{at}" for at, name in enumerate(columns))
        return f"UPDATE {self.stage(columns)} s STRAIGHT_JOIN {self._target} t ON {on} SET {sets}"


def _of_value(column: TargetColumn) -> Callable[[Any], Literal]:
    text, literal = column.text, literal_of(column)
    return lambda value: literal(text(value))


def tuples(rows: Iterable[Sequence[Literal]]) -> Iterable[str]:
    """As they stand behind VALUES."""
    return (f"({','.join(row)})" for row in rows)
