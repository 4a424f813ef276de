"""Positions are values with an order and one text form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.position import BinlogState, DomainPosition, Gtid, GtidSet, Lsn, PgPosition, parse_position

lsns = st.integers(0, 2**64 - 1).map(Lsn)


@given(lsns)
def test_an_lsn_reads_back(lsn: Lsn) -> None:
    assert Lsn.parse(str(lsn)) == lsn


@given(st.builds(PgPosition, st.integers(1, 2**31), lsns))
def test_a_position_reads_back(position: PgPosition) -> None:
    assert parse_position(str(position)) == position


@given(lsns, lsns)
def test_positions_are_ordered_as_their_addresses(a: Lsn, b: Lsn) -> None:
    assert (PgPosition(2, a) < PgPosition(1, b)) == (a < b)


@pytest.mark.parametrize("text", ["", "0/", "x/1", "1/2/3", "123456789/0", "0/1 "])
def test_other_texts_are_no_lsn(text: str) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        Lsn.parse(text)


@pytest.mark.parametrize("text", ["0/1", ":0/1", "0:0/1", "-1:0/1", "٣:0/1"])
def test_other_texts_are_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        PgPosition.parse(text)


# -- MariaDB --------------------------------------------------------------------------------------------------------
def at(text: str) -> DomainPosition:
    return DomainPosition.parse(text)


@pytest.mark.parametrize("text", ["0-1-42", "0-0-0", "0-1-42,7-3-1", "4294967295-4294967295-18446744073709551615"])
def test_a_position_of_domains_reads_back(text: str) -> None:
    assert str(at(text)) == str(parse_position(text)) == text


@pytest.mark.parametrize("text", ["0-1", "x-1-2", "0-1-2;1-1-1", "0--1"])
def test_other_texts_are_no_position_of_domains(text: str) -> None:
    with pytest.raises(ValueError, match="not a position of MariaDB"):
        at(text)


def test_the_server_names_nothing_by_nothing() -> None:
    assert at("") == at("0-0-0") == DomainPosition()
    assert not at("")
    assert at("") <= at("0-1-1")


def test_numbers_of_a_domain_grow_whichever_server_gives_them() -> None:
    assert at("0-1-42") <= at("0-1-42")
    assert at("0-1-42") < at("0-2-43,7-1-1")
    assert not at("0-1-42,7-1-1") <= at("0-1-99")
    assert not at("0-1-42") <= at("0-2-42")
    assert not at("0-2-42") <= at("0-1-42")
    assert not at("0-1-1") <= GtidSet()  # type: ignore[operator]
    assert not GtidSet.parse("11111111-1111-1111-1111-111111111111:1") <= at("0-1-1")  # type: ignore[operator]


def test_what_is_behind_a_position() -> None:
    position = at("0-2-42,7-1-3")
    assert "0-1-41" in position
    assert "0-2-43" not in position
    assert "3-1-1" not in position
    assert str(position.add("0-2", 44).add("9-1", 1)) == "0-2-44,7-1-3,9-1-1"
    assert position - at("0-2-50") == at("7-1-3")
    assert position.ahead_of(at("0-1-40")) == 5
    assert position.number == 45


def test_a_history_holds_the_last_number_of_each_server() -> None:
    state = BinlogState.parse("0-1-42,0-2-50,7-1-3")
    assert not state.lacking(at("0-1-42,7-1-3"))
    assert not state.lacking(at("0-2-50"))
    assert state.lacking(at("0-1-43,7-1-3")) == at("0-1-43")
    assert state.lacking(at("0-3-1")) == at("0-3-1")


def test_one_transaction_of_either_server() -> None:
    for text, following in (("0-1-42", "0-1-43"), ("11111111-1111-1111-1111-111111111111:7",
                                                   "11111111-1111-1111-1111-111111111111:8")):  # fmt: skip
        assert str(Gtid.parse(text)) == text
        assert Gtid.parse(text).following == following
