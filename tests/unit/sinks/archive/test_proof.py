"""Which witnesses prove a restore: the nearest that can be compared, on either side of the cut."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdc.errors import ARCHIVE_CORRUPT, CdcError
from cdc.event import Column, Table
from cdc.position import Lsn, PgPosition
from cdc.shape import schema_id
from sinks.archive import proof
from sinks.archive.archive import Archive
from sinks.archive.manifest import Anchor, AnchorTable, Base, BaseTable, Segment, Stored
from sinks.archive.plan import Cut, Moment, Plan, TablePlan, Txn
from sinks.archive.proof import Proof, prove
from sinks.digest import Digests

STORED = Stored(name="x", size=0, sha256="0" * 64)
LAST = 100
"""Transactions 1 to 100 end at 0/10, 0/20, …; their digests say which one they stand behind."""


def at(seq: int) -> Digests:
    return {"00": (seq, seq, seq)}


def column(name: str, attnum: int) -> Column:
    return Column(name, "int4", "integer", 23, -1, attnum, not_null=True)


class Known:
    """Stands for `Windows`: every moment can be reached; tables are there from a transaction on."""

    def __init__(
        self, shape: Table, bases: Sequence[Base], made: Mapping[str, int], timelines: Mapping[int, int]
    ) -> None:
        self._shape, self._bases, self._made, self._timelines = shape, bases, made, timelines
        self.broken_from = LAST + 1

    def bases(self, _epoch: int) -> list[Base]:
        return list(self._bases)

    def txn(self, seq: int) -> Txn:
        timeline = max((t for t, first in self._timelines.items() if first <= seq), default=1)
        return Txn(seq, None, f"{timeline}:0/{seq * 16:X}", "r", 0)

    def plan(self, seq: int) -> Plan:
        out = self.txn(seq + 1) if seq < LAST else None
        tables = {
            name: TablePlan(name, self._shape, schema_id(self._shape), None)
            for name, first in self._made.items() if first <= seq
        }  # fmt: skip
        segment = Segment(
            archive="0" * 16, epoch=1, first_seq=1, last_seq=seq, run="r", prev_position=None, position="1:0/1",
            log_offset=0, events=0, min_commit_us=None, max_commit_us=None, running_max_us=None, commit_us=None,
            system_id="7", database="shop", tables={}, rows=None, transactions=STORED, previous=None,
        )  # fmt: skip
        base = self._bases[0] if self._bases else None
        return Plan(base, (segment,), Cut(1, self.txn(seq), out), tables)

    def carried(self, _base: Base | None, _epoch: int, moment: Moment) -> Plan:
        assert isinstance(moment.position, PgPosition)
        seq = int(moment.position.lsn) // 16
        if seq >= self.broken_from:
            raise CdcError(ARCHIVE_CORRUPT, name=f"log/{seq}", problem="it is missing")
        return self.plan(seq)


class Case:
    """An archive with witnesses, and a restore to be proven."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.archive = Archive.open_or_make(f"file://{folder}/archive", None, "shop")
        self.shape = Table("public", "a", 1, (column("id", 1), column("n", 2)), ("id",), "d", ())
        self.archive.put_shape(self.shape)
        self.bases: list[Base] = []
        self.made = {"public.a": 1}
        self.timelines: dict[int, int] = {}
        self.wrong: set[int] = set()
        self.broken_from = LAST + 1
        monkeypatch.setattr(proof, "fold_digests", self._folded)

    def _folded(self, _archive: Any, plan: Plan, names: Sequence[str], _observer: Any) -> dict[str, Digests]:
        seq = plan.cut.txn_seq
        return dict.fromkeys(names, at(-seq if seq in self.wrong else seq))

    def anchor(self, seq: int, *, plus: int = 0, tables: Sequence[str] = ("public.a",), **facts: Any) -> str:
        """Taken `plus` bytes behind that transaction."""
        given: dict[str, Any] = {
            "archive": self.archive.identity.archive, "id": f"{seq:016x}", "system_id": "7", "database": "shop",
            "position": f"1:{Lsn(seq * 16 + plus)}", "taken_ms": 0,
            "tables": {n: AnchorTable(schema_id=schema_id(self.shape), digests=at(seq)) for n in tables},
        } | facts  # fmt: skip
        anchor = Anchor(**given)
        self.archive.put(anchor.name, anchor.to_bytes())
        return anchor.name

    def base(self, seq: int, taken_from: str = "source") -> str:
        table = BaseTable(schema_id=schema_id(self.shape), rows=seq, digests=at(seq), files=())
        base = Base(
            archive=self.archive.identity.archive, id=f"{seq:016x}", taken_from=taken_from, server_version=180000,
            epoch=1, txn_seq=seq, position=f"1:{Lsn(seq * 16)}", commit_us=None, started_ms=0, finished_ms=0,
            tables={"public.a": table}, schema_file=STORED, sequences={},
        )  # fmt: skip
        self.bases.append(base)
        return base.name

    def proven(self, seq: int, restored: Mapping[str, Digests] | None = None) -> Proof:
        known = Known(self.shape, self.bases, self.made, self.timelines)
        known.broken_from = self.broken_from
        given = restored or {name: at(seq) for name, first in self.made.items() if first <= seq}
        return prove(self.archive, known, known.plan(seq), given, _Quiet())  # type: ignore[arg-type]


class _Quiet:
    def begun(self, changes: int, rows: Mapping[str, int]) -> None: ...
    def reading(self, changes: int) -> None: ...
    def loading(self, table: str, rows: int, *, done: bool) -> None: ...
    def step(self, what: str) -> None: ...


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def sides(found: Proof) -> tuple[str | None, str | None]:
    before, after = found.before, found.after
    return before.witness.name if before else None, after.witness.name if after else None


def test_the_nearest_on_either_side(case: Case) -> None:
    base = case.base(10)
    case.anchor(20)
    near = case.anchor(40)
    behind = case.anchor(60)
    case.anchor(80)
    found = case.proven(50)
    assert (found.verdict, sides(found)) == ("PROVEN", (near, behind))
    assert sides(case.proven(15))[0] == base


@pytest.mark.parametrize("plus", [0, 7])
def test_one_at_the_cut_itself_is_both(case: Case, plus: int) -> None:
    """It may lie between the last transaction in and the first one out; where the first one out ends it is behind."""
    base = case.base(10)
    next_one = case.anchor(51)
    assert sides(case.proven(50)) == (base, next_one)
    name = case.anchor(50, plus=plus)
    found = case.proven(50)
    assert (found.verdict, sides(found)) == ("PROVEN", (name, name))


def test_without_one_behind_it_is_verified(case: Case) -> None:
    """And nothing is folded for it: it will be, when there is one."""
    case.base(10)
    case.wrong.add(10)
    found = case.proven(50)
    assert (found.verdict, sides(found), found.differences) == ("VERIFIED", (None, None), ())
    assert found.lacking == ("nothing of the source behind it",)


def test_a_base_from_a_sink_is_no_witness(case: Case) -> None:
    case.base(10, taken_from="eu")
    case.anchor(60)
    assert case.proven(50).verdict == "VERIFIED"


@pytest.mark.parametrize("seq", [40, 60])
def test_a_difference_on_either_side_has_failed(case: Case, seq: int) -> None:
    case.base(10)
    names = {40: case.anchor(40), 60: case.anchor(60)}
    case.wrong.add(seq)
    found = case.proven(50)
    assert found.verdict == "FAILED"
    assert [(d.witness, d.table, d.buckets) for d in found.differences] == [(names[seq], "public.a", ("00",))]


def test_the_restored_rows_themselves_are_compared_at_the_cut(case: Case) -> None:
    case.base(10)
    case.anchor(50)
    assert case.proven(50, {"public.a": at(49)}).verdict == "FAILED"


def test_a_table_that_is_not_covered_is_looked_for_farther_away(case: Case) -> None:
    case.base(10)
    case.anchor(60, tables=())
    whole = case.anchor(70)
    assert sides(case.proven(50))[1] == whole
    case.archive.store.delete(whole)
    found = case.proven(50)
    assert found.verdict == "VERIFIED"
    assert "it does not cover table public.a" in found.lacking[0]


def test_a_table_that_was_made_later_needs_no_witness_before(case: Case) -> None:
    case.made["public.b"] = 30
    base = case.base(10)
    behind = case.anchor(60, tables=("public.a", "public.b"))
    assert (case.proven(50).verdict, sides(case.proven(50))) == ("PROVEN", (base, behind))


def test_another_shape_of_the_table_is_not_compared(case: Case) -> None:
    case.base(10)
    other = replace(case.shape, columns=(*case.shape.columns, column("m", 3)))
    case.archive.put_shape(other)
    of_other = AnchorTable(schema_id=schema_id(other), digests=at(60)).model_dump()
    name = case.anchor(60)
    anchor = case.archive.read(Anchor, name)
    case.archive.put(name, Anchor.model_validate({**anchor.model_dump(), "tables": {"public.a": of_other}}).to_bytes())
    found = case.proven(50)
    assert (found.verdict, "another shape" in found.lacking[0]) == ("VERIFIED", True)


@pytest.mark.parametrize("facts", [{"system_id": "8"}, {"database": "copy"}])
def test_another_server_or_database(case: Case, facts: dict[str, Any]) -> None:
    case.base(10)
    case.anchor(60, **facts)
    assert case.proven(50).verdict == "VERIFIED"


def test_another_timeline(case: Case) -> None:
    """After a fail-over the old server's positions go on beside the new one's."""
    case.base(10)
    case.timelines[2] = 55
    case.anchor(70)
    assert case.proven(50).verdict == "VERIFIED"
    right = case.anchor(80, position=f"2:{Lsn(80 * 16)}")
    assert sides(case.proven(50))[1] == right


def test_what_cannot_be_reached_is_told(case: Case) -> None:
    case.base(10)
    case.anchor(60)
    case.broken_from = 60
    found = case.proven(50)
    assert found.verdict == "VERIFIED"
    assert "log/60: it is missing" in found.lacking[0]


def test_a_witness_before_the_base_is_none(case: Case) -> None:
    """The rows were folded from the base on; what lies before it says nothing of them."""
    case.anchor(5)
    base = case.base(10, taken_from="eu")
    case.anchor(60)
    found = case.proven(50)
    assert (found.verdict, sides(found)[0]) == ("VERIFIED", None)
    assert base
