"""A start goes on, copies or refuses: every case of the log, the slot and the server."""

from dataclasses import replace

import pytest

from cdc.errors import (
    LOG_WITHOUT_SLOT,
    PUBLICATION_CHANGED,
    SLOT_AHEAD,
    SLOT_FOREIGN,
    SLOT_LOST,
    SLOT_WITHOUT_LOG,
    SOURCE_FORK,
    SOURCE_IDENTITY,
    SOURCE_PREREQUISITE,
    CdcError,
    Code,
)
from cdc.log import Change, Chunk, End, Identity, Opened, Start
from cdc.logtail import LogState
from cdc.position import Lsn, PgPosition
from cdc.postgres.catalog import Slot
from cdc.postgres.startup import Here, decide
from cdc.upstream import Plan

IDENTITY = Identity("postgresql", "7", 1, "shop", "cdc_shop")
SERVER = Here(IDENTITY, (), "pub", 5_000, "shop.transaction")
SLOT = Slot("cdc_shop", "pgoutput", "shop", None, Lsn(0x100), Lsn(0x90), None, two_phase=False)
START = Start("a" * 16, 1_000, IDENTITY, "pub", "initial", "cluster", 1)
END = End("7:99", 1, (), 1, "data", "a" * 16, 1_000, 9, "1:0/100", "1:0/90")
RUNNING = LogState(10, START, END, START)


def refusal(state: LogState, slot: Slot | None, server: Here = SERVER, reopen: str | None = None) -> Code:
    with pytest.raises(CdcError) as caught:
        decide("shop", state, slot, server, reopen)
    return caught.value.code


def test_the_first_start_copies_under_a_new_epoch() -> None:
    assert decide("shop", LogState(0), None, SERVER, None) == Plan(True, 5_000, 0, None, None, Opened("first", None))


def test_an_ordinary_start_goes_on_at_the_checkpoint() -> None:
    position = PgPosition(1, Lsn(0x100))
    assert decide("shop", RUNNING, SLOT, SERVER, None) == Plan(False, 1_000, 9, position, position)


def test_a_slot_behind_the_checkpoint_is_ordinary() -> None:
    assert not decide("shop", RUNNING, replace(SLOT, confirmed=Lsn(1)), SERVER, None).copy


def test_an_opened_epoch_without_an_end_is_our_own_unfinished_start() -> None:
    plan = decide("shop", LogState(1, START), SLOT, SERVER, None)
    assert plan == Plan(True, 1_000, 0, None, None)


@pytest.mark.parametrize(
    "cut",
    [
        replace(END, kind="snapshot", copy=Chunk("c", "t", 1, None, None, "1:0/90", last=True)),
        replace(END, kind="schema", changes=(Change(0, "t", None, "x", "copying", "c"),)),
    ],
)
def test_a_copy_cut_short_begins_again_in_the_same_epoch_and_goes_on_counting(cut: End) -> None:
    plan = decide("shop", replace(RUNNING, checkpoint=cut), SLOT, SERVER, None)
    assert plan == Plan(True, 1_000, 9, None, PgPosition(1, Lsn(0x100)))


def test_a_heartbeat_closes_the_copy() -> None:
    assert not decide("shop", replace(RUNNING, checkpoint=replace(END, kind="heartbeat")), SLOT, SERVER, None).copy


def test_a_slot_without_a_log_is_refused() -> None:
    assert refusal(LogState(0), SLOT) is SLOT_WITHOUT_LOG


def test_a_log_without_its_slot_is_refused() -> None:
    assert refusal(RUNNING, None) is LOG_WITHOUT_SLOT


def test_a_slot_confirmed_beyond_the_last_end_is_refused() -> None:
    """CORRECTNESS 4: somebody else moved or re-created it, or the log lost its tail."""
    assert refusal(RUNNING, replace(SLOT, confirmed=Lsn(0x101))) is SLOT_AHEAD


def test_an_invalidated_slot_is_refused() -> None:
    assert refusal(RUNNING, replace(SLOT, lost="wal_removed")) is SLOT_LOST


@pytest.mark.parametrize("change", [{"plugin": "wal2json"}, {"database": "other"}, {"two_phase": True}])
def test_a_slot_of_another_kind_is_refused(change: dict[str, object]) -> None:
    assert refusal(RUNNING, replace(SLOT, **change)) is SLOT_FOREIGN  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"system_id": "8"}, {"database": "other"}])
def test_another_server_is_refused(change: dict[str, str]) -> None:
    other = replace(IDENTITY, **change)  # type: ignore[arg-type]
    slot = replace(SLOT, database=other.database)
    assert refusal(RUNNING, slot, replace(SERVER, identity=other)) is SOURCE_IDENTITY


def test_a_promoted_server_that_lost_the_tail_is_refused() -> None:
    """CORRECTNESS 6: the log reaches beyond the point where the server left its timeline."""
    promoted = replace(SERVER, identity=replace(IDENTITY, timeline=2), switches=((1, Lsn(0xFF)),))
    assert refusal(RUNNING, SLOT, promoted) is SOURCE_FORK


def test_a_promoted_server_that_has_everything_goes_on_under_its_timeline() -> None:
    promoted = replace(SERVER, identity=replace(IDENTITY, timeline=2), switches=((1, Lsn(0x100)),))
    assert decide("shop", RUNNING, SLOT, promoted, None).position == PgPosition(2, Lsn(0x100))


def test_an_altered_publication_is_refused() -> None:
    assert refusal(RUNNING, SLOT, replace(SERVER, publication="other")) is PUBLICATION_CHANGED


def test_copying_again_opens_an_epoch_above_the_last() -> None:
    ahead = replace(RUNNING, start=replace(START, epoch=9_000))
    plan = decide("shop", ahead, replace(SLOT, lost="wal_removed"), SERVER, "copy-again")
    assert plan == Plan(True, 9_001, 0, None, None, Opened("copy_again", None))


def test_adopting_goes_on_at_the_slot_and_says_what_it_skips() -> None:
    plan = decide("shop", RUNNING, replace(SLOT, confirmed=Lsn(0x200)), SERVER, "adopt")
    assert (plan.copy, plan.epoch, plan.last_seq) == (False, 5_000, 0)
    assert plan.position == PgPosition(1, Lsn(0x200))
    assert plan.opened == Opened("adopt", "1:0/200")
    assert [(gap.from_, gap.to) for gap in plan.gaps] == [("1:0/100", "1:0/200")]


def test_an_adopted_epoch_without_an_end_is_opened_again_at_the_slot() -> None:
    start = replace(START, epoch=2_000, copy="none", opened=Opened("adopt", "1:0/200"))
    plan = decide("shop", replace(RUNNING, start=start), replace(SLOT, confirmed=Lsn(0x200)), SERVER, None)
    assert plan == Plan(False, 2_000, 0, PgPosition(1, Lsn(0x200)), None)


def test_nothing_can_be_adopted_without_a_living_slot() -> None:
    assert refusal(RUNNING, None, reopen="adopt") is LOG_WITHOUT_SLOT
    assert refusal(RUNNING, replace(SLOT, lost="wal_removed"), reopen="adopt") is SLOT_LOST


def test_a_source_takes_over_where_the_slot_stands() -> None:
    server = replace(SERVER, takes_over=True)
    slot = replace(SLOT, confirmed=Lsn(0x80))
    at = PgPosition(1, Lsn(0x80))
    assert decide("shop", LogState(7), slot, server, None) == Plan(False, 5_000, 0, at, None, Opened("first", "1:0/80"))
    opened = LogState(8, replace(START, copy="none"))
    assert decide("shop", opened, slot, server, None) == Plan(False, 1_000, 0, at, None)
    assert decide("shop", RUNNING, SLOT, server, None) == decide("shop", RUNNING, SLOT, SERVER, None)
    assert refusal(LogState(7), None, server) is SOURCE_PREREQUISITE
    assert refusal(LogState(7), replace(slot, lost="wal_removed"), server) is SLOT_LOST
