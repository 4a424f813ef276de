"""Events one by one in log order: the slow way, taken when a folded batch met a constraint or a contradiction.

In: a `RowEvent` of the transaction whose number is given. Out: its row on the target. Refuses: a statement that
meets another number of rows than one (ROW_DIVERGED) or that the target does not take (APPLY_FAILED), with table, key
and transaction. In a table that is being copied a missing row is nothing, and a row that is there is replaced
(CORRECTNESS 22).
"""

from __future__ import annotations

import orjson

from cdc.errors import APPLY_FAILED, ROW_DIVERGED, CdcError, Code
from cdc.event import RowEvent, Table
from sinks.across import UnfitError
from sinks.fold import Key, carried, key_of, new_key
from sinks.mysql.rows import RefusedRow, Rows
from sinks.mysql.statements import Statements

_WORDS = {"c": "insert", "r": "insert", "u": "update", "d": "delete"}


class Replay:
    """Applies single events on the connection of `rows`, in whatever transaction is open there."""

    def __init__(self, rows: Rows, source: str) -> None:
        self._rows, self._source = rows, source

    def apply(self, event: RowEvent, table: Table, txn_seq: int, *, exact: bool) -> None:
        """One row. Not `exact`: the table is being copied."""
        try:
            found = self._apply(event, table, exact=exact)
        except (RefusedRow, UnfitError) as error:
            raise self._stop(APPLY_FAILED, event, table, txn_seq, problem=str(error)) from None
        except (KeyError, TypeError, ValueError) as error:
            problem = f"the event does not have the table's form: {error!r}"
            raise self._stop(APPLY_FAILED, event, table, txn_seq, problem=problem) from None
        if found != 1 and exact:
            raise self._stop(ROW_DIVERGED, event, table, txn_seq, found=found)

    def _stop(self, code: Code, event: RowEvent, table: Table, txn_seq: int, **facts: object) -> CdcError:
        facts |= {"txn_seq": txn_seq, "op": _WORDS[event.op], "key": _named(event, table)}
        return CdcError(code, source=self._source, table=table.full_name, position=None, **facts)

    def _apply(self, event: RowEvent, table: Table, *, exact: bool) -> int:
        sql = self._rows.of(table, event.schema_id)
        if table.keyless:
            return self._keyless(event, sql)
        key = key_of(table)
        if event.op == "d":
            # A moved key is carried out by its other half.
            return 1 if event.moved_to else self._rows.run(sql.delete_one(key(event.before or {})))
        if event.op == "u":
            return self._update(sql, event, new_key(event, table, key), moved=False)
        if event.moved_from is not None:
            return self._update(sql, event, key(event.moved_from), moved=True)
        after = event.after or {}
        if not exact:
            self._rows.run(sql.delete_one(key(after)))
        return self._rows.inserts(sql, [after])

    def _update(self, sql: Statements, event: RowEvent, key: Key, *, moved: bool) -> int:
        values = carried(event)
        columns = tuple(values) if moved else sql.without_key(tuple(values))
        return self._rows.run(sql.update_one(columns, values, key)) if columns else 1

    def _keyless(self, event: RowEvent, sql: Statements) -> int:
        if event.before is not None:
            found = self._rows.removes(sql, [(event.before, 1)])
            if found != 1:
                return found
        if event.after is None:
            return 1
        return self._rows.inserts(sql, [{**(event.before or {}), **carried(event)}])


def _named(event: RowEvent, table: Table) -> str:
    """The row's key as JSON, for a message; the whole row where there is no key."""
    image = event.moved_from or event.before or event.after or {}
    named = {name: image.get(name) for name in table.key} if table.key else dict(image)
    return orjson.dumps(named).decode()
