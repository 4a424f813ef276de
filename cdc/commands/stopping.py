"""When a loop has to stop: SIGTERM, SIGINT, or the supervisor that started it is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

SUPERVISOR = "CDC_SUPERVISOR"
"""Environment: the pid of the `cdc up` that started this process."""


def stop_on_signals() -> Callable[[], bool]:
    """True from the first signal on; a second one ends the process the hard way."""
    stopped: list[int] = []

    def stop(signum: int, _frame: FrameType | None) -> None:
        stopped.append(signum)
        signal.signal(signum, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    supervisor = int(os.environ.get(SUPERVISOR, "0"))
    if not supervisor:
        return lambda: bool(stopped)
    return lambda: bool(stopped) or os.getppid() != supervisor
