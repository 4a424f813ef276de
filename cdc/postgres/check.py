"""`cdc check` of a source: every prerequisite at once, each with the statement that mends it. I/O, changes nothing.

In: a `[source.NAME]` section, reached as its own role. Out: findings, in the order a reader would mend them.
Refuses nothing: what cannot be asked (the server is away, the login is refused) is a finding itself.

Statements are given in the variant of the managed service where its settings give it away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

from cdc.errors import CdcError
from cdc.finding import Finding, Level, clocks, fail, listed, note, ok, warn
from cdc.postgres.catalog import Catalog
from cdc.postgres.inventory import Inventory, SourceTable, take_inventory
from cdc.postgres.messages import TRIGGERS
from cdc.postgres.provider import Provider, recognise
from cdc.postgres.session import Server
from cdc.sections import Source

_OLDEST = 140000
# The stream reports at least every 10 s; a server that hangs up sooner would do so again and again.
_SHORTEST_TIMEOUT_MS = 20_000
_HIDDEN_SEQUENCES = (
    "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_class c "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.relpersistence = 'p' "
    "AND n.nspname <> 'cdc' AND CASE WHEN c.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(c.oid, "
    "'SELECT, USAGE') END ORDER BY 1"
)


def check_source(source: Source) -> tuple[list[Finding], Inventory | None]:
    """All findings, and the tables that will be captured, for those who ask about their topics."""
    try:
        server = source.server()
        assert isinstance(server, Server)
        with closing(Catalog(server)) as catalog:
            inventory = take_inventory(catalog, source.name, source.wanted)
            return list(_Check(catalog, source, inventory).findings()), inventory
    except CdcError as error:
        return [fail(f"{error.code.name}: {error.text}", error.hint)], None


class _Check:
    """One pass over one source. Each method is one subject."""

    def __init__(self, catalog: Catalog, source: Source, inventory: Inventory) -> None:
        self._catalog, self._source, self._inventory = catalog, source, inventory
        self._provider: Provider = recognise(catalog)
        self._slot = catalog.slot(source.slot)

    def findings(self) -> Iterator[Finding]:
        yield from self._server()
        yield from self._clock()
        yield from self._wal()
        yield from self._slots()
        yield from self._tables()
        yield from self._publication()
        yield from self._rights()
        yield from self._event_trigger()
        yield from self._not_covered()

    # -- the server ---------------------------------------------------------------------------------------------
    def _server(self) -> Iterator[Finding]:
        version = self._catalog.connection.info.parameter_status("server_version")
        if self._catalog.version < _OLDEST:
            yield fail(f"Postgres {version} is too old, 14 or later is needed")
        else:
            yield ok(f"Postgres {version}{self._provider.label}, database {self._catalog.database}, encoding known")
        yield from in_the_clear(self._catalog)
        if self._catalog.in_recovery():
            yield fail("the server is a standby", "point the source's url at the primary")

    def _clock(self) -> Iterator[Finding]:
        before = time.time()
        there = self._catalog.now_us() / 1e6
        yield from clocks(there - (before + time.time()) / 2)

    def _wal(self) -> Iterator[Finding]:
        level = self._catalog.setting("wal_level")
        if level == "logical":
            yield ok("wal_level = logical")
        else:
            yield fail(f"wal_level = {level}, logical is needed", self._provider.set("wal_level", "logical"))
        timeout = int(self._raw("wal_sender_timeout"))
        if 0 < timeout < _SHORTEST_TIMEOUT_MS:
            fix = self._provider.set("wal_sender_timeout", "60s")
            yield warn(f"wal_sender_timeout = {timeout} ms: a pause of the source ends its stream", fix)
        yield self._retained()

    def _retained(self) -> Finding:
        """An outage of Kafka keeps WAL on production's disk: something has to end that before the disk is full."""
        keep_mb, alarm = int(self._raw("max_slot_wal_keep_size")), self._source.max_retained_wal
        keep = f"max_slot_wal_keep_size = {keep_mb} MB: the server drops the slot before its disk is full"
        if keep_mb >= 0 and alarm is not None and alarm >= keep_mb << 20:
            return warn(
                f"max_retained_wal is not below max_slot_wal_keep_size ({keep_mb} MB): the alarm would come too late",
                "lower max_retained_wal in cdc.toml",
            )
        if keep_mb >= 0:
            return ok(keep)
        if alarm is not None:
            return ok(f"max_retained_wal = {alarm >> 20} MiB raises an alarm before the disk is in danger")
        return warn(
            "neither max_slot_wal_keep_size nor max_retained_wal is set: while the source is stopped WAL grows until "
            "production's disk is full",
            f'max_retained_wal = "20GiB" in [source.{self._source.name}] (alarm); and '
            + self._provider.set("max_slot_wal_keep_size", "50GB"),
        )

    def _slots(self) -> Iterator[Finding]:
        if self._slot is not None:
            yield from self._own_slot()
            return
        room = self._room("max_replication_slots", "pg_catalog.pg_replication_slots")
        senders = self._room("max_wal_senders", "pg_catalog.pg_stat_replication")
        for name, (limit, used) in (("max_replication_slots", room), ("max_wal_senders", senders)):
            if used < limit:
                yield ok(f"{name}: {used} of {limit} in use")
            else:
                yield fail(f"{name}: all {limit} are in use", self._provider.set(name, str(limit + 5)))

    def _own_slot(self) -> Iterator[Finding]:
        slot, name = self._slot, self._source.slot
        assert slot is not None
        if slot.lost:
            again = f"cdc source run {self._source.name} --reopen copy-again"
            yield fail(f"slot {name} was given up by the server ({slot.lost}): the log it needs is gone", again)
        elif slot.plugin != "pgoutput" or slot.database != self._catalog.database:
            yield fail(
                f"slot {name} is somebody else's: plugin {slot.plugin}, database {slot.database}",
                f'name another one: slot = "…" in [source.{self._source.name}]',
            )
        else:
            held = f"held by backend {slot.active_pid}" if slot.active_pid else "not in use: WAL is kept for it"
            yield ok(f"slot {name}, confirmed at {slot.confirmed}, {held}")
        if self._catalog.version >= 180000 and int(self._raw("idle_replication_slot_timeout")) > 0:
            fix = self._provider.set("idle_replication_slot_timeout", "0")
            yield warn("idle_replication_slot_timeout is set: a source that is stopped for longer loses its slot", fix)

    def _room(self, setting: str, view: str) -> tuple[int, int]:
        return int(self._raw(setting)), int(self._catalog.rows(f"SELECT count(*) FROM {view}")[0][0])  # noqa: S608

    def _raw(self, name: str) -> str:
        """A setting in its own unit."""
        return str(self._catalog.rows("SELECT setting FROM pg_catalog.pg_settings WHERE name = %s", name)[0][0])

    # -- tables and publication ---------------------------------------------------------------------------------
    def _tables(self) -> Iterator[Finding]:
        captured = self._inventory.capture
        if captured:
            yield ok(f"{len(captured)} tables to capture: {listed([t.full_name for t in captured])}")
        else:
            patterns = ", ".join(self._source.tables)
            yield fail(f"no table that can be captured matches tables = {patterns}", "correct tables in cdc.toml")
        for out in self._inventory.stay_out:
            yield Finding(out.level, f"{out.table.full_name} stays out: {out.why}", out.fix)
        if self._inventory.unwanted:
            names = listed(self._inventory.unwanted)
            yield note(f"stay out because tables and exclude do not name them: {names}")
        for table in captured:
            if table.generated:
                columns = ", ".join(table.generated)
                yield note(f"{table.full_name}: generated columns are not carried: {columns}")

    def _publication(self) -> Iterator[Finding]:
        name = self._source.publication
        publication = self._catalog.publication(name, self._source.wanted)
        setup = f"cdc setup {self._source.name}"
        if publication is None:
            yield fail(f"publication {name} does not exist", setup)
            return
        published = {table.full_name: table for table in publication.tables}
        wanted = {table.full_name: table for table in self._inventory.capture}
        missing = [table for full_name, table in wanted.items() if full_name not in published]
        if missing:
            names = ", ".join(table.sql_name for table in missing)
            again = f"; then copy again: cdc source run {self._source.name} --reopen copy-again" if self._slot else ""
            yield fail(
                f"publication {name} lacks {listed([t.full_name for t in missing])}",
                f"{setup}  (ALTER PUBLICATION {name} ADD TABLE {names};){again}",
            )
        refused = {out.table.full_name for out in self._inventory.stay_out}
        for full_name in sorted(refused & published.keys()):
            yield fail(f"publication {name} holds {full_name}, which cannot be captured", setup)
        for table in publication.tables:
            if table.narrowed:
                yield fail(f"publication {name} narrows {table.full_name} by a row filter or column list", setup)
        if publication.operations != "iudt":
            fix = f"ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"
            yield fail(f"publication {name} does not publish every operation", fix)
        if not missing:
            yield ok(f"publication {name} holds {len(published)} of the wanted tables")

    # -- rights -------------------------------------------------------------------------------------------------
    def _rights(self) -> Iterator[Finding]:
        role, replicates = self._role()
        if replicates:
            yield ok(f"role {role} may replicate")
        else:
            yield fail(f"role {role} may not replicate", self._provider.grant_replication(role))
        unreadable = [table for table in self._inventory.capture if not table.readable]
        if unreadable:
            names = ", ".join(table.sql_name for table in unreadable)
            schemas = ", ".join(sorted({table.sql_name.rpartition(".")[0] for table in unreadable}))
            yield fail(
                f"role {role} may not read {listed([t.full_name for t in unreadable])}",
                f"GRANT USAGE ON SCHEMA {schemas} TO {role}; GRANT SELECT ON {names} TO {role};",
            )
        else:
            yield ok(f"role {role} may read every table to capture")
        yield from self._row_security(role, self._inventory.capture)
        if not self._may_emit():
            yield fail(
                f"role {role} may not call pg_logical_emit_message, which carries the heartbeat",
                f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, text"
                f"{', boolean' if self._catalog.version >= 170000 else ''}) TO {role};",
            )

    def _role(self) -> tuple[str, bool]:
        name, may = self._catalog.rows(
            "SELECT pg_catalog.quote_ident(current_user), r.rolreplication OR r.rolsuper "
            "FROM pg_catalog.pg_roles r WHERE r.rolname = current_user"
        )[0]
        if self._provider.replication_role and not may:
            may = self._catalog.rows(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = %s "
                "AND pg_catalog.pg_has_role(r.oid, 'MEMBER'))",
                self._provider.replication_role,
            )[0][0]
        return str(name), bool(may)

    def _row_security(self, role: str, tables: tuple[SourceTable, ...]) -> Iterator[Finding]:
        hidden = [table.full_name for table in tables if table.row_security]
        if hidden:
            yield fail(
                f"row level security hides rows of {listed(hidden)} from role {role}", f"ALTER ROLE {role} BYPASSRLS;"
            )

    def _may_emit(self) -> bool:
        return bool(
            self._catalog.rows(
                "SELECT bool_and(pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) FROM pg_catalog.pg_proc p "
                "WHERE p.proname = 'pg_logical_emit_message' "
                "AND p.proargtypes[1] = 'text'::regtype AND p.proargtypes[2] = 'text'::regtype"
            )[0][0]
        )

    # -- what is lost -------------------------------------------------------------------------------------------
    def _event_trigger(self) -> Iterator[Finding]:
        found = self._catalog.rows(
            "SELECT count(*) FROM pg_catalog.pg_event_trigger t WHERE t.evtenabled = 'A' AND t.evtname = ANY (%s)",
            list(TRIGGERS),
        )[0][0]
        if found == len(TRIGGERS) and self._catalog.secret() is not None:
            yield ok("event trigger cdc_ddl carries schema changes")
        elif found == len(TRIGGERS):
            role = self._role()[0]
            yield fail(
                "role may not read cdc.secret, so that schema changes cannot be believed",
                f"GRANT USAGE ON SCHEMA cdc TO {role}; GRANT SELECT ON cdc.secret TO {role};",
            )
        else:
            yield warn(
                "no event trigger: a schema change of a captured table stops the source, and its tables have to be "
                "copied again",
                f"cdc setup {self._source.name} as a superuser",
            )

    def _not_covered(self) -> Iterator[Finding]:
        sequences, objects = self._catalog.rows(
            "SELECT (SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind = 'S' AND c.relpersistence = 'p'), "
            "(SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)"
        )[0]
        hidden = [name for (name,) in self._catalog.rows(_HIDDEN_SEQUENCES)]
        if hidden:
            yield note(
                f"sequences that a restore cannot set to their value at a moment, because role {self._role()[0]} may "
                f"not read them: {listed(hidden)}",
                f"GRANT SELECT ON SEQUENCE … TO {self._role()[0]};",
            )
        parts = ["roles and grants"]
        parts += [f"{sequences} sequences (a restore sets them, replicas do not)"] if sequences else []
        parts += [f"{objects} large objects"] if objects else []
        parts += [f"unlogged tables {listed(self._inventory.unlogged)}"] if self._inventory.unlogged else []
        level = Level.WARN if objects else Level.NOTE
        yield Finding(level, f"not covered, the log does not carry them: {', '.join(parts)}")


def in_the_clear(catalog: Catalog) -> Iterator[Finding]:
    """Rows should not cross a network unencrypted."""
    pgconn = catalog.connection.pgconn
    address = pgconn.hostaddr.decode()
    local = not address or ip_address(address).is_loopback
    if not local and not pgconn.ssl_in_use:
        yield warn(
            "the connection is not encrypted: rows cross the network in the clear", "?sslmode=verify-full in url"
        )
