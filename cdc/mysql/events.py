"""The events of one MySQL table: rows of the binary log or of a copy → key and value bytes. Pure, compiled per table.

In: a table's shape, its TABLE_MAP, an open transaction, rows events or rows of source text. Out: `Record`s in order: an
event, the tombstone behind a delete, the two events of a moved key. Refuses: a value without a form, by
VALUE_UNREPRESENTABLE with table, column and transaction; an image without a column that it must have, by
ROW_IMAGE_PARTIAL; bytes that are no rows event of this table, by CORRUPT_WIRE.

Nearly every rows event is read from its bytes in one pass (`plan`). One that the plan declines goes through `rows` and
`values` from its beginning: the same events, row by row, and the rest (images that lack columns, moved keys).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from cdc.envelope import NULL, VERSION, compile_key, compile_row, frame, name_list, quoted_twice, tail
from cdc.errors import ROW_IMAGE_PARTIAL, VALUE_UNREPRESENTABLE, CdcError
from cdc.event import UNAVAILABLE, Column, Table
from cdc.mysql.cells import Cell
from cdc.mysql.plan import NOT_PLAIN, Plan
from cdc.mysql.rows import ColumnError, parse_rows, whole_heads
from cdc.mysql.tablemap import TableMap, cell
from cdc.mysql.values import encoder
from cdc.mysql.wire import DELETE_ROWS, UPDATE_ROWS, WRITE_ROWS, Header
from cdc.rowevents import UNCHANGED, OpenTransaction, Record, Row, RunFacts
from cdc.types import Form, element


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
        encoders = [encoder(column) for column in table.columns]
        self._encoders = encoders
        self._row = compile_row(names, encoders)
        self._key_at = [names.index(name) for name in table.key]
        self._key = compile_key(table.key, self._key_at, [encoders[at] for at in self._key_at]) if table.key else None
        self._placeholders = [_placeholder(column) for column in table.columns]
        self._frame = frame(self._source_template(b"false"), transaction=True)
        self._copy_frame = frame(self._source_template(b"true"), transaction=False)
        self._transaction: MySqlTransaction | None = None
        self._template = b""
        self._cells: list[Cell] = []
        self._heads: dict[int, tuple[bytes, ...]] = {}
        if table_map is not None:
            self._map(table_map, names)

    def _map(self, table_map: TableMap, names: list[str]) -> None:
        if [column.name for column in table_map.columns] != names:
            raise ValueError(f"the columns of {self._name} are not those of its TABLE_MAP")
        self._cells = [cell(column) for column in table_map.columns]
        self._plan = Plan(names, self._key_at, table_map.columns)
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

    def read(self, txn: MySqlTransaction, row: Row, marker: bytes) -> list[Record]:
        """A row of a base copy, in source text. `marker`: Debezium's word for its place in the copy."""
        key = self._key_of(row, txn)
        value = self._event(txn, NULL, self._image(row, txn), txn.pos, 0, b"r")
        if marker != b"true":
            # Behind the row stands no other member of this name, whatever the columns are called.
            head, _, rest = value.rpartition(b'"snapshot":"true"')
            value = b'%b"snapshot":"%b"%b' % (head, marker, rest)
        return [Record(self.topic, key, value)]

    def truncate(self, txn: MySqlTransaction) -> list[Record]:
        return [Record(self.topic, None, self._event(txn, NULL, NULL, txn.pos, 0, b"t"))]

    # -- in one pass --------------------------------------------------------------------------------------------
    def _plain(self, txn: MySqlTransaction, kind: int, body: bytes, pos: int) -> list[Record] | None:
        """None, or any of `NOT_PLAIN`, if it takes more than one look; the transaction is then as it was."""
        heads = self._heads[kind]
        at = 8 + body[8] + (body[9] << 8)
        if not body.startswith(heads, at):
            return None
        at += len(heads[0])
        end, size, topic, template, row = len(body), self._null_size, self.topic, self._template, 0
        functions, function = self._plan.functions, self._plan.function
        ordinal, count = txn.ordinal, txn.counts.get(self._name, 0)
        before, after, op = NULL, NULL, _OPS[kind]
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
            value = template % (before, after, pos, row, ordinal, ordinal, count, op, b"")
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
        key = self._key_of(row, txn)
        return [Record(self.topic, key, self._event(txn, NULL, self._image(row, txn), pos, number, b"c"))]

    def _delete(self, txn: MySqlTransaction, row: Row, pos: int, number: int) -> list[Record]:
        row, absent = self._before(txn, "a delete", row)
        key = self._key_of(row, txn)
        value = self._event(txn, self._image(row, txn), NULL, pos, number, b"d", absent)
        return [Record(self.topic, key, value), Record(self.topic, key, None)]

    def _update(self, txn: MySqlTransaction, old: Row, new: Row, pos: int, number: int) -> list[Record]:
        before, absent = self._before(txn, "an update", old)
        after = [was if now is UNCHANGED else now for was, now in zip(old, new, strict=True)]
        unchanged = [column.name for column, value in zip(self.table.columns, after, strict=True) if value is UNCHANGED]
        extra = tail({"unchanged": name_list(unchanged)}) if unchanged else b""
        key = self._key_of(after, txn)
        old_key = self._key_of(before, txn)
        gone, came = self._image(before, txn), self._partial(after, txn) if unchanged else self._image(after, txn)
        if key is None or old_key is None or key == old_key:
            return [Record(self.topic, key, self._event(txn, gone, came, pos, number, b"u", extra + absent))]
        # A changed key: a delete at the old one and an insert at the new one, each naming the other.
        moved_to, moved_from = absent + tail({"moved_to": key}), extra + tail({"moved_from": old_key})
        newkey = [("__debezium.newkey", key)]
        return [
            Record(self.topic, old_key, self._event(txn, gone, NULL, pos, number, b"d", moved_to), newkey),
            Record(self.topic, old_key, None, newkey),
            Record(
                self.topic,
                key,
                self._event(txn, NULL, came, pos, number, b"c", moved_from),
                [("__debezium.oldkey", old_key)],
            ),
        ]

    def _before(self, txn: MySqlTransaction, op: str, row: Row) -> tuple[Row, bytes]:
        """An image before the change, NULL where it lacks a column, and the tail that names those.

        It identifies its row: it has the key, of a keyless table everything.
        """
        if UNCHANGED not in row:
            return row, b""
        self._demand(txn, op, row, self._key_at or range(len(row)))
        absent = [column.name for column, value in zip(self.table.columns, row, strict=True) if value is UNCHANGED]
        filled = [None if value is UNCHANGED else value for value in row]
        return filled, tail({"before_absent": name_list(absent)})

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
        self, txn: MySqlTransaction, before: bytes, after: bytes, pos: int, row: int, op: bytes, extra: bytes = b""
    ) -> bytes:
        if txn is not self._transaction:
            self._open(txn)
        txn.ordinal = ordinal = txn.ordinal + 1
        txn.counts[self._name] = count = txn.counts.get(self._name, 0) + 1
        if txn.snapshot:
            return self._template % (before, after, pos, row, ordinal, op, extra)
        return self._template % (before, after, pos, row, ordinal, ordinal, count, op, extra)

    def _open(self, txn: MySqlTransaction) -> None:
        self._transaction = txn
        us, now = txn.commit_ts_us, txn.now_ns
        name = orjson.dumps(txn.id)
        gtid = NULL if txn.gtid is None else name
        thread = NULL if txn.thread is None else b"%d" % txn.thread
        source = us // 1000, us, us * 1000, txn.server_id, gtid, orjson.dumps(txn.file), thread, txn.seq, us
        times = now // 1_000_000, now // 1000, now
        if txn.snapshot:
            self._template = self._copy_frame % (*source, *times)
        else:
            self._template = self._frame % (*source, name, *times)

    def _source_template(self, snapshot: bytes) -> bytes:
        """The `source` block. Places with one % are the transaction's, with two the event's: pos, row, ordinal."""
        facts = self.facts
        return b"".join(
            (
                b'{"version":',
                quoted_twice(VERSION),
                b',"connector":"mysql","name":',
                quoted_twice(facts.source),
                b',"ts_ms":%d,"snapshot":"',
                snapshot,
                b'","db":',
                quoted_twice(self.table.schema),
                b',"sequence":null,"ts_us":%d,"ts_ns":%d,"table":',
                quoted_twice(self.table.name),
                b',"server_id":%d,"gtid":%b,"file":%b,"pos":%%d,"row":%%d,"thread":%b,"query":null,"run":',
                quoted_twice(facts.run),
                b',"epoch":%d' % facts.epoch,
                b',"txn_seq":%d,"ordinal":%%d,"schema_id":',
                quoted_twice(self.schema_id),
                b',"commit_ts_us":%d}',
            )
        )

    def _key_of(self, row: Row, txn: MySqlTransaction) -> bytes | None:
        try:
            return self._key(row) if self._key else None
        except (ValueError, TypeError):
            self._partial(row, txn)
            raise

    def _image(self, row: Row, txn: MySqlTransaction) -> bytes:
        try:
            return self._row(row)
        except (ValueError, TypeError):
            # Which column it is, only the slow way says.
            return self._partial(row, txn)

    def _partial(self, row: Row, txn: MySqlTransaction) -> bytes:
        """A row with columns that the log did not carry: Debezium's placeholder stands for them."""
        if len(row) != len(self.table.columns):
            raise self._unrepresentable(txn, "?", f"{len(row)} columns, {len(self.table.columns)} expected")
        parts = []
        for column, encode, placeholder, value in zip(
            self.table.columns, self._encoders, self._placeholders, row, strict=True
        ):
            try:
                text = NULL if value is None else placeholder if value is UNCHANGED else encode(value)  # type: ignore[arg-type]
            except (ValueError, IndexError):
                raise self._unrepresentable(txn, column.name, f"a text that no {column.type} has") from None
            parts.append(b"%b:%b" % (orjson.dumps(column.name), text))
        return b"{" + b",".join(parts) + b"}"

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


_BASE64_UNAVAILABLE = b64encode(UNAVAILABLE.encode()).decode()


def _placeholder(column: Column) -> bytes:
    """What Debezium writes where the log did not carry a value: readers of ours go by `unchanged` alone."""
    return orjson.dumps(_BASE64_UNAVAILABLE if element(column.type, "mysql").form is Form.BYTES else UNAVAILABLE)
