"""`cdc check` of a sink on MySQL: what its target lacks, each with the statement that mends it. Changes nothing.

In: a `[sink.NAME]` section, reached as its own role, and the source whose tables it will hold. Out: findings.
Refuses nothing: what cannot be asked is a finding itself. Whether existing tables fit, the sink says before its first
row, since only it knows their shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from cdc.errors import CdcError
from cdc.finding import Finding, fail, note, ok, warn
from cdc.mysql.catalog import Catalog
from cdc.mysql.check import every_table, grants_of, in_the_clear, role_of
from cdc.mysql.grants import Grants
from cdc.mysql.names import quoted
from cdc.mysql.provider import recognise
from cdc.mysql.session import Server
from cdc.mysql.setup import PROGRESS, TABLES, WRITES, home_of, homes
from cdc.sections import Sink, Source
from cdc.setup import named_schemas

_TRIGGERS = """
SELECT event_object_schema, event_object_table, trigger_name FROM information_schema.triggers
WHERE event_object_schema NOT IN ('mysql', 'sys') ORDER BY 1, 2, 3
"""


def check_target(sink: Sink, source: Source) -> list[Finding]:
    """All findings."""
    try:
        server = sink.server()
        assert isinstance(server, Server)
        home_of(server)
        with closing(Catalog(server)) as catalog:
            return list(_findings(catalog, sink, source))
    except CdcError as error:
        return [fail(f"{error.code.name}: {error.text}", error.hint)]


def _findings(catalog: Catalog, sink: Sink, source: Source) -> Iterator[Finding]:
    home, role, grants = catalog.server.database, role_of(catalog), grants_of(catalog)
    yield ok(f"{catalog.dialect.label} {catalog.version}{recognise(catalog).label}, database {home}, role {role}")
    yield from in_the_clear(catalog)
    if "ON" in (catalog.variable("read_only"), catalog.variable("super_read_only")):
        yield fail("the server is read-only", "point the sink's url at the primary")
    yield from _packets(catalog, source)
    if catalog.variable("lower_case_table_names") != "0":
        yield note("lower_case_table_names is not 0: tables whose names differ in case alone cannot both be here")
    yield from _progress(catalog, grants, sink, role)
    yield from _databases(catalog, grants, source, role)
    yield from _triggers(catalog, source)


def _triggers(catalog: Catalog, source: Source) -> Iterator[Finding]:
    """On tables that are replicated: the sink refuses them."""
    home = catalog.server.database
    in_home = "public" if source.engine == "postgresql" else home
    found = [row for row in catalog.rows(_TRIGGERS) if source.wanted(in_home if row[0] == home else row[0], row[1])]
    if found:
        names = ", ".join(f"{name} on {schema}.{table}" for schema, table, name in found)
        yield fail(
            f"triggers would act again on rows that carry their effect already: {names}",
            " ".join(f"DROP TRIGGER {quoted(schema)}.{quoted(name)};" for schema, _, name in found),
        )


def _packets(catalog: Catalog, source: Source) -> Iterator[Finding]:
    """A row goes in one statement, in which bytes are written as hexadecimal digits."""
    packet, largest = int(catalog.variable("max_allowed_packet") or 0), source.max_record
    if packet < 2 * largest:
        yield warn(
            f"max_allowed_packet = {packet >> 20} MiB: a row near max_record ({largest >> 20} MiB) may not fit",
            recognise(catalog).set("max_allowed_packet", 4 * largest),
        )


def _progress(catalog: Catalog, grants: Grants, sink: Sink, role: str) -> Iterator[Finding]:
    home, setup = catalog.server.database, f"cdc setup {sink.name}"
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_name LIKE 'cdc\\_%%'"
    there = {str(row[0]) for row in catalog.rows(query, home)}
    for table in PROGRESS:
        if table in there and all(grants.on(privilege, home, table) for privilege in WRITES):
            yield ok(f"table {home}.{table}")
        elif table in there:
            yield fail(f"role {role} may not write {home}.{table}", setup)
        elif grants.on("CREATE", home):
            yield note(f"table {home}.{table} is made by the sink's first start")
        else:
            yield fail(f"table {home}.{table} is missing", setup)


def _databases(catalog: Catalog, grants: Grants, source: Source, role: str) -> Iterator[Finding]:
    home = catalog.server.database
    if not grants.on("CREATE TEMPORARY TABLES", home):
        yield fail(
            f"role {role} may not make temporary tables in {home}, in which batches are staged",
            f"GRANT CREATE TEMPORARY TABLES ON {every_table(catalog, home)} TO {role};",
        )
    there = {str(row[0]) for row in catalog.rows("SELECT schema_name FROM information_schema.schemata")}
    for name in homes(catalog, source, home):
        missing = [privilege for privilege in TABLES if not grants.on(privilege, name)]
        if missing:
            yield fail(
                f"role {role} may not make and write tables in database {name}: {', '.join(missing)} missing",
                f"GRANT {', '.join(missing)} ON {every_table(catalog, name)} TO {role};",
            )
        elif name in there:
            yield ok(f"role {role} may make and write tables in database {name}")
        else:
            yield note(f"database {name} is made by the sink, which may")
    if named_schemas(source)[1] and not grants.everywhere("CREATE"):
        yield warn(
            f"tables = {', '.join(source.tables)} may bring databases that role {role} may not make",
            f"GRANT {', '.join(TABLES)} ON `NAME`.* TO {role};",
        )
