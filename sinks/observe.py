"""What a running sink tells: its observer, which turns it into log lines and metrics.

In: the calls of `sinks.consumer.Observer`. Out: a line per change of state and one a minute, with the position; the
numbers of `SinkMetrics`.
"""

from __future__ import annotations

import time

import structlog

from cdc.errors import CdcError
from cdc.logs import Seldom
from cdc.metrics import SinkMetrics
from cdc.position import parse_position
from sinks.consumer import Applied
from sinks.debezium.assemble import RUN
from sinks.transaction import Progress

_EVERY_S = 60.0


class SinkObserver:
    """One per process of a sink."""

    def __init__(self, name: str, metrics: SinkMetrics) -> None:
        self._metrics = metrics
        self._log = structlog.get_logger().bind(sink=name, position=None)
        self._said_at = time.monotonic()
        self._trouble = Seldom()

    def standing_by(self, holder: str) -> None:
        self._metrics.alive()
        if self._trouble.due("standing by"):
            self._log.warning("standing by", holder=holder)

    def started(self, progress: Progress | None) -> None:
        self._metrics.alive()
        self._at(progress)
        self._log.info("started", txn_seq=progress.txn_seq if progress else 0)

    def applied(self, applied: Applied) -> None:
        metrics = self._metrics
        metrics.alive()
        metrics.transactions.inc(applied.transactions)
        metrics.events.inc(applied.events)
        metrics.batches.inc()
        metrics.fallbacks.inc(applied.replayed)
        metrics.derived.inc(applied.derived)
        metrics.apply_seconds.observe(applied.seconds)
        metrics.buffered_bytes.set(applied.buffered_bytes)
        metrics.ignored.set(applied.ignored)
        self._at(applied.progress)
        if applied.replayed:
            self._log.warning("applied row by row", batches=applied.replayed)
        if time.monotonic() - self._said_at >= _EVERY_S:
            self._said_at = time.monotonic()
            self._log.info("applying", txn_seq=applied.progress.txn_seq, ignored=applied.ignored)

    def alive(self) -> None:
        self._metrics.alive()

    def retry(self, error: CdcError, wait_s: float) -> None:
        self._metrics.alive()
        self._metrics.retried(error.code.name)
        if self._trouble.due(error.code):
            self._log.warning("trying again", code=error.code.name, wait_s=wait_s, problem=error.text)

    def _at(self, progress: Progress | None) -> None:
        self._log = self._log.bind(position=_place(progress) if progress else None)
        if progress is None:
            return
        self._metrics.txn_seq.set(progress.txn_seq)
        if progress.run != RUN:
            self._metrics.position.set(parse_position(progress.position).number)
        if progress.commit_ts_us is not None:
            self._metrics.committed_at(progress.commit_ts_us / 1e6)


def _place(progress: Progress) -> str:
    """Of Debezium's topics the position is a list of offsets."""
    return progress.position if progress.run != RUN else f"offset {progress.log_offset} of the log"
