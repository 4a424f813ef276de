"""Kafka Connect's schemas, in which Debezium describes its events, and values under them as JSON. Pure.

In: a `Schema`; a value of Python's for it. Out: the schema in Connect's JSON form, and in Avro's as Confluent's
converter maps it; the value as the JSON converter writes it. Refuses: nothing; a value that its schema cannot hold
raises as Python does.

    string                 bytes, UTF-8          int16, int32, int64    int
    bytes                  bytes                 float, double          float
    boolean                bool                  array                  list
    struct                 tuple, a value for each field                null    None
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from struct import Struct
from typing import Any, Literal

import orjson

Json = dict[str, Any]
ToJson = Callable[[Any], bytes]


@dataclass(frozen=True, slots=True)
class Schema:
    """`name` is that of a record, or of what the values of a plain type mean; `version` is Connect's, of a name."""

    type: Literal["int16", "int32", "int64", "float", "double", "boolean", "string", "bytes", "array", "struct"]
    name: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    optional: bool = False
    default: str | None = None
    items: Schema | None = None
    fields: tuple[tuple[str, Schema], ...] = ()
    version: int | None = None


STRING, INT16, INT32, INT64 = Schema("string"), Schema("int16"), Schema("int32"), Schema("int64")
BYTES, BOOLEAN, FLOAT, DOUBLE = Schema("bytes"), Schema("boolean"), Schema("float"), Schema("double")


def named(of: Schema, name: str, *parameters: tuple[str, str]) -> Schema:
    return replace(of, name=name, version=1, parameters=parameters)


def optional(of: Schema) -> Schema:
    return replace(of, optional=True)


def array(items: Schema) -> Schema:
    return Schema("array", items=items)


def struct(name: str, *fields: tuple[str, Schema], version: int | None = None) -> Schema:
    return Schema("struct", name, fields=fields, version=version)


DECIMAL = "org.apache.kafka.connect.data.Decimal"
_ANY_PRECISION = 64
"""What Connect's converter tells of a Decimal whose digits are not limited."""


def decimal_bytes(unscaled: int) -> bytes:
    """Of a Decimal: two's complement, highest byte first, as short as it can be (Java's BigInteger)."""
    size = (unscaled if unscaled >= 0 else ~unscaled).bit_length() // 8 + 1
    return unscaled.to_bytes(size, "big", signed=True)


def decimal_text(value: str, scale: int) -> str:
    """The digits of a Decimal as it stands in JSON."""
    unscaled = int.from_bytes(b64decode(value, validate=True), "big", signed=True)
    sign, text = ("-", _digits(-unscaled)) if unscaled < 0 else ("", _digits(unscaled))
    if scale <= 0:
        return f"{sign}{text}{'0' * -scale if unscaled else ''}"
    text = text.rjust(scale + 1, "0")
    return f"{sign}{text[:-scale]}.{text[-scale:]}"


def _digits(value: int) -> str:
    """Of any length: Python's own writing stops at some thousand digits."""
    if value < _LONG:
        return str(value)
    half = value.bit_length() * 3 // 20
    head, tail = divmod(value, 10**half)
    return _digits(head) + _digits(tail).rjust(half, "0")


_LONG = 10**4_000


def halfways(size: float, below: float, above: float) -> tuple[Fraction, Fraction]:
    """Half the way to its neighbours: a decimal between reads back as `size`. `above` is infinite for the largest."""
    exact = Fraction(size)
    low = (exact + Fraction(below)) / 2
    return low, 2 * exact - low if math.isinf(above) else (exact + Fraction(above)) / 2


def single(text: str | bytes) -> float:
    """The number of 32 bits next to a decimal text, as servers read it.

    By way of 64 bits it would be rounded twice; that shows only where these end halfway between two of 32, or where
    numbers are so small that they have fewer digits.
    """
    value = float(text)
    bits = int.from_bytes(_double(value), "big")
    if bits & _BEYOND == _HALFWAY or 0 < abs(value) < _NORMAL:
        exact = Fraction(text.decode() if isinstance(text, bytes) else text)
        if exact != Fraction(value) and not bits & 1:
            # An odd last bit says that more follows.
            value = math.nextafter(value, math.inf if exact > Fraction(value) else -math.inf)
    try:
        return float(_float.unpack(_float.pack(value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


_float, _double = Struct("<f"), Struct(">d").pack
_BEYOND, _HALFWAY = (1 << 29) - 1, 1 << 28
"""Bits of a double that a float has no room for."""
_NORMAL = 2.0**-126


# -- Connect's JSON form ----------------------------------------------------------------------------------------
def as_json(schema: Schema) -> Json:
    """What stands under `schema` in a message of the JSON converter."""
    form: Json = {"type": schema.type}
    if schema.items is not None:
        form["items"] = as_json(schema.items)
    if schema.type == "struct":
        form["fields"] = [as_json(of) | {"field": name} for name, of in schema.fields]
    form["optional"] = schema.optional
    if schema.name is not None:
        form["name"] = schema.name
    if schema.version is not None:
        form["version"] = schema.version
    if schema.parameters:
        form["parameters"] = dict(schema.parameters)
    if schema.default is not None:
        form["default"] = schema.default
    return form


def to_json(schema: Schema) -> ToJson:
    """The rule for values under a schema; NULL is the optional schema's own."""
    write = _to_json(schema)
    if not schema.optional:
        return write
    return lambda value: b"null" if value is None else write(value)


def by_value(schema: Schema, native: Callable[[bytes], Any]) -> Callable[[bytes], bytes]:
    """The rule for texts, by way of the value that `native` makes of them."""
    write = to_json(schema)
    return lambda text: write(native(text))


def _to_json(schema: Schema) -> ToJson:
    if schema.type == "array":
        assert schema.items is not None
        item = to_json(schema.items)
        return lambda values: b"[%b]" % b",".join(map(item, values))
    if schema.type == "struct":
        members = [(orjson.dumps(name), to_json(of)) for name, of in schema.fields]
        return lambda values: (
            b"{" + b",".join(b"%b:%b" % (m[0], m[1](v)) for m, v in zip(members, values, strict=True)) + b"}"
        )
    return _PLAIN[schema.type]


def _real(value: float) -> bytes:
    # NaN and the infinities are no numbers of JSON.
    return b"%a" % value if not value - value else orjson.dumps(_NO_NUMBERS[str(value)])


_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_PLAIN: dict[str, ToJson] = {
    "int16": lambda value: b"%d" % value,
    "int32": lambda value: b"%d" % value,
    "int64": lambda value: b"%d" % value,
    "float": _real,
    "double": _real,
    "boolean": lambda value: b"true" if value else b"false",
    "string": lambda value: orjson.dumps(value.decode()),
    "bytes": lambda value: b'"%b"' % b2a_base64(value, newline=False),
}


# -- Avro's form ------------------------------------------------------------------------------------------------
CONNECT_TYPE, CONNECT_NAME = "connect.type", "connect.name"
_AVRO_TYPES = {"int16": "int", "int32": "int", "int64": "long"}
_INVALID = re.compile(r"[^A-Za-z0-9_]")
SCHEMA_ID = "cdc.schema_id"
"""A property of an envelope: the id of the shape that its rows are of."""
OWN_NAME = "cdc.name"
"""What a field is called that had to be adjusted."""


def avro_name(name: str) -> str:
    """A name as Avro has it: Debezium's adjustment mode `avro`."""
    adjusted = _INVALID.sub("_", name)
    return f"_{adjusted}" if adjusted[:1].isdigit() else adjusted


def avro_full_name(name: str) -> str:
    return ".".join(map(avro_name, name.split(".")))


def as_avro(schema: Schema, *, own_names: bool = True) -> Any:
    """The schema in Avro. A record that comes again is named by its full name.

    Property by property, and in the order, as Connect's converter has it: a schema of the same text has the same id
    in a registry. `own_names`: with `cdc.name` where a field's name had to be adjusted.
    """
    return _as_avro(schema, set(), own_names=own_names)


def _as_avro(schema: Schema, known: set[str], *, own_names: bool) -> Any:
    if schema.type == "struct":
        form = _avro_record(schema, known, own_names=own_names)
    else:
        form = _avro_plain(schema, known, own_names=own_names)
    if not schema.optional:
        return form
    return [form, "null"] if schema.default is not None else ["null", form]


def _avro_plain(schema: Schema, known: set[str], *, own_names: bool) -> Any:
    form: Json = {"type": _AVRO_TYPES.get(schema.type, schema.type)}
    if schema.items is not None:
        form["items"] = _as_avro(schema.items, known, own_names=own_names)
    if schema.name == DECIMAL:
        told = dict(schema.parameters)
        form |= {"scale": int(told["scale"]), "precision": int(told.get("connect.decimal.precision", _ANY_PRECISION))}
    if schema.type == "int16":
        form[CONNECT_TYPE] = "int16"
    if schema.version is not None:
        form["connect.version"] = schema.version
    if schema.parameters:
        form["connect.parameters"] = dict(schema.parameters)
    if schema.default is not None:
        form["connect.default"] = schema.default
    if schema.name is not None:
        form[CONNECT_NAME] = schema.name
    if schema.name == DECIMAL:
        form["logicalType"] = "decimal"
    return form["type"] if len(form) == 1 else form


def _avro_record(schema: Schema, known: set[str], *, own_names: bool) -> Any:
    assert schema.name is not None
    name = avro_full_name(schema.name)
    if name in known:
        return name
    known.add(name)
    space, _, short = name.rpartition(".")
    form: Json = {"type": "record", "name": short, "namespace": space, "fields": []}
    for field, of in schema.fields:
        adjusted = avro_name(field)
        member: Json = {"name": adjusted, "type": _as_avro(of, known, own_names=own_names)}
        if of.optional:
            member["default"] = of.default
        if own_names and adjusted != field:
            member[OWN_NAME] = field
        form["fields"].append(member)
    if schema.version is not None:
        form["connect.version"] = schema.version
    form[CONNECT_NAME] = name
    return form
