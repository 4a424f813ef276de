"""Anchors: what the source itself holds at one exact position, as digests by SQL. I/O.

In: an archive, a server of its source, names of tables. Out: an `Anchor`, stored. Refuses: another database than the
archive's source (ANCHOR_OF_ANOTHER); to begin again by itself, a table that is altered between the snapshot and its
lock. A table that is not there, or that the role may not read, is left out: `proof` names what no anchor covers.

An anchor needs neither the log nor the configuration: its position says which transactions it has seen.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from cdc.engine import Server
from cdc.errors import ANCHOR_OF_ANOTHER, COPY_TORN, CdcError
from cdc.position import GtidSet, parse_position
from sinks.archive.archive import Archive
from sinks.archive.chain import read_tail
from sinks.archive.manifest import Anchor, AnchorTable
from sinks.archive.origin import Exact, named

_AGAIN_S = 1.0


def take_anchor(archive: Archive, server: Server, tables: Iterable[str], tell: Callable[[str], None]) -> Anchor:
    """Take one, however often it has to begin. `tell`: what it is doing, in words."""
    wanted = sorted(tables)
    while True:
        try:
            return _taken(archive, replace(server, purpose="anchor"), wanted, tell)
        except CdcError as error:
            if error.code is not COPY_TORN:
                raise
            tell(f"beginning again: {error.text}")
            time.sleep(_AGAIN_S)


def _taken(archive: Archive, server: Server, wanted: list[str], tell: Callable[[str], None]) -> Anchor:
    with named(server, wanted, lambda what: tell(f"waiting {what}")) as exact:
        _refuse_another(archive, server, exact)
        tables = {}
        for number, table in enumerate(exact.tables, 1):
            tell(f"digests of the source: {table.full_name} ({number} of {len(exact.tables)})")
            tables[table.full_name] = AnchorTable(schema_id=archive.put_shape(table), digests=exact.digests(table))
        anchor = Anchor(
            archive=archive.identity.archive,
            id=secrets.token_hex(8),
            system_id=exact.system_id,
            database=exact.database,
            position=str(exact.position),
            taken_ms=time.time_ns() // 1_000_000,
            tables=tables,
        )
    archive.put(anchor.name, anchor.to_bytes())
    return anchor


def _refuse_another(archive: Archive, server: Server, exact: Exact) -> None:
    """What another database holds would say for ever that this archive is wrong."""
    tail = read_tail(archive)
    if tail is None or None in (tail.segment.system_id, tail.segment.database):
        return
    wanted, found = (tail.segment.database, tail.segment.system_id), (exact.database, exact.system_id)
    here, there = exact.position, parse_position(tail.progress.position)
    if type(here) is not type(there):
        another = True
    elif isinstance(here, GtidSet):
        # A replica that took over is another server with the same history.
        another = not (here <= there or there <= here)
    else:
        another = wanted != found
    if another:
        raise CdcError(ANCHOR_OF_ANOTHER, source=server.name, found=_named(*found), wanted=_named(*wanted))


def _named(database: str | None, system_id: str | None) -> str:
    return f"{database} of server {system_id}"
