"""Events that only MariaDB writes: bytes → those of MySQL that mean the same, and the begin of a transaction. Pure.

In: header and body of an event. Out: rows and statements in MySQL's form, decompressed (`as_mysql`); what a GTID event
says (`parse_gtid`). Refuses: truncation, an unknown compression, by `CdcError` CORRUPT_WIRE with the offset in what was
given. Format: https://mariadb.com/kb/en/replication-protocol/

    GTID        number uint64, domain uint32, flags uint8, [group commit id uint64], [XA: format int32, sizes of two
                names uint8 each, the names], [flags uint8, which say what follows]
    rows        version 1: MySQL's without extra data; compressed: what stands behind the bitmaps of columns
    compressed  0x80 | size of the length, length when unpacked (big-endian), zlib

A GTID opens a transaction as MySQL's GTID and BEGIN together, or stands before a single statement.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntFlag

from cdc.mysql.wire import DELETE_ROWS, QUERY, UPDATE_ROWS, WRITE_ROWS, Cursor, Header, corrupt

ANNOTATE_ROWS, BINLOG_CHECKPOINT, GTID, GTID_LIST, START_ENCRYPTION = 160, 161, 162, 163, 164
_QUERY_COMPRESSED = 165
_ROWS_V1 = {23: WRITE_ROWS, 24: UPDATE_ROWS, 25: DELETE_ROWS}
_COMPRESSED_V1 = {166: WRITE_ROWS, 167: UPDATE_ROWS, 168: DELETE_ROWS}
_COMPRESSED_V2 = {169: WRITE_ROWS, 170: UPDATE_ROWS, 171: DELETE_ROWS}
REWRITTEN = frozenset({_QUERY_COMPRESSED, *_ROWS_V1, *_COMPRESSED_V1, *_COMPRESSED_V2})
"""Types that `as_mysql` knows."""
SILENT = frozenset({ANNOTATE_ROWS, BINLOG_CHECKPOINT, GTID_LIST})
_NO_EXTRA_DATA = b"\2\0"
_IS_COMPRESSED, _ALGORITHM, _LENGTH_SIZE = 0x80, 0x70, 0x07


class Flags(IntFlag):
    """Of a GTID. `STANDALONE`: one statement follows, and no end."""

    STANDALONE = 1
    GROUP_COMMIT = 2
    PREPARED_XA = 64
    COMPLETED_XA = 128


_TWO_PHASES = 2 | 4 | 8
"""In the second byte: an ALTER TABLE that is told twice, when it begins and when it ends."""


@dataclass(frozen=True, slots=True)
class Gtid:
    """The begin of a transaction. `sid` names domain and server."""

    sid: str
    number: int
    flags: Flags
    two_phases: bool

    def __str__(self) -> str:
        return f"{self.sid}-{self.number}"


def parse_gtid(header: Header, body: bytes) -> Gtid:
    cursor = Cursor(body, "GTID of MariaDB")
    number, domain, flags = cursor.number(8), cursor.number(4), Flags(cursor.number(1))
    if flags & Flags.GROUP_COMMIT:
        cursor.number(8)
    if flags & (Flags.PREPARED_XA | Flags.COMPLETED_XA):
        cursor.number(4)
        first, second = cursor.number(1), cursor.number(1)
        cursor.take(first + second)
    # Padding, where nothing else is said, is zero.
    more = cursor.number(1) if cursor.left else 0
    return Gtid(f"{domain}-{header.server_id}", number, flags, bool(more & _TWO_PHASES))


def as_mysql(header: Header, body: bytes) -> tuple[Header, bytes]:
    """An event of a type in `REWRITTEN`, as MySQL would have written it."""
    kind = header.type
    if kind == _QUERY_COMPRESSED:
        return header._replace(type=QUERY), _query(body)
    if kind in _ROWS_V1:
        return header._replace(type=_ROWS_V1[kind]), body[:8] + _NO_EXTRA_DATA + body[8:]
    if kind in _COMPRESSED_V1:
        return header._replace(type=_COMPRESSED_V1[kind]), _rows(_COMPRESSED_V1[kind], body, first_version=True)
    return header._replace(type=_COMPRESSED_V2[kind]), _rows(_COMPRESSED_V2[kind], body, first_version=False)


def _query(body: bytes) -> bytes:
    """Only the text is compressed, which stands last."""
    cursor = Cursor(body, "QUERY_COMPRESSED")
    cursor.take(8)
    schema, _, status = cursor.number(1), cursor.take(2), cursor.number(2)
    cursor.take(status + schema + 1)
    return body[: cursor.at] + _unpacked(cursor)


def _rows(kind: int, body: bytes, *, first_version: bool) -> bytes:
    """Of the first version, which has no extra data before the columns, or the second."""
    cursor = Cursor(body, "compressed rows")
    cursor.take(8)
    if not first_version:
        cursor.take(max(0, cursor.number(2) - 2))
    start = cursor.at
    size = (cursor.packed() + 7) // 8
    cursor.take(2 * size if kind == UPDATE_ROWS else size)
    return body[:start] + (_NO_EXTRA_DATA if first_version else b"") + body[start : cursor.at] + _unpacked(cursor)


def _unpacked(cursor: Cursor) -> bytes:
    """The rest."""
    start = cursor.at
    head = cursor.number(1)
    if not head & _IS_COMPRESSED or head & _ALGORITHM:
        raise corrupt(cursor.what, start, f"unknown compression {head:#x}")
    length = int.from_bytes(cursor.take(head & _LENGTH_SIZE), "big")
    try:
        unpacked = zlib.decompress(cursor.take(cursor.left))
    except zlib.error as error:
        raise corrupt(cursor.what, start, str(error)) from None
    if len(unpacked) != length:
        raise corrupt(cursor.what, start, f"{len(unpacked)} bytes unpacked, {length} said")
    return unpacked
