"""What keys of MySQL did, derived from the log of direct changes alone = what a plain model of MySQL's keys does.

The model holds rows and carries every key out at once, row by row. Its log has only what a statement changed itself.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.errors import CASCADE_UNFOLDED, CdcError
from cdc.event import ForeignKey, RowEvent, Table
from cdc.shape import schema_id
from sinks.archive.cascade import Cascade, edges_of
from sinks.archive.fold import TableFold
from sinks.archive.manifest import Base, SchemaChange, Segment, TableRows
from sinks.archive.plan import Cut, Plan, TablePlan, Txn
from sinks.archive.scratch import Scratch
from sinks.archive.segment import _Shape, _TableRows
from tests.log_writer import table
from tests.unit.sinks.archive.test_fold import base_batches, lines_of, seen

Row = dict[str, Any]
SOFT = "utf8mb4_0900_ai_ci"


def made(name: str, columns: str, key: str, *keys: tuple[str, str, str, str, str]) -> Table:
    """`keys`: columns, parent, its columns, ON DELETE, ON UPDATE. A column named `code` is text of a soft collation."""
    found = table(f"s.{name}", dict.fromkeys(columns.split(), "int"), key=key.split(), engine="mysql")
    soft = tuple(
        replace(c, type="varchar", collation=SOFT, charset="utf8mb4") if c.name == "code" else c for c in found.columns
    )
    refers = tuple(
        ForeignKey(f"fk{at}", tuple(of.split()), "s", parent, tuple(to.split()), on_update, on_delete)
        for at, (of, parent, to, on_delete, on_update) in enumerate(keys)
    )
    return replace(found, columns=soft, foreign_keys=refers)


CASCADE, SET_NULL, NO = "CASCADE", "SET NULL", "NO ACTION"
SHAPES = {
    shape.name: shape
    for shape in (
        made("notes", "id orders line text", "id", ("orders line", "items", "orders line", CASCADE, NO)),
        made("items", "orders line", "orders line", ("orders", "orders", "id", CASCADE, NO)),
        made("orders", "id customer code text", "id", ("customer", "customers", "id", CASCADE, SET_NULL),
             ("code", "customers", "code", SET_NULL, CASCADE)),
        made("parts", "customer n text", "customer n", ("customer", "customers", "id", CASCADE, CASCADE)),
        made("stubs", "id mark", "id", ("mark", "tags", "mark", SET_NULL, CASCADE)),
        made("tags", "customer code mark", "", ("customer", "customers", "id", CASCADE, CASCADE),
             ("code", "customers", "code", CASCADE, SET_NULL)),
        made("customers", "id code text", "id"),
    )
}  # fmt: skip
BY_ID = {schema_id(shape): shape for shape in SHAPES.values()}
UNIQUE = {"customers": ("code",), "tags": ("mark",)}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.lower() == other.lower()
    return one is not None and one == other


@dataclass
class MySQL:
    """Rows, keys carried out at once, and a log of what statements did themselves."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in SHAPES})
    log: list[tuple[int, RowEvent]] = field(default_factory=list)
    seq: int = 0
    ordinal: int = 0

    def commit(self) -> None:
        if self.ordinal:
            self.ordinal, self.seq = 0, self.seq + 1

    def put(self, name: str, row: Row) -> None:
        if self._allowed(name, row):
            self.rows[name].append(row)
            self._logged(name, "c", None, dict(row))

    def remove(self, name: str, row: Row) -> None:
        self._logged(name, "d", dict(row), None)
        self._go(name, row)

    def change(self, name: str, row: Row, values: Row, *, partial: bool) -> None:
        old, new = dict(row), row | values
        self.rows[name].remove(row)
        allowed = self._allowed(name, new)
        self.rows[name].append(row)
        if allowed and old != new and not self._held(name, old, new):
            row.update(new)
            self._log_change(name, old, new, partial=partial)
            self._follow(name, old, new)

    def _held(self, name: str, old: Row, new: Row) -> bool:
        """A key without an action keeps what it refers to from changing."""
        return any(
            key.on_update == NO and any(old[c] != new[c] for c in key.referenced) for _, key in self._below(name)
        )

    def _allowed(self, name: str, row: Row) -> bool:
        shape = SHAPES[name]
        for other in self.rows[name]:
            if shape.key and all(same(other[c], row[c]) for c in shape.key):
                return False
            if any(same(other[c], row[c]) for c in UNIQUE.get(name, ())):
                return False
        if any(row[c] is None for c in shape.key):
            return False
        return all(
            any(row[c] is None for c in key.columns)
            or any(self._hangs(row, key, parent) for parent in self.rows[key.table])
            for key in shape.foreign_keys
        )

    def _hangs(self, row: Row, key: ForeignKey, parent: Row) -> bool:
        return all(same(row[c], parent[r]) for c, r in zip(key.columns, key.referenced, strict=True))

    def _below(self, name: str) -> Iterator[tuple[str, ForeignKey]]:
        return ((child, key) for child, shape in SHAPES.items() for key in shape.foreign_keys if key.table == name)

    def _go(self, name: str, row: Row) -> None:
        at = next(n for n, one in enumerate(self.rows[name]) if one is row)
        del self.rows[name][at]
        for child, key in self._below(name):
            for hanging in [r for r in self.rows[child] if self._hangs(r, key, row)]:
                if key.on_delete == CASCADE:
                    self._go(child, hanging)
                else:
                    hanging.update(dict.fromkeys(key.columns))

    def _follow(self, name: str, old: Row, new: Row) -> None:
        for child, key in self._below(name):
            if any(old[c] != new[c] for c in key.referenced):
                for hanging in [r for r in self.rows[child] if self._hangs(r, key, old)]:
                    follows = key.on_update == CASCADE
                    pairs = zip(key.columns, key.referenced, strict=True)
                    hanging.update({c: new[r] if follows else None for c, r in pairs})

    def _log_change(self, name: str, old: Row, new: Row, *, partial: bool) -> None:
        shape, facts = SHAPES[name], {}
        before = dict(old)
        if partial and shape.key:
            facts["unchanged"] = tuple(c for c in old if old[c] == new[c] and c not in shape.key)
            facts["before_absent"] = tuple(c for c in old if c not in shape.key)
            before |= dict.fromkeys(facts["before_absent"])
        unchanged = facts.get("unchanged", ())
        one, other = ({c: of[c] for c in shape.key} for of in (old, new))
        if one == other:
            self._logged(name, "u", before, seen(new, unchanged), **facts)
            return
        self._logged(name, "d", before, None, before_absent=facts.get("before_absent", ()), moved_to=other)
        self._logged(name, "c", None, seen(new, unchanged), unchanged=unchanged, moved_from=one)

    def _logged(self, name: str, op: str, before: Row | None, after: Row | None, **facts: Any) -> None:
        if not self.ordinal:
            self.seq += 1
        self.ordinal += 1
        shape = SHAPES[name]
        self.log.append((self.seq, RowEvent(f"s.{name}", op, self.ordinal, schema_id(shape), before, after, **facts)))


@pytest.fixture(scope="module")
def scratch() -> Iterator[Scratch]:
    with Scratch() as made:
        yield made


def batches(log: list[tuple[int, RowEvent]], name: str, size: int) -> list[pa.RecordBatch]:
    events = [(seq, event) for seq, event in log if event.table == f"s.{name}"]
    found = []
    for at in range(0, len(events), size):
        held = _TableRows(f"s.{name}")
        for seq, event in events[at : at + size]:
            held.add(seq, event, _Shape(BY_ID[event.schema_id], event.schema_id))
        found.append(held.batch())
    return found


def planned(log: list[tuple[int, RowEvent]], since: int, cut: int, **facts: Any) -> Plan:
    touched = {name: [seq for seq, event in log if event.table == f"s.{name}"] for name in SHAPES}
    segment = Segment.model_construct(
        tables={
            f"s.{name}": TableRows(rows=len(seqs), first=seqs[0], last=seqs[-1], schemas=())
            for name, seqs in touched.items()
            if seqs
        },
        changes=facts.pop("changes", ()),
    )
    tables = {
        f"s.{name}": TablePlan(f"s.{name}", shape, schema_id(shape), schema_id(shape), since)
        for name, shape in SHAPES.items()
    }
    base = Base.model_construct(txn_seq=since)
    return Plan(base, (segment,), Cut(1, Txn(cut, None, "", "", 0), None), tables)


def folded(
    scratch: Scratch, plan: Plan, log: list[tuple[int, RowEvent]], base: Mapping[str, list[Row]], wanted: list[str],
    size: int = 1000,
) -> dict[str, Counter[Any]]:  # fmt: skip
    """As a restore reads."""
    edges = edges_of(plan, [f"s.{name}" for name in wanted])
    cascade = Cascade(scratch, plan, edges, BY_ID.__getitem__)
    names = dict.fromkeys([*(f"s.{name}" for name in wanted), *edges])
    folds = {
        name: TableFold(scratch, plan.tables[name], BY_ID.__getitem__, plan.cut.txn_seq, at, acted=name in edges)
        for at, name in enumerate(names)
    }
    for name in SHAPES:
        for batch in batches(log, name, size):
            if f"s.{name}" in folds:
                folds[f"s.{name}"].add(batch)
            cascade.add(f"s.{name}", pa.Table.from_batches([batch]))

    def rows_of(table: TablePlan) -> Any:
        rows = base_batches(table.shape, base[table.shape.name])
        return (lambda: rows) if table.from_base else None

    cascade.carry_out(folds, rows_of)
    found = {}
    for name in wanted:
        fold = folds[f"s.{name}"]
        lines = [line for part in fold.rows(rows_of(fold.plan)) for line in part["line"].to_pylist()]
        found[name] = Counter(lines)
    return found


CODES = st.none() | st.sampled_from(["ann", "Ann", "bob", "cyd"])
NUMBERS = st.none() | st.integers(1, 3)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "remove", "change", "change", "commit"]),
        st.sampled_from(["customers", "customers", "customers", *SHAPES]),
        st.integers(0, 5), NUMBERS, NUMBERS, NUMBERS, CODES, st.booleans(),
    ), max_size=40,
)  # fmt: skip
WHOLE = {"customers", "tags"}
"""What others refer to by something else than the key: of a part of an image nobody could tell what it held."""


def play(server: MySQL, steps: list[Any]) -> None:
    for op, name, at, *numbers, code, partial in steps:
        if op == "commit":
            server.commit()
            continue
        given = iter([*numbers, None])
        values = {c.name: code if c.name == "code" else next(given, None) for c in SHAPES[name].columns}
        rows = server.rows[name]
        if op == "put":
            server.put(name, values)
        elif rows:
            row = rows[at % len(rows)]
            if op == "remove":
                server.remove(name, row)
            else:
                some = {c: v for n, (c, v) in enumerate(values.items()) if (at + n) % 2 or not partial}
                server.change(name, row, some, partial=partial and name not in WHOLE)
    server.commit()


def fill(server: MySQL) -> None:
    """Rows for every key to act on."""
    for id_, code in enumerate(["ann", "bob", "cyd"], 1):
        server.put("customers", {"id": id_, "code": code, "text": None})
    for id_ in (1, 2, 3):
        server.put("orders", {"id": id_, "customer": id_ % 3 + 1, "code": ("ANN", "bob", None)[id_ - 1], "text": id_})
        for line in (1, 2):
            server.put("items", {"orders": id_, "line": line, "text": None})
            server.put("notes", {"id": 10 * id_ + line, "orders": id_, "line": line, "text": line})
            server.put("parts", {"customer": id_, "n": line, "text": line})
        for mark in (id_, None):
            server.put("tags", {"customer": id_, "code": "ann", "mark": mark})
        server.put("stubs", {"id": id_, "mark": id_})
    server.commit()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=STEPS, during=STEPS, after=STEPS, alone=st.sampled_from(sorted(SHAPES)), size=st.integers(1, 9))
def test_the_keys_of_mysql(
    scratch: Scratch, before: list[Any], during: list[Any], after: list[Any], alone: str, size: int
) -> None:
    server = MySQL()
    fill(server)
    play(server, before)
    base, since = deepcopy(server.rows), server.seq
    play(server, during)
    expected, cut = deepcopy(server.rows), server.seq
    play(server, after)
    plan = planned(server.log, since, cut)
    for wanted in (list(SHAPES), [alone]):
        found = folded(scratch, plan, server.log, base, wanted, size)
        for name in wanted:
            assert found[name] == lines_of(SHAPES[name], expected[name]), name


def refused(scratch: Scratch, server: MySQL, base: dict[str, list[Row]], since: int, wanted: str, **facts: Any) -> str:
    plan = planned(server.log, since, server.seq, **facts)
    with pytest.raises(CdcError) as caught:
        folded(scratch, plan, server.log, base, [wanted])
    assert caught.value.code is CASCADE_UNFOLDED
    return caught.value.text


def filled() -> tuple[MySQL, dict[str, list[Row]], int]:
    server = MySQL()
    fill(server)
    return server, deepcopy(server.rows), server.seq


def test_an_old_value_that_the_log_does_not_carry(scratch: Scratch) -> None:
    server, base, since = filled()
    server.change("customers", server.rows["customers"][0], {"code": "zoe"}, partial=True)
    assert "the log does not carry what s.customers held in code" in refused(scratch, server, base, since, "orders")
    # What does not go by that column is told.
    found = folded(scratch, planned(server.log, since, server.seq), server.log, base, ["parts"])
    assert found["parts"] == lines_of(SHAPES["parts"], server.rows["parts"])


def test_texts_that_only_a_collation_can_compare(scratch: Scratch) -> None:
    server, _, _ = filled()
    server.rows["customers"][1]["code"], server.rows["orders"][1]["code"] = "Zoë", "zoe"
    base, since = deepcopy(server.rows), server.seq
    server.remove("customers", server.rows["customers"][1])
    assert "only its collation can say whether" in refused(scratch, server, base, since, "orders")


def test_a_column_of_the_key_that_was_dropped(scratch: Scratch) -> None:
    """What acted before it cannot be told; what the parent does later is no concern of the table."""
    server, base, since = filled()
    orders = SHAPES["orders"]
    without = replace(orders, columns=tuple(c for c in orders.columns if c.name != "code"))
    BY_ID[schema_id(without)] = without
    server.change("customers", server.rows["customers"][0], {"code": "zoe"}, partial=False)
    server.commit()
    for seq, told in ((server.seq + 1, False), (since, True)):
        change = SchemaChange(seq=seq, at=0, table="s.orders", effect="drop_column", new=schema_id(without))
        plan = planned(server.log, since, server.seq, changes=(change,))
        plan.tables["s.orders"].shape, plan.tables["s.orders"].schema_id = without, schema_id(without)
        if told:
            found = folded(scratch, plan, server.log, base, ["orders"])
            assert found["orders"] == lines_of(without, base["orders"])
        else:
            with pytest.raises(CdcError) as caught:
                folded(scratch, plan, server.log, base, ["orders"])
            assert "a column of it was dropped later" in caught.value.text


def test_a_table_between_two_that_was_emptied(scratch: Scratch) -> None:
    server, base, since = filled()
    server.remove("customers", server.rows["customers"][0])
    server.commit()
    plan = planned(server.log, since, server.seq)
    plan.tables["s.items"].void = (server.seq + 1, 1)
    with pytest.raises(CdcError) as caught:
        folded(scratch, plan, server.log, base, ["notes"])
    assert "s.items was emptied later" in caught.value.text


def test_without_a_change_of_a_parent_nothing_is_read_for_a_key() -> None:
    server, _, since = filled()
    server.change("notes", server.rows["notes"][0], {"text": 9}, partial=False)
    assert edges_of(planned(server.log, since, server.seq), [f"s.{name}" for name in SHAPES]) == {}


def test_a_row_that_moved_under_a_partial_image_is_still_reached(scratch: Scratch) -> None:
    server, base, since = filled()
    server.change("notes", server.rows["notes"][0], {"id": 99}, partial=True)
    server.change("notes", server.rows["notes"][-2], {"id": 98}, partial=True)
    server.remove("items", server.rows["items"][0])
    found = folded(scratch, planned(server.log, since, server.seq), server.log, base, ["notes"])
    assert found["notes"] == lines_of(SHAPES["notes"], server.rows["notes"])
    assert {row["id"] for row in server.rows["notes"]} & {98, 99} == {98}
