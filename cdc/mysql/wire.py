"""Events of MySQL's binary log: bytes → values. Pure.

In: one event as the dump sends it, or the body of one. Out: its header and checked body, and what the bodies say that
stand around rows (rows: `rows`, tables: `tablemap`). Refuses: truncation, trailing bytes, a wrong checksum, fields that
nobody knows, by `CdcError` CORRUPT_WIRE with the offset in what was given.
Format: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication_binlog_event.html

    event   time uint32, type uint8, server id uint32, size uint32, end in the file uint32, flags uint16, body
            [CRC32 uint32]; numbers are little-endian, "packed" ones have 1, 3, 4 or 9 bytes
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from struct import Struct
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

import zstandard

from cdc.errors import CORRUPT_WIRE, CdcError
from cdc.mysql.charsets import BINARY, charset, to_utf8

QUERY, STOP, ROTATE, INTVAR, RAND, USER_VAR, FORMAT_DESCRIPTION, XID = 2, 3, 4, 5, 13, 14, 15, 16
TABLE_MAP = 19
INCIDENT, HEARTBEAT, IGNORABLE, ROWS_QUERY, WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS = 26, 27, 28, 29, 30, 31, 32
GTID, ANONYMOUS_GTID, PREVIOUS_GTIDS, TRANSACTION_CONTEXT, VIEW_CHANGE, XA_PREPARE = 33, 34, 35, 36, 37, 38
PARTIAL_UPDATE_ROWS, TRANSACTION_PAYLOAD, HEARTBEAT_V2, GTID_TAGGED = 39, 40, 41, 42

_HEADER = Struct("<IBIIIH")
HEADER_SIZE = _HEADER.size
_CHECKSUM_SIZE = 4
_RESIDUE = 0x2144DF1C
"""The CRC32 of whatever ends with its own CRC32."""
_IN_USE = 1
_POST_HEADERS = {QUERY: 13, ROTATE: 8, TABLE_MAP: 8, WRITE_ROWS: 10, UPDATE_ROWS: 10, DELETE_ROWS: 10, GTID: 42}
"""Sizes of the fixed parts that we read; a server that has others speaks another format."""


def corrupt(what: str, offset: int, problem: str) -> CdcError:
    return CdcError(CORRUPT_WIRE, what=what, offset=offset, problem=problem)


class Header(NamedTuple):
    """`end` is where the event ends in its file, modulo 2^32; 0 for one that is in no file."""

    timestamp: int
    type: int
    server_id: int
    size: int
    end: int
    flags: int


_new_header = partial(tuple.__new__, Header)
"""Half the time of `_make`, which counts again what the struct has counted."""


# -- what encloses every event --------------------------------------------------------------------------------------
def parse_event(data: bytes, *, checksum: bool) -> tuple[Header, bytes]:
    """Header and body of one event, its checksum compared and cut off."""
    if len(data) < HEADER_SIZE:
        raise corrupt("event header", len(data), "truncated")
    header = _new_header(_HEADER.unpack_from(data))
    if header.size != len(data):
        raise corrupt(f"event {header.type}", min(header.size, len(data)), f"{len(data)} bytes, {header.size} said")
    if not checksum:
        return header, data[HEADER_SIZE:]
    end = len(data) - _CHECKSUM_SIZE
    if end < HEADER_SIZE:
        raise corrupt(f"event {header.type}", len(data), "truncated")
    if crc32(data) != _RESIDUE:
        raise _mismatch(header)
    return header, data[HEADER_SIZE:end]


def _mismatch(header: Header) -> CdcError:
    return corrupt(f"event {header.type}", header.size - _CHECKSUM_SIZE, "its checksum does not match")


class Cursor:
    """Checked reads over one body."""

    __slots__ = ("at", "data", "end", "what")

    def __init__(self, data: bytes, what: str, at: int = 0, end: int | None = None) -> None:
        self.data, self.what, self.at = data, what, at
        self.end = len(data) if end is None else end

    @property
    def left(self) -> int:
        return self.end - self.at

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > self.end:
            raise corrupt(self.what, self.end, "truncated")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def packed(self) -> int:
        first = self.number(1)
        if first < 251:
            return first
        size = _PACKED.get(first)
        if size is None:
            raise corrupt(self.what, self.at - 1, f"a packed number that begins with {first}")
        return self.number(size)

    def inner(self, size: int, what: str) -> Cursor:
        """A cursor over the next bytes, which this one passes over."""
        self.take(size)
        return Cursor(self.data, what, self.at - size, self.at)

    def text(self, size: int) -> str:
        start = self.at
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise corrupt(self.what, start, "a name that is not UTF-8") from None

    def zero(self) -> None:
        if self.number(1):
            raise corrupt(self.what, self.at - 1, "a name without its final zero")

    def finish(self) -> None:
        if self.left:
            raise corrupt(self.what, self.at, f"{self.left} trailing bytes")


_PACKED = {252: 2, 253: 3, 254: 8}


# -- events around rows -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class FormatDescription:
    server_version: str
    checksum: bool


def parse_format_description(data: bytes) -> FormatDescription:
    """From the whole event: it always ends with the algorithm and a checksum, whichever the others have."""
    header, body = parse_event(data, checksum=False)
    cursor = Cursor(body, "FORMAT_DESCRIPTION")
    version = cursor.number(2)
    server = cursor.take(50).rstrip(b"\0").decode("ascii", "backslashreplace")
    cursor.take(4)
    size = cursor.number(1)
    if (version, size) != (4, HEADER_SIZE):
        raise corrupt(cursor.what, 0, f"version {version} with headers of {size} bytes")
    lengths = cursor.take(max(cursor.left - 1 - _CHECKSUM_SIZE, *_POST_HEADERS))
    algorithm = cursor.number(1)
    cursor.take(_CHECKSUM_SIZE)
    if algorithm not in (0, 1):
        raise corrupt(cursor.what, cursor.at - _CHECKSUM_SIZE - 1, f"unknown checksum algorithm {algorithm}")
    if algorithm:
        # The checksum was made before the file was marked as in use.
        flags = (header.flags & ~_IN_USE).to_bytes(2, "little")
        if crc32(data[: HEADER_SIZE - 2] + flags + data[HEADER_SIZE:]) != _RESIDUE:
            raise _mismatch(header)
    for kind, expected in _POST_HEADERS.items():
        # 0: events that the server never writes.
        if lengths[kind - 1] not in (0, expected):
            raise corrupt(cursor.what, 57 + kind - 1, f"event {kind} of {server} has another form")
    return FormatDescription(server, bool(algorithm))


@dataclass(slots=True)
class Gtid:
    """The begin of a transaction. `original_us`: when it was committed where it was made, not on a replica of that.

    `length`: its bytes in the log, this event's included; None where the server does not say.
    """

    sid: str
    number: int
    immediate_us: int | None = None
    original_us: int | None = None
    length: int | None = None

    def __str__(self) -> str:
        return f"{self.sid}:{self.number}"


_GTID = Struct("<B16sqBqq")
_ORIGINAL_FOLLOWS = 1 << 55


@lru_cache(maxsize=256)
def _uuid(sid: bytes) -> str:
    return str(UUID(bytes=sid))


def parse_gtid(body: bytes) -> Gtid:
    """Of GTID (33); what newer servers add behind the transaction's length is passed over."""
    if len(body) < _GTID.size:
        raise corrupt("GTID", len(body), "truncated")
    _, sid, number, kind, _, _ = _GTID.unpack_from(body)
    if kind != 2:
        raise corrupt("GTID", 25, f"unknown kind of logical clock {kind}")
    gtid = Gtid(_uuid(sid), number)
    if len(body) > _GTID.size:
        cursor = Cursor(body, "GTID", _GTID.size)
        stamp = cursor.number(7)
        gtid.immediate_us = stamp & ~_ORIGINAL_FOLLOWS
        gtid.original_us = cursor.number(7) if stamp & _ORIGINAL_FOLLOWS else gtid.immediate_us
        gtid.length = cursor.packed()
        if cursor.left:
            version = cursor.number(4)
            if version >> 31:
                cursor.number(4)
    return gtid


@dataclass(slots=True)
class Query:
    """A statement in text: BEGIN, COMMIT, DDL, or rows changed by STATEMENT. `sql_mode` is its session's, as bits.

    Of BEGIN, the thread alone is told.
    """

    thread: int
    error: int
    schema: str
    text: str
    sql_mode: int = 0


_QUERY = Struct("<IIBHH")
_STATUS_SIZES = {0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 16: 1, 17: 8, 18: 2, 19: 1, 20: 1}
_SQL_MODE, _CATALOG, _CHARSET, _TIME_ZONE, _CATALOG_NZ, _INVOKER = 1, 2, 4, 5, 6, 11


def parse_query(body: bytes) -> Query:
    cursor = Cursor(body, "QUERY")
    thread, _, schema_size, error, status_size = _QUERY.unpack(cursor.take(_QUERY.size))
    if body.endswith(b"\0BEGIN") and cursor.left == status_size + schema_size + 6:
        # Nearly every statement: where rows begin, nothing else of it matters.
        return Query(thread, error, "", "BEGIN")
    sql_mode, collation = _status(cursor.inner(status_size, "QUERY status"))
    schema = cursor.text(schema_size)
    cursor.zero()
    return Query(thread, error, schema, _in_utf8(cursor.take(cursor.left), collation), sql_mode)


def _status(cursor: Cursor) -> tuple[int, int]:
    """SQL mode and the client's collation; 0 where it is not said. Behind an unknown variable nothing can be read."""
    sql_mode = collation = 0
    while cursor.left:
        code = cursor.number(1)
        if code == _SQL_MODE:
            sql_mode = cursor.number(8)
        elif code == _CHARSET:
            collation = cursor.number(2)
            cursor.take(4)
        elif code in _STATUS_SIZES:
            cursor.take(_STATUS_SIZES[code])
        elif code in (_TIME_ZONE, _CATALOG_NZ):
            cursor.take(cursor.number(1))
        elif code == _CATALOG:
            cursor.take(cursor.number(1) + 1)
        elif code == _INVOKER:
            cursor.take(cursor.number(1))
            cursor.take(cursor.number(1))
        else:
            break
    return sql_mode, collation


def _in_utf8(text: bytes, collation: int) -> str:
    """A statement's text. What cannot be decoded is shown: nothing but error messages and raw DDL shows it."""
    name = charset(collation)
    if name is not None and collation != BINARY:
        with suppress(ValueError):
            text = to_utf8(name)(text)
    return text.decode("utf-8", "backslashreplace")


def parse_xid(body: bytes) -> int:
    if len(body) != 8:
        raise corrupt("XID", min(len(body), 8), f"{len(body)} bytes instead of 8")
    return int.from_bytes(body, "little")


@dataclass(frozen=True, slots=True)
class Rotate:
    """The log goes on in another file."""

    file: str
    position: int


def parse_rotate(body: bytes) -> Rotate:
    cursor = Cursor(body, "ROTATE")
    position = cursor.number(8)
    if not cursor.left:
        raise corrupt("ROTATE", cursor.at, "truncated")
    return Rotate(cursor.text(cursor.left), position)


# -- a whole transaction, compressed ------------------------------------------------------------------------------
_END, _SIZE, _ALGORITHM, _UNCOMPRESSED = range(4)
_ZSTD, _NONE = 0, 255


def parse_payload(body: bytes) -> Iterator[tuple[Header, bytes]]:
    """The events of a TRANSACTION_PAYLOAD one after another, header and body; they have no checksums of their own."""
    what = "TRANSACTION_PAYLOAD"
    cursor = Cursor(body, what)
    fields: dict[int, int] = {}
    while (field := cursor.packed()) != _END:
        if field not in (_SIZE, _ALGORITHM, _UNCOMPRESSED):
            raise corrupt(what, cursor.at, f"unknown field {field}")
        inner = cursor.inner(cursor.packed(), what)
        fields[field] = inner.packed()
        inner.finish()
    if _SIZE not in fields or _ALGORITHM not in fields:
        raise corrupt(what, cursor.at, "its size or its algorithm is not said")
    start, packed = cursor.at, cursor.take(fields[_SIZE])
    cursor.finish()
    if fields[_ALGORITHM] not in (_ZSTD, _NONE):
        raise corrupt(what, start, f"unknown compression {fields[_ALGORITHM]}")
    zstd = fields[_ALGORITHM] == _ZSTD
    total = fields.get(_UNCOMPRESSED, len(packed)) if zstd else len(packed)
    stream = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) if zstd else io.BytesIO(packed)
    return _inner_events(stream, total)


def _inner_events(stream: zstandard.ZstdDecompressionReader | io.BytesIO, total: int) -> Iterator[tuple[Header, bytes]]:
    """Offsets are those in the uncompressed bytes. No more than one event is held."""
    what, at = "TRANSACTION_PAYLOAD, uncompressed", 0

    def read(size: int) -> bytes:
        parts, missing = [], size
        while missing:
            try:
                part = stream.read(missing)
            except zstandard.ZstdError as error:
                raise corrupt(what, at, str(error)) from None
            if not part:
                raise corrupt(what, at + size - missing, "truncated")
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    while at < total:
        header = Header._make(_HEADER.unpack(read(HEADER_SIZE)))
        if not HEADER_SIZE <= header.size <= total - at:
            raise corrupt(what, at, f"an event of {header.size} bytes where {total - at} are left")
        body = read(header.size - HEADER_SIZE)
        at += header.size
        yield header, body
    if stream.read(1):
        raise corrupt(what, at, "trailing bytes")
