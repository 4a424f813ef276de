"""MySQL's binary JSON → the text that the server prints for it. Pure.

In: the bytes of a JSON value as rows of the binary log carry them. Out: its text in UTF-8, members in stored order.
Refuses: bytes that the format does not allow, by `ValueError`.

    value   type byte, then: object | array | literal | number, little-endian | string | opaque
    object  count, size, per member (key offset, key length), per member (type, value or offset), keys, values
    array   count, size, per element (type, value or offset), values
    opaque  field type byte, length, bytes: decimals, moments, and whatever JSON has no type for

Counts, sizes and offsets have two bytes, in large objects and arrays four; offsets count from `count`. Numbers that fit
where an offset would stand stand there.
"""

from __future__ import annotations

from base64 import b64encode
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct calls its exception like a module

from cdc.mysql.cells import datetime_text, decimal_size, decimal_text, time_text
from cdc.mysql.values import double_text

_MAX_DEPTH = 100
_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = range(5)
_STRING, _OPAQUE, _DOUBLE = 0x0C, 0x0F, 0x0B
_LITERALS = {0: "null", 1: "true", 2: "false"}
_NUMBERS = {5: Struct("<h"), 6: Struct("<H"), 7: Struct("<i"), 8: Struct("<I"), 9: Struct("<q"), 10: Struct("<Q")}
_INLINE = {False: (_LITERAL, 5, 6), True: (_LITERAL, 5, 6, 7, 8)}
_f64 = Struct("<d").unpack_from
_i64 = Struct("<q").unpack_from
_HEAD = {False: Struct("<HH"), True: Struct("<II")}
_KEY = {False: Struct("<HH"), True: Struct("<IH")}
_OFFSET = {False: Struct("<H"), True: Struct("<I")}

_NEWDECIMAL, _DATE, _TIME, _DATETIME, _TIMESTAMP = 246, 10, 11, 12, 7
# Nothing but these is escaped.
_ESCAPES = {number: f"\\u{number:04x}" for number in range(32)} | {
    ord(raw): text
    for raw, text in zip('"\\\b\f\n\r\t', ('\\"', "\\\\", "\\b", "\\f", "\\n", "\\r", "\\t"), strict=True)
}


def json_text(data: bytes) -> bytes:
    """The text of a whole value. No bytes at all are the null of JSON."""
    if not data:
        return b"null"
    try:
        return _value(data[0], data, 1, 0).encode()
    except (StructError, IndexError):
        raise ValueError("JSON that ends too early") from None
    except (KeyError, UnicodeError):
        raise ValueError("JSON with bytes that its format does not allow") from None


def _value(kind: int, data: bytes, at: int, depth: int) -> str:
    if kind == _STRING:
        size, at = _length(data, at)
        return _quoted(_take(data, at, size))
    if kind <= _LARGE_ARRAY:
        return _container(kind, data, at, depth)
    if kind == _LITERAL:
        return _LITERALS[data[at]]
    if kind == _DOUBLE:
        text = double_text(_f64(data, at)[0])
        return text if "." in text or "e" in text else f"{text}.0"
    if kind == _OPAQUE:
        size, start = _length(data, at + 1)
        return _opaque(data[at], _take(data, start, size))
    return str(_NUMBERS[kind].unpack_from(data, at)[0])


def _container(kind: int, data: bytes, at: int, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise ValueError("JSON that is nested too deep")
    large, has_keys = kind in (_LARGE_OBJECT, _LARGE_ARRAY), kind in (_SMALL_OBJECT, _LARGE_OBJECT)
    head, key, offset, inline = _HEAD[large], _KEY[large], _OFFSET[large], _INLINE[large]
    count, size = head.unpack_from(data, at)
    data = _take(data, at, size)
    entry = head.size
    keys = []
    if has_keys:
        for _ in range(count):
            start, length = key.unpack_from(data, entry)
            keys.append(_quoted(_take(data, start, length)))
            entry += key.size
    parts = []
    for _ in range(count):
        member = data[entry]
        place = entry + 1 if member in inline else offset.unpack_from(data, entry + 1)[0]
        parts.append(_value(member, data, place, depth + 1))
        entry += 1 + offset.size
    if has_keys:
        return "{" + ", ".join(f"{name}: {part}" for name, part in zip(keys, parts, strict=True)) + "}"
    return "[" + ", ".join(parts) + "]"


def _quoted(text: bytes) -> str:
    return '"' + text.decode().translate(_ESCAPES) + '"'


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; and the offset behind it."""
    size = 0
    for shift in range(0, 35, 7):
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size, at
    raise ValueError("JSON with a length of more than five bytes")


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("JSON that ends too early")
    return data[at : at + size]


def _opaque(kind: int, data: bytes) -> str:
    if kind == _NEWDECIMAL:
        precision, scale, digits = data[0], data[1], data[2:]
        if len(digits) != decimal_size(precision, scale):
            raise ValueError(f"JSON with {len(digits)} bytes of a decimal({precision},{scale})")
        return decimal_text(precision, scale)(digits).decode()
    if kind in (_DATETIME, _TIMESTAMP, _DATE, _TIME):
        packed = _i64(data, 0)[0]
        if kind == _TIME:
            return f'"{time_text(packed, 3, 6).decode()}"'
        text = datetime_text(packed, 3, 6).decode()
        return f'"{text[:10] if kind == _DATE else text}"'
    return f'"base64:type{kind}:{b64encode(data).decode()}"'
