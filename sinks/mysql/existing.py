"""What is wrong with a table that is there already: every reason it cannot hold a shape's rows.

In: a shape, and the place where it belongs. Out: one line per misfit, none if it fits.
It fits if it has every column with exactly the type that we would give it, is no stricter than the source, can
identify rows by the same key, needs no value that the source does not send, and takes part in transactions.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pymysql.connections import Connection

from cdc.event import Table
from cdc.mysql.session import dialect_in
from cdc.mysql.tables import plain_type
from sinks.across import TargetColumn, target_columns
from sinks.mysql.names import Place, place_of

_TABLE = """
SELECT table_type, engine FROM information_schema.tables
WHERE table_schema = %s AND BINARY table_name = %s
"""
_COLUMNS = """
SELECT column_name, column_type, character_set_name, collation_name, is_nullable, column_default, extra
FROM information_schema.columns WHERE table_schema = %s AND BINARY table_name = %s ORDER BY ordinal_position
"""
_PRIMARY = """
SELECT 1 FROM information_schema.table_constraints
WHERE table_schema = %s AND BINARY table_name = %s AND constraint_type = 'PRIMARY KEY'
"""
_UNIQUE = """
SELECT GROUP_CONCAT(column_name ORDER BY BINARY column_name SEPARATOR '\\0') FROM information_schema.statistics
WHERE table_schema = %s AND BINARY table_name = %s AND non_unique = 0
GROUP BY index_name HAVING COUNT(sub_part) = 0 AND COUNT(column_name) = COUNT(*)
"""
_TRIGGERS = """
SELECT event_object_schema, event_object_table, trigger_schema, trigger_name FROM information_schema.triggers
WHERE trigger_schema <> 'sys' ORDER BY 1, 2, 4
"""


class Found(NamedTuple):
    """A column as it is."""

    type_sql: str
    nullable: bool
    has_default: bool
    extra: str


def exists(connection: Connection, place: Place) -> bool:
    """Whether anything has this table's name on the target."""
    return bool(_rows(connection, _TABLE, place))


def has_primary_key(connection: Connection, place: Place) -> bool:
    return bool(_rows(connection, _PRIMARY, place))


def columns_of(connection: Connection, place: Place) -> dict[str, Found]:
    """Its columns there, in their order."""
    found = {}
    for name, kind, charset, collation, nullable, default, extra in _rows(connection, _COLUMNS, place):
        words = f" CHARACTER SET {charset} COLLATE {collation}" if charset and collation else ""
        has_default = default is not None or "auto_increment" in extra or "DEFAULT_GENERATED" in extra
        found[str(name)] = Found(f"{plain_type(_text(kind))}{words}", nullable == "YES", has_default, str(extra))
    return found


def triggers_on(connection: Connection, names: Container[str]) -> list[tuple[str, Place]]:
    """Of tables of these names, `database.table`: the table's and the trigger's, as far as the role may see it."""
    with connection.cursor() as cursor:
        cursor.execute(_TRIGGERS)
        found = [(f"{database}.{table}", (schema, name)) for database, table, schema, name in cursor.fetchall()]
    return [(table, trigger) for table, trigger in found if table in names]


def misfits(connection: Connection, table: Table, home: str) -> Iterator[str]:
    """Every reason, each with the table's name."""
    place = place_of(table, home)
    kind, engine = _rows(connection, _TABLE, place)[0]
    if kind != "BASE TABLE":
        yield f"{table.full_name}: it is no table"
        return
    if engine != "InnoDB":
        yield f"{table.full_name}: its engine {engine} has no transactions"
    targets = target_columns(table, dialect_in(connection).engine)
    for problem in _of_columns(table, targets, columns_of(connection, place)):
        yield f"{table.full_name}: {problem}"
    unique = [str(row[0]).split("\0") for row in _rows(connection, _UNIQUE, place)]
    if table.key and sorted(table.key) not in unique:
        yield f"{table.full_name}: no primary key or unique index on ({', '.join(table.key)})"


def _of_columns(table: Table, targets: Sequence[TargetColumn], there: Mapping[str, Found]) -> Iterator[str]:
    for column, wanted in zip(table.columns, targets, strict=True):
        found = there.get(column.name)
        if found is None:
            yield f"column {column.name} ({wanted.type_sql}) is missing"
            continue
        if found.type_sql != wanted.type_sql:
            yield f"column {column.name} is {found.type_sql}, it must be {wanted.type_sql}"
        if not found.nullable and not column.not_null:
            yield f"column {column.name} is NOT NULL, the source's is not"
        if "GENERATED" in found.extra.replace("DEFAULT_GENERATED", ""):
            yield f"column {column.name} is generated: the source's values cannot be written"
        if "on update" in found.extra.lower():
            yield f"column {column.name} is set by the server at each update (ON UPDATE): values would be lost"
    sent = {column.name for column in table.columns}
    for name, found in there.items():
        generated = "GENERATED" in found.extra
        if name not in sent and not (found.nullable or found.has_default or generated):
            yield f"column {name} is not the source's, and is NOT NULL without a default"


def _rows(connection: Connection, query: str, place: Place) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, place)
        return list(cursor.fetchall())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
