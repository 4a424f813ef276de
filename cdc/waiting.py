"""What a running section waits for, told where `cdc status` asks from any host: at the section's own database. I/O.

In: the section's server, the error after which it tries again. Out: a lock there that says so, until it goes on.
Refuses: nothing. Where its database itself is away nothing is told: whoever asks meets that too.
"""

from __future__ import annotations

from cdc.closing import Closing
from cdc.engine import Server
from cdc.errors import SOURCE_UNREACHABLE, TARGET_UNREACHABLE, CdcError


class Waiting(Closing):
    """Of one process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._told: Closing | None = None

    def tell(self, error: CdcError) -> None:
        """Until `over`, or the next one."""
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
