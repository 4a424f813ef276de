"""What every real server of the tests can do, whatever it is: start, end, be killed, freeze, wake.

In: how it is spawned and when it answers, from the class of its kind. Out: its life, on one port and one directory.
"""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.servers.process import Process


class Server(ABC):
    """One server in `directory`; as a context manager it runs within."""

    kind: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / f"{self.kind.lower()}.log"
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill9()

    @abstractmethod
    def spawn(self) -> Process:
        """Start the program; it need not answer yet."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client is served by now."""

    @property
    def process(self) -> Process:
        """For its pid, memory and CPU."""
        assert self._process, f"start() {self.kind} first"
        return self._process

    @property
    def running(self) -> bool:
        """Whether it lives; a frozen one does."""
        return self._process is not None and self._process.running

    def start(self, timeout: float = 60) -> None:
        """Start and wait until it answers a client, crash recovery included."""
        assert not self.running, "it is running already"
        self._process = self.spawn()
        deadline = time.monotonic() + timeout
        while not self.answers():
            if not self.process.running or time.monotonic() > deadline:
                raise RuntimeError(f"{self.kind} did not start: {self.process.tail()}")
            time.sleep(0.05)

    def stop(self, timeout: float = 60) -> None:
        """End it in order."""
        self.process.stop(timeout=timeout)

    def kill9(self) -> None:
        """SIGKILL, to all its processes."""
        self.process.kill9()

    def restart(self) -> None:
        """Stop if it runs, then start on the same ports and data."""
        if self.running:
            self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        self.process.pause()

    def cont(self) -> None:
        """SIGCONT."""
        self.process.cont()
