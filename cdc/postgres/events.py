"""The events of one Postgres table: rows as the log carries them → key and value bytes. Pure, compiled per table.

In: a table's shape, an open transaction, rows. Out: `Record`s in order: an event, the tombstone behind a delete, the
two events of a moved key. Refuses: a value without a form, by VALUE_UNREPRESENTABLE with table, column and LSN.

`plain` is the way of nearly every change, from its bytes in one pass (`plan`). What it declines goes through `wire`
and `insert`, `update`, `delete`, which write the same events from rows, and the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from cdc.connect import BYTES, STRING, optional, struct
from cdc.envelope import (
    OPTIONAL_INT64,
    OPTIONAL_STRING,
    SNAPSHOT,
    TRANSACTION,
    VERSION,
    Described,
    Fill,
    Open,
    Place,
    RowEncoder,
    block,
    fixed,
    per_event,
    per_transaction,
)
from cdc.errors import VALUE_UNREPRESENTABLE, CdcError
from cdc.event import Table
from cdc.position import Lsn
from cdc.postgres.carried import encode
from cdc.postgres.plan import NOT_PLAIN, compile_plan
from cdc.postgres.values import UnrepresentableError
from cdc.postgres.wire import Message
from cdc.rowevents import UNCHANGED, OpenTransaction, Record, Row, RunFacts

_NEW = ord("N")
_BOTH_ROWS = (b"UO", b"UK")


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
        self._key_at = [names.index(name) for name in table.key]
        self._format = form = facts.format.table(
            Described(
                name=f"{facts.source}.{table.full_name}",
                full_name=table.full_name,
                schema_id=schema_id,
                topic=topic,
                columns=tuple(encode(column, table.types, keyed=column.name in table.key) for column in table.columns),
                key_at=tuple(self._key_at),
                source_name=SOURCE_NAME,
                source=self._source,
            )
        )
        self._row, self._key_row = form.row(), form.row(form.key_image_nulls)
        self._key = form.key_of(form.key) if table.key else None
        self._plan, self._key_plan = compile_plan(form, form.nulls), compile_plan(form, form.key_image_nulls)
        absent = [name for name in names if name not in table.key]
        self._absent: dict[str, list[str]] = {"before_absent": absent} if absent else {}
        self._key_image_tail = form.tail(self._absent) if absent else form.no_tail
        self._nothing, self._no_tail = form.no_image, form.no_tail
        self._frames: dict[str, Open] = {}
        self._frame = form.frame("false")
        self._transaction: PgTransaction | None = None
        self._marker = ""
        self._fill: Fill

    # -- what the log says --------------------------------------------------------------------------------------
    def plain(self, txn: PgTransaction, data: bytes, lsn: int) -> list[Record] | None:
        """A change as the log sent it; None if it takes more than one look."""
        nothing, extra = self._nothing, self._no_tail
        kind = data[:6:5]
        try:
            if kind == b"IN":
                end, key, after = self._plan(data, 6)
                before, op = nothing, b"c"
            elif kind == b"UN":
                end, key, after = self._plan(data, 6)
                before, op = nothing, b"u"
            elif kind == b"DK":
                end, key, before = self._key_plan(data, 6)
                after, op, extra = nothing, b"d", self._key_image_tail
            elif kind == b"DO":
                end, key, before = self._plan(data, 6)
                after, op = nothing, b"d"
            elif kind in _BOTH_ROWS:
                end, key, before = (self._plan if kind == b"UO" else self._key_plan)(data, 6)
                if data[end] != _NEW:
                    return None
                end, new_key, after = self._plan(data, end + 1)
                if new_key != key:
                    return None
                op = b"u"
                if kind == b"UK":
                    extra = self._key_image_tail
            else:
                return None
        except NOT_PLAIN:
            return None
        if end != len(data):
            return None
        event = Record(self.topic, key, self._event(txn, before, after, lsn, op, extra))
        return [event, Record(self.topic, key, None)] if op == b"d" else [event]

    def insert(self, txn: PgTransaction, row: Row, lsn: int) -> list[Record]:
        key = self._key(row) if self._key else None
        return [Record(self.topic, key, self._event(txn, self._nothing, self._image(row, lsn), lsn, b"c"))]

    def read(self, txn: PgTransaction, row: Row, lsn: int, marker: str) -> list[Record]:
        """A row of a base copy. `marker`: Debezium's word for its place in the copy."""
        key = self._key(row) if self._key else None
        if txn is not self._transaction or marker != self._marker:
            self._open_copy(txn, marker)
        txn.ordinal = ordinal = txn.ordinal + 1
        txn.counts[self._name] = ordinal
        fields = (self._nothing, self._image(row, lsn), lsn, lsn, ordinal, b"r", self._no_tail)
        return [Record(self.topic, key, self._fill(fields))]

    def update(self, txn: PgTransaction, kind: bytes, old: Row | None, row: Row, lsn: int) -> list[Record]:
        unchanged: list[str] = []
        if UNCHANGED in row:
            row, unchanged = self._filled(row, old, range(len(row)) if kind == b"O" else self._key_at)
        key = self._key(row) if self._key else None
        old_key = self._key(old) if old is not None and self._key else key
        if old is not None and old_key != key:
            return self._moved(txn, kind, old, row, unchanged, lsn)
        before = self._before(kind, old, lsn) if old is not None else self._nothing
        lacking = {"unchanged": unchanged} if unchanged else {}
        extra = self._format.tail(lacking | (self._absent if kind == b"K" else {}))
        after = self._partial(row, lsn) if unchanged else self._image(row, lsn)
        return [Record(self.topic, key, self._event(txn, before, after, lsn, b"u", extra))]

    def delete(self, txn: PgTransaction, kind: bytes, old: Row, lsn: int) -> list[Record]:
        key = self._key(old) if self._key else None
        extra = self._key_image_tail if kind == b"K" else self._no_tail
        event = Record(self.topic, key, self._event(txn, self._before(kind, old, lsn), self._nothing, lsn, b"d", extra))
        return [event, Record(self.topic, key, None)]

    def truncate(self, txn: PgTransaction, lsn: int) -> list[Record]:
        return [Record(self.topic, None, self._event(txn, self._nothing, self._nothing, lsn, b"t"))]

    def _moved(
        self, txn: PgTransaction, kind: bytes, old: Row, row: Row, unchanged: list[str], lsn: int
    ) -> list[Record]:
        """A changed key: a delete at the old one and an insert at the new one, each naming the other."""
        assert self._key is not None
        form = self._format
        old_key, key, inner, as_json = self._key(old), self._key(row), form.key_of(form.inner_key), form.key_as_json()
        gone = form.tail((self._absent if kind == b"K" else {}) | {"moved_to": inner(row)})
        came = form.tail(({"unchanged": unchanged} if unchanged else {}) | {"moved_from": inner(old)})
        newkey = [("__debezium.newkey", as_json(row))]
        deleted = self._event(txn, self._before(kind, old, lsn), self._nothing, lsn, b"d", gone)
        created = self._event(
            txn, self._nothing, self._partial(row, lsn) if unchanged else self._image(row, lsn), lsn, b"c", came
        )
        return [
            Record(self.topic, old_key, deleted, newkey),
            Record(self.topic, old_key, None, newkey),
            Record(self.topic, key, created, [("__debezium.oldkey", as_json(old))]),
        ]

    # -- bytes --------------------------------------------------------------------------------------------------
    def _event(
        self, txn: PgTransaction, before: bytes, after: bytes, lsn: int, op: bytes, extra: bytes | None = None
    ) -> bytes:
        if txn is not self._transaction:
            self._open(txn)
        txn.ordinal = ordinal = txn.ordinal + 1
        txn.counts[self._name] = count = txn.counts.get(self._name, 0) + 1
        tail = self._no_tail if extra is None else extra
        return self._fill((before, after, lsn, lsn, ordinal, ordinal, count, op, tail))

    def _open(self, txn: PgTransaction) -> None:
        self._transaction = txn
        last = b"null" if txn.last_commit_lsn is None else b'"%d"' % txn.last_commit_lsn
        us, now = txn.commit_ts_us, txn.now_ns
        self._fill = self._frame(
            us // 1000, last, us, us * 1000, txn.xid, txn.seq, txn.final_lsn, us, txn.id, now // 1_000_000, now // 1000,
            now,
        )  # fmt: skip

    def _open_copy(self, txn: PgTransaction, marker: str) -> None:
        """To Debezium it is no transaction: it has no id."""
        self._transaction, self._marker = txn, marker
        if marker not in self._frames:
            self._frames[marker] = self._format.frame(marker)
        us, now = txn.commit_ts_us, txn.now_ns
        self._fill = self._frames[marker](
            us // 1000, b"null", us, us * 1000, txn.xid, txn.seq, txn.final_lsn, us, now // 1_000_000, now // 1000, now
        )

    def _source(self, snapshot: str) -> tuple[Place, ...]:
        return source_places(self.facts, snapshot, self.table.schema, self.table.name, self.schema_id)

    def _before(self, kind: bytes, old: Row, lsn: int) -> bytes:
        """An image before the change; of kind K it has the key alone."""
        return self._image(old, lsn, self._key_row if kind == b"K" else self._row)

    def _image(self, row: Row, lsn: int, encode: RowEncoder | None = None) -> bytes:
        try:
            return (encode or self._row)(row)
        except (UnrepresentableError, ValueError, TypeError, KeyError, IndexError) as error:
            raise self._unrepresentable(row, lsn, error) from None

    def _partial(self, row: Row, lsn: int) -> bytes:
        """A row with columns that the log did not carry: Debezium's placeholder stands for them."""
        form = self._format
        nulls = [
            placeholder if value is UNCHANGED else null
            for value, null, placeholder in zip(row, form.nulls, form.unavailable, strict=True)
        ]
        return self._image([None if value is UNCHANGED else value for value in row], lsn, form.row(nulls))

    def _filled(self, row: Row, old: Row | None, there: Sequence[int]) -> tuple[Row, list[str]]:
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
            for shape, encode, value in zip(self.table.columns, self._format.encoders, row, strict=True):
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


SOURCE_NAME = "io.debezium.connector.postgresql.Source"


def source_places(facts: RunFacts, snapshot: str, schema: str, table: str, schema_id: str | None) -> tuple[Place, ...]:
    """The `source` block. Of an event: LSN (in `sequence`, and alone) and ordinal."""
    return (
        fixed("version", VERSION),
        fixed("connector", "postgresql"),
        fixed("name", facts.source),
        per_transaction("ts_ms"),
        fixed("snapshot", snapshot, SNAPSHOT),
        fixed("db", facts.database),
        per_event("sequence", OPTIONAL_STRING, text='[%b,"%d"]'),
        per_transaction("ts_us", OPTIONAL_INT64),
        per_transaction("ts_ns", OPTIONAL_INT64),
        fixed("schema", schema),
        fixed("table", table),
        per_transaction("txId", OPTIONAL_INT64, nullable=schema_id is None),
        per_event("lsn", OPTIONAL_INT64),
        fixed("xmin", None, OPTIONAL_INT64),
        fixed("origin", None, OPTIONAL_STRING),
        fixed("origin_lsn", None, OPTIONAL_INT64),
        fixed("run", facts.run, OPTIONAL_STRING),
        fixed("epoch", facts.epoch, OPTIONAL_INT64),
        per_transaction("txn_seq", OPTIONAL_INT64),
        per_event("ordinal", OPTIONAL_INT64),
        *(() if schema_id is None else (fixed("schema_id", schema_id, OPTIONAL_STRING),)),
        per_transaction("commit_lsn", OPTIONAL_INT64),
        per_transaction("commit_ts_us", OPTIONAL_INT64),
    )


_MESSAGE_KEY = struct("io.debezium.connector.postgresql.MessageKey", ("prefix", STRING))
_CONTENT = struct("io.debezium.connector.postgresql.Message", ("prefix", STRING), ("content", BYTES))


class MessageStream:
    """Writes foreign logical messages as events (op `m`, key = prefix) to a topic of their own."""

    def __init__(self, topic: str, facts: RunFacts) -> None:
        self._topic, self._facts = topic, facts
        self._places = source_places(facts, "false", "", "", None)
        self._schema = struct(
            "io.debezium.connector.postgresql.MessageValue",
            ("op", STRING),
            ("ts_ms", OPTIONAL_INT64),
            ("source", block(SOURCE_NAME, self._places, version=1)),
            ("transaction", optional(block("event.block", TRANSACTION, version=1))),
            ("message", _CONTENT),
        )

    @cached_property
    def _write(self) -> tuple[Callable[[Any], bytes], Callable[[Any], bytes]]:
        """Key and value; asked for by the first message, since most sources never see one."""
        record = self._facts.format.record
        return record(self._topic, "key", _MESSAGE_KEY), record(self._topic, "value", self._schema)

    def event(self, txn: PgTransaction, message: Message, lsn: int) -> Record:
        us, (write_key, write_value) = txn.commit_ts_us, self._write
        txn.ordinal += 1
        txn.counts[""] = count = txn.counts.get("", 0) + 1
        last = None if txn.last_commit_lsn is None else str(txn.last_commit_lsn)
        known = {
            "ts_ms": us // 1000,
            "sequence": orjson.dumps([last, str(lsn)]),
            "ts_us": us,
            "ts_ns": us * 1000,
            "txId": txn.xid or None,
            "lsn": lsn,
            "txn_seq": txn.seq,
            "ordinal": txn.ordinal,
            "commit_lsn": txn.final_lsn,
            "commit_ts_us": us,
        }
        source = [
            place.value.encode() if isinstance(place.value, str) else known.get(place.name, place.value)
            for place in self._places
        ]
        transaction = txn.id.encode(), txn.ordinal, count
        prefix = message.prefix.encode()
        value = b"m", txn.now_ns // 1_000_000, source, transaction, (prefix, message.content)
        return Record(
            self._topic,
            write_key((prefix,)),
            write_value(value),
        )
