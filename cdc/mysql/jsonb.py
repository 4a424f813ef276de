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
from collections.abc import Callable
from itertools import accumulate
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct calls its exception like a module

import orjson

from cdc.mysql.cells import datetime_text, decimal_size, decimal_text, time_text
from cdc.mysql.values import double_text

Write = Callable[[bytes, int], bytes]

_MAX_DEPTH = 100
_FEW = 64
"""Members of what has a writer of its own."""
_FORMS = 4096
_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = range(5)
_OBJECTS, _LARGE = frozenset({_SMALL_OBJECT, _LARGE_OBJECT}), frozenset({_LARGE_OBJECT, _LARGE_ARRAY})
_STRING, _OPAQUE, _DOUBLE = 0x0C, 0x0F, 0x0B
_LITERALS = {0: b"null", 1: b"true", 2: b"false"}
_NUMBERS = {5: Struct("<h"), 6: Struct("<H"), 7: Struct("<i"), 8: Struct("<I"), 9: Struct("<q"), 10: Struct("<Q")}
_INLINE_NUMBERS = (5, 6)
_INLINE = {False: (_LITERAL, *_INLINE_NUMBERS), True: (_LITERAL, *_INLINE_NUMBERS, 7, 8)}
_CODES = {_LITERAL: "xBx", 5: "xh", 6: "xH"}
"""How the entry of a member is cut; those of others hold an offset."""
_EXPRESSIONS = {_LITERAL: "literals[{v}]", 5: "{v}", 6: "{v}", _STRING: "string(data, {v})"}
_f64 = Struct("<d").unpack_from
_i64 = Struct("<q").unpack_from
_U16S = Struct("<HH").unpack_from
_HEAD = {False: Struct("<HH"), True: Struct("<II")}
_KEY = {False: Struct("<HH"), True: Struct("<IH")}
_OFFSET = {False: Struct("<H"), True: Struct("<I")}
_writers: dict[tuple[bytes, bytes, bytes], Write] = {}
_dumps = orjson.dumps

_NEWDECIMAL, _DATE, _TIME, _DATETIME, _TIMESTAMP = 246, 10, 11, 12, 7


def json_text(data: bytes) -> bytes:
    """The text of a whole value. No bytes at all are the null of JSON."""
    if not data:
        return b"null"
    try:
        return _value(data[0], data, 1, 0)
    except (StructError, IndexError):
        raise ValueError("JSON that ends too early") from None
    except (KeyError, UnicodeError):
        raise ValueError("JSON with bytes that its format does not allow") from None


def _value(kind: int, data: bytes, at: int, depth: int) -> bytes:
    if kind == _STRING:
        return _string(data, at)
    if kind <= _LARGE_ARRAY:
        return _container(kind, data, at, depth)
    if kind == _LITERAL:
        return _LITERALS[data[at]]
    if kind == _DOUBLE:
        text = double_text(_f64(data, at)[0])
        return (text if "." in text or "e" in text else f"{text}.0").encode()
    if kind == _OPAQUE:
        size, start = _length(data, at + 1)
        return _opaque(data[at], _take(data, start, size))
    return b"%d" % _NUMBERS[kind].unpack_from(data, at)[0]


def _string(data: bytes, at: int) -> bytes:
    size = data[at]
    at += 1
    if size >= 0x80:
        size, at = _length(data, at - 1)
    text = data[at : at + size]
    if len(text) != size:
        raise ValueError("JSON that ends too early")
    # It escapes what the server does, and as the server does.
    return _dumps(text.decode())


# -- objects and arrays -----------------------------------------------------------------------------------------
def _container(kind: int, data: bytes, at: int, depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise ValueError("JSON that is nested too deep")
    head = _HEAD[kind in _LARGE]
    count, size = head.unpack_from(data, at)
    data = _take(data, at, size)
    if kind in _LARGE or not 0 < count <= _FEW:
        return _members(kind, count, data, depth)
    # What such values have in common: where their keys stand, the keys, the types of their members.
    entries = 4 + 4 * count if kind == _SMALL_OBJECT else 4
    types = data[entries : entries + 3 * count : 3]
    if kind == _SMALL_OBJECT:
        last, length = _U16S(data, entries - 4)
        form = types, data[4:entries], data[entries + 3 * count : last + length]
    else:
        form = types, b"", b""
    write = _writers.get(form)
    if write is None:
        if len(types) != count:
            raise ValueError("JSON that ends too early")
        places = _key_places(kind, count, data)
        *starts, _ = accumulate((length for _, length in places), initial=entries + 3 * count)
        if [start for start, _ in places] != starts:
            # Keys that stand elsewhere than with the server: the form does not hold them all.
            return _members(kind, count, data, depth)
        if len(_writers) >= _FORMS:
            _writers.clear()
        write = _writers[form] = _writer(types, entries, _keys(kind, count, data))
    return write(data, depth + 1)


def _key_places(kind: int, count: int, data: bytes) -> list[tuple[int, int]]:
    """Offset and length of each."""
    if kind not in _OBJECTS:
        return []
    head, key = _HEAD[kind in _LARGE].size, _KEY[kind in _LARGE]
    return [key.unpack_from(data, head + at * key.size) for at in range(count)]


def _keys(kind: int, count: int, data: bytes) -> list[bytes]:
    return [_dumps(_take(data, start, length).decode()) for start, length in _key_places(kind, count, data)]


def _members(kind: int, count: int, data: bytes, depth: int) -> bytes:
    """One by one: many of them, or large ones."""
    large = kind in _LARGE
    inline, offset, keys = _INLINE[large], _OFFSET[large], _keys(kind, count, data)
    entry = _HEAD[large].size + (count * _KEY[large].size if kind in _OBJECTS else 0)
    parts = []
    for _ in range(count):
        member = data[entry]
        place = entry + 1 if member in inline else offset.unpack_from(data, entry + 1)[0]
        parts.append(_value(member, data, place, depth + 1))
        entry += 1 + offset.size
    if kind in _OBJECTS:
        return b"{" + b", ".join([b"%b: %b" % pair for pair in zip(keys, parts, strict=True)]) + b"}"
    return b"[" + b", ".join(parts) + b"]"


def _writer(types: bytes, entries: int, keys: list[bytes]) -> Write:
    """Values that differ in nothing but their members: one struct cuts those out, one template takes them.

    Only positions and numbers enter the code (docs/adr/0003).
    """
    expressions = [_EXPRESSIONS.get(kind, f"value({kind}, data, {{v}}, depth)") for kind in types]
    places = [b"%d" if kind in _INLINE_NUMBERS else b"%b" for kind in types]
    if keys:
        members = [b"%b: %b" % (key.replace(b"%", b"%%"), place) for key, place in zip(keys, places, strict=True)]
        template = b"{" + b", ".join(members) + b"}"
    else:
        template = b"[" + b", ".join(places) + b"]"
    cut = Struct("<" + "".join(_CODES.get(kind, "xH") for kind in types))
    scope = {"cut": cut.unpack_from, "template": template, "value": _value, "string": _string, "literals": _LITERALS}
    names = "".join(f"v{at}," for at in range(len(types)))
    values = "".join(expression.format(v=f"v{at}") + "," for at, expression in enumerate(expressions))
    body = f"def write(data, depth):\n ({names}) = cut(data, {entries})\n return template % ({values})"
    exec(compile(body, "<JSON writer>", "exec"), scope)  # noqa: S102 - the text is made of numbers alone
    write: Write = scope["write"]  # type: ignore[assignment]
    return write


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


def _opaque(kind: int, data: bytes) -> bytes:
    if kind == _NEWDECIMAL:
        precision, scale, digits = data[0], data[1], data[2:]
        if len(digits) != decimal_size(precision, scale):
            raise ValueError(f"JSON with {len(digits)} bytes of a decimal({precision},{scale})")
        return decimal_text(precision, scale)(digits)
    if kind in (_DATETIME, _TIMESTAMP, _DATE, _TIME):
        packed = _i64(data, 0)[0]
        if kind == _TIME:
            return b'"%b"' % time_text(packed, 3, 6)
        text = datetime_text(packed, 3, 6)
        return b'"%b"' % (text[:10] if kind == _DATE else text)
    return b'"base64:type%d:%b"' % (kind, b64encode(data))
