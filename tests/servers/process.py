"""A program in a process group of its own, with its output in a log file, that never outlives us.

In: a command. Out: its life by pid: end, kill, freeze, wake, wait, memory and CPU. It ends when this
interpreter ends, however that happens: the kernel signals it when the *thread* that started it is gone, so
start servers from a thread that lives as long as they should.
"""

import atexit
import os
import random
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

_alive: "weakref.WeakSet[Process]" = weakref.WeakSet()


class Process:
    """One running program; `privileges` are setpriv's options to start it as somebody else."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        privileges: Sequence[str] = (),
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    death_signal.name.removeprefix("SIG"),
                    *privileges,
                    "--",
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        _alive.add(self)

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal's number if one ended it, None while it runs."""
        return self._popen.poll()

    @property
    def running(self) -> bool:
        """Whether it has not ended; a frozen program runs."""
        return self.returncode is None

    def wait(self, timeout: float) -> int:
        """Wait for the end; raises `subprocess.TimeoutExpired`."""
        return self._popen.wait(timeout)

    def send(self, number: int) -> None:
        """Send a signal to the program itself, not to its children."""
        self._popen.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 60) -> int:
        """Ask it to end and wait; raises `subprocess.TimeoutExpired`."""
        self.send(number)
        return self.wait(timeout)

    def kill9(self) -> None:
        """SIGKILL to it and all its descendants; returns when none of them is left."""
        family = self.family()
        _signal_all(family, signal.SIGKILL)
        self._popen.wait()
        while any(_state(pid) not in {"", "Z"} for pid in family):
            time.sleep(0.01)

    def pause(self) -> None:
        """Freeze it and its descendants; the parent first, so that it makes no more of them."""
        self.send(signal.SIGSTOP)
        _signal_all(self.family(), signal.SIGSTOP)

    def cont(self) -> None:
        """Wake what `pause` froze."""
        _signal_all(self.family(), signal.SIGCONT)

    def family(self) -> list[int]:
        """The pids of the program and of all its descendants, parents first."""
        pids = [self.pid]
        for pid in pids:
            pids += _children(pid)
        return pids

    def rss(self) -> int:
        """Resident memory of the program itself, in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu_seconds(self) -> float:
        """User and system time the program itself has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """A port of 127.0.0.1 that nobody holds, and that no outgoing connection will be given.

    The kernel gives clients ports of its ephemeral range; a restarting server might find one of those taken.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _signal_all(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@atexit.register
def _end_all() -> None:
    for process in list(_alive):
        if process.running:
            process.kill9()
