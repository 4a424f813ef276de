"""The progress of one sink on its target: the lock, the row, and the guard that fences every apply.

In: a server, whose URL names a database, and the name of a sink. Out: a connection that alone may write under this
name, and the place where its predecessor stopped. Refuses: a URL without a database; a row that somebody else moved
(PROGRESS_TAKEN).

A name that is held on the server makes a second process wait (CORRECTNESS 28, `cdc.mysql.held`); such names are the
whole server's, so the database is part of ours. The session that writes holds a second one: where the first was freed
because its process is frozen or its host has vanished, that session may still be in a transaction, with the progress
row locked, and whoever comes next ends it. Under the name a process writes its random writer id; from then on the first
statement of each apply moves the row only from exactly where this writer left it. One statement gives deduplication,
gap detection and fencing.
"""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager, suppress
from typing import Any, ClassVar, Literal

import pymysql

from cdc.closing import Closing
from cdc.errors import CdcError
from cdc.mysql.catalog import sink_lock_name
from cdc.mysql.dialect import Setting
from cdc.mysql.held import HeldName
from cdc.mysql.session import Server, close, dialect_in, number_of, transaction
from sinks.progress import at, refuse_other, taken
from sinks.transaction import Progress

PROGRESS_TABLES = (
    """
CREATE TABLE IF NOT EXISTS cdc_progress (
  pipeline varchar(150) PRIMARY KEY, source varchar(150), epoch bigint, txn_seq bigint, position longtext,
  run varchar(16), log_offset bigint, commit_ts_us bigint, writer varchar(16), updated_at datetime(6)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
""",
    """
CREATE TABLE IF NOT EXISTS cdc_table (
  pipeline varchar(150), source_table varchar(200), target_table varchar(200), schema_id varchar(16),
  state varchar(16), copy_id varchar(200), intent longtext, PRIMARY KEY (pipeline, source_table)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
""",
)
"""What a sink keeps in the database of its URL; `state` is ready or copying, `intent` DDL that is under way."""

_EXISTING = """
SELECT COUNT(*) = 2 FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name IN ('cdc_progress', 'cdc_table')
"""
_HOLDER = """
SELECT p.id, p.user, p.host, a.attr_value FROM information_schema.processlist p
LEFT JOIN performance_schema.session_account_connect_attrs a ON a.processlist_id = p.id AND attr_name = 'program_name'
WHERE p.id = COALESCE(IS_USED_LOCK(%s), IS_USED_LOCK(%s))
"""
_TAKE = """
INSERT INTO cdc_progress (pipeline, source, epoch, txn_seq, writer, updated_at)
VALUES (%(pipeline)s, %(source)s, 0, 0, %(writer)s, NOW(6))
ON DUPLICATE KEY UPDATE writer = VALUES(writer), updated_at = VALUES(updated_at)
"""
_TAKEN = "SELECT source, epoch, txn_seq, run, position, log_offset, commit_ts_us FROM cdc_progress WHERE pipeline = %s"
_ADOPT = "UPDATE {} SET pipeline = %(pipeline)s WHERE pipeline = %(restored)s"
"""What a restore of the whole database left: the first sink of that source goes on from there."""
_MOVE = """
UPDATE cdc_progress SET epoch = %s, txn_seq = %s, run = %s, position = %s, log_offset = %s, commit_ts_us = %s,
  updated_at = NOW(6)
WHERE pipeline = %s AND writer = %s AND epoch = %s AND txn_seq = %s
"""
_READ = "SELECT epoch, txn_seq, writer FROM cdc_progress WHERE pipeline = %s"

_GONE_OR_DENIED = (1094, 1095)
"""No such session any more, or another account's."""
_ENDS_S = 5
_SETTINGS: dict[str, Setting] = {
    # Rows come in the order of commits, but a folded run may bring a child before its parent; the source has checked.
    "foreign_key_checks": 0,
    "unique_checks": 1,
    # Beyond any wait for Kafka inside a streamed transaction.
    "wait_timeout": 600,
}


class Hold(Closing):
    """A connection to the target and, once `try_lock` has it, the right to write as this sink."""

    engine: ClassVar[Literal["mysql"]] = "mysql"

    def __init__(self, server: Server, pipeline: str, source: str) -> None:
        self.server, self.pipeline, self.source = server, pipeline, source
        self.home = server.database
        if not self.home:
            raise server.refused("the URL names no database: mysql://USER@HOST/DATABASE")
        self._writer = secrets.token_hex(8)
        self._lock, self._writing = (sink_lock_name(pipeline, self.home, what) for what in ("sink", "writing"))
        self.connection = server.connect(settings=_SETTINGS, isolation="READ COMMITTED", multi_statements=True)
        self.dialect = dialect_in(self.connection)
        try:
            self._name = HeldName(server, self._lock)
        except BaseException:
            close(self.connection)
            raise
        self.progress: Progress | None = None

    def errors(self) -> AbstractContextManager[None]:
        return self.server.errors()

    def transaction(self) -> AbstractContextManager[None]:
        return transaction(self.connection)

    def try_lock(self) -> bool:
        """Take the name if no other process has it."""
        with self.errors():
            return self._name.try_take() and (self._writes_alone(0) or self._ends_writer())

    def _writes_alone(self, patience_s: int) -> bool:
        return bool(self._one("SELECT GET_LOCK(%s, %s)", [self._writing, patience_s])[0])

    def _ends_writer(self) -> bool:
        """Of a process that has lost the name without a word."""
        (session,) = self._one("SELECT IS_USED_LOCK(%s)", [self._writing])
        if session is not None:
            try:
                self._run(f"KILL {session}")
            except pymysql.MySQLError as error:
                if number_of(error) not in _GONE_OR_DENIED:
                    raise
        return self._writes_alone(_ENDS_S)

    def holder(self) -> str:
        """Who has the name, as far as we may know."""
        with self.errors():
            row = None
            with suppress(pymysql.OperationalError):  # no right to look
                row = self._one(_HOLDER, [self._writing, self._lock])
            if not row:
                (row,) = (self._one("SELECT IS_USED_LOCK(%s)", [self._lock]) or (None,),)
                return f"session {row[0]} of the server" if row and row[0] else "a process that has just left"
        session, user, host, program = row
        return f"{program or user}, connected from {host or 'an unknown host'} as session {session}"

    def take(self) -> Progress | None:
        """Become the writer; where the last one stopped. Makes the progress tables if they are not there."""
        with self.errors():
            if not self._one(_EXISTING)[0]:
                for table in PROGRESS_TABLES:
                    self._run(table)
            with self.transaction():
                facts = {"pipeline": self.pipeline, "source": self.source, "writer": self._writer}
                if not self._one(_READ, [self.pipeline]):
                    for name in ("cdc_table", "cdc_progress"):
                        self._run(_ADOPT.format(name), {**facts, "restored": f"restored:{self.source}"})
                self._run(_TAKE, facts)
                source, epoch, txn_seq, run, position, log_offset, commit_ts_us = self._one(_TAKEN, [self.pipeline])
        if log_offset is not None:
            self.progress = Progress(epoch, txn_seq, run, position, log_offset, commit_ts_us)
        refuse_other(self.pipeline, self.source, source)
        return self.progress

    def move(self, to: Progress) -> None:
        """The guard: the first statement of an apply, in its transaction."""
        self._name.refuse_lost()
        where = [self.pipeline, self._writer, *at(self.progress)]
        moved = [to.epoch, to.txn_seq, to.run, to.position, to.log_offset, to.commit_ts_us]
        if self._run(_MOVE, [*moved, *where]) != 1:
            raise self._taken()

    def check(self) -> None:
        """The guard of what commits by itself: nobody moved the row, and the name is ours."""
        self._name.refuse_lost()
        if self._one(_READ, [self.pipeline]) != (*at(self.progress), self._writer):
            raise self._taken()

    def _taken(self) -> CdcError:
        return taken(self.pipeline, self.source, self._one(_READ, [self.pipeline]), self.progress, self._writer)

    def _run(self, statement: str, parameters: Any = None) -> int:
        with self.connection.cursor() as cursor:
            return int(cursor.execute(statement, parameters))

    def _one(self, statement: str, parameters: Any = None) -> tuple[Any, ...]:
        """The first row; an empty one where there is none."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return tuple(cursor.fetchone() or ())

    def close(self) -> None:
        close(self.connection)
        self._name.close()
