"""What a ROLLBACK takes back, against a model; and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.mysql.events import MySqlTransaction
from cdc.mysql.undone import Held, UndoneError
from cdc.rowevents import Record


def opened(limit: int = 1000) -> tuple[Held, MySqlTransaction]:
    held = Held()
    held.begin(limit)
    txn = MySqlTransaction(
        commit_ts_us=0, seq=1, now_ns=0, gtid="0-1-1", file="f", pos=4, server_id=1, thread=None
    )  # fmt: skip
    return held, txn


def put(held: Held, txn: MySqlTransaction, value: int, size: int = 10, table: str = "t") -> list[bytes]:
    txn.ordinal += 1
    txn.counts[table] = txn.counts.get(table, 0) + 1
    return [r.value or b"" for records in held.put(txn, [Record("t", None, b"%d" % value)], size) for r in records]


def taken(held: Held) -> list[bytes]:
    return [record.value or b"" for records in held.take() for record in records]


NAMES = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.sampled_from(["t", "u"])),
        st.tuples(st.just("mark"), NAMES),
        st.tuples(st.just("undo"), NAMES),
    ),
    max_size=30,
)


@given(STEPS)
def test_what_stays_is_what_the_server_keeps_or_it_is_refused(steps: list[tuple[str, str]]) -> None:
    """The server: a savepoint of the same name replaces the one before; ROLLBACK TO ends those that came later."""
    held, txn = opened()
    rows: list[tuple[int, str]] = []
    marks: list[tuple[str, int]] = []
    refused = None
    for number, (what, name) in enumerate(steps):
        if what == "row":
            put(held, txn, number, table=name)
            rows.append((number, name))
        elif what == "mark":
            held.mark(f"`{name}`", txn)
            marks = [*(mark for mark in marks if mark[0] != name), (name, len(rows))]
        elif any(mark[0] == name for mark in marks):
            try:
                held.undo_to(name.upper(), txn)
            except UndoneError as problem:
                refused = str(problem)
                break
            at = [mark[0] for mark in marks].index(name)
            rows = rows[: marks[at][1]]
            marks = marks[: at + 1]
    if refused is not None:
        assert "more than one savepoint" in refused
        return
    assert taken(held) == [b"%d" % number for number, _ in rows]
    assert txn.ordinal == len(rows)
    counts: dict[str, int] = {}
    for _, table in rows:
        counts[table] = counts.get(table, 0) + 1
    assert txn.counts == counts


def test_a_whole_transaction() -> None:
    held, txn = opened()
    put(held, txn, 1)
    held.mark("s", txn)
    put(held, txn, 2)
    held.undo(txn)
    assert (taken(held), txn.ordinal, txn.counts) == ([], 0, {})


def test_what_went_out_cannot_be_undone() -> None:
    held, txn = opened(limit=25)
    held.mark("early", txn)
    assert put(held, txn, 1) == put(held, txn, 2) == []
    assert put(held, txn, 3) == [b"1", b"2", b"3"]
    held.mark("late", txn)
    put(held, txn, 4)
    held.undo_to("late", txn)
    assert (taken(held), txn.ordinal) == ([], 3)
    with pytest.raises(UndoneError, match="published already"):
        held.undo(txn)
    with pytest.raises(UndoneError, match="published already"):
        held.undo_to("early", txn)


def test_without_a_limit_nothing_is_kept() -> None:
    held, txn = opened(limit=0)
    assert put(held, txn, 1) == [b"1"]
    held.mark("s", txn)
    held.undo_to("s", txn)
    assert put(held, txn, 2) == [b"2"]
    with pytest.raises(UndoneError):
        held.undo_to("s", txn)


def refused(marks: list[str], to: str) -> str:
    held, txn = opened()
    for number, name in enumerate(marks):
        held.mark(name, txn)
        put(held, txn, number)
    with pytest.raises(UndoneError) as caught:
        held.undo_to(to, txn)
    return str(caught.value)


def test_a_savepoint_that_cannot_be_told() -> None:
    """One of a trigger's; one that the log does not have; names that only a collation holds equal."""
    cases: list[tuple[Any, str, str]] = [
        (["`s`", '"S"'], "s", "more than one savepoint"),
        (["a"], "b", "cannot be told"),
        (["e", "é"], "e", "cannot be told"),
    ]
    for marks, to, problem in cases:
        assert problem in refused(marks, to)


def test_quoted_names() -> None:
    held, txn = opened()
    held.mark("`a``b`", txn)
    put(held, txn, 1)
    held.undo_to('"A`B"', txn)
    assert taken(held) == []
