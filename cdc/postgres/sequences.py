"""Sequences: sampled, because the log does not carry them. I/O.

In: a source's catalog. Out: the last value of every sequence that moved since the last look; the first look of a run
brings all that were called. Refuses: nothing. What cannot be read is told once, and the stream goes on without.

A sample must be taken after its heartbeat is committed: only then is it not behind what was committed before.
"""

from __future__ import annotations

from collections.abc import Callable

from cdc.errors import CdcError
from cdc.postgres.catalog import Catalog

# Whoever alters a sequence keeps it locked until he commits, and the stream waits for this answer: rows go first.
_PATIENCE = """
SELECT pg_catalog.set_config('lock_timeout', '200ms', true), pg_catalog.set_config('statement_timeout', '1s', true)
"""
_LAST_VALUES = """
SELECT s.name, s.readable, CASE WHEN s.readable THEN pg_catalog.pg_sequence_last_value(s.oid) END FROM (
  SELECT n.nspname || '.' || c.relname AS name, c.oid,
    pg_catalog.has_sequence_privilege(c.oid, 'SELECT, USAGE') AS readable
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'S' AND c.relpersistence = 'p' AND n.nspname <> 'cdc') s
"""


class SequenceSamples:
    """Of one run. `warn` is told what is lost."""

    def __init__(self, catalog: Catalog, warn: Callable[[str], None]) -> None:
        self._catalog, self._warn = catalog, warn
        self._known: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._told: set[str] = set()

    def look(self) -> None:
        """Keep what moved until `take`."""
        try:
            with self._catalog.server.errors(), self._catalog.connection.transaction():
                self._catalog.rows(_PATIENCE)
                rows = self._catalog.rows(_LAST_VALUES)
        except CdcError as error:
            self._tell("failed", f"sequences could not be sampled, and are sampled again later: {error.text}")
            return
        hidden = sorted(name for name, readable, _ in rows if not readable)
        if hidden:
            self._tell("hidden", f"the role may not read sequences, which a restore then sets by their base alone: "
                       f"{', '.join(hidden)}")  # fmt: skip
        now = {name: value for name, _, value in rows if value is not None}
        self._waiting |= {name: value for name, value in now.items() if self._known.get(name) != value}
        self._known = now

    def take(self) -> tuple[tuple[str, int], ...]:
        """What moved, once."""
        taken, self._waiting = tuple(self._waiting.items()), {}
        return taken

    def _tell(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._warn(text)
