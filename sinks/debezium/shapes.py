"""The shapes of a replica's tables, from what Debezium's records describe, and their changes. Pure.

In: rows in the order in which they are applied; what the target has. Out: for each row its event under the table's
shape, and the change that it brings. Refuses: nothing; a table that does not fit is the target's matter.

Debezium describes columns by what their values mean, not by the source's types: lengths, collations and much else are
not told. So a table that is there keeps its types, one that is not is made with Postgres' type for each form, and
values go as the server's text, which it reads strictly. A repeated record may be of an earlier form than what was
applied: columns are added to a table, never dropped, and one that a record does not describe keeps its value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from cdc.event import Column, RowEvent, Table
from cdc.log import Change
from sinks.debezium.rows import Row

COPY_ID = "debezium"
"""A table stays in this copy: rows may come again at any time, so what is met is not counted."""
AtTarget = Callable[[str, str], Table | None]
"""Schema and table as the target has them, None if it has no such table."""


class Shapes:
    """`known` are those of the tables that the sink has brought, by name, each with its id."""

    def __init__(self, known: Mapping[str, tuple[str, Table]], at_target: AtTarget) -> None:
        self._at_target = at_target
        self._now = dict(known)
        self.by_id = dict(known.values())

    def known(self, table: str) -> bool:
        return table in self._now

    def change(self, row: Row, at: int) -> Change | None:
        """What has to change before this row; it holds from then on."""
        known = self._now.get(row.table)
        if known is None:
            new = self._first(row)
            self._learn(new)
            return Change(at, row.table, None, self._now[row.table][0], "copying", COPY_ID)
        old_id, old = known
        there = {column.name for column in old.columns}
        added = [name for name in row.columns if name not in there]
        if not added:
            return None
        attnum = max(column.attnum for column in old.columns)
        columns = [_column(name, row.columns[name], attnum + at) for at, name in enumerate(added, 1)]
        self._learn(replace(old, columns=(*old.columns, *columns)))
        return Change(at, row.table, old_id, self._now[row.table][0], "add_column")

    def event(self, row: Row, ordinal: int, other: Row | None) -> RowEvent:
        """Under the shape that holds. `other` is the second half of a row that goes on under another key."""
        schema_id, table = self._now[row.table]
        if row.op == "t":
            return RowEvent(row.table, "t", ordinal, schema_id, None, None)
        if row.op == "d":
            return RowEvent(row.table, "d", ordinal, schema_id, row.key, None, moved_to=other.key if other else None)
        sent = row.after or {}
        unchanged: tuple[str, ...] = ()
        if row.op == "u" or other or row.moved:
            unchanged = (*row.unchanged, *(c.name for c in table.columns if c.name not in sent))
        after = {c.name: None if c.name in unchanged else sent.get(c.name) for c in table.columns}
        moved_from = other.key if other else None
        return RowEvent(row.table, row.op, ordinal, schema_id, None, after, unchanged, moved_from=moved_from)

    def _first(self, row: Row) -> Table:
        schema, _, name = row.table.partition(".")
        there = self._at_target(schema, name)
        types = {column.name: column for column in there.columns} if there else {}
        columns = [
            replace(found, attnum=at) if (found := types.get(name)) else _column(name, of, at, key=name in row.key)
            for at, (name, of) in enumerate(row.columns.items(), 1)
        ]
        return Table(schema, name, 0, tuple(columns), tuple(row.key), "d", tuple(row.key))

    def _learn(self, table: Table) -> None:
        self._now[table.full_name] = found = shape_id(table), table
        self.by_id[found[0]] = table


def shape_id(table: Table) -> str:
    """By names alone: the types are the target's."""
    told = repr((table.full_name, table.key, [column.name for column in table.columns]))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def text_column(name: str, type_expression: str, attnum: int, *, not_null: bool) -> Column:
    """Of this type on the target, its values as that server's text."""
    return Column(name, "text", type_expression, 0, -1, attnum, not_null)


def _column(name: str, type_expression: str, attnum: int, *, key: bool = False) -> Column:
    return text_column(name, type_expression, attnum, not_null=key)
