"""How the values of a Postgres column are carried: its schema in Kafka Connect's terms, and its text as such a value.

In: a column, the profile of types. Out: a `Carried` (`encode`); the way back from a JSON value to the server's text
(`to_text`). Refuses: a value that the profile cannot hold, by `UnrepresentableError`. Pure.

    exact     as Debezium's lossless modes: decimals and moments are strings, in which every value fits
    debezium  as its defaults: decimals are scaled integers, dates days and moments milli- or microseconds since 1970
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cdc.connect import (
    BOOLEAN,
    BYTES,
    DECIMAL,
    DOUBLE,
    FLOAT,
    INT16,
    INT32,
    INT64,
    STRING,
    Schema,
    array,
    by_value,
    decimal_bytes,
    decimal_text,
    named,
    optional,
    single,
    struct,
)
from cdc.envelope import Carried, Native, as_it_is
from cdc.event import UNAVAILABLE, Column, Types
from cdc.excerpt import excerpt
from cdc.postgres import values
from cdc.postgres.values import ToText, UnrepresentableError, split_array
from cdc.types import Form, element, is_array

_VARIABLE = struct("io.debezium.data.VariableScaleDecimal", ("scale", INT32), ("value", BYTES), version=1)


def encode(column: Column, types: Types, *, keyed: bool) -> Carried:
    """Of a column of these types; `keyed`: it is in the key, and so in every image."""
    schema, native = _schema(column, types), _native(column, types)
    differs = _debezium(column, element(column.type).name) is not None
    unavailable = _unavailable(column, schema)
    # A value of variable length that has no placeholder is null where the log did not carry it.
    may_lack = (
        unavailable is None and not keyed and (schema.items is not None or element(column.type).name == "numeric")
    )
    nullable = may_lack or not column.not_null
    return Carried(
        column.name,
        optional(schema) if nullable else schema,
        by_value(schema, native) if types == "debezium" and differs else values.encoder(column.type, column.typmod),
        native,
        unavailable,
        _invented(column, native) if column.not_null else None,
    )


# -- schemas ----------------------------------------------------------------------------------------------------
_SCHEMAS: dict[str, Schema] = {
    "int2": INT16,
    "int4": INT32,
    "int8": INT64,
    "oid": INT64,
    "float4": FLOAT,
    "float8": DOUBLE,
    "numeric": STRING,
    "text": STRING,
    "varchar": STRING,
    "bpchar": STRING,
    "bool": BOOLEAN,
    "bytea": BYTES,
    "uuid": named(STRING, "io.debezium.data.Uuid"),
    "json": named(STRING, "io.debezium.data.Json"),
    "jsonb": named(STRING, "io.debezium.data.Json"),
    "date": named(STRING, "io.debezium.time.IsoDate"),
    "time": named(STRING, "io.debezium.time.IsoTime"),
    "timestamp": named(STRING, "io.debezium.time.IsoTimestamp"),
    "timestamptz": named(STRING, "io.debezium.time.ZonedTimestamp"),
}


def _schema(column: Column, types: Types) -> Schema:
    name = element(column.type).name
    if name == "enum":
        of = named(STRING, "io.debezium.data.Enum", ("allowed", ",".join(column.enum_values or ())))
    else:
        of = (_debezium(column, name) if types == "debezium" else None) or _SCHEMAS[name]
    return array(optional(of)) if is_array(column.type) else of


def _debezium(column: Column, name: str) -> Schema | None:
    """Where Debezium's default differs."""
    match name:
        case "date":
            return named(INT32, "io.debezium.time.Date")
        case "time":
            return (
                named(INT32, "io.debezium.time.Time") if _millis(column) else named(INT64, "io.debezium.time.MicroTime")
            )
        case "timestamp":
            return named(INT64, f"io.debezium.time.{'Timestamp' if _millis(column) else 'MicroTimestamp'}")
        case "numeric":
            if column.typmod < 0:
                return _VARIABLE
            precision, scale = digits(column)
            return named(BYTES, DECIMAL, ("scale", str(scale)), ("connect.decimal.precision", str(precision)))
    return None


def _millis(column: Column) -> bool:
    return 0 <= column.typmod <= 3


def digits(column: Column) -> tuple[int, int]:
    """Precision and scale of a numeric that has them, from its type modifier."""
    modifier = column.typmod - 4
    return modifier >> 16 & 0xFFFF, ((modifier & 0x7FF) ^ 1024) - 1024


# -- text → value -----------------------------------------------------------------------------------------------
def _native(column: Column, types: Types) -> Native:
    of = element(column.type)
    native = (_debezium_native(column, of.name) if types == "debezium" else None) or _exact_native(column, of.form)
    if not is_array(column.type):
        return native
    return lambda text: [None if item is None else native(item) for item in split_array(text)]


def _exact_native(column: Column, form: Form) -> Native:
    match form:
        case Form.INTEGER:
            return int
        case Form.FLOAT:
            return single if element(column.type).name == "float4" else float
        case Form.BOOLEAN:
            return {b"t": True, b"f": False}.__getitem__
        case Form.TEXT:
            return as_it_is
        case Form.BYTES:
            return lambda text: bytes.fromhex(text[2:].decode())
    # These are JSON strings without a character to escape.
    json = values.encoder(element(column.type).name, column.typmod)
    return lambda text: json(text)[1:-1]


def _debezium_native(column: Column, name: str) -> Native | None:
    match name:
        case "date":
            return _days
        case "time":
            return _unit(_time_us, column)
        case "timestamp":
            return _unit(_timestamp_us, column)
        case "numeric":
            return _variable if column.typmod < 0 else _scaled(digits(column)[1])
    return None


_DIGITS = 4_000
_DATE = re.compile(rb"(\d{4,})-(\d\d)-(\d\d)( BC)?")
_TIME = re.compile(rb"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_DAY_US = 86_400_000_000


def _days(text: bytes) -> int:
    """Since 1970, on the calendar that Postgres carries back without end."""
    found = _DATE.fullmatch(text)
    if not found:
        raise UnrepresentableError(f'{_shown(text)} is no day since 1970, which types = "debezium" has for a date')
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    return _day_number(1 - year if found[4] else year, month, day)


def _day_number(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01: years of 365.2425 days that begin in March (civil calendar, any year)."""
    year -= month <= 2
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return 365 * year + year // 4 - year // 100 + year // 400 + of_year - 719_468


def _date_of(days: int) -> tuple[int, int, int]:
    """The way back."""
    days += 719_468
    era, of_era = divmod(days, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    day, month = of_year - (153 * shifted + 2) // 5 + 1, shifted + (3 if shifted < 10 else -9)
    return era * 400 + year_of_era + (month <= 2), month, day


def _time_us(text: bytes) -> int:
    found = _TIME.fullmatch(text)
    if not found:
        raise UnrepresentableError(f"{_shown(text)} is no time")
    seconds = (int(found[1]) * 60 + int(found[2])) * 60 + int(found[3])
    return seconds * 1_000_000 + int((found[4] or b"").ljust(6, b"0"))


def _timestamp_us(text: bytes) -> int:
    body = text.removesuffix(b" BC")
    date, blank, time = body.partition(b" ")
    if not blank:
        raise UnrepresentableError(
            f'{_shown(text)} is no moment since 1970, which types = "debezium" has for a timestamp'
        )
    us = _days(date + text[len(body) :]) * _DAY_US + _time_us(time)
    if not -(1 << 63) <= us < 1 << 63:
        raise UnrepresentableError(f"{_shown(text)} is too far from 1970 for microseconds of 64 bits")
    return us


def _unit(us: Callable[[bytes], int], column: Column) -> Native:
    return (lambda text: us(text) // 1000) if _millis(column) else us


def _variable(text: bytes) -> tuple[int, bytes]:
    unscaled, scale = _unscaled(text)
    return scale, decimal_bytes(unscaled)


def _scaled(scale: int) -> Native:
    def native(text: bytes) -> bytes:
        unscaled, found = _unscaled(text)
        # A scale below zero: the server writes the zeros, the value leaves them out.
        return decimal_bytes(unscaled // 10 ** (found - scale) if found > scale else unscaled)

    return native


def _unscaled(text: bytes) -> tuple[int, int]:
    whole, _, fraction = text.partition(b".")
    digits = whole + fraction
    if not digits.removeprefix(b"-").isdigit():
        raise UnrepresentableError(f'{_shown(text)} is no decimal number, which types = "debezium" has for numeric')
    return _whole(digits), len(fraction)


def _whole(digits: bytes) -> int:
    """Of any length: Python's own reading stops at some thousand digits, since it takes the square of their time."""
    if len(digits) <= _DIGITS:
        return int(digits)
    sign, digits = (-1, digits[1:]) if digits[:1] == b"-" else (1, digits)
    half = len(digits) // 2
    power: int = 10**half
    return sign * (_whole(digits[:-half]) * power + _whole(digits[-half:]))


def _shown(text: bytes) -> str:
    return excerpt(text.decode())


# -- in place of a value ----------------------------------------------------------------------------------------
_UUID_UNAVAILABLE = b"b68a35a7-17ad-35b3-af2a-ae46edb4545a"


def _unavailable(column: Column, schema: Schema) -> Any:
    """What Debezium writes where the log did not carry a value; None where it writes null."""
    placeholder = UNAVAILABLE.encode()
    if schema.items is None:
        return placeholder if schema.type == "string" or schema == BYTES else None
    base = element(column.type)
    if base.name in ("int4", "int8"):
        return list(placeholder)
    if base.name == "uuid":
        return [_UUID_UNAVAILABLE]
    return [placeholder] if base.form in (Form.TEXT, Form.BYTES) and base.name != "enum" else None


_ZEROS = {
    Form.INTEGER: b"0",
    Form.FLOAT: b"0",
    Form.BOOLEAN: b"f",
    Form.BYTES: b"\\x",
    Form.DATE: b"1970-01-01",
    Form.TIME: b"00:00:00",
    Form.TIMESTAMP: b"1970-01-01 00:00:00",
}
_ZERO_MOMENT = b"1970-01-01T00:00:00Z"


def _invented(column: Column, native: Native) -> Any:
    """What Debezium writes for a NOT NULL column that a `before` lacks."""
    if is_array(column.type):
        return []
    form = element(column.type).form
    if form is Form.TEXT:
        return b""
    if form is Form.TIMESTAMPTZ:
        return _ZERO_MOMENT
    if form is Form.DECIMAL:
        scale = digits(column)[1] if column.typmod >= 0 else 0
        return native(b"0." + b"0" * scale if scale > 0 else b"0")
    return native(_ZEROS[form])


# -- JSON value → text ------------------------------------------------------------------------------------------
def to_text(column: Column, types: Types) -> ToText:
    """The rule for one column: a parsed JSON value (not null) to the very text that the server had for it."""
    back = _debezium_back(column) if types == "debezium" else None
    if back is None:
        return values.to_text(column.type)
    return values.array_text(back) if is_array(column.type) else back


def _debezium_back(column: Column) -> ToText | None:
    match element(column.type).name:
        case "date":
            return _date_text
        case "time":
            factor = 1000 if _millis(column) else 1
            return lambda value: _clock_text(value * factor)
        case "timestamp":
            factor = 1000 if _millis(column) else 1
            return lambda value: _moment_text(value * factor)
        case "numeric":
            if column.typmod < 0:
                return lambda value: decimal_text(value["value"], value["scale"])
            scale = digits(column)[1]
            return lambda value: decimal_text(value, scale)
    return None


def _date_text(days: int) -> str:
    year, month, day = _date_of(days)
    return f"{year:04d}-{month:02d}-{day:02d}" if year > 0 else f"{1 - year:04d}-{month:02d}-{day:02d} BC"


def _clock_text(us: int) -> str:
    seconds, fraction = divmod(us, 1_000_000)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


def _moment_text(us: int) -> str:
    days, time = divmod(us, _DAY_US)
    date = _date_text(days)
    bare = date.removesuffix(" BC")
    return f"{bare} {_clock_text(time)}{date[len(bare) :]}"
