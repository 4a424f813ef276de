"""The bytes of a record → its value as parsed JSON, whichever form it was written in. Pure, but for the registry.

In: a record's value or key: plain JSON, Connect's JSON with its schema, or Avro in Confluent's wire format (a zero
byte, the schema's id in the registry, the body). Out: dicts, lists, texts and numbers as the JSON form has them: bytes
as base64, numbers that are none as "NaN", "Infinity", "-Infinity", and columns by their own names. Beside it, where one
asks, the schema: its text of Connect's JSON or its id, and the schema itself.
Refuses: what is none of these, by `ValueError`; Avro where no registry is configured (REGISTRY_MISSING), and what the
registry refuses.
"""

from __future__ import annotations

import io
import math
import struct
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from typing import Any

import fastavro
import orjson

from cdc.connect import OWN_NAME, SCHEMA_ID, halfways, single
from cdc.errors import REGISTRY_MISSING, CdcError

Json = Any
SchemaOf = Callable[[int], Any]
"""A schema by its id: the registry's."""
Fix = Callable[[Any], Any]

_MAGIC = 0
_HEAD = 5
_WITH_SCHEMA = b'{"schema":'
_PAYLOAD = b',"payload":'


class Decoder:
    """Decodes for one reader; what it learned of Avro's schemas is kept."""

    def __init__(self, schema_of: SchemaOf | None = None) -> None:
        self._schema_of = schema_of
        self._avro: dict[int, tuple[Any, Fix | None, str | None]] = {}

    def value(self, data: bytes, topic: str) -> Json:
        """The value alone."""
        if data[:1] == b"{":
            return orjson.loads(data) if data[: len(_WITH_SCHEMA)] != _WITH_SCHEMA else orjson.loads(parts(data)[1])
        return self._read(data, topic)

    def schema(self, data: bytes) -> tuple[bytes | int, Any] | None:
        """What describes the value: the text of its schema or its id; None for plain JSON."""
        if data[:1] != b"{":
            number = int.from_bytes(data[1:_HEAD], "big")
            assert self._schema_of, "the value was read by it"
            return number, self._schema_of(number)
        if data[: len(_WITH_SCHEMA)] != _WITH_SCHEMA:
            return None
        text, _ = parts(data)
        return text, orjson.loads(text)

    def _read(self, data: bytes, topic: str) -> Json:
        if len(data) < _HEAD or data[0] != _MAGIC:
            raise ValueError("neither JSON nor Avro in Confluent's wire format")
        number = int.from_bytes(data[1:_HEAD], "big")
        known = self._avro.get(number)
        if known is None:
            if self._schema_of is None:
                raise CdcError(REGISTRY_MISSING, topic=topic)
            schema = plain(self._schema_of(number))
            shape = schema.get(SCHEMA_ID) if isinstance(schema, dict) else None
            known = self._avro[number] = fastavro.parse_schema(schema), fix(schema, {}), shape
        parsed, mend, shape = known
        body = io.BytesIO(data)
        body.seek(_HEAD)
        try:
            value: Any = fastavro.schemaless_reader(body, parsed, None)
        except (EOFError, IndexError, UnicodeDecodeError, struct.error, OverflowError) as error:
            raise ValueError(f"no value of the schema of id {number}: {error!r}") from None
        if body.tell() != len(data):
            raise ValueError(f"{len(data) - body.tell()} bytes behind the value of the schema of id {number}")
        if shape is not None:
            self._refuse_other_shape(value, shape, number)
        return mend(value) if mend else value

    def _refuse_other_shape(self, value: Any, shape: str, number: int) -> None:
        if value["source"]["schema_id"] != shape:
            raise ValueError(
                f"the registry's schema of id {number} is that of shape {shape}, and the event was written under "
                "another: it gives other schemas for its ids than when this was written"
            )


def parts(data: bytes) -> tuple[bytes, bytes]:
    """Schema and payload of a record of Connect's JSON converter, which writes no blanks."""
    at = data.find(b"}" + _PAYLOAD, len(_WITH_SCHEMA))
    if at < 0:
        raise ValueError("a schema without a payload")
    return data[len(_WITH_SCHEMA) : at + 1], data[at + 1 + len(_PAYLOAD) : -1]


def plain(schema: Any) -> Any:
    """Without Avro's logical types: a decimal stays the bytes that Connect made of it."""
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: [{**field, "type": plain(field["type"])} for field in value]
        if name == "fields"
        else plain(value)
        if name in ("type", "items")
        else value
        for name, value in schema.items()
        if name not in ("logicalType", "scale", "precision")
    }


# -- Avro's values as those of JSON -----------------------------------------------------------------------------
def _bytes(value: bytes) -> str:
    return b2a_base64(value, newline=False).decode()


def _double(value: float) -> float | str:
    return value if not value - value else _NO_NUMBERS[str(value)]


def _float(value: float) -> float | str:
    """The shortest digits of a single, as servers have them: never halfway to the next one."""
    if value - value:
        return _NO_NUMBERS[str(value)]
    size = abs(value)
    (number,) = _BITS.unpack(_SINGLE.pack(size))
    # Six digits are always kept, but for the smallest of all: those have fewer.
    texts = _texts(size, 1 if size < _NORMAL else 6, power_of_two=not number & _MANTISSA)
    if size < _HALFWAY:
        shortest = float(next(text for text in texts if single(text) == size))
    else:
        below, above = (_SINGLE.unpack(_BITS.pack(next_to))[0] for next_to in (number - 1, number + 1))
        low, high = halfways(size, below, above)
        shortest = float(next(text for text in texts if low < Fraction(text) < high))
    return math.copysign(shortest, value)


def _texts(size: float, digits: int, *, power_of_two: bool) -> Iterator[str]:
    """Its nearest decimals, the shorter ones first. Above a power of two there is more room than below."""
    for precision in range(digits, 10):
        yield f"{size:.{precision}g}"
        if power_of_two:
            yield str(Context(precision, ROUND_CEILING).create_decimal(Decimal(size)))


_NORMAL = 2.0**-126
_HALFWAY = 2.0**24
"""Below, no decimal of nine digits lies halfway between two singles."""
_MANTISSA = 0x7F_FFFF
_BITS, _SINGLE = struct.Struct(">I"), struct.Struct(">f")
_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_PLAIN: dict[str, Fix | None] = {
    **dict.fromkeys(("null", "boolean", "int", "long", "string", "enum")),
    "float": _float,
    "double": _double,
    "bytes": _bytes,
}


def fix(schema: Any, known: dict[str, Fix | None], space: str = "") -> Fix | None:
    """What to do to the values of a schema; None if nothing."""
    if isinstance(schema, list):
        return _union(schema, known, space)
    if isinstance(schema, dict):
        kind = schema["type"]
        if kind == "record":
            return _record(schema, known, space)
        if kind == "array":
            item = fix(schema["items"], known, space)
            return None if item is None else lambda values: [item(value) for value in values]
        return fix(kind, known, space)
    if schema in _PLAIN:
        return _PLAIN[schema]
    for name in (schema, f"{space}.{schema}"):
        if name in known:
            return known[name]
    raise ValueError(f"Avro's type {schema!r} is none that events have")


def _union(branches: list[Any], known: dict[str, Fix | None], space: str) -> Fix | None:
    others = [branch for branch in branches if branch != "null"]
    if len(others) != 1:
        raise ValueError("a union of several types")
    of = fix(others[0], known, space)
    return None if of is None else lambda value: None if value is None else of(value)


def _record(schema: dict[str, Any], known: dict[str, Fix | None], space: str) -> Fix | None:
    space = schema.get("namespace", space)
    members = [(f["name"], f.get(OWN_NAME, f["name"]), fix(f["type"], known, space)) for f in schema["fields"]]
    changed = [(name, of) for name, _, of in members if of]

    def renamed(value: dict[str, Any]) -> dict[str, Any]:
        return {own: of(value[name]) if of else value[name] for name, own, of in members}

    def mended(value: dict[str, Any]) -> dict[str, Any]:
        for name, of in changed:
            value[name] = of(value[name])
        return value

    mend: Fix | None = mended if changed else None
    if any(own != name for name, own, _ in members):
        mend = renamed
    known[f"{space}.{schema['name']}" if space else schema["name"]] = mend
    return mend
