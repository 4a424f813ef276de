"""The tables of a MySQL server, and which of the wanted ones can be captured. One question, pure judgement.

In: a catalog connection and the section. Out: an `Inventory`: tables to capture, tables that stay out each
with every reason and the way in. Refuses nothing: `check` reports it, `setup` grants what can be captured.

A role sees the tables on which it may do something: what it must capture and may not even see is not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cdc.errors import CdcError
from cdc.finding import Level
from cdc.mysql.catalog import VERSIONED, Catalog, Row
from cdc.mysql.names import quoted
from cdc.mysql.startup import cascades, underivable
from cdc.mysql.tables import Definition, UnknownTypeError, column_of
from cdc.sections import Source

_THEIRS = "('mysql', 'sys', 'information_schema', 'performance_schema', 'cdc')"
_TABLES = f"""
SELECT t.table_schema, t.table_name, IF(t.table_type = '{VERSIONED}', t.table_type, t.engine),
  EXISTS (SELECT 1 FROM information_schema.statistics s
  WHERE s.table_schema = t.table_schema AND s.table_name = t.table_name AND s.index_name = 'PRIMARY')
FROM information_schema.tables t
WHERE t.table_type IN ('BASE TABLE', '{VERSIONED}') AND t.table_schema NOT IN {_THEIRS} ORDER BY 1, 2
"""  # noqa: S608 - names of ours
_COLUMNS = f"""
SELECT table_schema, table_name, column_name, column_type, character_set_name, extra
FROM information_schema.columns WHERE table_schema NOT IN {_THEIRS} ORDER BY 1, 2, ordinal_position
"""  # noqa: S608
_REFERRING = "SELECT DISTINCT constraint_schema, table_name FROM information_schema.referential_constraints"


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table as the catalog shows it to us. `refers`: it has foreign keys."""

    schema: str
    name: str
    engine: str
    keyed: bool
    unsupported: tuple[tuple[str, str], ...]
    """(column, type) that are not carried."""
    refers: bool
    generated: tuple[str, ...]
    invisible: tuple[str, ...]

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql_name(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class StaysOut:
    """A wanted table that cannot be captured: why, what to do, and how bad that is."""

    table: SourceTable
    level: Level
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """`capture` and `stay_out` are the wanted tables; `unwanted` those that the section does not name."""

    capture: tuple[SourceTable, ...]
    stay_out: tuple[StaysOut, ...]
    unwanted: tuple[str, ...]


def take_inventory(catalog: Catalog, source: Source) -> Inventory:
    """Look at every table that we may see."""
    tables, wanted = _tables(catalog), source.wanted
    chosen = [table for table in tables if wanted(table.schema, table.name)]
    keys = _cascading(catalog, chosen, derive=source.cascades == "derive")
    stay_out = tuple(reason for table in chosen for reason in _obstacles(table, keys, source))
    out = {reason.table.full_name for reason in stay_out}
    return Inventory(
        capture=tuple(table for table in chosen if table.full_name not in out),
        stay_out=stay_out,
        unwanted=tuple(table.full_name for table in tables if not wanted(table.schema, table.name)),
    )


def _tables(catalog: Catalog) -> list[SourceTable]:
    columns: dict[tuple[str, str], list[Row]] = {}
    for schema, table, *column in catalog.rows(_COLUMNS):
        columns.setdefault((schema, table), []).append(tuple(column))
    referring = {(schema, table) for schema, table in catalog.rows(_REFERRING)}
    return [
        SourceTable(
            schema=str(schema),
            name=str(name),
            engine=str(engine),
            keyed=bool(keyed),
            unsupported=tuple(_unsupported(catalog, str(schema), str(name), columns.get((schema, name), []))),
            refers=(schema, name) in referring,
            generated=_with(columns.get((schema, name), []), " GENERATED"),
            invisible=_with(columns.get((schema, name), []), "INVISIBLE"),
        )
        for schema, name, engine, keyed in catalog.rows(_TABLES)
    ]


def _unsupported(catalog: Catalog, schema: str, table: str, columns: list[Row]) -> Iterator[tuple[str, str]]:
    """By the same question that the source asks."""
    for name, kind, charset, _ in columns:
        text = kind.decode() if isinstance(kind, bytes) else str(kind)
        column = Definition(name=str(name), type=text, not_null=False, charset=charset)
        with suppress(CdcError):  # a table that may not be read
            column = replace(column, type=catalog.exact_type(schema, table, column))
        try:
            column_of(column, 1)
        except UnknownTypeError as error:
            yield str(name), str(error)


def _with(columns: list[Row], word: str) -> tuple[str, ...]:
    return tuple(str(name) for name, _, _, extra in columns if word in str(extra))


def _cascading(catalog: Catalog, tables: Sequence[SourceTable], *, derive: bool) -> list[tuple[str, str, str]]:
    """Table, key and what it does, by the same question that the source asks."""
    wanted = [table for table in tables if (table.refers or derive) and not table.unsupported]
    found = [catalog.shape(table.schema, table.name) for table in wanted]
    shapes = [shape for shape in found if shape is not None]
    return underivable(shapes) if derive else cascades(shapes)


def _obstacles(table: SourceTable, keys: Sequence[tuple[str, str, str]], source: Source) -> Iterator[StaysOut]:
    leave_out = f'leave it out: exclude = ["{table.full_name}"] in [source.{source.name}]'
    if table.engine == VERSIONED:
        why = "it is system-versioned: the log has the history of its rows among them"
        yield StaysOut(table, Level.FAIL, why, f"ALTER TABLE {table.sql_name} DROP SYSTEM VERSIONING;  or {leave_out}")
    elif table.engine.lower() != "innodb":
        why = f"engine {table.engine} has no transactions: a ROLLBACK leaves its rows changed"
        yield StaysOut(table, Level.FAIL, why, f"ALTER TABLE {table.sql_name} ENGINE = InnoDB;  or {leave_out}")
    if table.unsupported:
        columns = ", ".join(f"{column} has type {type_}" for column, type_ in table.unsupported)
        yield StaysOut(table, Level.FAIL, f"{columns}, which is not carried yet", leave_out)
    for of, key, actions in keys:
        if of != table.full_name:
            continue
        why = f"foreign key {key} is ON {actions}: MySQL changes rows by it that are not in its log"
        ways = [f"make {quoted(key)} ON DELETE RESTRICT ON UPDATE RESTRICT and let the application delete", leave_out]
        if source.cascades == "refuse":
            ways.append('or have sinks carry it out: cascades = "derive"')
        yield StaysOut(table, Level.FAIL, why, ";  ".join(ways))
