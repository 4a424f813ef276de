"""The fold in DuckDB = the rows that the same changes leave behind in a dictionary, whatever the changes."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.errors import ARCHIVE_CORRUPT, CdcError
from cdc.event import UNAVAILABLE, RowEvent, Table
from cdc.shape import schema_id
from sinks.archive.fold import TableFold
from sinks.archive.plan import TablePlan
from sinks.archive.scratch import Scratch
from sinks.archive.segment import _Shape, _TableRows
from tests.log_writer import column, table

KEYED = table("public.t", {"id": "int4", "a": "text", "big": "text"}, key=["id"])
KEYLESS = table("public.n", {"a": "text", "big": "text"})
LATER = replace(KEYED, columns=(*KEYED.columns, column("c", "int4", 4, missing="7", default="7")))
SHAPES = {schema_id(shape): shape for shape in (KEYED, KEYLESS, LATER)}
TEXTS = (
    st.none()
    | st.sampled_from(["", "x", 'a"b', "new\nline", "comma,", "\\.", "NULL"])
    | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=3)
)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def scratch() -> Iterator[Scratch]:
    with Scratch() as made:
        yield made


@dataclass
class History:
    """Changes of one table as events, and what they leave behind."""

    shape: Table
    events: list[tuple[int, RowEvent]] = field(default_factory=list)
    rows: dict[Any, Row] = field(default_factory=dict)
    bag: list[Row] = field(default_factory=list)
    seq: int = 0

    def event(self, op: str, before: Row | None, after: Row | None, **facts: Any) -> None:
        self.seq += 1
        self._event(self.seq, 1, op, before, after, **facts)

    def _event(self, seq: int, ordinal: int, op: str, before: Row | None, after: Row | None, **facts: Any) -> None:
        event = RowEvent(self.shape.full_name, op, ordinal, schema_id(self.shape), before, after, **facts)
        self.events.append((seq, event))

    def moved(self, old: Row, new: Row, unchanged: tuple[str, ...]) -> None:
        self.seq += 1
        keys = {"id": old["id"]}, {"id": new["id"]}
        self._event(self.seq, 1, "d", {**dict.fromkeys(old), **keys[0]}, None, moved_to=keys[1])
        self._event(self.seq, 2, "c", None, seen(new, unchanged), unchanged=unchanged, moved_from=keys[0])


def seen(row: Row, unchanged: tuple[str, ...]) -> Row:
    return {name: UNAVAILABLE if name in unchanged else value for name, value in row.items()}


Step = tuple[str, int, int, str | None, str | None, bool]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "delete", "move"]), st.integers(0, 4), st.integers(0, 4), TEXTS, TEXTS,
              st.booleans()), max_size=25,
)  # fmt: skip


def play(history: History, steps: list[Step], shape: Table) -> None:
    """What a database would let happen of it, and how the log tells it."""
    history.shape = shape
    extra = {"c": 1} if len(shape.columns) == 4 else {}
    rows = history.rows
    for op, key, other, a, big, partial in steps:
        row = rows.get(key)
        unchanged = ("big",) if partial and row is not None else ()
        new = {"id": key, "a": a, "big": row["big"] if row and unchanged else big, **extra}
        if op == "put":
            history.event("u" if row else "c", None, seen(new, unchanged), unchanged=unchanged)
            rows[key] = new
        elif op == "delete" and row:
            history.event("d", {**dict.fromkeys(row), "id": key}, None)
            del rows[key]
        elif op == "move" and row and other not in rows:
            new["id"] = other
            history.moved(row, new, unchanged)
            del rows[key]
            rows[other] = new


def batch(history: History) -> pa.RecordBatch:
    held = _TableRows(history.shape.full_name)
    for seq, event in history.events:
        held.add(seq, event, _Shape(SHAPES[event.schema_id], event.schema_id))
    return held.batch()


def base_batches(shape: Table, rows: list[Row]) -> list[pa.RecordBatch]:
    columns = [pa.array([text(row[c.name]) for row in rows], pa.string()) for c in shape.columns]
    return [pa.RecordBatch.from_arrays(columns, names=[c.name for c in shape.columns])]


def text(value: Any) -> str | None:
    return None if value is None else str(value)


def folded(
    scratch: Scratch, plan: TablePlan, changes: pa.RecordBatch, base: list[pa.RecordBatch] | None
) -> Counter[Any]:
    fold = TableFold(scratch, plan, SHAPES.__getitem__, 10**9)
    fold.add(changes)
    lines = [line for part in fold.rows(None if base is None else lambda: base) for line in part["line"].to_pylist()]
    return Counter(lines)


def lines_of(shape: Table, rows: list[Row]) -> Counter[str]:
    return Counter(
        ",".join("" if row[c.name] is None else '"' + str(row[c.name]).replace('"', '""') + '"' for c in shape.columns)
        for row in rows
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=STEPS, during=STEPS, after=STEPS, grows=st.booleans())
def test_a_keyed_table(
    scratch: Scratch, before: list[Step], during: list[Step], after: list[Step], *, grows: bool
) -> None:
    history = History(KEYED)
    play(history, before, KEYED)
    base, since = base_batches(KEYED, list(history.rows.values())), history.seq
    play(history, during, KEYED)
    shape = KEYED
    if grows:
        shape, history.seq = LATER, history.seq + 1
        for row in history.rows.values():
            row["c"] = 7
        play(history, after, LATER)
    plan = TablePlan("public.t", shape, schema_id(shape), schema_id(KEYED), since)
    expected = lines_of(shape, list(history.rows.values()))
    assert folded(scratch, plan, batch(history), base) == expected
    # The log alone, from its beginning.
    alone = replace(plan, base_schema=None, since=0, void=(0, 0))
    assert folded(scratch, alone, batch(history), None) == expected


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(st.tuples(TEXTS, TEXTS), max_size=6), steps=st.lists(
    st.tuples(st.sampled_from("iud"), st.integers(0, 20), TEXTS, TEXTS, st.booleans()), max_size=20))  # fmt: skip
def test_a_table_without_a_key(scratch: Scratch, before: list[Any], steps: list[Any]) -> None:
    bag = [{"a": a, "big": big} for a, big in before]
    base, history = base_batches(KEYLESS, bag), History(KEYLESS)
    for op, at, a, big, partial in steps:
        row = bag[at % len(bag)] if bag else None
        if op == "i":
            bag.append({"a": a, "big": big})
            history.event("c", None, bag[-1])
        elif row is not None:
            bag.remove(row)
            unchanged = ("big",) if partial else ()
            if op == "d":
                history.event("d", row, None)
            else:
                new = {"a": a, "big": row["big"] if partial else big}
                bag.append(new)
                history.event("u", row, seen(new, unchanged), unchanged=unchanged)
    plan = TablePlan("public.n", KEYLESS, schema_id(KEYLESS), schema_id(KEYLESS))
    assert folded(scratch, plan, batch(history), base) == lines_of(KEYLESS, bag)


def test_a_change_of_a_row_that_was_never_there(scratch: Scratch) -> None:
    history = History(KEYED)
    history.event("u", None, seen({"id": 1, "a": "x", "big": None}, ("big",)), unchanged=("big",))
    plan = TablePlan("public.t", KEYED, schema_id(KEYED), schema_id(KEYED))
    with pytest.raises(CdcError) as caught:
        folded(scratch, plan, batch(history), base_batches(KEYED, []))
    assert caught.value.code is ARCHIVE_CORRUPT
    assert '"1"' in caught.value.text


OLD, NEW = {"id": 1, "a": "x", "big": None}, {"id": 1, "a": "y", "big": None}


@pytest.mark.parametrize(
    ("there", "steps"),
    [
        (False, [("u", OLD, NEW)]),
        (False, [("d", OLD, None)]),
        (True, [("c", None, NEW)]),
        (False, [("c", None, OLD), ("c", None, NEW)]),
        (True, [("d", OLD, None), ("d", OLD, None), ("c", None, NEW)]),
        (True, [("u", OLD, NEW), ("d", NEW, None), ("d", NEW, None)]),
        (True, [("d", OLD, None), ("c", None, NEW), ("c", None, NEW)]),
    ],
)
def test_rows_that_come_or_go_twice(scratch: Scratch, there: bool, steps: list[tuple[str, Any, Any]]) -> None:  # noqa: FBT001
    """No database leaves such a log; somebody changed rows behind it, or a piece of it is missing."""
    history = History(KEYED)
    for op, before, after in steps:
        history.event(op, before, after)
    plan = TablePlan("public.t", KEYED, schema_id(KEYED), schema_id(KEYED))
    with pytest.raises(CdcError) as caught:
        folded(scratch, plan, batch(history), base_batches(KEYED, [OLD] if there else []))
    assert caught.value.code is ARCHIVE_CORRUPT
    assert '"1"' in caught.value.text


def test_more_copies_removed_than_there_were(scratch: Scratch) -> None:
    history = History(KEYLESS)
    history.event("d", {"a": "x", "big": None}, None)
    plan = TablePlan("public.n", KEYLESS, schema_id(KEYLESS), schema_id(KEYLESS))
    with pytest.raises(CdcError):
        folded(scratch, plan, batch(history), base_batches(KEYLESS, []))


def test_what_lies_beyond_the_cut_or_before_a_void_does_not_count(scratch: Scratch) -> None:
    history = History(KEYED)
    for key in range(4):
        history.event("c", None, {"id": key, "a": "x", "big": None})
    plan = TablePlan("public.t", KEYED, schema_id(KEYED), schema_id(KEYED), void=(1, 1))
    fold = TableFold(scratch, plan, SHAPES.__getitem__, 3)
    fold.add(batch(history))
    found = [line for part in fold.rows(None) for line in part["line"].to_pylist()]
    assert sorted(next(csv.reader(io.StringIO(line)))[0] for line in found) == ["1", "2"]
