"""What a running archiver tells: log lines and metrics.

In: the calls of `sinks.archive.writer.Observer` and `sinks.archive.jobs.JobObserver`. Out: a line per change of state
and one a minute, with the position; the numbers of `ArchiveMetrics`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import structlog

from cdc.errors import CdcError
from cdc.logs import Seldom
from cdc.metrics import ArchiveMetrics
from cdc.position import parse_position
from sinks.archive.newest import Newest
from sinks.archive.schedule import Job
from sinks.archive.writer import Archived
from sinks.transaction import Progress

_EVERY_S = 60.0


class ArchiveObserver:
    """One per process of an archiver."""

    def __init__(self, name: str, metrics: ArchiveMetrics) -> None:
        self._name, self._metrics = name, metrics
        self._log = structlog.get_logger().bind(archive=name, position=None)
        self._said_at = time.monotonic()
        self._trouble = Seldom()
        self._overdue = False

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
        if self._trouble.due(error.code):
            self._log.warning("trying again", code=error.code.name, wait_s=wait_s, problem=error.text)

    # -- bases and anchors --------------------------------------------------------------------------------------
    def looked(self, found: Newest, due: float | None, *, overdue: bool) -> None:
        begun = found.taken.base
        self._metrics.bases(begun, overdue=overdue, restorable_from=_seconds(found.oldest_us))
        if overdue and not self._overdue:
            since = None if due is None else datetime.fromtimestamp(int(due), UTC).isoformat(" ")
            self._log.error("base overdue", due=since, newest=found.base.name if found.base else None)
        self._overdue = overdue

    def job_begun(self, job: Job, pid: int) -> None:
        self._metrics.job(1)
        self._log.info(f"{job} begun", pid=pid)

    def job_done(self, job: Job, words: str) -> None:
        self._metrics.job(0)
        self._log.info(f"{job} done", result=words)

    def job_failed(self, job: Job, code: int, words: str, wait_s: float) -> None:
        self._metrics.job(0)
        self._metrics.job_failures.labels(self._name, job).inc()
        self._log.error(f"{job} failed", exit_code=code, problem=words, again_in_s=wait_s)

    def _at(self, progress: Progress | None) -> None:
        self._log = self._log.bind(position=progress.position if progress else None)
        if progress is None:
            return
        self._metrics.txn_seq.set(progress.txn_seq)
        self._metrics.position.set(parse_position(progress.position).number)
        if progress.commit_ts_us is not None:
            self._metrics.archived_to(progress.commit_ts_us / 1e6)


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6
