"""What `cdc setup` makes on a source and on a target, as SQL that can be read before it runs.

In: a section, an administrator's connection. Out: a list of `Step`s (planned from the catalog as it is), or their
execution in one transaction. Refuses: a URL that names no role, whatever the server refuses (SETUP_REFUSED).

Roles get what their work needs and nothing else: the reader may replicate and read the captured tables, the writer may
make and change tables in the target's schemas. A password never appears in a step that is shown, and reaches the
server as the SCRAM verifier it would store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc.errors import SETUP_REFUSED, CdcError
from cdc.postgres.catalog import Catalog, Publication
from cdc.postgres.inventory import Inventory, SourceTable, take_inventory
from cdc.postgres.messages import EVENT_TRIGGER
from cdc.postgres.provider import recognise
from cdc.postgres.session import Server
from cdc.sections import Sink, Source, Written
from cdc.setup import named_schemas, nothing_to_capture, password_note, role_of

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `lost` says what is missing without it, where it may be refused; `shown` hides a secret."""

    why: str
    statement: sql.SQL | sql.Composed
    shown: sql.SQL | sql.Composed | None = None
    lost: str = ""

    def text(self) -> str:
        """As `--dry-run` prints it."""
        note = f"  (where it is refused: {self.lost})" if self.lost else ""
        head = f"-- {self.why}{note}\n" if self.why or note else ""
        return head + (self.shown or self.statement).as_string(None).strip()


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps, and what a reader should know besides."""

    steps: Sequence[Step]
    notes: Sequence[str] = ()


# -- the administrator ------------------------------------------------------------------------------------------
def admin_of(server: Server, admin_url: str | None) -> Server:
    """The server as its administrator reaches it: by a URL of his own, else by the section's without its role."""
    if admin_url is not None:
        return Server(server.side, server.name, admin_url)
    parts = {key: str(value) for key, value in conninfo_to_dict(server.url).items() if key != "user"}
    return Server(server.side, server.name, make_conninfo("", **parts))


def open_admin(admin: Server) -> Catalog:
    """His connection; it does not wait for ever behind somebody's lock."""
    try:
        return Catalog(admin, statement_timeout="60s")
    except CdcError as error:
        if error.transient:
            raise
        raise refused(admin, error.text) from None


def refused(admin: Server, problem: str) -> CdcError:
    return CdcError(SETUP_REFUSED, section=admin.name, problem=problem)


# -- the source -------------------------------------------------------------------------------------------------
def plan_source(catalog: Catalog, source: Source, password: str | None, *, archived: bool) -> Plan:
    """Role, rights, event trigger, publication. `archived`: bases of it are taken for an archive."""
    inventory = take_inventory(catalog, source.name, source.wanted)
    if not inventory.capture:
        left_out = [(out.table.full_name, out.why) for out in inventory.stay_out]
        raise refused(catalog.server, nothing_to_capture(source.tables, left_out))
    role = role_of(source.url, source.name)
    steps = [*_reader(catalog, source, role, password, inventory), _event_trigger(role)]
    if archived:
        steps.append(_schema_reader(role))
    publication = catalog.publication(source.publication, lambda _schema, _table: True)
    change = _publication(catalog, source.publication, publication, inventory)
    notes = [f"left out: {out.table.full_name}: {out.why}" for out in inventory.stay_out]
    notes += _password_notes(catalog, role, password, f"source.{source.name}")
    if change and publication and catalog.slot(source.slot):
        # A takeover takes the publication as it finds it; whether it has begun, only Kafka could say.
        when = "" if source.snapshot == "initial" else ", where it has published anything yet"
        notes.append(
            f"publication {source.publication} changes under a slot: the source stops at it{when}. Then copy again: "
            f"cdc source run {source.name} --reopen copy-again"
        )
    return Plan([*steps, *change], notes)


def _reader(catalog: Catalog, source: Source, role: str, password: str | None, inventory: Inventory) -> Iterator[Step]:
    provider = recognise(catalog)
    attribute = "" if provider.replication_role else " REPLICATION"
    yield from _role(catalog, role, attribute, password, f"source.{source.name}")
    if provider.replication_role:
        yield Step("it may replicate", _sql("GRANT {} TO {}", provider.replication_role, role))
    schemas = sorted({table.schema for table in inventory.capture})
    yield Step("it may read what is captured", _grant("USAGE ON SCHEMA", [_name(s) for s in schemas], role))
    yield Step("", _grant("SELECT ON", [_table(table) for table in inventory.capture], role))
    if _hides_rows(catalog, inventory.capture):
        lost = "tables with row level security cannot be copied"
        yield Step("it sees every row", _sql("ALTER ROLE {} BYPASSRLS", role), lost=lost)
    for function in _functions_kept_back(catalog):
        grant = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(function), _name(role))
        yield Step("it may write heartbeats", grant)


def _schema_reader(role: str) -> Step:
    return Step(
        "for its archive: pg_dump reads the definition of every table, which it may only where it may read the table",
        _sql("GRANT pg_read_all_data TO {}", role),
        lost="cdc archive backup takes no base as long as there is a table or sequence that the role may not read",
    )


def _event_trigger(role: str) -> Step:
    statement = sql.SQL("").join(
        [
            sql.SQL("CREATE SCHEMA IF NOT EXISTS cdc;\n"),
            sql.SQL(EVENT_TRIGGER),
            _sql("GRANT USAGE ON SCHEMA cdc TO {};\n", role),
            _sql("GRANT SELECT ON cdc.secret TO {}", role),
        ]
    )
    return Step(
        "event trigger: schema changes travel in the log; needs a superuser",
        statement,
        lost="a schema change of a captured table stops the source, and its tables are copied again",
    )


def _publication(catalog: Catalog, name: str, now: Publication | None, inventory: Inventory) -> list[Step]:
    tables = sql.SQL(", ").join([sql.SQL("ONLY ") + _table(table) for table in inventory.capture])
    wanted = {table.oid for table in inventory.capture}
    if now is None:
        create = sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)")
        return [Step("what the log tells us of", create.format(_name(name), tables))]
    steps = []
    everything = catalog.rows("SELECT puballtables FROM pg_catalog.pg_publication WHERE pubname = %s", name)[0][0]
    changed = {table.oid for table in now.tables} != wanted or any(table.narrowed for table in now.tables)
    if changed and not everything:
        steps.append(
            Step("what the log tells us of", sql.SQL("ALTER PUBLICATION {} SET TABLE {}").format(_name(name), tables))
        )
    if now.operations != "iudt" or not now.via_root:
        options = (
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
        )
        steps.append(Step("every operation", _sql(options, name)))
    return steps


def _hides_rows(catalog: Catalog, tables: Sequence[SourceTable]) -> bool:
    oids = [table.oid for table in tables]
    query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relrowsecurity AND c.oid = ANY(%s::oid[]))"
    return bool(catalog.rows(query, oids)[0][0])


def _functions_kept_back(catalog: Catalog) -> list[str]:
    """Functions that everybody may call, unless somebody took the right away."""
    query = (
        "SELECT 'pg_catalog.' || p.oid::regprocedure::text FROM pg_catalog.pg_proc p "
        "WHERE p.proname = 'pg_logical_emit_message' AND p.proargtypes[2] = 'text'::regtype "
        "AND NOT pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE')"
    )
    return [row[0] for row in catalog.rows(query)]


# -- the target -------------------------------------------------------------------------------------------------
def plan_target(catalog: Catalog, sink: Sink, source: Written, password: str | None, progress_tables: str) -> Plan:
    """Role, rights, progress tables. The schemas are those that the source's `tables` name."""
    role = role_of(sink.url, sink.name)
    database = catalog.database
    steps = [
        *_role(catalog, role, "", password, f"sink.{sink.name}"),
        Step("progress is kept beside the rows", sql.SQL("CREATE SCHEMA IF NOT EXISTS cdc")),
        Step("", sql.SQL(progress_tables)),
        Step("", _sql("GRANT USAGE ON SCHEMA cdc TO {}", role)),
        Step("", _sql("GRANT SELECT, INSERT, UPDATE, DELETE ON cdc.cdc_progress, cdc.cdc_table TO {}", role)),
    ]
    if not _public_may(catalog, database, "TEMP"):
        why = "batches are staged in temporary tables"
        steps.append(Step(why, _sql("GRANT TEMP ON DATABASE {} TO {}", database, role)))
    notes = _password_notes(catalog, role, password, f"sink.{sink.name}")
    return Plan([*steps, *_places(catalog, source, role)], notes)


def _places(catalog: Catalog, source: Written, role: str) -> Iterator[Step]:
    """Where the writer may make tables, and those that are there already."""
    schemas, every = named_schemas(source)
    if every:
        yield Step("it makes the schemas it needs", _sql("GRANT CREATE ON DATABASE {} TO {}", catalog.database, role))
    for schema in matched_schemas(catalog, source):
        yield Step("it makes the tables it needs", _sql("GRANT USAGE, CREATE ON SCHEMA {} TO {}", schema, role))
    for schema in schemas:
        yield Step("it makes the tables it needs", _sql("CREATE SCHEMA IF NOT EXISTS {}", schema))
        yield Step("", _sql("GRANT USAGE, CREATE ON SCHEMA {} TO {}", schema, role))
    existing = [row for row in catalog.rows(_EXISTING) if source.wanted(row[0], row[1])]
    if existing:
        tables = [sql.Identifier(schema, table) for schema, table in existing]
        yield Step("tables that are there already", _grant("SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON", tables, role))


def matched_schemas(catalog: Catalog, source: Written) -> list[str]:
    """Schemas of the target that only a pattern of `tables` names; public is nearly always one of them."""
    named, _ = named_schemas(source)
    globs = {glob.partition(".")[0] for glob in source.tables} - set(named)
    query = (
        "SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%%' "
        "AND n.nspname NOT IN ('cdc', 'information_schema') ORDER BY 1"
    )
    found = [row[0] for row in catalog.rows(query)]
    return [name for name in found if name not in named and any(fnmatchcase(name, glob) for glob in globs)]


_EXISTING = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' ORDER BY 1, 2
"""


def _public_may(catalog: Catalog, database: str, privilege: str) -> bool:
    query = "SELECT pg_catalog.has_database_privilege('public', %s, %s)"
    return bool(catalog.rows(query, database, privilege)[0][0])


# -- both -------------------------------------------------------------------------------------------------------
def _role(catalog: Catalog, role: str, attribute: str, password: str | None, section: str) -> Iterator[Step]:
    """Make the role, or give an existing one what it lacks. A superuser is left as he is: he has it all."""
    found = catalog.rows("SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = %s", role)
    if found and found[0][0]:
        return
    make = "ALTER" if found else "CREATE"
    options = sql.SQL(f" LOGIN{attribute}")
    yield Step(f"the role of [{section}]", sql.SQL(make + " ROLE {}{}").format(_name(role), options))
    if password is not None:
        with catalog.server.errors():
            verifier = catalog.connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
        yield Step(
            "",
            statement.format(_name(role), verifier.decode()),
            statement.format(_name(role), sql.SQL(f"'(password of [{section}])'")),
        )
    if not _public_may(catalog, catalog.database, "CONNECT"):
        yield Step("", _sql("GRANT CONNECT ON DATABASE {} TO {}", catalog.database, role))


def _password_notes(catalog: Catalog, role: str, password: str | None, section: str) -> list[str]:
    """Asked before the role is made."""
    query = "SELECT 1 FROM pg_catalog.pg_roles r WHERE r.rolname = %s AND NOT r.rolsuper"
    there = password is not None and catalog.rows(query, role)
    return [password_note(role, section)] if there else []


def apply(catalog: Catalog, plan: Plan) -> list[str]:
    """All of it or nothing; what may be refused is, with a note of what is lost."""
    notes = list(plan.notes)
    connection = catalog.connection
    try:
        with connection.transaction():
            for step in plan.steps:
                try:
                    with connection.transaction():
                        connection.execute(step.statement)
                except psycopg.errors.InsufficientPrivilege:
                    if not step.lost:
                        raise
                    notes.append(f"refused ({step.why}): {step.lost}")
    except psycopg.Error as error:
        raise refused(catalog.server, catalog.server.problem(error)) from None
    return notes


def _sql(text: str, *names: str) -> sql.Composed:
    return sql.SQL(text).format(*map(sql.Identifier, names))


def _name(name: str) -> sql.Identifier:
    return sql.Identifier(name)


def _table(table: SourceTable) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)


def _grant(what: str, objects: Sequence[sql.Composable], role: str) -> sql.Composed:
    return sql.SQL("GRANT {} {} TO {}").format(sql.SQL(what), sql.SQL(", ").join(objects), _name(role))
