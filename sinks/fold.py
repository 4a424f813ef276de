"""A run of transactions → its net effect per row. Pure; what writes the result decides how.

In: pieces of transactions in order, and the shape behind each schema id. Out: steps in order: `Net` per
table, with barriers between them (`Truncate`, `Turn` for schema changes or the end of a base copy).
Refuses: a sequence that no database can have produced (`FoldConflict`: an insert of a key that is there, a
change of one that is not): the caller applies the same events row by row, where the target says what is
wrong.

A keyed row is unknown so far, or void, or known by the key it has in the target before this run (`base`;
None if the run inserted it) and the columns set since. So an insert is a row without base, an update one
whose base is its own key, a move one whose base is another key, and a delete a base that no row goes on
from. A column that the log did not carry keeps the earlier value of the run, else the one in the target.
Rows of a table without a key are counted as whole rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import orjson

from cdc.event import RowEvent, Table
from cdc.log import Change, Chunk, End
from cdc.types import is_array
from sinks.transaction import Part

Key = Any
"""The value of the key column; a tuple of them if the key has several columns."""
Values = Mapping[str, Any]
Group = list[tuple[Key, Values]]


class FoldConflict(Exception):  # noqa: N818 - no error to a user: it sends the caller the slow way
    """The events contradict each other."""


@dataclass(slots=True)
class Net:
    """The net effect on one table. `moves` and `updates` are grouped by the columns they set, with base keys.

    To be carried out in this order: deletes, moves, updates, inserts. A keyless table has only `removed`
    (whole rows, how many copies) and `inserts`.
    """

    table: Table
    schema_id: str
    deletes: list[Key] = field(default_factory=list)
    moves: dict[tuple[str, ...], Group] = field(default_factory=dict)
    updates: dict[tuple[str, ...], Group] = field(default_factory=dict)
    inserts: list[Values] = field(default_factory=list)
    removed: list[tuple[Values, int]] = field(default_factory=list)


@dataclass(slots=True)
class Truncate:
    """Tables that one statement emptied."""

    tables: list[str]


@dataclass(slots=True)
class Turn:
    """A point where tables change their shape or their state; what holds at one point stays together."""

    end: End
    changes: list[Change | Chunk]


Step = Net | Truncate | Turn
_NO_ROWS = frozenset({"t", "m"})


def fold(parts: Iterable[Part], table_of: Callable[[str], Table]) -> Iterator[Step]:
    """The steps of these pieces, in order. Nothing of a piece is held once its step is out."""
    rows: dict[str, _Keyed | _Keyless] = {}
    barrier: Truncate | Turn | None = None
    for part in parts:
        for item in part.items:
            if isinstance(item, RowEvent) and item.op not in _NO_ROWS:
                if barrier is not None:
                    yield barrier
                    barrier = None
                table = rows.get(item.table)
                if table is not None and table.schema_id != item.schema_id:
                    yield from _flush(rows)
                    table = None
                if table is None:
                    table = rows[item.table] = _rows_of(table_of(item.schema_id), item.schema_id)
                table.add(item)
            elif not isinstance(item, RowEvent) or item.op == "t":
                yield from _flush(rows)
                joined = _joined(barrier, part.end, item)
                if barrier is not None and joined is not barrier:
                    yield barrier
                barrier = joined
    yield from _flush(rows)
    if barrier is not None:
        yield barrier


def _flush(rows: dict[str, _Keyed | _Keyless]) -> Iterator[Net]:
    for table in rows.values():
        yield table.net()
    rows.clear()


def _joined(barrier: Truncate | Turn | None, end: End, item: RowEvent | Change | Chunk) -> Truncate | Turn:
    """The barrier with the item in it: the given one if they belong together, else a new one."""
    if isinstance(item, RowEvent):
        if isinstance(barrier, Truncate):
            barrier.tables.append(item.table)
            return barrier
        return Truncate([item.table])
    if isinstance(barrier, Turn) and barrier.end is end:
        barrier.changes.append(item)
        return barrier
    return Turn(end, [item])


def _rows_of(table: Table, schema_id: str) -> _Keyed | _Keyless:
    return _Keyless(table, schema_id) if table.keyless else _Keyed(table, schema_id)


def key_of(table: Table) -> Callable[[Values], Key]:
    """The function from a row, or a key object, to its key."""
    arrays = any(is_array(column.type) for column in table.columns if column.name in table.key)
    get: Callable[[Values], Key] = itemgetter(*table.key)
    if not arrays:
        return get
    return lambda values: _hashable(get(values))


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, list | tuple) else value


def key_values(table: Table, key: Key) -> Sequence[Any]:
    """The values of the key columns, in key order."""
    return (key,) if len(table.key) == 1 else key


def carried(event: RowEvent) -> Values:
    """The columns of `after` that the log carried."""
    after = event.after or {}
    if not event.unchanged:
        return after
    return {name: value for name, value in after.items() if name not in event.unchanged}


def new_key(event: RowEvent, table: Table, key: Callable[[Values], Key]) -> Key:
    """The key a row has after the event. A long key column may be unchanged: then the old key has it."""
    after = event.after or {}
    if not event.unchanged or not any(name in event.unchanged for name in table.key):
        return key(after)
    old = event.moved_from or event.before or {}
    return key({name: (old if name in event.unchanged else after)[name] for name in table.key})


_Row = tuple[Key | None, Values]
_VOID: _Row = (None, {})


class _Keyed:
    """Rows of a table with a key."""

    __slots__ = ("_gone", "_key", "_rows", "schema_id", "table")

    def __init__(self, table: Table, schema_id: str) -> None:
        self.table, self.schema_id = table, schema_id
        self._key = key_of(table)
        self._rows: dict[Key, _Row] = {}
        self._gone: list[Key] = []

    def add(self, event: RowEvent) -> None:
        op = event.op
        if op == "u":
            self._update(event)
        elif op == "d":
            # The delete half of a moved key says nothing that its other half does not say.
            if event.moved_to is None:
                self._delete(event)
        elif event.moved_from is None:
            self._insert(event)
        else:
            self._move(event, self._key(event.moved_from))

    def _insert(self, event: RowEvent) -> None:
        values = carried(event)
        key = self._key(values)
        if self._rows.get(key, _VOID) is not _VOID:
            raise FoldConflict
        self._rows[key] = None, values

    def _update(self, event: RowEvent) -> None:
        values = carried(event)
        key = self._key(values) if not event.unchanged else new_key(event, self.table, self._key)
        row = self._rows.get(key)
        if row is None:
            self._rows[key] = key, values
        elif row is _VOID:
            raise FoldConflict
        else:
            self._rows[key] = row[0], {**row[1], **values} if event.unchanged else values

    def _delete(self, event: RowEvent) -> None:
        key = self._key(event.before or {})
        row = self._rows.get(key)
        if row is _VOID:
            raise FoldConflict
        base = key if row is None else row[0]
        if base is not None:
            self._gone.append(base)
        self._rows[key] = _VOID

    def _move(self, event: RowEvent, old: Key) -> None:
        key = new_key(event, self.table, self._key)
        row = self._rows.get(old, (old, {}))
        if row is _VOID or self._rows.get(key, _VOID) is not _VOID:
            raise FoldConflict
        self._rows[old] = _VOID
        self._rows[key] = row[0], {**row[1], **carried(event)}

    def net(self) -> Net:
        net = Net(self.table, self.schema_id, deletes=self._gone)
        for key, row in self._rows.items():
            base, values = row
            if row is _VOID:
                continue
            if base is None:
                net.inserts.append(values)
                continue
            groups = net.updates if base == key else net.moves
            columns = tuple(values)
            group = groups.get(columns)
            if group is None:
                group = groups[columns] = []
            group.append((base, values))
        return net


class _Keyless:
    """Rows of a table without a key: how many more or fewer copies of each there are."""

    __slots__ = ("_rows", "schema_id", "table")

    def __init__(self, table: Table, schema_id: str) -> None:
        self.table, self.schema_id = table, schema_id
        self._rows: dict[bytes, tuple[Values, int]] = {}

    def add(self, event: RowEvent) -> None:
        if event.before is not None:
            if event.before_absent:
                raise FoldConflict
            self._count(event.before, -1)
        if event.after is not None:
            self._count({**(event.before or {}), **carried(event)}, 1)

    def _count(self, values: Values, change: int) -> None:
        # As bytes a row tells -0.0 from 0.0 and an array can be looked up.
        row = orjson.dumps(values)
        _, count = self._rows.get(row, (values, 0))
        self._rows[row] = values, count + change

    def net(self) -> Net:
        net = Net(self.table, self.schema_id)
        for values, count in self._rows.values():
            if count < 0:
                net.removed.append((values, -count))
            else:
                net.inserts += [values] * count
        return net
