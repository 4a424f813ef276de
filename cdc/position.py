"""Positions in a source's log: value types with an order and one text form each.

In: the text of a position (an END record, a progress row, the command line) or the numbers of the wire.
Out: `Lsn` (64-bit WAL address) and `PgPosition` (`TIMELINE:X/X`, the *end* LSN of a commit record).
Refuses: any other text, by `ValueError`.

Positions are compared within one system identifier only. Whether a position on an older timeline still lies on
the history of the server is not a comparison but a question to its timeline history (`cdc.postgres.catalog`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")


class Lsn(int):
    """A WAL address, written `X/X` as Postgres does."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Lsn:
        match = _LSN.match(text)
        if not match:
            raise ValueError(f"not an LSN: {text!r} (expected X/X in hexadecimal)")
        return cls(int(match[1], 16) << 32 | int(match[2], 16))

    def __str__(self) -> str:
        return f"{int(self) >> 32:X}/{int(self) & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({self})"


@total_ordering
@dataclass(frozen=True, slots=True)
class PgPosition:
    """The end of a commit record: what the slot acknowledges and where a stream goes on.

    The order is that of the LSN: within one system a later timeline continues the same addresses.
    """

    timeline: int
    lsn: Lsn

    @classmethod
    def parse(cls, text: str) -> PgPosition:
        timeline, colon, lsn = text.partition(":")
        if not colon or not timeline.isascii() or not timeline.isdigit() or int(timeline) == 0:
            raise ValueError(f"not a Postgres position: {text!r} (expected TIMELINE:X/X)")
        return cls(int(timeline), Lsn.parse(lsn))

    def __str__(self) -> str:
        return f"{self.timeline}:{self.lsn}"

    def __lt__(self, other: PgPosition) -> bool:
        return self.lsn < other.lsn


def parse_position(text: str) -> PgPosition:
    """The position written in a log record. A second kind (GTID sets) joins here with its source."""
    return PgPosition.parse(text)
