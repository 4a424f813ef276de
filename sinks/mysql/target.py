"""How a MySQL target is written: rows and replay in the transaction that is open, DDL around it.

In: what `sinks.target` asks a `Writer` for. DDL commits by itself, so a transaction that changes tables stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cdc.errors import APPLY_FAILED, CdcError
from cdc.event import RowEvent, Table
from cdc.log import Change, Chunk, End
from sinks.cascades import Derived
from sinks.fold import Net
from sinks.mysql.progress import Hold
from sinks.mysql.rows import Rows
from sinks.mysql.tables import Tables
from sinks.replay import RefusedRow, Replay
from sinks.target import ExistingRows
from sinks.transaction import ChangeTransaction, Progress


class Writer:
    """Writes on the connection of a `Hold`."""

    refusals = (RefusedRow,)

    def __init__(self, hold: Hold, shape_of: Callable[[str], Table], existing_rows: ExistingRows) -> None:
        self._hold = hold
        with hold.errors():
            self._tables = Tables(hold, shape_of, existing_rows)
            self._tables.refuse_triggers()
            self._tables.settle()
            self._rows = Rows(hold.connection, hold.home)
        self._replay = Replay(self._rows, hold.source)

    def exact(self, table: Table, schema_id: str, end: End) -> bool:
        return self._tables.exact(table, schema_id, end)

    def write(self, net: Net, *, exact: bool) -> None:
        self._rows.write(net, exact=exact)

    def replay(self, event: RowEvent, table: Table, txn_seq: int, *, exact: bool) -> None:
        self._replay.apply(event, table, txn_seq, exact=exact)

    def schemas(self) -> list[str]:
        return self._tables.schemas()

    def derive(self, derived: Derived) -> int:
        return self._rows.derive(derived)

    def truncate(self, names: Sequence[str], end: End) -> None:
        self._tables.truncate(names, end)

    def turn(self, end: End, changes: Sequence[Change | Chunk]) -> None:
        self._tables.turn(end, changes)

    def rolled_back(self) -> None:
        self._tables.rolled_back()

    def refused(self, progress: Progress, error: Exception) -> CdcError:
        """MySQL checks nothing at COMMIT; what comes here was met outside of any row."""
        facts = {"txn_seq": progress.txn_seq, "op": "commit", "key": ""}
        return CdcError(APPLY_FAILED, source=self._hold.source, table=None, problem=str(error), **facts)

    def alone(self, transaction: ChangeTransaction) -> bool:
        return bool(transaction.changes)

    def prepare(self, transaction: ChangeTransaction) -> None:
        self._tables.prepare(transaction.end)

    def settle(self) -> None:
        self._tables.settle()
