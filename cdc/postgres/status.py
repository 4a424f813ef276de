"""What `cdc status` asks Postgres: the slot and the WAL it keeps, a sink's progress. Questions only.

In: a server. Out: values. Refuses: nothing by itself; a server's errors come as `CdcError`.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from cdc.facts import Applied, TargetFacts
from cdc.position import Lsn
from cdc.postgres.catalog import Catalog
from cdc.postgres.session import Server
from cdc.postgres.waiting import waiting_for


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """A slot's WAL. `safe_bytes`: what may still be written before the server drops it, None without a limit."""

    active: bool
    lost: str | None
    confirmed: Lsn
    retained_bytes: int
    safe_bytes: int | None


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """`waiting` is the code of the error that its process waits to pass."""

    now_us: int
    wal_end: Lsn
    connected: bool
    slot: SlotFacts | None
    waiting: str | None = None


def source_facts(server: Server, slot: str) -> SourceFacts:
    """The source as it is now."""
    with closing(Catalog(server)) as catalog:
        wal_end = Lsn.parse(catalog.rows("SELECT pg_catalog.pg_current_wal_lsn()::text")[0][0])
        found = catalog.slot(slot)
        facts = None
        if found is not None:
            safe = catalog.rows(
                "SELECT s.safe_wal_size FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %s", slot
            )[0][0]
            retained = catalog.retained_bytes(slot)
            facts = SlotFacts(found.active_pid is not None, found.lost, found.confirmed, retained, safe)
        return SourceFacts(catalog.now_us(), wal_end, _connected(catalog), facts, waiting_for(catalog))


def target_facts(server: Server) -> TargetFacts:
    """A sink's progress as its target keeps it."""
    with closing(Catalog(server)) as catalog:
        waiting = waiting_for(catalog)
        if catalog.rows("SELECT pg_catalog.to_regclass('cdc.cdc_progress')")[0][0] is None:
            return TargetFacts(_connected(catalog), None, (), waiting)
        rows = catalog.rows(
            "SELECT p.epoch, p.txn_seq, p.position, p.commit_ts_us FROM cdc.cdc_progress p WHERE p.pipeline = %s",
            server.name,
        )
        copying = catalog.rows(
            "SELECT t.source_table FROM cdc.cdc_table t WHERE t.pipeline = %s AND t.state = 'copying' ORDER BY 1",
            server.name,
        )
        applied = Applied(*rows[0]) if rows and rows[0][2] is not None else None
        return TargetFacts(_connected(catalog), applied, tuple(row[0] for row in copying), waiting)


def _connected(catalog: Catalog) -> bool:
    """Whether another session of this section is there."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.application_name = %s "
        "AND a.datname = %s AND a.pid <> pg_catalog.pg_backend_pid())"
    )
    server = catalog.server
    return bool(catalog.rows(query, f"cdc {server.side.value} {server.name}", catalog.database)[0][0])
