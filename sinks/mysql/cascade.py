"""The SQL that does on MySQL what a foreign key of another MySQL did below its log. Pure.

In: a `Derived` change. Out: one statement, its values as literals.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc.mysql.dialect import Dialect
from cdc.mysql.names import quoted
from cdc.shape import schema_id
from sinks.cascades import Derived, Step
from sinks.fold import Values
from sinks.mysql.names import listed, name_of
from sinks.mysql.statements import Statements


def cascade(derived: Derived, home: str, dialect: Dialect) -> str:
    """`home`: the target's own database."""
    rule, last = derived.rule, derived.rule.path[-1]
    target = name_of(last.table, home)
    found = _reached(rule.path, _literals(rule.path[0], derived.old, home, dialect), home)
    if rule.action == "delete":
        return f"DELETE FROM {target} WHERE {found}"
    new = _literals(last, derived.new, home, dialect) if rule.action == "follow" else ["NULL"] * len(last.key.columns)
    sets = ", ".join(f"{quoted(name)} = {value}" for name, value in zip(last.key.columns, new, strict=True))
    return f"UPDATE {target} SET {sets} WHERE {found}"


def _reached(path: Sequence[Step], values: Sequence[str], home: str) -> str:
    """Rows of the last table of a path that hang on the parent's row, which has these values."""
    key = path[-1].key
    if len(path) == 1:
        return " AND ".join(f"{quoted(name)} = {value}" for name, value in zip(key.columns, values, strict=True))
    above = f"{name_of(path[-2].table, home)} WHERE {_reached(path[:-1], values, home)}"
    return f"({listed(key.columns)}) IN (SELECT {listed(key.referenced)} FROM {above})"


def _literals(step: Step, values: Values, home: str, dialect: Dialect) -> list[str]:
    """The parent's values as those of the key's own columns."""
    given = {name: values[of] for name, of in zip(step.key.columns, step.key.referenced, strict=True)}
    return Statements(step.table, schema_id(step.table), home, dialect).row(step.key.columns, given)
