"""A table's rows as Parquet files, every column as the server's own text.

In: lines of CSV as the server's COPY writes them with FORCE_QUOTE, one row each whatever is in it. Out: objects in the
archive, each of about `FILE_BYTES` of lines. Refuses: nothing; every row of a Postgres table fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from cdc.event import Table
from sinks.archive.archive import Archive
from sinks.archive.body import Body
from sinks.archive.manifest import Stored

FILE_BYTES = 64 << 20
"""A restore holds a whole file in memory, as it is stored and in the clear."""
BATCH_BYTES = 16 << 20
"""Of the rows that become a row group. A larger row is one of its own: the server's limit for a line is 1 GiB."""


class TableFiles:
    """Files under one name, numbered through."""

    def __init__(self, archive: Archive, under: str) -> None:
        self._archive, self._under, self._number = archive, under, 0

    def write(
        self, table: Table, lines: Iterable[bytes], on_rows: Callable[[int], None]
    ) -> tuple[int, tuple[Stored, ...]]:
        """All rows of a table: how many, and their files; none for a table without rows."""
        names = [column.name for column in table.columns]
        stored: list[Stored] = []
        rows, file = 0, None
        for batch in _batches(lines):
            file = file or self._file(names)
            rows += file.add(batch)
            on_rows(rows)
            if file.size >= FILE_BYTES:
                stored.append(file.put())
                file = None
        if file is not None:
            stored.append(file.put())
        return rows, tuple(stored)

    def _file(self, names: Sequence[str]) -> _File:
        self._number += 1
        return _File(Body(self._archive, f"{self._under}/{self._number:06d}.parquet"), names)


class _File:
    """One that is being written. `size` is that of its lines."""

    def __init__(self, body: Body, names: Sequence[str]) -> None:
        self._body, self._names, self.size = body, names, 0
        schema = pa.schema([(name, pa.string()) for name in names])
        self._writer = pq.ParquetWriter(body.stream, schema, compression="zstd", compression_level=3)

    def add(self, lines: bytes) -> int:
        rows = parse_csv(lines, self._names)
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self.size += len(lines)
        return int(rows.num_rows)

    def put(self) -> Stored:
        self._writer.close()
        return self._body.put()


def _batches(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Whole rows, so that none is longer than what is parsed at a time."""
    batch, size = [], 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if size >= BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


def parse_csv(lines: bytes, names: Sequence[str]) -> pa.Table:
    """An empty text stands in quotes, NULL is nothing; a row of one NULL is an empty line."""
    return pyarrow.csv.read_csv(
        pa.BufferReader(lines),
        read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=len(lines) + 1, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )
