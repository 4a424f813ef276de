"""Whole source transactions into a database, exactly once: the loop that is the same for every engine.

In: runs of transactions in order, each with the place in the log behind them. Out: one target transaction for each
run, which moves the progress row and writes the net effect. Refuses: what the guard, the tables and the replay
refuse; after an error this target is done with, and the next one reads from the database where it stands.

A run is folded first. Where the target then meets a constraint, or another number of rows than was named, the
savepoint is rolled back and the same events go row by row in log order: folding is an optimisation, the log is what
is right (CORRECTNESS 26).
An engine whose DDL commits by itself has a transaction that changes tables alone in its run, between what it does
before and what it does after (`Writer.prepare`, `Writer.settle`).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, Protocol, Self

from cdc.errors import APPLY_FAILED, CdcError
from cdc.event import RowEvent, Table
from cdc.excerpt import WORDS, excerpt
from cdc.failpoint import failpoint
from cdc.log import Change, Chunk, End
from cdc.server import Endpoint
from sinks.cascades import Cascades, Derived
from sinks.fold import FoldConflict, Net, Step, Truncate, fold
from sinks.transaction import ChangeTransaction, Part, Progress, parts

ExistingRows = Literal["refuse", "truncate"]
PIECE_EVENTS = 20_000
PIECE_BYTES = 16 << 20
"""A streamed transaction is folded in pieces of this size, all in one target transaction."""


class Mismatch(Exception):  # noqa: N818 - no error to a user: it sends the caller the slow way
    """A statement met another number of rows than it named."""


class Hold(Protocol):
    """A connection to the target and, once `try_lock` has it, the right to write as this sink (CORRECTNESS 28)."""

    progress: Progress | None

    @property
    def server(self) -> Endpoint: ...
    @property
    def source(self) -> str: ...

    def try_lock(self) -> bool:
        """Take the name if no other process has it."""
        ...

    def holder(self) -> str:
        """Who has the name."""
        ...

    def take(self) -> Progress | None:
        """Become the writer; where the last one stopped. Makes the progress tables if they are not there."""
        ...

    def move(self, to: Progress) -> None:
        """The guard: the first statement of an apply, in its transaction."""
        ...

    def transaction(self) -> AbstractContextManager[object]:
        """One of the target; inside another one, a savepoint."""
        ...

    def errors(self) -> AbstractContextManager[object]:
        """What the driver raises inside comes out as a `CdcError`."""
        ...

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Writer(Protocol):
    """How an engine writes rows and changes tables, on the connection of a hold."""

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """What is wrong with the rows, not with the connection, the statement or our rights."""
        ...

    def exact(self, table: Table, schema_id: str, end: End) -> bool:
        """Whether every row of this table is there: it is not being copied. Its shape must be the one we have."""
        ...

    def write(self, net: Net, *, exact: bool) -> None:
        """Carry out the net effect; `Mismatch` where another number of rows is met."""
        ...

    def replay(self, event: RowEvent, table: Table, txn_seq: int, *, exact: bool) -> None:
        """One row."""
        ...

    def schemas(self) -> list[str]:
        """The shape that every table has now."""
        ...

    def derive(self, derived: Derived) -> int:
        """Carry out what a foreign key of the source did below its log; how many rows."""
        ...

    def truncate(self, names: Sequence[str], end: End) -> None: ...

    def turn(self, end: End, changes: Sequence[Change | Chunk]) -> None:
        """Carry out what holds at one point of a transaction."""
        ...

    def rolled_back(self) -> None:
        """Back at a savepoint: what was made and known since is gone."""
        ...

    def refused(self, progress: Progress, error: Exception) -> CdcError:
        """What only COMMIT met: no row of ours is to blame alone."""
        ...

    def alone(self, transaction: ChangeTransaction) -> bool:
        """Whether it must have a target transaction of its own, prepared and settled."""
        ...

    def prepare(self, transaction: ChangeTransaction) -> None:
        """Before its target transaction, and outside of it; once more if that is not reached."""
        ...

    def settle(self) -> None:
        """After its target transaction, and outside of it; by the next process if that is not reached."""
        ...


class Target:
    """Applies under a `Hold`. `shape_of` gives the shape behind a schema id; `at_work` is called behind each batch."""

    def __init__(
        self, hold: Hold, writer: Writer, shape_of: Callable[[str], Table], at_work: Callable[[], None]
    ) -> None:
        self._hold, self._writer, self._shape_of, self._at_work = hold, writer, shape_of, at_work
        self._refusals: tuple[type[Exception], ...] = writer.refusals
        self._slowly: tuple[type[Exception], ...] = (
            FoldConflict,
            Mismatch,
            KeyError,
            TypeError,
            ValueError,
            *self._refusals,
        )
        self._cascades: Cascades | None = None
        self.replayed = 0
        """Batches that went row by row."""
        self.derived = 0
        """Rows changed by foreign keys of the source, which its log does not hold."""

    def apply(self, transactions: Sequence[ChangeTransaction], progress: Progress) -> None:
        """All of these or none, unless one stands alone. Of transactions that are streamed there is one at a time."""
        runs = [list(run) for _, run in itertools.groupby(transactions, self._number_if_alone)]
        with self._hold.errors():
            for run in runs[:-1]:
                last = run[-1]
                self._commit(run, Progress.behind(last.end, last.log_offset, self._hold.progress))
            self._commit(runs[-1] if runs else [], progress)

    def _number_if_alone(self, transaction: ChangeTransaction) -> int | None:
        return transaction.log_offset if self._writer.alone(transaction) else None

    def _commit(self, run: Sequence[ChangeTransaction], progress: Progress) -> None:
        alone = bool(run) and self._writer.alone(run[0])
        if alone:
            self._writer.prepare(run[0])
        try:
            with self._hold.transaction():
                self._hold.move(progress)
                for batch in _batches(run):
                    self._carry_out(batch)
                    self._at_work()
                    failpoint("sink.after_rows")
                failpoint("sink.before_commit")
        except self._refusals as error:
            raise self._writer.refused(progress, error) from None
        failpoint("sink.after_commit")
        self._hold.progress = progress
        if alone:
            self._writer.settle()

    def _carry_out(self, batch: list[Part]) -> None:
        """Folded; if the target or the events object, row by row. Cascades need the rows as each event met them."""
        if self._cascading(batch):
            for part in batch:
                self._one_by_one(part)
            return
        try:
            with self._hold.transaction():
                for step in fold(batch, self._shape_of):
                    self._step(step, batch[-1].end)
        except self._slowly:
            self.replayed += 1
            self._writer.rolled_back()
            for part in batch:
                self._one_by_one(part)

    def _cascading(self, batch: list[Part]) -> bool:
        """Whether an event of it may have changed rows of other tables: also of tables that it brings itself."""
        items = [item for part in batch for item in part.items]
        brought = [item.new for item in items if isinstance(item, Change) and item.new]
        rules = (self._rules_of([*self._writer.schemas(), *brought]) if brought else self._rules()).rules
        return bool(rules) and any(
            isinstance(item, RowEvent)
            and (item.op in ("u", "d") or item.moved_from is not None)
            and item.table in rules
            for item in items
        )

    def _rules(self) -> Cascades:
        if self._cascades is None:
            self._cascades = self._rules_of(self._writer.schemas())
        return self._cascades

    def _rules_of(self, schemas: Iterable[str]) -> Cascades:
        return Cascades.of(map(self._shape_of, schemas))

    def _step(self, step: Step, end: End) -> None:
        if isinstance(step, Net):
            self._writer.write(step, exact=self._writer.exact(step.table, step.schema_id, end))
        elif isinstance(step, Truncate):
            self._writer.truncate(step.tables, end)
        else:
            self._writer.turn(step.end, step.changes)
            self._cascades = None

    def _one_by_one(self, part: Part) -> None:
        for what, items in itertools.groupby(part.items, _kind):
            group = list(items)
            if what == "t":
                self._writer.truncate([item.table for item in group], part.end)
            elif what == "turn":
                self._writer.turn(part.end, [item for item in group if not isinstance(item, RowEvent)])
                self._cascades = None
            elif what == "row":
                for event in group:
                    assert isinstance(event, RowEvent)
                    table = self._shape_of(event.schema_id)
                    exact = self._writer.exact(table, event.schema_id, part.end)
                    self._writer.replay(event, table, part.end.txn_seq, exact=exact)
                    self._derive(event, part.end.txn_seq)

    def _derive(self, event: RowEvent, txn_seq: int) -> None:
        try:
            for derived in self._rules().derived(event):
                self.derived += self._writer.derive(derived)
        except ValueError as error:
            raise CdcError(
                APPLY_FAILED, source=self._hold.source, table=event.table, position=None, txn_seq=txn_seq,
                op="what a foreign key did by", key="", problem=excerpt(str(error), WORDS),
            ) from None  # fmt: skip


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
