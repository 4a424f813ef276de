"""`cdc up`: every section of the file as a process of its own, kept running.

In: the units to run. Out: their log lines, each with the unit's name before it; exit 0 after a signal, else the exit
code of a unit that wants a decision. Refuses nothing: such a unit is left alone and named, the others go on.

A unit that ends otherwise is started again, after a wait that grows while it keeps ending. Units end with their
supervisor, however it ends: they watch who their parent is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from cdc.commands.sections import Unit
from cdc.commands.stopping import SUPERVISOR
from cdc.commands.terminal import tell

_DECISION = (2, 5)
_BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
# A unit that ran for so long did not fail at its start.
_STEADY_S = 60.0
_PATIENCE_S = 30.0
_LAST_WORDS_S = 2.0


class Child:
    """One unit and the process that is it at the moment. `wants` is the exit code by which it asks for a decision."""

    def __init__(self, unit: Unit, config: Path) -> None:
        self.name = ".".join(unit)
        self.wants: int | None = None
        self._command = [sys.executable, "-m", "cdc.cli", unit[0], "run", unit[1], "--config", str(config)]
        self._failures = 0
        self._process: subprocess.Popen[str] | None = None
        self._relay = threading.Thread()
        self._started_at = self._next_at = 0.0

    def start(self) -> None:
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, SUPERVISOR: str(os.getpid())},
            start_new_session=True,
        )
        assert self._process.stdout
        self._relay = threading.Thread(target=self._relay_lines, args=[self._process.stdout], daemon=True)
        self._relay.start()
        tell(f"{self.name} | started, pid {self._process.pid}")

    def _relay_lines(self, output: IO[str]) -> None:
        with output:
            for line in output:
                tell(f"{self.name} | {line.rstrip()}")

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def done(self) -> bool:
        return self.wants is not None and not self.running

    def tend(self) -> None:
        """See whether it ended, and start it when it is due."""
        code = self._process.poll() if self._process else None
        if code is not None:
            self._forget()
            self._ended(code)
        if self._process is None and self.wants is None and time.monotonic() >= self._next_at:
            self.start()

    def _ended(self, code: int) -> None:
        if code in _DECISION:
            self.wants = code
            tell(
                f"{self.name} | stopped with exit code {code}: it wants a decision, and is not started again",
                "bold red",
            )
            return
        self._failures = 1 if time.monotonic() - self._started_at > _STEADY_S else self._failures + 1
        wait_s = _BACKOFF_S[min(self._failures, len(_BACKOFF_S)) - 1]
        self._next_at = time.monotonic() + wait_s
        tell(f"{self.name} | ended with exit code {code}, again in {wait_s:g} s", "yellow")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Until it ended; at the deadline it is killed, which no unit minds."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        """It is gone; its last words are still to be read."""
        self._relay.join(_LAST_WORDS_S)
        self._process = None


def run(units: Sequence[Unit], config: Path, stop: Callable[[], bool]) -> int:
    """Keep them running until stopped, or until all of them want a decision; the exit code."""
    children = [Child(unit, config.resolve()) for unit in units]
    while not stop() and not all(child.done for child in children):
        for child in children:
            child.tend()
        time.sleep(0.1)
    for child in children:
        child.stop()
    deadline = time.monotonic() + _PATIENCE_S
    for child in children:
        child.wait(deadline)
    wanting = [child for child in children if child.wants is not None]
    for child in wanting:
        tell(f"{child.name} wants a decision (exit code {child.wants}): see its error above", "bold red")
    return max((child.wants or 0 for child in wanting), default=0)
