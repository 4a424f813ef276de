"""What a running source tells: its observer, which turns it into log lines and metrics.

In: the calls of `cdc.source.Observer`. Out: a line per change of state and one a minute, each with the position; the
numbers of `SourceMetrics`.
"""

from __future__ import annotations

import time

import structlog

from cdc.errors import CdcError
from cdc.log import Start
from cdc.logs import Seldom
from cdc.metrics import SourceMetrics
from cdc.source import Progress

_EVERY_S = 60.0


class SourceObserver:
    """One per process of a source. Above `max_retained_wal` every minute's line is an alarm."""

    def __init__(self, name: str, metrics: SourceMetrics, max_retained_wal: int | None = None) -> None:
        self._metrics, self._max_retained_wal = metrics, max_retained_wal
        self._log = structlog.get_logger().bind(source=name, position=None)
        self._name = name
        self._events = self._ends = self._foreign = 0
        self._said_at = time.monotonic()
        self._alarmed_at = float("-inf")
        self._trouble = Seldom()

    def run_started(self, start: Start) -> None:
        """Counts of `progress` begin anew with each run."""
        self._events = self._ends = self._foreign = 0
        self._metrics.runs.inc()
        self._metrics.alive()
        opened = start.opened.reason if start.opened else None
        self._log.info("run started", run=start.run, epoch=start.epoch, opened=opened, copy=start.copy)
        for gap in start.gaps:
            self._log.warning("gap accepted", kind=gap.kind, after=gap.from_, until=gap.to)

    def progress(self, progress: Progress) -> None:
        metrics = self._metrics
        metrics.alive()
        metrics.events.inc(progress.events - self._events)
        metrics.ends.inc(progress.ends - self._ends)
        metrics.foreign_messages.inc(progress.foreign_messages - self._foreign)
        self._events, self._ends, self._foreign = progress.events, progress.ends, progress.foreign_messages
        metrics.in_flight.set(progress.in_flight)
        metrics.txn_seq.set(progress.txn_seq)
        if progress.durable is not None:
            metrics.position.set(progress.durable.number)
            self._log = self._log.bind(position=str(progress.durable))
        if progress.durable_commit_us is not None:
            metrics.committed_at(progress.durable_commit_us / 1e6)
        if time.monotonic() - self._said_at >= _EVERY_S:
            self._said_at = time.monotonic()
            self._log.info("streaming", txn_seq=progress.txn_seq, events=progress.events, in_flight=progress.in_flight)

    def behind(self, log_bytes: int) -> None:
        self._metrics.alive()
        self._metrics.behind.set(log_bytes)
        alarm = self._max_retained_wal is not None and log_bytes > self._max_retained_wal
        if alarm and time.monotonic() - self._alarmed_at >= _EVERY_S:
            self._alarmed_at = time.monotonic()
            self._log.error("WAL above max_retained_wal is kept on the server", behind_bytes=log_bytes)

    def waiting(self, what: str) -> None:
        self._metrics.alive()
        self._log.warning("waiting", what=what)

    def lacking(self, what: str) -> None:
        self._metrics.alive()
        self._log.warning("lacking", what=what)

    def copying(self, table: str, rows: int, *, done: bool) -> None:
        self._metrics.alive()
        self._metrics.copied.labels(self._name, table).set(rows)
        if done:
            self._log.info("table copied", table=table, rows=rows)

    def retry(self, error: CdcError, wait_s: float) -> None:
        self._metrics.alive()
        self._metrics.retried(error.code.name)
        if self._trouble.due(error.code):
            self._log.warning("trying again", code=error.code.name, wait_s=wait_s, problem=error.text)
