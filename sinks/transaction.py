"""What readers are handed: whole transactions, and where in the log one stands. Pure value types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cdc.event import RowEvent
from cdc.log import Change, Chunk, End, Start


@dataclass(frozen=True, slots=True)
class Progress:
    """The last END that a reader has behind it, and its offset in the log."""

    epoch: int
    txn_seq: int
    run: str
    position: str
    log_offset: int
    commit_ts_us: int | None = None

    @classmethod
    def behind(cls, end: End, log_offset: int, before: Progress | None = None) -> Progress:
        """Behind this END. One without a commit time leaves the last known one standing."""
        known = before.commit_ts_us if before else None
        commit_ts_us = known if end.commit_ts_us is None else end.commit_ts_us
        return cls(end.epoch, end.txn_seq, end.run, end.position, log_offset, commit_ts_us)


@dataclass(slots=True)
class ChangeTransaction:
    """A whole source transaction. `events` come once, in order; a huge one's are read as they are taken.

    `start` is the START of its run, None for a run that began before this reader did. `bytes` is what the events
    taken so far weigh as records.
    """

    end: End
    start: Start | None
    log_offset: int
    events: Iterable[RowEvent]
    bytes: int = 0

    @property
    def kind(self) -> str:
        return self.end.kind

    @property
    def epoch(self) -> int:
        return self.end.epoch

    @property
    def txn_seq(self) -> int:
        return self.end.txn_seq

    @property
    def position(self) -> str:
        return self.end.position

    @property
    def changes(self) -> tuple[Change, ...]:
        return self.end.changes

    @property
    def copy(self) -> Chunk | None:
        return self.end.copy

    @property
    def streamed(self) -> bool:
        """Whether its events are read while they are taken, so that they cannot be taken twice."""
        return not isinstance(self.events, list)


@dataclass(slots=True)
class Part:
    """A piece of a transaction that is applied at once: events and, where they hold, schema changes.

    The last piece ends with the transaction's `Chunk`, if that closes a table's base copy.
    """

    end: End
    items: Sequence[RowEvent | Change | Chunk]


def parts(transaction: ChangeTransaction, most: int, most_bytes: int) -> Iterator[Part]:
    """A transaction in pieces of at most `most` events, and about `most_bytes`, schema changes in their places."""
    closes = transaction.copy is not None and transaction.copy.last
    if (
        isinstance(transaction.events, list)
        and len(transaction.events) <= most
        and not transaction.changes
        and not closes
    ):
        yield Part(transaction.end, transaction.events)
        return
    changes, done = transaction.changes, 0
    items: list[RowEvent | Change | Chunk] = []
    count, before = 0, 0
    for event in transaction.events:
        if count == most or (count and transaction.bytes - before > most_bytes):
            yield Part(transaction.end, items)
            items, count, before = [], 0, transaction.bytes
        while done < len(changes) and changes[done].at < event.ordinal:
            items.append(changes[done])
            done += 1
        items.append(event)
        count += 1
    items += changes[done:]
    if transaction.copy is not None and closes:
        items.append(transaction.copy)
    yield Part(transaction.end, items)
