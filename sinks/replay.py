"""Events one by one in log order: the slow way, taken when a folded batch met a constraint or a contradiction.

In: a `RowEvent` of the transaction whose number is given. Out: its row on the target. Refuses: a statement that
meets another number of rows than one (ROW_DIVERGED) or that the target does not take (APPLY_FAILED), with table, key
and transaction. In a table that is being copied a missing row is nothing, and a row that is there is replaced
(CORRECTNESS 22).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from cdc.errors import APPLY_FAILED, ROW_DIVERGED, CdcError, Code
from cdc.event import RowEvent, Table
from cdc.excerpt import WORDS, excerpt
from sinks.across import UnfitError
from sinks.fold import Key, Values, carried, key_of, new_key

_WORDS = {"c": "insert", "r": "insert", "u": "update", "d": "delete"}


class RefusedRow(Exception):  # noqa: N818 - the replay says which row, and makes it an error of the catalogue
    """The target does not take a row as it is."""


class OneRow(Protocol):
    """An engine's statements for a row, on its connection: each says how many rows it met, or `RefusedRow`."""

    def of(self, table: Table, schema_id: str) -> Any:
        """The statements of this shape, which the others are given as `sql`."""
        ...

    def insert_one(self, sql: Any, values: Values) -> int: ...

    def replace_one(self, sql: Any, key: Key, values: Values) -> int:
        """Insert, whether a row with this key is there or not."""
        ...

    def update_one(self, sql: Any, columns: tuple[str, ...], values: Values, key: Key) -> int: ...
    def delete_one(self, sql: Any, key: Key) -> int: ...

    def removes(self, sql: Any, copies: Sequence[tuple[Values, int]]) -> int:
        """Remove so many copies of each of these rows of a keyless table."""
        ...


class Replay:
    """Applies single events, in whatever transaction is open on the connection of `rows`."""

    def __init__(self, rows: OneRow, source: str) -> None:
        self._rows, self._source = rows, source

    def apply(self, event: RowEvent, table: Table, txn_seq: int, *, exact: bool) -> None:
        """One row. Not `exact`: the table is being copied."""
        try:
            found = self._apply(event, table, exact=exact)
        except (RefusedRow, UnfitError) as error:
            raise self._stop(APPLY_FAILED, event, table, txn_seq, problem=excerpt(str(error), WORDS)) from None
        except (KeyError, TypeError, ValueError) as error:
            problem = f"the event does not have the table's form: {error!r}"
            raise self._stop(APPLY_FAILED, event, table, txn_seq, problem=problem) from None
        if found != 1 and exact:
            raise self._stop(ROW_DIVERGED, event, table, txn_seq, found=found)

    def _stop(self, code: Code, event: RowEvent, table: Table, txn_seq: int, **facts: object) -> CdcError:
        facts |= {"txn_seq": txn_seq, "op": _WORDS[event.op], "key": _named(event, table)}
        return CdcError(code, source=self._source, table=table.full_name, position=None, **facts)

    def _apply(self, event: RowEvent, table: Table, *, exact: bool) -> int:
        sql, rows = self._rows.of(table, event.schema_id), self._rows
        if table.keyless:
            return self._keyless(event, sql)
        key = key_of(table)
        if event.op == "d":
            # A moved key is carried out by its other half.
            return 1 if event.moved_to else rows.delete_one(sql, key(event.before or {}))
        if event.op == "u":
            return self._update(sql, event, new_key(event, table, key), moved=False)
        if event.moved_from is not None:
            return self._update(sql, event, key(event.moved_from), moved=True)
        after = event.after or {}
        return rows.insert_one(sql, after) if exact else rows.replace_one(sql, key(after), after)

    def _update(self, sql: Any, event: RowEvent, key: Key, *, moved: bool) -> int:
        values = carried(event)
        columns = tuple(values) if moved else sql.without_key(tuple(values))
        return self._rows.update_one(sql, columns, values, key) if columns else 1

    def _keyless(self, event: RowEvent, sql: Any) -> int:
        if event.before is not None:
            found = self._rows.removes(sql, [(event.before, 1)])
            if found != 1:
                return found
        if event.after is None:
            return 1
        return self._rows.insert_one(sql, {**(event.before or {}), **carried(event)})


def _named(event: RowEvent, table: Table) -> str:
    """The row's key as JSON, for a message; the whole row where there is no key."""
    image = event.moved_from or event.before or event.after or {}
    named = {name: image.get(name) for name in table.key} if table.key else image
    shown = {name: excerpt(value) if isinstance(value, str) else value for name, value in named.items()}
    return excerpt(orjson.dumps(shown).decode(), WORDS)
