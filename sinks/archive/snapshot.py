"""The source at one exact position: a session that sees just the transactions up to there. I/O.

In: a source's server. Out: `Exact`, for as long as the block lasts. Refuses: a table that is altered between the
snapshot and its lock (COPY_TORN), one without columns.

    temporary slot → the snapshot of its consistent point → a session under that snapshot

The consistent point is where the log would go on after exactly the transactions that the snapshot shows; a position
read beside a snapshot is no such thing (CORRECTNESS 33). The slot goes with its connection, also after a kill.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from cdc.errors import COPY_TORN, TABLE_WITHOUT_COLUMNS, CdcError
from cdc.event import Table
from cdc.failpoint import failpoint
from cdc.position import PgPosition
from cdc.postgres.catalog import Catalog, PublishedTable
from cdc.postgres.session import Server
from cdc.postgres.snapshot import BaseCopy
from cdc.postgres.stream import ReplicationStream


@dataclass(frozen=True, slots=True)
class Exact:
    """`now` answers for the present, `copy` for the position; `snapshot` lets other sessions see the same."""

    system_id: str
    position: PgPosition
    snapshot: str
    copy: BaseCopy
    now: Catalog

    def shapes(self, tables: Sequence[PublishedTable]) -> list[Table]:
        """Of tables that are locked from here on, so that what was altered before the lock is not read wrongly."""
        shapes = [self.copy.shape(table) for table in tables]
        for table in shapes:
            if self.now.versions(table.oid) != self.copy.catalog.versions(table.oid):
                raise CdcError(COPY_TORN, source=self.now.server.name, table=table.full_name)
            if not table.columns:
                raise CdcError(TABLE_WITHOUT_COLUMNS, source=self.now.server.name, table=table.full_name)
        return shapes


@contextmanager
def exact_snapshot(server: Server, now: Catalog, waiting: Callable[[str], None]) -> Iterator[Exact]:
    """`server.purpose` names the slot; `waiting` is told what keeps it from being made."""
    with closing(ReplicationStream(server)) as stream:
        identity = stream.identify()
        slot = stream.create_slot(
            f"cdc_{server.purpose}_{secrets.token_hex(8)}",
            lambda: waiting(f"for open transactions of {now.writing()}"),
            temporary=True,
        )
        failpoint(f"{server.purpose}.after_slot")
        with BaseCopy(server, slot.snapshot) as copy:
            yield Exact(
                identity.system_id, PgPosition(identity.timeline, slot.consistent_point), slot.snapshot, copy, now
            )
