"""TABLE_MAP events: how the rows that follow are to be read. Pure.

In: the body of a TABLE_MAP. Out: which table it is (`mapped_table`, cheap), and its columns with types, character sets,
labels and key (`parse_table_map`); how a column's values are read (`cell`). Refuses: bytes that the format does not
allow, by `CdcError` CORRUPT_WIRE with the offset; a column of a type or character set that is not carried, by
`ValueError` when its cell is asked for: a table that is not captured may have such columns.

    table id uint48, flags uint16, schema, table (each: size uint8, text, zero), columns packed, a type byte each,
    size packed, types' metadata, bitmap of nullable columns, then fields (kind uint8, size packed, value)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cdc.mysql import cells
from cdc.mysql.cells import Cell
from cdc.mysql.charsets import BINARY, charset, to_utf8
from cdc.mysql.jsonb import json_text
from cdc.mysql.wire import Cursor, corrupt

TINY, SHORT, LONG, FLOAT, DOUBLE, LONGLONG, INT24, DATE, YEAR = 1, 2, 3, 4, 5, 8, 9, 10, 13
VARCHAR, BIT, TIMESTAMP2, DATETIME2, TIME2, JSON, DECIMAL = 15, 16, 17, 18, 19, 245, 246
ENUM, SET, BLOB, STRING, GEOMETRY = 247, 248, 252, 254, 255
UUID, INET4, INET6 = 256, 257, 258
"""MariaDB's: bytes to the log, which names them STRING; a shape tells them apart (`tables.told_apart`)."""
INTEGER_SIZES = {TINY: 1, SHORT: 2, INT24: 3, LONG: 4, LONGLONG: 8}
_NUMERIC = frozenset({*INTEGER_SIZES, FLOAT, DOUBLE, DECIMAL, YEAR})
_CHARACTER = frozenset({VARCHAR, BLOB, STRING})
_LABELLED = frozenset({ENUM, SET})
_METADATA_SIZES = {FLOAT: 1, DOUBLE: 1, BLOB: 1, JSON: 1, GEOMETRY: 1, TIMESTAMP2: 1, DATETIME2: 1, TIME2: 1,
                   VARCHAR: 2, BIT: 2, DECIMAL: 2, STRING: 2}  # fmt: skip


class MappedTable(NamedTuple):
    """`number` names the table in the rows events that follow, until the server gives it another one."""

    number: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class MappedColumn:
    """`type` is the real type byte; `metadata` its bytes as one little-endian number, -1 where the type has none.

    Of char(n), enum and set, whose metadata is mixed with the type, it is the number of bytes that a value takes at
    most. `name` is None where the server does not send it (binlog_row_metadata), `charset` where it is not carried.
    """

    type: int
    metadata: int
    nullable: bool
    name: str | None = None
    unsigned: bool = False
    collation: int | None = None
    labels: tuple[bytes, ...] | None = None
    visible: bool = True

    @property
    def charset(self) -> str | None:
        return None if self.collation is None else charset(self.collation)


@dataclass(frozen=True, slots=True)
class TableMap:
    """`primary_key`: position and prefix length (0: all of it) of each of its columns, in key order."""

    schema: str
    name: str
    columns: tuple[MappedColumn, ...]
    primary_key: tuple[tuple[int, int], ...]


def mapped_table(body: bytes) -> MappedTable:
    """Which table it is: the answer may then be looked up instead of parsed."""
    return _table(Cursor(body, "TABLE_MAP"))


def _table(cursor: Cursor) -> MappedTable:
    number = cursor.number(6)
    cursor.take(2)
    names = []
    for _ in range(2):
        names.append(cursor.text(cursor.number(1)))
        cursor.zero()
    return MappedTable(number, *names)


def parse_table_map(body: bytes) -> TableMap:
    cursor = Cursor(body, "TABLE_MAP")
    _, schema, name = _table(cursor)
    types = cursor.take(cursor.packed())
    types_metadata = _types_metadata(types, cursor.inner(cursor.packed(), "TABLE_MAP metadata"))
    count = len(types)
    nullable = cursor.take((count + 7) // 8)
    fields = _Fields([type_ for type_, _ in types_metadata])
    while cursor.left:
        kind = cursor.number(1)
        fields.read(kind, cursor.inner(cursor.packed(), f"TABLE_MAP field {kind}"))
    columns = tuple(
        MappedColumn(
            type_,
            metadata,
            bool(nullable[at // 8] >> at % 8 & 1),
            fields.names[at] if fields.names else None,
            fields.unsigned.get(at, False),
            fields.collations.get(at),
            fields.labels.get(at),
            fields.visible.get(at, True),
        )
        for at, (type_, metadata) in enumerate(types_metadata)
    )
    return TableMap(schema, name, columns, tuple(fields.primary_key))


def _types_metadata(types: bytes, cursor: Cursor) -> list[tuple[int, int]]:
    """Each column's real type and metadata. A type that nobody knows ends it: what follows cannot be told apart."""
    read: list[tuple[int, int]] = []
    for type_ in types:
        size = _METADATA_SIZES.get(type_, 0)
        metadata = cursor.number(size) if size else -1
        if type_ == STRING:
            real, length = metadata & 0xFF, metadata >> 8
            if real in _LABELLED:
                read.append((real, length))
            else:
                # The two highest bits of a length above 255 are hidden in the type, inverted.
                read.append((STRING, length | ((real & 0x30) ^ 0x30) << 4))
        else:
            read.append((type_, metadata))
    if not _UNKNOWN_METADATA.intersection(types):
        cursor.finish()
    return read


_KNOWN = frozenset({*_METADATA_SIZES, *INTEGER_SIZES, DATE, YEAR})
_UNKNOWN_METADATA = frozenset(range(256)) - _KNOWN


class _Fields:
    """The optional fields, each about the columns of some types only."""

    def __init__(self, types: list[int]) -> None:
        self._types = types
        self.names: list[str] = []
        self.unsigned: dict[int, bool] = {}
        self.collations: dict[int, int] = {}
        self.labels: dict[int, tuple[bytes, ...]] = {}
        self.visible: dict[int, bool] = {}
        self.primary_key: list[tuple[int, int]] = []

    def read(self, kind: int, cursor: Cursor) -> None:
        """Unknown fields are passed over: newer servers add them, for types that are refused by their number."""
        match kind:
            case 1:
                self.unsigned = self._bits(cursor, self._of(_NUMERIC))
            case 2 | 10:
                self._default_collation(cursor, self._of(_CHARACTER if kind == 2 else _LABELLED))
            case 3 | 11:
                for at in self._of(_CHARACTER if kind == 3 else _LABELLED):
                    self.collations[at] = cursor.packed()
            case 4:
                self.names = [cursor.text(cursor.packed()) for _ in self._types]
            case 5 | 6:
                for at in self._of({SET if kind == 5 else ENUM}):
                    self.labels[at] = tuple(cursor.take(cursor.packed()) for _ in range(self._count(cursor)))
            case 8:
                while cursor.left:
                    self.primary_key.append((self._position(cursor), 0))
            case 9:
                while cursor.left:
                    self.primary_key.append((self._position(cursor), cursor.packed()))
            case 12:
                self.visible = self._bits(cursor, range(len(self._types)))
            case _:
                return
        cursor.finish()

    def _of(self, types: set[int] | frozenset[int]) -> list[int]:
        return [at for at, type_ in enumerate(self._types) if type_ in types]

    def _bits(self, cursor: Cursor, columns: range | list[int]) -> dict[int, bool]:
        """The first column has the highest bit."""
        bits = cursor.take((len(columns) + 7) // 8)
        return {column: bool(bits[at // 8] >> 7 - at % 8 & 1) for at, column in enumerate(columns)}

    def _default_collation(self, cursor: Cursor, columns: list[int]) -> None:
        """One for all but those that are listed by their place among these columns."""
        default = cursor.packed()
        self.collations.update(dict.fromkeys(columns, default))
        while cursor.left:
            place = cursor.packed()
            if place >= len(columns):
                raise corrupt(cursor.what, cursor.at, f"column {place} of {len(columns)}")
            self.collations[columns[place]] = cursor.packed()

    def _count(self, cursor: Cursor) -> int:
        count = cursor.packed()
        if count > cursor.left:
            raise corrupt(cursor.what, cursor.end, "truncated")
        return count

    def _position(self, cursor: Cursor) -> int:
        position = cursor.packed()
        if position >= len(self._types):
            raise corrupt(cursor.what, cursor.at, f"column {position} of {len(self._types)}")
        return position


# -- columns → cells ----------------------------------------------------------------------------------------------
def cell(column: MappedColumn) -> Cell:
    """How the values of a column are read; `ValueError` for a type or character set that is not carried."""
    of_type = _CELLS.get(column.type)
    if of_type is None:
        raise ValueError(f"type {column.type} of the binary log")
    return of_type(column)


def bit_size(metadata: int) -> int:
    """Bytes of bit(n): whole ones, and one for what is left."""
    return (metadata >> 8) + (metadata & 0xFF > 0)


def character_prefix(column: MappedColumn) -> int:
    """How many bytes say how long a value is."""
    if column.type == BLOB:
        return column.metadata
    return 1 if column.metadata < 256 else 2


def _characters(column: MappedColumn) -> Cell:
    prefix = character_prefix(column)
    if column.collation == BINARY:
        return cells.counted(prefix, cells.padded_hex(column.metadata) if column.type == STRING else cells.hex_text)
    return cells.counted(prefix, to_utf8(_carried(column)))


def utf8_labels(column: MappedColumn) -> tuple[bytes, ...]:
    if column.labels is None:
        raise ValueError("an enum or set whose labels the log does not name")
    return tuple(map(to_utf8(_carried(column)), column.labels))


def _carried(column: MappedColumn) -> str:
    name = column.charset
    if name is None or name == "binary":
        raise ValueError(f"a text of collation {column.collation}, whose character set is not carried")
    return name


def _integer(column: MappedColumn) -> Cell:
    return cells.integer(INTEGER_SIZES[column.type], signed=not column.unsigned)


_CELLS: dict[int, Callable[[MappedColumn], Cell]] = {
    **dict.fromkeys(INTEGER_SIZES, _integer),
    **dict.fromkeys(_CHARACTER, _characters),
    FLOAT: lambda _: cells.real32(),
    DOUBLE: lambda _: cells.real64(),
    YEAR: lambda _: cells.year(),
    DATE: lambda _: cells.fixed(3, cells.date_text),
    JSON: lambda _: cells.counted(4, json_text),
    BIT: lambda column: cells.bit(bit_size(column.metadata)),
    DECIMAL: lambda column: cells.decimal(column.metadata & 0xFF, column.metadata >> 8),
    TIMESTAMP2: lambda column: cells.timestamp(column.metadata),
    DATETIME2: lambda column: cells.datetime(column.metadata),
    TIME2: lambda column: cells.time(column.metadata),
    UUID: lambda _: cells.counted(1, cells.uuid_text),
    INET4: lambda _: cells.counted(1, cells.inet4_text),
    INET6: lambda _: cells.counted(1, cells.inet6_text),
    ENUM: lambda column: cells.enum(column.metadata, utf8_labels(column)),
    SET: lambda column: cells.set_(column.metadata, utf8_labels(column)),
}
