"""The base copy: every table under the slot's snapshot, published as numbered transactions (kind `snapshot`).

In: an open snapshot, tables, a publisher. Out: one schema transaction that voids what readers hold of the tables
(`copying`), then chunks, then a heartbeat END, which closes the copy. Refuses: nothing of its own.

Cut short, it begins again: the next run makes the slot anew and opens a copy with another id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cdc.event import Table
from cdc.failpoint import failpoint
from cdc.log import Change, Chunk
from cdc.publisher import Committed, Publisher
from cdc.rowevents import RunFacts
from cdc.shape import schema_id
from cdc.topics import row_topic
from cdc.upstream import Snapshot


class OnRows(Protocol):
    """Told after each chunk: how many rows of a table by now."""

    def __call__(self, table: str, rows: int, *, done: bool) -> None: ...


class Stopped(Exception):  # noqa: N818 - somebody asked for it
    """A stop that came in the middle of a copy, which the next run begins again."""


class Copy:
    """One base copy. `seq` is the last number given. `stop` is asked behind every chunk."""

    def __init__(
        self,
        publisher: Publisher,
        facts: RunFacts,
        snapshot: Snapshot,
        copy_id: str,
        seq: int,
        on_rows: OnRows,
        stop: Callable[[], bool],
    ) -> None:
        self._stop = stop
        self._publisher, self._facts, self._id, self._snapshot = publisher, facts, copy_id, snapshot
        self._position, self._on_rows = snapshot.position, on_rows
        self.seq = seq

    def open(self, tables: Sequence[Table]) -> None:
        """From here on the tables are COPYING."""
        self.seq += 1
        changes = tuple(Change(0, table.full_name, None, schema_id(table), "copying", self._id) for table in tables)
        self._publisher.commit(
            Committed("schema", f"copy:{self._id}:open", self.seq, self._position, 0, changes=changes)
        )
        self._marks = _Marks([table.full_name for table in tables])

    def table(self, table: Table) -> None:
        """All chunks of one table; an empty one has one chunk without events."""
        topic = row_topic(self._facts.source, table.schema, table.name)
        stream = self._snapshot.stream(table, schema_id(table), topic, self._facts)
        chunks = self._snapshot.rows(table)
        total = number = 0
        chunk: list[Any] | None = next(chunks, [])
        while chunk is not None:
            following = next(chunks, None)
            self.seq, number, total = self.seq + 1, number + 1, total + len(chunk)
            txn = stream.open(self.seq)
            for at, row in enumerate(chunk, 1):
                last = following is None and at == len(chunk)
                self._publisher.send(stream.read(txn, row, self._marks.next(table.full_name, last_of_table=last)))
            self._publisher.commit(
                Committed(
                    "snapshot",
                    f"copy:{self._id}:{table.full_name}:{number}",
                    self.seq,
                    self._position,
                    len(chunk),
                    ((table.full_name, len(chunk)),) if chunk else (),
                    copy=Chunk(self._id, table.full_name, number, None, None, str(self._position), following is None),
                )
            )
            self._publisher.poll()
            failpoint("source.in_copy")
            self._on_rows(table.full_name, total, done=following is None)
            if self._stop():
                raise Stopped
            chunk = following

    def close(self) -> None:
        """The END behind which a start goes on instead of copying again."""
        self._publisher.commit(Committed("heartbeat", f"heartbeat:{self._position}", self.seq, self._position, 0))
        self._publisher.flush()


class _Marks:
    """Debezium's words for a copied row's place: first of all, first or last of its table, last of all."""

    def __init__(self, tables: Sequence[str]) -> None:
        self._final = tables[-1]
        self._table: str | None = None

    def next(self, table: str, *, last_of_table: bool) -> str:
        first_of_all, first_of_table = self._table is None, table != self._table
        self._table = table
        if last_of_table:
            return "last" if table == self._final else "last_in_data_collection"
        return "first" if first_of_all else "first_in_data_collection" if first_of_table else "true"
