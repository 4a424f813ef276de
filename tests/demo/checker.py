"""Reads a replica again and again while everything is killed: does the money ever not add up?"""

import threading
import time
from contextlib import closing

from tests.demo.database import Database, Session, ask

_AT_LEAST_EVERY_S = 0.3
_SHARE_OF_TIME = 4
"""A reading takes a quarter of the time at most: on MySQL the sum of a million accounts takes a second."""


class Checker:
    """A thread with a session of its own; `sums` is one statement, which shows one moment.

    `lags` are seconds between a commit and now, at each reading.
    """

    def __init__(self, replica: Database, sink: str, sums: str) -> None:
        self._replica, self._sink, self._sums = replica, sink, sums
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.readings = 0
        self.violations: list[str] = []
        self.lags: list[float] = []
        self.failure: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        if self.failure:
            raise self.failure

    def lag(self, share: float) -> float:
        """A percentile of the readings' lags, in seconds."""
        ordered = sorted(self.lags)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def _read(self) -> None:
        pause_s = _AT_LEAST_EVERY_S
        try:
            with closing(self._replica.connect()) as session:
                while not self._stop.wait(pause_s):
                    began = time.monotonic()
                    self._one_reading(session)
                    pause_s = max(_AT_LEAST_EVERY_S, (_SHARE_OF_TIME - 1) * (time.monotonic() - began))
        except Exception as error:  # noqa: BLE001 - told by stop()
            self.failure = error

    def _one_reading(self, session: Session) -> None:
        (sums,) = ask(session, self._sums)
        self.readings += 1
        if len(set(sums)) != 1:
            self.violations.append(f"{time.strftime('%X')}: {self._sink}: {sums} are not equal")
        lag_s = self._replica.lag_s(session, self._sink)
        if lag_s is not None:
            self.lags.append(lag_s)
