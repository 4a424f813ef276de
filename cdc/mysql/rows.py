"""Rows events → rows of source text, column by column. Pure.

In: the body of a WRITE, UPDATE or DELETE_ROWS event of version 2 and the columns' cells. Out: each row before and after
the change (`parse_rows`). Refuses: truncation, trailing bytes, another number of columns, by `CdcError` CORRUPT_WIRE
with the offset; a value that its column cannot have, by `ColumnError` with the column's position.

    table id uint48, flags uint16, extra data (size uint16, itself included), columns packed, bitmap of the columns
    that are there (update: two), then rows: bitmap of the columns that are NULL, the values of the others; an update
    has two of these per row

A row is a list with a value per column: source text as bytes, None for NULL, `UNCHANGED` for a column that the image
left out. `plan` does the same for whole images at a quarter of the cost, and declines what it is not made for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cdc.mysql.cells import Cell
from cdc.mysql.wire import DELETE_ROWS, UPDATE_ROWS, WRITE_ROWS, Cursor, corrupt
from cdc.rowevents import UNCHANGED, Row, Value

NAMES = {WRITE_ROWS: "WRITE_ROWS", UPDATE_ROWS: "UPDATE_ROWS", DELETE_ROWS: "DELETE_ROWS"}


class ColumnError(ValueError):
    """A value that the column cannot have."""

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(problem)
        self.at = at


class RowsHead(NamedTuple):
    """What stands before the rows. `first` and `second` are the columns that the images hold; `at` is the first row."""

    table: int
    columns: int
    first: bytes
    second: bytes
    at: int


def parse_head(kind: int, body: bytes) -> RowsHead:
    cursor = Cursor(body, NAMES[kind])
    table = cursor.number(6)
    cursor.take(2)
    extra = cursor.number(2)
    if extra < 2:
        raise corrupt(cursor.what, cursor.at - 2, f"extra data of {extra} bytes")
    cursor.take(extra - 2)
    columns = cursor.packed()
    size = (columns + 7) // 8
    first = cursor.take(size)
    return RowsHead(table, columns, first, cursor.take(size) if kind == UPDATE_ROWS else b"", cursor.at)


def whole_heads(kind: int, columns: int) -> tuple[bytes, ...]:
    """What stands between extra data and rows if the images are whole; bits of no column may have any value.

    Servers set them all or none.
    """
    size = (columns + 7) // 8
    count = columns.to_bytes(1, "little") if columns < 251 else b"\xfc" + columns.to_bytes(2, "little")
    images = 2 if kind == UPDATE_ROWS else 1
    return tuple(count + ((1 << bits) - 1).to_bytes(size, "little") * images for bits in (8 * size, columns))


def parse_rows(kind: int, body: bytes, cells: Sequence[Cell]) -> Iterator[tuple[Row | None, Row | None]]:
    """Each row before and after: None where there is none."""
    head = parse_head(kind, body)
    if head.columns != len(cells):
        raise corrupt(NAMES[kind], head.at, f"{head.columns} columns, {len(cells)} expected")
    first, second, at = _present(head.first, len(cells)), _present(head.second, len(cells)), head.at
    what = NAMES[kind]
    if at == len(body):
        raise corrupt(what, at, "no rows")
    while at < len(body):
        row, at = _image(what, body, at, cells, first)
        if kind == UPDATE_ROWS:
            after, at = _image(what, body, at, cells, second)
            yield row, after
        else:
            yield (None, row) if kind == WRITE_ROWS else (row, None)


def _present(bitmap: bytes, columns: int) -> list[bool]:
    bits = int.from_bytes(bitmap, "little")
    return [bool(bits >> at & 1) for at in range(columns)]


def _image(what: str, body: bytes, at: int, cells: Sequence[Cell], present: Sequence[bool]) -> tuple[Row, int]:
    cursor = Cursor(body, what, at)
    nulls = cursor.number((sum(present) + 7) // 8)
    row: Row = []
    place = 0
    for column, (cell, there) in enumerate(zip(cells, present, strict=True)):
        value: Value = UNCHANGED
        if there:
            value = None
            if not nulls >> place & 1:
                raw = cursor.take(cursor.number(cell.prefix) if cell.prefix else cell.size)
                try:
                    value = cell.text(raw)
                except ValueError as error:
                    raise ColumnError(column, str(error)) from None
            place += 1
        row.append(value)
    return row, cursor.at
