"""Debezium's types hold the server's text: of any day, of any number of digits, there and back."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.event import Column
from cdc.postgres.carried import encode, to_text
from cdc.postgres.values import UnrepresentableError


def column(name: str, typmod: int = -1) -> Column:
    return Column("v", name, name, 0, typmod, 1, not_null=False)


def there_and_back(of: Column, text: str) -> str:
    return to_text(of, "debezium")(orjson.loads(encode(of, "debezium", keyed=False).json(text.encode())))


@given(st.integers(1, 5_870_000), st.integers(1, 12), st.integers(1, 28), st.booleans())
def test_days(year: int, month: int, day: int, before: bool) -> None:  # noqa: FBT001 - drawn
    text = f"{year:04d}-{month:02d}-{day:02d}"
    assert there_and_back(column("date"), text) == text
    if before and year <= 4713:
        assert there_and_back(column("date"), f"{text} BC") == f"{text} BC"


@pytest.mark.parametrize(
    ("typmod", "text"),
    [(-1, "4713-01-01 00:00:00 BC"), (-1, "2024-02-29 12:34:56.789012"), (-1, "294246-12-31 23:59:59.999999"),
     (3, "2024-02-29 12:34:56.789"), (0, "1969-12-31 23:59:59"), (3, "0001-01-01 00:00:00.001 BC")],
)  # fmt: skip
def test_moments(typmod: int, text: str) -> None:
    assert there_and_back(column("timestamp", typmod), text) == text


@pytest.mark.parametrize("text", ["00:00:00", "24:00:00", "23:59:59.999999", "12:34:56.7"])
def test_times(text: str) -> None:
    assert there_and_back(column("time"), text) == text


@pytest.mark.parametrize("digits", [1, 3_999, 4_000, 4_001, 20_000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_numbers_of_any_length(digits: int, sign: str) -> None:
    whole = "7" + "0123456789" * (digits // 10)
    for text in (f"{sign}{whole}", f"{sign}{whole}.050", f"{sign}0.{'0' * digits}7"):
        assert there_and_back(column("numeric"), text) == text


def test_a_scale_below_zero() -> None:
    """numeric(3,-2)."""
    assert there_and_back(column("numeric", (3 << 16 | -2 & 0x7FF) + 4), "12300") == "12300"


@pytest.mark.parametrize(("name", "text"), [("numeric", "NaN"), ("date", "infinity"), ("timestamp", "-infinity")])
def test_what_it_cannot_hold(name: str, text: str) -> None:
    with pytest.raises(UnrepresentableError, match=text):
        encode(column(name), "debezium", keyed=False).json(text.encode())
