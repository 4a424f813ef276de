"""Values in Avro's binary form, by rules compiled per schema. Pure.

In: values as `connect` has them. Out: Avro 1.11 binary. Refuses: an int beyond 32 bits, a long beyond 64, None where
the schema has no null, by `ValueError` or `TypeError`; what a rule is given that is no value of its schema, as Python
does.

    int, long     zigzag, then seven bits a byte, the lowest first        float, double   IEEE 754, little-endian
    string, bytes length, then the bytes                                   boolean         one byte
    array         count, the items, 0                                     union           number of the branch, value
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from cdc.connect import Schema

Writer = Callable[[Any], bytes]

NULL = b"\x00"
THERE = b"\x02"
"""The branch of `["null", T]` that has a value."""
_LAST = tuple(bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1 << 14))
_MORE = tuple(bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14))
"""Fourteen bits of a number that ends with them, or goes on."""
_float, _double = Struct("<f").pack, Struct("<d").pack


def long(value: int) -> bytes:
    """Of 64 bits."""
    n = value << 1 if value >= 0 else ~(value << 1)
    if n < 0x4000:
        return _LAST[n]
    if n < 0x10000000:
        return _MORE[n & 0x3FFF] + _LAST[n >> 14]
    if n < 0x40000000000:
        return _MORE[n & 0x3FFF] + _MORE[n >> 14 & 0x3FFF] + _LAST[n >> 28]
    if n >> 64:
        raise ValueError(f"{value} has more than 64 bits")
    head = _MORE[n & 0x3FFF] + _MORE[n >> 14 & 0x3FFF] + _MORE[n >> 28 & 0x3FFF]
    n >>= 42
    return head + (_LAST[n] if n < 0x4000 else _MORE[n & 0x3FFF] + _LAST[n >> 14])


def integer(value: int) -> bytes:
    """Of 32 bits."""
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError(f"{value} has more than 32 bits")
    return long(value)


def sized(value: bytes) -> bytes:
    """A string or bytes."""
    return long(len(value)) + value


def boolean(value: bool) -> bytes:  # noqa: FBT001 - it is the value
    return b"\x01" if value else b"\x00"


_PLAIN: dict[str, Writer] = {
    "int16": integer,
    "int32": integer,
    "int64": long,
    "float": _float,
    "double": _double,
    "boolean": boolean,
    "string": sized,
    "bytes": sized,
}


def writer(schema: Schema) -> Writer:
    """The rule for values under a schema; NULL is the optional schema's own."""
    write = _writer(schema)
    if not schema.optional:
        return write
    null, there = branches(schema)
    return lambda value: null if value is None else there + write(value)


def branches(schema: Schema) -> tuple[bytes, bytes]:
    """Of an optional schema: NULL, and what stands before a value."""
    return (NULL, THERE) if schema.default is None else (THERE, NULL)


def _writer(schema: Schema) -> Writer:
    if schema.type == "array":
        assert schema.items is not None
        item = writer(schema.items)
        return lambda values: long(len(values)) + b"".join(map(item, values)) + NULL if values else NULL
    if schema.type == "struct":
        fields = [writer(of) for _, of in schema.fields]
        return lambda values: b"".join(write(value) for write, value in zip(fields, values, strict=True))
    return _PLAIN[schema.type]
