"""MySQL's text of a value ↔ its JSON form in an event, one rule a column. Pure.

In: the source text of a value: what `select_expression` gives under our session, and what `wire` makes of the binary
log, the same bytes. Out: the JSON bytes of the value (`encoder`), and the way back from a parsed JSON value to the
source text (`to_text`). Refuses: a type without a row in `cdc.types`, by `KeyError`; a text that its type cannot have,
by `ValueError`.

    integers, year       digits; a year has four            float    widened to a double, and written as that
    decimal              digits with the column's scale     double   as MySQL sends it in a result (`double_text`)
    bit                  the number in digits               text, enum, set, json   the characters in UTF-8
    date, time, …        the server's, all its digits       binary   lower-case hex, binary(n) padded to n bytes

Both directions are one to one. Dates that no calendar has (zero in a part, 30 February) and times beyond one day keep
their source text in the event, where all others end with Z.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from struct import Struct
from typing import Any

import orjson

from cdc.connect import decimal_bytes
from cdc.event import Column
from cdc.mysql.dialect import Dialect
from cdc.types import Form, element

Encoder = Callable[[bytes], bytes]
ToText = Callable[[Any], str]

_dumps = orjson.dumps
_FLOAT = Struct("<f")
_EXPONENT_FROM = 15
"""From this power of ten on, and below its inverse, MySQL writes a double with an exponent."""


# -- numbers ----------------------------------------------------------------------------------------------------
def double_text(value: float) -> str:
    """A double as MySQL sends it: the shortest digits that read back, with an exponent if very large or small."""
    if value - value:
        raise ValueError("a double that is no number")
    mantissa, _, exponent = repr(value).partition("e")
    sign, mantissa = ("-", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits.strip("0"):
        return sign + "0"
    # The decimal point stands before this digit.
    point = int(exponent or 0) + (len(whole) if whole != "0" else len(digits) - len(fraction))
    digits = digits.rstrip("0")
    if not -_EXPONENT_FROM < point <= _EXPONENT_FROM and not (point > 0 and len(digits) > point):
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    head, rest = digits[:point].ljust(point, "0"), digits[point:]
    return f"{sign}{head}.{rest}" if rest else sign + head


def float_json(value: float) -> bytes:
    """The shortest digits that read back as this float32."""
    if value - value:
        raise ValueError("a float that is no number")
    single = _FLOAT.pack(value)
    for digits in (6, 7, 8):
        text = f"{value:.{digits}g}"
        near = float(text)
        if _FLOAT.pack(near) == single:
            return b"%a" % near
    return b"%a" % float(f"{value:.9g}")


def to_single(value: float) -> float:
    """The float32 next to it."""
    return float(_FLOAT.unpack(_FLOAT.pack(value))[0])


def bits_json(value: int, size: int) -> bytes:
    """As Debezium's Bits: the lowest byte first."""
    return b'"%b"' % b2a_base64(value.to_bytes(size, "little"), newline=False)


# -- text → JSON ------------------------------------------------------------------------------------------------
def encode_integer(value: bytes) -> bytes:
    return value


def encode_text(value: bytes) -> bytes:
    return _dumps(value.decode())


def _year(value: bytes) -> bytes:
    return b"%d" % int(value)


def _decimal(value: bytes) -> bytes:
    return b'"%b"' % value


def unsigned_json(value: int) -> bytes:
    """As Connect's Decimal without a fraction: two's complement, big-endian, as short as it can be."""
    return b'"%b"' % b2a_base64(decimal_bytes(value), newline=False)


def _unsigned(value: bytes) -> bytes:
    return unsigned_json(int(value))


def _float(value: bytes) -> bytes:
    return float_json(float(value))


def _double(value: bytes) -> bytes:
    return b"%a" % float(value)


def _bit(value: bytes) -> bytes:
    return b"true" if value != b"0" else b"false"


def _bits(size: int) -> Encoder:
    return lambda value: bits_json(int(value), size)


def _bytes(value: bytes) -> bytes:
    return b'"%b"' % b2a_base64(bytes.fromhex(value.decode()), newline=False)


@lru_cache(maxsize=4096)
def on_calendar(day: bytes) -> bool:
    """Whether `YYYY-MM-DD` is a day, from year 1 on."""
    try:
        date(int(day[:4]), int(day[5:7]), int(day[8:]))
    except ValueError:
        return False
    return True


def _date(value: bytes) -> bytes:
    return b'"%bZ"' % value if on_calendar(value) else b'"%b"' % value


def _moment(value: bytes) -> bytes:
    day = value[:10]
    return b'"%bT%bZ"' % (day, value[11:]) if on_calendar(day) else b'"%b"' % value


def _time(value: bytes) -> bytes:
    """Inside one day, or not: a sign or a third digit of hours makes its colon stand elsewhere."""
    return b'"%bZ"' % value if value[2] == 58 and value[:2] < b"24" else b'"%b"' % value


_ENCODERS: dict[Form, Encoder] = {
    Form.INTEGER: encode_integer,
    Form.TEXT: encode_text,
    Form.DECIMAL: _decimal,
    Form.BYTES: _bytes,
    Form.UNSIGNED: _unsigned,
    Form.DATE: _date,
    Form.TIME: _time,
    Form.TIMESTAMP: _moment,
    Form.TIMESTAMPTZ: _moment,
}
_BY_TYPE: dict[str, Encoder] = {"year": _year, "float": _float, "double": _double}


def encoder(column: Column) -> Encoder:
    """The rule for one column: its source text to JSON bytes."""
    if column.type == "bit":
        bits = bit_length(column)
        return _bit if bits == 1 else _bits((bits + 7) // 8)
    return _BY_TYPE.get(column.type) or _ENCODERS[element(column.type, "mysql").form]


# -- JSON value → text ------------------------------------------------------------------------------------------
def _back_year(value: int) -> str:
    return f"{value:04d}"


def _back_float(value: float) -> str:
    return double_text(to_single(float(value)))


def _back_double(value: float) -> str:
    return double_text(float(value))


def _back_bit(value: bool | str) -> str:  # noqa: FBT001 - it is the value
    if isinstance(value, str):
        return str(int.from_bytes(b64decode(value, validate=True), "little"))
    return "1" if value else "0"


def _back_bytes(value: str) -> str:
    return b64decode(value, validate=True).hex()


def _back_unsigned(value: str) -> str:
    return str(int.from_bytes(b64decode(value, validate=True), "big"))


def _back_moment(value: str) -> str:
    return value[:-1].replace("T", " ") if value[-1] == "Z" else value


_BACK: dict[Form, ToText] = {
    Form.INTEGER: str,
    Form.TEXT: str,
    Form.DECIMAL: str,
    Form.BITS: _back_bit,
    Form.BYTES: _back_bytes,
    Form.UNSIGNED: _back_unsigned,
    Form.DATE: _back_moment,
    Form.TIME: _back_moment,
    Form.TIMESTAMP: _back_moment,
    Form.TIMESTAMPTZ: _back_moment,
}
_BACK_BY_TYPE: dict[str, ToText] = {"year": _back_year, "float": _back_float, "double": _back_double}


def to_text(column: Column) -> ToText:
    """The rule for one column: a parsed JSON value (not null) to the very text that the source had for it."""
    return _BACK_BY_TYPE.get(column.type) or _BACK[element(column.type, "mysql").form]


# -- a column by SQL --------------------------------------------------------------------------------------------
def select_expression(column: Column, name: str, dialect: Dialect) -> str:
    """SQL that gives the source text of a column, whose quoted name is `name`, under our session settings.

    `dialect`: of the server that is asked, which is not always the source.
    """
    if column.type in ("float", "double"):
        return dialect.real.format(name)
    if column.type == "bit":
        return f"CAST({name} AS UNSIGNED)"
    if element(column.type, "mysql").form is Form.BYTES:
        return f"LOWER(HEX({name}))"
    if column.type_expression.endswith("zerofill"):
        if column.type == "decimal":
            return f"CAST({name} AS DECIMAL({precision(column)},{scale(column)}))"
        return f"CAST({name} AS UNSIGNED)"
    return name


# -- what stands in brackets behind a type -------------------------------------------------------------------------
_BRACKETS = re.compile(r"\((\d+)(?:,(\d+))?\)")


def _brackets(column: Column) -> tuple[int | None, int]:
    match = _BRACKETS.search(column.type_expression)
    return (None, 0) if match is None else (int(match[1]), int(match[2] or 0))


def bit_length(column: Column) -> int:
    return _brackets(column)[0] or 1


def precision(column: Column) -> int:
    """Of a decimal: all its digits."""
    return _brackets(column)[0] or 10


def scale(column: Column) -> int:
    return _brackets(column)[1]


def fraction_digits(column: Column) -> int:
    """Of time, datetime, timestamp."""
    return _brackets(column)[0] or 0
