"""The progress of one sink on its target: the lock, the row, and the guard that fences every apply.

In: a server and the name of a sink. Out: a connection that alone may write under this name, and the place where its
predecessor stopped. Refuses: a row that somebody else moved (PROGRESS_TAKEN).

An advisory lock of the session makes a second process wait (CORRECTNESS 28). Under the lock a process writes its
random writer id; from then on the first statement of each apply moves the row only from exactly where this writer
left it. One statement gives deduplication, gap detection and fencing.
"""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

from cdc.closing import Closing
from cdc.postgres.session import Server
from sinks.progress import at, refuse_other, taken
from sinks.transaction import Progress

PROGRESS_TABLES = """
CREATE TABLE IF NOT EXISTS cdc.cdc_progress (
  pipeline text PRIMARY KEY, source text, epoch bigint, txn_seq bigint, position text, run text, log_offset bigint,
  commit_ts_us bigint, writer text, updated_at timestamptz
);
CREATE TABLE IF NOT EXISTS cdc.cdc_table (
  pipeline text, source_table text, target_table text, schema_id text, state text, copy_id text,
  PRIMARY KEY (pipeline, source_table)
);
"""
"""What a sink keeps beside the rows; `state` is ready or copying."""

_EXISTING = "SELECT to_regclass('cdc.cdc_progress') IS NOT NULL AND to_regclass('cdc.cdc_table') IS NOT NULL"
_KEY = "hashtextextended('cdc sink ' || %s, 0)"
_HOLDER = f"""
SELECT format('%%s, connected from %%s since %%s', a.application_name, coalesce(host(a.client_addr), 'this host'),
              date_trunc('second', a.backend_start))
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = {_KEY}
"""  # noqa: S608 - put together from constants
_TAKE = """
INSERT INTO cdc.cdc_progress (pipeline, source, epoch, txn_seq, writer, updated_at)
VALUES (%(pipeline)s, %(source)s, 0, 0, %(writer)s, clock_timestamp())
ON CONFLICT (pipeline) DO UPDATE SET writer = EXCLUDED.writer, updated_at = EXCLUDED.updated_at
RETURNING source, epoch, txn_seq, run, position, log_offset, commit_ts_us
"""
_ADOPT = """
UPDATE cdc.{} SET pipeline = %(pipeline)s WHERE pipeline = 'restored:' || %(source)s
  AND NOT EXISTS (SELECT FROM cdc.cdc_progress p WHERE p.pipeline = %(pipeline)s)
"""
"""What a restore of the whole database left: the first sink of that source goes on from there."""
_MOVE = """
UPDATE cdc.cdc_progress SET epoch = %s, txn_seq = %s, run = %s, position = %s, log_offset = %s, commit_ts_us = %s,
  updated_at = clock_timestamp()
WHERE pipeline = %s AND writer = %s AND epoch = %s AND txn_seq = %s
"""
_READ = "SELECT epoch, txn_seq, writer FROM cdc.cdc_progress WHERE pipeline = %s"

_SETTINGS = {
    "lock_timeout": "30s",
    "statement_timeout": "0",
    # Beyond any wait for Kafka inside a streamed transaction; a frozen sink's transaction ends by it.
    "idle_in_transaction_session_timeout": "10min",
    "default_transaction_isolation": "read committed",
}


class Hold(Closing):
    """A connection to the target and, once `try_lock` has it, the right to write as this sink."""

    engine: ClassVar[Literal["postgresql"]] = "postgresql"

    def __init__(self, server: Server, pipeline: str, source: str) -> None:
        self.server, self.pipeline, self.source = server, pipeline, source
        self._writer = secrets.token_hex(8)
        self.connection = server.connect(settings=_SETTINGS)
        self.progress: Progress | None = None

    def errors(self) -> AbstractContextManager[None]:
        return self.server.errors()

    def transaction(self) -> AbstractContextManager[object]:
        return self.connection.transaction()

    def try_lock(self) -> bool:
        """Take the name if no other process has it."""
        with self.server.errors():
            (got,) = self._one(f"SELECT pg_try_advisory_lock({_KEY})", [self.pipeline])
        return bool(got)

    def holder(self) -> str:
        """Who has the name."""
        with self.server.errors():
            row = self.connection.execute(_HOLDER, [self.pipeline]).fetchone()
        return row[0] if row else "a process that has just left"

    def take(self) -> Progress | None:
        """Become the writer; where the last one stopped. Makes the progress tables if they are not there."""
        with self.server.errors(), self.connection.transaction():
            if not self._one(_EXISTING, [])[0]:
                self.connection.execute("CREATE SCHEMA IF NOT EXISTS cdc")
                self.connection.execute(PROGRESS_TABLES)
            facts = {"pipeline": self.pipeline, "source": self.source, "writer": self._writer}
            for table in ("cdc_table", "cdc_progress"):
                self.connection.execute(_ADOPT.format(table).encode(), facts)
            source, epoch, txn_seq, run, position, log_offset, commit_ts_us = self._one(_TAKE, facts)
        if log_offset is not None:
            self.progress = Progress(epoch, txn_seq, run, position, log_offset, commit_ts_us)
        refuse_other(self.pipeline, self.source, source)
        return self.progress

    def move(self, to: Progress) -> None:
        """The guard: the first statement of an apply, in its transaction."""
        where = [self.pipeline, self._writer, *at(self.progress)]
        moved = [to.epoch, to.txn_seq, to.run, to.position, to.log_offset, to.commit_ts_us]
        if self.connection.execute(_MOVE, [*moved, *where]).rowcount != 1:
            found = self.connection.execute(_READ, [self.pipeline]).fetchone() or ()
            raise taken(self.pipeline, self.source, found, self.progress, self._writer)

    def _one(self, statement: str, parameters: list[str] | dict[str, str]) -> tuple[Any, ...]:
        row = self.connection.execute(statement, parameters).fetchone()
        assert row is not None
        return row

    def close(self) -> None:
        self.connection.close()
