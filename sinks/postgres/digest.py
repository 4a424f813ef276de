"""The SQL that computes digests on Postgres (`sinks.digest` says what they are). Pure.

In: a table's shape, of either engine. Out: a query whose rows are (bucket, rows, sum, sum). A replica of a MySQL source
is asked for its values as MySQL writes them: this is the way back of `sinks.across`.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from cdc.event import Column, Engine, Table
from sinks.across import numbers

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

_PLAIN = "{0}::text"
_QUOTED = "pg_catalog.replace({0}, '\"', '\"\"')"
_OUTPUT = "CASE WHEN {0} IS NOT NULL THEN " + _QUOTED.format("pg_catalog.format('%s', {0})") + " END"
"""`format` gives a value as its type's output function does; a cast to text would trim or rename some."""
_PLAIN_TYPES = {"int2", "int4", "int8", "oid", "float4", "float8", "numeric", "uuid", "date", "time", "timestamp",
                "timestamptz"}  # fmt: skip
"""Of these a cast gives the same, in a third of the time, and never a double quote."""


def digest_query(table: Table, *, only: bool, at: sql.Composable | None = None) -> sql.Composed:
    """`only`: without the tables that inherit from it, as the log has it. `at`: the table if it is called otherwise."""
    return sql.SQL(_DIGEST).format(first=_part(1), second=_part(16), **_parts(table, only, at))


def rows_query(table: Table, bucket: str, *, only: bool, at: sql.Composable | None = None) -> sql.Composed:
    """Key's line and row's hash of every row in a bucket."""
    return sql.SQL(_ROWS).format(bucket=sql.Literal(bucket), **_parts(table, only, at))


def _parts(table: Table, only: bool, at: sql.Composable | None) -> dict[str, sql.Composable]:  # noqa: FBT001
    columns = {column.name: column for column in table.columns}
    where = at or sql.Identifier(table.schema, table.name)
    return {
        "row": _line(table.columns, table.engine),
        "key": _line([columns[name] for name in table.key] or table.columns, table.engine),
        "table": sql.SQL("ONLY {}").format(where) if only else where,
    }


def _line(columns: Sequence[Column], engine: Engine) -> sql.Composable:
    """The line of these columns; NULL makes a cell NULL, and then nothing."""
    cell = sql.SQL("coalesce('\"' || {} || '\"', '')")
    texts = [sql.SQL(_text(c, engine)).format(sql.SQL("t.{}").format(sql.Identifier(c.name))) for c in columns]
    return sql.SQL(" || ',' || ").join([cell.format(text) for text in texts]) if texts else sql.SQL("''")


def _part(start: int) -> sql.SQL:
    return sql.SQL(f"('x' || pg_catalog.substr(hash, {start}, 15))::bit(60)::int8")


def _text(column: Column, engine: Engine) -> str:
    """SQL over `{0}`, the column, for its source's text, double quotes doubled."""
    if engine == "postgresql":
        return _PLAIN if column.type in _PLAIN_TYPES else _OUTPUT
    return _of_mysql(column)


# -- MySQL's text of what it is on Postgres ------------------------------------------------------------------------
_DOUBLE = """
CASE WHEN {v} = 0 OR (abs({v}) >= 1e-4 AND abs({v}) < 1e15) THEN {v}::text
  WHEN abs({v}) >= 1.8e16 AND abs({v}) < 1e25 THEN {sign} || {closed}
  WHEN abs({v}) >= 1e16 OR (abs({v}) >= 1e15 AND length({digits}) <= 16) THEN replace({v}::text, 'e+', 'e')
  WHEN abs({v}) >= 1e15 THEN {sign} || overlay({digits} PLACING '.' FROM 17 FOR 0)
  WHEN abs({v}) >= 1e-15 THEN {sign} || '0.' || repeat('0', -1 - split_part({v}::text, 'e', 2)::int) || {digits}
  ELSE {v}::text END
"""
"""Both servers print the shortest digits; they turn to exponents at different sizes, and write them differently."""
_SIGN = "CASE WHEN {v} < 0 THEN '-' ELSE '' END"
_DIGITS = "translate(split_part({v}::text, 'e', 1), '-.', '')"
_CLOSED = """
(SELECT left(digits, 1) || CASE WHEN length(digits) > 1 THEN '.' ELSE '' END || substr(digits, 2) || 'e' || place FROM (
  SELECT rtrim(number::text, '0') AS digits, length(number::text) - 1 AS place FROM (
    SELECT round(exact, k - length(exact::text)) AS number FROM (
      SELECT exact, power / 9007199254740992 AS half, mod(exact, power / 2251799813685248) = 0 AS even,
        power / CASE WHEN power = exact THEN 18014398509481984 ELSE 9007199254740992 END AS below
      FROM (
        SELECT floor(abs({v}) / 1099511627776)::int8::numeric * 1099511627776
            + (abs({v}) - floor(abs({v}) / 1099511627776) * 1099511627776)::int8 AS exact,
          (SELECT 2::numeric ^ e FROM generate_series(53, 84) e WHERE 2::float8 ^ e <= abs({v}) ORDER BY e DESC LIMIT 1)
            AS power
      ) whole
    ) bounds, generate_series(1, 17) k
    WHERE round(exact, k - length(exact::text)) - exact < half AND exact - round(exact, k - length(exact::text)) < below
      OR even AND round(exact, k - length(exact::text)) - exact <= half
        AND exact - round(exact, k - length(exact::text)) <= below
    ORDER BY k LIMIT 1
  ) shortest
) printed)
"""
"""The digits of a double from 2^54 on. MySQL may print a number halfway to the next double, Postgres never does."""


def _double(value: str) -> str:
    parts = {"sign": _SIGN, "digits": _DIGITS, "closed": _CLOSED}
    return _DOUBLE.format(v=value, **{name: part.format(v=value) for name, part in parts.items()})


_OF_MYSQL = {
    "float": _double("{0}::float8"),
    "double": _double("{0}"),
    "year": "lpad({0}::text, 4, '0')",
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "encode({0}, 'hex')"),
    **dict.fromkeys(("tinyint", "tinyint unsigned", "smallint", "smallint unsigned", "mediumint", "mediumint unsigned",
                     "int", "int unsigned", "bigint", "bigint unsigned", "decimal", "date"), _PLAIN),
}  # fmt: skip
# As int8, 64 bits have a sign.
_BITS_64 = "({0}::int8::numeric + CASE WHEN {0}::int8 < 0 THEN 18446744073709551616 ELSE 0 END)::text"


def _of_mysql(column: Column) -> str:
    length = (numbers(column) or (0,))[0]
    match column.type:
        case "bit" if length == 1:
            return "CASE {0} WHEN true THEN '1' WHEN false THEN '0' END"
        case "bit":
            return "{0}::int8::text" if length < 64 else _BITS_64
        case "datetime" | "time":
            return _fraction("{0}::text", length)
        case "timestamp":
            return _fraction("({0} AT TIME ZONE 'UTC')::text", length)
    return _OF_MYSQL.get(column.type) or _QUOTED.format("{0}::text")


def _fraction(text: str, digits: int) -> str:
    """With exactly so many digits behind the point, where Postgres ends with the last that is not 0."""
    if not digits:
        return text
    padded = f"rpad({text}, strpos({text}, '.') + {digits}, '0')"
    return f"CASE WHEN strpos({text}, '.') > 0 THEN {padded} ELSE {text} || '.{'0' * digits}' END"
