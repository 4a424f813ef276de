"""What a decoder of any engine hands on, and what it must know of the tables. Pure value types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cdc.event import Table
from cdc.log import Change
from cdc.position import Position
from cdc.rowevents import Record


@dataclass(frozen=True, slots=True)
class NewShapes:
    """A table's shape changed, in one step or two: the records must be durable before the next event is sent."""

    seq: int
    shapes: tuple[tuple[str, Table], ...]
    ddl: str | None = None


@dataclass(slots=True)  # not frozen: it is made once a transaction, and freezing costs twice the time
class Transaction:
    """A committed transaction, all its events handed out. `heartbeat`: it brought back our own token.

    `seq` is its number, or the last one given where it carries nothing. `commit_ts_us` is None for a message that
    stands outside BEGIN and COMMIT.
    """

    id: str
    xid: int | None
    seq: int
    position: Position
    commit_ts_us: int | None
    event_count: int
    collections: tuple[tuple[str, int], ...]
    changes: tuple[Change, ...]
    heartbeat: bool
    origin: str | None = None

    @property
    def numbered(self) -> bool:
        return bool(self.event_count or self.changes)


@dataclass(frozen=True, slots=True)
class Lone:
    """Records that stand outside BEGIN and COMMIT, and the transaction that they are."""

    records: list[Record]
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Statement:
    """DDL as the server logged it, published for whoever wants to read it."""

    ddl: str
    database: str


Decoded = list[Record] | NewShapes | Transaction | Lone | Statement


@dataclass(frozen=True, slots=True)
class Captured:
    """The tables of a run: their shapes as of the checkpoint by full name, each table's topic, and what is wanted."""

    shapes: Mapping[str, Table]
    topic_of: Callable[[str, str], str]
    message_topic: str
    wanted: Callable[[str, str], bool]
