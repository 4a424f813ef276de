"""What a test asks of either end of a pipeline, in the words of its engine: where it stands, what it holds.

In: a database of any engine. Out: positions, rows as values that compare across engines. A source is made ready as
`cdc setup` would, by the superuser.
"""

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from cdc.mysql.setup import HEARTBEAT_TABLE, HISTORY_TABLE
from cdc.position import Lsn, PgPosition, Position, parse_gtids, parse_position
from cdc.postgres.messages import EVENT_TRIGGER
from tests.servers.mysql import MySQLDatabase
from tests.servers.postgres import Database

AnyDatabase = Database | MySQLDatabase
Row = tuple[Any, ...]


class End(Protocol):
    """A database as a source or a replica."""

    tables: str

    def publish(self, name: str, tables: str) -> None: ...
    def now(self) -> Position:
        """Behind everything that is committed by now."""
        ...

    def published(self, name: str) -> list[str]: ...
    def rows(self, table: str) -> list[Row]: ...
    def progress(self) -> Position | None: ...
    def copying(self) -> list[str]: ...


class PostgresEnd:
    """A Postgres database."""

    tables = "public.*"

    def __init__(self, database: Database) -> None:
        self._database = database

    def publish(self, name: str, tables: str) -> None:
        self._database.execute("CREATE SCHEMA IF NOT EXISTS cdc")
        self._database.execute(EVENT_TRIGGER)
        self._database.execute(f"CREATE PUBLICATION cdc_{name} {tables}")

    def now(self) -> Position:
        return PgPosition(1, Lsn.parse(self._database.execute("SELECT pg_current_wal_insert_lsn()::text")[0][0]))

    def published(self, name: str) -> list[str]:
        query = "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = %s ORDER BY 1"
        return [row[0] for row in self._database.execute(query, [f"cdc_{name}"])]

    def rows(self, table: str) -> list[Row]:
        schema, _, name = table.partition(".")
        return _sorted(self._database.execute(f'SELECT * FROM "{schema}"."{name}"'))

    def progress(self) -> Position | None:
        if self._database.execute("SELECT to_regclass('cdc.cdc_progress') IS NULL")[0][0]:
            return None
        rows = self._database.execute("SELECT position FROM cdc.cdc_progress WHERE pipeline = 'eu'")
        return parse_position(rows[0][0]) if rows and rows[0][0] else None

    def copying(self) -> list[str]:
        query = "SELECT source_table FROM cdc.cdc_table WHERE pipeline = 'eu' AND state <> 'ready'"
        return [row[0] for row in self._database.execute(query)]


class MySqlEnd:
    """A MySQL database."""

    def __init__(self, database: MySQLDatabase) -> None:
        self._database = database
        self.tables = f"{database.name}.*"

    def publish(self, name: str, tables: str) -> None:
        del name, tables
        history = HISTORY_TABLE if self._database.server.kind == "MariaDB" else ()
        for statement in (*HEARTBEAT_TABLE, *history):
            self._database.execute(statement)

    def now(self) -> Position:
        return parse_gtids(self._database.server.gtids())

    def published(self, name: str) -> list[str]:
        del name
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY 1"
        return [f"{self._database.name}.{row[0]}" for row in self._database.execute(query, [self._database.name])]

    def rows(self, table: str) -> list[Row]:
        schema, _, name = table.partition(".")
        where = self._database.name if schema == "public" else schema
        return _sorted(self._database.execute(f"SELECT * FROM `{where}`.`{name}`"))

    def progress(self) -> Position | None:
        query = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = 'cdc_progress'"
        if not self._database.execute(query, [self._database.name]):
            return None
        rows = self._database.execute("SELECT position FROM cdc_progress WHERE pipeline = 'eu'")
        return parse_position(rows[0][0]) if rows and rows[0][0] else None

    def copying(self) -> list[str]:
        query = "SELECT source_table FROM cdc_table WHERE pipeline = 'eu' AND state <> 'ready'"
        return [row[0] for row in self._database.execute(query)]


def end_of(database: AnyDatabase) -> PostgresEnd | MySqlEnd:
    return MySqlEnd(database) if isinstance(database, MySQLDatabase) else PostgresEnd(database)


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted((tuple(_plain(row)) for row in rows), key=repr)


def _plain(row: Row) -> Iterator[Any]:
    """Each driver has its own types for the same value."""
    for value in row:
        match value:
            case bool():
                yield int(value)
            case Decimal() if value == value.to_integral_value():
                yield Decimal(int(value))
            case dt.datetime():
                yield value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
            case UUID():
                yield str(value)
            case memoryview():
                yield bytes(value)
            case dict() | list():  # of json, which the other driver leaves a text
                yield json.dumps(value, ensure_ascii=False)
            case _:
                yield value
