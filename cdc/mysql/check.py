"""`cdc check` of a MySQL source: every prerequisite at once, each with the statement that mends it. Changes nothing.

In: a `[source.NAME]` section, reached as its own role. Out: findings, in the order a reader would mend them.
Refuses nothing: what cannot be asked (the server is away, the login is refused) is a finding itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

from cdc.errors import CdcError
from cdc.finding import Finding, clocks, fail, listed, note, ok, warn
from cdc.mysql.catalog import HEARTBEATS, HISTORY, Catalog
from cdc.mysql.dialect import MARIADB
from cdc.mysql.grants import Grants
from cdc.mysql.inventory import Inventory, SourceTable, take_inventory
from cdc.mysql.names import quoted
from cdc.mysql.prerequisites import prerequisites
from cdc.mysql.provider import recognise
from cdc.mysql.session import Server
from cdc.sections import Source
from cdc.setup import named_schemas

_NOT_COVERED = (
    ("views", "SELECT COUNT(*) FROM information_schema.views WHERE table_schema NOT IN ('sys')"),
    ("routines", "SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema NOT IN ('sys')"),
    ("triggers", "SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema NOT IN ('sys')"),
    ("scheduled events", "SELECT COUNT(*) FROM information_schema.events"),
    ("sequences", "SELECT COUNT(*) FROM information_schema.tables WHERE table_type = 'SEQUENCE'"),
)


def check_source(source: Source) -> tuple[list[Finding], Inventory | None]:
    """All findings, and the tables that will be captured, for those who ask about their topics."""
    try:
        server = source.server()
        assert isinstance(server, Server)
        with closing(Catalog(server)) as catalog:
            inventory = take_inventory(catalog, source)
            return list(_Check(catalog, source, inventory).findings()), inventory
    except CdcError as error:
        return [_told(error)], None


class _Check:
    """One pass over one source. Each method is one subject."""

    def __init__(self, catalog: Catalog, source: Source, inventory: Inventory) -> None:
        self._catalog, self._source, self._inventory = catalog, source, inventory
        self._provider = recognise(catalog)
        self._grants, self._role = grants_of(catalog), role_of(catalog)

    def findings(self) -> Iterator[Finding]:
        try:
            yield from prerequisites(self._catalog)
        except CdcError as error:
            yield _told(error)
        yield from in_the_clear(self._catalog)
        yield from self._clock()
        yield from self._tables()
        yield from self._rights()
        yield from self._heartbeats()
        yield from self._history()
        yield from self._not_covered()

    def _clock(self) -> Iterator[Finding]:
        before = time.time()
        there = float(self._catalog.rows("SELECT UNIX_TIMESTAMP(NOW(6))")[0][0])
        yield from clocks(there - (before + time.time()) / 2)

    # -- tables -------------------------------------------------------------------------------------------------
    def _tables(self) -> Iterator[Finding]:
        captured = self._inventory.capture
        if captured:
            yield ok(f"{len(captured)} tables to capture: {listed([t.full_name for t in captured])}")
        else:
            patterns = ", ".join(self._source.tables)
            yield fail(
                f"no table that can be captured matches tables = {patterns}, or role {self._role} may not see it",
                f"correct tables in cdc.toml, or cdc setup {self._source.name}",
            )
        for out in self._inventory.stay_out:
            yield Finding(out.level, f"{out.table.full_name} stays out: {out.why}", out.fix)
        if self._inventory.unwanted:
            yield note(f"stay out because tables and exclude do not name them: {listed(self._inventory.unwanted)}")
        for table in captured:
            yield from self._notes(table)

    def _notes(self, table: SourceTable) -> Iterator[Finding]:
        if not table.keyed:
            yield note(
                f"{table.full_name} has no primary key: its updates and deletes are told by whole rows, which "
                "binlog_row_image = FULL gives"
            )
        if table.generated:
            yield note(f"{table.full_name}: generated columns are carried as plain ones: {', '.join(table.generated)}")
        if table.invisible:
            yield note(f"{table.full_name}: invisible columns are carried as plain ones: {', '.join(table.invisible)}")

    # -- rights -------------------------------------------------------------------------------------------------
    def _rights(self) -> Iterator[Finding]:
        missing = [name for name in ("REPLICATION SLAVE", "REPLICATION CLIENT") if not self._grants.everywhere(name)]
        if missing:
            yield fail(
                f"role {self._role} may not read the log: {' and '.join(missing)} missing",
                f"GRANT {', '.join(missing)} ON *.* TO {self._role};",
            )
        else:
            yield ok(f"role {self._role} may read the log")
        yield from self._may_read()
        yield self._may_lock()

    def _may_read(self) -> Iterator[Finding]:
        tables = self._inventory.capture
        unreadable = [table for table in tables if not self._grants.on("SELECT", table.schema, table.name)]
        if unreadable:
            grants = [f"GRANT SELECT ON {table.sql_name} TO {self._role};" for table in unreadable]
            yield fail(f"role {self._role} may not read {listed([t.full_name for t in unreadable])}", " ".join(grants))
        elif tables:
            yield ok(f"role {self._role} may read every table to capture")
        named, _ = named_schemas(self._source)
        unseen = [name for name in named if not any(self._grants.on(word, name) for word in ("SELECT", "REFERENCES"))]
        if unseen:
            yield warn(
                f"role {self._role} does not see every table of {', '.join(unseen)}: one that comes later is not "
                "captured, and nothing says so",
                " ".join(f"GRANT REFERENCES ON {every_table(self._catalog, name)} TO {self._role};" for name in unseen),
            )

    def _may_lock(self) -> Finding:
        if self._catalog.dialect.snapshot_tells_position:
            return ok("a copy needs no right to lock: its snapshot says where in the log it stands")
        if self._grants.everywhere("RELOAD") or self._grants.everywhere("FLUSH_TABLES"):
            return ok(f"role {self._role} may lock the server for the moment in which a copy begins")
        schemas = sorted({table.schema for table in self._inventory.capture})
        unlocked = [name for name in schemas if not self._grants.on("LOCK TABLES", name)]
        if not unlocked:
            return ok(f"role {self._role} may lock its tables for the moment in which a copy begins")
        places = [every_table(self._catalog, name) for name in unlocked]
        tables = " ".join(f"GRANT LOCK TABLES ON {place} TO {self._role};" for place in places)
        lock = f"GRANT FLUSH_TABLES ON *.* TO {self._role};" if self._provider.global_lock else tables
        neither = f"role {self._role} may lock neither the server nor its tables for the moment in which a copy begins"
        if self._may_beat() and self._catalog.variable("binlog_order_commits") == "ON":
            return note(f"{neither}: it reads from the log what is committed in that moment", lock)
        return fail(f"{neither}, nor do without by cdc.heartbeat and binlog_order_commits = ON", lock)

    def _may_beat(self) -> bool:
        return self._catalog.may_beat() and all(self._grants.on(right, *HEARTBEATS) for right in ("INSERT", "DELETE"))

    def _heartbeats(self) -> Iterator[Finding]:
        """Without them an idle source's lag grows, and a sink's clock stands still."""
        catalog, (schema, table) = self._catalog, HEARTBEATS
        if "ON" in (catalog.variable("read_only"), catalog.variable("super_read_only")):
            yield note("the server is read-only: heartbeats carry the position alone")
            return
        found = catalog.rows(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s", schema, table
        )
        setup = f"cdc setup {self._source.name}"
        if not found:
            yield warn(
                f"table {schema}.{table} is not there, or role {self._role} may not see it: heartbeats carry the "
                "position alone, and an idle source's lag grows",
                setup,
            )
        elif self._may_beat():
            yield ok(f"table {schema}.{table} takes heartbeats")
        else:
            yield fail(f"role {self._role} may not write {schema}.{table}, and stops at its first heartbeat", setup)

    def _history(self) -> Iterator[Finding]:
        """GTIDs of MariaDB do not say whose they are."""
        if self._catalog.dialect is MARIADB and not self._catalog.identity():
            yield warn(
                f"table {'.'.join(HISTORY)} is not there, or role {self._role} may not read it: another server with "
                "the same GTIDs is not told from this one",
                f"cdc setup {self._source.name}",
            )

    # -- what is lost -------------------------------------------------------------------------------------------
    def _not_covered(self) -> Iterator[Finding]:
        counts = [(name, int(self._catalog.rows(query)[0][0])) for name, query in _NOT_COVERED]
        parts = ["users and grants", *(f"{count} {name}" for name, count in counts if count)]
        yield note(f"not covered, as far as role {self._role} may see: {', '.join(parts)}")
        if not self._grants.everywhere("TRIGGER"):
            yield note(
                f"role {self._role} does not see triggers: any row changed by a statement (binlog_format = STATEMENT "
                "in a session) stops the source, whichever table it is of, because a trigger may have changed another",
                f"GRANT TRIGGER ON *.* TO {self._role}",
            )


# -- of either side -----------------------------------------------------------------------------------------------
def grants_of(catalog: Catalog) -> Grants:
    """Roles that are active count."""
    literal = catalog.variable("partial_revokes") == "ON"
    return Grants.parse([str(row[0]) for row in catalog.rows("SHOW GRANTS")], wildcards=not literal)


def role_of(catalog: Catalog) -> str:
    """Who we are to the server, as SQL has it."""
    user, _, host = str(catalog.rows("SELECT CURRENT_USER()")[0][0]).rpartition("@")
    return account(user, host)


def account(user: str, host: str) -> str:
    return f"{quoted(user)}@{quoted(host)}"


def every_table(catalog: Catalog, database: str) -> str:
    """Of a database, in a grant: there _ and % stand for any character, unless the server revokes partially."""
    if catalog.variable("partial_revokes") != "ON":
        database = database.replace("_", r"\_").replace("%", r"\%")
    return f"{quoted(database)}.*"


def in_the_clear(catalog: Catalog) -> Iterator[Finding]:
    """Rows should not cross a network unencrypted."""
    if is_in_the_clear(catalog):
        yield warn(
            "the connection is not encrypted: rows cross the network in the clear", "?ssl-mode=VERIFY_IDENTITY in url"
        )


def is_in_the_clear(catalog: Catalog) -> bool:
    host = catalog.server.address.host
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return not local and not catalog.rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]


def _told(error: CdcError) -> Finding:
    return fail(f"{error.code.name}: {error.text}", error.hint)
