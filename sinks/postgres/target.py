"""How a Postgres target is written: rows, replay and tables, all in whatever transaction is open.

In: what `sinks.target` asks a `Writer` for. Its DDL is transactional, so nothing stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg

from cdc.errors import APPLY_FAILED, CdcError
from cdc.event import RowEvent, Table
from cdc.log import Change, Chunk, End
from sinks.cascades import Derived
from sinks.fold import Net
from sinks.postgres.progress import Hold
from sinks.postgres.rows import REFUSALS, Rows
from sinks.postgres.tables import Tables
from sinks.replay import RefusedRow, Replay
from sinks.target import ExistingRows
from sinks.transaction import ChangeTransaction, Progress


class Writer:
    """Writes on the connection of a `Hold`."""

    refusals = (RefusedRow, *REFUSALS)

    def __init__(self, hold: Hold, shape_of: Callable[[str], Table], existing_rows: ExistingRows) -> None:
        self._hold = hold
        with hold.errors():
            self._tables = Tables(hold.connection, hold.pipeline, hold.source, shape_of, existing_rows)
        self._rows = Rows(hold.server, hold.connection)
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
        self._rows.rolled_back()
        self._tables.load()

    def refused(self, progress: Progress, error: Exception) -> CdcError:
        """What only COMMIT met, a deferred constraint."""
        assert isinstance(error, psycopg.Error)
        facts = {"txn_seq": progress.txn_seq, "op": "commit", "key": ""}
        return CdcError(
            APPLY_FAILED,
            source=self._hold.source,
            table=error.diag.table_name,
            position=None,
            problem=self._hold.server.problem(error),
            **facts,
        )

    def alone(self, transaction: ChangeTransaction) -> bool:  # noqa: ARG002
        return False

    def prepare(self, transaction: ChangeTransaction) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        raise NotImplementedError
