"""What is wrong with a table that is there already: every reason it cannot hold a shape's rows.

In: a shape and the oid of the target's table. Out: one line per misfit, none if it fits.
It fits if it has every column with exactly the source's type, is no stricter than the source, can identify rows by
the same key at once, and needs no value that the source does not send.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from cdc.event import Column, Table

_FIND = """
SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef, a.attidentity, a.attgenerated
FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
"""
_KIND = "SELECT relkind = ANY ('{r,p}') FROM pg_class WHERE oid = %s"
_UNIQUE = """
SELECT EXISTS (
  SELECT FROM pg_index i
  WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
    AND i.indexprs IS NULL AND %s::text[] = (
      SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C")
      FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, at)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.at <= i.indnkeyatts))
"""
_LABELS = "SELECT array_agg(enumlabel::text) FROM pg_enum WHERE enumtypid = to_regtype(%s)"


def find(connection: psycopg.Connection, table: Table) -> int | None:
    """The oid of whatever has this table's name on the target."""
    row = connection.execute(_FIND, [table.schema, table.name]).fetchone()
    return None if row is None else int(row[0])


def misfits(connection: psycopg.Connection, table: Table, oid: int) -> Iterator[str]:
    """Every reason, each with the table's name."""
    (is_table,) = connection.execute(_KIND, [oid]).fetchone() or (False,)
    problems = _all(connection, table, oid) if is_table else iter(["it is no table"])
    for problem in problems:
        yield f"{table.full_name}: {problem}"


def _all(connection: psycopg.Connection, table: Table, oid: int) -> Iterator[str]:
    there = {row[0]: row[1:] for row in connection.execute(_COLUMNS, [oid])}
    for column in table.columns:
        if column.name not in there:
            yield f"column {column.name} ({column.type_expression}) is missing"
            continue
        type_name, not_null, _, identity, generated = there[column.name]
        if type_name != column.type_expression:
            yield f"column {column.name} is {type_name}, it must be {column.type_expression}"
        elif missing := lacks_labels(connection, column):
            name = column.type_expression.removesuffix("[]")
            yield f"column {column.name}: ALTER TYPE {name} ADD VALUE for {', '.join(map(repr, missing))}"
        if not_null and not column.not_null:
            yield f"column {column.name} is NOT NULL, the source's is not"
        if generated or identity == "a":
            yield f"column {column.name} is generated: the source's values cannot be written"
    sent = {column.name for column in table.columns}
    for name, (_, not_null, has_default, identity, _) in there.items():
        if name not in sent and not_null and not has_default and not identity:
            yield f"column {name} is not the source's, and is NOT NULL without a default"
    if table.key and not _has_key(connection, table, oid):
        yield f"no primary key or plain unique index on ({', '.join(table.key)})"


def lacks_labels(connection: psycopg.Connection, column: Column) -> list[str]:
    """Labels of the column's enum that the target's type of this name does not have; [] if there is no such type."""
    if column.enum_values is None:
        return []
    (labels,) = connection.execute(_LABELS, [column.type_expression.removesuffix("[]")]).fetchone() or (None,)
    return [label for label in column.enum_values if label not in labels] if labels else []


def _has_key(connection: psycopg.Connection, table: Table, oid: int) -> bool:
    # The order of index columns does not matter; both sides are sorted the same way.
    row = connection.execute(_UNIQUE, [oid, sorted(table.key)]).fetchone()
    return bool(row and row[0])
