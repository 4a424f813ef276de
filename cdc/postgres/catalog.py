"""What the source's catalogs and settings say: slot, publication, shapes; and the heartbeat's writing. I/O.

In: an ordinary connection of `session.Server`. Out: values. Refuses: nothing by itself; `source` and `check` judge.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg

from cdc.errors import SOURCE_HELD, CdcError
from cdc.event import Table
from cdc.position import Lsn
from cdc.postgres import messages
from cdc.postgres.session import Server
from cdc.postgres.tables import SHAPE, table_from_catalog

Connection = psycopg.Connection[Any]
_RELEASE_S = 10.0
# The server opens every published table to tell its columns, and the stream waits for this answer.
_PATIENCE = "SELECT pg_catalog.set_config('lock_timeout', '200ms', true)"
_PUBLICATION = (
    "SELECT p.oid::bigint, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, t.* "
    "FROM pg_catalog.pg_publication p LEFT JOIN LATERAL ("
    "SELECT n.nspname, c.relname, c.oid::bigint, c.relkind = 'p', "
    "coalesce(r.prattrs IS NOT NULL OR r.prqual IS NOT NULL, false), r.oid::bigint, CASE WHEN w.told THEN '' ELSE ("
    "SELECT pg_catalog.md5(pg_catalog.string_agg(a.attnum || ':' || a.xmin, ',' ORDER BY a.attnum)) "
    "FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0) END "
    "FROM pg_catalog.pg_get_publication_tables(p.pubname) g "
    "JOIN pg_catalog.pg_class c ON c.oid = g.relid "
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid "
    "CROSS JOIN (SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('cdc.secret'), 'SELECT'), false)"
    " AND (SELECT count(*) FROM pg_catalog.pg_event_trigger e "
    "WHERE e.evtname IN ('cdc_ddl', 'cdc_drop', 'cdc_rewrite') AND e.evtenabled = 'A') = 3"
    " AS told) w) t ON true WHERE p.pubname = %s ORDER BY t.nspname, t.relname"
)
_VERSIONS = """
SELECT c.relname, c.relnamespace::bigint, c.relreplident::text, (
  SELECT pg_catalog.array_agg(v ORDER BY v) FROM (
    SELECT 'a' || a.attnum || ':' || a.xmin FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
    UNION ALL SELECT 'd' || d.oid || ':' || d.xmin FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid
    UNION ALL SELECT 'i' || i.indexrelid || ':' || i.xmin FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid
    UNION ALL SELECT 'k' || k.oid || ':' || k.xmin FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid) of(v))
FROM pg_catalog.pg_class c WHERE c.oid = %s
"""
"""By the catalog's own rows: an ALTER writes new ones. A shape's expressions would ask the server for a lock."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A logical slot. `lost` says why the server gave it up, None while it stands."""

    name: str
    plugin: str
    database: str
    active_pid: int | None
    confirmed: Lsn
    restart: Lsn | None
    lost: str | None
    two_phase: bool


@dataclass(frozen=True, slots=True)
class PublishedTable:
    schema: str
    name: str
    oid: int
    partitioned: bool
    narrowed: bool
    """By a column list or a row filter."""
    entry: int | None
    """The oid of its entry in the publication; a table taken out and put back has another."""
    altered: str = ""
    """Where no event trigger tells of it: another text after each ALTER of a column, which may give rows new values."""

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication's tables that are wanted, and its options."""

    name: str
    oid: int
    tables: tuple[PublishedTable, ...]
    operations: str
    via_root: bool

    @property
    def fingerprint(self) -> str:
        """The same as long as the same changes of the same tables are published without a break.

        The server says nothing of changes that it left out meanwhile; so what was dropped and made again differs.
        """
        return hashlib.sha256(
            orjson.dumps(
                [
                    self.name,
                    self.oid,
                    self.operations,
                    self.via_root,
                    sorted((t.schema, t.name, t.oid, t.narrowed, t.entry, t.altered) for t in self.tables),
                ]
            )
        ).hexdigest()

    def difference(self, now: Publication) -> str:
        """What changed, for the message."""
        before, after = ({t.full_name: t for t in p.tables} for p in (self, now))
        changes = [f"{name} left it" for name in before.keys() - after.keys()]
        changes += [f"{name} entered it" for name in after.keys() - before.keys()]
        changes += [f"{name} was made anew, put back or altered" for name in before.keys() & after.keys()
                    if before[name] != after[name]]  # fmt: skip
        if self.oid != now.oid:
            changes.append("it was dropped and made again")
        if (self.operations, self.via_root) != (now.operations, now.via_root):
            changes.append("its options changed")
        return ", ".join(sorted(changes))


def _publication(name: str, rows: Sequence[tuple[Any, ...]], wanted: Callable[[str, str], bool]) -> Publication | None:
    """From the rows of `_PUBLICATION`: one without tables has one row, one that is not there none."""
    if not rows:
        return None
    oid, *flags, via_root = rows[0][:6]
    tables = tuple(PublishedTable(*row[6:]) for row in rows if row[6] is not None and wanted(row[6], row[7]))
    operations = "".join(letter for letter, on in zip("iudt", flags, strict=True) if on)
    return Publication(name, oid, tables, operations, via_root)


class LockedError(Exception):
    """Somebody else's lock is in the way; it was not waited for."""


class Catalog:
    """Questions to one source database."""

    def __init__(self, server: Server, *, statement_timeout: str = "30s") -> None:
        # A heartbeat that hangs would hold up the stream for ever.
        self.server = server
        self.connection: Connection = server.connect(settings={"statement_timeout": statement_timeout})

    def close(self) -> None:
        self.connection.close()

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.server.errors():
            # Without parameters, psycopg leaves a % alone, which names may have.
            return self.connection.execute(query, parameters or None).fetchall()

    def setting(self, name: str) -> str | None:
        value = self.rows("SELECT pg_catalog.current_setting(%s, true)", name)[0][0]
        return None if value is None else str(value)

    @property
    def version(self) -> int:
        return self.connection.info.server_version

    @property
    def database(self) -> str:
        return self.connection.info.dbname

    def in_recovery(self) -> bool:
        return bool(self.rows("SELECT pg_catalog.pg_is_in_recovery()")[0][0])

    def now_us(self) -> int:
        return int(self.rows("SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint")[0][0])

    # -- slot ---------------------------------------------------------------------------------------------------
    def slot(self, name: str) -> Slot | None:
        reason = "s.invalidation_reason" if self.version >= 170000 else "NULL"
        found = self.rows(
            f"SELECT s.plugin, s.database, s.active_pid, s.confirmed_flush_lsn::text, s.restart_lsn::text, "  # noqa: S608
            f"s.wal_status, {reason}, s.two_phase FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %s",
            name,
        )
        if not found:
            return None
        plugin, database, pid, confirmed, restart, status, reason, two_phase = found[0]
        lost = reason or ("wal_status lost" if status == "lost" or restart is None else None)
        return Slot(
            name,
            plugin,
            database,
            pid,
            Lsn.parse(confirmed or "0/0"),
            Lsn.parse(restart) if restart else None,
            lost,
            two_phase,
        )

    def retained_bytes(self, slot: str) -> int:
        """WAL that the server keeps for it."""
        found = self.rows(
            "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::bigint "
            "FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %s AND s.restart_lsn IS NOT NULL",
            slot,
        )
        return max(0, int(found[0][0])) if found else 0

    def drop_slot(self, name: str) -> None:
        """Also one that a connection of ours has just left: the server takes a moment to notice."""
        deadline = time.monotonic() + _RELEASE_S
        while (slot := self.slot(name)) is not None:
            if slot.active_pid is None:
                self.rows("SELECT pg_catalog.pg_drop_replication_slot(%s)", name)
            elif time.monotonic() > deadline:
                raise CdcError(SOURCE_HELD, source=self.server.name, holder=f"backend {slot.active_pid}")
            else:
                time.sleep(0.1)

    def writing(self) -> str:
        """The transactions that a new slot has to wait for, oldest first, for the message."""
        found = self.rows(
            "SELECT a.pid, coalesce(a.usename, '?'), coalesce(a.application_name, '') "
            "FROM pg_catalog.pg_stat_activity a "
            "WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid() "
            "ORDER BY pg_catalog.age(a.backend_xid) DESC LIMIT 3"
        )
        prepared = self.rows("SELECT x.gid FROM pg_catalog.pg_prepared_xacts x ORDER BY x.prepared LIMIT 3")
        backends = [f"backend {pid} ({user} {program})".replace(" )", ")") for pid, user, program in found]
        return ", ".join(backends + [f"prepared transaction {gid}" for (gid,) in prepared]) or "nobody that is visible"

    def try_lock(self, name: str) -> bool:
        """Hold a source's name while its slot is not held: until `unlock`, or as long as this connection lives."""
        return bool(
            self.rows(
                "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0))",
                f"cdc source {name}",
            )[0][0]
        )

    def unlock(self, name: str) -> None:
        self.rows("SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended(%s, 0))", f"cdc source {name}")

    def lock_holder(self, name: str) -> str:
        """Who holds the name, for the message."""
        found = self.rows(
            "SELECT a.pid, a.application_name, coalesce(a.client_addr::text, 'local') FROM pg_catalog.pg_locks l "
            "JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted AND "
            "(l.classid::bigint << 32 | l.objid::bigint) = pg_catalog.hashtextextended(%s, 0)",
            f"cdc source {name}",
        )
        return f"backend {found[0][0]} ({found[0][1]} from {found[0][2]})" if found else "nobody by now"

    # -- publication and tables ---------------------------------------------------------------------------------
    def publication(self, name: str, wanted: Callable[[str, str], bool]) -> Publication | None:
        """One statement: one that is dropped meanwhile must not look like one without tables."""
        with self.server.errors(), suppress(psycopg.errors.UndefinedObject):
            return _publication(name, self.connection.execute(_PUBLICATION, (name,)).fetchall(), wanted)
        return None

    def publication_unless_locked(self, name: str, wanted: Callable[[str, str], bool]) -> Publication | None:
        """Likewise; raises `LockedError` where somebody holds a table of it for himself, which may be for hours."""
        with self.server.errors(), suppress(psycopg.errors.UndefinedObject), self.connection.transaction():
            self.connection.execute(_PATIENCE)
            try:
                found = self.connection.execute(_PUBLICATION, (name,)).fetchall()
            except psycopg.errors.LockNotAvailable:
                raise LockedError from None
            return _publication(name, found, wanted)
        return None

    def unpublished(self, publication: Publication, wanted: Callable[[str, str], bool]) -> list[tuple[str, str, int]]:
        """Permanent tables that are wanted and not in the publication: (schema, name, oid)."""
        rows = self.rows(
            "SELECT n.nspname, c.relname, c.oid::bigint FROM pg_catalog.pg_class c "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition AND NOT EXISTS ("
            "  SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
            "  AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1, 2"
        )
        held = {table.oid for table in publication.tables}
        return [(schema, name, oid) for schema, name, oid in rows if wanted(schema, name) and oid not in held]

    def shapes(self, oids: Sequence[int]) -> list[Table]:
        """The shapes of these tables, as this connection's snapshot shows them."""
        return [table_from_catalog(self.rows(SHAPE + "%s", oid)[0][0], source=self.server.name) for oid in oids]

    def versions(self, oid: int) -> tuple[Any, ...]:
        """The same as long as nobody altered the table. Takes no lock: it waits for no ALTER in the queue."""
        return self.rows(_VERSIONS, oid)[0]

    # -- logical messages ---------------------------------------------------------------------------------------
    def secret(self) -> bytes | None:
        """What proves the event trigger's messages; None without the trigger (or the right to read it)."""
        found = self.rows(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = 'cdc_ddl' AND evtenabled <> 'D') "
            "AND pg_catalog.to_regclass('cdc.secret') IS NOT NULL "
            "AND pg_catalog.has_table_privilege(pg_catalog.to_regclass('cdc.secret'), 'SELECT')"
        )
        return bytes(self.rows("SELECT value FROM cdc.secret")[0][0]) if found[0][0] else None

    def heartbeat(self, token: str) -> None:
        """Commit our token, so that the stream brings it back with a position and a commit time."""
        self.rows("SELECT pg_catalog.pg_logical_emit_message(true, %s, %s)", messages.HEARTBEAT, token)
