"""pgoutput and the streaming replication frames: bytes ↔ messages. Pure.

In: one CopyData payload of a replication stream, or one pgoutput message. Out: frames, control messages as values,
rows as lists. Refuses: truncation, trailing bytes, unknown tags, by `CdcError` CORRUPT_WIRE with the offset.
Format: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html

    Insert  'I' oid            'N' tuple
    Update  'U' oid ['K'|'O' tuple] 'N' tuple
    Delete  'D' oid  'K'|'O' tuple
    tuple   int16 columns, each: 'n' (NULL) | 'u' (unchanged TOAST) | 't' int32 length, text

A row is a list with a value per column: the server's text as bytes, None for NULL, `UNCHANGED` for a TOASTed value
that the log did not carry. Bytes stay bytes up to the event (docs/adr/0003).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct calls its exception like a module

from cdc.errors import CORRUPT_WIRE, CdcError
from cdc.rowevents import UNCHANGED, Row

# Postgres counts microseconds from 2000-01-01.
EPOCH_US = 946_684_800_000_000

_XLOG_DATA = Struct(">xqq8x")
_KEEPALIVE = Struct(">cqqB")
_STATUS = Struct(">cqqqqB")
_BEGIN = Struct(">xqqI")
_COMMIT = Struct(">xxqqq")
_U16, _U32, _I32, _I64 = Struct(">H"), Struct(">I"), Struct(">i"), Struct(">q")
_u16, _u32 = _U16.unpack_from, _U32.unpack_from
XLOG_DATA_HEADER = _XLOG_DATA.size


@dataclass(frozen=True, slots=True)
class Keepalive:
    wal_end: int
    reply_requested: bool


@dataclass(slots=True)
class Begin:
    """`final_lsn`: where the commit record begins; the transaction's changes follow at once."""

    final_lsn: int
    commit_ts_us: int
    xid: int


@dataclass(slots=True)
class Commit:
    """`end_lsn`: behind the commit record, what the slot acknowledges."""

    commit_lsn: int
    end_lsn: int
    commit_ts_us: int


@dataclass(frozen=True, slots=True)
class Origin:
    lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class RelationColumn:
    in_key: bool
    name: str
    type_oid: int
    typmod: int


@dataclass(frozen=True, slots=True)
class Relation:
    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class TypeName:
    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Truncate:
    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A logical message; one that is not transactional stands outside BEGIN and COMMIT."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


Control = Begin | Commit | Origin | Relation | TypeName | Truncate | Message


def _corrupt(what: str, offset: int, problem: str) -> CdcError:
    return CdcError(CORRUPT_WIRE, what=what, offset=offset, problem=problem)


# -- frames -----------------------------------------------------------------------------------------------------
def parse_keepalive(payload: bytes | memoryview) -> Keepalive:
    """A 'k' frame of the server."""
    if len(payload) != _KEEPALIVE.size:
        raise _corrupt("keepalive", min(len(payload), _KEEPALIVE.size), f"{len(payload)} bytes, 18 expected")
    _, wal_end, _, reply = _KEEPALIVE.unpack(payload)
    return Keepalive(wal_end, bool(reply))


def parse_xlog_header(payload: bytes | memoryview) -> tuple[int, int]:
    """WAL start and the server's WAL end of a 'w' frame; the message follows at XLOG_DATA_HEADER."""
    if len(payload) <= _XLOG_DATA.size:
        raise _corrupt("XLogData", len(payload), "truncated")
    start, end = _XLOG_DATA.unpack_from(payload)
    return start, end


def status_update(lsn: int, now_us: int, *, reply: bool = False) -> bytes:
    """A standby status update: written, flushed and applied up to `lsn`. `now_us` since 1970."""
    return _STATUS.pack(b"r", lsn, lsn, lsn, now_us - EPOCH_US, reply)


# -- rows and what encloses them: the hot path ----------------------------------------------------------------------
def parse_insert(data: bytes) -> tuple[int, Row]:
    """Relation oid and new row."""
    try:
        if data[5] != 78:  # N
            raise _corrupt("Insert", 5, f"tuple kind {data[5:6]!r}, 'N' expected")
        row, end = _tuple(data, 6)
        oid = _u32(data, 1)[0]
    except (IndexError, StructError):
        raise _corrupt("Insert", len(data), "truncated") from None
    if end != len(data):
        raise _ended("Insert", data, end)
    return oid, row


def parse_update(data: bytes) -> tuple[int, bytes, Row | None, Row]:
    """Relation oid, kind of the old image (b"" none, b"K" key, b"O" whole row), old row, new row."""
    try:
        oid = _u32(data, 1)[0]
        kind, old, at = b"", None, 5
        if data[5] in b"KO":
            kind = data[5:6]
            old, at = _tuple(data, 6)
        if data[at] != 78:  # N
            raise _corrupt("Update", at, f"tuple kind {data[at : at + 1]!r}, 'N' expected")
        row, end = _tuple(data, at + 1)
    except (IndexError, StructError):
        raise _corrupt("Update", len(data), "truncated") from None
    if end != len(data):
        raise _ended("Update", data, end)
    return oid, kind, old, row


def parse_delete(data: bytes) -> tuple[int, bytes, Row]:
    """Relation oid, kind of the old image (b"K" or b"O"), old row."""
    try:
        oid = _u32(data, 1)[0]
        if data[5] not in b"KO":
            raise _corrupt("Delete", 5, f"tuple kind {data[5:6]!r}, 'K' or 'O' expected")
        row, end = _tuple(data, 6)
    except (IndexError, StructError):
        raise _corrupt("Delete", len(data), "truncated") from None
    if end != len(data):
        raise _ended("Delete", data, end)
    return oid, data[5:6], row


def _tuple(data: bytes, at: int) -> tuple[Row, int]:
    """A tuple's values and the offset behind it. A slice beyond the end is short: the caller compares the end."""
    row: Row = []
    append = row.append
    columns = _u16(data, at)[0]
    at += 2
    for _ in range(columns):
        kind = data[at]
        if kind == 116:  # t
            start = at + 5
            at = start + _u32(data, at + 1)[0]
            append(data[start:at])
        elif kind == 110:  # n
            append(None)
            at += 1
        elif kind == 117:  # u
            append(UNCHANGED)
            at += 1
        else:
            raise _corrupt("tuple", at, f"column kind {data[at : at + 1]!r}")
    return row, at


def _ended(what: str, data: bytes, end: int) -> CdcError:
    if end > len(data):
        return _corrupt(what, len(data), "truncated")
    return _corrupt(what, end, f"{len(data) - end} trailing bytes")


def parse_begin(data: bytes) -> Begin:
    if len(data) != _BEGIN.size:
        raise _ended("Begin", data, _BEGIN.size)
    lsn, ts, xid = _BEGIN.unpack(data)
    return Begin(lsn, ts + EPOCH_US, xid)


def parse_commit(data: bytes) -> Commit:
    if len(data) != _COMMIT.size:
        raise _ended("Commit", data, _COMMIT.size)
    lsn, end, ts = _COMMIT.unpack(data)
    return Commit(lsn, end, ts + EPOCH_US)


# -- everything else --------------------------------------------------------------------------------------------
def parse_control(data: bytes) -> Control:
    """Any message but Insert, Update, Delete."""
    tag = data[:1]
    if tag == b"B":
        return parse_begin(data)
    if tag == b"C":
        return parse_commit(data)
    parse = _CONTROL.get(tag)
    if parse is None:
        raise _corrupt("pgoutput", 0, f"unknown message {tag!r}" if tag else "empty message")
    what, read = parse
    cursor = _Cursor(data, 1, what)
    message = read(cursor)
    if cursor.at != len(data):
        raise _corrupt(what, cursor.at, f"{len(data) - cursor.at} trailing bytes")
    return message


class _Cursor:
    """Checked reads over one message."""

    __slots__ = ("at", "data", "what")

    def __init__(self, data: bytes, at: int, what: str) -> None:
        self.data, self.at, self.what = data, at, what

    def take(self, size: int) -> bytes:
        end = self.at + size
        if size < 0 or end > len(self.data):
            raise _corrupt(self.what, len(self.data), "truncated")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int(_U16.unpack(self.take(2))[0])

    def u32(self) -> int:
        return int(_U32.unpack(self.take(4))[0])

    def i32(self) -> int:
        return int(_I32.unpack(self.take(4))[0])

    def i64(self) -> int:
        return int(_I64.unpack(self.take(8))[0])

    def text(self) -> str:
        end = self.data.find(0, self.at)
        if end < 0:
            raise _corrupt(self.what, len(self.data), "truncated")
        raw = self.take(end - self.at)
        self.at += 1
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise _corrupt(self.what, end - len(raw), "a name that is not UTF-8") from None


def _origin(c: _Cursor) -> Origin:
    return Origin(c.i64(), c.text())


def _relation(c: _Cursor) -> Relation:
    oid, schema, name, identity = c.u32(), c.text() or "pg_catalog", c.text(), chr(c.u8())
    columns = tuple(RelationColumn(bool(c.u8() & 1), c.text(), c.u32(), c.i32()) for _ in range(c.u16()))
    return Relation(oid, schema, name, identity, columns)


def _type(c: _Cursor) -> TypeName:
    return TypeName(c.u32(), c.text() or "pg_catalog", c.text())


def _truncate(c: _Cursor) -> Truncate:
    count, options = c.u32(), c.u8()
    return Truncate(tuple(c.u32() for _ in range(count)), bool(options & 1), bool(options & 2))


def _message(c: _Cursor) -> Message:
    flags, lsn, prefix = c.u8(), c.i64(), c.text()
    return Message(bool(flags & 1), lsn, prefix, c.take(c.u32()))


_CONTROL: dict[bytes, tuple[str, Callable[[_Cursor], Control]]] = {
    b"O": ("Origin", _origin),
    b"R": ("Relation", _relation),
    b"Y": ("Type", _type),
    b"T": ("Truncate", _truncate),
    b"M": ("Message", _message),
}
