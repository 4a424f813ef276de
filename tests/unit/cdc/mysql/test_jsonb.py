"""Binary JSON built by hand: small and large forms, limits, and bytes that the format does not allow."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.mysql.jsonb import json_text
from cdc.mysql.values import double_text

Json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\"\n\x01é", max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def length(size: int) -> bytes:
    packed = b""
    while size > 0x7F:
        packed += bytes([size & 0x7F | 0x80])
        size >>= 7
    return packed + bytes([size])


def scalar(value: Any) -> tuple[int, bytes]:
    """Type byte and bytes of a value without members."""
    if value is None or isinstance(value, bool):
        return 4, {None: b"\0", True: b"\1", False: b"\2"}[value]
    if isinstance(value, float):
        return 11, struct.pack("<d", value)
    if isinstance(value, str):
        return 12, length(len(value.encode())) + value.encode()
    for kind, code, low, high in [
        (5, "<h", -(2**15), 2**15), (6, "<H", 0, 2**16), (7, "<i", -(2**31), 2**31), (8, "<I", 0, 2**32),
        (9, "<q", -(2**63), 2**63), (10, "<Q", 0, 2**64),
    ]:  # fmt: skip
        if low <= value < high:
            return kind, struct.pack(code, value)
    raise AssertionError(value)


def pack(value: Any, *, large: bool) -> tuple[int, bytes]:
    """Type byte and bytes, in the small or the large form."""
    if not isinstance(value, list | dict):
        return scalar(value)
    width, offset = (4, "<I") if large else (2, "<H")
    keys = [key.encode() for key in value] if isinstance(value, dict) else []
    values = list(value.values()) if isinstance(value, dict) else value
    place = 2 * width + len(keys) * (width + 2) + len(values) * (width + 1)
    entries, members, tail = b"", b"", b""
    for key in keys:
        entries += struct.pack(offset, place + len(tail)) + struct.pack("<H", len(key))
        tail += key
    for kind, packed in [pack(member, large=large) for member in values]:
        if kind in (4, 5, 6) or (large and kind in (7, 8)):
            members += bytes([kind]) + packed.ljust(width, b"\0")
        else:
            members += bytes([kind]) + struct.pack(offset, place + len(tail))
            tail += packed
    head = struct.pack(offset, len(values)) + struct.pack(offset, place + len(tail))
    return (0 if isinstance(value, dict) else 2) + large, head + entries + members + tail


def printed(value: Any) -> str:
    """As the server prints it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        text = double_text(value)
        return text if "." in text or "e" in text else text + ".0"
    if isinstance(value, str):
        short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
        return '"' + "".join(short.get(c, f"\\u{ord(c):04x}" if c < " " else c) for c in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(printed, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{printed(key)}: {printed(member)}" for key, member in value.items()) + "}"
    return str(value)


@settings(deadline=None)
@given(Json, st.booleans())
def test_any_value(value: Any, large: bool) -> None:  # noqa: FBT001 - drawn
    kind, packed = pack(value, large=large)
    assert json_text(bytes([kind]) + packed).decode() == printed(value)


def test_no_bytes_are_null() -> None:
    assert json_text(b"") == b"null"


@settings(deadline=None)
@given(Json, st.booleans(), st.data())
def test_any_bytes_are_read_or_refused(value: Any, large: bool, data: st.DataObject) -> None:  # noqa: FBT001 - drawn
    kind, packed = pack(value, large=large)
    altered = bytearray(bytes([kind]) + packed)
    for at in data.draw(st.lists(st.integers(0, len(altered) - 1), max_size=3)):
        altered[at] = data.draw(st.integers(0, 255))
    cut = bytes(altered[: data.draw(st.integers(1, len(altered)))])
    try:
        json_text(cut)
    except ValueError as error:
        refused = str(error)
    else:
        return
    assert refused


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_cut_opaque_values_are_refused(data: bytes) -> None:
    for kind in (246, 10, 11, 12, 7, 252):
        try:
            json_text(b"\x0f" + bytes([kind]) + length(len(data)) + data)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x0c\x05abc", "ends too early"),
        (b"\x0c\xff\xff\xff\xff\xff\x01", "more than five bytes"),
        (b"\x02\x01\x00\xff\x00\x0c\x07\x00", "ends too early"),
        (b"\x04\x03", "does not allow"),
        (b"\x0d", "does not allow"),
        (b"\x0c\x01\xff", "does not allow"),
        (b"\x0f\xf6\x01\x01", "ends too early"),
        (b"\x0f\xf6\x03\x01\x02\x00", "decimal"),
        (b"\x0f\xf6\x03\x09\x00\x00", "decimal"),
        (b"\x0b\x00", "ends too early"),
        (b"\x02" + b"\x01\x00\x07\x00\x02\x00\x00", "nested too deep"),
    ],
)
def test_what_the_format_does_not_allow(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        json_text(data)


def test_a_hundred_levels() -> None:
    value: Any = 1
    for _ in range(100):
        value = [value]
    kind, packed = pack(value, large=False)
    assert json_text(bytes([kind]) + packed) == b"[" * 100 + b"1" + b"]" * 100
