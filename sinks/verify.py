"""Whether a replica holds what its source holds: digests of every captured table at one position.

In: source and target, of any engines, the tables' shapes, the end of the log. Out: a `Verdict`: equal, different, or
not comparable. Refuses: a sink that does not come up to the source's position in time (VERIFY_BEHIND).

The source is read under one snapshot, between two positions of its log. The sink is waited for until it has applied
the second; if no transaction lies between the first position and what the replica's own snapshot shows, both hold
the same transactions, and a difference is a difference. On a source that is written to all the time that seldom
comes about; then equal digests still mean equality, others mean nothing and are called that.

A digest is blind to the order of rows. Both sides give the source's text for equal values, whatever their types are.
Tables that inherit from a captured one are not part of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from typing import Protocol

from cdc.errors import VERIFY_BEHIND, CdcError
from cdc.event import Table
from cdc.position import Position, parse_position
from cdc.verdict import Compared, Verdict
from sinks.digest import Digests, differing

_SHOWN = 5
_EVERY_S = 0.2


class Reading(Protocol):
    """One side: a connection that only reads."""

    def close(self) -> None: ...

    def errors(self) -> AbstractContextManager[object]:
        """What the driver raises inside comes out as a `CdcError`."""
        ...

    def snapshot(self) -> AbstractContextManager[object]:
        """What is asked inside shows one moment; it is taken by the first question at the latest."""
        ...

    def position(self) -> Position: ...

    def progress(self) -> tuple[str, int, int]:
        """Position, epoch and number where the sink of this name stands; position "" if there is none."""
        ...

    def copying(self) -> tuple[str, ...]:
        """Tables of which the sink does not have every row yet."""
        ...

    def digests(self, table: Table, *, only: bool) -> Digests:
        """`only`: without the tables that inherit from it."""
        ...

    def rows_in(self, table: Table, bucket: str, *, only: bool) -> list[tuple[str, str]]:
        """Key's line and row's hash of every row in a bucket."""
        ...


def verify(
    source: Callable[[], Reading],
    target: Callable[[], Reading],
    sink: str,
    tables: Sequence[Table],
    last_up_to: Callable[[Position], tuple[int, int] | None],
    timeout_s: float,
) -> Verdict:
    """Compare once. `last_up_to`: (epoch, number) of the last transaction up to a position, None if not known."""
    with closing(source()) as at_source, closing(target()) as at_target, at_source.errors():
        before = at_source.position()
        with at_source.snapshot():
            digests = [at_source.digests(table, only=True) for table in tables]
            after = at_source.position()
            with at_target.errors():
                _wait(at_target, sink, after, timeout_s)
                with at_target.snapshot():
                    position, epoch, txn_seq = at_target.progress()
                    copying = at_target.copying()
                    there = [at_target.digests(table, only=False) for table in tables]
                    compared = [
                        _compare(at_source, at_target, table, ours, theirs)
                        for table, ours, theirs in zip(tables, digests, there, strict=True)
                    ]
        moved = last_up_to(before) != (epoch, txn_seq)
        return Verdict(position, epoch, txn_seq, tuple(compared), moved, copying)


def _wait(target: Reading, sink: str, position: Position, timeout_s: float) -> None:
    """Until the sink has applied everything up to there; a heartbeat takes it there when nothing is written."""
    deadline = time.monotonic() + timeout_s
    while True:
        stands = target.progress()[0]
        if stands and position <= parse_position(stands):
            return
        if time.monotonic() > deadline:
            raise CdcError(
                VERIFY_BEHIND, sink=sink, stands=stands or "nothing", wanted=position, seconds=int(timeout_s)
            )
        time.sleep(_EVERY_S)


def _compare(at_source: Reading, at_target: Reading, table: Table, ours: Digests, theirs: Digests) -> Compared:
    rows = [sum(count for count, _, _ in side.values()) for side in (ours, theirs)]
    buckets = differing(ours, theirs)
    keys: tuple[str, ...] = ()
    if buckets:
        here = Counter(at_source.rows_in(table, buckets[0], only=True))
        there = Counter(at_target.rows_in(table, buckets[0], only=False))
        keys = tuple(sorted({key for key, _ in [*(here - there), *(there - here)]})[:_SHOWN])
    return Compared(table.full_name, not buckets, rows[0], rows[1], keys)
