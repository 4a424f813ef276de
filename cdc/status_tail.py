"""The end of the log as those read it who only look: where a source stands, what it is copying. Reads Kafka alone.

In: a reader, a source's topics. Out: its `Tail`, kept up by `follow`. Refuses: a record of the log that cannot be read
(CORRUPT_LOG).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cdc.errors import CORRUPT_LOG, CdcError
from cdc.kafka import Reader
from cdc.log import End, Start, Validity
from cdc.logparse import parse
from cdc.position import Position, parse_position
from cdc.topics import log_topic

_BLOCK = 2_000


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of the log. `ends` are the valid ones of its last records, oldest first; `offset` is the last one's."""

    ends: tuple[End, ...]
    offset: int | None = None

    @property
    def last(self) -> End | None:
        return self.ends[-1] if self.ends else None

    def up_to(self, position: Position) -> tuple[int, int] | None:
        """(epoch, number) of the last transaction at or before a position; None where that is out of sight."""
        behind = [end for end in self.ends if parse_position(end.position) <= position]
        return (behind[-1].epoch, behind[-1].txn_seq) if behind else None

    @property
    def copying(self) -> str | None:
        """The table of a base copy that is not closed; an END of another kind closes it."""
        last = self.last
        if last is None:
            return None
        if last.copy is not None:
            return last.copy.table
        return next((change.table for change in last.changes if change.effect == "copying"), None)


def read_tail(reader: Reader, prefix: str) -> Tail:
    """The last records of the log, back to where it is plain which run is in force."""
    topic = log_topic(prefix)
    begins, end = reader.watermarks(topic, 0)
    block = _BLOCK
    while True:
        low = max(begins, end - block)
        raw = [(r.offset(), r.value() or b"") for r in reader.read_range(topic, 0, low, end)]
        records = [(offset, record) for offset, value in raw if (record := _parsed(topic, offset, value))]
        in_sight = any(isinstance(record, Start) for _, record in records)
        if low == begins or in_sight or len({record.run for _, record in records}) == 1:
            return _tail(records)
        block *= 4


def follow(reader: Reader, prefix: str, tail: Tail) -> Iterator[End | None]:
    """The valid ENDs from the tail's last one on, as they come; None where the log ends for now."""
    assert tail.last is not None
    assert tail.offset is not None
    topic, validity = log_topic(prefix), Validity(in_force=(tail.last.epoch, tail.last.run))
    at = tail.offset
    while True:
        end = reader.watermarks(topic, 0)[1]
        while at < end:
            following = min(end, at + _BLOCK)
            for raw in reader.read_range(topic, 0, at, following):
                record = _parsed(topic, raw.offset(), raw.value() or b"")
                if record is not None and validity.admit(record) and isinstance(record, End):
                    yield record
            at = following
        yield None


def _parsed(topic: str, offset: int, value: bytes) -> Start | End | None:
    try:
        return parse(value)
    except ValueError as error:
        problem = str(error)
    raise CdcError(CORRUPT_LOG, topic=topic, offset=offset, problem=problem)


def _tail(records: Sequence[tuple[int, Start | End]]) -> Tail:
    """ENDs before the first START in sight belong to the run that wrote most of them: a dead one writes few."""
    before = []
    for _, record in records:
        if isinstance(record, Start):
            break
        before.append((record.epoch, record.run))
    validity = Validity(in_force=max(before, key=before.count) if before else None)
    valid = [(offset, record) for offset, record in records if validity.admit(record) and isinstance(record, End)]
    return Tail(tuple(end for _, end in valid), valid[-1][0] if valid else None)
