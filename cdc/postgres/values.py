"""Postgres' text of a value ↔ its JSON form in an event, one rule a type. Pure.

In: the text that `text` output gives under our session settings (ISO dates, hex bytea, UTC), from the log or a COPY
alike. Out: the JSON bytes of the value (`encoder`), and the way back from a parsed JSON value to text (`to_text`).
Refuses: a value that its form cannot hold (an array with several dimensions or a lower bound other than 1), by
`UnrepresentableError`; a type without a row in `cdc.types`, by `KeyError` (the catalog refuses those first).

Both directions are one-to-one. Text goes through `orjson` for its escapes; numbers are written from the server's own
digits, never through a Python float.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import orjson

from cdc.connect import halfways
from cdc.types import Form, element, is_array

Encoder = Callable[[bytes], bytes]
ToText = Callable[[Any], str]

_dumps = orjson.dumps


class UnrepresentableError(ValueError):
    """The value has no form in an event."""


# -- text → JSON ------------------------------------------------------------------------------------------------
_SPECIAL_FLOATS = {
    b"NaN": b'"NaN"',
    b"Infinity": b'"Infinity"',
    b"-Infinity": b'"-Infinity"',
    # "-0" is a valid JSON number that most parsers read as the integer 0.
    b"-0": b"-0.0",
}
_SPECIAL_DECIMALS = {
    b"NaN": b'"NAN"',
    b"Infinity": b'"POSITIVE_INFINITY"',
    b"-Infinity": b'"NEGATIVE_INFINITY"',
}
_BOOLEANS = {b"t": b"true", b"f": b"false"}


def encode_integer(value: bytes) -> bytes:
    return value


def _float(value: bytes) -> bytes:
    return _SPECIAL_FLOATS.get(value, value)


def encode_text(value: bytes) -> bytes:
    return _dumps(value.decode())


def _bytes(value: bytes) -> bytes:
    return b'"%b"' % b2a_base64(bytes.fromhex(value[2:].decode()), newline=False)


def _decimal(value: bytes) -> bytes:
    return _SPECIAL_DECIMALS.get(value) or b'"%b"' % value


def _date(value: bytes) -> bytes:
    return b'"%bZ"' % value if _iso(value) else _far(value)


def _time(value: bytes) -> bytes:
    # ISO time ends before 24:00:00; Debezium writes 00:00:00Z for it, another value.
    return b'"%bZ"' % value if value[:2] != b"24" else b'"%b"' % value


def _timestamp(value: bytes) -> bytes:
    return b'"%bT%bZ"' % (value[:10], value[11:]) if _iso(value) else _far(value)


def _timestamptz(digits: int) -> Encoder:
    """In UTC, the fraction always as long as the column's precision."""
    whole = 9 + digits if digits else 8
    size = 14 + whole

    def encode(value: bytes) -> bytes:
        # Nearly every value: date, blank, a whole time, +00.
        if len(value) == size and value[10] == 32 and value[-3] == 43:
            return b'"%bT%bZ"' % (value[:10], value[11:-3])
        if not _iso(value):
            return _far(value, _padded)
        return b'"%bT%bZ"' % (value[:10], _padded(value[11:-3]))

    def _padded(time: bytes) -> bytes:
        return (time if b"." in time or not digits else time + b".").ljust(whole, b"0")

    return encode


def _iso(value: bytes) -> bool:
    """Four digits of year, no BC, no infinity: nearly every value."""
    return value[4:5] == b"-" and value[-1:] != b"C"


def _far(value: bytes, padded: Callable[[bytes], bytes] = lambda time: time) -> bytes:
    """A year above 9999 as ISO's `+10000-…`; infinity and BC as the server writes them."""
    if value[-1:] == b"C" or value[-1:] == b"y":
        return b'"%b"' % value
    date, blank, time = value.partition(b" ")
    return b'"+%bT%bZ"' % (date, padded(time.removesuffix(b"+00"))) if blank else b'"+%bZ"' % date


_ENCODERS: dict[Form, Encoder] = {
    Form.INTEGER: encode_integer,
    Form.FLOAT: _float,
    Form.BOOLEAN: _BOOLEANS.__getitem__,
    Form.TEXT: encode_text,
    Form.DECIMAL: _decimal,
    Form.BYTES: _bytes,
    Form.DATE: _date,
    Form.TIME: _time,
    Form.TIMESTAMP: _timestamp,
    Form.TIMESTAMPTZ: _timestamptz(6),
}


def encoder(type_name: str, typmod: int = -1) -> Encoder:
    """The rule for one column: its text to JSON bytes."""
    form = element(type_name).form
    encode = _timestamptz(typmod) if form is Form.TIMESTAMPTZ and typmod >= 0 else _ENCODERS[form]
    if not is_array(type_name):
        return encode

    def array(value: bytes) -> bytes:
        return b"[%b]" % b",".join(b"null" if v is None else encode(v) for v in split_array(value))

    return array


def split_array(literal: bytes) -> list[bytes | None]:
    """The elements of an array literal of one dimension from 1: `{1,NULL,"a \\"b\\""}`."""
    if literal[:1] != b"{":
        raise UnrepresentableError("an array whose lower bound is not 1")
    if literal == b"{}":
        return []
    if b'"' not in literal:
        if b"{" in literal[1:]:
            raise UnrepresentableError("an array of several dimensions")
        return [None if v == b"NULL" else v for v in literal[1:-1].split(b",")]
    return _split_quoted(literal)


def _split_quoted(literal: bytes) -> list[bytes | None]:
    elements: list[bytes | None] = []
    at, end = 1, len(literal) - 1
    while at < end:
        if literal[at] == 0x7B:  # {
            raise UnrepresentableError("an array of several dimensions")
        if literal[at] != 0x22:  # "
            comma = literal.find(b",", at, end)
            stop = end if comma < 0 else comma
            value = literal[at:stop]
            elements.append(None if value == b"NULL" else value)
        else:
            parts, start, stop = [], at + 1, at + 1
            while literal[stop] != 0x22:
                if literal[stop] == 0x5C:  # backslash
                    parts.append(literal[start:stop])
                    start = stop = stop + 1
                stop += 1
            parts.append(literal[start:stop])
            elements.append(b"".join(parts))
            stop += 1
        at = stop + 1
    return elements


# -- JSON value → text ------------------------------------------------------------------------------------------
def _back_boolean(value: bool) -> str:  # noqa: FBT001 - it is the value
    return "t" if value else "f"


def _back_bytes(value: str) -> str:
    return "\\x" + b64decode(value, validate=True).hex()


_BACK_DECIMALS = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}


def _back_decimal(value: str) -> str:
    return _BACK_DECIMALS.get(value, value)


_HALFWAY = 2.0**35
"""Below, no decimal of 17 digits lies halfway between two doubles."""


def _digits(value: float) -> str:
    """The shortest text that reads back, as the server has it: unlike Python's, never halfway to the next double."""
    if -_HALFWAY < value < _HALFWAY:
        return repr(value)
    size = abs(float(value))
    low, high = halfways(size, math.nextafter(size, 0.0), math.nextafter(size, math.inf))
    candidates = (f"{size:.{places}e}" for places in range(17))
    text = next((text for text in (repr(size), *candidates) if low < Fraction(text) < high), repr(size))
    return f"-{text}" if value < 0 else text


def _back_float(scientific_from: int, shortest: Callable[[Any], str]) -> ToText:
    """The server turns to exponents earlier than Python."""

    def back(value: Any) -> str:
        if isinstance(value, str):
            return value
        text = shortest(value)
        sign, text = ("-", text[1:]) if text[0] == "-" else ("", text)
        mantissa, _, exponent = text.partition("e")
        whole, _, fraction = mantissa.partition(".")
        digits = (whole + fraction).lstrip("0")
        if not digits.strip("0"):
            return sign + "0"
        # The place of the first digit, as in scientific notation.
        place = int(exponent or 0) + (len(whole) - 1 if whole != "0" else len(digits) - len(fraction) - 1)
        digits = digits.rstrip("0")
        if -4 <= place < scientific_from:
            if place < 0:
                return f"{sign}0.{'0' * (-place - 1)}{digits}"
            head, tail = digits[: place + 1].ljust(place + 1, "0"), digits[place + 1 :]
            return f"{sign}{head}.{tail}" if tail else sign + head
        point = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{point}e{'-' if place < 0 else '+'}{abs(place):02d}"

    return back


_BACK_FLOATS = {"float4": _back_float(6, repr), "float8": _back_float(15, _digits)}


def _back_zoneless(value: str) -> str:
    return value[:-1].replace("T", " ").lstrip("+") if value[-1] == "Z" else value


def _back_timestamptz(value: str) -> str:
    if value[-1] != "Z":
        return value
    text = value[:-1].replace("T", " ").lstrip("+")
    # The event's fraction has a fixed length, the server's ends with its last digit.
    return (text.rstrip("0").removesuffix(".") if "." in text else text) + "+00"


_BACK: dict[Form, ToText] = {
    Form.INTEGER: str,
    Form.BOOLEAN: _back_boolean,
    Form.TEXT: str,
    Form.DECIMAL: _back_decimal,
    Form.BYTES: _back_bytes,
    Form.DATE: _back_zoneless,
    Form.TIME: _back_zoneless,
    Form.TIMESTAMP: _back_zoneless,
    Form.TIMESTAMPTZ: _back_timestamptz,
}


def to_text(type_name: str) -> ToText:
    """The rule for one column: a parsed JSON value (not null) to the very text that the server had for it."""
    of = element(type_name)
    back = _BACK_FLOATS.get(of.name) or _BACK[of.form]
    return array_text(back) if is_array(type_name) else back


def array_text(back: ToText) -> ToText:
    """The rule for an array, by that of its elements."""

    def array(values: list[Any]) -> str:
        return "{" + ",".join("NULL" if v is None else _array_element(back(v)) for v in values) + "}"

    return array


_BARE = re.compile(r'[^{}",\\ \t\n\r\v\f]+')


def _array_element(text: str) -> str:
    """Quoted where the server quotes."""
    if _BARE.fullmatch(text) and text.upper() != "NULL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
