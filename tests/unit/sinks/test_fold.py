"""`sinks.fold`: the net effect equals row-by-row application, whatever the events do to a row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.event import UNAVAILABLE, RowEvent, Table
from cdc.log import Change, Chunk, End
from cdc.shape import schema_id
from sinks.fold import FoldConflict, Net, Step, Truncate, Turn, fold
from sinks.transaction import ChangeTransaction, Part, parts
from tests.log_writer import table

KEYED = table("public.keyed", {"id": "int4", "a": "text", "b": "text"}, ["id"])
PAIR = table("public.pair", {"x": "int4", "ys": "int4[]", "a": "text"}, ["x", "ys"])
KEYLESS = table("public.keyless", {"a": "text", "f": "float8"})
TABLES = {schema_id(t): t for t in (KEYED, PAIR, KEYLESS)}
END = End("1:1", 0, (), 0, "data", "r", 1, 1, "1:0/1", None)

Row = Mapping[str, Any]
Model = dict[str, list[Row]]


def event(table: Table, op: str, **facts: Any) -> RowEvent:
    given: dict[str, Any] = {"before": None, "after": None} | facts
    return RowEvent(table.full_name, op, 1, schema_id(table), **given)


def key(table: Table, row: Row) -> bytes:
    return orjson.dumps([row[name] for name in table.key or [c.name for c in table.columns]])


class Database:
    """Rows by table, changed one event at a time, or by the steps of a fold with exact counts."""

    def __init__(self, rows: Model) -> None:
        self.rows = {t.full_name: list(rows.get(t.full_name, [])) for t in TABLES.values()}

    def content(self) -> dict[str, Counter[bytes]]:
        return {name: Counter(orjson.dumps(row) for row in rows) for name, rows in self.rows.items()}

    def find(self, table: Table, wanted: Row) -> int:
        """Where the only row of this key stands, any one of its copies without a key."""
        found = [at for at, row in enumerate(self.rows[table.full_name]) if key(table, row) == key(table, wanted)]
        assert len(found) == 1 or (found and table.keyless)
        return found[0]

    def apply(self, event: RowEvent) -> None:
        if event.op == "t":
            self.rows[event.table] = []
            return
        table, rows = TABLES[event.schema_id], self.rows[event.table]
        old: Row = {}
        if event.op == "d" and event.moved_to:
            return
        if event.before or event.moved_from or event.op == "u":
            old = rows.pop(self.find(table, event.moved_from or event.before or event.after or {}))
        if event.after:
            carried = {name: value for name, value in event.after.items() if name not in event.unchanged}
            rows.append({**old, **carried})

    def carry_out(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Truncate):
                for name in step.tables:
                    self.rows[name] = []
            elif isinstance(step, Net):
                self._net(step)

    def _net(self, net: Net) -> None:
        table, rows = net.table, self.rows[net.table.full_name]
        for base in net.deletes:
            del rows[self._at(table, base)]
        for row, count in net.removed:
            for _ in range(count):
                del rows[self.find(table, row)]
        changed = []
        for groups in (net.moves, net.updates):
            for columns, group in groups.items():
                for base, values in group:
                    assert columns == tuple(values)
                    changed.append((self._at(table, base), values))
        for at, values in changed:
            rows[at] = {**rows[at], **values}
        for values in net.inserts:
            assert set(values) == {column.name for column in table.columns}
            rows.append(values)
        if not table.keyless:
            assert len({key(table, row) for row in rows}) == len(rows)

    def _at(self, table: Table, base: Any) -> int:
        values = base if len(table.key) > 1 else (base,)
        return self.find(table, dict(zip(table.key, values, strict=True)))


# -- histories that a database can produce --
TEXTS = st.sampled_from(["", "p", "q"])
FLOATS = st.sampled_from([0.0, -0.0, 1.5, "NaN"])


@st.composite
def rows_of(draw: st.DrawFn, table: Table) -> Row:
    if table is KEYED:
        return {"id": draw(st.integers(0, 4)), "a": draw(TEXTS), "b": draw(TEXTS)}
    if table is PAIR:
        keys = st.sampled_from([(1, []), (1, [1]), (1, [1, None]), (2, [1])])
        x, ys = draw(keys)
        return {"x": x, "ys": ys, "a": draw(TEXTS)}
    return {"a": draw(TEXTS), "f": draw(FLOATS)}


@st.composite
def histories(draw: st.DrawFn) -> tuple[Model, list[RowEvent]]:
    """A content, and events that change it as statements would."""
    start: Model = {}
    for shape in TABLES.values():
        drawn = draw(st.lists(rows_of(shape), max_size=4))
        unique = {key(shape, row): row for row in drawn}
        start[shape.full_name] = drawn if shape.keyless else list(unique.values())
    database, events = Database(start), []
    for _ in range(draw(st.integers(0, 14))):
        for change in draw(changes(database)):
            database.apply(change)
            events.append(change)
    return start, events


@st.composite
def changes(draw: st.DrawFn, database: Database) -> list[RowEvent]:
    table = draw(st.sampled_from(list(TABLES.values())))
    rows = database.rows[table.full_name]
    action = draw(st.sampled_from(["insert", "insert", "update", "update", "delete", "move", "truncate"]))
    new = draw(rows_of(table))
    if action == "truncate":
        return [event(table, "t")] if draw(st.booleans()) else []
    if action == "insert":
        free = table.keyless or key(table, new) not in {key(table, row) for row in rows}
        return [event(table, "c", after=new)] if free else []
    if not rows:
        return []
    old = draw(st.sampled_from(rows))
    if action == "delete":
        return [event(table, "d", before=old)]
    if table.keyless:
        return [event(table, "u", before=old, after=new)]
    old_key = {name: old[name] for name in table.key}
    plain = [column.name for column in table.columns if column.name not in table.key]
    unchanged = tuple(name for name in plain if draw(st.booleans()))
    left_out = dict.fromkeys(unchanged, UNAVAILABLE)
    if action == "update":
        return [event(table, "u", after={**new, **old_key, **left_out}, unchanged=unchanged)]
    if key(table, new) in {key(table, row) for row in rows}:
        return []
    new_key = {name: new[name] for name in table.key}
    return [
        event(table, "d", before=old, moved_to=new_key),
        event(table, "c", after={**new, **left_out}, unchanged=unchanged, moved_from=old_key),
    ]


@settings(max_examples=500, deadline=None)
@given(histories(), st.data())
def test_the_net_effect_equals_row_by_row(history: tuple[Model, list[RowEvent]], data: st.DataObject) -> None:
    start, events = history
    row_by_row, folded = Database(start), Database(start)
    for change in events:
        row_by_row.apply(change)
    cut = data.draw(st.integers(0, len(events)))
    whole = [Part(END, list(events[:cut])), Part(END, list(events[cut:]))]
    folded.carry_out(list(fold(whole, TABLES.__getitem__)))
    assert folded.content() == row_by_row.content()


# -- classes --
def net(*events: RowEvent) -> Net:
    (step,) = fold([Part(END, list(events))], TABLES.__getitem__)
    assert isinstance(step, Net)
    return step


def row(id: int, a: str = "", b: str = "") -> Row:  # noqa: A002 - the column's name
    return {"id": id, "a": a, "b": b}


def test_insert_and_delete_of_one_row_leave_nothing() -> None:
    assert net(event(KEYED, "c", after=row(1)), event(KEYED, "d", before=row(1))) == Net(KEYED, schema_id(KEYED))


def test_delete_then_insert_is_both() -> None:
    step = net(event(KEYED, "d", before=row(1)), event(KEYED, "c", after=row(1, "new")))
    assert (step.deletes, step.inserts) == ([1], [row(1, "new")])


def test_updates_are_grouped_by_the_columns_they_set() -> None:
    step = net(
        event(KEYED, "u", after=row(1, UNAVAILABLE, "x"), unchanged=("a",)),
        event(KEYED, "u", after=row(2, "y", "y")),
        event(KEYED, "u", after=row(3, UNAVAILABLE, "z"), unchanged=("a",)),
    )
    assert {columns: [base for base, _ in group] for columns, group in step.updates.items()} == {
        ("id", "b"): [1, 3],
        ("id", "a", "b"): [2],
    }


def test_an_unchanged_column_keeps_what_the_run_set_before() -> None:
    step = net(
        event(KEYED, "c", after=row(1, "long", "x")),
        event(KEYED, "u", after=row(1, UNAVAILABLE, "y"), unchanged=("a",)),
    )
    assert step.inserts == [row(1, "long", "y")]


def test_a_moved_row_is_found_under_its_old_key_and_keeps_its_unchanged_columns() -> None:
    step = net(
        event(KEYED, "u", after=row(1, "set", "set")),
        event(KEYED, "d", before=row(1), moved_to={"id": 2}),
        event(KEYED, "c", after=row(2, UNAVAILABLE, "later"), unchanged=("a",), moved_from={"id": 1}),
    )
    assert step.moves == {("id", "a", "b"): [(1, row(2, "set", "later"))]}
    assert (step.deletes, step.updates, step.inserts) == ([], {}, [])


def test_a_key_that_moved_there_and_back_is_an_update() -> None:
    step = net(
        event(KEYED, "c", after=row(2), moved_from={"id": 1}),
        event(KEYED, "c", after=row(1, "x"), moved_from={"id": 2}),
    )
    assert (list(step.updates.values()), step.moves) == ([[(1, row(1, "x"))]], {})


def test_a_long_key_column_that_is_unchanged_stands_in_the_old_key() -> None:
    step = net(event(KEYED, "u", before=row(1), after=row(UNAVAILABLE, "x"), unchanged=("id",)))  # type: ignore[arg-type]
    assert step.updates == {("a", "b"): [(1, {"a": "x", "b": ""})]}


def test_copies_of_a_keyless_row_are_counted() -> None:
    one, two = {"a": "1", "f": 0.0}, {"a": "2", "f": -0.0}
    step = net(
        event(KEYLESS, "c", after=one),
        event(KEYLESS, "c", after=one),
        event(KEYLESS, "d", before=two),
        event(KEYLESS, "d", before=two),
        event(KEYLESS, "u", before=one, after={"a": "1", "f": -0.0}),
    )
    assert step.inserts == [one, {"a": "1", "f": -0.0}]
    assert step.removed == [(two, 2)]


@pytest.mark.parametrize(
    "events",
    [
        [event(KEYED, "c", after=row(1)), event(KEYED, "c", after=row(1))],
        [event(KEYED, "d", before=row(1)), event(KEYED, "d", before=row(1))],
        [event(KEYED, "d", before=row(1)), event(KEYED, "u", after=row(1))],
        [event(KEYED, "c", after=row(1)), event(KEYED, "c", after=row(1), moved_from={"id": 2})],
        [event(KEYED, "d", before=row(1)), event(KEYED, "c", after=row(2), moved_from={"id": 1})],
        [event(KEYLESS, "d", before={"a": "1", "f": None}, before_absent=("f",))],
    ],
)
def test_events_that_contradict_each_other_are_not_folded(events: list[RowEvent]) -> None:
    with pytest.raises(FoldConflict):
        net(*events)


# -- barriers --
def test_truncates_of_one_statement_stay_together_and_cut_the_fold() -> None:
    insert = event(KEYED, "c", after=row(1))
    steps = list(fold([Part(END, [insert, event(KEYED, "t"), event(PAIR, "t"), insert])], TABLES.__getitem__))
    assert [type(step) for step in steps] == [Net, Truncate, Net]
    assert steps[1] == Truncate(["public.keyed", "public.pair"])


def test_a_foreign_message_is_no_row() -> None:
    assert list(fold([Part(END, [RowEvent("", "m", 1, "", None, {"prefix": "x"})])], TABLES.__getitem__)) == []


def test_a_schema_change_cuts_the_fold_where_it_holds() -> None:
    change = Change(1, "public.keyed", None, schema_id(KEYED), "add_column")
    end = End("1:1", 2, (), 0, "data", "r", 1, 1, "1:0/1", None, changes=(change,))
    rows = [RowEvent("public.keyed", "c", at, schema_id(KEYED), None, row(at)) for at in (1, 2)]
    (part,) = parts(ChangeTransaction(end, None, 0, rows), 100, 1)
    steps = list(fold([part], TABLES.__getitem__))
    assert [type(step) for step in steps] == [Net, Turn, Net]
    assert steps[1] == Turn(end, [change])


def test_changes_that_hold_at_one_point_stay_together() -> None:
    changes = tuple(Change(0, name, None, schema_id(KEYED), "copying", "c") for name in ("public.keyed", "public.x"))
    end = End("1:1", 0, (), 0, "schema", "r", 1, 1, "1:0/1", None, changes=changes)
    other = End("2:1", 0, (), 0, "schema", "r", 1, 2, "1:0/2", "1:0/1", changes=changes[:1])
    pieces = [piece for e in (end, other) for piece in parts(ChangeTransaction(e, None, 0, []), 9, 1)]
    assert list(fold(pieces, TABLES.__getitem__)) == [Turn(end, list(changes)), Turn(other, [changes[0]])]


def test_a_new_shape_of_a_table_is_never_folded_into_the_old_one() -> None:
    wider = table("public.keyed", {"id": "int4", "a": "text"}, ["id"])
    shapes = {**TABLES, schema_id(wider): wider}
    events = [event(KEYED, "c", after=row(1)), event(wider, "u", after={"id": 1, "a": "x"})]
    first, second = fold([Part(END, events)], shapes.__getitem__)
    assert isinstance(first, Net)
    assert isinstance(second, Net)
    assert (len(first.inserts), list(second.updates)) == (1, [("id", "a")])


def test_rows_of_several_tables_are_folded_side_by_side() -> None:
    """One step a table, however often a transaction goes from one to the other."""
    events: list[RowEvent | Change | Chunk] = [
        e for at in range(3) for e in (event(KEYED, "c", after=row(at)), event(KEYLESS, "c", after={"a": "", "f": 0.5}))
    ]
    first, second = fold([Part(END, events)], TABLES.__getitem__)
    assert isinstance(first, Net)
    assert isinstance(second, Net)
    assert (len(first.inserts), len(second.inserts)) == (3, 3)


# -- pieces --
def change(at: int) -> Change:
    return Change(at, "public.keyed", None, None, "create")


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_pieces_keep_events_and_changes_in_order(most: int) -> None:
    changes = (change(0), change(2), change(2), change(3))
    chunk = Chunk("c", "public.keyed", 1, None, None, "1:0/1", last=True)
    end = End("1:1", 3, (), 0, "data", "r", 1, 1, "1:0/1", None, changes=changes, copy=chunk)
    rows = [RowEvent("public.keyed", "c", at, "", None, {}) for at in (1, 2, 3)]
    pieces = list(parts(ChangeTransaction(end, None, 0, rows), most, 1))
    flat = [item for piece in pieces for item in piece.items]
    assert flat == [changes[0], rows[0], rows[1], changes[1], changes[2], rows[2], changes[3], chunk]
    assert all(sum(isinstance(item, RowEvent) for item in piece.items) <= most for piece in pieces)


def test_a_transaction_without_events_is_one_piece() -> None:
    end = End("1:1", 0, (), 0, "schema", "r", 1, 1, "1:0/1", None, changes=(change(0),))
    (piece,) = parts(ChangeTransaction(end, None, 0, []), 10, 1)
    assert piece.items == [change(0)]
