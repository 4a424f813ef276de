"""Every metric: name, help and label in one place, and the HTTP server that shows them.

In: what the loops tell (`SourceMetrics`, `SinkMetrics`). Out: Prometheus text at /metrics, and /healthz, which is 200
while the loop has reported within `_ALIVE_S` and 503 else. Refuses: nothing; without a server the numbers cost nothing.

Lags are computed when they are asked for, so that a loop that hangs shows a growing lag, not its last word.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_log = logging.getLogger(__name__)
_ALIVE_S = 60.0


class Unit:
    """What sources and sinks have in common: a registry, and when the loop last said something."""

    def __init__(self, kind: str, name: str) -> None:
        self.registry = CollectorRegistry()
        self.alive_at = time.monotonic()
        self._kind, self._name = kind, name
        self.retries = self._family(Counter, "retries", "Tries after an error, by its code", ["code"])
        self.position = self._gauge("position_bytes", "Log address of the last transaction that is durable here")
        self.txn_seq = self._gauge("txn_seq", "Number of the last transaction in its epoch")

    def _family(self, kind: Any, name: str, text: str, labels: list[str]) -> Any:
        return kind(f"cdc_{self._kind}_{name}", text, [self._kind, *labels], registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        counter: Counter = self._family(Counter, name, text, []).labels(self._name)
        return counter

    def _gauge(self, name: str, text: str) -> Gauge:
        gauge: Gauge = self._family(Gauge, name, text, []).labels(self._name)
        return gauge

    def _histogram(self, name: str, text: str) -> Histogram:
        histogram: Histogram = self._family(Histogram, name, text, []).labels(self._name)
        return histogram

    def _lag(self, text: str) -> Callable[[float], None]:
        """A gauge of the time since a moment; the answer sets the moment."""
        moment: list[float] = []
        self._gauge("lag_seconds", text).set_function(lambda: time.time() - moment[0] if moment else float("nan"))

        def committed_at(seconds: float) -> None:
            moment[:] = [seconds]

        return committed_at

    def retried(self, code: str) -> None:
        self.retries.labels(self._name, code).inc()

    def alive(self) -> None:
        """The loop turns."""
        self.alive_at = time.monotonic()

    @property
    def healthy(self) -> bool:
        return time.monotonic() - self.alive_at < _ALIVE_S


class SourceMetrics(Unit):
    """Of one source."""

    def __init__(self, name: str) -> None:
        super().__init__("source", name)
        self.events = self._counter("events", "Row events handed to Kafka")
        self.ends = self._counter("ends", "ENDs that Kafka acknowledged: transactions, chunks and heartbeats")
        self.in_flight = self._gauge("transactions_in_flight", "Transactions whose END is not yet written")
        self.behind = self._gauge(
            "behind_bytes", "Log the server keeps for it (Postgres), or that it has not read (MySQL)"
        )
        self.runs = self._counter("runs", "Runs started")
        self.foreign_messages = self._counter(
            "foreign_messages", "Logical messages of other programs, published as events"
        )
        self.copied = self._family(Gauge, "copied_rows", "Rows of the base copy so far", ["table"])
        self.committed_at = self._lag(
            "Seconds since the commit that the last END covers; heartbeats bound it when idle"
        )


class SinkMetrics(Unit):
    """Of one sink."""

    def __init__(self, name: str) -> None:
        super().__init__("sink", name)
        self.transactions = self._counter("transactions", "Source transactions applied")
        self.events = self._counter("events", "Row events applied")
        self.batches = self._counter("batches", "Target transactions committed")
        self.fallbacks = self._counter(
            "fallbacks", "Batches that were applied again row by row after a constraint error"
        )
        self.derived = self._counter("derived_rows", "Rows changed as cascades of MySQL changed them, below its log")
        self.apply_seconds = self._histogram("apply_seconds", "Duration of one target transaction")
        self.buffered_bytes = self._gauge("buffered_bytes", "Events read from Kafka and not yet applied")
        self.ignored = self._gauge("ignored_records", "Records of dead runs passed over since the start")
        self.committed_at = self._lag("Seconds since the commit at the source of the last transaction applied")


class ArchiveMetrics(Unit):
    """Of one source in an archive."""

    def __init__(self, name: str) -> None:
        super().__init__("archive", name)
        self.segments = self._counter("segments", "Segments whose manifest is written")
        self.transactions = self._counter("transactions", "Source transactions archived")
        self.events = self._counter("events", "Rows archived")
        self.stored_bytes = self._counter("stored_bytes", "Bytes of segments, as they are stored")
        self.roll_seconds = self._histogram("roll_seconds", "Duration of making a segment durable")
        self.committed_at = self._lag(
            "Seconds since the commit up to which everything is archived; heartbeats bound it when idle"
        )
        self._pending: float | None = None
        self._gauge(
            "unarchived_seconds", "Age of the oldest commit that is read and not archived, 0 if none"
        ).set_function(lambda: 0.0 if self._pending is None else max(0.0, time.time() - self._pending))

        self._base_at: float | None = None
        self._gauge("base_age_seconds", "Since the newest base was begun; NaN while there is none").set_function(
            lambda: float("nan") if self._base_at is None else time.time() - self._base_at
        )
        self._base_overdue = self._gauge("base_overdue", "1 while a base is missing that should have been taken")
        self._restorable_from = self._gauge(
            "restorable_from_timestamp_seconds",
            "The commit that the oldest base of the epoch stands at; NaN without one",
        )
        self._restorable_to = self._gauge(
            "restorable_to_timestamp_seconds", "The commit up to which everything is archived; NaN before the first"
        )
        self._restorable_from.set(float("nan"))
        self._restorable_to.set(float("nan"))
        self._job_running = self._gauge("job_running", "1 while a child process takes a base or an anchor")
        self.job_failures = self._family(Counter, "job_failures", "Bases and anchors that failed", ["job"])

    def archived_to(self, seconds: float) -> None:
        """Up to which commit everything is archived."""
        self.committed_at(seconds)
        self._restorable_to.set(seconds)

    def bases(self, begun: float | None, *, overdue: bool, restorable_from: float | None) -> None:
        """What there is of them."""
        self._base_at = begun
        self._base_overdue.set(overdue)
        self._restorable_from.set(float("nan") if restorable_from is None else restorable_from)

    def job(self, running: int) -> None:
        self._job_running.set(running)

    def pending_since(self, seconds: float | None) -> None:
        """When the oldest transaction that is not durable was committed."""
        self._pending = seconds


def serve(unit: Unit, address: tuple[str, int]) -> None:
    """Answer /metrics and /healthz from now on. A taken port is said and nothing more: replication goes first."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(unit.registry))
            elif self.path == "/healthz":
                self._answer(200 if unit.healthy else 503, "text/plain", b"ok\n" if unit.healthy else b"stuck\n")
            else:
                self._answer(404, "text/plain", b"/metrics, /healthz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """Scrapes are no news."""

    try:
        server = ThreadingHTTPServer(address, Handler)
    except OSError as error:
        _log.error("no metrics: %s:%s is taken or not ours (%s)", *address, error.strerror)
        return
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
