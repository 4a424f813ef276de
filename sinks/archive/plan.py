"""What a restore will do: where it cuts the log, what it starts from, which form each table has there. Pure.

In: the moment asked for, bases and manifests of one epoch in order, transactions of a segment. Out: `Cut` and `Plan`.
Refuses: a moment that the archive does not reach (BEYOND_ARCHIVE) or begins after (BEFORE_ARCHIVE), clocks that make a
moment ambiguous (CUT_AMBIGUOUS), a table that was being copied then (TABLE_COPYING).

A cut is always a prefix of commit order: just before the first transaction whose commit time is later than the moment.
Transactions are never picked by their times (CORRECTNESS 34).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from cdc.errors import (
    BEFORE_ARCHIVE,
    BEYOND_ARCHIVE,
    CUT_AMBIGUOUS,
    SCHEMA_CHANGE_UNSUPPORTED,
    CdcError,
)
from cdc.event import Table
from cdc.position import Gtid, GtidPosition, PgPosition, Position, parse_position
from sinks.archive.manifest import Base, SchemaChange, Segment
from sinks.archive.sequences import Reached, reached

TOLERANCE_US = 1_000_000
Choice = Literal["first-after", "last-before"]


@dataclass(frozen=True, slots=True)
class Moment:
    """One of a time (µs since 1970), a position, a GTID, a transaction's number.

    `exclusive`: without what is exactly there. `epoch`: in which it is meant; without one, the newest that a time or a
    position falls into.
    """

    time_us: int | None = None
    position: Position | None = None
    gtid: Gtid | None = None
    txn_seq: int | None = None
    exclusive: bool = False
    epoch: int | None = None

    def __str__(self) -> str:
        if self.time_us is not None:
            return shown(self.time_us)
        if self.position is not None:
            return str(self.position.lsn if isinstance(self.position, PgPosition) else self.position)
        return f"transaction {self.txn_seq if self.gtid is None else self.gtid}"


@dataclass(frozen=True, slots=True)
class Txn:
    """A transaction of the archive, as its segment tells it."""

    txn_seq: int
    commit_us: int | None
    position: str
    run: str
    log_offset: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The last transaction in and the first one out; `strays` lie behind the cut although their clock says before."""

    epoch: int
    last: Txn | None
    first_out: Txn | None
    strays: int = 0

    @property
    def txn_seq(self) -> int:
        return self.last.txn_seq if self.last else 0


Load = Callable[[Segment], Sequence[Txn]]


def find_cut(
    moment: Moment, segments: Sequence[Segment], load: Load, horizon_us: int | None, choice: Choice | None = None
) -> Cut:
    """Where the moment falls in these segments, which follow each other. `horizon_us`: up to when the archive knows."""
    if moment.time_us is not None:
        return _at_time(moment.time_us, moment.time_us - moment.exclusive, segments, load, horizon_us, choice)
    is_out = _beyond(moment)
    for at, segment in enumerate(segments):
        if not is_out(Txn(segment.last_seq, None, segment.position, "", 0)):
            continue
        cut = _cut_in(segments, at, load, is_out)
        if moment.gtid is not None and not moment.exclusive:
            return _with_gtid(moment.gtid, cut, segments, load)
        return cut
    last = segments[-1]
    if not _reached(moment, last.last_seq, parse_position(last.position)):
        end = last.position if moment.txn_seq is None else last.last_seq
        raise CdcError(BEYOND_ARCHIVE, moment=moment, end=end)
    return Cut(last.epoch, load(last)[-1], None)


def _reached(moment: Moment, txn_seq: int, position: Position) -> bool:
    """Whether the moment, which is no time, lies before the end of these."""
    if moment.txn_seq is not None:
        return moment.txn_seq <= txn_seq
    return moment.gtid is None and (moment.position is None or moment.position <= position)


def _with_gtid(gtid: Gtid, before: Cut, segments: Sequence[Segment], load: Load) -> Cut:
    """Behind the transaction of this GTID, if it changed captured tables; `before` ends where it is not in yet.

    A position says which GTIDs are in, not which of them it is of: the last of its server. Parts of a copy share one.
    """
    first = before.first_out
    assert first is not None
    here = parse_position(first.position)
    assert isinstance(here, GtidPosition)
    earlier = parse_position(before.last.position) if before.last else type(here)()
    assert isinstance(earlier, type(here))
    if gtid.following in here - earlier:
        return before
    return find_cut(Moment(position=here), segments, load, None)


def _beyond(moment: Moment) -> Callable[[Txn], bool]:
    """Whether a transaction lies behind the moment."""
    if moment.txn_seq is not None:
        limit = moment.txn_seq - moment.exclusive
        return lambda txn: txn.txn_seq > limit
    gtid, position = moment.gtid, moment.position
    if gtid is not None:
        return lambda txn: holds(parse_position(txn.position), gtid)
    assert position is not None
    if moment.exclusive:
        return lambda txn: not parse_position(txn.position) < position
    return lambda txn: not parse_position(txn.position) <= position


def holds(position: Position, gtid: object) -> bool:
    """Whether a transaction is in what a position has behind it."""
    return isinstance(position, GtidPosition) and gtid in position


def _cut_in(segments: Sequence[Segment], at: int, load: Load, is_out: Callable[[Txn], bool]) -> Cut:
    """The cut before the first transaction of this segment that is out."""
    txns = load(segments[at])
    first = next(n for n, txn in enumerate(txns) if is_out(txn))
    last = txns[first - 1] if first else (load(segments[at - 1])[-1] if at else None)
    return Cut(segments[at].epoch, last, txns[first])


def _at_time(
    time_us: int, limit: int, segments: Sequence[Segment], load: Load, horizon_us: int | None, choice: Choice | None
) -> Cut:
    """`limit`: the latest commit time that is in."""

    def is_out(txn: Txn) -> bool:
        return txn.commit_us is not None and txn.commit_us > limit

    for at, segment in enumerate(segments):
        if segment.max_commit_us is None or segment.max_commit_us <= limit:
            continue
        cut = _cut_in(segments, at, load, is_out)
        strays = _strays(cut, limit, segments[at:], load)
        early = [txn for txn in strays if limit - (txn.commit_us or 0) > TOLERANCE_US]
        if early and choice is None:
            raise CdcError(
                CUT_AMBIGUOUS, moment=shown(time_us), first_after=cut.txn_seq, last_before=strays[-1].txn_seq,
                strays=len(strays),
            )  # fmt: skip
        if strays and choice == "last-before":
            return find_cut(Moment(txn_seq=strays[-1].txn_seq), segments, load, horizon_us, None)
        return Cut(cut.epoch, cut.last, cut.first_out, len(strays))
    if horizon_us is None or horizon_us < limit:
        raise CdcError(BEYOND_ARCHIVE, moment=shown(time_us), end=shown(horizon_us))
    return Cut(segments[-1].epoch, load(segments[-1])[-1], None)


def _strays(cut: Cut, limit: int, segments: Sequence[Segment], load: Load) -> list[Txn]:
    """Behind the cut, by their clock before it."""
    found = []
    for segment in segments:
        if segment.min_commit_us is not None and segment.min_commit_us <= limit:
            found += [
                txn for txn in load(segment)
                if txn.txn_seq > cut.txn_seq and txn.commit_us is not None and txn.commit_us <= limit
            ]  # fmt: skip
    return found


@dataclass(slots=True)
class TablePlan:
    """One table at the cut.

    Changes of transactions up to `since` are in the base already. If `void` is set, changes up to there (transaction,
    ordinal) do not count, nor does the base.
    """

    name: str
    shape: Table
    schema_id: str
    base_schema: str | None
    since: int = 0
    void: tuple[int, int] | None = None
    copying: bool = False

    @property
    def from_base(self) -> bool:
        return self.base_schema is not None and self.void is None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a restore needs to know before it reads a row."""

    base: Base | None
    segments: tuple[Segment, ...]
    cut: Cut
    tables: dict[str, TablePlan]
    changes: tuple[str, ...] = field(default=())
    """In words: what changed in the schema between base and cut."""
    sequences: Mapping[str, Reached] = field(default_factory=dict)
    """Of the base's, where they stood at the cut."""
    later_sequences: tuple[str, ...] = ()
    """Sampled, but not in the base."""


def make_plan(
    base: Base | None,
    segments: Sequence[Segment],
    cut: Cut,
    shape_of: Callable[[str], Table],
    head: Mapping[str, int] = MappingProxyType({}),
) -> Plan:
    """`segments` begin right behind the base, or with the epoch, and go on to the end; `head`: samples behind it."""
    needed = [s for s in segments if s.first_seq <= cut.txn_seq and (base is None or s.last_seq > base.txn_seq)]
    since = base.txn_seq if base else 0
    tables = {
        name: TablePlan(name, shape_of(table.schema_id), table.schema_id, table.schema_id, since)
        for name, table in (base.tables if base else {}).items()
    }
    said = []
    changes = [c for s in needed for c in s.changes if since < c.seq <= cut.txn_seq]
    changes.sort(key=lambda c: (c.seq, c.at))
    for change in changes:
        _apply(change, tables, shape_of)
        if change.effect in ("add_column", "drop_column"):
            said.append(f"{change.effect.replace('_', ' ')} in {change.table} (transaction {change.seq})")
    sequences, later = reached(base.sequences, segments, head, cut.txn_seq) if base else ({}, [])
    return Plan(base, tuple(needed), cut, tables, tuple(said), sequences, tuple(later))


def _apply(change: SchemaChange, tables: dict[str, TablePlan], shape_of: Callable[[str], Table]) -> None:
    table = tables.get(change.table)
    if change.effect == "copying" and change.new:
        tables[change.table] = TablePlan(
            change.table, shape_of(change.new), change.new, None, void=(change.seq, change.at), copying=True
        )
    elif table is None:
        raise CdcError(
            SCHEMA_CHANGE_UNSUPPORTED, table=change.table, position=f"transaction {change.seq}",
            change=f"{change.effect}, but nothing before brought the table",
        )  # fmt: skip
    elif change.effect == "copied":
        table.copying = False
    elif change.effect == "truncate":
        table.void = (change.seq, change.at)
    elif change.effect in ("add_column", "drop_column") and change.new:
        table.shape, table.schema_id = shape_of(change.new), change.new
    else:
        raise CdcError(
            SCHEMA_CHANGE_UNSUPPORTED, table=change.table, position=f"transaction {change.seq}", change=change.effect
        )


def choose_base(bases: Sequence[Base], moment: Moment) -> Base | None:
    """The last base that is not behind the moment; None where only the log's own copy can serve.

    A base's own time is not enough: an earlier transaction may have had a later clock. So the one chosen is checked
    against the cut afterwards, and `bases` without it tried again.
    """
    fitting = [base for base in bases if _reaches(base, moment)]
    return max(fitting, key=lambda base: (base.txn_seq, base.started_ms), default=None)


def _reaches(base: Base, moment: Moment) -> bool:
    if moment.txn_seq is not None:
        return base.txn_seq <= moment.txn_seq - moment.exclusive
    if moment.position is not None:
        return parse_position(base.position) <= moment.position
    if moment.gtid is not None:
        # With the GTID in it, it may be right behind it or far: the cut tells.
        return not holds(parse_position(base.position), moment.gtid.following)
    assert moment.time_us is not None
    return base.commit_us is not None and base.commit_us <= moment.time_us


def refuse_before(moment: Moment, begins: object) -> CdcError:
    return CdcError(BEFORE_ARCHIVE, moment=moment, begins=begins)


def shown(time_us: int | None) -> str:
    """In UTC, to the microsecond."""
    if time_us is None:
        return "an unknown time"
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(microsecond=time_us % 1_000_000).isoformat(" ")


def kept(base: Table, now: Table) -> Mapping[int, int]:
    """Places (from 1) of `now`'s columns in `base`, by what makes a column the same."""
    place = {column.attnum: at for at, column in enumerate(base.columns, 1)}
    return {at: place[column.attnum] for at, column in enumerate(now.columns, 1) if column.attnum in place}
