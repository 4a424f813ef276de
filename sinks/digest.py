"""Digests of tables: what they are, whichever engine computes them. Pure.

In: rows of (bucket, rows, sum, sum), as the queries of `sinks.postgres.digest` and `sinks.mysql.digest` give them, or
DuckDB by `sinks.archive.lines`. Out: `Digests`, and where two differ. Equal digests mean equal rows, whatever their
order, on whichever engine.
Refuses: a row whose line a server could not build (ROW_TOO_LARGE), which it tells by no bucket.

A row's line is its columns in the shape's order, each in double quotes (doubled inside) or nothing for NULL, joined by
commas: the line that COPY would read. The text of a value is always that of the source, also on a replica of the other
engine. Its hash is sha256 of that line in UTF-8. The two sums add the first and the second 15 hex digits of the hashes
as numbers. The bucket is the first two hex digits of the hash of the key's line; of the whole line for a table without
a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cdc.errors import ROW_TOO_LARGE, CdcError

Digests = dict[str, tuple[int, int, int]]


def digests(rows: Iterable[Sequence[Any]], table: str = "", source: str = "") -> Digests:
    """What such a query gave of this table."""
    found = {}
    for bucket, count, first, second in rows:
        if bucket is None:
            problem = f"{count} rows are longer than the server's max_allowed_packet lets a text be"
            raise CdcError(ROW_TOO_LARGE, source=source, table=table, problem=problem)
        found[str(bucket)] = int(count), int(first), int(second)
    return found


def differing(one: Digests, other: Digests) -> list[str]:
    """Buckets that do not hold the same rows."""
    return sorted(bucket for bucket in one.keys() | other.keys() if one.get(bucket) != other.get(bucket))
