"""How the values of each column go from the binary log to an event: cut, read, written. Pure.

In: a column of a TABLE_MAP. Out: its `Kind`, for the code that `plan` writes out: straight to JSON in the exact profile
(`kind`), to every other format by its source text (`by_text`). Refuses: a type that is not carried, by `ValueError`.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from cdc.envelope import Encoder, Native, as_it_is
from cdc.mysql import cells
from cdc.mysql.charsets import BINARY, is_utf8, to_utf8
from cdc.mysql.jsonb import json_text
from cdc.mysql.tablemap import (
    BIT,
    BLOB,
    DATE,
    DATETIME2,
    DECIMAL,
    DOUBLE,
    ENUM,
    FLOAT,
    INET4,
    INET6,
    INT24,
    INTEGER_SIZES,
    JSON,
    SET,
    STRING,
    TIME2,
    TIMESTAMP2,
    UUID,
    VARCHAR,
    YEAR,
    MappedColumn,
    bit_size,
    cell,
    character_prefix,
    utf8_labels,
)
from cdc.mysql.values import float_json, on_calendar, unsigned_json

Rule = Callable[[Any], Any]
_CACHED = 20_000
_KEPT_JSON = 1 << 16
_dumps = orjson.dumps


class Kind(NamedTuple):
    """How one column is read and written.

    `code` cuts a value of fixed size out (struct); else `prefix` bytes say how long it is. `expression` makes of the
    cut `v` what `place` writes in a %-template; `rule` is bound to `e` in it.
    """

    code: str
    prefix: int
    expression: str
    place: bytes = b"%b"
    rule: Any = None


# -- rules: bytes → JSON --------------------------------------------------------------------------------------------
class _Days(dict[int, tuple[bytes, bytes]]):
    """Packed day → what stands before the time and behind it. A day of no calendar is written as the source has it."""

    def __missing__(self, ymd: int) -> tuple[bytes, bytes]:
        if ymd < 0:
            raise ValueError("a datetime before year 0")
        if len(self) > _CACHED:
            self.clear()
        text = cells.day_text(ymd)
        around = (b'"%bT' % text, b'Z"') if on_calendar(text) else (b'"%b ' % text, b'"')
        self[ymd] = around
        return around


class _Texts(dict[Any, bytes]):
    """The answers of a rule, kept."""

    def __init__(self, rule: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, raw: Any) -> bytes:
        if len(self) > _CACHED:
            self.clear()
        self[raw] = text = self._rule(raw)
        return text


def _date_json(raw: bytes) -> bytes:
    text = cells.date_text(raw)
    return b'"%bZ"' % text if on_calendar(text) else b'"%b"' % text


_days = _Days()
_dates = _Texts(_date_json)
_clocks = _Texts(cells.clock_text)
_epoch_days = _Texts(lambda days: b'"%bT' % cells.epoch_day_text(days))
_seconds = _Texts(cells.second_text)
_from = int.from_bytes


def _fraction(digits: int) -> tuple[int, int, bytes, int]:
    """Bits, mask and divisor of a second's fraction; the pattern of what stands around the time, that, and it."""
    bits = 8 * cells.fraction_bytes(digits)
    return bits, (1 << bits) - 1, b"%%b%%b.%%0%dd%%b" % digits, 10 ** (bits // 4 - digits)


def _datetime(digits: int) -> Rule:
    bits, mask, pattern, divisor = _fraction(digits)
    zero = cells.DATETIME_ZERO << bits

    def whole(raw: bytes) -> bytes:
        packed = _from(raw, "big") - zero
        before, behind = _days[packed >> 17]
        return before + _clocks[packed & 0x1FFFF] + behind

    def broken(raw: bytes) -> bytes:
        packed = _from(raw, "big") - zero
        before, behind = _days[packed >> bits + 17]
        return pattern % (before, _clocks[packed >> bits & 0x1FFFF], (packed & mask) // divisor, behind)

    return broken if digits else whole


def _timestamp(digits: int) -> Rule:
    bits, mask, pattern, divisor = _fraction(digits)

    def whole(raw: bytes) -> bytes:
        days, second = divmod(_from(raw, "big"), 86400)
        if not days and not second:
            return b'"0000-00-00 00:00:00"'
        return b'%b%bZ"' % (_epoch_days[days], _seconds[second])

    def broken(raw: bytes) -> bytes:
        packed = _from(raw, "big")
        days, second = divmod(packed >> bits, 86400)
        if not days and not second:
            return pattern % (b'"0000-00-00 ', b"00:00:00", (packed & mask) // divisor, b'"')
        return pattern % (_epoch_days[days], _seconds[second], (packed & mask) // divisor, b'Z"')

    return broken if digits else whole


# Whole seconds come again, in both images of an update and in rows of one time.
_datetimes, _timestamps = _Texts(_datetime(0)), _Texts(_timestamp(0))


def _time(digits: int) -> Rule:
    size = cells.fraction_bytes(digits)
    zero = cells.TIME_ZERO << 8 * size
    day = 24 << 12 + 8 * size

    def rule(raw: bytes) -> bytes:
        packed = _from(raw, "big") - zero
        text = cells.time_text(packed, size, digits)
        return b'"%bZ"' % text if 0 <= packed < day else b'"%b"' % text

    return rule


def _decimal(precision: int, scale: int) -> Rule:
    before, after = cells.decimal_groups(precision, scale)
    text = cells.decimal_text(precision, scale)
    if len(before) > 2 or len(after) > 1:
        return lambda raw: b'"%b"' % text(raw)
    # Nearly every decimal: no more than 18 digits before the point, nine behind it.
    half = 1 << (8 * cells.decimal_size(precision, scale) - 1)
    shift, mask = after[0].shift + after[0].mask.bit_length() if after else 0, after[0].mask if after else 0
    pattern = b'"%%d.%%0%dd"' % scale if scale else b'"%d"'

    def rule(raw: bytes) -> bytes:
        value = _from(raw, "big") - half
        if value < 0:
            return b'"%b"' % text(raw)
        return pattern % ((value >> shift, value & mask) if scale else value)

    def long(raw: bytes) -> bytes:
        value = _from(raw, "big") - half
        if value < 0:
            return b'"%b"' % text(raw)
        whole = value >> shift
        whole = (whole >> 32) * 10**9 + (whole & 0xFFFFFFFF)
        return pattern % ((whole, value & mask) if scale else whole)

    return long if len(before) > 1 else rule


def _bytes(raw: bytes) -> bytes:
    return b'"%b"' % b2a_base64(raw, newline=False)


def _binary(size: int) -> Rule:
    return lambda raw: _bytes(raw.ljust(size, b"\0"))


def _bits(raw: bytes) -> bytes:
    return _bytes(raw[::-1])


def _json() -> Rule:
    """The last one is kept: nearly every update leaves it as it was."""
    last, text = b"", _dumps("null")

    def rule(raw: bytes) -> bytes:
        nonlocal last, text
        if raw == last:
            return text
        made = _dumps(json_text(raw).decode())
        if len(raw) <= _KEPT_JSON:
            last, text = raw, made
        return made

    return rule


def _quoting(text: Callable[[bytes], bytes]) -> Rule:
    return lambda raw: b'"%b"' % text(raw)


def _label_json(labels: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(_dumps(label.decode()) for label in (b"", *labels))


def _set_json(labels: Sequence[bytes]) -> Rule:
    return lambda raw: _dumps(cells.set_labels(labels, _from(raw, "little")).decode())


# -- columns → kinds ------------------------------------------------------------------------------------------------
_INTEGER_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
_CALL, _LOOK_UP = "e(v)", "e[v]"


def kind(column: MappedColumn) -> Kind:
    """How the values of a column go to JSON; `ValueError` for one that is not carried."""
    size = cell(column).size
    if column.type in INTEGER_SIZES:
        return _integer(column, size)
    of_type = _KINDS.get(column.type)
    if of_type is None:
        rule = _RULES[column.type](column)
        return Kind(f"{size}s", 0, _LOOK_UP if isinstance(rule, _Texts) else _CALL, rule=rule)
    return of_type(column)


def by_text(column: MappedColumn, native: Native, encode: Encoder, write: Rule) -> Kind:
    """How they go to another format: by the text that a copy has too. Integers and UTF-8, nearly all, go straight."""
    if native is int and column.type in INTEGER_SIZES and column.type != INT24:
        code = _INTEGER_CODES[cell(column).size]
        return Kind(code.upper() if column.unsigned else code, 0, _CALL, rule=write)
    of = cell(column)
    text = of.text
    straight = (
        native is as_it_is and column.type in _CHARACTERS and column.charset is not None and is_utf8(column.charset)
    )
    rule = encode if straight else (lambda raw: encode(text(raw)))
    return Kind("" if of.prefix else f"{of.size}s", of.prefix, _CALL, rule=rule)


_CHARACTERS = (VARCHAR, STRING, BLOB)


def _integer(column: MappedColumn, size: int) -> Kind:
    if column.type == INT24:
        signed = not column.unsigned
        return Kind("3s", 0, _CALL, b"%d", lambda raw: _from(raw, "little", signed=signed))
    code = _INTEGER_CODES[size]
    if not column.unsigned:
        return Kind(code, 0, "v", b"%d")
    if size == 8:
        return Kind("Q", 0, _CALL, rule=unsigned_json)
    return Kind(code.upper(), 0, "v", b"%d")


def _bit(column: MappedColumn) -> Kind:
    size = bit_size(column.metadata)
    if column.metadata == 1:
        return Kind("B", 0, _LOOK_UP, rule=(b"false", b"true"))
    return Kind(f"{size}s", 0, _CALL, rule=_bits)


def _enum(column: MappedColumn) -> Kind:
    return Kind("B" if column.metadata == 1 else "H", 0, _LOOK_UP, rule=_label_json(utf8_labels(column)))


def _characters(column: MappedColumn) -> Kind:
    prefix = character_prefix(column)
    if column.collation == BINARY:
        return Kind("", prefix, _CALL, rule=_binary(column.metadata) if column.type == STRING else _bytes)
    assert column.charset is not None
    if is_utf8(column.charset):
        return Kind("", prefix, "dumps(v.decode())")
    convert = to_utf8(column.charset)
    return Kind("", prefix, _CALL, rule=lambda raw: _dumps(convert(raw).decode()))


_KINDS: dict[int, Callable[[MappedColumn], Kind]] = {
    YEAR: lambda _: Kind("B", 0, "v and v + 1900", b"%d"),
    FLOAT: lambda _: Kind("f", 0, _CALL, rule=float_json),
    DOUBLE: lambda _: Kind("d", 0, "v if not v - v else e[v]", b"%a", {}),
    JSON: lambda _: Kind("", 4, _CALL, rule=_json()),
    BIT: _bit,
    ENUM: _enum,
    VARCHAR: _characters,
    STRING: _characters,
    BLOB: _characters,
    UUID: lambda _: Kind("", 1, _CALL, rule=_quoting(cells.uuid_text)),
    INET4: lambda _: Kind("", 1, _CALL, rule=_quoting(cells.inet4_text)),
    INET6: lambda _: Kind("", 1, _CALL, rule=_quoting(cells.inet6_text)),
}
_RULES: dict[int, Callable[[MappedColumn], Any]] = {
    DATE: lambda _: _dates,
    SET: lambda column: _Texts(_set_json(utf8_labels(column))),
    DECIMAL: lambda column: _decimal(column.metadata & 0xFF, column.metadata >> 8),
    DATETIME2: lambda column: _datetime(column.metadata) if column.metadata else _datetimes,
    TIMESTAMP2: lambda column: _timestamp(column.metadata) if column.metadata else _timestamps,
    TIME2: lambda column: _time(column.metadata),
}
