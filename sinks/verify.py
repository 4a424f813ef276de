"""Whether a replica holds what its source holds: digests of every captured table at one position.

In: source and target, the tables' shapes, the end of the log. Out: a `Verdict`: equal, different, or not comparable.
Refuses: a sink that does not come up to the source's position in time (VERIFY_BEHIND).

The source is read under one snapshot, between two positions of its log. The sink is waited for until it has applied
the second; if no transaction lies between the first position and what the replica's own snapshot shows, both hold
the same transactions, and a difference is a difference. On a source that is written to all the time that seldom
comes about; then equal digests still mean equality, others mean nothing and are called that.

A digest is blind to the order of rows. Both sessions have the same settings, so equal values are equal text. Tables
that inherit from a captured one are not part of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from cdc.errors import VERIFY_BEHIND, CdcError
from cdc.event import Table
from cdc.position import Lsn, PgPosition
from cdc.postgres.session import Server
from cdc.verdict import Compared, Verdict
from sinks.digest import Digests, differing, digests
from sinks.postgres.digest import digest_query, rows_query

Connection = psycopg.Connection[Any]
_SHOWN = 5
_EVERY_S = 0.2


def verify(
    source: Server,
    target: Server,
    tables: Sequence[Table],
    last_up_to: Callable[[Lsn], tuple[int, int] | None],
    timeout_s: float,
) -> Verdict:
    """Compare once. `last_up_to`: (epoch, number) of the last transaction up to a position, None if not known."""
    with _reading(source) as at_source, _reading(target) as at_target:
        before = _wal_position(at_source)
        with source.errors(), at_source.transaction():
            digests = [_digest(at_source, table, only=True) for table in tables]
            after = _wal_position(at_source)
            _wait(at_target, target, after, timeout_s)
            with target.errors(), at_target.transaction():
                # The first statement takes the snapshot that the digests are read under.
                position, epoch, txn_seq = _progress(at_target, target.name)
                copying = _copying(at_target, target.name)
                compared = [
                    _compare(at_source, at_target, table, digest) for table, digest in zip(tables, digests, strict=True)
                ]
        moved = last_up_to(before) != (epoch, txn_seq)
        return Verdict(position, epoch, txn_seq, tuple(compared), moved, copying)


@contextmanager
def _reading(server: Server) -> Iterator[Connection]:
    settings = {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"}
    connection = server.connect(settings=settings)
    try:
        yield connection
    finally:
        connection.close()


def _wal_position(connection: Connection) -> Lsn:
    return Lsn.parse(_one(connection, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text")[0])


def _wait(connection: Connection, target: Server, position: Lsn, timeout_s: float) -> None:
    """Until the sink has applied everything up to there; a heartbeat takes it there when nothing is written."""
    deadline = time.monotonic() + timeout_s
    while True:
        with target.errors():
            stands = _progress(connection, target.name)[0] if _has_progress(connection) else ""
        if stands and PgPosition.parse(stands).lsn >= position:
            return
        if time.monotonic() > deadline:
            raise CdcError(
                VERIFY_BEHIND, sink=target.name, stands=stands or "nothing", wanted=position, seconds=int(timeout_s)
            )
        time.sleep(_EVERY_S)


def _has_progress(connection: Connection) -> bool:
    return _one(connection, "SELECT pg_catalog.to_regclass('cdc.cdc_progress')")[0] is not None


def _progress(connection: Connection, pipeline: str) -> tuple[str, int, int]:
    query = "SELECT coalesce(p.position, ''), p.epoch, p.txn_seq FROM cdc.cdc_progress p WHERE p.pipeline = %s"
    found = connection.execute(query, [pipeline]).fetchone()
    return (str(found[0]), int(found[1]), int(found[2])) if found else ("", 0, 0)


def _copying(connection: Connection, pipeline: str) -> tuple[str, ...]:
    query = "SELECT t.source_table FROM cdc.cdc_table t WHERE t.pipeline = %s AND t.state = 'copying' ORDER BY 1"
    return tuple(row[0] for row in connection.execute(query, [pipeline]))


def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert row is not None
    return row


# -- digests ----------------------------------------------------------------------------------------------------
def _digest(connection: Connection, table: Table, *, only: bool) -> Digests:
    return digests(connection.execute(digest_query(table, only=only)))


def _compare(at_source: Connection, at_target: Connection, table: Table, digest: Digests) -> Compared:
    there = _digest(at_target, table, only=False)
    rows = [sum(count for count, _, _ in side.values()) for side in (digest, there)]
    buckets = differing(digest, there)
    keys: tuple[str, ...] = ()
    if buckets:
        ours = Counter(at_source.execute(rows_query(table, buckets[0], only=True)).fetchall())
        theirs = Counter(at_target.execute(rows_query(table, buckets[0], only=False)).fetchall())
        keys = tuple(sorted({key for key, _ in [*(ours - theirs), *(theirs - ours)]})[:_SHOWN])
    return Compared(table.full_name, not buckets, rows[0], rows[1], keys)
