"""Positions are values with an order and one text form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.position import Lsn, PgPosition, parse_position

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
