"""A table's rows as Parquet files, every column as the server's own text.

In: batches of rows; `csv_batches` makes them of lines of CSV as Postgres' COPY writes them with FORCE_QUOTE, one row
each whatever is in it, `text_batches` of rows of source text. Out: objects in the archive, each of about `FILE_BYTES`
of text. Refuses: nothing; every row fits.
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
        self, table: Table, batches: Iterable[pa.Table], on_rows: Callable[[int], None]
    ) -> tuple[int, tuple[Stored, ...]]:
        """All rows of a table: how many, and their files; none for a table without rows."""
        names = [column.name for column in table.columns]
        stored: list[Stored] = []
        rows, file = 0, None
        for batch in batches:
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
    """One that is being written. `size` is that of its text."""

    def __init__(self, body: Body, names: Sequence[str]) -> None:
        self._body, self._names, self.size = body, names, 0
        schema = pa.schema([(name, pa.string()) for name in names])
        self._writer = pq.ParquetWriter(body.stream, schema, compression="zstd", compression_level=3)

    def add(self, rows: pa.Table) -> int:
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self.size += rows.nbytes
        return int(rows.num_rows)

    def put(self) -> Stored:
        self._writer.close()
        return self._body.put()


def csv_batches(names: Sequence[str], lines: Iterable[bytes]) -> Iterator[pa.Table]:
    """Whole rows, so that none is longer than what is parsed at a time."""
    batch, size = [], 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if size >= BATCH_BYTES:
            yield parse_csv(b"".join(batch), names)
            batch, size = [], 0
    if batch:
        yield parse_csv(b"".join(batch), names)


def text_batches(names: Sequence[str], chunks: Iterable[Sequence[Sequence[object]]]) -> Iterator[pa.Table]:
    """Rows of values in UTF-8, NULL as None."""
    held: list[pa.Table] = []
    for rows in chunks:
        columns = [pa.array(column, pa.binary()).cast(pa.string()) for column in zip(*rows, strict=True)]
        held.append(pa.Table.from_arrays(columns, names=list(names)))
        if sum(table.nbytes for table in held) >= BATCH_BYTES:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


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
