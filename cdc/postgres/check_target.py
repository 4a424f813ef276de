"""`cdc check` of a sink: what its target lacks, each with the statement that mends it. I/O, changes nothing.

In: a `[sink.NAME]` section, reached as its own role, and the source whose tables it will hold. Out: findings.
Refuses nothing: what cannot be asked is a finding itself. Whether existing tables fit, the sink says before its first
row, since only it knows their shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from cdc.errors import CdcError
from cdc.finding import Finding, fail, note, ok, warn
from cdc.postgres.catalog import Catalog
from cdc.postgres.check import in_the_clear
from cdc.postgres.session import Server
from cdc.postgres.setup import matched_schemas
from cdc.sections import Sink, Written
from cdc.setup import named_schemas

_PROGRESS = ("cdc.cdc_progress", "cdc.cdc_table")
_TRIGGERS = """
SELECT n.nspname, c.relname, t.tgname FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') ORDER BY 1, 2, 3
"""


def check_target(sink: Sink, source: Written) -> list[Finding]:
    """All findings."""
    try:
        server = sink.server()
        assert isinstance(server, Server)
        with closing(Catalog(server)) as catalog:
            return list(_findings(catalog, sink, source))
    except CdcError as error:
        return [fail(f"{error.code.name}: {error.text}", error.hint)]


def _findings(catalog: Catalog, sink: Sink, source: Written) -> Iterator[Finding]:
    version = catalog.connection.info.parameter_status("server_version")
    role = str(catalog.rows("SELECT pg_catalog.quote_ident(current_user)")[0][0])
    yield ok(f"Postgres {version}, database {catalog.database}, role {role}")
    yield from in_the_clear(catalog)
    if catalog.in_recovery():
        yield fail("the server is a standby", "point the sink's url at the primary")
    if not _may(catalog, "TEMP"):
        grant = f"GRANT TEMP ON DATABASE {catalog.database} TO {role};"
        yield fail(f"role {role} may not make temporary tables, in which batches are staged", grant)
    yield from _progress(catalog, sink, role)
    yield from _schemas(catalog, source, role)
    triggers = [row for row in catalog.rows(_TRIGGERS) if source.wanted(row[0], row[1])]
    if triggers:
        names = ", ".join(f"{name} on {schema}.{table}" for schema, table, name in triggers)
        yield warn(
            f"triggers fire for replicated rows too, and what they write is not the source's: {names}",
            "ALTER TABLE … DISABLE TRIGGER … on the replica",
        )


def _may(catalog: Catalog, privilege: str) -> bool:
    query = "SELECT pg_catalog.has_database_privilege(current_database(), %s)"
    return bool(catalog.rows(query, privilege)[0][0])


def _progress(catalog: Catalog, sink: Sink, role: str) -> Iterator[Finding]:
    setup = f"cdc setup {sink.name}"
    if catalog.rows("SELECT pg_catalog.to_regnamespace('cdc')")[0][0] is None:
        if _may(catalog, "CREATE"):
            yield note("schema cdc with the progress tables is made by the sink's first start")
        else:
            yield fail("schema cdc with the progress tables is missing", setup)
        return
    if not catalog.rows("SELECT pg_catalog.has_schema_privilege('cdc', 'USAGE')")[0][0]:
        yield fail(f"role {role} may not use schema cdc", setup)
        return
    for table in _PROGRESS:
        if catalog.rows("SELECT pg_catalog.to_regclass(%s)", table)[0][0] is None:
            if not catalog.rows("SELECT pg_catalog.has_schema_privilege('cdc', 'CREATE')")[0][0]:
                yield fail(f"table {table} is missing", setup)
        elif not _writes(catalog, table):
            yield fail(f"role {role} may not write {table}", setup)
        else:
            yield ok(f"table {table}")


def _writes(catalog: Catalog, table: str) -> bool:
    query = (
        "SELECT bool_and(pg_catalog.has_table_privilege(%s, p)) "
        "FROM pg_catalog.unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p"
    )
    return bool(catalog.rows(query, table)[0][0])


def _schemas(catalog: Catalog, source: Written, role: str) -> Iterator[Finding]:
    schemas, every = named_schemas(source)
    may_make_schemas = _may(catalog, "CREATE")
    if every and not may_make_schemas:
        yield warn(
            f"role {role} may not make schemas, and tables = {', '.join(source.tables)} may need some",
            f"GRANT CREATE ON DATABASE {catalog.database} TO {role};",
        )
    for schema in [*schemas, *matched_schemas(catalog, source)]:
        found = catalog.rows(
            "SELECT pg_catalog.has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_namespace n "
            "WHERE n.nspname = %s",
            schema,
        )
        if found and found[0][0]:
            yield ok(f"role {role} may make tables in schema {schema}")
        elif found:
            yield fail(
                f"role {role} may not make tables in schema {schema}", f"GRANT CREATE ON SCHEMA {schema} TO {role};"
            )
        elif not may_make_schemas:
            yield fail(f"schema {schema} is missing and role {role} may not make it", f"CREATE SCHEMA {schema};")
