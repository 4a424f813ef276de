"""Sets of GTIDs against plain Python sets of transactions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.position import GtidSet, PgPosition, parse_position

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "a0000000-0000-0000-0000-00000000000b"
Plain = set[tuple[str, int]]
PLAIN = st.sets(st.tuples(st.sampled_from([A, B]), st.integers(1, 12)))


def of(plain: Plain) -> GtidSet:
    found = GtidSet()
    for uuid, number in sorted(plain, key=lambda gtid: (gtid[1] * 7 % 12, gtid)):
        found = found.add(uuid, number)
    return found


def plain(found: GtidSet) -> Plain:
    return {(uuid, number) for uuid in (A, B) for number in range(1, 20) if f"{uuid}:{number}" in found}


@given(PLAIN, PLAIN)
def test_is_a_set(one: Plain, other: Plain) -> None:
    assert plain(of(one)) == one
    assert plain(of(one) | of(other)) == one | other
    assert plain(of(one) - of(other)) == one - other
    assert (of(one) <= of(other), of(one) < of(other)) == (one <= other, one < other)
    assert (of(one) >= of(other), of(one) > of(other)) == (one >= other, one > other)
    assert (of(one) == of(other)) == (one == other)


@given(PLAIN)
def test_text_reads_back(one: Plain) -> None:
    assert GtidSet.parse(str(of(one))) == of(one)
    assert parse_position(str(of(one))) == of(one)


def test_text() -> None:
    assert str(GtidSet.parse(f"{B.upper()}:5,\n{A}:1-3:7:4")) == f"{A}:1-4:7,{B}:5"
    assert str(GtidSet.parse("")) == str(GtidSet()) == "-"
    assert isinstance(parse_position("1:0/16B3748"), PgPosition)


@pytest.mark.parametrize("text", ["x", A, f"{A}:", f"{A}:0", f"{A}:5-3", f"{A}:1-", f"{A}:tag:1", f"{A}:1,", "1/2/3"])
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_position(text)
