"""What a running section waits for, told where `cdc status` asks from any host: at the section's own database. I/O.

In: the section's server, who watches it, the error after which it tries again. Out: a lock there that says so, until
it goes on.
Refuses: nothing. Where its database itself is away nothing is told: whoever asks meets that too.
"""

from __future__ import annotations

from collections.abc import Callable

from cdc.closing import Closing
from cdc.engine import Server
from cdc.errors import SOURCE_UNREACHABLE, TARGET_UNREACHABLE, CdcError


class Waiting(Closing):
    """Of one process."""

    def __init__(self, server: Server, observer: Callable[[CdcError, float], None]) -> None:
        self._server, self._observer = server, observer
        self._told: Closing | None = None

    def retry(self, error: CdcError, wait_s: float) -> None:
        """Told to the observer, and at the database until `over` or the next one."""
        self._observer(error, wait_s)
        self.over()
        if not error.transient or error.code in (SOURCE_UNREACHABLE, TARGET_UNREACHABLE):
            return
        server, code = self._server, error.code.name
        try:
            if server.engine == "mysql":
                import cdc.mysql.waiting

                self._told = cdc.mysql.waiting.Wait(server, code)
            else:
                import cdc.postgres.waiting

                self._told = cdc.postgres.waiting.Wait(server, code)
        except CdcError:
            # What it waits for is in its log; that it cannot be told elsewhere must not end it.
            return

    def over(self) -> None:
        """It goes on."""
        if self._told is not None:
            self._told.close()
            self._told = None

    def close(self) -> None:
        self.over()
