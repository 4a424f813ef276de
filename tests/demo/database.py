"""A database of the demonstration as its administrator sees it, of either engine.

In: a URL without password, and the password. Out: sessions that commit each statement, rows, and how far a source's
log, or a sink's work, has come.
"""

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pymysql

from cdc.position import GtidSet, Lsn, PgPosition, Position, parse_position

Row = tuple[Any, ...]
Session = Any
"""psycopg's connection or PyMySQL's, which has no types."""
_NO_SUCH_TABLE = 1146


@dataclass(frozen=True)
class Database:
    """One database of a server that runs."""

    url: str
    password: str

    @property
    def on_mysql(self) -> bool:
        return self.url.startswith("mysql:")

    @property
    def url_without_role(self) -> str:
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    @property
    def variables(self) -> dict[str, str]:
        """Where commands look for an administrator's password."""
        return {"MYSQL_PWD" if self.on_mysql else "PGPASSWORD": self.password}

    def connect(self) -> Session:
        if not self.on_mysql:
            return psycopg.connect(self.url, password=self.password, autocommit=True)
        parts = urlsplit(self.url)
        return pymysql.connect(
            host=parts.hostname, port=parts.port or 3306, user=unquote(parts.username or ""), password=self.password,
            database=parts.path.strip("/"), autocommit=True, ssl_disabled=True,
        )  # fmt: skip

    def ask(self, query: str) -> list[Row]:
        """In a session of its own; no rows while the table is not there."""
        with closing(self.connect()) as session:
            try:
                return ask(session, query)
            except psycopg.errors.UndefinedTable:
                return []
            except pymysql.ProgrammingError as error:
                if error.args[0] != _NO_SUCH_TABLE:
                    raise
                return []

    # -- a source -----------------------------------------------------------------------------------------------
    def position(self) -> Position:
        """Behind everything that is committed by now."""
        if self.on_mysql:
            return GtidSet.parse(self.ask("SELECT @@gtid_executed")[0][0].replace("\n", ""))
        return PgPosition(1, Lsn.parse(self.ask("SELECT pg_current_wal_insert_lsn()::text")[0][0]))

    # -- a replica ----------------------------------------------------------------------------------------------
    def has_applied(self, sink: str, position: Position) -> bool:
        rows = self.ask(f"SELECT position FROM {self._ours}cdc_progress WHERE pipeline = '{sink}'")
        return bool(rows and rows[0][0]) and position <= parse_position(rows[0][0])

    def tables(self, sink: str) -> list[Row]:
        """Each with its state."""
        return self.ask(f"SELECT source_table, state FROM {self._ours}cdc_table WHERE pipeline = '{sink}'")

    def has_copied(self, sink: str) -> bool:
        """Every row that was there at the beginning."""
        tables = self.tables(sink)
        return bool(tables) and all(state == "ready" for _, state in tables)

    def lag_s(self, session: Session, sink: str) -> float | None:
        """Seconds since the last commit at the source that the sink has brought."""
        rows = ask(session, f"SELECT commit_ts_us FROM {self._ours}cdc_progress WHERE pipeline = '{sink}'")
        return time.time() - rows[0][0] / 1e6 if rows and rows[0][0] else None

    @property
    def _ours(self) -> str:
        return "" if self.on_mysql else "cdc."


def ask(session: Session, query: str) -> list[Row]:
    """The rows of a statement that has some."""
    with session.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())
