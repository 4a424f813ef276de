"""Reads the replica again and again while everything is killed: does the money ever not add up?"""

import threading
import time

import psycopg

SUMS = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
       (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
"""
_BEHIND = "SELECT extract(epoch FROM clock_timestamp()) - commit_ts_us / 1e6 FROM cdc.cdc_progress"


class Checker:
    """A thread with a connection of its own. `lags` are seconds between a commit and now, at each reading."""

    def __init__(self, url: str, password: str) -> None:
        self._url, self._password = url, password
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
        try:
            with psycopg.connect(self._url, password=self._password, autocommit=True) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                while not self._stop.wait(0.3):
                    self._one_reading(connection)
        except Exception as error:  # noqa: BLE001 - told by stop()
            self.failure = error

    def _one_reading(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        with connection.transaction():
            sums = connection.execute(SUMS).fetchone()
        assert sums is not None
        self.readings += 1
        if len(set(sums)) != 1:
            self.violations.append(f"{time.strftime('%X')}: accounts, tellers, branches, history = {sums}")
        behind = connection.execute(_BEHIND).fetchone()
        if behind and behind[0] is not None:
            self.lags.append(float(str(behind[0])))
