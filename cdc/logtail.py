"""What the log says at a start: the checkpoint, the epoch, the shapes in force. Reads Kafka, decides nothing.

In: topic `<prefix>.transaction`. Out: `LogState`, from the newest records back to the START under whose run the last
valid END stands; what lies before does not matter. Refuses: a log that begins in the middle (retention took its head).

The way back is long after a long run, so records are looked at as bytes, and only those that matter are parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cdc.errors import CORRUPT_LOG, LOG_TRUNCATED, CdcError
from cdc.kafka import Reader
from cdc.log import End, Start
from cdc.logparse import parse
from cdc.topics import log_topic

_BLOCK = 20_000
_START = b'{"status":"START"'
_END = b'{"status":"END"'
_RUN = re.compile(rb'"run":"([0-9a-f]{16})"')
_KEEP = re.compile(rb'"schemas":\[|"changes":\[')


@dataclass(frozen=True, slots=True)
class LogState:
    """The log up to `end_offset`. `start` is the latest START of all, which may have no END yet.

    `checkpoint` is the last valid END, under `checkpoint_start`. `shapes` are the schema ids and changes that its run
    announced, in order: [(schema_id, offset)] lists them, `changes` maps a table to its newest id.
    """

    end_offset: int
    start: Start | None = None
    checkpoint: End | None = None
    checkpoint_start: Start | None = None
    announced: tuple[tuple[str, int], ...] = ()
    changed: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Segment:
    """The ENDs that follow one START, met from the newest back."""

    last: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    kept: list[tuple[int, bytes, bytes]] = field(default_factory=list)


def read_log(
    reader: Reader, prefix: str, *, until: int | None = None, waiting: Callable[[], None] = lambda: None
) -> LogState:
    """Read the log back from its end (or from offset `until`). `waiting` is called again and again meanwhile."""
    topic = log_topic(prefix)
    begins, ends = reader.watermarks(topic, 0)
    end = ends if until is None else until
    latest: Start | None = None
    segment = _Segment()
    high = end
    while high > begins:
        low = max(begins, high - _BLOCK)
        for record in reversed(reader.read_range(topic, 0, low, high, waiting)):
            value, offset = record.value() or b"", record.offset()
            if value.startswith(_START):
                start = _parsed(prefix, topic, offset, value)
                assert isinstance(start, Start)
                latest = latest or start
                found = _state(prefix, topic, segment, start, latest, end)
                if found:
                    return found
                segment = _Segment()
            elif value.startswith(_END):
                _note(segment, value, offset)
            elif _parsed(prefix, topic, offset, value) is not None:
                raise AssertionError("START and END begin with their status")
        high = low
    if begins > 0:
        raise CdcError(LOG_TRUNCATED, source=prefix, topic=topic, begins=begins)
    return LogState(end, latest)


def _note(segment: _Segment, value: bytes, offset: int) -> None:
    match = _RUN.search(value)
    if match is None:
        return
    run = match[1]
    segment.last.setdefault(run, (offset, value))
    if _KEEP.search(value):
        segment.kept.append((offset, run, value))


def _state(prefix: str, topic: str, segment: _Segment, start: Start, latest: Start, end: int) -> LogState | None:
    """The state if the run of this START wrote an END under it."""
    run = start.run.encode()
    if run not in segment.last:
        return None
    checkpoint = _parsed(prefix, topic, *segment.last[run])
    assert isinstance(checkpoint, End)
    announced: list[tuple[str, int]] = []
    changed: list[tuple[str, str]] = []
    for offset, by, value in reversed(segment.kept):
        if by == run:
            record = _parsed(prefix, topic, offset, value)
            assert isinstance(record, End)
            announced += record.schemas
            changed += [(c.table, c.new) for c in record.changes if c.new]
    return LogState(end, latest, checkpoint, start, tuple(announced), tuple(changed))


def _parsed(prefix: str, topic: str, offset: int, value: bytes) -> Start | End | None:
    try:
        return parse(value)
    except ValueError as error:
        raise CdcError(CORRUPT_LOG, source=prefix, topic=topic, offset=offset, problem=str(error)) from None
