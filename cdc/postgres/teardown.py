"""What `cdc teardown` takes away from a source and a target: slot first, since an orphaned one fills a disk.

In: a section, an administrator's connection, what other sections still use. Out: steps to print or to run, and what
is left on purpose. Refuses: a slot or a sink that somebody holds (SOURCE_HELD, SINK_HELD).

Each step stands alone: what cannot go (a role that owns things elsewhere) stays, and is said.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from cdc.errors import SINK_HELD, SOURCE_HELD, CdcError
from cdc.postgres.catalog import Catalog
from cdc.postgres.messages import TRIGGERS
from cdc.postgres.setup import Plan, Step
from cdc.sections import Sink, Source
from cdc.setup import Shared, role_of


def plan_source(catalog: Catalog, source: Source, shared: Shared) -> Plan:
    """Slot, publication, event trigger, schema, role; whichever are there."""
    slot = catalog.slot(source.slot)
    if slot and slot.active_pid:
        raise CdcError(SOURCE_HELD, source=source.name, holder=f"backend {slot.active_pid}, by slot {slot.name}")
    return Plan([*_source_steps(catalog, source, shared, has_slot=slot is not None)])


def _source_steps(catalog: Catalog, source: Source, shared: Shared, *, has_slot: bool) -> Iterator[Step]:
    if has_slot:
        drop = sql.SQL("SELECT pg_catalog.pg_drop_replication_slot({})").format(sql.Literal(source.slot))
        yield Step("the slot: WAL is no longer kept", drop)
    publication = sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(source.publication))
    yield Step("the publication", publication)
    if not shared.home:
        for trigger in TRIGGERS:
            drop = sql.SQL("DROP EVENT TRIGGER IF EXISTS {}").format(sql.Identifier(trigger))
            yield Step("an event trigger; needs a superuser", drop)
        functions = "cdc.on_ddl(), cdc.on_drop(), cdc.on_rewrite(), cdc.emit_ddl(jsonb)"
        if _exists(catalog, "cdc.secret"):
            yield Step("", sql.SQL(f"DROP FUNCTION IF EXISTS {functions}"))
            yield Step("", sql.SQL("DROP TABLE cdc.secret"))
        yield from _schema(catalog)
    yield from _role(catalog, role_of(source.url, source.name), shared)


def plan_target(catalog: Catalog, sink: Sink, shared: Shared) -> Plan:
    """This sink's progress, its role; the replica's tables stay and change their owner."""
    busy = catalog.rows(
        "SELECT a.pid FROM pg_catalog.pg_stat_activity a WHERE a.application_name = %s AND a.datname = %s "
        "AND a.pid <> pg_catalog.pg_backend_pid()",
        f"cdc sink {sink.name}",
        catalog.database,
    )
    if busy:
        raise CdcError(SINK_HELD, sink=sink.name, holder=f"backend {busy[0][0]}")
    return Plan([*_target_steps(catalog, sink, shared)])


def _target_steps(catalog: Catalog, sink: Sink, shared: Shared) -> Iterator[Step]:
    tables = [table for table in ("cdc_progress", "cdc_table") if _exists(catalog, f"cdc.{table}")]
    for table in tables:
        delete = sql.SQL("DELETE FROM cdc.{} WHERE pipeline = {}").format(sql.Identifier(table), sql.Literal(sink.name))
        yield Step("its progress", delete)
    if not shared.home and not any(_used_by_others(catalog, table, sink.name) for table in tables):
        for table in tables:
            yield Step("", sql.SQL("DROP TABLE cdc.{}").format(sql.Identifier(table)))
        yield from _schema(catalog)
    yield from _role(catalog, role_of(sink.url, sink.name), shared)


def _schema(catalog: Catalog) -> Iterator[Step]:
    if catalog.rows("SELECT pg_catalog.to_regnamespace('cdc')")[0][0]:
        yield Step("schema cdc, if nothing else is in it", sql.SQL("DROP SCHEMA cdc"))


def _role(catalog: Catalog, role: str, shared: Shared) -> Iterator[Step]:
    """Tables that the role made are kept, under whoever runs this."""
    found = catalog.rows(
        "SELECT r.rolsuper OR r.rolname = current_user FROM pg_catalog.pg_roles r WHERE r.rolname = %s", role
    )
    if not found or found[0][0] or shared.role:
        return
    name = sql.Identifier(role)
    # One statement: rights must never be dropped where what the role made (the replica's tables) was not reassigned.
    keep = sql.SQL("REASSIGN OWNED BY {0} TO CURRENT_USER; DROP OWNED BY {0}").format(name)
    yield Step("what the role made stays, under another owner; its rights go", keep)
    yield Step("the role, if it has nothing elsewhere", sql.SQL("DROP ROLE {}").format(name))


def _used_by_others(catalog: Catalog, table: str, pipeline: str) -> bool:
    query = f"SELECT EXISTS (SELECT FROM cdc.{table} WHERE pipeline <> %s)"  # noqa: S608
    return bool(catalog.rows(query, pipeline)[0][0])


def _exists(catalog: Catalog, relation: str) -> bool:
    return catalog.rows("SELECT pg_catalog.to_regclass(%s)", relation)[0][0] is not None


def apply(catalog: Catalog, plan: Plan) -> list[str]:
    """Step by step; what stays is said, with the server's reason."""
    notes = list(plan.notes)
    for step in plan.steps:
        try:
            catalog.connection.execute(step.statement)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.DependentObjectsStillExist) as error:
            statement = step.statement.as_string(None)
            notes.append(f"stays: {statement} was refused ({catalog.server.problem(error)})")
        except psycopg.Error as error:
            raise catalog.server.error(error) from None
    return notes
