"""That a section's process waits, as its MySQL knows it: a named lock, in a session that does nothing else. I/O.

In: a server, what is waited for. Out: the lock, until it is closed; what a process is waiting for by such a lock.
Refuses: nothing by itself; a server's errors come as `CdcError`.
"""

from __future__ import annotations

from dataclasses import replace

from cdc.closing import Closing
from cdc.errors import PASSING
from cdc.mysql.catalog import Catalog, sink_lock_name
from cdc.mysql.held import HeldName
from cdc.mysql.session import Server


class Wait(Closing):
    """Told until it is closed."""

    def __init__(self, server: Server, code: str) -> None:
        self._held = HeldName(replace(server, purpose="waiting"), _name(server, code))
        try:
            self._held.try_take()
        except BaseException:
            self._held.close()
            raise

    def close(self) -> None:
        self._held.close()


def waiting_for(catalog: Catalog) -> str | None:
    """The code of the error that a process of this section waits to pass."""
    locks = ", ".join(["IS_USED_LOCK(%s)"] * len(PASSING))
    (holders,) = catalog.rows(f"SELECT {locks}", *(_name(catalog.server, code) for code in PASSING))
    return next((code for code, holder in zip(PASSING, holders, strict=True) if holder is not None), None)


def _name(server: Server, code: str) -> str:
    return sink_lock_name(server.name, server.database, f"{server.side.value} waits for {code}")
