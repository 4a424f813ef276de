"""The objects around restored rows: of the base's schema where the target is of its engine, else out of shapes.

In: a plan, what is wanted of it, a target. Out: what rows need before them, what is made behind them; notes of all that
differs from the source. Refuses: what the target refuses.

A schema is older than the moment that is restored: what changed in between are columns, which are dropped and added
before the rows come. On another engine there are columns, keys and foreign keys; all else is named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pymysql.converters import escape_string

import sinks.mysql.restoring
import sinks.postgres.restoring
from cdc.errors import RESTORE_REFUSED, CdcError
from cdc.event import Column, Table
from cdc.mysql.names import quoted
from sinks.across import problems, target_columns
from sinks.archive.archive import Archive
from sinks.archive.dump import Dump, Entry
from sinks.archive.place import Place
from sinks.archive.plan import Plan, TablePlan
from sinks.mysql.tables import defined
from sinks.postgres.rehearsal import Gone

Target = sinks.postgres.restoring.RestoreTarget | sinks.mysql.restoring.RestoreTarget
Tables = Sequence[tuple[TablePlan, Place]]
_NEVER = {
    "postgresql": (
        "settings of the database (ALTER DATABASE); changes of the schema after the base, but for columns",
        "what cdc setup made at the source: publication, event triggers; schema cdc holds a sink's position instead",
    ),
    "mysql": ("changes of the schema after the base, but for columns",),
    "mariadb": ("changes of the schema after the base, but for columns",),
}


class Schema(Protocol):
    """`notes` grows as it goes."""

    notes: list[str]

    def before(self, tables: Tables) -> None:
        """Everything that rows need to be there first."""
        ...

    def after(self, tables: Tables) -> None:
        """Everything that is quicker, or only right, when the rows are there."""
        ...


def schema_of(archive: Archive, plan: Plan, target: Target, *, every: bool, schema: str | None) -> Schema:
    """`every`: of all tables, under their names; `schema`: they go there. A schema of MySQL names no database."""
    dump = archive.vouched_as(Dump, plan.base.schema_file) if every and plan.base is not None else None
    if dump is not None and dump.engine == target.engine:
        if isinstance(target, sinks.mysql.restoring.RestoreTarget):
            databases = {entry.schema for entry in dump.pre}
            if schema is None or len(databases) == 1:
                return _OfShowCreate(archive, plan, target, dump if schema is None else _in_database(dump, schema))
        elif schema is None:
            return _OfPgDump(archive, plan, target, dump)
    return _OfShapes(archive, plan, target, dump if schema is None else None)


def _in_database(dump: Dump, database: str) -> Dump:
    def moved(entry: Entry) -> Entry:
        if entry.type != "DATABASE":
            return replace(entry, schema=database)
        made = entry.sql.replace(quoted(entry.name), quoted(database), 1)
        return replace(entry, name=database, schema=database, sql=made)

    return dump.model_copy(update={"pre": tuple(map(moved, dump.pre)), "post": tuple(map(moved, dump.post))})


def _changed(archive: Archive, tables: Tables) -> list[tuple[Table, Table]]:
    """Shapes in the base and at the cut, of tables that have two."""
    return [(archive.shape(t.base_schema), t.shape) for t, _ in tables if t.base_schema not in (None, t.schema_id)]


def _lacking(plan: Plan) -> list[str]:
    """What no restore of this base has."""
    assert plan.base is not None
    later = [f"sequence {name} was made after the base, and is not restored" for name in plan.later_sequences]
    engine = next((t.shape.engine for t in plan.tables.values()), "postgresql")
    return [*later, *(f"not restored: {what}" for what in (*plan.base.not_covered, *_NEVER[engine]))]


# -- Postgres into Postgres -------------------------------------------------------------------------------------
class _OfPgDump:
    """pg_dump's statements."""

    def __init__(
        self, archive: Archive, plan: Plan, target: sinks.postgres.restoring.RestoreTarget, dump: Dump
    ) -> None:
        self._archive, self._plan, self._target, self._dump = archive, plan, target, dump
        self._gone: frozenset[int] = frozenset()
        self.notes: list[str] = []

    def before(self, tables: Tables) -> None:
        for entry in self._dump.pre:
            if entry.sql.startswith("COMMENT ON EXTENSION "):
                # An extension that somebody else made beforehand belongs to him.
                self._target.try_to_run(entry.sql)
                continue
            self._target.run(entry.sql, entry.type.lower(), entry.name)
        changed = _changed(self._archive, tables)
        if any({c.attnum for c in old.columns} - {c.attnum for c in new.columns} for old, new in changed):
            gone = self._rehearse(changed)
            self._gone = gone.statements
            self.notes += [f"gone with a column that the source dropped after the schema was dumped: {what}"
                           for what in gone.objects]  # fmt: skip
        for old, new in changed:
            self._target.reshape(old, new)
        self.notes += [f"changed since the schema was dumped: {change}" for change in self._plan.changes]

    def _rehearse(self, changed: Sequence[tuple[Table, Table]]) -> Gone:
        # An event trigger would act on the dropping.
        statements = [at for at, entry in enumerate(self._dump.post) if entry.type != "EVENT TRIGGER"]

        def drop() -> None:
            for old, new in changed:
                self._target.reshape(old, new)

        return self._target.rehearse(statements, self._make, drop)

    def _make(self, at: int) -> None:
        entry = self._dump.post[at]
        self._target.run(entry.sql, entry.type.lower(), entry.name)

    def after(self, tables: Tables) -> None:
        del tables
        for at in range(len(self._dump.post)):
            if at not in self._gone:
                self._make(at)
        for name, at_cut in self._plan.sequences.items():
            problem = self._target.set_sequence(name, at_cut.lowest, at_cut.highest)
            if problem:
                self.notes.append(problem)
        self._target.advance_sequences()
        self.notes += _lacking(self._plan)


# -- MySQL into MySQL -------------------------------------------------------------------------------------------
_ENABLED = re.compile(r"(ON COMPLETION (?:NOT )?PRESERVE) ENABLE")
_EXPRESSION = re.compile(r"\w*\(.*\)", re.DOTALL)
_BY_EXPRESSION = ("text", "blob", "json")


class _OfShowCreate:
    """The server's own statements."""

    def __init__(self, archive: Archive, plan: Plan, target: sinks.mysql.restoring.RestoreTarget, dump: Dump) -> None:
        self._archive, self._plan, self._target, self._dump = archive, plan, target, dump
        self.notes: list[str] = []

    def before(self, tables: Tables) -> None:
        made = [Place(entry.schema, entry.name) for entry in (*self._dump.pre, *self._dump.post)
                if entry.type in ("TABLE", "VIEW")]  # fmt: skip
        self._target.refuse_existing(made)
        self._target.refuse_existing_objects(self._dump.post)
        for entry in self._dump.pre:
            self._target.run(entry)
        known = {(place.schema, place.name) for place in made}
        for table, place in tables:
            if (place.schema, place.name) not in known:
                self._target.create(table.shape, place)
        for table, place in tables:
            if table.base_schema not in (None, table.schema_id):
                self._reshape(self._archive.shape(table.base_schema), table.shape, place)
        self.notes += [f"changed since the schema was written: {change}" for change in self._plan.changes]

    def _reshape(self, old: Table, new: Table, place: Place) -> None:
        """MySQL takes a dropped column out of its indexes, as it did at the source."""
        kept = {c.attnum for c in old.columns} & {c.attnum for c in new.columns}
        drops = [f"DROP COLUMN {quoted(c.name)}" for c in old.columns if c.attnum not in kept]
        adds, where = [], "FIRST"
        # As the server writes them: without a collation that is the table's.
        bare = [
            replace(c, charset=None, collation=None) if (c.charset, c.collation) == (new.charset, new.collation) else c
            for c in new.columns
        ]
        for column, there in zip(bare, target_columns(replace(new, columns=tuple(bare)), "mysql"), strict=True):
            if column.attnum not in kept:
                adds.append(f"ADD COLUMN {defined(column, there)}{self._default(new, column)} {where}")
            where = f"AFTER {quoted(column.name)}"
        for steps in filter(None, (drops, adds)):
            self._target.alter(place, steps)

    def _default(self, table: Table, column: Column) -> str:
        text = column.default
        if text is None:
            return ""
        if text.upper().startswith("CURRENT_TIMESTAMP") and column.type in ("datetime", "timestamp"):
            return f" DEFAULT {text}"
        if _EXPRESSION.fullmatch(text) or column.type in ("bit", "binary", "varbinary"):
            self.notes.append(f"column {table.full_name}.{column.name}: its default {text} is not restored")
            return ""
        literal = f"'{escape_string(text)}'"
        return f" DEFAULT ({literal})" if column.type.endswith(_BY_EXPRESSION) else f" DEFAULT {literal}"

    def after(self, tables: Tables) -> None:
        for table, place in tables:
            _go_on(self._plan, self._target, table, place)
        self._target.write_down([self._asleep(entry) for entry in self._dump.post])
        self.notes += self._of_rights()
        triggers = [entry.name for entry in self._dump.post if entry.type == "TRIGGER"]
        if triggers:
            self.notes.append(
                f"triggers {', '.join(triggers)} fire for rows that a sink brings too: drop them in a replica"
            )
        self.notes += _lacking(self._plan)

    def _asleep(self, entry: Entry) -> Entry:
        """An event that runs by itself might do again what is to be undone."""
        asleep = _ENABLED.sub(r"\1 DISABLE", entry.sql, count=1) if entry.type == "EVENT" else entry.sql
        if asleep != entry.sql:
            name = f"{quoted(entry.schema)}.{quoted(entry.name)}"
            self.notes.append(f"event {entry.schema}.{entry.name} is restored asleep: ALTER EVENT {name} ENABLE")
        return replace(entry, sql=asleep)

    def _of_rights(self) -> Iterator[str]:
        """In whose name the objects act: accounts are not restored."""
        by_definer: dict[str, list[str]] = {}
        for entry in self._dump.post:
            if entry.definer:
                what = f"{entry.type.lower()} {entry.schema}.{entry.name}"
                by_definer.setdefault(entry.definer, []).append(what)
        for definer, names in sorted(by_definer.items()):
            yield f"definer {definer}, who must be there: {', '.join(names)}"


def _go_on(plan: Plan, target: sinks.mysql.restoring.RestoreTarget, table: TablePlan, place: Place) -> None:
    """AUTO_INCREMENT as far as it may have come."""
    at_cut = plan.sequences.get(table.name)
    if at_cut is not None and table.shape.engine != "postgresql":
        target.set_next(place, at_cut.highest[0])


# -- out of shapes ----------------------------------------------------------------------------------------------
_OF_SHAPES = frozenset({"DATABASE", "SCHEMA", "TABLE", "CONSTRAINT", "FK CONSTRAINT", "TYPE", "SEQUENCE",
                        "SEQUENCE OWNED BY", "DEFAULT"})  # fmt: skip
"""What columns, keys and foreign keys are made of; the others are named one by one."""
_INDEX = re.compile(r"^  (?:FULLTEXT |SPATIAL )?KEY `((?:[^`]|``)*)`", re.MULTILINE)
_CHECK = re.compile(r"^  CONSTRAINT `((?:[^`]|``)*)` CHECK", re.MULTILINE)
_SHOWN = 20


class _OfShapes:
    """Columns, primary keys, unique constraints; of a whole database foreign keys too."""

    def __init__(self, archive: Archive, plan: Plan, target: Target, dump: Dump | None) -> None:
        self._archive, self._plan, self._target, self._dump = archive, plan, target, dump
        self.notes: list[str] = []

    def before(self, tables: Tables) -> None:
        unfit = [problem for table, _ in tables for problem in problems(table.shape, self._target.engine)]
        if unfit:
            raise CdcError(RESTORE_REFUSED, kind="table", object=unfit[0].partition(":")[0], problem="; ".join(unfit))
        across = any(table.shape.engine != self._target.engine for table, _ in tables)
        what = "columns, primary keys, unique constraints"
        self.notes.append(f"made from their shapes alone: {what}{', foreign keys' if self._dump else ''}")
        for table, place in tables:
            self._target.create(table.shape, place)
        if across:
            self.notes += [f"widened: {', '.join(columns)} of {place}" for table, place in tables
                           if (columns := _widened(table.shape, self._target))]  # fmt: skip

    def after(self, tables: Tables) -> None:
        for table, place in tables:
            self.notes += [f"not restored: {what}" for what in self._target.add_keys(table.shape, place)]
            if isinstance(self._target, sinks.mysql.restoring.RestoreTarget):
                _go_on(self._plan, self._target, table, place)
        if self._dump is not None:
            self._foreign_keys(tables)
            self.notes += [f"not restored: {what}" for what in _others(self._dump, tables)]
            self.notes += _lacking(self._plan)

    def _foreign_keys(self, tables: Tables) -> None:
        places: Mapping[str, Place] = {table.name: place for table, place in tables}
        for table, place in tables:
            for key in table.shape.foreign_keys:
                to = places.get(key.parent)
                problem = "its table is not there" if to is None else self._target.add_foreign_key(place, key, to)
                if problem:
                    self.notes.append(f"not restored: foreign key {key.name} of {place}: {problem}")


def _widened(table: Table, target: Target) -> list[str]:
    columns = zip(table.columns, target_columns(table, target.engine), strict=True)
    return [f"{c.name} ({c.type_expression} as {t.type})" for c, t in columns if t.fidelity != "exact"]


def _others(dump: Dump, tables: Tables) -> Iterator[str]:
    """By name, as many as anybody reads; the rest by number."""
    found = [(entry.type.lower(), entry.name) for entry in (*dump.pre, *dump.post) if entry.type not in _OF_SHAPES]
    restored = {(table.shape.schema, table.shape.name) for table, _ in tables}
    for entry in dump.pre:
        if dump.engine != "postgresql" and (entry.schema, entry.name) in restored:
            found += [("index", f"{name} of {entry.name}") for name in _INDEX.findall(entry.sql)]
            found += [("check", f"{name} of {entry.name}") for name in _CHECK.findall(entry.sql)]
    found += [
        ("default", f"of {table.shape.name}.{column.name}")
        for table, _ in tables
        for column in table.shape.columns
        if column.default is not None
    ]
    for kind, count in sorted(Counter(kind for kind, _ in found).items()):
        names = [name for of, name in found if of == kind]
        more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
        yield f"{kind} {', '.join(names[:_SHOWN])}{more}"
    yield "checks of single columns; that a column is generated or an identity: it is a plain one now"
