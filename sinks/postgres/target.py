"""Whole source transactions into a Postgres database, exactly once.

In: runs of transactions in order, each with the place in the log behind them. Out: one target transaction for each
run, which moves the progress row and writes the net effect. Refuses: what the guard, the tables and the replay
refuse; after an error this target is done with, and the next one reads from the database where it stands.

A run is folded first. Where the target then meets a constraint, or another number of rows than was named, the
savepoint is rolled back and the same events go row by row in log order: folding is an optimisation, the log is what
is right (CORRECTNESS 26).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence

import psycopg

from cdc.errors import APPLY_FAILED, CdcError
from cdc.event import RowEvent, Table
from cdc.failpoint import failpoint
from cdc.log import Change, Chunk, End
from sinks.fold import FoldConflict, Net, Step, Truncate, fold
from sinks.postgres.progress import Hold
from sinks.postgres.replay import REFUSALS, Replay
from sinks.postgres.rows import Mismatch, Rows
from sinks.postgres.tables import ExistingRows, Tables
from sinks.transaction import ChangeTransaction, Part, Progress, parts

PIECE_EVENTS = 20_000
PIECE_BYTES = 16 << 20
"""A streamed transaction is folded in pieces of this size, all in one target transaction."""
_SLOWLY = (FoldConflict, Mismatch, KeyError, TypeError, ValueError, *REFUSALS)


class Target:
    """Applies under a `Hold`. `shape_of` gives the shape behind a schema id."""

    def __init__(self, hold: Hold, shape_of: Callable[[str], Table], existing_rows: ExistingRows = "refuse") -> None:
        self._hold, self._shape_of = hold, shape_of
        self._connection, self._server = hold.connection, hold.server
        with self._server.errors():
            self._tables = Tables(self._connection, hold.pipeline, hold.source, shape_of, existing_rows)
        self._rows = Rows(self._connection)
        self._replay = Replay(self._server, self._connection, self._rows, hold.source)
        self.replayed = 0
        """Batches that went row by row."""

    def apply(self, transactions: Sequence[ChangeTransaction], progress: Progress) -> None:
        """All of these or none. Of transactions that are streamed there is one at a time."""
        with self._server.errors():
            try:
                with self._connection.transaction():
                    self._hold.move(progress)
                    for batch in _batches(transactions):
                        self._carry_out(batch)
                        failpoint("sink.after_rows")
                    failpoint("sink.before_commit")
            except REFUSALS as error:
                raise self._refused(progress, error) from None
        failpoint("sink.after_commit")
        self._hold.progress = progress

    def _carry_out(self, batch: list[Part]) -> None:
        """Folded; if the target or the events object, row by row."""
        try:
            with self._connection.transaction():
                for step in fold(batch, self._shape_of):
                    self._step(step, batch[-1].end)
        except _SLOWLY:
            self.replayed += 1
            self._rows.rolled_back()
            self._tables.load()
            for part in batch:
                self._one_by_one(part)

    def _step(self, step: Step, end: End) -> None:
        if isinstance(step, Net):
            self._rows.write(step, exact=self._tables.exact(step.table, step.schema_id, end))
        elif isinstance(step, Truncate):
            self._tables.truncate(step.tables, end)
        else:
            self._tables.turn(step.end, step.changes)

    def _one_by_one(self, part: Part) -> None:
        for what, items in itertools.groupby(part.items, _kind):
            group = list(items)
            if what == "t":
                self._tables.truncate([item.table for item in group], part.end)
            elif what == "turn":
                self._tables.turn(part.end, [item for item in group if not isinstance(item, RowEvent)])
            elif what == "row":
                for event in group:
                    assert isinstance(event, RowEvent)
                    table = self._shape_of(event.schema_id)
                    exact = self._tables.exact(table, event.schema_id, part.end)
                    self._replay.apply(event, table, part.end.txn_seq, exact=exact)

    def _refused(self, progress: Progress, error: psycopg.Error) -> CdcError:
        """What only COMMIT met, a deferred constraint: no row of ours is to blame alone."""
        facts = {"txn_seq": progress.txn_seq, "op": "commit", "key": ""}
        return CdcError(
            APPLY_FAILED,
            source=self._hold.source,
            table=error.diag.table_name,
            position=None,
            problem=self._server.problem(error),
            **facts,
        )


def _kind(item: RowEvent | Change | Chunk) -> str:
    if not isinstance(item, RowEvent):
        return "turn"
    return item.op if item.op in ("t", "m") else "row"


def _batches(transactions: Sequence[ChangeTransaction]) -> Iterator[list[Part]]:
    """What is folded at once: all of it, or one piece after the other of a transaction that is streamed."""
    if any(transaction.streamed for transaction in transactions):
        (transaction,) = transactions
        for part in parts(transaction, PIECE_EVENTS, PIECE_BYTES):
            yield [part]
    elif transactions:
        yield [part for transaction in transactions for part in parts(transaction, sys.maxsize, sys.maxsize)]
