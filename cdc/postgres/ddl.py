"""What a schema change means for readers: two shapes of a table → effects, or a reason to stop. Pure.

In: the shape that the log holds and the new one, as the event trigger sent it. Out: the effects that readers carry
out, each with the shape that holds after it; none where the change does not concern them (defaults, unique and
foreign keys, comments). Refuses: every other change, by `UnfollowableError` with a word for it.

A column is the same column if its attnum is: names and places say nothing after a DROP and an ADD.
"""

from __future__ import annotations

import re
from dataclasses import replace

from cdc.event import Column, Table
from cdc.postgres.wire import Relation

_NULL = re.compile(r"NULL(::[\w .\"\[\](),]+)?", re.IGNORECASE)
"""A default as the server writes it: NULL, or NULL of a type."""
_FULL = "f"


class UnfollowableError(Exception):
    """A change that the stream cannot carry yet; the text says which."""


def effects(old: Table, new: Table, *, rewritten: bool = False) -> list[tuple[str, Table]]:
    """The steps from `old` to `new`: `drop_column`, then `add_column`. `rewritten`: each row got an added value."""
    _same_table(old, new)
    before = {column.attnum: column for column in old.columns}
    after = {column.attnum: column for column in new.columns}
    for attnum in before.keys() & after.keys():
        _same_column(before[attnum], after[attnum])
    dropped = before.keys() - after.keys()
    added = after.keys() - before.keys()
    for attnum in added:
        _addable(after[attnum], rewritten=rewritten)
    steps: list[tuple[str, Table]] = []
    if dropped:
        kept = _without(old, frozenset(dropped))
        steps.append(("drop_column", kept if added else replace(kept, unique=new.unique)))
    if added:
        steps.append(("add_column", new))
    return steps


def _without(table: Table, dropped: frozenset[int]) -> Table:
    """The shape that is left; under REPLICA IDENTITY FULL all that is left identifies a row."""
    columns = tuple(column for column in table.columns if column.attnum not in dropped)
    names = frozenset(column.name for column in columns)
    identity = tuple(name for name in table.identity_columns if name in names or table.replica_identity != _FULL)
    return replace(table, columns=columns, identity_columns=identity)


def _same_table(old: Table, new: Table) -> None:
    if new.oid != old.oid:
        raise UnfollowableError("it was dropped and made again")
    if (new.schema, new.name) != (old.schema, old.name):
        raise UnfollowableError(f"it was renamed to {new.full_name}")
    if new.primary_key != old.primary_key:
        raise UnfollowableError(
            f"its primary key is ({', '.join(new.primary_key)}), was ({', '.join(old.primary_key)})"
        )
    # FULL is all columns, those too that come and go.
    same_columns = new.replica_identity == _FULL or new.identity_columns == old.identity_columns
    if new.replica_identity != old.replica_identity or not same_columns:
        raise UnfollowableError("its replica identity changed")


def _same_column(old: Column, new: Column) -> None:
    if new.name != old.name:
        raise UnfollowableError(f"column {old.name} was renamed to {new.name}")
    if (new.type_oid, new.typmod) != (old.type_oid, old.typmod):
        raise UnfollowableError(f"column {old.name} is {new.type_expression}, was {old.type_expression}")
    if new.enum_values != old.enum_values:
        raise UnfollowableError(f"the labels of {old.type_expression} (column {old.name}) changed")
    if old.not_null and not new.not_null:
        raise UnfollowableError(f"column {old.name} is no longer NOT NULL")


def _addable(column: Column, *, rewritten: bool) -> None:
    """A default that is one value for all rows travels as `missing`; any other was computed row by row.

    The default itself may be gone again by the end of the command; that the table was rewritten stays true.
    """
    computed = column.default is not None and not _NULL.fullmatch(column.default)
    if column.auto_increment or ((computed or rewritten) and column.missing is None):
        raise UnfollowableError(f"column {column.name} was added with a value of its own in every row")


def relation_difference(table: Table, relation: Relation) -> str | None:
    """Where the stream's description of a table differs from its shape; None if it does not."""
    if relation.oid != table.oid:
        return f"its oid is {relation.oid}, was {table.oid}"
    if relation.replica_identity != table.replica_identity:
        return f"its replica identity is {relation.replica_identity}, was {table.replica_identity}"
    now = [(c.name, c.type_oid, c.typmod) for c in relation.columns]
    was = [(c.name, c.type_oid, c.typmod) for c in table.columns]
    if now != was:
        names_now, names_was = [c.name for c in relation.columns], [c.name for c in table.columns]
        if names_now != names_was:
            return f"its columns are ({', '.join(names_now)}), were ({', '.join(names_was)})"
        changed = ", ".join(n[0] for n, w in zip(now, was, strict=True) if n != w)
        return f"the type of {changed} changed"
    return None
