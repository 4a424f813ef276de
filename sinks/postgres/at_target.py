"""The target's tables as shapes: what a writer that does not describe them needs to know.

In: the connection of a hold. Out: a table by its name, and those that a sink has brought, each with the id that
`cdc_table` has for its shape. Every column is as the target has it, its values that server's text.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from cdc.event import Column, Table

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
  coalesce(a.attnum = ANY (i.indkey::int2[]), false), array_position(i.indkey::int2[], a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p') ORDER BY a.attnum
"""
_KNOWN = "SELECT source_table, schema_id FROM cdc.cdc_table WHERE pipeline = %s"


def table_at(connection: psycopg.Connection, schema: str, name: str) -> Table | None:
    """None where there is none of this name."""
    rows = connection.execute(_COLUMNS, [schema, name]).fetchall()
    if not rows:
        return None
    columns = tuple(
        Column(column, "text", type_name, 0, -1, at, not_null)
        for at, (column, type_name, not_null, _, _) in enumerate(rows, 1)
    )
    key = tuple(row[0] for row in sorted((row for row in rows if row[3]), key=lambda row: row[4]))
    return Table(schema, name, 0, columns, key, "d", key)


def known_tables(connection: psycopg.Connection, pipeline: str) -> Mapping[str, tuple[str, Table]]:
    """Those of this sink that are still there."""
    found = {}
    for full_name, schema_id in connection.execute(_KNOWN, [pipeline]).fetchall():
        table = table_at(connection, *full_name.split(".", 1))
        if table is not None:
            found[full_name] = schema_id, table
    return found
