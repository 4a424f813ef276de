"""The log is read back from its end to the START under whose run the last valid END stands."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cdc.logtail
from cdc.errors import CORRUPT_LOG, LOG_TRUNCATED, CdcError
from cdc.log import Change, End, Identity, Start, Validity
from cdc.logtail import read_log

IDENTITY = Identity("postgresql", "7", 1, "shop", "cdc_shop")


def start(run: str, epoch: int = 1) -> Start:
    return Start(run * 16, epoch, IDENTITY, "pub", "none", "cluster", 1)


def end(run: str, seq: int, **more: object) -> End:
    plain = End("7:99", 0, (), 1, "data", run * 16, 1, seq, f"1:0/{seq:X}", None)
    return replace(plain, **more)  # type: ignore[arg-type]


@dataclass
class _Stored:
    at: int
    content: bytes

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes:
        return self.content


class Log:
    """A log topic in memory, which stands for Kafka: `read_log` asks it for two things only."""

    def __init__(self, records: list[Start | End | bytes], begins: int = 0) -> None:
        self.values = [r if isinstance(r, bytes) else r.to_bytes() for r in records]
        self.begins = begins

    def watermarks(self, _topic: str, _partition: int) -> tuple[int, int]:
        return self.begins, self.begins + len(self.values)

    def read_range(self, _t: str, _p: int, first: int, last: int, _waiting: Callable[[], None]) -> list[_Stored]:
        return [_Stored(at, self.values[at - self.begins]) for at in range(first, last)]


def read(records: list[Start | End | bytes], begins: int = 0) -> cdc.logtail.LogState:
    return read_log(Log(records, begins), "shop")  # type: ignore[arg-type]


def test_an_empty_log() -> None:
    assert read([]) == cdc.logtail.LogState(0)


def test_the_last_end_of_the_run_in_force_is_the_checkpoint() -> None:
    state = read([start("a"), end("a", 1), start("b"), end("b", 2), end("a", 2), end("a", 3)])
    assert state.checkpoint == end("b", 2)
    assert state.checkpoint_start == state.start == start("b")


def test_a_run_without_an_end_leaves_the_checkpoint_to_the_one_before() -> None:
    state = read([start("a"), end("a", 1), start("b"), end("a", 2)])
    assert (state.checkpoint, state.checkpoint_start, state.start) == (end("a", 1), start("a"), start("b"))


def test_a_log_of_starts_alone_has_no_checkpoint() -> None:
    state = read([start("a"), start("b")])
    assert (state.start, state.checkpoint) == (start("b"), None)


def test_shapes_in_force_are_those_of_the_checkpoint_s_run() -> None:
    changes = (Change(0, "public.t", "x", "y", "add_column"),)
    state = read([
        start("a"), end("a", 1, schemas=(("old", 0),)), start("b"), end("b", 2, schemas=(("x", 3), ("z", 4))),
        end("a", 2, schemas=(("dead", 9),)), end("b", 3, schemas=(("y", 5),), changes=changes), end("b", 4),
    ])  # fmt: skip
    assert state.announced == (("x", 3), ("z", 4), ("y", 5))
    assert state.changed == (("public.t", "y"),)


def test_a_log_that_begins_in_the_middle_is_refused() -> None:
    with pytest.raises(CdcError) as caught:
        read([end("a", 1), end("a", 2)], begins=5)
    assert caught.value.code is LOG_TRUNCATED


def test_a_record_that_is_none_is_refused_with_its_offset() -> None:
    with pytest.raises(CdcError, match="offset 1 ") as caught:
        read([start("a"), b"hello"])
    assert caught.value.code is CORRUPT_LOG


runs = st.sampled_from("abc")
logs = st.lists(st.builds(start, runs) | st.builds(end, runs, st.integers(1, 9)), max_size=30)


@given(logs, st.integers(1, 7))
def test_reading_back_in_blocks_agrees_with_reading_forward(log: list[Start | End], block: int) -> None:
    validity, checkpoint, by = Validity(), None, None
    for record in log:
        if validity.admit(record) and isinstance(record, End) and validity.start:
            checkpoint, by = record, validity.start
    saved, cdc.logtail._BLOCK = cdc.logtail._BLOCK, block
    try:
        state = read(list(log))
    finally:
        cdc.logtail._BLOCK = saved
    assert (state.start, state.checkpoint, state.checkpoint_start) == (validity.start, checkpoint, by)
