"""When two shapes of a table hold the same rows. Pure; what counts of a column, its engine says.

In: shapes, and a function that gives what counts of a column at the target. Out: equality, and the difference in words.
"""

from __future__ import annotations

from collections.abc import Callable

from cdc.event import Column, Table

Form = tuple[object, ...]
ColumnForm = Callable[[Column], Form]


def form(table: Table, of: ColumnForm, attnums: set[int] | None = None) -> Form:
    """What must be equal for two shapes to hold the same rows; of these columns only, if they are given."""
    columns = tuple((c.attnum, c.name, *of(c)) for c in table.columns if attnums is None or c.attnum in attnums)
    return table.key, columns


def difference(before: Table, after: Table, of: ColumnForm) -> str:
    """The first thing that keeps these shapes from being one."""
    old, new = ({c.name: of(c) for c in t.columns} for t in (before, after))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if names:
        return f"columns {', '.join(names)}"
    return "its key" if before.key != after.key else "its columns were made anew"
