"""How far a restore is proven: the archive carried to what the source itself said, before the cut and behind it.

In: an archive, the plan of a restore, the digests of the tables it gave. Out: `Proof`. Refuses: what plan and fold
refuse; a witness that cannot be compared is passed over, and the reason kept.

A witness is an anchor, or a base taken from the source: digests by SQL under one exact position. The same base and the
same chain that gave the restored rows are folded up to the newest witness at or before the cut and to the oldest at or
behind it. If both give what the source gave, what lies between them rests on the chain alone (CORRECTNESS 33). Without
one behind it nothing is folded: most restores are of a moment after the last witness, and wait for the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cdc.errors import CdcError
from cdc.event import Column, Table
from cdc.position import GtidSet, Position, parse_position
from sinks.archive.archive import Archive
from sinks.archive.manifest import Anchor, AnchorTable, Base, Verdict
from sinks.archive.plan import Moment, Plan
from sinks.archive.restore import Observer, fold_digests
from sinks.archive.window import Windows
from sinks.digest import Digests, differing

Side = Literal["before", "behind"]


@dataclass(frozen=True, slots=True)
class Witness:
    """What the source held at a position. `of`: system and database; None where the archive placed it itself."""

    name: str
    position: Position
    of: tuple[str, str] | None
    tables: Mapping[str, AnchorTable]


@dataclass(frozen=True, slots=True)
class Difference:
    """A table of which the archive gives other rows than the source had."""

    witness: str
    table: str
    buckets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """A witness and the transaction it follows."""

    witness: Witness
    txn_seq: int


@dataclass(frozen=True, slots=True)
class Proof:
    """`lacking` says why it is not proven; nothing if it is."""

    before: Compared | None
    after: Compared | None
    lacking: tuple[str, ...]
    differences: tuple[Difference, ...] = ()

    @property
    def verdict(self) -> Verdict:
        if self.differences:
            return "FAILED"
        return "PROVEN" if self.before and self.after else "VERIFIED"


def prove(archive: Archive, windows: Windows, plan: Plan, restored: Mapping[str, Digests], observer: Observer) -> Proof:
    """`restored`: by table of the source, the digests of the fold at the cut, which the target was found to hold."""
    return _Prover(archive, windows, plan, restored, observer).prove()


class _Prover:
    """One restore's proof."""

    def __init__(
        self, archive: Archive, windows: Windows, plan: Plan, restored: Mapping[str, Digests], observer: Observer
    ) -> None:
        self._archive, self._windows, self._plan = archive, windows, plan
        self._restored, self._observer = restored, observer
        self._lacking: list[str] = []
        self._differences: list[Difference] = []

    def prove(self) -> Proof:
        cut = self._plan.cut
        last, out = (parse_position(txn.position) if txn else None for txn in (cut.last, cut.first_out))
        begins = parse_position(self._plan.base.position) if self._plan.base else None
        known = sorted(self._witnesses(), key=lambda witness: witness.position.number)
        before = [w for w in known if (out is None or w.position < out) and (begins is None or w.position >= begins)]
        after = [w for w in known if last is None or w.position >= last]
        found = self._first(after, "behind")
        if found is None or found.txn_seq == cut.txn_seq:
            return Proof(found, found, tuple(self._lacking), tuple(self._differences))
        earlier = self._first(before[::-1], "before")
        return Proof(earlier, found, tuple(self._lacking), tuple(self._differences))

    def _witnesses(self) -> Iterator[Witness]:
        for name in self._archive.names("anchor/"):
            try:
                anchor = self._archive.read(Anchor, name)
            except CdcError as error:
                self._lacking.append(f"{name} is no witness: {error.text}")
                continue
            if (anchor.archive, anchor.name) != (self._archive.identity.archive, name):
                self._lacking.append(f"{name} is no witness: it was put in another's place")
                continue
            yield Witness(name, parse_position(anchor.position), (anchor.system_id, anchor.database), anchor.tables)
        for base in self._windows.bases(self._plan.cut.epoch):
            if base.taken_from == "source":
                yield Witness(base.name, parse_position(base.position), None, _tables(base))

    def _first(self, witnesses: Sequence[Witness], side: Side) -> Compared | None:
        """The nearest that can be compared."""
        reasons = []
        for witness in witnesses:
            try:
                moment = Moment(position=witness.position)
                carried = self._windows.carried(self._plan.base, self._plan.cut.epoch, moment)
                problem = self._incomparable(witness, carried, side)
                if problem is None:
                    self._compare(witness, carried)
                    return Compared(witness, carried.cut.txn_seq)
            except CdcError as error:
                problem = error.text
            reasons.append(f"{witness.name}: {problem}")
        self._lacking.append(f"nothing of the source {side} it" + "".join(f"; not {reason}" for reason in reasons[:3]))
        return None

    def _incomparable(self, witness: Witness, carried: Plan, side: Side) -> str | None:
        if not _same_server(witness, carried):
            return "it is of another server, database or timeline"
        for name in self._restored:
            table, seen = carried.tables.get(name), witness.tables.get(name)
            if table is None and seen is None and side == "before":
                continue  # It was made between the two.
            if table is None or table.copying:
                return f"table {name} was being copied then"
            if seen is None:
                return f"it does not cover table {name}"
            shape = self._archive.shape(seen.schema_id)
            columns = [[(_number(of, c), c.name) for c in of.columns] for of in (shape, table.shape)]
            if columns[0] != columns[1] or shape.key != table.shape.key:
                return f"table {name} has another shape there"
        return None

    def _compare(self, witness: Witness, carried: Plan) -> None:
        """Of the tables that are there, each as the archive has it at the witness's position."""
        if carried.cut.txn_seq == self._plan.cut.txn_seq:
            found = dict(self._restored)
        else:
            self._observer.step(f"proof: the archive carried to {witness.name}")
            found = fold_digests(
                self._archive, carried, [n for n in self._restored if n in carried.tables], self._observer
            )
        compared = {name: differing(sums, witness.tables[name].digests) for name, sums in found.items()}
        self._differences += [Difference(witness.name, name, tuple(b)) for name, b in sorted(compared.items()) if b]


def _number(table: Table, column: Column) -> int | None:
    """MySQL's catalog, which a witness goes by, does not tell it."""
    return column.attnum if table.engine == "postgresql" else None


def _tables(base: Base) -> dict[str, AnchorTable]:
    return {name: AnchorTable(schema_id=t.schema_id, digests=t.digests) for name, t in base.tables.items()}


def _same_server(witness: Witness, carried: Plan) -> bool:
    """Positions compare within one system; after a fail-over the old server's go on beside the new one's.

    Sets of GTIDs say themselves whose they are: those of another history are not ordered with ours.
    """
    if isinstance(witness.position, GtidSet):
        return carried.cut.first_out is None or witness.position <= parse_position(carried.cut.first_out.position)
    known = {(segment.system_id, segment.database) for segment in carried.segments[-1:]}
    if witness.of is not None and known - {witness.of, (None, None)}:
        return False
    last, out = (parse_position(t.position).timeline if t else None for t in (carried.cut.last, carried.cut.first_out))
    timeline = witness.position.timeline
    return (last is None or timeline >= last) and (out is None or timeline <= out)
