"""The tables of a source database, and which of the wanted ones can be captured. One question, pure judgement.

In: a catalog connection and the section's `wanted`. Out: an `Inventory`: tables to capture, tables that stay out each
with its reason and the way in. Refuses nothing: `check` reports it, `setup` publishes what can be captured.

A partitioned table is refused: partitions that are dropped, truncated or attached change its rows without a word in
the stream (CORRECTNESS 13). Where `exclude` names it, its partitions are tables of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cdc.finding import Level
from cdc.postgres.catalog import Catalog
from cdc.postgres.tables import SHAPE
from cdc.types import TYPES

_TABLES = """
SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text, c.relpersistence::text,
  CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid)::bigint END,
  CASE c.relreplident
    WHEN 'f' THEN true
    WHEN 'n' THEN false
    ELSE EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
      AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END)
  END,
  pg_catalog.row_security_active(c.oid),
  pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND a.attgenerated <> '' ORDER BY a.attnum),
  pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table as the catalog shows it to us. `identified`: its updates and deletes can be told in the log."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    root: int | None
    identified: bool
    row_security: bool
    readable: bool
    generated: list[str]
    sql_name: str
    unsupported: tuple[tuple[str, str], ...] = ()
    """(column, type) that are not carried."""

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"


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
    unlogged: tuple[str, ...]


def take_inventory(catalog: Catalog, source: str, wanted: Callable[[str, str], bool]) -> Inventory:
    """Look at every table of the database."""
    tables = _tables(catalog)
    named = {t.oid for t in tables if wanted(t.schema, t.name)}
    chosen = [t for t in tables if t.oid in named and t.root not in named]
    judged = [(table, _obstacle(table, source)) for table in chosen]
    covered = {t.oid for t in tables if t.root in named}
    return Inventory(
        capture=tuple(table for table, obstacle in judged if obstacle is None),
        stay_out=tuple(obstacle for _, obstacle in judged if obstacle),
        unwanted=tuple(t.full_name for t in tables if t.oid not in named | covered and t.schema not in _NEVER),
        unlogged=tuple(t.full_name for t in tables if t.persistence == "u"),
    )


_NEVER = frozenset({"cdc", "information_schema"})


def _tables(catalog: Catalog) -> list[SourceTable]:
    plain = [SourceTable(*row) for row in catalog.rows(_TABLES)]
    unsupported = _unsupported(catalog, [t.oid for t in plain if t.kind in "rp" and t.schema not in _NEVER])
    return [replace(table, unsupported=unsupported.get(table.oid, ())) for table in plain]


def _unsupported(catalog: Catalog, oids: list[int]) -> dict[int, tuple[tuple[str, str], ...]]:
    """The columns of each table whose type has no row in the type table, by the same question the source asks."""
    found = {}
    for (shape,) in catalog.rows(f"{SHAPE}ANY(%s::oid[])", oids):
        found[shape["oid"]] = tuple(
            (column["name"], column["type_expression"])
            for column in shape["columns"] or ()
            if column["type"].removesuffix("[]") not in TYPES["postgresql"]
        )
    return found


def _obstacle(table: SourceTable, source: str) -> StaysOut | None:
    name = table.sql_name
    leave_out = f'leave it out: exclude = ["{table.full_name}"] in [source.{source}]'
    if table.kind == "f":
        return StaysOut(table, Level.NOTE, "a foreign table: its changes are in another server's log", leave_out)
    if table.kind == "m":
        return StaysOut(table, Level.NOTE, "a materialized view: the log does not carry it", leave_out)
    if table.persistence == "u":
        return StaysOut(table, Level.WARN, "unlogged: the log does not carry it", f"ALTER TABLE {name} SET LOGGED;")
    if table.kind == "p":
        why = "partitioned: partitions that come, go or are truncated change its rows without a word in the log"
        return StaysOut(table, Level.FAIL, why, f"{leave_out}; its partitions are then tables of their own")
    if table.unsupported:
        columns = ", ".join(f"{column} has type {type_}" for column, type_ in table.unsupported)
        return StaysOut(table, Level.FAIL, f"{columns}, which is not carried yet", leave_out)
    if not table.identified:
        why = "no usable primary key and no replica identity: its updates and deletes cannot be captured"
        return StaysOut(table, Level.FAIL, why, f"ALTER TABLE {name} REPLICA IDENTITY FULL;  or {leave_out}")
    return None
