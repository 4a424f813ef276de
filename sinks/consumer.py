"""The sink's loop: transactions out of Kafka into the target, with the progress in the same commit.

In: `SinkSettings`. Out: a target that at every moment holds exactly the transactions up to its progress row.
Refuses: what needs a decision, as the `CdcError` that ends it; what passes by itself is tried again, from the
progress that the target holds.

Kafka's own group offsets are not used. A second process of the same name waits until the first is gone.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from cdc.errors import APPLY_FAILED, ROW_DIVERGED, SCHEMA_CHANGE_UNSUPPORTED, SINK_HELD, TARGET_MISMATCH, CdcError
from cdc.retry import keep_trying, sleep
from cdc.waiting import Waiting
from sinks.decode import SchemaOf
from sinks.engines import debezium_reader, hold_of, target_of
from sinks.reader import TransactionReader
from sinks.target import ExistingRows
from sinks.transaction import ChangeTransaction, Progress

if TYPE_CHECKING:
    from cdc.engine import Server
    from sinks.debezium.reader import DebeziumReader
    from sinks.engines import AnyHold

_IDLE_S = 0.5
"""How long a poll waits; also how soon a stop is noticed."""
_STANDBY_S = 1.0
_VOIDED_BY_A_COPY = {APPLY_FAILED, ROW_DIVERGED, SCHEMA_CHANGE_UNSUPPORTED, TARGET_MISMATCH}
"""What a later base copy in the log makes irrelevant: it empties every table."""


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """One `[sink.NAME]` section. `source` is the topic prefix, `kafka` librdkafka's properties."""

    name: str
    source: str
    server: Server
    kafka: Mapping[str, str] = field(repr=False)
    existing_rows: ExistingRows = "refuse"
    no_wait: bool = False
    batch_events: int = 20_000
    batch_bytes: int = 16 << 20
    schema_of: SchemaOf | None = None
    """Of the registry, where one is configured."""
    written_by: Literal["cdc", "debezium"] = "cdc"
    """Whose topics they are."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One target transaction; a heartbeat has no transactions."""

    progress: Progress
    transactions: int
    events: int
    seconds: float
    replayed: int
    """Batches of it that went row by row."""
    derived: int
    """Rows changed as a foreign key of the source changed them, below its log."""
    ignored: int
    """Records of dead runs that the reader has passed over so far."""
    buffered_bytes: int


class Observer(Protocol):
    """What a sink tells those who watch it."""

    def standing_by(self, holder: str) -> None: ...
    def started(self, progress: Progress | None) -> None: ...
    def applied(self, applied: Applied) -> None: ...
    def alive(self) -> None:
        """Nothing to apply, or in the middle of much."""
        ...

    def retry(self, error: CdcError, wait_s: float) -> None: ...


class Sink:
    """A sink of the configuration, until it is stopped or somebody has to decide."""

    def __init__(self, settings: SinkSettings, observer: Observer) -> None:
        self._settings, self._observer = settings, observer

    def run(self, stop: Callable[[], bool]) -> None:
        # A batch is some 10^5 objects without cycles: looking for garbage among them as often as usual is a
        # fifth of all the time.
        gc.set_threshold(100_000, 50, 100)
        settings = self._settings

        def attempt() -> None:
            with hold_of(settings.server, settings.name, settings.source) as hold:
                if self._have(hold, stop):
                    self._follow(hold, stop, waiting)

        with Waiting(settings.server, self._observer.retry) as waiting:
            keep_trying(attempt, stop, waiting.retry)

    def _have(self, hold: AnyHold, stop: Callable[[], bool]) -> bool:
        """Wait for the name; False if stopped before."""
        while not hold.try_lock():
            holder = hold.holder()
            if self._settings.no_wait:
                raise CdcError(SINK_HELD, sink=self._settings.name, holder=holder)
            self._observer.standing_by(holder)
            sleep(_STANDBY_S, stop)
            if stop():
                return False
        return True

    def _follow(self, hold: AnyHold, stop: Callable[[], bool], waiting: Waiting) -> None:
        settings = self._settings
        progress = hold.take()
        self._observer.started(progress)
        with self._reader(hold, progress) as reader:
            target = target_of(hold, reader.schema, settings.existing_rows, self._observer.alive)
            while not stop():
                transactions = self._collect(reader)
                waiting.over()
                behind = reader.progress
                if behind is None or behind == hold.progress:
                    self._observer.alive()
                    continue
                began, replayed, derived = time.monotonic(), target.replayed, target.derived
                try:
                    target.apply(transactions, behind)
                except CdcError as error:
                    voided = error.code in _VOIDED_BY_A_COPY and transactions
                    if not voided or not reader.skip_to_copy(error.text, transactions[0].epoch):
                        raise
                    target = target_of(hold, reader.schema, settings.existing_rows, self._observer.alive)
                    continue
                self._observer.applied(
                    Applied(
                        progress=behind,
                        transactions=len(transactions),
                        events=sum(transaction.end.event_count for transaction in transactions),
                        seconds=time.monotonic() - began,
                        replayed=target.replayed - replayed,
                        derived=target.derived - derived,
                        ignored=reader.ignored,
                        buffered_bytes=reader.buffered_bytes,
                    )
                )

    def _reader(self, hold: AnyHold, after: Progress | None) -> TransactionReader | DebeziumReader:
        settings = self._settings
        client = f"cdc-sink-{settings.name}"
        if settings.written_by == "debezium":
            with hold.errors():
                return debezium_reader(hold, settings.kafka, after, client, settings.schema_of)
        return TransactionReader(
            settings.kafka, source=settings.source, after=after, latest_copy=True, client=client,
            schema_of=settings.schema_of,
        )  # fmt: skip

    def _collect(self, reader: TransactionReader | DebeziumReader) -> list[ChangeTransaction]:
        """What is there now, up to a batch; one that is streamed comes alone."""
        first = reader.poll(_IDLE_S)
        if first is None:
            return []
        transactions, events, size = [first], first.end.event_count, first.bytes
        while not first.streamed and events < self._settings.batch_events and size < self._settings.batch_bytes:
            transaction = reader.poll(0, stream=False)
            if transaction is None:
                break
            transactions.append(transaction)
            events += transaction.end.event_count
            size += transaction.bytes
        return transactions
