"""The events of one MySQL table: rows of the binary log or of a copy → key and value bytes. Pure, compiled per table.

In: a table's shape, its TABLE_MAP, an open transaction, rows events or rows of source text. Out: `Record`s in order: an
event, the tombstone behind a delete, the two events of a moved key. Refuses: a value without a form, by
VALUE_UNREPRESENTABLE with table, column and transaction; an image without a column that it must have, by
ROW_IMAGE_PARTIAL; bytes that are no rows event of this table, by CORRUPT_WIRE.

Nearly every rows event is read from its bytes in one pass (`plan`). One that the plan declines goes through `rows` and
`values` from its beginning: the same events, row by row, and the rest (images that lack columns, moved keys).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cdc.connect import INT32, STRING
from cdc.envelope import (
    OPTIONAL_INT64,
    OPTIONAL_STRING,
    SNAPSHOT,
    VERSION,
    Described,
    Fill,
    Open,
    Place,
    RowEncoder,
    fixed,
    per_event,
    per_transaction,
)
from cdc.errors import ROW_IMAGE_PARTIAL, VALUE_UNREPRESENTABLE, CdcError
from cdc.event import Table
from cdc.mysql.carried import encode
from cdc.mysql.cells import Cell
from cdc.mysql.plan import NOT_PLAIN, Plan
from cdc.mysql.rows import ColumnError, parse_rows, whole_heads
from cdc.mysql.tablemap import TableMap, cell
from cdc.mysql.wire import DELETE_ROWS, UPDATE_ROWS, WRITE_ROWS, Header
from cdc.rowevents import UNCHANGED, OpenTransaction, Record, Row, RunFacts


@dataclass(slots=True, kw_only=True)
class MySqlTransaction(OpenTransaction):
    """Where it stands: its GTID, and file and position of its first event. Of a copy `gtid` and `thread` are None."""

    gtid: str | None
    file: str
    pos: int
    server_id: int
    thread: int | None

    @property
    def id(self) -> str:
        return self.gtid or f"file={self.file},pos={self.pos}"


class TableStream:
    """Writes the events of one shape of one table in one run. `table_map` is None for a copy."""

    def __init__(self, table: Table, table_map: TableMap | None, schema_id: str, topic: str, facts: RunFacts) -> None:
        self.table, self.schema_id, self.topic, self.facts = table, schema_id, topic, facts
        self._name = table.full_name
        names = [column.name for column in table.columns]
        self._key_at = [names.index(name) for name in table.key]
        self._format = form = facts.format.table(
            Described(
                name=f"{facts.source}.{table.full_name}",
                full_name=table.full_name,
                schema_id=schema_id,
                topic=topic,
                columns=tuple(encode(column, table.types) for column in table.columns),
                key_at=tuple(self._key_at),
                source_name=f"io.debezium.connector.{table.engine}.Source",
                source=self._source,
            )
        )
        self._row = form.row()
        self._key = form.key_of(form.key) if table.key else None
        self._nothing, self._no_tail = form.no_image, form.no_tail
        self._frames: dict[str, Open] = {}
        self._frame = form.frame("false")
        self._transaction: MySqlTransaction | None = None
        self._marker = ""
        self._fill: Fill
        self._cells: list[Cell] = []
        self._heads: dict[int, tuple[bytes, ...]] = {}
        if table_map is not None:
            self._map(table_map, names)

    def _map(self, table_map: TableMap, names: list[str]) -> None:
        if [column.name for column in table_map.columns] != names:
            raise ValueError(f"the columns of {self._name} are not those of its TABLE_MAP")
        self._cells = [cell(column) for column in table_map.columns]
        self._plan = Plan(self._format, table_map.columns, exact=self.table.types == "exact")
        self._null_size = (len(names) + 7) // 8
        self._heads = {kind: whole_heads(kind, len(names)) for kind in _OPS}

    # -- what the log says --------------------------------------------------------------------------------------
    def rows(self, txn: MySqlTransaction, header: Header, body: bytes) -> list[Record]:
        """All records of a rows event."""
        # An event of a compressed transaction stands in no file.
        pos = header.end - header.size & 0xFFFFFFFF if header.end else txn.pos
        if txn is not self._transaction:
            self._open(txn)
        try:
            records = self._plain(txn, header.type, body, pos)
        except NOT_PLAIN:
            records = None
        return list(self._by_column(txn, header.type, body, pos)) if records is None else records

    def read(self, txn: MySqlTransaction, row: Row, marker: str) -> list[Record]:
        """A row of a base copy, in source text. `marker`: Debezium's word for its place in the copy."""
        key = self._key_of(row, txn)
        if txn is not self._transaction or marker != self._marker:
            self._open_copy(txn, marker)
        txn.ordinal = ordinal = txn.ordinal + 1
        txn.counts[self._name] = ordinal
        fields = (self._nothing, self._image(row, txn), txn.pos, 0, ordinal, b"r", self._no_tail)
        return [Record(self.topic, key, self._fill(fields))]

    def truncate(self, txn: MySqlTransaction) -> list[Record]:
        nothing = self._nothing
        return [Record(self.topic, None, self._event(txn, nothing, nothing, txn.pos, 0, b"t"))]

    # -- in one pass --------------------------------------------------------------------------------------------
    def _plain(self, txn: MySqlTransaction, kind: int, body: bytes, pos: int) -> list[Record] | None:
        """None, or any of `NOT_PLAIN`, if it takes more than one look; the transaction is then as it was."""
        heads = self._heads[kind]
        at = 8 + body[8] + (body[9] << 8)
        if not body.startswith(heads, at):
            return None
        at += len(heads[0])
        end, size, topic, fill, row = len(body), self._null_size, self.topic, self._fill, 0
        nothing, tail = self._nothing, self._no_tail
        functions, function = self._plan.functions, self._plan.function
        ordinal, count = txn.ordinal, txn.counts.get(self._name, 0)
        before, after, op = nothing, nothing, _OPS[kind]
        records = []
        while at < end:
            nulls = body[at : at + size]
            at, key, image = (functions.get(nulls) or function(nulls))(body, at + size)
            if kind == WRITE_ROWS:
                after = image
            elif kind == DELETE_ROWS:
                before = image
            else:
                before = image
                nulls = body[at : at + size]
                at, new_key, after = (functions.get(nulls) or function(nulls))(body, at + size)
                if new_key != key:
                    return None
            ordinal += 1
            count += 1
            value = fill((before, after, pos, row, ordinal, ordinal, count, op, tail))
            records.append(Record(topic, key, value))
            if kind == DELETE_ROWS:
                records.append(Record(topic, key, None))
            row += 1
        if at != end or not row:
            return None
        txn.ordinal, txn.counts[self._name] = ordinal, count
        return records

    # -- column by column ---------------------------------------------------------------------------------------
    def _by_column(self, txn: MySqlTransaction, kind: int, body: bytes, pos: int) -> Iterator[Record]:
        rows = parse_rows(kind, body, self._cells)
        try:
            for number, (before, after) in enumerate(rows):
                if before is None:
                    assert after is not None
                    yield from self._insert(txn, after, pos, number)
                elif after is None:
                    yield from self._delete(txn, before, pos, number)
                else:
                    yield from self._update(txn, before, after, pos, number)
        except ColumnError as error:
            raise self._unrepresentable(txn, self.table.columns[error.at].name, str(error)) from None

    def _insert(self, txn: MySqlTransaction, row: Row, pos: int, number: int) -> list[Record]:
        self._demand(txn, "an insert", row, range(len(row)))
        key, nothing = self._key_of(row, txn), self._nothing
        return [Record(self.topic, key, self._event(txn, nothing, self._image(row, txn), pos, number, b"c"))]

    def _delete(self, txn: MySqlTransaction, row: Row, pos: int, number: int) -> list[Record]:
        absent = self._absent(txn, "a delete", row)
        key, tail = self._key_of(row, txn), self._format.tail(absent)
        value = self._event(txn, self._before(row, txn), self._nothing, pos, number, b"d", tail)
        return [Record(self.topic, key, value), Record(self.topic, key, None)]

    def _update(self, txn: MySqlTransaction, old: Row, new: Row, pos: int, number: int) -> list[Record]:
        form = self._format
        absent = self._absent(txn, "an update", old)
        after = [was if now is UNCHANGED else now for was, now in zip(old, new, strict=True)]
        unchanged = [column.name for column, value in zip(self.table.columns, after, strict=True) if value is UNCHANGED]
        lacking = {"unchanged": unchanged} if unchanged else {}
        key = self._key_of(after, txn)
        old_key = self._key_of(old, txn)
        gone, came = self._before(old, txn), self._image(after, txn)
        if key is None or old_key is None or key == old_key:
            return [
                Record(self.topic, key, self._event(txn, gone, came, pos, number, b"u", form.tail(lacking | absent)))
            ]
        # A changed key: a delete at the old one and an insert at the new one, each naming the other.
        inner, as_json = form.key_of(form.inner_key), form.key_as_json()
        moved_to, moved_from = (
            form.tail(absent | {"moved_to": inner(after)}),
            form.tail(lacking | {"moved_from": inner(old)}),
        )
        newkey = [("__debezium.newkey", as_json(after))]
        return [
            Record(self.topic, old_key, self._event(txn, gone, self._nothing, pos, number, b"d", moved_to), newkey),
            Record(self.topic, old_key, None, newkey),
            Record(
                self.topic,
                key,
                self._event(txn, self._nothing, came, pos, number, b"c", moved_from),
                [("__debezium.oldkey", as_json(old))],
            ),
        ]

    def _absent(self, txn: MySqlTransaction, op: str, row: Row) -> dict[str, list[str]]:
        """The columns that an image before the change lacks.

        It identifies its row: it has the key, of a keyless table everything.
        """
        if UNCHANGED not in row:
            return {}
        self._demand(txn, op, row, self._key_at or range(len(row)))
        absent = [column.name for column, value in zip(self.table.columns, row, strict=True) if value is UNCHANGED]
        return {"before_absent": absent}

    def _demand(self, txn: MySqlTransaction, op: str, row: Row, columns: Sequence[int]) -> None:
        for at in columns:
            if row[at] is UNCHANGED:
                raise CdcError(
                    ROW_IMAGE_PARTIAL,
                    source=self.facts.source,
                    table=self._name,
                    position=txn.id,
                    op=op,
                    column=self.table.columns[at].name,
                )

    # -- bytes --------------------------------------------------------------------------------------------------
    def _event(
        self,
        txn: MySqlTransaction,
        before: bytes,
        after: bytes,
        pos: int,
        row: int,
        op: bytes,
        extra: bytes | None = None,
    ) -> bytes:
        if txn is not self._transaction:
            self._open(txn)
        txn.ordinal = ordinal = txn.ordinal + 1
        txn.counts[self._name] = count = txn.counts.get(self._name, 0) + 1
        tail = self._no_tail if extra is None else extra
        return self._fill((before, after, pos, row, ordinal, ordinal, count, op, tail))

    def _open(self, txn: MySqlTransaction) -> None:
        self._transaction = txn
        us, now = txn.commit_ts_us, txn.now_ns
        self._fill = self._frame(
            us // 1000, us, us * 1000, txn.server_id, txn.gtid, txn.file, txn.thread, txn.seq, us, txn.id,
            now // 1_000_000, now // 1000, now,
        )  # fmt: skip

    def _open_copy(self, txn: MySqlTransaction, marker: str) -> None:
        """To Debezium it is no transaction: it has no id."""
        self._transaction, self._marker = txn, marker
        if marker not in self._frames:
            self._frames[marker] = self._format.frame(marker)
        us, now = txn.commit_ts_us, txn.now_ns
        self._fill = self._frames[marker](
            us // 1000, us, us * 1000, txn.server_id, txn.gtid, txn.file, txn.thread, txn.seq, us,
            now // 1_000_000, now // 1000, now,
        )  # fmt: skip

    def _source(self, snapshot: str) -> tuple[Place, ...]:
        """The `source` block. Of an event: pos, row, ordinal."""
        facts = self.facts
        return (
            fixed("version", VERSION),
            fixed("connector", self.table.engine),
            fixed("name", facts.source),
            per_transaction("ts_ms"),
            fixed("snapshot", snapshot, SNAPSHOT),
            fixed("db", self.table.schema),
            fixed("sequence", None, OPTIONAL_STRING),
            per_transaction("ts_us", OPTIONAL_INT64),
            per_transaction("ts_ns", OPTIONAL_INT64),
            fixed("table", self.table.name, OPTIONAL_STRING),
            per_transaction("server_id"),
            per_transaction("gtid", OPTIONAL_STRING, nullable=True),
            per_transaction("file", STRING),
            per_event("pos"),
            per_event("row", INT32),
            per_transaction("thread", OPTIONAL_INT64, nullable=True),
            fixed("query", None, OPTIONAL_STRING),
            fixed("run", facts.run, OPTIONAL_STRING),
            fixed("epoch", facts.epoch, OPTIONAL_INT64),
            per_transaction("txn_seq", OPTIONAL_INT64),
            per_event("ordinal", OPTIONAL_INT64),
            fixed("schema_id", self.schema_id, OPTIONAL_STRING),
            per_transaction("commit_ts_us", OPTIONAL_INT64),
        )

    def _key_of(self, row: Row, txn: MySqlTransaction) -> bytes | None:
        try:
            return self._key(row) if self._key else None
        except (ValueError, TypeError):
            self._image(row, txn)
            raise

    def _before(self, row: Row, txn: MySqlTransaction) -> bytes:
        """An image before the change; where it lacks a column stands what Debezium has there."""
        return self._image(row, txn, self._format.key_image_nulls)

    def _image(self, row: Row, txn: MySqlTransaction, lacking: Sequence[bytes | None] | None = None) -> bytes:
        """A row. For a column that the log did not carry stands Debezium's placeholder, or what is given."""
        if UNCHANGED not in row:
            return self._written(self._row, row, txn)
        form = self._format
        nulls = [
            placeholder if value is UNCHANGED else null
            for value, null, placeholder in zip(row, form.nulls, lacking or form.unavailable, strict=True)
        ]
        return self._written(form.row(nulls), [None if value is UNCHANGED else value for value in row], txn)

    def _written(self, encode: RowEncoder, row: Row, txn: MySqlTransaction) -> bytes:
        try:
            return encode(row)
        except (ValueError, TypeError, IndexError):
            raise self._which(row, txn) from None

    def _which(self, row: Row, txn: MySqlTransaction) -> CdcError:
        """Which column it is that has no form."""
        if len(row) != len(self.table.columns):
            return self._unrepresentable(txn, "?", f"{len(row)} columns, {len(self.table.columns)} expected")
        for column, rule, value in zip(self.table.columns, self._format.encoders, row, strict=True):
            try:
                if value is not None:
                    rule(value)  # type: ignore[arg-type]
            except (ValueError, TypeError, IndexError) as error:
                exact = self.table.types == "exact"
                problem = f"a text that no {column.type} has" if exact else str(error)
                return self._unrepresentable(txn, column.name, problem)
        return self._unrepresentable(txn, "?", "NULL in a column that is NOT NULL")

    def _unrepresentable(self, txn: MySqlTransaction, column: str, problem: str) -> CdcError:
        return CdcError(
            VALUE_UNREPRESENTABLE,
            source=self.facts.source,
            table=self._name,
            position=txn.id,
            column=column,
            problem=problem,
        )


_OPS = {WRITE_ROWS: b"c", UPDATE_ROWS: b"u", DELETE_ROWS: b"d"}
