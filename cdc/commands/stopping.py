"""When a loop has to stop: SIGTERM, SIGINT, or the supervisor that started it is gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

SUPERVISOR = "CDC_SUPERVISOR"
"""Environment: the pid of the process of ours that started this one."""
_LOOK_S = 0.5


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


def end_with_supervisor() -> None:
    """For a process without a loop: it ends, with what it started, when its supervisor is gone."""
    supervisor = int(os.environ.get(SUPERVISOR, "0"))
    if supervisor:
        threading.Thread(target=_end_after, args=[supervisor], name="supervisor", daemon=True).start()


def _end_after(supervisor: int) -> None:
    while os.getppid() == supervisor:
        time.sleep(_LOOK_S)
    if os.getpgid(0) == os.getpid():
        os.killpg(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
