"""SQL of DuckDB for rows as lines: the form in which they are compared, loaded and counted. Pure text.

In: expressions that give the text of each column. Out: expressions. A line is what `sinks/postgres/digest.py` defines:
each column in double quotes, doubled inside, or nothing for NULL, joined by commas.
"""

from __future__ import annotations

from collections.abc import Sequence


def line(cells: Sequence[str]) -> str:
    """The line of these columns."""
    return " || ',' || ".join(f"""coalesce('"' || replace({cell}, '"', '""') || '"', '')""" for cell in cells) or "''"


def digest_of(source: str) -> str:
    """(bucket, rows, sum, sum) of a relation with columns `key` and `line`."""
    return f"""
SELECT substr(key_hash, 1, 2), count(*), sum({_part(1)}), sum({_part(16)}) FROM (
  SELECT sha256(line) AS hash, CASE WHEN key = line THEN hash ELSE sha256(key) END AS key_hash FROM {source}
) GROUP BY 1"""


def rows_in(source: str, bucket: str) -> str:
    """(key, hash) of the rows in a bucket."""
    return f"SELECT key, sha256(line) FROM {source} WHERE substr(sha256(key), 1, 2) = {literal(bucket)}"


def _part(start: int) -> str:
    return f"('0x' || substr(hash, {start}, 15))::UBIGINT"


def literal(text: str | None) -> str:
    """A value as SQL."""
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def name(column: str) -> str:
    """A column's name as SQL."""
    return '"' + column.replace('"', '""') + '"'
