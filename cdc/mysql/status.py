"""What `cdc status` asks MySQL: the log it keeps, who reads it, a sink's progress. Questions only.

In: a server. Out: values. Refuses: nothing by itself; a server's errors come as `CdcError`.

A session of ours names itself to the server; a role sees those of its own, an administrator all.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from cdc.errors import CdcError
from cdc.facts import Applied, TargetFacts
from cdc.mysql.catalog import Catalog, History, lock_name
from cdc.mysql.prerequisites import retention_s
from cdc.mysql.session import Server
from cdc.position import GtidPosition

_SESSIONS = """
SELECT p.id, p.host, p.command FROM information_schema.processlist p
JOIN performance_schema.{} a ON a.processlist_id = p.id AND a.attr_name = 'program_name'
WHERE a.attr_value = %s AND (%s = '' OR p.db = %s) AND p.id <> CONNECTION_ID()
"""


@dataclass(frozen=True, slots=True)
class BinlogFacts:
    """The log that the server keeps by its own settings, whoever still needs it. `keeps_s`: None for ever."""

    oldest_file: str
    kept_bytes: int
    keeps_s: int | None
    purged: GtidPosition
    executed: GtidPosition
    history: History


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """`holder` is who has the source's lock; `reads`: its dump is running."""

    now_us: int
    holder: str | None
    reads: bool
    binlog: BinlogFacts


@dataclass(frozen=True, slots=True)
class Session:
    id: int
    host: str
    command: str


def source_facts(server: Server) -> SourceFacts:
    """The source as it is now."""
    with closing(Catalog(server)) as catalog:
        held, now = catalog.rows(
            "SELECT IS_USED_LOCK(%s), CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)", lock_name(server.name)
        )[0]
        ours = sessions(catalog, server.program)
        logs = catalog.rows("SHOW BINARY LOGS")
        binlog = BinlogFacts(
            oldest_file=str(logs[0][0]),
            kept_bytes=sum(int(row[1]) for row in logs),
            keeps_s=retention_s(catalog),
            purged=catalog.purged(),
            executed=catalog.executed(),
            history=catalog.history(),
        )
        holder = None if held is None else catalog.lock_holder(server.name)
        return SourceFacts(int(now), holder, any(one.command.startswith("Binlog Dump") for one in ours), binlog)


def target_facts(server: Server) -> TargetFacts:
    """A sink's progress as its target keeps it, in the database of the URL."""
    with closing(Catalog(server)) as catalog:
        connected = bool(sessions(catalog, server.program, server.database))
        query = (
            "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'cdc_progress'"
        )
        if not catalog.rows(query):
            return TargetFacts(connected, None, ())
        rows = catalog.rows(
            "SELECT epoch, txn_seq, position, commit_ts_us FROM cdc_progress WHERE pipeline = %s", server.name
        )
        copying = catalog.rows(
            "SELECT source_table FROM cdc_table WHERE pipeline = %s AND state = 'copying' ORDER BY 1", server.name
        )
        applied = Applied(*rows[0]) if rows and rows[0][2] is not None else None
        return TargetFacts(connected, applied, tuple(str(row[0]) for row in copying))


def sessions(catalog: Catalog, program: str, database: str = "") -> list[Session]:
    """Others of this name: of our own account, or of all where we may look."""
    try:
        found = catalog.rows(_SESSIONS.format("session_connect_attrs"), program, database, database)
    except CdcError:
        found = catalog.rows(_SESSIONS.format("session_account_connect_attrs"), program, database, database)
    return [Session(int(id_), str(host), str(command)) for id_, host, command in found]
