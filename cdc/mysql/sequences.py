"""AUTO_INCREMENT of tables: sampled, because the log does not carry it. I/O.

In: a source's catalog. Out: the next number of every table that moved since the last look, by the table's name; the
first look of a run brings all. Refuses: nothing.

A sample must be taken after its heartbeat is committed: only then is it not behind what was committed before.
"""

from __future__ import annotations

from cdc.mysql.catalog import Catalog


class AutoIncrements:
    """Of one run."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def look(self) -> None:
        """Keep what moved until `take`."""
        now = self._catalog.auto_increments()
        self._waiting |= {name: value for name, value in now.items() if self._known.get(name) != value}
        self._known = now

    def take(self) -> tuple[tuple[str, int], ...]:
        """What moved, once."""
        taken, self._waiting = tuple(self._waiting.items()), {}
        return taken
