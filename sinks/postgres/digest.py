"""Digests of tables: what they are, and the SQL that computes them on Postgres. Pure.

In: a table's shape. Out: a query whose rows are (bucket, rows, sum, sum). Equal digests mean equal rows, whatever their
order; the same sums come out of the archive in DuckDB (sinks/archive/lines.py), from the same text.

A row's line is its columns in the shape's order, each in double quotes (doubled inside) or nothing for NULL, joined by
commas: the line that COPY would read. Its hash is sha256 of that line in UTF-8. The two sums add the first and the
second 15 hex digits of the hashes as numbers. The bucket is the first two hex digits of the hash of the key's line; of
the whole line for a table without a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import sql

from cdc.event import Table

Digests = dict[str, tuple[int, int, int]]

_DIGEST = """
SELECT pg_catalog.substr(key_hash, 1, 2), count(*), sum({first}), sum({second}) FROM (
  SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({row}, 'UTF8')), 'hex') AS hash,
         pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({key}, 'UTF8')), 'hex') AS key_hash
  FROM {table} t OFFSET 0
) hashed GROUP BY 1
"""
"""OFFSET keeps the planner from computing each hash once for each use."""
_ROWS = """
SELECT key, hash FROM (
  SELECT {key} AS key, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({row}, 'UTF8')), 'hex') AS hash,
         pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({key}, 'UTF8')), 'hex') AS key_hash
  FROM {table} t
) hashed WHERE pg_catalog.substr(key_hash, 1, 2) = {bucket}
"""

_QUOTED = sql.SQL(
    "CASE WHEN t.{0} IS NOT NULL THEN pg_catalog.replace(pg_catalog.format('%s', t.{0}), '\"', '\"\"') END"
)
"""`format` gives a value as its type's output function does; a cast to text would trim or rename some."""
_PLAIN = sql.SQL("t.{0}::text")
_PLAIN_TYPES = {"int2", "int4", "int8", "oid", "float4", "float8", "numeric", "uuid", "date", "time", "timestamp",
                "timestamptz"}  # fmt: skip
"""Of these a cast gives the same, in a third of the time, and never a double quote."""


def digest_query(table: Table, *, only: bool, at: sql.Composable | None = None) -> sql.Composed:
    """`only`: without the tables that inherit from it, as the log has it. `at`: the table if it is called otherwise."""
    return sql.SQL(_DIGEST).format(first=_part(1), second=_part(16), **_parts(table, only, at))


def rows_query(table: Table, bucket: str, *, only: bool, at: sql.Composable | None = None) -> sql.Composed:
    """Key's line and row's hash of every row in a bucket."""
    return sql.SQL(_ROWS).format(bucket=sql.Literal(bucket), **_parts(table, only, at))


def digests(rows: Iterable[Sequence[Any]]) -> Digests:
    """What such a query gave."""
    return {bucket: (int(count), int(first), int(second)) for bucket, count, first, second in rows}


def differing(one: Digests, other: Digests) -> list[str]:
    """Buckets that do not hold the same rows."""
    return sorted(bucket for bucket in one.keys() | other.keys() if one.get(bucket) != other.get(bucket))


def _parts(table: Table, only: bool, at: sql.Composable | None) -> dict[str, sql.Composable]:  # noqa: FBT001
    types = {column.name: column.type for column in table.columns}
    where = at or sql.Identifier(table.schema, table.name)
    return {
        "row": _line(types),
        "key": _line({name: types[name] for name in table.key} or types),
        "table": sql.SQL("ONLY {}").format(where) if only else where,
    }


def _line(types: Mapping[str, str]) -> sql.Composable:
    """The line of these columns; NULL makes a cell NULL, and then nothing."""
    cell = sql.SQL("coalesce('\"' || {} || '\"', '')")
    texts = [(_PLAIN if of in _PLAIN_TYPES else _QUOTED).format(sql.Identifier(name)) for name, of in types.items()]
    return sql.SQL(" || ',' || ").join([cell.format(text) for text in texts]) if texts else sql.SQL("''")


def _part(start: int) -> sql.SQL:
    return sql.SQL(f"('x' || pg_catalog.substr(hash, {start}, 15))::bit(60)::int8")
