"""A column as Debezium describes it → Postgres' type for it, and its values → that server's text. Pure.

In: Connect's schema of a column, in whatever modes the connector has; parsed JSON values under it. Out: a `Kind`.
Refuses: a form that is not known or that has lost what the source held (durations that average months), by
`ValueError` that names it.

Days and moments are counted on ISO's calendar, by arithmetic: no year is out of reach, 0 and below are years BC.
"""

from __future__ import annotations

import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cdc.connect import Schema, decimal_text
from cdc.event import UNAVAILABLE
from cdc.postgres.values import array_text

ToText = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """`type` as the server writes it."""

    type: str
    text: ToText


_DAY = 86_400_000_000
_INFINITE = {9223372036825200000: "infinity", -9223372036832400000: "-infinity"}


# -- days and times ---------------------------------------------------------------------------------------------
def date_text(days: int) -> str:
    """Days since 1970, on the Gregorian calendar for ever; the years before 1 as the server writes them."""
    # In eras of 400 years that begin in March, so that the leap day is the last one of a year.
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    rest = day - (365 * year + year // 4 - year // 100)
    month = (5 * rest + 2) // 153
    day = rest - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    return _dated(era * 400 + year + (month <= 2), f"-{month:02d}-{day:02d}")


def _dated(year: int, rest: str) -> str:
    return f"{year:04d}{rest}" if year > 0 else f"{1 - year:04d}{rest} BC"


def time_text(micros: int) -> str:
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


def moment_text(micros: int) -> str:
    """Microseconds since 1970; the connector's two numbers for the infinite ones."""
    if micros in _INFINITE:
        return _INFINITE[micros]
    days, rest = divmod(micros, _DAY)
    date, bc, _ = date_text(days).partition(" BC")
    return f"{date} {time_text(rest)}{bc}"


_INFINITE_NANOS = {2**63 - 1: "infinity", -(2**63): "-infinity"}


def _nanos_text(nanos: int) -> str:
    return _INFINITE_NANOS.get(nanos) or moment_text(nanos // 1000)


def iso_text(value: str, zone: str = "") -> str:
    """ISO's text of a date or moment, its years with a sign where they have not four digits."""
    if value[-1:] != "Z":
        return value  # infinity
    text, sign = value[:-1].replace("T", " ").lstrip("+"), -1 if value[0] == "-" else 1
    year, dash, rest = text.lstrip("-").partition("-")
    date = _dated(sign * int(year), dash + rest)
    return date.replace(" BC", f"{zone} BC") if date[-1] == "C" else date + zone


# -- numbers, bytes ---------------------------------------------------------------------------------------------
def _boolean(value: bool) -> str:  # noqa: FBT001 - it is the value
    return "t" if value else "f"


def _bytes(value: str) -> str:
    return "\\x" + b64decode(value).hex()


def _bits(length: int) -> ToText:
    """The lowest byte first."""
    if not 0 < length <= _MOST_BITS:
        raise ValueError(f"its values are of {length} bits")
    return lambda value: f"{int.from_bytes(b64decode(value), 'little'):0{length}b}"


def _variable_scale(value: dict[str, Any]) -> str:
    return decimal_text(value["value"], value["scale"])


_PLAIN = {
    "int16": Kind("smallint", str),
    "int32": Kind("integer", str),
    "int64": Kind("bigint", str),
    "float": Kind("real", str),
    "double": Kind("double precision", str),
    "boolean": Kind("boolean", _boolean),
    "string": Kind("text", str),
    "bytes": Kind("bytea", _bytes),
}
_TIME, _MOMENT = "time without time zone", "timestamp without time zone"
_TIMES = {
    "io.debezium.time.Time": lambda value: time_text(value * 1000),
    "io.debezium.time.MicroTime": time_text,
    "io.debezium.time.NanoTime": lambda value: time_text(value // 1000),
    "io.debezium.time.IsoTime": lambda value: value.removesuffix("Z"),
    "org.apache.kafka.connect.data.Time": lambda value: time_text(value * 1000),
}
_NAMED = {
    "io.debezium.time.Date": Kind("date", date_text),
    "io.debezium.time.IsoDate": Kind("date", iso_text),
    "org.apache.kafka.connect.data.Date": Kind("date", date_text),
    "io.debezium.time.Timestamp": Kind(_MOMENT, lambda value: moment_text(value * 1000)),
    "io.debezium.time.MicroTimestamp": Kind(_MOMENT, moment_text),
    "io.debezium.time.NanoTimestamp": Kind(_MOMENT, _nanos_text),
    "io.debezium.time.IsoTimestamp": Kind(_MOMENT, iso_text),
    "org.apache.kafka.connect.data.Timestamp": Kind(_MOMENT, lambda value: moment_text(value * 1000)),
    "io.debezium.time.ZonedTimestamp": Kind("timestamp with time zone", lambda value: iso_text(value, "+00")),
    "io.debezium.time.ZonedTime": Kind("time with time zone", lambda value: value.removesuffix("Z") + "+00"),
    "io.debezium.time.Interval": Kind("interval", str),
    "io.debezium.time.Year": Kind("integer", str),
    "io.debezium.data.VariableScaleDecimal": Kind("numeric", _variable_scale),
    "io.debezium.data.Enum": Kind("text", str),
    "io.debezium.data.EnumSet": Kind("text", str),
    "io.debezium.data.Json": Kind("json", str),
    "io.debezium.data.Uuid": Kind("uuid", str),
    "io.debezium.data.Xml": Kind("xml", str),
}
_DECIMAL, _BITS = "org.apache.kafka.connect.data.Decimal", "io.debezium.data.Bits"
_MOST_DIGITS = 1000
_MOST_BITS = 83_886_080
"""Of Postgres."""


def kind_of(schema: Schema, connector: str) -> Kind:
    """Of a column of this connector's."""
    name, parameters = schema.name, dict(schema.parameters)
    if schema.type == "array":
        assert schema.items is not None
        item = kind_of(schema.items, connector)
        return Kind(f"{item.type}[]", array_text(item.text))
    if name == _DECIMAL:
        return _decimal(int(parameters["scale"]), int(parameters.get("connect.decimal.precision", 0)))
    if name == _BITS:
        length = int(parameters["length"])
        return Kind(f"bit({length})", _bits(length))
    if name in _TIMES:
        # A time of MySQL may be negative, or 838 hours.
        return Kind(_TIME if connector == "postgresql" else "interval", _TIMES[name])
    if name in _NAMED:
        return _NAMED[name]
    if name is not None or schema.type not in _PLAIN:
        raise ValueError(f"its values are of {name or schema.type}, which is not known")
    return _PLAIN[schema.type]


def _decimal(scale: int, precision: int) -> Kind:
    bounded = 0 < precision <= _MOST_DIGITS and 0 <= scale <= precision
    return Kind(f"numeric({precision},{scale})" if bounded else "numeric", lambda value: decimal_text(value, scale))


# -- values that the log did not carry --------------------------------------------------------------------------
_CODES = list(UNAVAILABLE.encode())
_MARKS = {UNAVAILABLE, b64encode(UNAVAILABLE.encode()).decode()}
_MARKED_UUID = str(uuid.UUID("b68a35a7-17ad-35b3-af2a-ae46edb4545a"))


def is_unavailable(value: Any) -> bool:
    """Whether it is what the connector puts in the place of an unchanged value that it was not sent."""
    if isinstance(value, str):
        return value in _MARKS
    if isinstance(value, list):
        return value == _CODES or (len(value) == 1 and (value[0] == _MARKED_UUID or value[0] in _MARKS))
    return False
