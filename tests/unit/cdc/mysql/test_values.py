"""Source text and JSON form of every MySQL type: examples written out, and that both ways are one to one."""

import struct
from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.event import Column
from cdc.mysql.dialect import MARIADB, MYSQL
from cdc.mysql.values import double_text, encoder, select_expression, to_single, to_text
from cdc.types import TYPES


def column(expression: str, name: str = "v") -> Column:
    base = expression.partition("(")[0].split()[0]
    unsigned = " unsigned" if "unsigned" in expression and f"{base} unsigned" in TYPES["mysql"] else ""
    return Column(name, base + unsigned, expression, 0, -1, 1, not_null=False)


EXAMPLES: list[tuple[str, str, Any]] = [
    ("tinyint", "-128", -128),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("bigint unsigned", "18446744073709551615", "AP//////////"),
    ("decimal(10,2)", "-0.50", "-0.50"),
    ("year", "0000", 0),
    ("year", "2155", 2155),
    ("float", "0.10000000149011612", 0.1),
    ("float", "3.4028234663852886e38", 3.4028235e38),
    ("float", "-0", -0.0),
    ("double", "0.1", 0.1),
    ("double", "1e20", 1e20),
    ("double", "1.7976931348623157e308", 1.7976931348623157e308),
    ("bit(1)", "0", False),
    ("bit(1)", "1", True),
    ("bit(12)", "2561", "AQo="),
    ("bit(64)", "18446744073709551615", "//////////8="),
    ("date", "2024-02-29", "2024-02-29Z"),
    ("date", "2023-02-29", "2023-02-29"),
    ("date", "0000-00-00", "0000-00-00"),
    ("date", "2024-00-05", "2024-00-05"),
    ("datetime", "9999-12-31 23:59:59", "9999-12-31T23:59:59Z"),
    ("datetime(3)", "2024-05-06 07:08:09.120", "2024-05-06T07:08:09.120Z"),
    ("datetime(3)", "0000-00-00 00:00:00.000", "0000-00-00 00:00:00.000"),
    ("timestamp(6)", "2038-01-19 03:14:07.999999", "2038-01-19T03:14:07.999999Z"),
    ("time", "23:59:59", "23:59:59Z"),
    ("time", "24:00:00", "24:00:00"),
    ("time(1)", "-00:00:00.1", "-00:00:00.1"),
    ("time", "838:59:59", "838:59:59"),
    ("varchar(20)", 'é"\\\n', 'é"\\\n'),
    ("enum('a','b')", "", ""),
    ("set('a','b')", "a,b", "a,b"),
    ("json", '{"a": 1.0}', '{"a": 1.0}'),
    ("binary(3)", "610000", "YQAA"),
    ("longblob", "", ""),
]


@pytest.mark.parametrize(("expression", "text", "value"), EXAMPLES)
def test_examples_both_ways(expression: str, text: str, value: Any) -> None:
    shape = column(expression)
    written = encoder(shape)(text.encode())
    assert orjson.loads(written) == value
    assert type(orjson.loads(written)) is type(value)
    assert to_text(shape)(orjson.loads(written)) == text


def test_every_type_has_both_rules() -> None:
    for name in TYPES["mysql"]:
        shape = Column("v", name, name, 0, -1, 1, not_null=False)
        encoder(shape)
        to_text(shape)
        for dialect in (MYSQL, MARIADB):
            assert "`v`" in select_expression(shape, "`v`", dialect)
    with pytest.raises(KeyError):
        encoder(column("geometry"))


def both_ways(expression: str, text: str) -> None:
    shape = column(expression)
    assert to_text(shape)(orjson.loads(encoder(shape)(text.encode()))) == text


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles(value: float) -> None:
    text = double_text(value)
    assert struct.pack("d", float(text)) == struct.pack("d", value)
    both_ways("double", text)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_floats(value: float) -> None:
    assert to_single(value) == value
    both_ways("float", double_text(value))
    shortest = encoder(column("float"))(double_text(value).encode()).decode()
    assert struct.pack("f", float(shortest)) == struct.pack("f", value)
    digits = shortest.partition("e")[0].replace(".", "").strip("-0")
    assert len(digits) <= 9


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text(value: str) -> None:
    for expression in ("varchar(9)", "text", "enum('a')", "set('a')", "json"):
        both_ways(expression, value)


@settings(deadline=None)
@given(st.binary())
def test_bytes(value: bytes) -> None:
    both_ways("blob", value.hex())


@settings(deadline=None)
@given(st.integers(1, 64), st.data())
def test_bits(bits: int, data: st.DataObject) -> None:
    both_ways(f"bit({bits})", str(data.draw(st.integers(0, 2**bits - 1))))


@settings(deadline=None)
@given(st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31), st.times(), st.integers(0, 6))
def test_moments(year: int, month: int, day: int, time: Any, digits: int) -> None:
    text = f"{year:04d}-{month:02d}-{day:02d}"
    both_ways("date", text)
    clock = f"{time:%H:%M:%S}" + (f".{time.microsecond:06d}"[: digits + 1] if digits else "")
    both_ways(f"datetime({digits})", f"{text} {clock}")
    try:
        date(year, month, day)
        real = True
    except ValueError:
        real = False
    assert encoder(column("date"))(text.encode()).endswith(b'Z"') is real


@settings(deadline=None)
@given(st.integers(-838, 838), st.integers(0, 59), st.integers(0, 59), st.booleans())
def test_times(hours: int, minutes: int, seconds: int, fraction: bool) -> None:  # noqa: FBT001 - drawn
    text = f"{'-' if hours < 0 else ''}{abs(hours):02d}:{minutes:02d}:{seconds:02d}" + (".000100" if fraction else "")
    both_ways("time(6)" if fraction else "time", text)
    assert (encoder(column("time"))(text.encode())[-2:] == b'Z"') is (0 <= hours < 24)


def test_sql_of_a_column() -> None:
    expected = {
        "int": "`v`",
        "float": "TRIM(TRAILING '.0' FROM CAST(CAST(`v` AS JSON) AS CHAR))",
        "double(7,3)": "TRIM(TRAILING '.0' FROM CAST(CAST(`v` AS JSON) AS CHAR))",
        "bit(3)": "CAST(`v` AS UNSIGNED)",
        "binary(3)": "LOWER(HEX(`v`))",
        "int(5) unsigned zerofill": "CAST(`v` AS UNSIGNED)",
        "decimal(9,2) unsigned zerofill": "CAST(`v` AS DECIMAL(9,2))",
        "json": "`v`",
    }
    assert {expression: select_expression(column(expression), "`v`", MYSQL) for expression in expected} == expected
