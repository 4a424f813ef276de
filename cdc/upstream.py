"""What the source loop asks of a database, whatever its engine: values and one Protocol. Pure.

An engine is a folder (`cdc.postgres`, `cdc.mysql`) whose `upstream` module does what `Upstream` says; the loop in
`cdc.source` knows nothing else of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from cdc.decoded import Captured, Decoded
from cdc.event import Engine, Table
from cdc.log import Gap, Identity, Opened
from cdc.logtail import LogState
from cdc.position import Position
from cdc.rowevents import OpenTransaction, Record, RunFacts


# -- a start ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Plan:
    """`copy`: copy every table; else stream on after `position`. `last_seq`: the last number given."""

    copy: bool
    epoch: int
    last_seq: int
    position: Position | None
    previous: Position | None
    opened: Opened | None = None
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a stream goes on: behind `after`, with the number behind `last_seq`. `tokens` are heartbeats of ours."""

    facts: RunFacts
    captured: Captured
    after: Position
    last_seq: int
    tokens: frozenset[str]


class Publication(Protocol):
    """Which changes the server gives us. Its fingerprint is the same as long as none was left out."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


class CopyStream(Protocol):
    """Writes a table's copied rows as events."""

    def open(self, seq: int) -> OpenTransaction: ...
    def read(self, txn: Any, row: Any, marker: str) -> list[Record]: ...


class Snapshot(Protocol):
    """All tables at one position. `rows`, asked for in their order, gives chunks of each, nothing for an empty one."""

    @property
    def position(self) -> Position: ...
    @property
    def tables(self) -> Sequence[Table]: ...
    def rows(self, table: Table) -> Iterator[list[Any]]: ...
    def stream(self, table: Table, schema_id: str, topic: str, facts: RunFacts) -> CopyStream: ...


class Upstream(Protocol):
    """One database as a run of the source loop uses it; closed at its end."""

    engine: Engine

    @property
    def identity(self) -> Identity: ...
    @property
    def last_seq(self) -> int:
        """The last number given."""
        ...

    @property
    def foreign_messages(self) -> int: ...

    def connect(self) -> None:
        """Refuses a server that cannot be a source."""
        ...

    def close(self) -> None: ...

    def publication(self) -> Publication:
        """As it is now; refuses tables that cannot be captured."""
        ...

    def refuse_changed(self, last: Position) -> bool:
        """Raises where the publication is no longer what it was at the start. False: it cannot be told now."""
        ...

    def hold(self) -> None:
        """Nobody else publishes this source from here on; refuses where somebody does."""
        ...

    def decide(self, state: LogState, reopen: str | None) -> Plan:
        """Refuses a copy that could not take every wanted table, while nothing is begun."""
        ...

    def keep_alive(self) -> None:
        """Called again and again while the loop waits for somebody else."""
        ...

    def uncopied(self, known: Collection[str]) -> list[str]:
        """Tables that are wanted and wait for the next copy. `known`: those that the log has."""
        ...

    def adopted(self, known: Mapping[str, Table]) -> list[Table]:
        """Shapes, as they are now, of captured tables that the log does not know."""
        ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Begin anew: the log goes on behind what the snapshot shows."""
        ...

    def begin(self, resumed: Resumed) -> None:
        """Stream from there."""
        ...

    def read(self, timeout_s: float) -> Iterable[Decoded]:
        """What came, at most after `timeout_s`."""
        ...

    def acknowledge(self, durable: Position) -> None:
        """The server's log up to here may go."""
        ...

    def finish(self, durable: Position) -> None:
        """The last word to the server."""
        ...

    def heartbeat(self, token: str) -> None:
        """Have the stream bring back a transaction with this token."""
        ...

    def sequences(self) -> tuple[tuple[str, int], ...]:
        """Counters that moved since the last time."""
        ...

    def behind_bytes(self) -> int:
        """Log that the server keeps for the source, or has written beyond what it read; asks the server."""
        ...
