"""What the progress row of a sink must say, on every engine. Pure; `sinks.*.progress` read and move it.

In: the row as it was found, and where this process stands. Out: the errors of a row that is not this process's.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdc.errors import PROGRESS_OF_ANOTHER, PROGRESS_TAKEN, CdcError
from sinks.transaction import Progress


def at(progress: Progress | None) -> tuple[int, int]:
    """(epoch, txn_seq), (0, 0) before the first transaction."""
    return (progress.epoch, progress.txn_seq) if progress else (0, 0)


def refuse_other(pipeline: str, source: str, found: str) -> None:
    """A pipeline whose row is of another source than the configuration says: `found`."""
    if found != source:
        raise CdcError(PROGRESS_OF_ANOTHER, source=source, sink=pipeline, found=found)


def taken(pipeline: str, source: str, found: Sequence[object], stood: Progress | None, writer: str) -> CdcError:
    """Somebody moved the row. `found`: its epoch, txn_seq and writer, nothing where it is gone."""
    epoch, txn_seq = at(stood)
    found_epoch, found_seq, found_writer = found or ("none", "none", "nobody")
    return CdcError(
        PROGRESS_TAKEN,
        source=source,
        sink=pipeline,
        epoch=found_epoch,
        txn_seq=found_seq,
        writer=found_writer,
        expected=f"(epoch {epoch}, txn {txn_seq}) as {writer}",
    )
