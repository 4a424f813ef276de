"""Positions in a source's log: value types with an order and one text form each.

In: the text of a position (an END record, a progress row, the command line) or the numbers of the wire.
Out: `Lsn` (64-bit WAL address), `PgPosition` (`TIMELINE:X/X`, the *end* LSN of a commit record), `GtidSet` (MySQL: all
transactions up to and including one, as the server writes them) and `DomainPosition` (MariaDB: the last transaction of
each domain).
Refuses: any other text, by `ValueError`.

Positions are compared within one system identifier only. Whether a position on an older timeline still lies on
the history of the server is not a comparison but a question to its timeline history (`cdc.postgres.catalog`).
Sets of GTIDs are ordered by inclusion: of two that are not ordered, each holds transactions that the other lacks. In a
domain of MariaDB numbers only grow, whichever server gives them; but two servers may both have a transaction 0-1-7.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

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


class Position(ABC):
    """How far a log was read. Ordered within one system: `a <= b` if all that `a` has behind it, `b` has too."""

    __slots__ = ()
    timeline: int

    @property
    @abstractmethod
    def number(self) -> int:
        """For gauges: it grows with the position."""

    @abstractmethod
    def __le__(self, other: Self) -> bool: ...

    def __lt__(self, other: Self) -> bool:
        return self <= other and self != other

    def __ge__(self, other: Self) -> bool:
        return other <= self

    def __gt__(self, other: Self) -> bool:
        return other < self


@dataclass(frozen=True, slots=True)
class PgPosition(Position):
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

    @property
    def number(self) -> int:
        return int(self.lsn)

    def __str__(self) -> str:
        return f"{self.timeline}:{self.lsn}"

    def __le__(self, other: Self) -> bool:
        return self.lsn <= other.lsn

    def __lt__(self, other: Self) -> bool:
        return self.lsn < other.lsn


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INTERVAL = re.compile(r"([1-9][0-9]{0,18})(?:-([1-9][0-9]{0,18}))?")
_NOTHING = "-"
Intervals = tuple[tuple[int, int], ...]
"""First and last number of each, both included; in order, with holes between them."""


class GtidPosition(Position):
    """A position that says which transactions are behind it; each has an origin (a server) and a number there."""

    __slots__ = ()
    timeline = 0
    """There is none: it says itself which transactions it lacks."""

    def __bool__(self) -> bool:
        """Whether anything is behind it."""
        return self.number > 0

    @abstractmethod
    def __init__(self) -> None:
        """Of nothing."""

    @abstractmethod
    def __contains__(self, gtid: object) -> bool:
        """Whether a transaction, by its text, is behind it."""

    @abstractmethod
    def holds(self, origin: str, number: int) -> bool:
        """The same, of its parts."""

    @abstractmethod
    def add(self, origin: str, number: int) -> Self:
        """With one transaction more, nearly always the next one of its origin."""

    @abstractmethod
    def __sub__(self, other: Self) -> Self:
        """What is not behind the other."""

    @abstractmethod
    def ahead_of(self, other: Self) -> int:
        """How many transactions that is, as far as numbers tell."""


class GtidSet(GtidPosition):
    """Executed transactions: for each server's UUID the intervals of their numbers. Immutable.

    The text is that of @@gtid_executed, without newlines, servers in order; `-` for no transaction at all.
    """

    __slots__ = ("_of", "_text")

    def __init__(self, of: dict[str, Intervals] | None = None) -> None:
        self._of = {uuid: intervals for uuid, intervals in sorted((of or {}).items()) if intervals}
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The server's text, or our own. Tagged GTIDs (8.3) are not read."""
        found: dict[str, list[tuple[int, int]]] = {}
        text = "".join(text.split()).lower()
        for part in text.split(",") if text not in ("", _NOTHING) else ():
            uuid, *intervals = part.split(":")
            if not _UUID.fullmatch(uuid) or not intervals:
                raise ValueError(f"not a set of GTIDs: {text!r} (expected UUID:1-5,…)")
            found.setdefault(uuid, []).extend(map(_interval, intervals))
        return cls({uuid: _joined(intervals) for uuid, intervals in found.items()})

    @property
    def number(self) -> int:
        """How many transactions it holds."""
        return sum(last - first + 1 for intervals in self._of.values() for first, last in intervals)

    def __contains__(self, gtid: object) -> bool:
        """`UUID:N`."""
        uuid, colon, number = str(gtid).rpartition(":")
        return bool(colon) and self.holds(uuid.lower(), int(number))

    def holds(self, origin: str, number: int) -> bool:
        return any(first <= number <= last for first, last in self._of.get(origin, ()))

    def add(self, origin: str, number: int) -> Self:
        intervals = self._of.get(origin, ())
        if intervals and intervals[-1][1] == number - 1:
            # Servers stay in order, nothing is to be sorted.
            grown = object.__new__(type(self))
            grown._of = {**self._of, origin: (*intervals[:-1], (intervals[-1][0], number))}
            grown._text = None
            return grown
        return type(self)({**self._of, origin: _joined([*intervals, (number, number)])})

    def __or__(self, other: Self) -> Self:
        uuids = self._of.keys() | other._of.keys()
        return type(self)({u: _joined([*self._of.get(u, ()), *other._of.get(u, ())]) for u in uuids})

    def __sub__(self, other: Self) -> Self:
        return type(self)({u: _without(intervals, other._of.get(u, ())) for u, intervals in self._of.items()})

    def ahead_of(self, other: Self) -> int:
        return (self - other).number

    def lacking(self, other: Self) -> Self:
        """What another set has and this one has not."""
        return other - self

    def __iter__(self) -> Iterator[str]:
        """Each server's part of the text."""
        for uuid, intervals in self._of.items():
            yield ":".join([uuid, *(f"{a}-{b}" if a != b else str(a) for a, b in intervals)])

    def __str__(self) -> str:
        if self._text is None:
            self._text = ",".join(self) or _NOTHING
        return self._text

    def __repr__(self) -> str:
        return f"GtidSet({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and self._of == other._of

    def __hash__(self) -> int:
        return hash(str(self))

    def __le__(self, other: Self) -> bool:
        return type(other) is type(self) and not (self - other)._of


_DOMAIN_GTID = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})")
_NOWHERE = "0-0-0"


class DomainPosition(GtidPosition):
    """The last transaction of each domain: its server and its number. Immutable.

    The text is that of @@gtid_binlog_pos, domains in order; `0-0-0`, which no transaction is, for none at all.
    """

    __slots__ = ("_of",)

    def __init__(self, of: dict[int, tuple[int, int]] | None = None) -> None:
        self._of = dict(sorted((of or {}).items()))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The server's text, or our own; of a domain that is named twice, the last counts."""
        return cls({domain: (server, number) for domain, server, number in _domain_gtids(text)})

    @property
    def number(self) -> int:
        """The domains' numbers together: a server that gives every number has so many transactions."""
        return sum(number for _, number in self._of.values())

    def __contains__(self, gtid: object) -> bool:
        """`D-S-N`."""
        origin, dash, number = str(gtid).rpartition("-")
        return bool(dash) and self.holds(origin, int(number))

    def holds(self, origin: str, number: int) -> bool:
        return self._last(int(origin.partition("-")[0])) >= number

    def add(self, origin: str, number: int) -> Self:
        """`origin`: `D-S`."""
        domain, _, server = origin.partition("-")
        return type(self)({**self._of, int(domain): (int(server), number)})

    def __sub__(self, other: Self) -> Self:
        """Each domain of which the other lacks the last transaction."""
        return type(self)({d: last for d, last in self._of.items() if not other._has(d, last)})

    def ahead_of(self, other: Self) -> int:
        return sum(max(0, number - other._last(domain)) for domain, (_, number) in self._of.items())

    def _last(self, domain: int) -> int:
        return self._of.get(domain, (0, 0))[1]

    def _has(self, domain: int, last: tuple[int, int]) -> bool:
        return self._last(domain) > last[1] or self._of.get(domain) == last

    def __iter__(self) -> Iterator[str]:
        """Each domain's part of the text."""
        return (f"{domain}-{server}-{number}" for domain, (server, number) in self._of.items())

    def __str__(self) -> str:
        return ",".join(self) or _NOWHERE

    def __repr__(self) -> str:
        return f"DomainPosition({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DomainPosition) and self._of == other._of

    def __hash__(self) -> int:
        return hash(str(self))

    def __le__(self, other: Self) -> bool:
        return type(other) is type(self) and not (self - other)._of


class BinlogState:
    """All that a MariaDB has in its log: of each domain the last number of every server that wrote to it.

    The text is that of @@gtid_binlog_state.
    """

    __slots__ = ("_of",)

    def __init__(self, of: dict[tuple[int, int], int]) -> None:
        self._of = of

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls({(domain, server): number for domain, server, number in _domain_gtids(text)})

    def lacking(self, position: DomainPosition) -> DomainPosition:
        """The transactions of a position that are not of this history."""
        return DomainPosition(
            {
                domain: (server, number)
                for domain, server, number in _domain_gtids(str(position))
                if self._of.get((domain, server), 0) < number
            }
        )


def _domain_gtids(text: str) -> Iterator[tuple[int, int, int]]:
    text = "".join(text.split())
    for part in text.split(",") if text not in ("", _NOWHERE) else ():
        match = _DOMAIN_GTID.fullmatch(part)
        if match is None:
            raise ValueError(f"not a position of MariaDB: {text!r} (expected D-S-N,…)")
        yield int(match[1]), int(match[2]), int(match[3])


@dataclass(frozen=True, slots=True)
class Gtid:
    """One transaction of MySQL, `UUID:N`, or of MariaDB, `D-S-N`."""

    origin: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Self:
        if _DOMAIN_GTID.fullmatch(text.strip()):
            origin, _, last = text.strip().rpartition("-")
            return cls(origin, int(last))
        uuid, _, number = text.strip().lower().partition(":")
        interval = _INTERVAL.fullmatch(number)
        if not _UUID.fullmatch(uuid) or interval is None or interval[2]:
            raise ValueError(f"not a GTID: {text!r} (expected UUID:N, of MariaDB D-S-N)")
        return cls(uuid, int(number))

    @property
    def following(self) -> str:
        """The next one of its server."""
        return str(Gtid(self.origin, self.number + 1))

    def __str__(self) -> str:
        return f"{self.origin}{':' if _UUID.fullmatch(self.origin) else '-'}{self.number}"


def _interval(text: str) -> tuple[int, int]:
    match = _INTERVAL.fullmatch(text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise ValueError(f"not an interval of GTIDs: {text!r} (expected N or N-M)")
    return int(match[1]), int(match[2] or match[1])


def _joined(intervals: list[tuple[int, int]]) -> Intervals:
    """In order, those that touch made one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def _without(intervals: Intervals, others: Intervals) -> Intervals:
    """What of these intervals lies in the holes of the others."""
    if not others:
        return intervals
    holes = [(1, others[0][0] - 1), *((a[1] + 1, b[0] - 1) for a, b in pairwise(others)), (others[-1][1] + 1, 1 << 64)]
    cut = ((max(a, first), min(b, last)) for first, last in intervals for a, b in holes)
    return tuple((first, last) for first, last in cut if first <= last)


def parse_position(text: str) -> Position:
    """The position written in a log record, of any engine."""
    if "/" in text:
        return PgPosition.parse(text)
    return parse_gtids(text)


def parse_gtids(text: str) -> GtidSet | DomainPosition:
    """Of MySQL or MariaDB."""
    first = text.partition(",")[0].strip()
    return DomainPosition.parse(text) if _DOMAIN_GTID.fullmatch(first) else GtidSet.parse(text)
