"""What tables are called on a MySQL target, and names as SQL has them. Pure.

A table of Postgres' schema `public` is in the database that the sink's URL names, `home`; one of another schema, or of
a MySQL source, in the database of that name.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdc.event import Table
from cdc.mysql.names import quoted

Place = tuple[str, str]
"""A database of the target, and a table's name in it."""


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def database_of(table: Table, home: str) -> str:
    return home if table.engine == "postgresql" and table.schema == "public" else table.schema


def place_of(table: Table, home: str) -> Place:
    return database_of(table, home), table.name


def at(place: Place) -> str:
    return ".".join(map(quoted, place))


def name_of(table: Table, home: str) -> str:
    return at(place_of(table, home))
