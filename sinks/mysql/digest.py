"""The SQL that computes digests on MySQL (`sinks.digest` says what they are). Pure.

In: a table's shape, of either engine. Out: a query whose rows are (bucket, rows, sum, sum), for a session with our
settings. A replica of a Postgres source is asked for its values as Postgres writes them: this is the way back of
`sinks.across`.

A function whose result passes max_allowed_packet is NULL in MySQL, with a warning that nobody reads. A line with such a
part is NULL as a whole, and counts under no bucket, which `sinks.digest` refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc.event import Column, Engine, Table
from cdc.mysql.dialect import Dialect
from cdc.mysql.names import quoted
from cdc.mysql.values import select_expression
from sinks.mysql.names import name_of

_DIGEST = """
SELECT IF(hash IS NULL, NULL, LEFT(key_hash, 2)), COUNT(*), SUM({first}), SUM({second}) FROM (
  SELECT SHA2({row}, 256) AS hash, SHA2({key}, 256) AS key_hash FROM {table} t
) hashed GROUP BY 1
"""
_ROWS = """
SELECT row_key, hash FROM (
  SELECT {key} AS row_key, SHA2({row}, 256) AS hash, SHA2({key}, 256) AS key_hash FROM {table} t
) hashed WHERE LEFT(key_hash, 2) = '{bucket}'
"""


def digest_query(table: Table, dialect: Dialect, *, only: bool, at: str | None = None) -> str:  # noqa: ARG001
    """`at`: the table's quoted name if it is called otherwise. Nothing inherits here, so `only` says nothing."""
    return _DIGEST.format(first=_part(1), second=_part(16), **_parts(table, dialect, at))


def rows_query(table: Table, bucket: str, dialect: Dialect, *, only: bool, at: str | None = None) -> str:  # noqa: ARG001
    """Key's line and row's hash of every row in a bucket."""
    return _ROWS.format(bucket=bucket, **_parts(table, dialect, at))


def _parts(table: Table, dialect: Dialect, at: str | None) -> dict[str, str]:
    columns = {column.name: column for column in table.columns}
    return {
        "row": _line(table.columns, table.engine, dialect),
        "key": _line([columns[name] for name in table.key] or table.columns, table.engine, dialect),
        "table": at or name_of(table, table.schema),
    }


def _part(start: int) -> str:
    return f"CAST(CONV(SUBSTR(hash, {start}, 15), 16, 10) AS UNSIGNED)"


def _line(columns: Sequence[Column], engine: Engine, dialect: Dialect) -> str:
    """The line of these columns; a cell is empty for NULL alone."""
    if not columns:
        return "''"
    cells = [
        f"IF({name} IS NULL, '', CONCAT('\"', {_text(column, engine, dialect, name)}, '\"'))"
        for column in columns
        for name in [f"t.{quoted(column.name)}"]
    ]
    return "CONCAT(" + ", ',', ".join(cells) + ")"


def _text(column: Column, engine: Engine, dialect: Dialect, name: str) -> str:
    """SQL for the column's source text, double quotes doubled."""
    text = _of_postgres(column, name, dialect) if engine == "postgresql" else select_expression(column, name, dialect)
    return f"REPLACE(CONVERT({text} USING utf8mb4), '\"', '\"\"')"


# -- Postgres' text of what it is on MySQL -------------------------------------------------------------------------
def _double(name: str, dialect: Dialect, plain_below: str, *, exact: bool) -> str:
    """Both servers print the shortest digits that read back, in another form. `exact`: all of those digits count.

    One expression: not every server lets a subquery in FROM see the row around it.
    """
    text = f"CONCAT({dialect.real.format(name)})"
    mantissa = f"SUBSTRING_INDEX(TRIM(LEADING '-' FROM {text}), 'e', 1)"
    exponent = f"IF({text} LIKE '%e%', SUBSTRING_INDEX({text}, 'e', -1), 0)"
    place = (
        f"({exponent} + IF({mantissa} LIKE '0.%', LENGTH(TRIM(LEADING '0' FROM SUBSTR({mantissa}, 3))) - "
        f"LENGTH({mantissa}) + 1, LENGTH(SUBSTRING_INDEX({mantissa}, '.', 1)) - 1))"
    )
    digits = f"TRIM(LEADING '0' FROM REPLACE({mantissa}, '.', ''))"
    whole = _whole(name, text)
    large = (
        f"WHEN ABS({name}) >= 1.8e16 AND ABS({name}) < 1e25 THEN {_scientific(name, whole, f'(LENGTH({whole}) - 1)')}"
    )
    return (
        f"CASE WHEN {name} = 0 OR (ABS({name}) >= 1e-4 AND ABS({name}) < {plain_below}) THEN {text} "
        f"{large if exact else ''} ELSE {_scientific(name, digits, place)} END"
    )


def _scientific(name: str, digits: str, place: str) -> str:
    return (
        f"CONCAT(IF({name} < 0, '-', ''), INSERT(TRIM(TRAILING '0' FROM {digits}), 2, 0, '.'), "
        f"IF({place} < 0, 'e-', 'e+'), IF(ABS({place}) < 10, '0', ''), ABS({place}))"
    )


def _whole(name: str, text: str) -> str:
    """The digits of a double from 2^54 on. MySQL may print a number halfway to the next double, Postgres never does."""
    power = f"POW(2, FLOOR(LOG2(ABS({name}))) - (POW(2, FLOOR(LOG2(ABS({name})))) > ABS({name})))"
    half = f"CAST({power} / 9007199254740992 AS DECIMAL(30))"
    below = f"CAST({power} / IF({power} = ABS({name}), 18014398509481984, 9007199254740992) AS DECIMAL(30))"
    near = f"CAST(TRIM(LEADING '-' FROM {text}) AS DECIMAL(30))"
    high = f"FLOOR(ABS({name}) / 1099511627776)"
    exact = (
        f"(CAST(CAST({high} AS SIGNED) AS DECIMAL(30)) * 1099511627776 + "
        f"CAST(ABS({name}) - {high} * 1099511627776 AS SIGNED))"
    )
    rounded = f"ROUND({exact}, 16 - LENGTH({exact}))"
    return (
        f"CASE WHEN {near} - {exact} < {half} AND {exact} - {near} < {below} THEN {near} "
        f"WHEN {rounded} - {exact} < {half} AND {exact} - {rounded} < {below} THEN {rounded} "
        f"ELSE ROUND({exact}, 17 - LENGTH({exact})) END"
    )


_ENDING = "IF(MICROSECOND({0}) = 0, SUBSTRING_INDEX({0}, '.', 1), TRIM(TRAILING '0' FROM {0}))"
"""Postgres' fraction ends with the last digit that is not 0."""


def _of_postgres(column: Column, name: str, dialect: Dialect) -> str:
    match column.type:
        case "float4" | "float8":
            # What was a float4 has its few digits, which are never in doubt.
            single = column.type == "float4"
            return _double(name, dialect, "1e6" if single else "1e15", exact=not single)
        case "bool":
            return f"CASE {name} WHEN 1 THEN 't' WHEN 0 THEN 'f' ELSE {name} END"
        case "bytea":
            return f"CONCAT(CHAR(92 USING utf8mb4), 'x', LOWER(HEX({name})))"
        case "time" | "timestamp":
            return _ENDING.format(name)
        case "timestamptz":
            return f"CONCAT({_ENDING.format(name)}, '+00')"
    return name
