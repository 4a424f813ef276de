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
from contextlib import closing
from dataclasses import replace

from cdc.errors import ANCHOR_OF_ANOTHER, COPY_TORN, CdcError
from cdc.event import Table
from cdc.postgres.catalog import Catalog, PublishedTable
from cdc.postgres.session import Server
from sinks.archive.archive import Archive
from sinks.archive.chain import read_tail
from sinks.archive.manifest import Anchor, AnchorTable
from sinks.archive.snapshot import Exact, exact_snapshot
from sinks.digest import digests
from sinks.postgres.digest import digest_query

_AGAIN_S = 1.0
_TABLES = """
SELECT n.nspname, c.relname, c.oid::bigint FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname || '.' || c.relname = ANY (%s::text[])
  AND pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY 1, 2
"""


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
    with closing(Catalog(server)) as now, exact_snapshot(server, now, lambda what: tell(f"waiting {what}")) as exact:
        _refuse_another(archive, now, exact.system_id)
        found = [
            PublishedTable(schema, name, oid, partitioned=False, narrowed=False, entry=None)
            for schema, name, oid in exact.copy.catalog.rows(_TABLES, wanted)
        ]
        tables = {}
        for number, table in enumerate(exact.shapes(found), 1):
            tell(f"digests of the source: {table.full_name} ({number} of {len(found)})")
            tables[table.full_name] = _digested(archive, exact, table)
        anchor = Anchor(
            archive=archive.identity.archive,
            id=secrets.token_hex(8),
            system_id=exact.system_id,
            database=now.database,
            position=str(exact.position),
            taken_ms=time.time_ns() // 1_000_000,
            tables=tables,
        )
    archive.put(anchor.name, anchor.to_bytes())
    return anchor


def _refuse_another(archive: Archive, now: Catalog, system_id: str) -> None:
    """What another database holds would say for ever that this archive is wrong."""
    tail = read_tail(archive)
    if tail is None or None in (tail.segment.system_id, tail.segment.database):
        return
    wanted, found = (tail.segment.database, tail.segment.system_id), (now.database, system_id)
    if wanted != found:
        raise CdcError(ANCHOR_OF_ANOTHER, source=now.server.name, found=_named(*found), wanted=_named(*wanted))


def _named(database: str | None, system_id: str | None) -> str:
    return f"{database} of server {system_id}"


def _digested(archive: Archive, exact: Exact, table: Table) -> AnchorTable:
    sums = digests(exact.copy.rows(digest_query(table, only=True)))
    return AnchorTable(schema_id=archive.put_shape(table), digests=sums)
