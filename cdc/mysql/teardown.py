"""What `cdc teardown` takes away from a MySQL source and target. Nothing there keeps the log for us.

In: a section, an administrator's connection, what other sections still use. Out: steps to print or to run, and what
is left on purpose. Refuses: a source or a sink that somebody holds (SOURCE_HELD, SINK_HELD).

Each step stands alone: what cannot go stays, and is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pymysql.converters import escape_string

from cdc.errors import SINK_HELD, SOURCE_HELD, CdcError
from cdc.mysql.catalog import HEARTBEATS, HISTORY, Catalog, lock_name, sink_lock_name
from cdc.mysql.names import quoted
from cdc.mysql.session import Server
from cdc.mysql.setup import PROGRESS, Plan, Step, accounts, home_of
from cdc.sections import Sink, Source
from cdc.setup import Shared, role_of


def plan_source(catalog: Catalog, source: Source, shared: Shared) -> Plan:
    """Its heartbeat, the table of them if it is the last, its role; whichever are there."""
    if holder := catalog.lock_holder(lock_name(source.name)):
        raise CdcError(SOURCE_HELD, source=source.name, holder=holder)
    home, table = HEARTBEATS
    own = f"source IN ('{escape_string(source.name)}', '{escape_string(source.name[:55])} copy')"
    others = _others(catalog, "source", f"{quoted(home)}.{quoted(table)}", own) if _exists(catalog, home, table) else []
    notes = _left(role_of(source.url, source.name), others, shared)
    return Plan([*_source_steps(catalog, source, replace(shared, role=shared.role or bool(notes)), own, others)], notes)


def _source_steps(catalog: Catalog, source: Source, shared: Shared, own: str, others: Sequence[str]) -> Iterator[Step]:
    home, table = HEARTBEATS
    if _exists(catalog, home, table):
        yield Step("its heartbeats", f"DELETE FROM cdc.heartbeat WHERE {own}")  # noqa: S608 - escaped
        if not shared.home and not others:
            yield Step("", "DROP TABLE cdc.heartbeat")
            if _exists(catalog, *HISTORY):
                yield Step("", "DROP TABLE cdc.history")
            if _tables(catalog, home) == 1 + _exists(catalog, *HISTORY):
                yield Step("", "DROP DATABASE cdc")
    yield from _role(catalog, role_of(source.url, source.name), shared)


def plan_target(catalog: Catalog, sink: Sink, shared: Shared) -> Plan:
    """This sink's progress, its role; the replica's tables stay."""
    home = home_of(Server(catalog.server.side, sink.name, sink.url))
    if holder := catalog.lock_holder(sink_lock_name(sink.name, home)):
        raise CdcError(SINK_HELD, sink=sink.name, holder=holder)
    own = f"pipeline = '{escape_string(sink.name)}'"
    places = [f"{quoted(home)}.{quoted(table)}" for table in PROGRESS if _exists(catalog, home, table)]
    others = sorted({name for place in places for name in _others(catalog, "pipeline", place, own)})
    notes = _left(role_of(sink.url, sink.name), others, shared)
    shared = replace(shared, role=shared.role or bool(notes))
    return Plan([*_target_steps(catalog, sink, shared, own, places, others)], notes)


def _target_steps(
    catalog: Catalog, sink: Sink, shared: Shared, own: str, places: Sequence[str], others: Sequence[str]
) -> Iterator[Step]:
    for place in places:
        yield Step("its progress", f"DELETE FROM {place} WHERE {own}")  # noqa: S608 - escaped
    if not shared.home and not others:
        yield from (Step("", f"DROP TABLE {place}") for place in places)
    yield from _role(catalog, role_of(sink.url, sink.name), shared)


def _others(catalog: Catalog, column: str, place: str, own: str) -> list[str]:
    """Whoever else left rows in a table of ours: another configuration may name it, with the same role."""
    query = f"SELECT DISTINCT {column} FROM {place} WHERE NOT {own} ORDER BY 1"  # noqa: S608 - names of ours
    return [str(name) for (name,) in catalog.rows(query)]


def _left(role: str, others: Sequence[str], shared: Shared) -> list[str]:
    unknown = [name for name in others if name.removesuffix(" copy") not in shared.named]
    if not unknown or shared.role:
        return []
    return [f"role {role} stays: {', '.join(unknown)} of another configuration may log in as it; else DROP USER {role}"]


def _role(catalog: Catalog, user: str, shared: Shared) -> Iterator[Step]:
    """Tables on MySQL belong to nobody, so they stay."""
    found = catalog.rows(
        "SELECT super_priv = 'Y' OR user = SUBSTRING_INDEX(CURRENT_USER(), '@', 1) FROM mysql.user WHERE user = %s",
        user,
    )
    if found and not shared.role and not any(kept for (kept,) in found):
        yield Step("the role and its rights", f"DROP USER {', '.join(accounts(catalog, user))}")


def _exists(catalog: Catalog, schema: str, table: str) -> bool:
    query = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
    return bool(catalog.rows(query, schema, table))


def _tables(catalog: Catalog, schema: str) -> int:
    query = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s"
    return int(catalog.rows(query, schema)[0][0])


def apply(catalog: Catalog, plan: Plan) -> list[str]:
    """Step by step; what stays is said, with the server's reason."""
    notes = list(plan.notes)
    for step in plan.steps:
        try:
            catalog.rows(step.statement)
        except CdcError as error:
            if error.transient:
                raise
            notes.append(f"stays: {step.statement} was refused ({error.text})")
    return notes
