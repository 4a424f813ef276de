"""Records of a transaction whose rows its log may still take back. Pure.

In: records as they are decoded, the savepoints and the ROLLBACKs of the log. Out: records when nothing can take them
back any more, or when there are too many to keep. Refuses (`UndoneError`): to undo what went out, and a savepoint that
cannot be told.

MySQL logs what was committed. MariaDB writes ROLLBACK, and ROLLBACK TO a savepoint, behind the rows that they undo, in
any transaction that also makes or drops a temporary table or changes a table without transactions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cdc.mysql.events import MySqlTransaction
from cdc.rowevents import Record

HELD_BYTES = 4 << 20
"""Of MariaDB's log: of a larger transaction the first part is published before its end, and cannot be undone."""
_QUOTES = '`"'


class UndoneError(Exception):
    """What is undone, and why it cannot be followed."""


@dataclass(slots=True)
class _Mark:
    """A savepoint: what stood before it."""

    name: str
    records: int
    ordinal: int
    counts: dict[str, int]


class Held:
    """Of one transaction at a time."""

    def __init__(self) -> None:
        self._limit = 0
        self._records: list[Record] = []
        self._marks: list[_Mark] = []
        self._bytes = self._out = 0

    def begin(self, limit: int) -> None:
        """`limit`: bytes of the log whose records are kept; 0: none, they go out at once."""
        self._limit = limit
        self._records, self._marks, self._bytes, self._out = [], [], 0, 0

    def put(self, txn: MySqlTransaction, records: list[Record], size: int) -> Iterable[list[Record]]:
        """What goes out now. The transaction counts these already."""
        if not self._limit:
            self._out = txn.ordinal
            return (records,)
        self._records += records
        self._bytes += size
        if self._bytes <= self._limit:
            return ()
        self._out = txn.ordinal
        return self.take()

    def take(self) -> Iterable[list[Record]]:
        """All that is kept."""
        records, self._records, self._bytes = self._records, [], 0
        for mark in self._marks:
            mark.records = 0
        return (records,) if records else ()

    def heed(self, text: str, txn: MySqlTransaction) -> None:
        """A statement of the log: SAVEPOINT, ROLLBACK TO one, or ROLLBACK."""
        if text == "ROLLBACK":
            self.undo(txn)
        elif text.startswith("SAVEPOINT "):
            self.mark(text.removeprefix("SAVEPOINT "), txn)
        else:
            self.undo_to(text.removeprefix("ROLLBACK TO "), txn)

    def mark(self, name: str, txn: MySqlTransaction) -> None:
        """SAVEPOINT `name`, as the log has it."""
        self._marks.append(_Mark(_plain(name), len(self._records), txn.ordinal, dict(txn.counts)))

    def undo_to(self, name: str, txn: MySqlTransaction) -> None:
        """ROLLBACK TO `name`.

        The log has savepoints of triggers and functions among the others, and says nothing of RELEASE: of two that have
        one name and stand at different places, the one that is meant cannot be told.
        """
        wanted = _plain(name)
        at = [number for number, mark in enumerate(self._marks) if mark.name == wanted]
        if not at or not all(mark.name.isascii() for mark in self._marks):
            raise UndoneError(f"rows are undone by ROLLBACK TO {name}, a savepoint that cannot be told")
        found = self._marks[at[-1]]
        if any(self._marks[number].ordinal != found.ordinal for number in at):
            raise UndoneError(f"rows are undone by ROLLBACK TO {name}, and more than one savepoint has that name")
        self._cut(found, txn)
        del self._marks[at[-1] + 1 :]

    def undo(self, txn: MySqlTransaction) -> None:
        """ROLLBACK, which ends the transaction."""
        self._cut(_Mark("", 0, 0, {}), txn)

    def _cut(self, to: _Mark, txn: MySqlTransaction) -> None:
        if to.ordinal < self._out:
            raise UndoneError("rows are undone by ROLLBACK that were published already")
        del self._records[to.records :]
        txn.ordinal, txn.counts = to.ordinal, dict(to.counts)


def _plain(name: str) -> str:
    """Savepoints are named without regard to case, and quoted as the session's settings have it."""
    quote = name[:1]
    if len(name) > 1 and quote in _QUOTES and name.endswith(quote):
        name = name[1:-1].replace(quote * 2, quote)
    return name.casefold()
