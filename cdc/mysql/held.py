"""A name that is held on a server for as long as this process lives and reaches it. I/O.

In: a server, a name of at most 64 characters. Out: whether it is ours. Refuses: to be relied on once its session was
lost (the server's error, transient): somebody else may have the name by then.

GET_LOCK lasts as long as its session, and a server that hears nothing of a vanished host keeps that for hours. So the
name has a session of its own, in which a thread says something every few seconds and which the server ends when nothing
came for a minute: by that a frozen process loses its name too, whatever the sessions that it works in wait for.
"""

from __future__ import annotations

import threading

import pymysql
from pymysql.connections import Connection

from cdc.errors import CdcError
from cdc.mysql.session import Server, close, cut

_SAYS_S, _SILENT_S = 10.0, 60


class HeldName:
    """Free until `try_take` has it; closing it gives it back."""

    def __init__(self, server: Server, name: str) -> None:
        self._server, self._name = server, name
        self._session: Connection = server.connect(settings={"wait_timeout": _SILENT_S})
        self._ended = threading.Event()
        self._lost: CdcError | None = None
        self._thread = threading.Thread(target=self._keep, name="held", daemon=True)
        self._busy = threading.Lock()
        self._thread.start()

    def try_take(self) -> bool:
        """If nobody else has it."""
        self.refuse_lost()
        with self._server.errors(), self._busy, self._session.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, 0)", [self._name])
            return bool(cursor.fetchone()[0])

    def refuse_lost(self) -> None:
        """Raises once it may be somebody else's."""
        if self._lost is not None:
            raise self._lost

    def _keep(self) -> None:
        try:
            while not self._ended.wait(_SAYS_S):
                with self._busy:
                    self._session.ping(reconnect=False)
        except Exception as error:  # noqa: BLE001 - a thread's outermost frame: whoever relies on the name is told
            problem = self._server.problem(error) if isinstance(error, pymysql.MySQLError) else repr(error)
            self._lost = self._server.unreachable(f"the session that holds its name is lost: {problem}")

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(0.5)
            # It waits for a server that does not answer.
            cut(self._session)
            self._thread.join()
        close(self._session)
