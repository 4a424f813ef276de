"""Bases and anchors by themselves: a child process takes one when it is due, one at a time. I/O.

In: a schedule, the archive, whether this is its only archiver. Out: children `cdc archive backup` and `anchor`, how
they ended. Refuses: nothing; what fails is told and tried again, after a minute at first and an hour at last.

A child ends with the archiver: on SIGTERM by signal, on SIGKILL because it sees that its parent is gone. Until it has
seen that, another archiver may have begun one of its own: each base has names of its own, so both are right.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol

from cdc.commands.stopping import SUPERVISOR
from cdc.errors import CdcError
from cdc.secret import redact
from sinks.archive.archive import Archive
from sinks.archive.newest import Newest, newest
from sinks.archive.schedule import Job, Schedule, Taken, anchor_due, base_due, base_overdue, job_due

_AGAIN_S = (60.0, 3600.0)
_LOOK_S = 60.0
_PATIENCE_S = 10.0
_LAST_WORDS = 4096
_PROGRAM = (sys.executable, "-m", "cdc.cli", "archive")


@dataclass(frozen=True, slots=True)
class JobSettings:
    """`unit` is `NAME.SOURCE`, `config` the file that the children read too."""

    unit: str
    config: Path
    url: str
    key: bytes | None = field(repr=False)
    schedule: Schedule


class JobObserver(Protocol):
    """What is told of bases and anchors."""

    def looked(self, found: Newest, due: float | None, *, overdue: bool) -> None: ...
    def job_begun(self, job: Job, pid: int) -> None: ...
    def job_done(self, job: Job, words: str) -> None: ...
    def job_failed(self, job: Job, code: int, words: str, wait_s: float) -> None: ...
    def retry(self, error: CdcError, wait_s: float) -> None: ...


@dataclass(slots=True)
class _Child:
    job: Job
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    begun: float


class Jobs:
    """Of one archiver. `tend` is called again and again and returns at once."""

    def __init__(self, settings: JobSettings, observer: JobObserver) -> None:
        self._settings, self._observer = settings, observer
        self._archive: Archive | None = None
        self._known: Newest | None = None
        self._child: _Child | None = None
        self._done: dict[Job, float] = {}
        self._failures = 0
        self._next_at = self._look_at = 0.0
        self._ready = False

    def tend(self, epoch: int, *, alone: bool) -> None:
        """`alone`: no other archiver writes here, as far as this one can know; else it takes no bases."""
        child, now = self._child, time.time()
        if child:
            code = child.process.poll()
            if code is None:
                return
            self._ended(child, code, now)
        if self._known and self._known.epoch != epoch:
            # Nothing taken before is of use in another epoch.
            self._known, self._look_at, self._next_at = None, 0.0, 0.0
            self._done.clear()
        ready, was_ready = alone and now >= self._next_at, self._ready
        self._ready = ready
        if (now >= self._look_at or ready > was_ready) and (job := self._look(epoch, now)) and ready:
            self._begin(job, now)

    def close(self) -> None:
        """End the child, the hard way if it must be."""
        if not self._child:
            return
        child, self._child = self._child, None
        with child.output:
            _signal(child.process, signal.SIGTERM)
            try:
                child.process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                _signal(child.process, signal.SIGKILL)
                child.process.wait()

    def _look(self, epoch: int, now: float) -> Job | None:
        """What is due; the next look is when something will be, or soon."""
        schedule, self._look_at = self._settings.schedule, now + _LOOK_S
        try:
            self._archive = self._archive or Archive.open(self._settings.url, self._settings.key)
            self._known = newest(self._archive, epoch, self._known)
        except CdcError as error:
            self._observer.retry(error, _LOOK_S)
            return None
        taken = self._taken(self._known.taken)
        due = base_due(schedule, taken)
        self._observer.looked(self._known, due, overdue=base_overdue(schedule, taken, now))
        coming = [moment for moment in (due, anchor_due(schedule, taken)) if moment is not None and moment > now]
        self._look_at = min([self._look_at, *coming])
        return job_due(schedule, taken, now)

    def _taken(self, found: Taken) -> Taken:
        """What this process has seen done counts too: it may stand where the newest is not looked for."""
        base, anchor = self._done.get("backup"), self._done.get("anchor")
        from_source = base if self._settings.schedule.from_source else None
        return replace(found, base=_later(found.base, base), anchor=_later(found.anchor, anchor, from_source))

    def _begin(self, job: Job, now: float) -> None:
        settings, output = self._settings, tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child ended
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*_PROGRAM, job, settings.unit, "--config", str(settings.config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, SUPERVISOR: str(os.getpid())},
            start_new_session=True,
        )
        self._child = _Child(job, process, output, now)
        self._observer.job_begun(job, process.pid)

    def _ended(self, child: _Child, code: int, now: float) -> None:
        self._child = None
        with child.output:
            child.output.seek(max(0, child.output.seek(0, os.SEEK_END) - _LAST_WORDS))
            lines = child.output.read().decode(errors="replace").splitlines()
        if code == 0:
            self._failures, self._done[child.job] = 0, child.begun
            self._look_at = self._next_at = 0.0
            self._observer.job_done(child.job, _words(lines))
            return
        wait_s = min(_AGAIN_S[1], _AGAIN_S[0] * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._next_at = now + wait_s
        self._observer.job_failed(child.job, code, _words(lines), wait_s)


def _words(lines: Sequence[str]) -> str:
    """What the child said went wrong, else its last word."""
    said = [line for line in lines if line.strip()]
    errors = [line for line in said if line.startswith("error ")]
    return redact([*errors, *said[-1:], "nothing"][0])


def _later(*moments: float | None) -> float | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the child and what it started: pg_dump."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
