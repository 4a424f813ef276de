"""What restores leave in their scratch databases: half a restore, or what is still to do behind the move. I/O.

In: a connection. Out: notes of what was removed or finished. Refuses: nothing of its own; MySQL's errors come as they
are.

A restore holds a lock of its id's name as long as it lives. One that died before its tables were moved has them in its
scratch databases: those are dropped. One that died behind the move has only its list of statements there, in order:
they are carried out, each removed from the list when it is done. One that was done and not yet removed from the list
makes what is there already, which says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
import pymysql
from pymysql.connections import Connection
from pymysql.converters import escape_string

from cdc.mysql.names import quoted
from cdc.mysql.session import SESSION, dialect_in, number_of

SCRATCH = "cdc_restore_"
TODO = (
    "CREATE TABLE {}.cdc_todo (n int AUTO_INCREMENT PRIMARY KEY, place varchar(64) NOT NULL, "
    "kind varchar(20) NOT NULL, name varchar(200) NOT NULL, settings longtext NOT NULL, statement longtext NOT NULL) "
    "ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
)
_FOUND = """
SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'cdc\\_restore\\_%' ORDER BY 1
"""
_ROWS = """
SELECT COUNT(*) FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_name <> 'cdc_todo'
AND table_schema IN %s
"""
_LIST = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'cdc_todo'"
_TODO = "SELECT n, place, kind, name, settings, statement FROM {}.cdc_todo ORDER BY n"
_THERE = frozenset({1050, 1062, 1304, 1359, 1537})
"""Table or view, row, routine, trigger, event of this name exists."""
_PATIENCE_S = 2
"""A server may need a moment to see that a client was killed."""


@dataclass(frozen=True, slots=True)
class Todo:
    """A statement of the list; `place` is the database it is made in."""

    place: str
    kind: str
    name: str
    settings: Mapping[str, str]
    statement: str

    def insert(self, scratch: str) -> str:
        values = (self.place, self.kind, self.name, orjson.dumps(dict(self.settings)).decode(), self.statement)
        texts = ", ".join(f"'{escape_string(value)}'" for value in values)
        return f"INSERT INTO {quoted(scratch)}.cdc_todo (place, kind, name, settings, statement) VALUES ({texts})"


def lock_of(restore: str) -> str:
    return f"{SCRATCH}{restore}"


def clear(connection: Connection, own: str | None = None) -> list[str]:
    """Of one restore, or of all that are dead."""
    groups: dict[str, list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_FOUND)
        for (name,) in cursor.fetchall():
            groups.setdefault(str(name).removeprefix(SCRATCH).rpartition("_")[0], []).append(str(name))
    notes = []
    for restore, names in groups.items():
        if own in (None, restore):
            notes += _cleared(connection, restore, sorted(names, key=len), told=own is None)
    return notes


def _cleared(connection: Connection, restore: str, names: list[str], *, told: bool) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, %s)", [lock_of(restore), _PATIENCE_S])
        if not cursor.fetchone()[0]:
            return []
        try:
            cursor.execute(_ROWS, [names])
            moved = cursor.fetchone()[0] == 0
            failed = _finish(connection, names[0]) if moved else None
            # The list lies in the first: it goes before the tables that were not moved, and after what was carried out.
            for name in names[::-1] if moved else names:
                cursor.execute(f"DROP DATABASE {quoted(name)}")
        finally:
            cursor.execute("SELECT RELEASE_LOCK(%s)", [lock_of(restore)])
    done = (
        "removed what a killed restore left" if failed is None else "finished a restore that was killed behind its move"
    )
    return [*([f"{done}: {', '.join(names)}"] if told else []), *(failed or ())]


def _finish(connection: Connection, scratch: str) -> list[str] | None:
    """What could not be made, in words: the tables are in place, and nobody can take them back. None: no list."""
    failed = []
    with connection.cursor() as cursor:
        cursor.execute(_LIST, [scratch])
        if not cursor.fetchall() or not cursor.execute(_TODO.format(quoted(scratch))):
            return None
        for n, place, kind, name, settings, statement in cursor.fetchall():
            connection.select_db(place)
            try:
                carry_out(connection, str(statement), orjson.loads(settings))
            except pymysql.MySQLError as error:
                if not connection.open:
                    raise
                if number_of(error) not in _THERE:
                    failed.append(f"not restored: {kind} {name}: {error.args[-1]} ({number_of(error)})")
            cursor.execute(f"DELETE FROM {quoted(scratch)}.cdc_todo WHERE n = {n}")
    return failed


def carry_out(connection: Connection, statement: str, settings: Mapping[str, str]) -> None:
    """One, under the settings that it was made under; ours come back."""
    ours = {
        "sql_mode": SESSION["sql_mode"],
        "collation_connection": dialect_in(connection).collation,
        "time_zone": SESSION["time_zone"],
    }
    with connection.cursor() as cursor:
        try:
            cursor.execute(_set({**ours, **settings}))
            cursor.execute(statement)
        finally:
            if connection.open:
                cursor.execute(_set(ours))


def _set(values: Mapping[str, object]) -> str:
    return "SET " + ", ".join(f"SESSION {name} = '{escape_string(str(value))}'" for name, value in values.items())
