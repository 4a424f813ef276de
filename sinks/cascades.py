"""What MySQL's foreign keys do below its log: which rows of other tables a change of one row changes too. Pure.

In: the shapes of all tables. Out: for each parent table the rules to carry out when one of its rows is deleted or moves
(CORRECTNESS 14), the deepest first. Refuses: nothing; keys that lead back to their own table, and those whose effect
would go on through another key's columns, the source refuses at its start (`cdc.mysql.startup`).

A rule is a path of foreign keys from the parent down. All but the last one delete what they reach; the last one
deletes, or sets its columns to NULL or to the parent's new values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cdc.event import ForeignKey, RowEvent, Table
from sinks.fold import Values

Action = Literal["delete", "null", "follow"]
_ACTIONS: Mapping[str, Action] = {"CASCADE": "follow", "SET NULL": "null"}


@dataclass(frozen=True, slots=True)
class Step:
    """A table and the key by which its rows hang on the table before."""

    table: Table
    key: ForeignKey


@dataclass(frozen=True, slots=True)
class Rule:
    """`path` begins at a child of the parent. `on_delete`: when the parent's row goes; else when its values change."""

    path: tuple[Step, ...]
    action: Action
    on_delete: bool

    @property
    def referenced(self) -> tuple[str, ...]:
        """Columns of the parent by which its children are found."""
        return self.path[0].key.referenced


@dataclass(frozen=True, slots=True)
class Derived:
    """What one event makes necessary: rows found by `old`, which `new` replaces where the rule follows."""

    rule: Rule
    old: Values
    new: Values


@dataclass(slots=True)
class Cascades:
    """The rules of some tables, by parent."""

    rules: dict[str, list[Rule]] = field(default_factory=dict)
    _leaving: RowEvent | None = None
    """The first half of a moved key: it alone has the old values."""

    @classmethod
    def of(cls, tables: Iterable[Table]) -> Cascades:
        found = cls()
        children = _children(tables)
        for parent in children:
            rules = [*_deleting(parent, children, ()), *_moving(children[parent])]
            if rules:
                found.rules[parent] = sorted(rules, key=lambda rule: -len(rule.path))
        return found

    def derived(self, event: RowEvent) -> list[Derived]:
        """Empty for nearly every event."""
        rules = self.rules.get(event.table)
        if not rules:
            return []
        leaving, self._leaving = self._leaving, event if event.moved_to is not None else None
        if event.op == "d" and event.moved_to is None:
            before = event.before or {}
            return [Derived(rule, _of(event, before, rule), {}) for rule in rules if rule.on_delete]
        if event.op == "u" or event.moved_from is not None:
            if event.moved_from is None:
                return list(self._moved(event, event, rules))
            if leaving is None or leaving.moved_to is None:
                raise ValueError("the event that it moved away from did not come before it")
            return list(self._moved(event, leaving, rules))
        return []

    def _moved(self, event: RowEvent, old: RowEvent, rules: Sequence[Rule]) -> Iterator[Derived]:
        """`old`: the event with the image before."""
        was_there, new = old.before or {}, event.after or {}
        for rule in rules:
            if rule.on_delete or all(name in event.unchanged for name in rule.referenced):
                continue
            was = _of(old, was_there, rule)
            if any(was[name] != new.get(name) for name in rule.referenced):
                yield Derived(rule, was, {name: new[name] for name in rule.referenced})


def _of(event: RowEvent, image: Values, rule: Rule) -> dict[str, object]:
    absent = [name for name in rule.referenced if name not in image or name in event.before_absent]
    if absent:
        raise ValueError(f"the event lacks {', '.join(absent)}, by which foreign key {rule.path[0].key.name} refers")
    return {name: image[name] for name in rule.referenced}


def _children(tables: Iterable[Table]) -> dict[str, list[Step]]:
    children: dict[str, list[Step]] = {}
    for table in tables:
        for key in table.foreign_keys if table.engine != "postgresql" else ():
            children.setdefault(key.parent, []).append(Step(table, key))
    return children


def _deleting(parent: str, children: Mapping[str, list[Step]], path: tuple[Step, ...]) -> Iterator[Rule]:
    for step in children.get(parent, ()):
        action = _ACTIONS.get(step.key.on_delete)
        if action == "null":
            yield Rule((*path, step), "null", on_delete=True)
        elif action == "follow":
            yield Rule((*path, step), "delete", on_delete=True)
            yield from _deleting(step.table.full_name, children, (*path, step))


def _moving(steps: Sequence[Step]) -> Iterator[Rule]:
    for step in steps:
        action = _ACTIONS.get(step.key.on_update)
        if action:
            yield Rule((step,), action, on_delete=False)
