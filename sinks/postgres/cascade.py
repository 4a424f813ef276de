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
    key = path[-1].key
    if len(path) == 1:
        return sql.SQL(" AND ").join([sql.SQL("{} = %s").format(sql.Identifier(name)) for name in key.columns])
    columns, referenced = (sql.SQL(", ").join(map(sql.Identifier, of)) for of in (key.columns, key.referenced))
    above = sql.SQL("SELECT {} FROM {} WHERE {}").format(referenced, name_of(path[-2].table), _reached(path[:-1]))
    return sql.SQL("({}) IN ({})").format(columns, above)


def _texts(step: Step, values: Values) -> list[Text]:
    """The parent's values as those of the key's own columns."""
    columns = {column.name: column for column in target_columns(step.table, "postgresql")}
    given = zip(step.key.columns, step.key.referenced, strict=True)
    return [None if values[of] is None else columns[name].text(values[of]) for name, of in given]
