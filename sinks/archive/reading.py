"""Rows out of a segment's body: only of the tables that are asked for.

In: an archive, a segment, table names. Out: Arrow batches, each of one table. Refuses: a body that is not the one the
manifest names (ARCHIVE_CORRUPT).
"""

from __future__ import annotations

from collections.abc import Container, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from sinks.archive.archive import Archive
from sinks.archive.manifest import Segment

BATCH_ROWS = 50_000


def segment_rows(archive: Archive, segment: Segment, names: Container[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Row groups of these tables; a row group has rows of one table."""
    if segment.rows is None or not any(name in names for name in segment.tables):
        return
    file = pq.ParquetFile(pa.BufferReader(archive.vouched(segment.rows)))
    for group in range(file.num_row_groups):
        name = file.metadata.row_group(group).column(0).statistics.min
        if name in names:
            for batch in file.read_row_group(group).to_batches(BATCH_ROWS):
                yield name, batch
