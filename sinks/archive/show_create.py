"""A MySQL schema as the server itself writes it: SHOW CREATE of everything in some databases. I/O.

In: a catalog, names of databases. Out: `Dump`: tables as they are made before the rows; routines, views, triggers and
events in the order in which they are made behind them. Each stands alone: names of its own database are not in it, what
the session must be set to is beside it. Refuses: nothing; what the role may not read is named (`lacking_rights`).

Our own tables are left out. A definer is kept as the server names him.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import pymysql
from pymysql.cursors import DictCursor

from cdc.mysql.catalog import VERSIONED, Catalog
from cdc.mysql.check import every_table, grants_of, role_of
from cdc.mysql.dialect import MARIADB
from cdc.mysql.names import quoted
from cdc.mysql.setup import OLDEST_OF_SHOW_ROUTINE, version_of
from sinks.archive.dump import Dump, Entry

_OURS = ("cdc_progress", "cdc_table")
_TABLES = """
SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = %s ORDER BY 1
"""
_VIEWS = "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = %s"
_TRIGGERS = """
SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = %s
ORDER BY event_object_table, action_timing, event_manipulation, action_order
"""
_ROUTINES = """
SELECT routine_type, routine_name FROM information_schema.routines WHERE routine_schema = %s ORDER BY 1, 2
"""
_EVENTS = "SELECT event_name FROM information_schema.events WHERE event_schema = %s ORDER BY 1"
_SETTINGS = ("sql_mode", "collation_connection", "time_zone")
_DEFINER = re.compile(r"\bDEFINER=(`(?:[^`]|``)*`@`(?:[^`]|``)*`)")
_NEEDED = {"SHOW VIEW": "views", "TRIGGER": "triggers", "EVENT": "events"}
_MAY_READ_ROUTINES = ("SHOW_ROUTINE", "SELECT")


def show_create(catalog: Catalog, databases: Sequence[str]) -> Dump:
    """All of them together."""
    pre: list[Entry] = []
    post: list[Entry] = []
    for database in databases:
        # What is asked for in its own database is written without its name.
        catalog.connection.select_db(database)
        tables = catalog.rows(_TABLES, database)
        made = [str(name) for name, kind in tables if kind in ("BASE TABLE", VERSIONED) and name not in _OURS]
        pre.append(_entry(catalog, database, "DATABASE", database, "Create Database"))
        pre += [_entry(catalog, database, "TABLE", name, "Create Table") for name in made]
        routines = [(str(kind), str(name)) for kind, name in catalog.rows(_ROUTINES, database)]
        for kind, name in routines:
            post += _if_readable(catalog, database, kind, name, f"Create {kind.capitalize()}")
        for name in _views(catalog, database, [str(name) for name, kind in tables if kind == "VIEW"]):
            post += _if_readable(catalog, database, "VIEW", name, "Create View")
        for (name,) in catalog.rows(_TRIGGERS, database):
            post += _if_readable(catalog, database, "TRIGGER", str(name), "SQL Original Statement")
        for (name,) in catalog.rows(_EVENTS, database):
            post += _if_readable(catalog, database, "EVENT", str(name), "Create Event")
    return Dump(engine=catalog.dialect.engine, pre=tuple(pre), post=tuple(sorted(post, key=_by_kind)))


def _by_kind(entry: Entry) -> int:
    """Over all databases; within a kind the order stays."""
    return ("FUNCTION", "PROCEDURE", "VIEW", "TRIGGER", "EVENT").index(entry.type)


def _if_readable(catalog: Catalog, database: str, kind: str, name: str, column: str) -> Iterator[Entry]:
    """Nothing where the role may not; `lacking_rights` says so."""
    try:
        entry = _entry(catalog, database, kind, name, column)
    except pymysql.MySQLError:
        return
    if entry.sql:
        yield entry


def _entry(catalog: Catalog, database: str, kind: str, name: str, column: str) -> Entry:
    with catalog.connection.cursor(DictCursor) as cursor:
        cursor.execute(f"SHOW CREATE {kind} {quoted(name)}")
        row: dict[str, Any] = cursor.fetchone()
    sql = _text(row[column] or "")
    settings = {key: _text(row[key]) for key in _SETTINGS if key in row}
    definer = _DEFINER.search(sql) if kind not in ("DATABASE", "TABLE") else None
    return Entry(name, kind, database, sql, settings, definer[1] if definer else "")


def _views(catalog: Catalog, database: str, names: Sequence[str]) -> list[str]:
    """Those that others are made of first."""
    uses: dict[str, set[str]] = {name: set() for name in names}
    for view, definition in catalog.rows(_VIEWS, database):
        # There every name stands whole.
        made_of = {name for name in names if f"{quoted(database)}.{quoted(name)}" in _text(definition or "")}
        uses[str(view)] = made_of - {str(view)}
    try:
        return list(TopologicalSorter(uses).static_order())
    except CycleError:  # views that name each other: broken ones
        return list(names)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# -- rights -----------------------------------------------------------------------------------------------------
def lacking_rights(catalog: Catalog, databases: Sequence[str]) -> list[tuple[str, str]]:
    """What the catalog does not show, or not whole, to our role, and the statement that gives it the right."""
    grants, role = grants_of(catalog), role_of(catalog)
    lacking = [
        (
            f"{what} of database {name}, which an account without {right} does not see",
            f"GRANT {right} ON {every_table(catalog, name)} TO {role};",
        )
        for name in databases
        for right, what in _NEEDED.items()
        if not grants.on(right, name)
    ]
    whose = "bodies of routines that are not the account's own"
    if catalog.dialect is MARIADB:
        if not grants.on("SELECT", "mysql", "proc"):
            lacking.append((f"{whose}, without SELECT on mysql.proc", f"GRANT SELECT ON mysql.proc TO {role};"))
    elif not any(grants.everywhere(right) for right in _MAY_READ_ROUTINES):
        right = "SHOW_ROUTINE" if version_of(catalog) >= OLDEST_OF_SHOW_ROUTINE else "SELECT"
        lacking.append((f"{whose}, without {right}", f"GRANT {right} ON *.* TO {role};"))
    return lacking
