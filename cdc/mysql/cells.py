"""The binary forms of values in a row of the binary log → source text (`values`), one rule a column. Pure.

In: the bytes of one value, cut out by the column's `Cell`. Out: its source text. Refuses: a type that is not carried,
bytes that a value cannot have, by `ValueError`.

    integers    little-endian            decimal    groups of nine digits, big-endian, first bit flipped, negatives
    date        3 bytes, bit fields                 inverted
    time        3 bytes from 0x800000, then the fraction, both big-endian
    datetime    5 bytes, bit fields, then the fraction     timestamp  seconds since 1970, then the fraction
    enum, set   number of the label, bits of the labels    bit        big-endian
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from itertools import groupby
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from cdc.mysql.values import double_text

Text = Callable[[bytes], bytes]

_f32 = Struct("<f").unpack
_f64 = Struct("<d").unpack
_EPOCH = date(1970, 1, 1)
DATETIME_ZERO = 0x8000000000
TIME_ZERO = 0x800000


class Cell(NamedTuple):
    """How a column's bytes are cut out and read: `size` bytes, or as many as a number of `prefix` bytes says."""

    size: int
    prefix: int
    text: Text


def fixed(size: int, text: Text) -> Cell:
    return Cell(size, 0, text)


def counted(prefix: int, text: Text) -> Cell:
    return Cell(0, prefix, text)


# -- numbers ----------------------------------------------------------------------------------------------------
def integer(size: int, *, signed: bool) -> Cell:
    return fixed(size, lambda raw: b"%d" % int.from_bytes(raw, "little", signed=signed))


def bit(size: int) -> Cell:
    return fixed(size, lambda raw: b"%d" % int.from_bytes(raw, "big"))


def year() -> Cell:
    return fixed(1, lambda raw: b"%04d" % (raw[0] and 1900 + raw[0]))


def real32() -> Cell:
    return fixed(4, lambda raw: double_text(_f32(raw)[0]).encode())


def real64() -> Cell:
    return fixed(8, lambda raw: double_text(_f64(raw)[0]).encode())


_GROUP_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""Bytes that so many decimal digits take."""


class Group(NamedTuple):
    """Some digits of a decimal: as a number they are `value >> shift & mask`."""

    digits: int
    shift: int
    mask: int


def decimal_groups(precision: int, scale: int) -> tuple[list[Group], list[Group]]:
    """Before the point (the short group first) and behind it (the short group last)."""
    if not 0 <= scale <= precision <= 65 or precision == 0:
        raise ValueError(f"decimal({precision},{scale})")
    before, after = precision - scale, scale
    sizes = [before % 9] * (before % 9 > 0) + [9] * (before // 9) + [9] * (after // 9) + [after % 9] * (after % 9 > 0)
    groups: list[Group] = []
    shift = 8 * sum(_GROUP_BYTES[digits] for digits in sizes)
    for digits in sizes:
        shift -= 8 * _GROUP_BYTES[digits]
        groups.append(Group(digits, shift, (1 << 8 * _GROUP_BYTES[digits]) - 1))
    whole = (before + 8) // 9
    return groups[:whole], groups[whole:]


def decimal_size(precision: int, scale: int) -> int:
    return sum(_GROUP_BYTES[digits] for part in decimal_groups(precision, scale) for digits, _, _ in part)


def decimal_text(precision: int, scale: int) -> Text:
    before, after = decimal_groups(precision, scale)
    half = 1 << (8 * decimal_size(precision, scale) - 1)
    pattern = b"%b%d" + (b"." + b"".join(b"%%0%dd" % group.digits for group in after) if after else b"")

    def text(raw: bytes) -> bytes:
        stored = int.from_bytes(raw, "big")
        value = stored - half if stored >= half else half - 1 - stored
        whole = 0
        for digits, shift, mask in before:
            whole = whole * 10**digits + (value >> shift & mask)
        # MySQL has no negative zero.
        sign = b"-" if stored < half and value else b""
        return pattern % (sign, whole, *[value >> shift & mask for _, shift, mask in after])

    return text


def decimal(precision: int, scale: int) -> Cell:
    return fixed(decimal_size(precision, scale), decimal_text(precision, scale))


# -- moments ----------------------------------------------------------------------------------------------------
def fraction_bytes(digits: int) -> int:
    if not 0 <= digits <= 6:
        raise ValueError(f"{digits} digits of a second")
    return (digits + 1) // 2


def _fraction(packed: int, size: int, digits: int) -> bytes:
    """The last `size` bytes hold two digits each; an odd number of digits leaves the last one out."""
    if not digits:
        return b""
    number = packed & (1 << 8 * size) - 1
    return b".%0*d" % (digits, number // 10 ** (2 * size - digits))


def clock_text(hms: int) -> bytes:
    return b"%02d:%02d:%02d" % (hms >> 12, hms >> 6 & 63, hms & 63)


def day_text(ymd: int) -> bytes:
    months, day = ymd >> 5, ymd & 31
    return b"%04d-%02d-%02d" % (months // 13, months % 13, day)


def date_text(raw: bytes) -> bytes:
    number = int.from_bytes(raw, "little")
    return b"%04d-%02d-%02d" % (number >> 9, number >> 5 & 15, number & 31)


def time_text(packed: int, size: int, digits: int) -> bytes:
    """`packed`: hours, minutes, seconds, then `size` bytes of fraction; negative as a whole."""
    sign, packed = (b"-", -packed) if packed < 0 else (b"", packed)
    return sign + clock_text(packed >> 8 * size) + _fraction(packed, size, digits)


def datetime_text(packed: int, size: int, digits: int) -> bytes:
    clock = packed >> 8 * size
    return b"%b %b%b" % (day_text(clock >> 17), clock_text(clock & 0x1FFFF), _fraction(packed, size, digits))


@lru_cache(maxsize=4096)
def epoch_day_text(days: int) -> bytes:
    return (_EPOCH + timedelta(days)).isoformat().encode()


def second_text(second: int) -> bytes:
    """Of a day."""
    return b"%02d:%02d:%02d" % (second // 3600, second // 60 % 60, second % 60)


def timestamp_text(packed: int, size: int, digits: int) -> bytes:
    """In UTC. Second 0 is the zero date: no real timestamp has it."""
    seconds = packed >> 8 * size
    if not seconds:
        return b"0000-00-00 00:00:00" + _fraction(packed, size, digits)
    days, second = divmod(seconds, 86400)
    return b"%b %b%b" % (epoch_day_text(days), second_text(second), _fraction(packed, size, digits))


def time(digits: int) -> Cell:
    size = fraction_bytes(digits)
    zero = TIME_ZERO << 8 * size
    return fixed(3 + size, lambda raw: time_text(int.from_bytes(raw, "big") - zero, size, digits))


def datetime(digits: int) -> Cell:
    size = fraction_bytes(digits)
    zero = DATETIME_ZERO << 8 * size

    def text(raw: bytes) -> bytes:
        packed = int.from_bytes(raw, "big") - zero
        if packed < 0:
            raise ValueError("a datetime before year 0")
        return datetime_text(packed, size, digits)

    return fixed(5 + size, text)


def timestamp(digits: int) -> Cell:
    size = fraction_bytes(digits)
    return fixed(4 + size, lambda raw: timestamp_text(int.from_bytes(raw, "big"), size, digits))


# -- labels and bytes -------------------------------------------------------------------------------------------
def enum_label(labels: Sequence[bytes], number: int) -> bytes:
    """Number 0 is the empty text of a value that was none of the labels."""
    if number > len(labels):
        raise ValueError(f"label {number} of {len(labels)}")
    return labels[number - 1] if number else b""


def set_labels(labels: Sequence[bytes], bits: int) -> bytes:
    if bits >> len(labels):
        raise ValueError(f"bits {bits:#x} of {len(labels)} labels")
    return b",".join(label for at, label in enumerate(labels) if bits >> at & 1)


def enum(size: int, labels: Sequence[bytes]) -> Cell:
    return fixed(size, lambda raw: enum_label(labels, int.from_bytes(raw, "little")))


def set_(size: int, labels: Sequence[bytes]) -> Cell:
    return fixed(size, lambda raw: set_labels(labels, int.from_bytes(raw, "little")))


def hex_text(raw: bytes) -> bytes:
    return raw.hex().encode()


def padded_hex(size: int) -> Text:
    """The log leaves out trailing zeros of binary(n)."""
    return lambda raw: raw.ljust(size, b"\0").hex().encode()


# -- MariaDB's addresses and UUIDs: their zeros at the end are left out too --------------------------------------
def uuid_text(raw: bytes) -> bytes:
    return str(UUID(bytes=raw.ljust(16, b"\0"))).encode()


def inet4_text(raw: bytes) -> bytes:
    return b"%d.%d.%d.%d" % (*raw.ljust(4, b"\0"),)


def inet6_text(raw: bytes) -> bytes:
    """The first of the longest runs of zeros is left out, even a single one; an IPv4 address inside stays one."""
    raw = raw.ljust(16, b"\0")
    words = [b"%x" % int.from_bytes(raw[at : at + 2], "big") for at in range(0, 16, 2)]
    runs = [len(list(same)) if word == b"0" else -1 for word, same in groupby(words)]
    size = max(runs, default=0)
    at = 0
    for word, same in groupby(words):
        length = len(list(same))
        if word == b"0" and length == size:
            break
        at += length
    mapped = at == 0 and (size == 6 or (size == 5 and words[5] == b"ffff"))
    if mapped:
        return (b"::ffff:" if size == 5 else b"::") + inet4_text(raw[12:])
    if size < 1:
        return b":".join(words)
    return b":".join(words[:at]) + b"::" + b":".join(words[at + size :])
