"""Where a moment cuts the log: a prefix of commit order, whatever the source's clock said."""

import duckdb_extension_httpfs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import BEYOND_ARCHIVE, CUT_AMBIGUOUS, SCRATCH_UNENCRYPTED, CdcError
from cdc.position import Gtid, GtidSet, Lsn, PgPosition
from sinks.archive.manifest import Segment, Stored
from sinks.archive.plan import Choice, Cut, Moment, Txn, find_cut
from sinks.archive.scratch import Scratch

NOW = 1_795_000_000_000_000
SECOND = 1_000_000


def chain(times: list[int | None]) -> tuple[list[Segment], dict[str, list[Txn]]]:
    """Segments of transactions, committed at these microseconds after NOW."""
    return cut_up(
        [Txn(seq, None if at is None else NOW + at, f"1:0/{seq:X}0", "a" * 16, seq) for seq, at in enumerate(times, 1)]
    )


def cut_up(txns: list[Txn], size: int = 3) -> tuple[list[Segment], dict[str, list[Txn]]]:
    """Segments of so many transactions."""
    segments, held, running = [], {}, None
    for first in range(0, len(txns), size):
        part = txns[first : first + size]
        commits = [txn.commit_us for txn in part if txn.commit_us is not None]
        running = max([*commits, *([running] if running else [])], default=None)
        segment = Segment(
            archive="0" * 16, epoch=1, first_seq=part[0].txn_seq, last_seq=part[-1].txn_seq, run="a" * 16,
            prev_position=None, position=part[-1].position, log_offset=part[-1].txn_seq, events=1,
            min_commit_us=min(commits, default=None), max_commit_us=max(commits, default=None), running_max_us=running,
            commit_us=commits[-1] if commits else None, tables={}, rows=None,
            transactions=Stored(name="x", size=0, sha256="0" * 64), previous=None,
        )  # fmt: skip
        segments.append(segment)
        held[segment.name] = part
    return segments, held


def cut(times: list[int | None], moment: Moment, choice: Choice | None = None, horizon: int | None = None) -> Cut:
    segments, held = chain(times)
    latest = max((at for at in times if at is not None), default=0)
    return find_cut(moment, segments, lambda s: held[s.name], NOW + (latest if horizon is None else horizon), choice)


@given(st.lists(st.integers(0, 50).map(lambda s: s * SECOND), min_size=1, max_size=20), st.integers(-1, 51))
def test_a_time_cuts_before_the_first_later_commit(times: list[int], second: int) -> None:
    """The rule itself, over sorted clocks; the horizon is beyond."""
    times = sorted(times)
    found = cut([*times], Moment(time_us=NOW + second * SECOND), horizon=100 * SECOND)
    assert found.txn_seq == sum(at <= second * SECOND for at in times)
    exclusive = cut([*times], Moment(time_us=NOW + second * SECOND, exclusive=True), horizon=100 * SECOND)
    assert exclusive.txn_seq == sum(at < second * SECOND for at in times)


def test_the_last_in_and_the_first_out_are_told() -> None:
    found = cut([0, SECOND, 2 * SECOND, 3 * SECOND], Moment(time_us=NOW + SECOND))
    assert (found.last and found.last.txn_seq, found.first_out and found.first_out.txn_seq) == (2, 3)


def test_a_clock_that_stepped_back_wants_a_decision() -> None:
    """CORRECTNESS 34: one stray commit an hour ahead."""
    times: list[int | None] = [0, SECOND, 3600 * SECOND, 2 * SECOND, 3 * SECOND, 9 * SECOND]
    moment = Moment(time_us=NOW + 5 * SECOND)
    with pytest.raises(CdcError) as caught:
        cut(times, moment)
    assert caught.value.code is CUT_AMBIGUOUS
    assert "--cut first-after restores up to transaction 2, --cut last-before up to 5" in caught.value.hint
    assert (cut(times, moment, "first-after").txn_seq, cut(times, moment, "last-before").txn_seq) == (2, 5)


def test_a_step_within_the_tolerance_is_only_told() -> None:
    found = cut([0, 2 * SECOND, SECOND + 500_000], Moment(time_us=NOW + SECOND + 600_000))
    assert (found.txn_seq, found.strays) == (1, 1)


@pytest.mark.parametrize(
    "moment",
    [Moment(time_us=NOW + 9 * SECOND), Moment(txn_seq=5), Moment(position=PgPosition(1, Lsn.parse("0/FF0")))],
    ids=str,
)
def test_what_the_archive_does_not_reach(moment: Moment) -> None:
    with pytest.raises(CdcError) as caught:
        cut([0, SECOND, 2 * SECOND], moment)
    assert caught.value.code is BEYOND_ARCHIVE


@pytest.mark.parametrize(("lsn", "exclusive", "last"), [("0/20", False, 2), ("0/20", True, 1), ("0/2F", False, 2)])
def test_a_position(lsn: str, last: int, *, exclusive: bool) -> None:
    assert cut([0, None, 2, 3, 4], Moment(position=PgPosition(1, Lsn.parse(lsn)), exclusive=exclusive)).txn_seq == last


A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "a0000000-0000-0000-0000-00000000000b"
_HISTORY = [f"{A}:1-5", f"{A}:1-5", f"{A}:1-7", f"{A}:1-8", f"{A}:1-8,{B}:1", f"{A}:1-10,{B}:1"]
"""A copy in two parts; then the sixth and the ninth transaction changed nothing that is captured."""


@pytest.mark.parametrize(
    ("gtid", "last", "without"),
    [(f"{A}:5", 2, 0), (f"{A}:6", 2, 2), (f"{A}:7", 3, 2), (f"{A}:8", 4, 3), (f"{B}:1", 5, 4), (f"{A}:9", 5, 5),
     (f"{A}:10", 6, 5), (f"{A}:3", 0, 0)],
)  # fmt: skip
def test_a_gtid(gtid: str, last: int, without: int) -> None:
    segments, held = cut_up([Txn(seq, None, at, "a" * 16, seq) for seq, at in enumerate(_HISTORY, 1)], 2)
    for exclusive, expected in ((False, last), (True, without)):
        moment = Moment(gtid=Gtid.parse(gtid), exclusive=exclusive)
        assert find_cut(moment, segments, lambda s: held[s.name], None).txn_seq == expected
    with pytest.raises(CdcError) as caught:
        find_cut(Moment(gtid=Gtid.parse(f"{A}:11")), segments, lambda s: held[s.name], None)
    assert caught.value.code is BEYOND_ARCHIVE


@pytest.mark.parametrize(
    ("position", "last"), [(f"{A}:1-6", 2), (f"{A}:1-8", 4), (f"{A}:1-9,{B}:1", 5), (f"{A}:1-10,{B}:1", 6)]
)
def test_a_set_of_gtids(position: str, last: int) -> None:
    segments, held = cut_up([Txn(seq, None, at, "a" * 16, seq) for seq, at in enumerate(_HISTORY, 1)], 2)
    moment = Moment(position=GtidSet.parse(position))
    assert find_cut(moment, segments, lambda s: held[s.name], None).txn_seq == last


@pytest.mark.parametrize(("number", "exclusive", "last"), [(1, False, 1), (1, True, 0), (4, False, 4), (5, True, 4)])
def test_a_number(number: int, last: int, *, exclusive: bool) -> None:
    assert cut([0, 1, 2, 3, 4], Moment(txn_seq=number, exclusive=exclusive)).txn_seq == last


def test_without_its_cryptography_there_is_no_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_extension_httpfs, "__path__", ["/nowhere"])
    with pytest.raises(CdcError) as caught:
        Scratch()
    assert caught.value.code is SCRATCH_UNENCRYPTED
