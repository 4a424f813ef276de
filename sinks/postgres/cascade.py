"""The SQL that does on Postgres what a foreign key of MySQL did below its log. Pure.

In: a `Derived` change. Out: one statement and its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from sinks.across import target_columns
from sinks.cascades import Derived, Step
from sinks.fold import Values
from sinks.postgres.statements import Statement, Text, name_of, with_parameters


def cascade(derived: Derived) -> tuple[Statement, list[Text]]:
    """Parameters: new values, if any, then those of the parent's row."""
    rule, last = derived.rule, derived.rule.path[-1]
    parameters = _texts(rule.path[0], derived.old)
    if rule.action == "delete":
        change = sql.SQL("DELETE FROM {}").format(name_of(last.table))
    else:
        new = _texts(last, derived.new) if rule.action == "follow" else [None] * len(last.key.columns)
        sets = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in last.key.columns]
        change = sql.SQL("UPDATE {} SET {}").format(name_of(last.table), sql.SQL(", ").join(sets))
        parameters = [*new, *parameters]
    return with_parameters(sql.SQL("{} WHERE {}").format(change, _reached(rule.path))), parameters


def _reached(path: Sequence[Step]) -> sql.Composed:
    """Rows of the last table of a path that hang on the parent's row."""
    step = path[-1]
    own = [_compared(step, name, sql.Identifier(name)) for name in step.key.columns]
    if len(path) == 1:
        values = [_compared(step, name, sql.Placeholder()) for name in step.key.columns]
        return sql.SQL(" AND ").join([sql.SQL("{} = {}").format(*pair) for pair in zip(own, values, strict=True)])
    of_parent = zip(step.key.columns, step.key.referenced, strict=True)
    referenced = [_compared(step, name, sql.Identifier(of)) for name, of in of_parent]
    return sql.SQL("({}) IN (SELECT {} FROM {} WHERE {})").format(
        sql.SQL(", ").join(own), sql.SQL(", ").join(referenced), name_of(path[-2].table), _reached(path[:-1])
    )


def _compared(step: Step, name: str, value: sql.Composable) -> sql.Composable:
    """As MySQL compares texts of ASCII: by most collations without regard to case, by older ones to blanks behind."""
    (collation,) = (column.collation or "" for column in step.table.columns if column.name == name)
    if collation and not collation.endswith(("_bin", "_cs")):
        value = sql.SQL("lower({})").format(value)
    if collation and "_0900_" not in collation:
        value = sql.SQL("rtrim({}, ' ')").format(value)
    return value


def _texts(step: Step, values: Values) -> list[Text]:
    """The parent's values as those of the key's own columns."""
    columns = {column.name: column for column in target_columns(step.table, "postgresql")}
    given = zip(step.key.columns, step.key.referenced, strict=True)
    return [None if values[of] is None else columns[name].text(values[of]) for name, of in given]
