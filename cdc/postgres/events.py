"""The events of one Postgres table: rows as the log carries them → key and value bytes. Pure, compiled per table.

In: a table's shape, an open transaction, rows. Out: `Record`s in order: an event, the tombstone behind a delete, the
two events of a moved key. Refuses: a value without a form, by VALUE_UNREPRESENTABLE with table, column and LSN.

`plain` is the way of nearly every change, from its bytes in one pass (`plan`). What it declines goes through `wire`
and `insert`, `update`, `delete`, which write the same events from rows, and the rest.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from cdc.envelope import NULL, VERSION, compile_key, compile_row, frame, name_list, quoted_twice, tail
from cdc.errors import VALUE_UNREPRESENTABLE, CdcError
from cdc.event import UNAVAILABLE, Column, Table
from cdc.position import Lsn
from cdc.postgres.plan import NOT_PLAIN, compile_plan
from cdc.postgres.values import UnrepresentableError, encoder
from cdc.postgres.wire import Message
from cdc.rowevents import UNCHANGED, OpenTransaction, Record, Row, RunFacts
from cdc.types import Form, element, is_array

_NEW = ord("N")


@dataclass(slots=True, kw_only=True)
class PgTransaction(OpenTransaction):
    """Where it stands: its commit record's LSN, and the end of the commit before it."""

    xid: int
    final_lsn: int
    last_commit_lsn: int | None

    @property
    def id(self) -> str:
        return f"{self.xid}:{self.final_lsn}"


class TableStream:
    """Writes the events of one shape of one table in one run."""

    def __init__(self, table: Table, schema_id: str, topic: str, facts: RunFacts) -> None:
        self.table, self.schema_id, self.topic, self.facts = table, schema_id, topic, facts
        self._name = table.full_name
        names = [column.name for column in table.columns]
        encoders = [encoder(column.type, column.typmod) for column in table.columns]
        self._encoders = encoders
        self._row = compile_row(names, encoders)
        self._key_at = [names.index(name) for name in table.key]
        self._key = compile_key(table.key, self._key_at, [encoders[at] for at in self._key_at]) if table.key else None
        self._plan = compile_plan(names, self._key_at, encoders)
        absent = [name for name in names if name not in table.key]
        self._key_image_tail = tail({"before_absent": name_list(absent)}) if absent else b""
        self._placeholders = [_placeholder(column) for column in table.columns]
        self._frame = frame(self._source_template(b"false"), transaction=True)
        self._copy_frame = frame(self._source_template(b"true"), transaction=False)
        self._transaction: PgTransaction | None = None
        self._template = b""

    # -- what the log says --------------------------------------------------------------------------------------
    def plain(self, txn: PgTransaction, data: bytes, lsn: int) -> list[Record] | None:
        """A change as the log sent it; None if it takes more than one look."""
        try:
            end, key, image = self._plan(data, 6)
            before, after, extra = NULL, image, b""
            match data[:6:5]:
                case b"IN":
                    op = b"c"
                case b"UN":
                    op = b"u"
                case b"DK" | b"DO" as kind:
                    before, after, op = image, NULL, b"d"
                    extra = self._key_image_tail if kind == b"DK" else b""
                case b"UK" | b"UO" as kind:
                    if data[end] != _NEW:
                        return None
                    end, new_key, after = self._plan(data, end + 1)
                    if new_key != key:
                        return None
                    before, op = image, b"u"
                    extra = self._key_image_tail if kind == b"UK" else b""
                case _:
                    return None
        except NOT_PLAIN:
            return None
        if end != len(data):
            return None
        event = Record(self.topic, key, self._event(txn, before, after, lsn, op, extra))
        return [event, Record(self.topic, key, None)] if op == b"d" else [event]

    def insert(self, txn: PgTransaction, row: Row, lsn: int) -> list[Record]:
        key = self._key(row) if self._key else None
        return [Record(self.topic, key, self._event(txn, NULL, self._image(row, lsn), lsn, b"c"))]

    def read(self, txn: PgTransaction, row: Row, lsn: int, marker: bytes) -> list[Record]:
        """A row of a base copy. `marker`: Debezium's word for its place in the copy."""
        key = self._key(row) if self._key else None
        value = self._event(txn, NULL, self._image(row, lsn), lsn, b"r")
        if marker != b"true":
            # Behind the row stands no other member of this name, whatever the columns are called.
            head, _, rest = value.rpartition(b'"snapshot":"true"')
            value = b'%b"snapshot":"%b"%b' % (head, marker, rest)
        return [Record(self.topic, key, value)]

    def update(self, txn: PgTransaction, kind: bytes, old: Row | None, row: Row, lsn: int) -> list[Record]:
        unchanged: list[str] = []
        if UNCHANGED in row:
            row, unchanged = self._fill(row, old, range(len(row)) if kind == b"O" else self._key_at)
        key = self._key(row) if self._key else None
        old_key = self._key(old) if old is not None and self._key else key
        if old is not None and old_key != key:
            return self._moved(txn, kind, old, row, unchanged, lsn)
        before = self._image(old, lsn) if old is not None else NULL
        extra = self._key_image_tail if kind == b"K" else b""
        if unchanged:
            extra = tail({"unchanged": name_list(unchanged)}) + extra
        after = self._partial(row, lsn) if unchanged else self._image(row, lsn)
        return [Record(self.topic, key, self._event(txn, before, after, lsn, b"u", extra))]

    def delete(self, txn: PgTransaction, kind: bytes, old: Row, lsn: int) -> list[Record]:
        key = self._key(old) if self._key else None
        extra = self._key_image_tail if kind == b"K" else b""
        event = Record(self.topic, key, self._event(txn, self._image(old, lsn), NULL, lsn, b"d", extra))
        return [event, Record(self.topic, key, None)]

    def truncate(self, txn: PgTransaction, lsn: int) -> list[Record]:
        return [Record(self.topic, None, self._event(txn, NULL, NULL, lsn, b"t"))]

    def _moved(
        self, txn: PgTransaction, kind: bytes, old: Row, row: Row, unchanged: list[str], lsn: int
    ) -> list[Record]:
        """A changed key: a delete at the old one and an insert at the new one, each naming the other."""
        assert self._key is not None
        old_key, key = self._key(old), self._key(row)
        gone = tail({"moved_to": key})
        if kind == b"K":
            gone = self._key_image_tail + gone
        came = tail({"moved_from": old_key})
        if unchanged:
            came = tail({"unchanged": name_list(unchanged)}) + came
        newkey = [("__debezium.newkey", key)]
        deleted = self._event(txn, self._image(old, lsn), NULL, lsn, b"d", gone)
        created = self._event(
            txn, NULL, self._partial(row, lsn) if unchanged else self._image(row, lsn), lsn, b"c", came
        )
        return [
            Record(self.topic, old_key, deleted, newkey),
            Record(self.topic, old_key, None, newkey),
            Record(self.topic, key, created, [("__debezium.oldkey", old_key)]),
        ]

    # -- bytes --------------------------------------------------------------------------------------------------
    def _event(self, txn: PgTransaction, before: bytes, after: bytes, lsn: int, op: bytes, extra: bytes = b"") -> bytes:
        if txn is not self._transaction:
            self._open(txn)
        txn.ordinal = ordinal = txn.ordinal + 1
        txn.counts[self._name] = count = txn.counts.get(self._name, 0) + 1
        if txn.snapshot:
            return self._template % (before, after, lsn, lsn, ordinal, op, extra)
        return self._template % (before, after, lsn, lsn, ordinal, ordinal, count, op, extra)

    def _open(self, txn: PgTransaction) -> None:
        self._transaction = txn
        last = NULL if txn.last_commit_lsn is None else b'\\"%d\\"' % txn.last_commit_lsn
        us, now = txn.commit_ts_us, txn.now_ns
        source = us // 1000, last, us, us * 1000, txn.xid, txn.seq, txn.final_lsn, us
        times = now // 1_000_000, now // 1000, now
        if txn.snapshot:
            self._template = self._copy_frame % (*source, *times)
        else:
            self._template = self._frame % (*source, orjson.dumps(txn.id), *times)

    def _source_template(self, snapshot: bytes) -> bytes:
        """The `source` block. Places with one % are the transaction's, with two the event's: LSN twice, ordinal."""
        facts = self.facts
        return b"".join(
            (
                b'{"version":',
                quoted_twice(VERSION),
                b',"connector":"postgresql","name":',
                quoted_twice(facts.source),
                b',"ts_ms":%d,"snapshot":"',
                snapshot,
                b'","db":',
                quoted_twice(facts.database),
                b',"sequence":"[%b,\\"%%d\\"]","ts_us":%d,"ts_ns":%d,"schema":',
                quoted_twice(self.table.schema),
                b',"table":',
                quoted_twice(self.table.name),
                b',"txId":%d,"lsn":%%d,"xmin":null,"origin":null,"origin_lsn":null,"run":',
                quoted_twice(facts.run),
                b',"epoch":%d' % facts.epoch,
                b',"txn_seq":%d,"ordinal":%%d,"schema_id":',
                quoted_twice(self.schema_id),
                b',"commit_lsn":%d,"commit_ts_us":%d}',
            )
        )

    def _image(self, row: Row, lsn: int) -> bytes:
        try:
            return self._row(row)
        except (UnrepresentableError, ValueError, TypeError, KeyError, IndexError) as error:
            raise self._unrepresentable(row, lsn, error) from None

    def _partial(self, row: Row, lsn: int) -> bytes:
        """A row with columns that the log did not carry: Debezium's placeholder stands for them."""
        parts = []
        for column, encode, placeholder, value in zip(
            self.table.columns, self._encoders, self._placeholders, row, strict=True
        ):
            name = orjson.dumps(column.name)
            try:
                text = NULL if value is None else placeholder if value is UNCHANGED else encode(value)  # type: ignore[arg-type]
            except (UnrepresentableError, ValueError, TypeError, KeyError, IndexError) as error:
                raise self._unrepresentable(row, lsn, error) from None
            parts.append(b"%b:%b" % (name, text))
        return b"{" + b",".join(parts) + b"}"

    def _fill(self, row: Row, old: Row | None, there: Sequence[int]) -> tuple[Row, list[str]]:
        """Unchanged columns from the old image, where the log carries them (`there`); the names of the rest.

        A long key that did not change is such a column too: its old image comes with every update.
        """
        filled = list(row)
        unchanged = []
        for at, value in enumerate(row):
            if value is UNCHANGED:
                if old is not None and at in there and old[at] is not UNCHANGED:
                    filled[at] = old[at]
                else:
                    unchanged.append(self.table.columns[at].name)
        return filled, unchanged

    def _unrepresentable(self, row: Row, lsn: int, error: Exception) -> CdcError:
        if len(row) != len(self.table.columns):
            column, problem = "?", f"{len(row)} columns, {len(self.table.columns)} expected"
        else:
            column, problem = "?", str(error)
            for shape, encode, value in zip(self.table.columns, self._encoders, row, strict=True):
                try:
                    if value is not None:
                        encode(value)  # type: ignore[arg-type]
                except (UnrepresentableError, ValueError, TypeError, KeyError, IndexError) as cause:
                    column = shape.name
                    problem = (
                        str(cause) if isinstance(cause, UnrepresentableError) else f"a text that no {shape.type} has"
                    )
                    break
        return CdcError(
            VALUE_UNREPRESENTABLE,
            source=self.facts.source,
            table=self.table.full_name,
            position=Lsn(lsn),
            column=column,
            problem=problem,
        )


class MessageStream:
    """Writes foreign logical messages as events (op `m`, key = prefix) to a topic of their own."""

    def __init__(self, topic: str, facts: RunFacts) -> None:
        self._topic, self._facts = topic, facts

    def event(self, txn: PgTransaction, message: Message, lsn: int) -> Record:
        facts, us = self._facts, txn.commit_ts_us
        txn.ordinal += 1
        txn.counts[""] = count = txn.counts.get("", 0) + 1
        last = None if txn.last_commit_lsn is None else str(txn.last_commit_lsn)
        value = {
            "op": "m",
            "ts_ms": txn.now_ns // 1_000_000,
            "source": {
                "version": VERSION,
                "connector": "postgresql",
                "name": facts.source,
                "ts_ms": us // 1000,
                "snapshot": "false",
                "db": facts.database,
                "sequence": orjson.dumps([last, str(lsn)]).decode(),
                "ts_us": us,
                "ts_ns": us * 1000,
                "schema": "",
                "table": "",
                "txId": txn.xid or None,
                "lsn": lsn,
                "xmin": None,
                "origin": None,
                "origin_lsn": None,
                "run": facts.run,
                "epoch": facts.epoch,
                "txn_seq": txn.seq,
                "ordinal": txn.ordinal,
                "commit_lsn": txn.final_lsn,
                "commit_ts_us": us,
            },
            "transaction": {"id": txn.id, "total_order": txn.ordinal, "data_collection_order": count},
            "message": {"prefix": message.prefix, "content": b64encode(message.content).decode()},
        }
        return Record(self._topic, orjson.dumps({"prefix": message.prefix}), orjson.dumps(value))


_BASE64_UNAVAILABLE = b64encode(UNAVAILABLE.encode()).decode()


def _placeholder(column: Column) -> bytes:
    """What Debezium writes where the log did not carry a value: readers of ours go by `unchanged` alone."""
    base = element(column.type)
    text = _BASE64_UNAVAILABLE if base.form is Form.BYTES else UNAVAILABLE
    if not is_array(column.type):
        return orjson.dumps(text)
    if base.name in ("int4", "int8"):
        return orjson.dumps(list(UNAVAILABLE.encode()))
    if base.name == "uuid":
        return b'["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]'
    return orjson.dumps([text]) if base.form in (Form.TEXT, Form.BYTES) and base.name != "enum" else NULL
