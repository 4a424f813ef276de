"""What `cdc status` asks MySQL: the log it keeps, who reads it, a sink's progress. Questions only.

In: a server. Out: values. Refuses: nothing by itself; a server's errors come as `CdcError`.

A session of ours names itself to the server; a role sees those of its own, an administrator all.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass

from cdc.errors import CdcError
from cdc.facts import Applied, TargetFacts
from cdc.mysql.catalog import Catalog, History, lock_name, sink_lock_name
from cdc.mysql.prerequisites import retention_s
from cdc.mysql.session import Server
from cdc.mysql.waiting import waiting_for
from cdc.position import GtidPosition

_DUMP = "p.command LIKE 'Binlog Dump%%'"
_DUMPS = f"""
SELECT 1 FROM information_schema.processlist p
JOIN performance_schema.{{}} a ON a.processlist_id = p.id AND a.attr_name = 'program_name'
WHERE a.attr_value = %s AND {_DUMP}
"""  # noqa: S608 - a word of ours
_DUMPS_OF_ACCOUNT = (
    "SELECT 1 FROM information_schema.processlist p WHERE p.user = SUBSTRING_INDEX(CURRENT_USER(), '@', 1) "
    "AND p.command LIKE 'Binlog Dump%'"
)


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
    """`holder` is who has the source's lock; `reads`: its dump is running.

    `waiting` is the code of the error that its process waits to pass.
    """

    now_us: int
    holder: str | None
    reads: bool
    binlog: BinlogFacts
    waiting: str | None = None


def source_facts(server: Server) -> SourceFacts:
    """The source as it is now."""
    with closing(Catalog(server)) as catalog:
        now = catalog.rows("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)")[0][0]
        logs = catalog.rows("SHOW BINARY LOGS")
        binlog = BinlogFacts(
            oldest_file=str(logs[0][0]),
            kept_bytes=sum(int(row[1]) for row in logs),
            keeps_s=retention_s(catalog),
            purged=catalog.purged(),
            executed=catalog.executed(),
            history=catalog.history(),
        )
        holder = catalog.lock_holder(lock_name(server.name))
        return SourceFacts(int(now), holder, _reads(catalog), binlog, waiting_for(catalog))


def target_facts(server: Server) -> TargetFacts:
    """A sink's progress as its target keeps it, in the database of the URL."""
    with closing(Catalog(server)) as catalog:
        connected = catalog.lock_holder(sink_lock_name(server.name, server.database)) is not None
        waiting = waiting_for(catalog)
        query = (
            "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'cdc_progress'"
        )
        if not catalog.rows(query):
            return TargetFacts(connected, None, (), waiting)
        rows = catalog.rows(
            "SELECT epoch, txn_seq, position, commit_ts_us FROM cdc_progress WHERE pipeline = %s", server.name
        )
        copying = catalog.rows(
            "SELECT source_table FROM cdc_table WHERE pipeline = %s AND state = 'copying' ORDER BY 1", server.name
        )
        applied = Applied(*rows[0]) if rows and rows[0][2] is not None else None
        return TargetFacts(connected, applied, tuple(str(row[0]) for row in copying), waiting)


def _reads(catalog: Catalog) -> bool:
    """Whether a dump of this name is running: one of our own account's, or of any's where we may look."""
    found = []
    for table in ("session_connect_attrs", "session_account_connect_attrs"):
        with suppress(CdcError):
            found = catalog.rows(_DUMPS.format(table), catalog.server.program)
            break
    if not found and catalog.variable("performance_schema") == "OFF":
        # Where nobody tells his name, it is the account's.
        found = catalog.rows(_DUMPS_OF_ACCOUNT)
    return bool(found)
