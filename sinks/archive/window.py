"""From a moment to a plan: which epoch, which base, which segments. Reads manifests, no rows.

In: an archive and a `Moment`. Out: a `Plan`, its chain checked from the base to the cut; for `--list`, the windows of
moments that can be restored. Refuses: what `plan` refuses; a chain with a hole (CHAIN_BROKEN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdc.errors import (
    ARCHIVE_CORRUPT,
    ARGUMENT_INVALID,
    BEYOND_ARCHIVE,
    CHAIN_BROKEN,
    DELETE_UNKNOWN,
    TABLE_UNKNOWN,
    CdcError,
)
from cdc.position import parse_position
from sinks.archive.archive import Archive
from sinks.archive.chain import Tail, break_between, fetch, fetch_unbroken, read_tail
from sinks.archive.manifest import Base, Segment, segment_name
from sinks.archive.plan import (
    Choice,
    Cut,
    Moment,
    Plan,
    Txn,
    choose_base,
    find_cut,
    holds,
    make_plan,
    refuse_before,
    shown,
)
from sinks.archive.reading import segment_rows

_AT_ONCE = 16
"""Manifests asked for together where the first of them may do."""


@dataclass(frozen=True, slots=True)
class Window:
    """Moments from `from_us` to `to_us` can be restored, out of one epoch's unbroken chain."""

    epoch: int
    first_seq: int
    last_seq: int
    from_us: int | None
    to_us: int | None
    base: str


@dataclass(frozen=True, slots=True)
class _Run:
    """Segments that hang together, at least one; `broken`: what ends them, if it is not the chain's end."""

    segments: list[Segment]
    broken: CdcError | None


class Windows:
    """What one archive can restore."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._loaded: dict[str, list[Txn]] = {}
        self._runs: dict[tuple[int, int], _Run] = {}
        self._names: dict[int, list[str]] = {}
        for name in archive.names("log/"):
            self._names.setdefault(_epoch_of(name), []).append(name)

    def plan(self, moment: Moment, choice: Choice | None = None) -> Plan:
        """The newest base before the moment, and what follows it up to the cut."""
        tail, epoch = self._tail(), self._epoch(moment)
        bases = self.bases(epoch)
        while True:
            base = choose_base(bases, moment)
            run = self._run(epoch, base.txn_seq if base else 0)
            cut = self._cut(moment, run, tail, choice)
            if base is None or cut.txn_seq >= base.txn_seq:
                break
            bases = [other for other in bases if other.txn_seq < base.txn_seq]
        if base is None and moment.time_us is not None:
            begins = self._after_copy(run.segments, tail)
            if begins is None or begins[1] is None or begins[1] > moment.time_us:
                since = "nothing was committed behind the log's own copy" if begins is None else shown(begins[1])
                raise refuse_before(moment, f"no base lies before it; the log's own copy serves from {since} on")
        if base is None and cut.last is None:
            raise refuse_before(moment, "the first that it holds is the log's own copy")
        if base is None and not any(change.effect == "copying" for s in run.segments for change in s.changes):
            first = self._names[epoch][0]
            raise refuse_before(moment, f"no base lies before it, and {first} does not begin with a copy")
        head = tail.sequences if tail and tail.progress.epoch == cut.epoch else {}
        return make_plan(base, run.segments, cut, self._archive.shape, head)

    def tables(self) -> list[str]:
        """What the archive holds at its end, by name."""
        tail = read_tail(self._archive)
        if tail is None:
            raise CdcError(BEYOND_ARCHIVE, moment="now", end="which has no segment yet")
        return sorted(self.plan(Moment(txn_seq=tail.segment.last_seq)).tables)

    def carried(self, base: Base | None, epoch: int, moment: Moment) -> Plan:
        """From this base, along the epoch's chain, to a moment in it."""
        if epoch not in self._names:
            raise CdcError(BEYOND_ARCHIVE, moment=moment, end="which has no segment yet")
        run = self._run(epoch, base.txn_seq if base else 0)
        return make_plan(base, run.segments, self._cut(moment, run, self._tail(), None), self._archive.shape)

    def _tail(self) -> Tail | None:
        """None for one that is damaged, too: what lies before it can still be restored."""
        try:
            return read_tail(self._archive)
        except CdcError as error:
            if error.code is not ARCHIVE_CORRUPT:
                raise
            return None

    def _cut(self, moment: Moment, run: _Run, tail: Tail | None, choice: Choice | None) -> Cut:
        segments = run.segments
        newest = None if run.broken else _ending(segments, tail)
        # Up to the last commit of an epoch that is over, and no further, everything is known.
        horizon = newest.horizon_us if newest else None if run.broken else segments[-1].running_max_us
        if newest and _behind_all(moment, segments[-1], newest):
            # Heartbeats carry the archive's end on; behind the last transaction there is nothing to leave out.
            return Cut(segments[-1].epoch, self._load(segments[-1])[-1], None)
        try:
            return find_cut(moment, segments, self._load, horizon, choice)
        except CdcError as error:
            if run.broken and error.code is BEYOND_ARCHIVE:
                raise run.broken from None
            raise

    def _epoch(self, moment: Moment) -> int:
        """The newest epoch that begins before the moment; for a time in the gap before an epoch, that one."""
        epochs = sorted(self._names, reverse=True)
        if moment.epoch is not None:
            if moment.epoch not in self._names:
                known = ", ".join(map(str, epochs)) or "none"
                problem = f"the archive has no epoch {moment.epoch}"
                raise CdcError(ARGUMENT_INVALID, problem=problem, fix=f"--epoch, one of {known}")
            return moment.epoch
        for epoch, older in zip_longest(epochs, epochs[1:]):
            if older is None or self._begins_before(epoch, moment):
                return epoch
            if moment.time_us is not None:
                ((_, last),) = fetch(self._archive, self._names[older][-1:])
                if last.running_max_us is not None and last.running_max_us < moment.time_us:
                    return epoch
        raise CdcError(BEYOND_ARCHIVE, moment=moment, end="which has no segment yet")

    def _begins_before(self, epoch: int, moment: Moment) -> bool:
        if moment.time_us is not None:
            times = [base.commit_us for base in self.bases(epoch)] + [self._first_commit(epoch)]
            return any(at is not None and at <= moment.time_us for at in times)
        if moment.position is not None or moment.gtid is not None:
            ((_, first),) = fetch(self._archive, self._names[epoch][:1])
            begins = parse_position(first.prev_position or first.position)
            return not holds(begins, moment.gtid) if moment.position is None else begins <= moment.position
        return True

    def _first_commit(self, epoch: int) -> int | None:
        """The parts of a copy, with which an epoch begins, have no commit time."""
        names = self._names[epoch]
        for first in range(0, len(names), _AT_ONCE):
            for _, segment in fetch(self._archive, names[first : first + _AT_ONCE]):
                if segment.min_commit_us is not None:
                    return segment.min_commit_us
        return None

    def bases(self, epoch: int) -> list[Base]:
        """Of one epoch, oldest first."""
        return [self._archive.read(Base, name) for name in self._archive.base_names(epoch)]

    def _run(self, epoch: int, behind: int) -> _Run:
        """From the segment that holds `behind`, or the transaction after it, as far as links hold; fetched once."""
        if (epoch, behind) not in self._runs:
            self._runs[epoch, behind] = self._fetched(epoch, behind)
        return self._runs[epoch, behind]

    def _fetched(self, epoch: int, behind: int) -> _Run:
        names = self._names[epoch]
        wanted = segment_name(epoch, behind + 1)
        at = max((n for n, name in enumerate(names) if name <= wanted), default=-1)
        if at < 0:
            raise CdcError(
                CHAIN_BROKEN, before=f"transaction {behind}", after=names[0],
                problem=f"transactions from {behind + 1} on are missing",
            )  # fmt: skip
        chain, broken = next(fetch_unbroken(self._archive, names[at:]))
        if broken and not chain:
            raise broken
        if at and chain[0][1].first_seq == behind + 1:
            # A cut right behind the base ends with a transaction of the segment before.
            earlier, _ = next(fetch_unbroken(self._archive, names[at - 1 : at]))
            chain = [*earlier, *chain] if earlier and not break_between(earlier[0], chain[0]) else chain
        return _Run([segment for _, segment in chain], broken)

    def _load(self, segment: Segment) -> list[Txn]:
        """Its transactions; a search looks at few segments, at some of them twice."""
        if segment.name not in self._loaded:
            self._loaded[segment.name] = self._transactions(segment)
        return self._loaded[segment.name]

    def _transactions(self, segment: Segment) -> list[Txn]:
        columns = ["txn_seq", "commit_us", "position", "run", "log_offset"]
        # No threads of its own: one that still ends while the process does aborts it.
        file = pq.ParquetFile(pa.BufferReader(self._archive.vouched(segment.transactions)))
        table = file.read(columns, use_threads=False)
        return [Txn(*row) for row in zip(*(table[name].to_pylist() for name in columns), strict=True)]

    def _after_copy(self, run: Sequence[Segment], tail: Tail | None) -> tuple[int, int | None] | None:
        """Where the log's own base copy is complete, and the first commit time that is known from there on.

        The parts of a copy have no commit time: the source stood like that some time before the next one.
        """
        copied = [change.seq for segment in run for change in segment.changes if change.effect == "copied"]
        if not copied or run[0].first_seq != 1:
            return None
        at = max(copied)
        for segment in run:
            if segment.last_seq > at and segment.max_commit_us is not None:
                times = [t.commit_us for t in self._load(segment) if t.txn_seq > at and t.commit_us is not None]
                if times:
                    return at, times[0]
        newest = _ending(run, tail)
        return at, newest.horizon_us if newest else None

    def before_delete(self, table: str, key: Sequence[str]) -> Moment:
        """Just before the last transaction that removed this row, by DELETE or TRUNCATE."""
        known: set[str] = set()
        for epoch in sorted(self._names, reverse=True):
            for name in reversed(self._names[epoch]):
                ((_, segment),) = fetch(self._archive, [name])
                known |= segment.tables.keys() | {change.table for change in segment.changes}
                removed = [c.seq for c in segment.changes if c.table == table and c.effect == "truncate"]
                removed += self._deletes(segment, table, key)
                if removed:
                    return Moment(txn_seq=max(removed), exclusive=True, epoch=epoch)
        if table not in known:
            raise CdcError(TABLE_UNKNOWN, table=table, known=", ".join(sorted(known)) or "none")
        raise CdcError(DELETE_UNKNOWN, table=table, key=", ".join(key))

    def _deletes(self, segment: Segment, table: str, key: Sequence[str]) -> list[int]:
        """Transactions of this segment that deleted the row. One that moved its key did not."""
        found: list[int] = []
        for _, batch in segment_rows(self._archive, segment, {table}):
            deletes = batch.filter(pc.equal(batch.column("op"), "d"))
            columns = (deletes.column(name).to_pylist() for name in ("txn_seq", "key", "moved_to"))
            found += [seq for seq, of, moved in zip(*columns, strict=True) if of == list(key) and moved is None]
        return found

    # -- what there is ------------------------------------------------------------------------------------------
    def windows(self) -> list[Window]:
        """Every span of moments that can be restored, oldest first; broken chains end one."""
        tail, found = self._tail(), []
        for epoch, names in sorted(self._names.items()):
            bases = self.bases(epoch)
            for run, _ in fetch_unbroken(self._archive, names):
                window = self._window(epoch, [segment for _, segment in run], bases, tail) if run else None
                if window:
                    found.append(window)
        return found

    def _window(self, epoch: int, run: Sequence[Segment], bases: Sequence[Base], tail: Tail | None) -> Window | None:
        first, last = run[0].first_seq, run[-1].last_seq
        starts = [(base.txn_seq, base.commit_us, base.name) for base in bases if first - 1 <= base.txn_seq <= last]
        copied = self._after_copy(run, tail)
        if copied:
            starts.append((*copied, "the log's own copy"))
        if not starts:
            return None
        newest = _ending(run, tail)
        to_us = newest.horizon_us if newest else run[-1].running_max_us
        _, from_us, name = min(starts)
        return Window(epoch, min(starts)[0], last, from_us, to_us, name)


def _epoch_of(name: str) -> int:
    epoch = name.split("/")[1]
    if not (epoch.isascii() and epoch.isdigit()):
        raise CdcError(ARCHIVE_CORRUPT, name=name, problem="it is no segment's name; who put it there?")
    return int(epoch)


def _behind_all(moment: Moment, segment: Segment, tail: Tail) -> bool:
    """Whether it lies between the last transaction and the archive's end."""
    last, end = parse_position(segment.position), parse_position(tail.progress.position)
    if moment.gtid is not None:
        return holds(end, moment.gtid) and not holds(last, moment.gtid)
    if moment.position is None or not moment.position <= end:
        return False
    return last < moment.position or (last <= moment.position and not moment.exclusive)


def _ending(segments: Sequence[Segment], tail: Tail | None) -> Tail | None:
    """The archive's end, if these segments reach it."""
    return tail if tail and tail.segment.name == segments[-1].name else None
