"""How the values of a MySQL column are carried: its schema in Kafka Connect's terms, and its text as such a value.

In: a column, the profile of types. Out: a `Carried` (`encode`); the way back from a JSON value to the source's text
(`to_text`). Refuses: a value that the profile cannot hold, by `ValueError`. Pure.

    exact     as Debezium's lossless modes: decimals and moments are strings, in which every value fits
    debezium  as its defaults: decimals are scaled integers, bigint unsigned an int64, dates days and moments milli- or
              microseconds since 1970
"""

from __future__ import annotations

import re
from datetime import date, timedelta

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
    by_value,
    decimal_bytes,
    decimal_text,
    named,
    optional,
)
from cdc.envelope import Carried, Native, as_it_is
from cdc.event import UNAVAILABLE, Column, Types
from cdc.mysql import values
from cdc.mysql.values import ToText, bit_length, fraction_digits, precision, scale
from cdc.types import Form, element


def encode(column: Column, types: Types) -> Carried:
    """Of a column of these types."""
    schema, native = _schema(column, types), _native(column, types)
    zero = native(_zero(column))
    there = UNAVAILABLE.encode() if schema.type == "string" or schema == BYTES else None
    return Carried(
        column.name,
        schema if column.not_null else optional(schema),
        by_value(schema, native) if types == "debezium" and _debezium(column) else values.encoder(column),
        native,
        zero if there is None and column.not_null else there,
        zero if column.not_null else None,
    )


# -- schemas ----------------------------------------------------------------------------------------------------
_INTEGERS: dict[str, Schema] = {
    "tinyint": INT16,
    "tinyint unsigned": INT16,
    "smallint": INT16,
    "smallint unsigned": INT32,
    "mediumint": INT32,
    "mediumint unsigned": INT32,
    "int": INT32,
    "int unsigned": INT64,
    "bigint": INT64,
    "bigint unsigned": named(BYTES, DECIMAL, ("scale", "0"), ("connect.decimal.precision", "20")),
    "year": named(INT32, "io.debezium.time.Year"),
}
_NAMED: dict[str, Schema] = {
    "float": FLOAT,
    "double": DOUBLE,
    "json": named(STRING, "io.debezium.data.Json"),
    "uuid": named(STRING, "io.debezium.data.Uuid"),
    "date": named(STRING, "io.debezium.time.IsoDate"),
    "time": named(STRING, "io.debezium.time.IsoTime"),
    "datetime": named(STRING, "io.debezium.time.IsoTimestamp"),
    "timestamp": named(STRING, "io.debezium.time.ZonedTimestamp"),
}
_FORMS: dict[Form, Schema] = {Form.TEXT: STRING, Form.DECIMAL: STRING, Form.BYTES: BYTES}


def _schema(column: Column, types: Types) -> Schema:
    of = (_debezium(column) if types == "debezium" else None) or _INTEGERS.get(column.type) or _NAMED.get(column.type)
    if of is not None:
        return of
    if column.type in ("enum", "set"):
        name = "io.debezium.data.Enum" if column.type == "enum" else "io.debezium.data.EnumSet"
        return named(STRING, name, ("allowed", ",".join(column.enum_values or ())))
    if column.type == "bit":
        bits = bit_length(column)
        return BOOLEAN if bits == 1 else named(BYTES, "io.debezium.data.Bits", ("length", str(bits)))
    return _FORMS[element(column.type, "mysql").form]


def _debezium(column: Column) -> Schema | None:
    """Where Debezium's default differs."""
    match column.type:
        case "decimal":
            parameters = ("scale", str(scale(column))), ("connect.decimal.precision", str(precision(column)))
            return named(BYTES, DECIMAL, *parameters)
        case "bigint unsigned":
            return INT64
        case "date":
            return named(INT32, "io.debezium.time.Date")
        case "time":
            return named(INT64, "io.debezium.time.MicroTime")
        case "datetime":
            return named(INT64, f"io.debezium.time.{'Timestamp' if fraction_digits(column) <= 3 else 'MicroTimestamp'}")
    return None


# -- text → value -----------------------------------------------------------------------------------------------
def _native(column: Column, types: Types) -> Native:
    native = _debezium_native(column) if types == "debezium" else None
    if native is not None:
        return native
    form = element(column.type, "mysql").form
    match form:
        case Form.INTEGER:
            return int
        case Form.FLOAT:
            return float
        case Form.TEXT | Form.DECIMAL:
            return as_it_is
        case Form.BYTES:
            return lambda text: bytes.fromhex(text.decode())
        case Form.UNSIGNED:
            return _unscaled
        case Form.BITS:
            bits = bit_length(column)
            size = (bits + 7) // 8
            return (lambda text: text != b"0") if bits == 1 else (lambda text: int(text).to_bytes(size, "little"))
    # These are JSON strings without a character to escape.
    json = values.encoder(column)
    return lambda text: json(text)[1:-1]


def _debezium_native(column: Column) -> Native | None:
    match column.type:
        case "decimal":
            return _unscaled
        case "bigint unsigned":
            return _signed
        case "date":
            return _days
        case "time":
            return _time_us
        case "datetime":
            return (lambda text: _datetime_us(text) // 1000) if fraction_digits(column) <= 3 else _datetime_us
    return None


_EPOCH = date(1970, 1, 1)
_DAY_US = 86_400_000_000
_TIME = re.compile(rb"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


def _unscaled(text: bytes) -> bytes:
    return decimal_bytes(int(text.replace(b".", b"", 1)))


def _signed(text: bytes) -> int:
    value = int(text)
    if value >= 1 << 63:
        raise ValueError(f'{value} is beyond the int64 that types = "debezium" has for bigint unsigned')
    return value


def _days(text: bytes) -> int:
    if not values.on_calendar(text):
        raise ValueError(f'{text.decode()} is no day of the calendar, which types = "debezium" counts from 1970')
    return (date.fromisoformat(text.decode()) - _EPOCH).days


def _time_us(text: bytes) -> int:
    found = _TIME.fullmatch(text)
    if not found:
        raise ValueError(f"{text.decode()} is no time")
    seconds = (int(found[2]) * 60 + int(found[3])) * 60 + int(found[4])
    us = seconds * 1_000_000 + int((found[5] or b"").ljust(6, b"0"))
    return -us if found[1] else us


def _datetime_us(text: bytes) -> int:
    return _days(text[:10]) * _DAY_US + _time_us(text[11:])


# -- in place of a value ----------------------------------------------------------------------------------------
_ZEROS = {
    Form.INTEGER: b"0",
    Form.FLOAT: b"0",
    Form.BITS: b"0",
    Form.UNSIGNED: b"0",
    Form.TEXT: b"",
    Form.BYTES: b"",
    Form.DATE: b"1970-01-01",
    Form.TIME: b"00:00:00",
    Form.TIMESTAMP: b"1970-01-01 00:00:00",
    Form.TIMESTAMPTZ: b"1970-01-01 00:00:00",
}


def _zero(column: Column) -> bytes:
    """Text of what Debezium writes for a NOT NULL column that an image lacks."""
    if column.type == "decimal" and scale(column):
        return b"0." + b"0" * scale(column)
    form = element(column.type, "mysql").form
    return b"0" if form is Form.DECIMAL else _ZEROS[form]


# -- JSON value → text ------------------------------------------------------------------------------------------
def to_text(column: Column, types: Types) -> ToText:
    """The rule for one column: a parsed JSON value (not null) to the very text that the source had for it."""
    return (_debezium_back(column) if types == "debezium" else None) or values.to_text(column)


def _debezium_back(column: Column) -> ToText | None:
    digits = fraction_digits(column)
    match column.type:
        case "decimal":
            of_scale = scale(column)
            return lambda value: decimal_text(value, of_scale)
        case "bigint unsigned":
            return str
        case "date":
            return lambda value: (_EPOCH + timedelta(value)).isoformat()
        case "time":
            return lambda value: ("-" if value < 0 else "") + _clock_text(abs(value), digits)
        case "datetime":
            factor = 1000 if digits <= 3 else 1
            return lambda value: _moment_text(value * factor, digits)
    return None


def _clock_text(us: int, digits: int) -> str:
    seconds, fraction = divmod(us, 1_000_000)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}"[: len(text) + 1 + digits] if digits else text


def _moment_text(us: int, digits: int) -> str:
    days, time = divmod(us, _DAY_US)
    return f"{(_EPOCH + timedelta(days)).isoformat()} {_clock_text(time, digits)}"
