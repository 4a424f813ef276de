"""What the row path of every engine shares: facts of a run, the open transaction, rows, records. Pure values.

In: nothing but what an engine's decoder knows. Out: `Record`s for Kafka. Refuses: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from cdc.envelope import Format
from cdc.json_format import JSON


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What every event of a run says, and how it is written."""

    source: str
    database: str
    run: str
    epoch: int
    format: Format = JSON


@dataclass(slots=True, kw_only=True)
class OpenTransaction:
    """The transaction that is being read. `seq` is the number it will have if it carries anything.

    `ordinal` is that of its last event, `counts` holds the events of each table. Engines add where it stands in their
    log.
    """

    commit_ts_us: int
    seq: int
    now_ns: int
    ordinal: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    origin: str | None = None
    snapshot: bool = False


class Unchanged:
    """The one value `UNCHANGED`: a column that the log does not carry."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = Unchanged()
Value = bytes | Unchanged | None
Row = list[Value]
"""A value per column: the server's text, None for NULL, or UNCHANGED."""


class Record(NamedTuple):
    """One record for Kafka. `event` tells an event from a tombstone, which no END counts."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None = None

    @property
    def event(self) -> bool:
        return self.value is not None
