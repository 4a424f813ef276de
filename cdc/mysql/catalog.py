"""Questions to one MySQL server, on an ordinary connection: who it is, what it has executed, shapes of tables. I/O.

In: a server. Out: facts and `Table`s as the catalog shows them now. Refuses: a lost connection (SOURCE_UNREACHABLE),
a type that is not carried (TYPE_UNSUPPORTED).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pymysql.connections import Connection

from cdc.event import ForeignKey, Table
from cdc.mysql.dialect import MARIADB, MYSQL, Dialect
from cdc.mysql.names import quoted
from cdc.mysql.session import Server, close, dialect_in
from cdc.mysql.tables import Definition, foreign_key, labels_of, labels_within, plain_type, table_of
from cdc.position import BinlogState, DomainPosition, GtidPosition, GtidSet

Row = tuple[Any, ...]
HEARTBEATS = ("cdc", "heartbeat")
"""The table that a source writes its token to."""
HISTORY = ("cdc", "history")
"""On a MariaDB, the table of one row that tells its history from others: servers have no UUID there, and count alike.
It is written once, and goes to every replica."""
History = GtidSet | BinlogState

VERSIONED = "SYSTEM VERSIONED"
"""What stands for the engine of a table of MariaDB that keeps the history of its rows."""
_TABLES = f"""
SELECT table_schema AS table_schema, table_name AS table_name,
  IF(table_type = '{VERSIONED}', table_type, engine) AS engine, auto_increment AS auto_increment
FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', '{VERSIONED}')
AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY 1, 2
"""
_COLUMNS = """
SELECT column_name, column_type, is_nullable = 'NO', column_default, extra, character_set_name, collation_name
FROM information_schema.columns WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position
"""
_INDEXES = """
SELECT index_name, column_name FROM information_schema.statistics
WHERE table_schema = %s AND table_name = %s AND non_unique = 0
AND NOT EXISTS (SELECT 1 FROM information_schema.statistics s WHERE s.table_schema = statistics.table_schema
  AND s.table_name = statistics.table_name AND s.index_name = statistics.index_name AND s.column_name IS NULL)
ORDER BY index_name, seq_in_index
"""
"""Those over expressions are left out: a column of theirs has no name."""
_LABELS = """
WITH RECURSIVE labels AS (
  SELECT NULL AS label, 0 AS n UNION ALL SELECT {column}, 0 FROM {table} WHERE FALSE
  UNION ALL SELECT {value}, n + 1 FROM labels WHERE n < {count}
) SELECT /*+ SET_VAR(cte_max_recursion_depth = 70000) */ CONCAT(label) FROM labels WHERE n > 0 ORDER BY n
"""
"""Every value of a column's type, whether a row has it: numbers that are stored in a column like it."""
_CHARSET = """
SELECT c.character_set_name, c.collation_name FROM information_schema.tables t
JOIN information_schema.collation_character_set_applicability c ON c.collation_name = t.table_collation
WHERE t.table_schema = %s AND t.table_name = %s
"""
_FOREIGN_KEYS = """
SELECT r.constraint_name, r.unique_constraint_schema, r.referenced_table_name, r.update_rule, r.delete_rule,
  k.column_name, k.referenced_column_name
FROM information_schema.referential_constraints r JOIN information_schema.key_column_usage k
  ON k.constraint_schema = r.constraint_schema AND k.constraint_name = r.constraint_name
  AND k.table_name = r.table_name
WHERE r.constraint_schema = %s AND r.table_name = %s ORDER BY 1, k.ordinal_position
"""


@dataclass(frozen=True, slots=True)
class FoundTable:
    schema: str
    name: str
    engine: str

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Publication:
    """Every row change is in the binary log: what is published is what `tables` and `exclude` want."""

    name: str
    patterns: tuple[tuple[str, ...], tuple[str, ...]]
    tables: tuple[FoundTable, ...]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.patterns).encode()).hexdigest()


_WITHOUT_TRIGGERS = """
SELECT table_schema, table_name FROM information_schema.tables t WHERE table_type = 'BASE TABLE' AND NOT EXISTS (
  SELECT 1 FROM information_schema.triggers WHERE event_object_schema = t.table_schema
  AND event_object_table = t.table_name)
"""


class Catalog:
    """One connection. `rows` reads the present; within `snapshot` of the base copy, that."""

    def __init__(self, server: Server) -> None:
        self.server = server
        # Nothing is asked while a copy lasts: days.
        self.connection = server.connect(settings={"wait_timeout": 604_800})
        self.dialect = dialect_in(self.connection)
        self.version = str(self.rows("SELECT VERSION()")[0][0])

    def close(self) -> None:
        close(self.connection)

    def rows(self, query: str, *parameters: object) -> list[Row]:
        with self.server.errors(), self.connection.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return list(cursor.fetchall())

    def variable(self, name: str) -> str | None:
        """A global variable; None if the server has none of this name."""
        found = self.rows("SHOW GLOBAL VARIABLES LIKE %s", name.replace("_", r"\_"))
        return str(found[0][1]) if found else None

    # -- the server ---------------------------------------------------------------------------------------------
    def identity(self) -> str:
        """Whose history it is: of MySQL the server's UUID, of MariaDB a mark of ours; "" where there is none."""
        if self.dialect is MYSQL:
            return str(self.rows("SELECT @@GLOBAL.server_uuid")[0][0])
        found = self.rows("SELECT mark FROM cdc.history") if self._has(*HISTORY) else []
        return str(found[0][0]) if found else ""

    def executed(self) -> GtidPosition:
        with self.server.errors():
            return executed_in(self.connection)

    def executed_at(self, file: str, position: int) -> DomainPosition:
        """What MariaDB's log has before this place."""
        text = self.rows("SELECT BINLOG_GTID_POS(%s, %s)", file, position)[0][0]
        if text is None:
            raise self.server.refused(f"it does not say which GTIDs stand before {file}, {position}")
        return DomainPosition.parse(str(text))

    def history(self) -> History:
        """All transactions of the server, also such as `executed` does not name one by one."""
        if self.dialect is MARIADB:
            return BinlogState.parse(str(self.rows("SELECT @@GLOBAL.gtid_binlog_state")[0][0]))
        return GtidSet.parse(str(self.rows("SELECT @@GLOBAL.gtid_executed")[0][0]))

    def purged(self) -> GtidPosition:
        """What only a copy can still give."""
        if self.dialect is MYSQL:
            return GtidSet.parse(str(self.rows("SELECT @@GLOBAL.gtid_purged")[0][0]))
        # What came before a file stands near its beginning.
        first = str(self.rows("SHOW BINARY LOGS")[0][0])
        events = self.rows("SHOW BINLOG EVENTS IN %s LIMIT 5", first)
        lists = [str(row[5]).strip("[]") for row in events if row[2] == "Gtid_list"]
        return DomainPosition.parse(lists[0] if lists else "")

    def end_of_log(self) -> tuple[str, int]:
        """File and position behind what was written last."""
        file, position = self.rows("SHOW MASTER STATUS")[0][:2]
        return str(file), int(position)

    def bytes_behind(self, file: str, position: int) -> int:
        """Log behind this place."""
        sizes = {str(row[0]): int(row[1]) for row in self.rows("SHOW BINARY LOGS")}
        return max(0, sum(size for name, size in sizes.items() if name >= file) - position)

    def lock_holder(self, name: str) -> str | None:
        """Which connection holds a name; None if none does."""
        found = self.rows("SELECT IS_USED_LOCK(%s)", name)[0][0]
        if found is None:
            return None
        host = self.rows("SELECT host FROM information_schema.processlist WHERE id = %s", found)
        return f"connection {found}" + (f" from {host[0][0]}" if host else "")

    # -- tables -------------------------------------------------------------------------------------------------
    def publication(
        self, name: str, patterns: tuple[tuple[str, ...], tuple[str, ...]], wanted: Callable[[str, str], bool]
    ) -> Publication:
        found = [FoundTable(*map(str, row[:3])) for row in self.rows(_TABLES)]
        return Publication(name, patterns, tuple(t for t in found if wanted(t.schema, t.name)))

    def shape(self, schema: str, name: str) -> Table | None:
        """None if there is no such table (any more)."""
        columns = [_definition(row, self.dialect) for row in self.rows(_COLUMNS, schema, name)]
        if not columns:
            return None
        columns = [replace(column, type=self.exact_type(schema, name, column)) for column in columns]
        indexes: dict[str, list[str]] = {}
        for index, column in self.rows(_INDEXES, schema, name):
            indexes.setdefault(str(index), []).append(str(column))
        keys = _foreign_keys(self.rows(_FOREIGN_KEYS, schema, name))
        ((charset, collation),) = self.rows(_CHARSET, schema, name)
        return table_of(schema, name, columns, indexes, keys, charset=(charset, collation), source=self.server.name,
                        engine=self.dialect.engine)  # fmt: skip

    def exact_type(self, schema: str, table: str, column: Definition) -> str:
        """With the labels as they are: for characters beyond U+FFFF the server's catalog has question marks."""
        told = labels_within(column.type)
        if not any("?" in label for label in told):
            return column.type
        kind = column.type.partition("(")[0]
        query = _LABELS.format(
            column=quoted(column.name),
            table=f"{quoted(schema)}.{quoted(table)}",
            value="1 << n" if kind == "set" else "n + 1",
            count=len(told),
        )
        exact = tuple(str(row[0]) for row in self.rows(query))
        if exact == told:
            return column.type
        escaped = (label.replace("\\", "\\\\").replace("'", "''") for label in exact)
        return kind + "(" + ",".join(f"'{label}'" for label in escaped) + ")"

    def is_sequence(self, full_name: str) -> bool:
        """Of MariaDB, whose sequences are tables to the log."""
        query = (
            "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables WHERE table_type = 'SEQUENCE'"
        )
        return (full_name,) in self.rows(query)

    def shapes(self, tables: Sequence[FoundTable]) -> list[Table]:
        found = [self.shape(table.schema, table.name) for table in tables]
        return [shape for shape in found if shape is not None]

    def auto_increments(self) -> dict[str, int]:
        """The next number of every table that has one."""
        query = f"SELECT table_schema, table_name, auto_increment FROM ({_TABLES}) t WHERE auto_increment IS NOT NULL"
        return {f"{schema}.{name}": int(number) for schema, name, number in self.rows(query)}

    def without_triggers(self) -> frozenset[str]:
        """Tables whose statements change rows nowhere else; no views."""
        rows = self.rows(_WITHOUT_TRIGGERS)
        return frozenset(f"{schema}.{name}" for schema, name in rows)

    # -- heartbeats ---------------------------------------------------------------------------------------------
    def may_beat(self) -> bool:
        """Whether the table of heartbeats is there, and ours to write."""
        read_only = "ON" in (self.variable("super_read_only"), self.variable("read_only"))
        return not read_only and self._has(*HEARTBEATS)

    def _has(self, schema: str, table: str) -> bool:
        query = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
        return bool(self.rows(query, schema, table))

    def heartbeat(self, source: str, token: str) -> None:
        """Commit our token, so that the log brings it back with a position and a commit time."""
        self.rows("REPLACE INTO cdc.heartbeat (source, token, at) VALUES (%s, %s, NOW(6))", source, token)


def executed_in(connection: Connection) -> GtidPosition:
    """What the server behind a connection has in its log by now."""
    on_mariadb = dialect_in(connection) is MARIADB
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.gtid_binlog_pos" if on_mariadb else "SELECT @@GLOBAL.gtid_executed")
        text = str(cursor.fetchone()[0])
    return DomainPosition.parse(text) if on_mariadb else GtidSet.parse(text)


def sink_lock_name(sink: str, home: str, what: str = "sink") -> str:
    """Names are the whole server's, so the target's database is part of it."""
    return hashlib.sha256(f"cdc {what} {sink}\0{home}".encode()).hexdigest()


def lock_name(source: str) -> str:
    """At most 64 characters, whatever the source is called."""
    return "cdc source " + hashlib.sha256(source.encode()).hexdigest()[:32]


def _definition(row: Row, dialect: Dialect) -> Definition:
    name, column_type, not_null, default, extra, charset, collation = row
    return Definition(
        name=str(name),
        type=plain_type(_text(column_type)),
        not_null=bool(not_null),
        default=None if default is None else _default(_text(default), dialect),
        auto_increment="auto_increment" in str(extra),
        charset=charset and str(charset),
        collation=collation and str(collation),
    )


def _default(told: str, dialect: Dialect) -> str | None:
    """A literal without its quotes, an expression as it is written."""
    if not dialect.quotes_defaults:
        return told
    if told == "NULL":
        return None
    return labels_of(told)[0] if told.startswith("'") else told


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _foreign_keys(rows: Sequence[Row]) -> list[ForeignKey]:
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(str(row[0]), []).append(row)
    return [
        foreign_key(
            {"name": name, "schema": of[0][1], "table": of[0][2], "on_update": of[0][3], "on_delete": of[0][4]},
            [str(row[5]) for row in of],
            [str(row[6]) for row in of],
        )
        for name, of in by_name.items()
    ]
