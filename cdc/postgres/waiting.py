"""That a section's process waits, as its Postgres knows it: an advisory lock, in a session that does nothing else. I/O.

In: a server, what is waited for. Out: the lock, until it is closed; what a process is waiting for by such a lock.
Refuses: nothing by itself; a server's errors come as `CdcError`.
"""

from __future__ import annotations

from dataclasses import replace

from cdc.closing import Closing
from cdc.errors import PASSING
from cdc.postgres.catalog import Catalog
from cdc.postgres.session import Server

_HELD = """
SELECT w.code FROM pg_catalog.unnest(%s::text[]) w (code) JOIN pg_catalog.pg_locks l
  ON (l.classid::bigint << 32 | l.objid::bigint) = pg_catalog.hashtextextended(%s || w.code, 0)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
"""


class Wait(Closing):
    """Told until it is closed."""

    def __init__(self, server: Server, code: str) -> None:
        self._catalog = Catalog(replace(server, purpose="waiting"))
        lock = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0))"
        self._catalog.rows(lock, _name(server) + code)

    def close(self) -> None:
        self._catalog.close()


def waiting_for(catalog: Catalog) -> str | None:
    """The code of the error that a process of this section waits to pass."""
    found = catalog.rows(_HELD, list(PASSING), _name(catalog.server))
    return str(found[0][0]) if found else None


def _name(server: Server) -> str:
    return f"cdc {server.side.value} {server.name} waits for "
