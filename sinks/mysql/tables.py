"""The target's tables: made from shapes, checked against them, changed with them; state and shape of each.

In: schema changes and ends of base copies. Out: the DDL, and the rows of `cdc_table`.
Refuses: existing tables that do not fit, all of them at once (TARGET_MISMATCH); triggers on them (TARGET_TRIGGERS), at
a start and with each change; rows that no sink of this name brought (TARGET_NOT_EMPTY); a change that is not followed
yet (SCHEMA_CHANGE_UNSUPPORTED).

DDL commits by itself in MySQL, so it cannot be part of the transaction that the progress moves in. What adds room goes
before (`prepare`), what takes it away after (`settle`), and a row of `cdc_table` says which, so that a process that is
killed between any two of these steps leaves to the next one a table it can tell from a stranger's: `prepare` finds its
own columns there already, `settle` is done by whoever comes. Each ALTER is one statement, which InnoDB makes whole or
not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cdc.errors import SCHEMA_CHANGE_UNSUPPORTED, TARGET_MISMATCH, TARGET_NOT_EMPTY, TARGET_TRIGGERS, CdcError
from cdc.event import Column, Table
from cdc.failpoint import failpoint
from cdc.log import Change, Chunk, End
from cdc.mysql.names import quoted
from sinks.across import TargetColumn, UnfitError, target_columns
from sinks.forms import Form, difference, form
from sinks.mysql.existing import columns_of, exists, has_primary_key, misfits, triggers_on
from sinks.mysql.known import Intent, Known, keep, load, places
from sinks.mysql.names import Place, at, database_of, listed, name_of, place_of
from sinks.mysql.progress import Hold
from sinks.mysql.statements import literal_of
from sinks.target import ExistingRows

_READY, _COPYING = "ready", "copying"
_STRING = r"'(?:[^'\\]|''|\\.)*'"
_TYPE = re.compile(
    rf"[a-z]+[46]?(?: precision)?(?:\((?:\d+(?:,\s*\d+)?|{_STRING}(?:,\s*{_STRING})*)\))?(?: unsigned)?(?: zerofill)?"
    r"(?: CHARACTER SET \w+)?(?: COLLATE \w+)?",
    re.DOTALL,
)
"""All that may stand as a type in a statement: the words are a source server's."""
_FOLLOWED = ("copying", "add_column", "drop_column")


class Tables:
    """The tables of one sink, on its hold's connection."""

    def __init__(self, hold: Hold, shape_of: Callable[[str], Table], existing_rows: ExistingRows) -> None:
        self._hold, self._connection, self._home = hold, hold.connection, hold.home
        self._engine = hold.dialect.engine
        self._shape_of, self._existing_rows = shape_of, existing_rows
        self._known = load(hold)

    def rolled_back(self) -> None:
        self._known = load(self._hold)

    def schemas(self) -> list[str]:
        """The shape that every table has now."""
        return [known.schema_id for known in self._known.values()]

    def exact(self, table: Table, schema_id: str, end: End) -> bool:
        """Whether every row of this table is there: it is not being copied. Its shape must be the one we have."""
        known = self._known.get(table.full_name)
        if known is None:
            raise self._unsupported(table.full_name, end, "no base copy has brought it")
        if known.schema_id != schema_id:
            before = self._shape_of(known.schema_id)
            if form(before, _column_form) != form(table, _column_form):
                raise self._unsupported(table.full_name, end, difference(before, table, _column_form))
            self._save(table, schema_id, known.state, known.copy_id, known.intent)
        return known.state == _READY

    def truncate(self, names: Sequence[str], end: End) -> None:
        """As DELETE: TRUNCATE would commit."""
        for name in names:
            if name not in self._known:
                raise self._unsupported(name, end, "no base copy has brought it")
            self._run(f"DELETE FROM {self._name(self._shape_of(self._known[name].schema_id))}")

    # -- in the transaction --
    def turn(self, end: End, changes: Sequence[Change | Chunk]) -> None:
        """What holds at one point of a transaction. The tables themselves are prepared for it."""
        for change in changes:
            if isinstance(change, Chunk):
                self._close_copy(change)
            elif change.effect == "copying":
                self._save(self._shape_of(change.new or ""), change.new or "", _COPYING, change.copy_id, None)
            else:
                self._turn(change, end)

    def _close_copy(self, chunk: Chunk) -> None:
        known = self._known.get(chunk.table)
        if known is not None and known.copy_id == chunk.id:
            self._save(self._shape_of(known.schema_id), known.schema_id, _READY, None, known.intent)

    def _turn(self, change: Change, end: End) -> None:
        before, known = self._before(change, end), self._known[change.table]
        after = self._shape_of(change.new or "")
        now = known.intent or Intent(place_of(after, self._home), change.new or "")
        old, new = ({c.attnum: c.name for c in t.columns} for t in (before, after))
        gone, came = ([these[n] for n in these.keys() - those] for these, those in ((old, new), (new, old)))
        names = set(new.values())
        drop = tuple(name for name in (*now.drop, *gone) if name not in names)
        intent = replace(now, drop=drop, defaults=tuple(name for name in (*now.defaults, *came) if name in names))
        self._save(after, change.new or "", known.state, known.copy_id, intent)

    def _before(self, change: Change, end: End) -> Table:
        """The shape that a change starts from, if it is one that is followed."""
        known = self._known.get(change.table)
        if known is None or change.old is None or change.new is None:
            raise self._unsupported(change.table, end, "no base copy has brought it")
        before = self._shape_of(known.schema_id)
        if form(before, _column_form) != form(self._shape_of(change.old), _column_form):
            raise self._unsupported(change.table, end, "it is not in the form that the change starts from")
        return before

    def refuse_triggers(self, besides: Sequence[Table] = ()) -> None:
        """On tables of ours: MySQL has no session without them, and what they did at the source is in the log."""
        names = {*places(self._hold), *(".".join(place_of(table, self._home)) for table in besides)}
        found = triggers_on(self._connection, names)
        if found:
            raise CdcError(
                TARGET_TRIGGERS,
                source=self._hold.source,
                triggers=", ".join(f"{name} on {table}" for table, (_, name) in found),
                statements=" ".join(f"DROP TRIGGER {at(trigger)};" for _, trigger in found),
            )

    # -- before the transaction --
    def prepare(self, end: End) -> None:
        """Room for what a transaction changes. Once more after a kill, it finds what it did."""
        self._hold.check()
        for change in end.changes:
            if change.effect not in _FOLLOWED:
                raise self._unsupported(change.table, end, change.effect.replace("_", " "))
        self.refuse_triggers([self._shape_of(change.new) for change in end.changes if change.new])
        if copied := [change for change in end.changes if change.effect == "copying"]:
            self._open_copy(copied)
        altered = [change for change in end.changes if change.effect != "copying"]
        for name in dict.fromkeys(change.table for change in altered):
            try:
                self._make_room([change for change in altered if change.table == name], end)
            except UnfitError as error:
                raise self._unsupported(name, end, f"the value of rows that were there: {error}") from None

    def _make_room(self, changes: Sequence[Change], end: End) -> None:
        """All that one transaction does to one table's columns."""
        before = self._before(changes[0], end)
        shapes = [before]
        for change in changes:
            after, last = self._shape_of(change.new or ""), shapes[-1]
            kept = {column.attnum for column in last.columns} & {column.attnum for column in after.columns}
            if form(last, _column_form, kept) != form(after, _column_form, kept):
                raise self._unsupported(change.table, end, difference(last, after, _column_form))
            shapes.append(after)
        self._refuse_types(shapes)
        to = changes[-1].new or ""
        old, new = ({column.attnum: column for column in t.columns} for t in (before, shapes[-1]))
        every = {column.attnum: (column, shape) for shape in shapes for column in shape.columns}
        added = {n: found for n, found in every.items() if n not in old}
        gone = [column for n, (column, _) in every.items() if n not in new]
        one_name_each = len({column.name for column, _ in every.values()}) == len(every)
        if not end.event_count:
            # Without rows in the transaction, nothing needs a column that is gone at its end.
            drop, add = self._dropping(gone, old), self._adding([f for n, f in added.items() if n in new])
            if one_name_each:
                self._alter_once(before, to, drop + add)
            else:
                # Whether a column of this name is the old one or the new one, only a step of its own can tell.
                if self._intended(before) != to:
                    self._alter_once(before, f"{to} drop", drop)
                self._alter_once(before, to, add)
        elif one_name_each:
            types = {
                c.name: t.type_sql for c, t in zip(before.columns, target_columns(before, self._engine), strict=True)
            }
            optional = [c for c in gone if c.not_null and c.attnum in old]
            loosen = [(f"MODIFY COLUMN {quoted(c.name)} {types[c.name]} NULL", None) for c in optional]
            self._alter_once(before, to, [*self._adding(added.values()), *loosen])
        else:
            raise self._unsupported(before.full_name, end, "a column takes another's name between changes of rows")

    def _intended(self, table: Table) -> str | None:
        intent = self._known[table.full_name].intent
        return None if intent is None else intent.to

    def _dropping(self, gone: Iterable[Column], old: dict[int, Column]) -> list[_Step]:
        return [(f"DROP COLUMN {quoted(c.name)}", (c.name, False)) for c in gone if c.attnum in old]

    def _adding(self, added: Iterable[tuple[Column, Table]]) -> list[_Step]:
        steps: list[_Step] = []
        for column, shape in added:
            target = next(t for t in target_columns(shape, self._engine) if t.name == column.name)
            default = ""
            if column.missing is not None:
                literal = literal_of(target)(target.from_source(column.missing))
                default = f" DEFAULT {f'({literal})' if target.type in _DEFAULT_BY_EXPRESSION else literal}"
            steps.append((f"ADD COLUMN {defined(column, target)}{default}", (column.name, True)))
        return steps

    def _alter_once(self, table: Table, to: str, steps: Sequence[_Step]) -> None:
        """What is there already is ours if we meant to do it; without our intent the server refuses it by name."""
        known, there = self._known[table.full_name], columns_of(self._connection, place_of(table, self._home))
        if self._intended(table) == to:
            steps = [(sql, what) for sql, what in steps if what is None or (what[0] in there) != what[1]]
        else:
            self._save(table, known.schema_id, known.state, known.copy_id, Intent(place_of(table, self._home), to))
        failpoint("sink.after_intent")
        if steps:
            self._run(f"ALTER TABLE {self._name(table)} {', '.join(sql for sql, _ in steps)}")
        failpoint("sink.after_ddl")

    # -- after the transaction --
    def settle(self) -> None:
        """What the committed changes left: columns that are gone, and defaults that only old rows needed."""
        for name, known in list(self._known.items()):
            intent = known.intent
            if intent is None or not (intent.drop or intent.defaults):
                continue
            there = columns_of(self._connection, intent.place)
            steps = [f"DROP COLUMN {quoted(c)}" for c in intent.drop if c in there]
            steps += [
                f"ALTER COLUMN {quoted(c)} DROP DEFAULT" for c in intent.defaults if c in there and there[c].has_default
            ]
            if steps:
                self._run(f"ALTER TABLE {at(intent.place)} {', '.join(steps)}")
            failpoint("sink.after_settled")
            self._keep(name, intent.place, replace(known, intent=None))

    # -- base copies --
    def _open_copy(self, changes: Sequence[Change]) -> None:
        """Empty tables of the right form, whether they were there or not."""
        shapes = [self._shape_of(change.new or "") for change in changes]
        self._refuse_types(shapes)
        self._refuse_collisions(shapes)
        there = [shape for shape in shapes if exists(self._connection, place_of(shape, self._home))]
        foreign = [shape for shape in there if shape.full_name not in self._known]
        self._refuse_misfits(foreign)
        if self._existing_rows != "truncate":
            self._refuse_rows(foreign)
        for shape in there:
            if self._has_rows(shape):
                self._run(f"TRUNCATE TABLE {self._name(shape)}")
            if shape not in foreign:
                self._reform(self._shape_of(self._known[shape.full_name].schema_id), shape)
        for shape in shapes:
            if shape not in there:
                self._create(shape)
        self._refuse_misfits([shape for shape in shapes if shape not in foreign])
        failpoint("sink.after_ddl")

    def _refuse_collisions(self, shapes: Sequence[Table]) -> None:
        """Two tables of the source under one name."""
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT @@lower_case_table_names")
            folded = cursor.fetchone()[0] != 0
        names: dict[str, str] = {}
        others = [self._shape_of(known.schema_id) for known in self._known.values()]
        for shape in (*others, *shapes):
            name = ".".join(place_of(shape, self._home))
            other = names.setdefault(name.lower() if folded else name, shape.full_name)
            if other != shape.full_name:
                raise self._mismatch(f"{shape.full_name}: it would be {name} on the target, as {other} is")

    def _refuse_types(self, shapes: Iterable[Table]) -> None:
        problems = [
            f"{shape.full_name}: column {column.name}: {column.type_sql} is no type of MySQL"
            for shape in shapes
            for column in target_columns(shape, self._engine)
            if _TYPE.fullmatch(column.type_sql) is None
        ]
        if problems:
            raise self._mismatch("\n".join(problems))

    def _refuse_misfits(self, tables: Sequence[Table]) -> None:
        problems = [p for table in tables for p in misfits(self._connection, table, self._home)]
        if problems:
            raise self._mismatch("\n".join(problems))

    def _refuse_rows(self, tables: Sequence[Table]) -> None:
        for table in tables:
            if self._has_rows(table):
                raise CdcError(
                    TARGET_NOT_EMPTY, source=self._hold.source, table=table.full_name, sink=self._hold.pipeline
                )

    def _has_rows(self, table: Table) -> bool:
        return self._run(f"SELECT 1 FROM {self._name(table)} LIMIT 1") > 0

    def _reform(self, before: Table, after: Table) -> None:
        """A table of ours, empty by now, in the form that another copy brings; a stranger's columns stay."""
        there = columns_of(self._connection, place_of(after, self._home))
        targets = target_columns(after, self._engine)
        gone = {column.name for column in before.columns} - {column.name for column in after.columns}
        steps = [f"DROP COLUMN {quoted(name)}" for name in sorted(gone) if name in there]
        for column, target in zip(after.columns, targets, strict=True):
            found = there.get(column.name)
            if found is None:
                steps.append(f"ADD COLUMN {defined(column, target)}")
            elif found.type_sql != target.type_sql or (not found.nullable and not column.not_null):
                steps.append(f"MODIFY COLUMN {defined(column, target)}")
        if before.key != after.key:
            steps += ["DROP PRIMARY KEY"] if has_primary_key(self._connection, place_of(after, self._home)) else []
            steps += [f"ADD PRIMARY KEY ({listed(after.key)})"] if after.key else []
        if steps:
            self._run(f"ALTER TABLE {self._name(after)} {', '.join(steps)}")

    def _create(self, table: Table) -> None:
        database = database_of(table, self._home)
        # CREATE DATABASE IF NOT EXISTS asks for the right to make one even where there is nothing to make.
        with self._connection.cursor() as cursor:
            if not cursor.execute("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", [database]):
                cursor.execute(f"CREATE DATABASE {quoted(database)}")
        columns = zip(table.columns, target_columns(table, self._engine), strict=True)
        parts = [defined(column, target) for column, target in columns]
        if table.key:
            parts.append(f"PRIMARY KEY ({listed(table.key)})")
        self._run(
            f"CREATE TABLE {self._name(table)} ({', '.join(parts)})"
            f" ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE {self._hold.dialect.collation}"
        )

    # -- the rest --
    def _name(self, table: Table) -> str:
        return name_of(table, self._home)

    def _run(self, statement: str) -> int:
        with self._connection.cursor() as cursor:
            return int(cursor.execute(statement))

    def _save(self, table: Table, schema_id: str, state: str, copy_id: str | None, intent: Intent | None) -> None:
        self._keep(table.full_name, place_of(table, self._home), Known(schema_id, state, copy_id, intent))

    def _keep(self, name: str, place: Place, known: Known) -> None:
        keep(self._hold, name, place, known)
        self._known[name] = known

    def _mismatch(self, problems: str) -> CdcError:
        return CdcError(TARGET_MISMATCH, source=self._hold.source, problems=problems)

    def _unsupported(self, table: str, end: End, change: str) -> CdcError:
        return CdcError(
            SCHEMA_CHANGE_UNSUPPORTED, source=self._hold.source, table=table, position=end.position, change=change
        )


_Step = tuple[str, tuple[str, bool] | None]
"""Part of an ALTER, and the column that it makes (True) or drops."""
_DEFAULT_BY_EXPRESSION = ("tinytext", "text", "mediumtext", "longtext", "json",
                          "tinyblob", "blob", "mediumblob", "longblob")  # fmt: skip


def defined(column: Column, target: TargetColumn) -> str:
    return f"{quoted(column.name)} {target.type_sql} {'NOT NULL' if column.not_null else 'NULL'}"


def _column_form(column: Column) -> Form:
    return column.type_expression, column.not_null, column.enum_values, column.charset, column.collation
