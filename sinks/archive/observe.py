"""What a running archiver tells: log lines and metrics.

In: the calls of `sinks.archive.writer.Observer`. Out: a line per change of state and one a minute, with the position;
the numbers of `ArchiveMetrics`.
"""

from __future__ import annotations

import time

import structlog

from cdc.errors import CdcError
from cdc.metrics import ArchiveMetrics
from cdc.position import parse_position
from sinks.archive.writer import Archived
from sinks.transaction import Progress

_EVERY_S = 60.0


class ArchiveObserver:
    """One per process of an archiver."""

    def __init__(self, name: str, metrics: ArchiveMetrics) -> None:
        self._metrics = metrics
        self._log = structlog.get_logger().bind(archive=name, position=None)
        self._said_at = time.monotonic()
        self._trouble: tuple[str, float] = ("", 0.0)

    def started(self, progress: Progress | None) -> None:
        self._metrics.alive()
        self._at(progress)
        self._log.info("started", txn_seq=progress.txn_seq if progress else 0)

    def archived(self, archived: Archived) -> None:
        metrics, segment = self._metrics, archived.segment
        metrics.alive()
        self._at(archived.progress)
        if segment is None:
            return
        metrics.segments.inc()
        metrics.transactions.inc(segment.last_seq - segment.first_seq + 1)
        metrics.events.inc(segment.events)
        metrics.stored_bytes.inc(archived.stored_bytes)
        metrics.roll_seconds.observe(archived.seconds)
        if time.monotonic() - self._said_at >= _EVERY_S:
            self._said_at = time.monotonic()
            self._log.info("archiving", txn_seq=segment.last_seq, segment=segment.name, bytes=archived.stored_bytes)

    def turn(self, pending_since_us: int | None) -> None:
        self._metrics.alive()
        self._metrics.pending_since(None if pending_since_us is None else pending_since_us / 1e6)

    def retry(self, error: CdcError, wait_s: float) -> None:
        self._metrics.alive()
        self._metrics.retried(error.code.name)
        code, said_at = self._trouble
        if code != error.code.name or time.monotonic() - said_at >= _EVERY_S:
            self._trouble = (error.code.name, time.monotonic())
            self._log.warning("trying again", code=error.code.name, wait_s=wait_s, problem=error.text)

    def _at(self, progress: Progress | None) -> None:
        self._log = self._log.bind(position=progress.position if progress else None)
        if progress is None:
            return
        self._metrics.txn_seq.set(progress.txn_seq)
        self._metrics.position.set(parse_position(progress.position).lsn)
        if progress.commit_ts_us is not None:
            self._metrics.committed_at(progress.commit_ts_us / 1e6)
