"""Rows read ahead of whoever asks for them: a thread for each session, tables one after the other.

In: sessions that show the same, tables in the order in which they will be asked for; they take turns. Out: the chunks
of one table, then of the next. Refuses: nothing of its own; what goes wrong in any session is raised to whoever asks
next, whichever table he asks for.

A session holds one chunk and fills another, so memory does not grow with tables or sessions' lead. Left early, nothing
more is read: sockets are shut, which ends every wait for the server, and no thread outlives `close`.

What it brings depends on what one waits for. Rows are taken apart by Python, one thread at a time: where that is the
work, as on a fast link, sessions bring nothing. They do where the server needs long for a table's first row, or a link
gives each connection its share: by what each has ahead, which is much of a small table and little of a large one, whose
rows come through one session.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from pymysql.connections import Connection

from cdc.closing import Closing
from cdc.event import Table
from cdc.mysql.session import cut
from cdc.rowevents import Row

Chunks = Callable[[Connection, Table], Generator[list[Row], None, None]]


class ReadAhead(Closing):
    """Reads as soon as it is made. Its sessions belong to it until it is closed."""

    def __init__(self, chunks: Chunks, sessions: Sequence[Connection], tables: Sequence[Table]) -> None:
        self._read_chunks, self._sessions = chunks, sessions
        self._tables = deque(table.full_name for table in tables)
        self._held: dict[str, deque[list[Row] | None]] = {}
        self._changed = threading.Condition()
        self._failed: BaseException | None = None
        self._closing = False
        self._threads = []
        for at, session in enumerate(sessions):
            own, held = tables[at :: len(sessions)], deque[list[Row] | None]()
            self._held |= {table.full_name: held for table in own}
            thread = threading.Thread(target=self._read, args=(session, own, held), name=f"copy {at}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def chunks(self, table: Table) -> Iterator[list[Row]]:
        """Of the table whose turn it is; nothing for an empty one."""
        name = table.full_name
        assert self._tables[0] == name, f"{name} is asked for, {self._tables[0]} is next"
        while (chunk := self._take(self._held[name])) is not None:
            yield chunk
        self._tables.popleft()

    def _take(self, held: deque[list[Row] | None]) -> list[Row] | None:
        with self._changed:
            self._changed.wait_for(lambda: held or self._failed)
            if self._failed:
                raise self._failed
            self._changed.notify_all()
            return held.popleft()

    # -- in the threads -----------------------------------------------------------------------------------------
    def _read(self, session: Connection, tables: Sequence[Table], held: deque[list[Row] | None]) -> None:
        try:
            for table in tables:
                with closing(self._read_chunks(session, table)) as chunks:
                    for chunk in chunks:
                        if not self._hold(held, chunk):
                            return
                with self._changed:
                    held.append(None)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - a thread's outermost frame: the loop raises it
            with self._changed:
                self._failed = self._failed or error
                self._changed.notify_all()

    def _hold(self, held: deque[list[Row] | None], chunk: list[Row]) -> bool:
        """Once the one before is taken; False if nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: not held or self._closing)
            held.append(chunk)
            self._changed.notify_all()
            return not self._closing

    # -- the end ------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Sessions whose tables were all read can be used again; others are done with."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._tables:
            for session in self._sessions:
                cut(session)
        for thread in self._threads:
            thread.join()
