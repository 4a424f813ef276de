"""A start on MySQL goes on, copies or refuses: every case of the log and of the server's sets of transactions."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cdc.errors import (
    HISTORY_FORKED,
    LOG_PURGED,
    NOT_ADOPTABLE,
    NOTHING_TO_CAPTURE,
    PUBLICATION_CHANGED,
    SOURCE_IDENTITY,
    SOURCE_PREREQUISITE,
    TABLE_NOT_TRANSACTIONAL,
    CdcError,
)
from cdc.event import ForeignKey, Table
from cdc.log import Change, Chunk, End, Identity, Opened, Start
from cdc.logtail import LogState
from cdc.mysql.catalog import FoundTable, Publication
from cdc.mysql.startup import Here, decide, identity_of, refuse_nothing, refuse_uncapturable, underivable
from cdc.mysql.tables import Definition, table_of
from cdc.position import BinlogState, DomainPosition, GtidSet
from cdc.upstream import Plan

ONE, TWO = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
IDENTITY = Identity("mysql", ONE, 0, "billing", "")


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text)


SERVER = Here(IDENTITY, gtids(f"{ONE}:1-20"), gtids(f"{ONE}:1-3"), "tables", 5_000)
START = Start("a" * 16, 1_000, IDENTITY, "tables", "initial", "cluster", 1)
END = End("7:99", 1, (), 1, "data", "a" * 16, 1_000, 9, f"{ONE}:1-12", f"{ONE}:1-11")
RUNNING = LogState(10, START, END, START)


def refusal(state: LogState, server: Here = SERVER, reopen: str | None = None) -> CdcError:
    with pytest.raises(CdcError) as caught:
        decide("billing", state, server, reopen)
    return caught.value


def test_the_first_start_copies_under_a_new_epoch() -> None:
    assert decide("billing", LogState(0), SERVER, None) == Plan(True, 5_000, 0, None, None, Opened("first", None))


def test_an_ordinary_start_goes_on_at_the_checkpoint() -> None:
    last = gtids(f"{ONE}:1-12")
    assert decide("billing", RUNNING, SERVER, None) == Plan(False, 1_000, 9, last, last)


def test_an_opened_epoch_without_an_end_is_our_own_unfinished_start() -> None:
    assert decide("billing", LogState(1, START), SERVER, None) == Plan(True, 1_000, 0, None, None)


@pytest.mark.parametrize(
    "cut",
    [
        replace(END, kind="snapshot", copy=Chunk("c", "t", 1, None, None, f"{ONE}:1-12", last=True)),
        replace(END, kind="schema", changes=(Change(0, "t", None, "x", "copying", "c"),)),
    ],
)
def test_a_copy_cut_short_begins_again_in_the_same_epoch_and_goes_on_counting(cut: End) -> None:
    plan = decide("billing", replace(RUNNING, checkpoint=cut), SERVER, None)
    assert plan == Plan(True, 1_000, 9, None, gtids(f"{ONE}:1-12"))


def test_a_server_that_lacks_what_was_published_is_refused() -> None:
    """CORRECTNESS 6: another one took over without it, or this one forgot it in a crash."""
    error = refusal(RUNNING, replace(SERVER, history=gtids(f"{ONE}:1-11:13-20")))
    assert error.code is HISTORY_FORKED
    assert f"{ONE}:12" in error.text


@pytest.mark.parametrize("purged", [f"{ONE}:1-13", f"{ONE}:1-3,{TWO}:1"])
def test_a_log_that_was_purged_beyond_the_checkpoint_is_refused(purged: str) -> None:
    executed = gtids(f"{ONE}:1-20,{TWO}:1-5")
    assert refusal(RUNNING, replace(SERVER, history=executed, purged=gtids(purged))).code is LOG_PURGED


def test_a_log_that_was_purged_right_up_to_the_checkpoint_continues() -> None:
    assert not decide("billing", RUNNING, replace(SERVER, purged=gtids(f"{ONE}:1-12")), None).copy


def test_a_replica_that_took_over_continues_the_log() -> None:
    """It has the same history and writes on under its own UUID."""
    taken_over = Here(
        identity_of(RUNNING, replace(IDENTITY, system_id=TWO)),
        gtids(f"{ONE}:1-14,{TWO}:1-8"), gtids(f"{ONE}:1-3"), "tables", 5_000,
    )  # fmt: skip
    assert taken_over.identity.system_id == ONE
    assert decide("billing", RUNNING, taken_over, None).position == gtids(f"{ONE}:1-12")


@pytest.mark.parametrize(
    "here", [replace(IDENTITY, database="other"), Identity("postgresql", "7", 1, "billing", "cdc_billing")]
)
def test_another_database_is_refused(here: Identity) -> None:
    assert refusal(RUNNING, replace(SERVER, identity=here)).code is SOURCE_IDENTITY


def test_other_tables_are_refused() -> None:
    assert refusal(RUNNING, replace(SERVER, publication="others")).code is PUBLICATION_CHANGED


def test_copying_again_opens_an_epoch_above_the_last() -> None:
    forked = replace(SERVER, history=gtids("-"))
    plan = decide("billing", replace(RUNNING, start=replace(START, epoch=9_000)), forked, "copy-again")
    assert plan == Plan(True, 9_001, 0, None, None, Opened("copy_again", None))


def test_there_is_nothing_to_adopt() -> None:
    assert refusal(RUNNING, reopen="adopt").code is NOT_ADOPTABLE


def test_tables_that_the_log_cannot_carry_are_refused() -> None:
    """Some are wanted, and one of them has no transactions; or none is wanted."""
    nothing = Publication("billing", (("billing.*",), ()), ())
    refuse_uncapturable("billing", nothing)
    with pytest.raises(CdcError) as caught:
        refuse_nothing("billing", nothing)
    assert caught.value.code is NOTHING_TO_CAPTURE
    with pytest.raises(CdcError) as caught:
        refuse_uncapturable("billing", replace(nothing, tables=(FoundTable("billing", "old", "MyISAM"),)))
    assert caught.value.code is TABLE_NOT_TRANSACTIONAL


INT = Definition("id", "int", not_null=True)
CODE = Definition("code", "char(3)", not_null=True, charset="latin1", collation="latin1_swedish_ci")


# -- MariaDB --------------------------------------------------------------------------------------------------------
MARK = Identity("mariadb", "a" * 16, 0, "billing", "")
THERE = Here(MARK, BinlogState.parse("0-1-42,0-2-50"), DomainPosition.parse("0-1-30"), "tables", 5_000)


def stood_at(position: str, mark: str = "a" * 16) -> LogState:
    start = replace(START, source=replace(MARK, system_id=mark))
    return LogState(10, start, replace(END, position=position, prev_position="0-1-1"), start)


@pytest.mark.parametrize("position", ["0-1-42", "0-2-50", "0-1-30"])
def test_a_mariadb_goes_on_where_it_has_all_that_was_published(position: str) -> None:
    plan = decide("billing", stood_at(position), THERE, None)
    assert (plan.copy, plan.position) == (False, DomainPosition.parse(position))


def test_what_is_refused_of_a_mariadb() -> None:
    assert refusal(stood_at("0-1-43"), THERE).code is HISTORY_FORKED
    assert refusal(stood_at("0-3-20"), THERE).code is HISTORY_FORKED
    assert refusal(stood_at("0-1-29"), THERE).code is LOG_PURGED
    assert refusal(stood_at(f"{ONE}:1-3"), THERE).code is HISTORY_FORKED
    assert refusal(stood_at("0-1-42", mark="b" * 16), THERE).code is SOURCE_IDENTITY
    # Whoever has no mark is known by GTIDs alone.
    assert not decide("billing", stood_at("0-1-42", mark=""), THERE, None).copy
    assert refusal(stood_at("0-1-42"), replace(SERVER, identity=replace(MARK, connector="mysql"))).code is (
        SOURCE_IDENTITY
    )


def refers(columns: Sequence[str], referenced: Sequence[str], *, name: str = "k", **acts: str) -> ForeignKey:
    rules = {"on_update": "NO ACTION", "on_delete": "CASCADE"} | acts
    return ForeignKey(name, tuple(columns), "s", "parent", tuple(referenced), **rules)


def tree(keys: Sequence[ForeignKey], code: Definition = CODE) -> list[Table]:
    number = Definition("number", "double", not_null=False)
    parent = table_of("s", "parent", [INT, CODE, number], {"PRIMARY": ["id"]}, charset=("latin1", "latin1_swedish_ci"))
    child = table_of("s", "child", [INT, code, number], {"PRIMARY": ["id"]}, keys, charset=("latin1", "latin1_bin"))
    return [parent, child]


@pytest.mark.parametrize(
    ("shapes", "why"),
    [
        (tree([refers(["id"], ["id"])]), None),
        (tree([refers(["id", "code"], ["id", "code"])]), None),
        (tree([refers(["id"], ["id"], on_delete="RESTRICT")])[1:], None),
        (tree([refers(["id"], ["id"])])[1:], "its parent s.parent is not captured"),
        (tree([refers(["number"], ["number"])]), "column number is a double"),
        (tree([refers(["code"], ["code"])], replace(CODE, type="varchar(3)")), "column code is a varchar"),
        (tree([refers(["id", "code"], ["id", "code"], on_update="CASCADE")]), "written in several ways"),
        (tree([refers(["id"], ["id"]), refers(["id", "code"], ["id", "code"], name="l")]), "some of its columns"),
    ],
)
def test_keys_whose_effect_cannot_be_told(shapes: list[Table], why: str | None) -> None:
    found = underivable(shapes)
    assert bool(found) == bool(why)
    assert all(why and why in told for _, _, told in found)


def test_a_source_takes_over_behind_what_was_brought() -> None:
    at = gtids(f"{ONE}:1-7")
    server = replace(SERVER, begin_after=at)
    assert decide("billing", LogState(7), server, None) == Plan(
        False, 5_000, 0, at, None, Opened("first", f"{ONE}:1-7")
    )
    opened = LogState(8, replace(START, copy="none"))
    assert decide("billing", opened, server, None) == Plan(False, 1_000, 0, at, None)
    assert decide("billing", RUNNING, server, None) == decide("billing", RUNNING, SERVER, None)
    # A copy that was asked for and cut short is made, not forgotten.
    asked = LogState(8, replace(START, opened=Opened("copy_again", None)))
    assert decide("billing", asked, server, None) == Plan(True, 1_000, 0, None, None)
    assert refusal(LogState(7), replace(server, purged=gtids(f"{ONE}:1-9"))).code is LOG_PURGED
    unknown = refusal(LogState(7), replace(server, begin_after=gtids(f"{TWO}:1-7")))
    assert (unknown.code, "begin_after names" in unknown.text) == (SOURCE_PREREQUISITE, True)
