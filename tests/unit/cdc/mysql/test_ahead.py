"""Rows read ahead: one table after the other, a chunk or two of each session, every error, no thread behind."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import SOURCE_UNREACHABLE, CdcError
from cdc.event import Table
from cdc.mysql.ahead import ReadAhead
from tests.log_writer import table


class Session:
    """A connection, as far as it is cut."""

    def __init__(self) -> None:
        self.cuts = 0

    def cut(self) -> None:
        self.cuts += 1


def reading(sizes: Sequence[int], sessions: int, chunks: Any) -> tuple[ReadAhead, list[Table], list[Any]]:
    tables = [table(f"s.t{at}", {"id": "int4"}) for at in range(len(sizes))]
    made: list[Any] = [Session() for _ in range(sessions)]
    return ReadAhead(chunks, made, tables), tables, made


@pytest.fixture(autouse=True)
def _cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.mysql.ahead.cut", Session.cut)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("copy ")]


@given(sizes=st.lists(st.integers(0, 5), max_size=9), sessions=st.integers(1, 5))
def test_every_chunk_comes_in_the_order_of_tables(sizes: list[int], sessions: int) -> None:
    by: dict[str, set[int]] = {}

    def chunks(session: Any, of: Table) -> Iterator[list[Any]]:
        by.setdefault(of.name, set()).add(id(session))
        for number in range(sizes[int(of.name[1:])]):
            yield [[of.name, number]]

    ahead, tables, made = reading(sizes, sessions, chunks)
    with ahead:
        found = [row for of in tables for chunk in ahead.chunks(of) for row in chunk]
    assert found == [[f"t{at}", number] for at, size in enumerate(sizes) for number in range(size)]
    assert [len(of) for of in by.values()] == [1] * len(sizes)
    assert [session.cuts for session in made] == [0] * sessions
    assert not threads()


def test_of_each_session_one_chunk_waits_and_one_is_made() -> None:
    sizes, made = [50] * 6, threading.Lock()
    begun = taken = most = 0

    def chunks(_: Any, __: Table) -> Iterator[list[Any]]:
        nonlocal begun, most
        for number in range(50):
            with made:
                begun += 1
                most = max(most, begun - taken)
            yield [[number]]

    ahead, tables, _ = reading(sizes, 3, chunks)
    with ahead:
        for of in tables:
            for _chunk in ahead.chunks(of):
                with made:
                    taken += 1
                time.sleep(0.0005)
    assert begun == taken == 300
    assert 4 <= most <= 2 * 3 + 1  # and the one that the loop has and has not counted yet


@pytest.mark.parametrize("failing", ["t0", "t2"])
def test_an_error_of_any_session_comes_at_once(failing: str) -> None:
    broken = CdcError(SOURCE_UNREACHABLE, source="shop", problem="killed")
    hold = threading.Event()
    threading.Timer(0.5, hold.set).start()

    def chunks(_: Any, of: Table) -> Iterator[list[Any]]:
        if of.name == failing:
            raise broken
        yield [[1]]
        hold.wait()

    ahead, tables, _ = reading([1] * 3, 3, chunks)
    with ahead, pytest.raises(CdcError) as caught:
        list(ahead.chunks(tables[0]))
    assert caught.value is broken
    assert not threads()


def test_left_early_it_cuts_every_session_and_leaves_no_thread() -> None:
    closed: list[str] = []

    def chunks(_: Any, of: Table) -> Iterator[list[Any]]:
        try:
            while True:
                yield [[1]]
        finally:
            closed.append(of.name)

    ahead, tables, made = reading([1] * 3, 2, chunks)
    with ahead:
        next(ahead.chunks(tables[0]))
    assert [session.cuts for session in made] == [1, 1]
    assert sorted(closed) == ["t0", "t1"]
    assert not threads()


def test_tables_are_asked_for_in_their_order() -> None:
    ahead, tables, _ = reading([1, 1], 2, lambda *_: (chunk for chunk in [[[1]]]))
    with ahead, pytest.raises(AssertionError, match=r"s\.t1 is asked for, s\.t0 is next"):
        next(ahead.chunks(tables[1]))
