"""Transactions → the two Parquet bodies of a segment, and rows out of them. Pure but for the files it is handed.

In: whole transactions in order, the shape behind each schema id. Out: rows as the source's own text, sorted by table
and transaction, one row group per table (several where memory would not hold it); one row per transaction. Refuses:
nothing; what it is handed was checked by the reader.

    rows   table, txn_seq, ordinal, schema_id, op, key[], before[], after[], unchanged[], before_absent[],
           moved_from[], moved_to[]
    txns   txn_seq, kind, commit_us, position, run, log_offset, xid, events

Lists hold the text of one value per column, in the order of the shape's columns (keys: of its key); null is NULL.
`unchanged` and `before_absent` are places in `after` and `before`, counted from 1, that the log did not carry.
Logical messages are no rows and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cdc.event import Column, RowEvent, Table
from cdc.types import Form, element, is_array
from sinks.across import source_text
from sinks.archive.crypt import Stream
from sinks.archive.manifest import SchemaChange, TableRows
from sinks.transaction import ChangeTransaction

FLUSH_BYTES = 32 << 20
"""Of events, as records, held before they become row groups."""
_TEXTS = pa.list_(pa.string())
_PLACES = pa.list_(pa.int32())
ROWS = pa.schema(
    [
        ("table", pa.string()), ("txn_seq", pa.int64()), ("ordinal", pa.int64()), ("schema_id", pa.string()),
        ("op", pa.string()), ("key", _TEXTS), ("before", _TEXTS), ("after", _TEXTS), ("unchanged", _PLACES),
        ("before_absent", _PLACES), ("moved_from", _TEXTS), ("moved_to", _TEXTS),
    ]
)  # fmt: skip
TRANSACTIONS = pa.schema(
    [
        ("txn_seq", pa.int64()), ("kind", pa.string()), ("commit_us", pa.int64()), ("position", pa.string()),
        ("run", pa.string()), ("log_offset", pa.int64()), ("xid", pa.int64()), ("events", pa.int64()),
    ]
)  # fmt: skip
_OPTIONS: dict[str, Any] = {"compression": "zstd", "compression_level": 3, "write_statistics": True}
_DICTIONARY = ["table", "schema_id", "op", "kind", "run"]
Texts = list[str | None]
ToTexts = Callable[[Mapping[str, Any]], Texts]


def texts_of(table: Table, names: Sequence[str]) -> ToTexts:
    """The function from a row, or a key object, to the source's text of these columns."""
    by_name = {column.name: column for column in table.columns}
    rules = [(name, _rule(table, by_name[name])) for name in names]

    def texts(row: Mapping[str, Any]) -> Texts:
        found: Texts = []
        for name, rule in rules:
            value = row.get(name)
            found.append(value if value is None or rule is None else rule(value))
        return found

    return texts


def _rule(table: Table, column: Column) -> Callable[[Any], str] | None:
    """None where the event's text is the source's."""
    if not is_array(column.type) and element(column.type, table.engine).form is Form.TEXT:
        return None
    return source_text(table, column)


class _Lists:
    """A column of lists, as flat values and where each list ends."""

    __slots__ = ("ends", "values")

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.ends: list[int | None] = [0]

    def add(self, values: Sequence[Any] | None) -> None:
        if values is None:
            # Arrow's way to say that the list which begins here is null.
            self.ends[-1] = None
        else:
            self.values += values
        self.ends.append(len(self.values))

    def array(self, kind: pa.ListType) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(self.ends, pa.int32()), pa.array(self.values, kind.value_type), kind)


class _Shape:
    """How rows of one shape become texts."""

    __slots__ = ("id", "key", "place", "row")

    def __init__(self, table: Table, schema_id: str) -> None:
        self.id = schema_id
        self.row = texts_of(table, [column.name for column in table.columns])
        self.key = None if table.keyless else texts_of(table, table.key)
        self.place = {column.name: at for at, column in enumerate(table.columns, 1)}


class _TableRows:
    """Rows of one table that are not in a row group yet."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seqs: list[int] = []
        self.ordinals: list[int] = []
        self.schemas: list[str] = []
        self.ops: list[str] = []
        self.key, self.before, self.after = _Lists(), _Lists(), _Lists()
        self.unchanged, self.before_absent = _Lists(), _Lists()
        self.moved_from, self.moved_to = _Lists(), _Lists()

    def add(self, seq: int, event: RowEvent, shape: _Shape) -> None:
        self.seqs.append(seq)
        self.ordinals.append(event.ordinal)
        self.schemas.append(shape.id)
        self.ops.append(event.op)
        before, after = event.before, event.after
        self.after.add(None if after is None else shape.row(after))
        self.before.add(None if before is None else shape.row(before))
        place, key = shape.place, shape.key
        self.unchanged.add([place[name] for name in event.unchanged] if event.unchanged else None)
        self.before_absent.add([place[name] for name in event.before_absent] if event.before_absent else None)
        self.moved_from.add(key(event.moved_from) if key and event.moved_from else None)
        self.moved_to.add(key(event.moved_to) if key and event.moved_to else None)
        image = after if after is not None else before
        self.key.add(key(_keyed(event, image)) if key and image is not None else None)

    def batch(self) -> pa.RecordBatch:
        lists = [self.key, self.before, self.after, self.unchanged, self.before_absent, self.moved_from, self.moved_to]
        count = len(self.seqs)
        return pa.RecordBatch.from_arrays(
            [
                pa.array([self.name] * count, pa.string()), pa.array(self.seqs, pa.int64()),
                pa.array(self.ordinals, pa.int64()), pa.array(self.schemas, pa.string()),
                pa.array(self.ops, pa.string()),
                *(values.array(kind) for values, kind in zip(lists, ROWS.types[5:], strict=True)),
            ],
            schema=ROWS,
        )  # fmt: skip


def _keyed(event: RowEvent, image: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where to take the key from. A long key column may be unchanged: then the old key has it."""
    if not event.unchanged or event.after is None:
        return image
    old = event.moved_from or event.before or {}
    return {**image, **{name: old[name] for name in event.unchanged if name in old}}


class SegmentWriter:
    """Builds one segment's bodies into two files. `shape_of` gives the shape behind a schema id."""

    def __init__(self, rows: Stream, transactions: Stream, shape_of: Callable[[str], Table]) -> None:
        self._shape_of = shape_of
        self._rows = pq.ParquetWriter(rows, ROWS, use_dictionary=_DICTIONARY, **_OPTIONS)
        self._transactions = pq.ParquetWriter(transactions, TRANSACTIONS, use_dictionary=_DICTIONARY, **_OPTIONS)
        self._shapes: dict[str, _Shape] = {}
        self._held: dict[str, _TableRows] = {}
        self._held_bytes = 0
        self._log: list[tuple[Any, ...]] = []
        self.tables: dict[str, TableRows] = {}
        self.changes: list[SchemaChange] = []
        self.events = 0
        """Rows written; logical messages are none."""

    @property
    def used_shapes(self) -> set[str]:
        """Every shape that a restore of this segment needs."""
        return self._shapes.keys() | {c.new for c in self.changes if c.new} | {c.old for c in self.changes if c.old}

    def add(self, transaction: ChangeTransaction) -> None:
        """All its events; those of a streamed one are taken here."""
        end, seq = transaction.end, transaction.txn_seq
        streamed, counted = transaction.streamed, 0
        changes = [
            SchemaChange(seq=seq, at=c.at, table=c.table, effect=c.effect, old=c.old, new=c.new, copy_id=c.copy_id)
            for c in end.changes
        ]
        for event in transaction.events:
            if event.op == "t":
                changes.append(SchemaChange(seq=seq, at=event.ordinal, table=event.table, effect="truncate"))
            elif event.op != "m":
                self._row(seq, event)
            if streamed:
                counted = self._count(transaction.bytes, counted)
        self._count(transaction.bytes, counted)
        # What happened at one place: a change of shape there holds after the row, TRUNCATE is the row.
        self.changes += sorted(changes, key=lambda c: (c.at, c.effect != "truncate"))
        if end.copy is not None and end.copy.last:
            self.changes.append(
                SchemaChange(seq=seq, at=end.event_count, table=end.copy.table, effect="copied", copy_id=end.copy.id)
            )
        self._log.append(
            (seq, end.kind, end.commit_ts_us, end.position, end.run, transaction.log_offset, end.xid, end.event_count)
        )

    def _count(self, taken: int, counted: int) -> int:
        """Bytes of a transaction that were taken, those counted before it not again; what is too much is written."""
        self._held_bytes += taken - counted
        if self._held_bytes > FLUSH_BYTES:
            self._flush()
        return taken

    def _row(self, seq: int, event: RowEvent) -> None:
        shape = self._shapes.get(event.schema_id)
        if shape is None:
            shape = self._shapes[event.schema_id] = _Shape(self._shape_of(event.schema_id), event.schema_id)
        rows = self._held.get(event.table)
        if rows is None:
            rows = self._held[event.table] = _TableRows(event.table)
        rows.add(seq, event, shape)
        self.events += 1

    def _flush(self) -> None:
        for name in sorted(self._held):
            rows = self._held[name]
            self._rows.write_batch(rows.batch(), row_group_size=len(rows.seqs))
            schemas, known = tuple(sorted(set(rows.schemas))), self.tables.get(name)
            self.tables[name] = TableRows(
                rows=len(rows.seqs) + (known.rows if known else 0),
                first=known.first if known else rows.seqs[0],
                last=rows.seqs[-1],
                schemas=tuple(sorted({*schemas, *(known.schemas if known else ())})),
            )
        self._held.clear()
        self._held_bytes = 0

    def close(self) -> None:
        """Write what is held, and the ends of both files."""
        self._flush()
        self._rows.close()
        columns = zip(*self._log, strict=True) if self._log else ([] for _ in TRANSACTIONS)
        arrays = [pa.array(list(values), kind) for values, kind in zip(columns, TRANSACTIONS.types, strict=True)]
        self._transactions.write_batch(pa.RecordBatch.from_arrays(arrays, schema=TRANSACTIONS))
        self._transactions.close()
