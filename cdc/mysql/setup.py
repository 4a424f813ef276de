"""What `cdc setup` makes on a MySQL source and target, as SQL that can be read before it runs.

In: a section, an administrator's connection. Out: a list of `Step`s, planned from the server as it is, or their
execution one after the other: MySQL commits each by itself, and each may be run again. Refuses: a URL that names no
role or, of a target, no database; a role without a password; whatever the server refuses (SETUP_REFUSED).

Roles get what their work needs and nothing else: the reader may read the log and the captured tables, the writer may
make and change tables in the databases that `tables` names. A password never appears in a step that is shown. What the
server must be set to is said and not done: others run on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha1
from urllib.parse import urlsplit, urlunsplit

from pymysql.converters import escape_string

from cdc.errors import SETUP_REFUSED, CdcError
from cdc.finding import Level
from cdc.mysql.catalog import Catalog, Row
from cdc.mysql.check import account, every_table, is_in_the_clear
from cdc.mysql.dialect import MARIADB, version_number
from cdc.mysql.inventory import Inventory, take_inventory
from cdc.mysql.names import quoted
from cdc.mysql.prerequisites import prerequisites
from cdc.mysql.provider import recognise
from cdc.mysql.session import Server
from cdc.sections import Sink, Source
from cdc.setup import named_schemas, nothing_to_capture, password_note, role_of

HEARTBEAT_TABLE = (
    "CREATE DATABASE IF NOT EXISTS cdc",
    """
CREATE TABLE IF NOT EXISTS cdc.heartbeat (
  source varchar(64) PRIMARY KEY, token char(16) NOT NULL, at timestamp(6) NOT NULL
) ENGINE=InnoDB CHARACTER SET ascii
""",
)
"""What a source writes to, so that the log brings its position and a commit time back."""
HISTORY_TABLE = (
    """
CREATE TABLE IF NOT EXISTS cdc.history (
  id tinyint PRIMARY KEY, mark char(16) NOT NULL
) ENGINE=InnoDB CHARACTER SET ascii
""",
    "INSERT IGNORE INTO cdc.history VALUES (1, LEFT(SHA2(CONCAT(UUID(), RAND()), 256), 16))",
)
"""Of a MariaDB: what tells its history from that of another server."""
PROGRESS = ("cdc_progress", "cdc_table")
WRITES = ("SELECT", "INSERT", "UPDATE", "DELETE")
TABLES = (*WRITES, "CREATE", "ALTER", "DROP", "TRIGGER")
"""What a sink does with tables; it sees triggers, which it refuses, by the right to make them."""

OLDEST_OF_SHOW_ROUTINE = (8, 0, 20)
_OLDEST_OF_FLUSH_TABLES = (8, 0, 23)
_THEIRS = ("mysql", "sys", "information_schema", "performance_schema", "cdc")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `shown` hides a secret."""

    why: str
    statement: str
    shown: str = ""

    def text(self) -> str:
        """As `--dry-run` prints it."""
        head = f"-- {self.why}\n" if self.why else ""
        return head + (self.shown or self.statement).strip()


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps, and what a reader should know besides."""

    steps: Sequence[Step]
    notes: Sequence[str] = ()


# -- the administrator ------------------------------------------------------------------------------------------
class Admin(Catalog):
    """His connection: what is refused on it is refused to him."""

    def rows(self, query: str, *parameters: object) -> list[Row]:
        try:
            return super().rows(query, *parameters)
        except CdcError as error:
            if error.transient:
                raise
            raise refused(self.server, error.text) from None


def open_admin(server: Server, admin_url: str | None) -> Admin:
    """As the mysql client would log him in: by a URL of his own, else by the section's without its user.

    In no database: that of a sink may be one that he is about to make.
    """
    parts = urlsplit(admin_url or server.url)
    if admin_url is None:
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    url = urlunsplit(parts._replace(path="/"))
    admin = Server(server.side, server.name, url, os.environ.get("MYSQL_PWD"), "setup")
    try:
        return Admin(admin)
    except CdcError as error:
        if error.transient:
            raise
        raise refused(admin, error.text) from None


def refused(admin: Server, problem: str) -> CdcError:
    return CdcError(SETUP_REFUSED, section=admin.name, problem=problem)


def home_of(server: Server) -> str:
    """The database of a sink's URL, in which its progress is."""
    if not server.database:
        raise refused(server, "its url names no database (mysql://ROLE@HOST/DATABASE)")
    return server.database


# -- the source -------------------------------------------------------------------------------------------------
def plan_source(catalog: Catalog, source: Source, password: str | None, *, archived: bool) -> Plan:
    """Role, rights, the table of heartbeats; what the administrator has to set is a note.

    `archived`: bases of it are taken for an archive.
    """
    inventory = take_inventory(catalog, source)
    if not inventory.capture:
        left_out = [(out.table.full_name, out.why) for out in inventory.stay_out]
        raise refused(catalog.server, nothing_to_capture(source.tables, left_out))
    user = role_of(source.url, source.name)
    grantees = accounts(catalog, user)
    steps = [
        *_user(catalog, user, password, f"source.{source.name}"),
        _grant("it may read the log", "REPLICATION SLAVE, REPLICATION CLIENT", "*.*", grantees),
        *_reads(catalog, source, inventory, grantees),
        *_locks(catalog, inventory, grantees),
        *(_definitions(catalog, inventory, grantees) if archived else ()),
        *(Step("heartbeats" if at == 0 else "", statement) for at, statement in enumerate(HEARTBEAT_TABLE)),
        _grant("", "INSERT, DELETE", "cdc.heartbeat", grantees),
        *(_history(grantees) if catalog.dialect is MARIADB else ()),
    ]
    lacking = [finding for finding in prerequisites(catalog) if finding.level in (Level.FAIL, Level.WARN)]
    notes = [
        *_password_notes(catalog, user, password, f"source.{source.name}"),
        *(f"left to you: {finding.what}: {finding.fix}" for finding in lacking),
        *(f"left out: {out.table.full_name}: {out.why}" for out in inventory.stay_out),
    ]
    return Plan(steps, notes)


def _history(grantees: Sequence[str]) -> Iterator[Step]:
    why = "a mark that tells this history from that of another server, whose GTIDs may be the same"
    for statement in HISTORY_TABLE:
        yield Step(why, statement)
        why = ""
    yield _grant("", "SELECT", "cdc.history", grantees)


def _reads(catalog: Catalog, source: Source, inventory: Inventory, grantees: Sequence[str]) -> Iterator[Step]:
    """A whole database where all of it is captured.

    Elsewhere a right to refer to tables shows them, and nothing in them; it is of no other use to one who makes none.
    """
    why = "it may read what is captured"
    stay_out = {out.table.schema for out in inventory.stay_out}
    for schema in sorted({table.schema for table in inventory.capture}):
        database = every_table(catalog, schema)
        if schema not in stay_out and _whole(source, schema):
            yield _grant(why, "SELECT", database, grantees)
        else:
            for table in inventory.capture:
                if table.schema == schema:
                    yield _grant(why, "SELECT", table.sql_name, grantees)
                    why = ""
            yield _grant("it sees every table, to say which are not captured", "REFERENCES", database, grantees)
        why = ""


def _whole(source: Source, schema: str) -> bool:
    """Whether every table is wanted, also one that comes later."""
    wanted, unwanted = ([glob.partition(".") for glob in globs] for globs in (source.tables, source.exclude))
    every = any(table == "*" and fnmatchcase(schema, glob) for glob, _, table in wanted)
    return every and not any(fnmatchcase(schema, glob) for glob, _, _ in unwanted)


def _locks(catalog: Catalog, inventory: Inventory, grantees: Sequence[str]) -> Iterator[Step]:
    why = "a copy begins under a lock, which lasts for a moment"
    if catalog.dialect.snapshot_tells_position:
        return
    if recognise(catalog).global_lock:
        has_own_right = version_of(catalog) >= _OLDEST_OF_FLUSH_TABLES
        yield _grant(why, "FLUSH_TABLES" if has_own_right else "RELOAD", "*.*", grantees)
        return
    for schema in sorted({table.schema for table in inventory.capture}):
        yield _grant(why, "LOCK TABLES", every_table(catalog, schema), grantees)
        why = ""


def _definitions(catalog: Catalog, inventory: Inventory, grantees: Sequence[str]) -> Iterator[Step]:
    why = "for its archive: a base holds every definition, and an account sees those that it may"
    for schema in sorted({table.schema for table in inventory.capture}):
        yield _grant(why, "SHOW VIEW, TRIGGER, EVENT", every_table(catalog, schema), grantees)
        why = ""
    # The administrator of a managed service may not have it to give.
    if catalog.dialect is MARIADB:
        yield _grant(why, "SELECT", "mysql.proc", grantees)
    elif recognise(catalog).global_lock and version_of(catalog) >= OLDEST_OF_SHOW_ROUTINE:
        yield _grant(why, "SHOW_ROUTINE", "*.*", grantees)


def version_of(catalog: Catalog) -> tuple[int, ...]:
    return version_number(catalog.version)


# -- the target -------------------------------------------------------------------------------------------------
def plan_target(
    catalog: Catalog, sink: Sink, source: Source, password: str | None, progress_tables: Sequence[str]
) -> Plan:
    """Role, rights, databases, progress tables."""
    home, user = home_of(Server(catalog.server.side, sink.name, sink.url)), role_of(sink.url, sink.name)
    grantees = accounts(catalog, user)
    steps = [
        *_user(catalog, user, password, f"sink.{sink.name}"),
        Step("progress is kept beside the rows", f"CREATE DATABASE IF NOT EXISTS {quoted(home)}"),
        *(Step("", _in(home, table)) for table in progress_tables),
        *(_grant("", ", ".join(WRITES), f"{quoted(home)}.{quoted(table)}", grantees) for table in PROGRESS),
        _grant(
            "batches are staged in temporary tables", "CREATE TEMPORARY TABLES", every_table(catalog, home), grantees
        ),
        *(
            _grant("it makes the tables it needs", ", ".join(TABLES), every_table(catalog, name), grantees)
            for name in homes(catalog, source, home)
        ),
    ]
    notes = _password_notes(catalog, user, password, f"sink.{sink.name}")
    if named_schemas(source)[1]:
        notes.append(
            f"tables = {', '.join(source.tables)} names databases by a pattern. For each that is not there yet: "
            f"GRANT {', '.join(TABLES)} ON `NAME`.* TO {', '.join(grantees)};"
        )
    return Plan(steps, notes)


def homes(catalog: Catalog, source: Source, home: str) -> list[str]:
    """The target's databases that tables of the source belong in: those named, and those there that match.

    That `*` matches says nothing: a server has databases of others too.
    """
    there = [str(name) for (name,) in catalog.rows("SELECT schema_name FROM information_schema.schemata")]
    named, _ = named_schemas(source)
    globs = {glob.partition(".")[0] for glob in source.tables} - set(named)
    schemas = {*named, *(name for name in there if any(fnmatchcase(name, glob) for glob in globs - {"*"}))}
    if source.engine == "postgresql":
        in_home = "public" in schemas or any(fnmatchcase("public", glob) for glob in globs)
        schemas = (schemas - {"public"}) | ({home} if in_home else set())
    return sorted(schemas.difference(_THEIRS))


def _in(home: str, table: str) -> str:
    """The statement, for a session that has no database of its own."""
    return table.strip().replace("TABLE IF NOT EXISTS ", f"TABLE IF NOT EXISTS {quoted(home)}.", 1)


# -- both -------------------------------------------------------------------------------------------------------
def accounts(catalog: Catalog, user: str) -> list[str]:
    """Every account of this name, as SQL has it; the one to be made where there is none."""
    hosts = [str(host) for (host,) in catalog.rows("SELECT host FROM mysql.user WHERE user = %s ORDER BY 1", user)]
    return [account(user, host) for host in hosts or ["%"]]


def _user(catalog: Catalog, user: str, password: str | None, section: str) -> Iterator[Step]:
    """Make the account, or give an existing one the password. A superuser is left as he is: he has it all."""
    found = catalog.rows("SELECT super_priv = 'Y' FROM mysql.user WHERE user = %s", user)
    if any(superuser for (superuser,) in found):
        return
    if password is None:
        if not found:
            raise refused(catalog.server, f"no password for {user}, who is not there yet: set password in [{section}]")
        return
    if is_in_the_clear(catalog):
        raise refused(catalog.server, "a password would cross the network in the clear: ?ssl-mode=REQUIRED in the URL")
    make = "ALTER" if found else "CREATE"
    identified = f"PASSWORD '{_hashed(password)}'" if catalog.dialect is MARIADB else f"'{escape_string(password)}'"
    for name in accounts(catalog, user):
        yield Step(
            f"the role of [{section}]",
            f"{make} USER {name} IDENTIFIED BY {identified}",
            f"{make} USER {name} IDENTIFIED BY '(password of [{section}])'",
        )


def _password_notes(catalog: Catalog, user: str, password: str | None, section: str) -> list[str]:
    """Asked before the account is made."""
    query = "SELECT 1 FROM mysql.user WHERE user = %s AND super_priv = 'N'"
    there = password is not None and catalog.rows(query, user)
    return [password_note(user, section)] if there else []


def _hashed(password: str) -> str:
    """As MariaDB keeps it: unlike MySQL, it writes a password that it is given into its logs."""
    return "*" + sha1(sha1(password.encode()).digest()).hexdigest().upper()  # noqa: S324 - the server's own form


def _grant(why: str, privileges: str, place: str, grantees: Sequence[str]) -> Step:
    return Step(why, f"GRANT {privileges} ON {place} TO {', '.join(grantees)}")


def apply(catalog: Catalog, plan: Plan) -> list[str]:
    """Step by step; the first that is refused ends it, and everything may be run again."""
    for step in plan.steps:
        catalog.rows(step.statement)
    return list(plan.notes)
