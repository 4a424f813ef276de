"""pgoutput messages → events and transactions: a pure state machine.

In: messages in the server's order with their LSN (`feed`). Out, per message: records to send, a new shape to publish
before anything else, a transaction that is complete, or nothing. Refuses: a message out of order, a table whose shape
changed without a word, a change that is not followed, a value without a form; each by name, with table and position.

Transactions at or before the checkpoint are passed over. The numbers of a run are given here: `txn_seq` for each
transaction that carries something, `ordinal` for each event in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cdc.decoded import Captured, Decoded, Lone, NewShapes, Transaction
from cdc.errors import RELATION_MISMATCH, SCHEMA_CHANGE_UNSUPPORTED, STREAM_OUT_OF_ORDER, CdcError
from cdc.event import Table
from cdc.log import Change
from cdc.position import Lsn, PgPosition
from cdc.postgres import messages
from cdc.postgres.ddl import UnfollowableError, effects, relation_difference
from cdc.postgres.events import MessageStream, PgTransaction, TableStream
from cdc.postgres.tables import table_from_catalog
from cdc.postgres.wire import (
    Begin,
    Commit,
    Message,
    Origin,
    Relation,
    Truncate,
    TypeName,
    parse_begin,
    parse_commit,
    parse_control,
    parse_delete,
    parse_insert,
    parse_update,
)
from cdc.rowevents import Record, RunFacts
from cdc.shape import schema_id

_INSERT, _UPDATE = b"IU"
_CHANGES = b"IUD"
_BEGIN, _COMMIT = b"BC"
_CARRIERS = "The event triggers of cdc setup carry schema changes; cdc check says whether they are there"


class Decoder:
    """Decodes one run's stream. `tokens` are the heartbeats that count as ours; `secret` proves a DDL message."""

    def __init__(
        self,
        facts: RunFacts,
        captured: Captured,
        *,
        after: PgPosition,
        last_seq: int,
        tokens: frozenset[str],
        secret: bytes | None,
        clock_ns: Callable[[], int],
    ) -> None:
        self._facts, self._captured, self._after = facts, captured, after
        self._tokens, self._secret, self._clock_ns = tokens, secret, clock_ns
        self._seq = last_seq
        self._streams = {
            name: TableStream(table, schema_id(table), captured.topic_of(table.schema, table.name), facts)
            for name, table in captured.shapes.items()
        }
        self._messages = MessageStream(captured.message_topic, facts)
        self._relations: dict[int, Relation] = {}
        self._by_oid: dict[bytes, TableStream | None] = {}
        self._txn: PgTransaction | None = None
        self._skipping = False
        self._last_commit: int | None = None
        self._changes: list[Change] = []
        self._heartbeat = False
        self._rewritten: dict[int, int] = {}
        self.foreign_messages = 0

    @property
    def last_seq(self) -> int:
        """The last number given."""
        return self._seq

    @property
    def shapes(self) -> dict[str, Table]:
        """Each table's shape by now."""
        return {name: stream.table for name, stream in self._streams.items()}

    def feed(self, data: bytes, lsn: int) -> Decoded | None:
        """The next message. Rows first: they are nearly all of them."""
        tag = data[0] if data else 0
        if tag in _CHANGES:
            txn, stream = self._txn, self._by_oid.get(data[1:5])
            records = stream.plain(txn, data, lsn) if txn and stream else None
            return self._change(tag, data, lsn) if records is None else records
        if tag == _BEGIN:
            self._begin(parse_begin(data))
            return None
        if tag == _COMMIT:
            return self._commit(parse_commit(data))
        return self._control(parse_control(data), lsn)

    def _change(self, tag: int, data: bytes, lsn: int) -> list[Record] | None:
        """A row that is not plain, the first of its table, or one to be passed over."""
        if tag == _INSERT:
            oid, row = parse_insert(data)
            stream = self._stream(oid, lsn)
            return stream.insert(self._open(lsn), row, lsn) if stream else None
        if tag == _UPDATE:
            oid, kind, old, row = parse_update(data)
            stream = self._stream(oid, lsn)
            return stream.update(self._open(lsn), kind, old, row, lsn) if stream else None
        oid, kind, old = parse_delete(data)
        stream = self._stream(oid, lsn)
        return stream.delete(self._open(lsn), kind, old, lsn) if stream else None

    def _control(self, message: object, lsn: int) -> Decoded | None:
        match message:
            case Relation():
                self._relations[message.oid] = message
                self._by_oid.pop(_oid_bytes(message.oid), None)
            case Truncate():
                return self._truncate(message, lsn)
            case Message():
                return self._message(message, lsn)
            case Origin():
                if self._txn:
                    self._txn.origin = message.name
            case TypeName():
                pass  # names of types travel in the shapes
        return None

    # -- transactions -------------------------------------------------------------------------------------------
    def _begin(self, begin: Begin) -> None:
        if self._txn or self._skipping:
            raise self._disorder("BEGIN inside a transaction", begin.final_lsn)
        # Commit records do not overlap: one that begins before the checkpoint's end ended at or before it.
        if begin.final_lsn < self._after.lsn:
            self._skipping = True
            return
        self._txn = PgTransaction(
            xid=begin.xid,
            final_lsn=begin.final_lsn,
            commit_ts_us=begin.commit_ts_us,
            seq=self._seq + 1,
            last_commit_lsn=self._last_commit,
            now_ns=self._clock_ns(),
        )
        self._changes, self._heartbeat = [], False
        self._rewritten.clear()

    def _commit(self, commit: Commit) -> Transaction | None:
        if self._skipping:
            self._skipping = False
            return None
        self._last_commit = commit.end_lsn
        txn = self._open(commit.commit_lsn)
        if txn.final_lsn != commit.commit_lsn:
            raise self._disorder(
                f"COMMIT of {Lsn(commit.commit_lsn)} after BEGIN of {Lsn(txn.final_lsn)}", commit.commit_lsn
            )
        self._txn = None
        return self._finish(txn, PgPosition(self._after.timeline, Lsn(commit.end_lsn)), txn.id, txn.xid)

    def _finish(self, txn: PgTransaction, position: PgPosition, name: str, xid: int | None) -> Transaction:
        if txn.ordinal or self._changes:
            self._seq = txn.seq
        return Transaction(
            name,
            xid,
            self._seq,
            position,
            None if xid is None else txn.commit_ts_us,
            txn.ordinal,
            tuple(txn.counts.items()),
            tuple(self._changes),
            self._heartbeat,
            txn.origin,
        )

    def _open(self, lsn: int) -> PgTransaction:
        if self._txn is None:
            raise self._disorder("a change outside a transaction", lsn)
        return self._txn

    # -- tables -------------------------------------------------------------------------------------------------
    def _stream(self, oid: int, lsn: int) -> TableStream | None:
        """Where this table's rows go; None if it is not captured or the transaction is passed over."""
        if self._skipping:
            return None
        key = _oid_bytes(oid)
        if key not in self._by_oid:
            self._by_oid[key] = self._match(oid, lsn)
        return self._by_oid[key]

    def _match(self, oid: int, lsn: int) -> TableStream | None:
        """Compare the server's description with the shape that the log holds, once per description."""
        relation = self._relations.get(oid)
        if relation is None:
            raise self._disorder(f"rows of relation {oid}, which was not described", lsn)
        name = f"{relation.schema}.{relation.name}"
        stream = self._streams.get(name)
        if stream is None:
            if self._captured.wanted(relation.schema, relation.name):
                raise self._changed(name, lsn, "a table that was not there before entered the publication")
            return None
        difference = relation_difference(stream.table, relation)
        if difference:
            raise CdcError(
                RELATION_MISMATCH, source=self._facts.source, table=name, position=Lsn(lsn), change=difference,
                carriers=_CARRIERS,
            )  # fmt: skip
        return stream

    def _truncate(self, truncate: Truncate, lsn: int) -> list[Record] | None:
        if self._skipping:
            return None
        streams = [self._stream(oid, lsn) for oid in truncate.oids]
        txn = self._open(lsn)
        return [record for stream in streams if stream for record in stream.truncate(txn, lsn)]

    # -- logical messages ---------------------------------------------------------------------------------------
    def _message(self, message: Message, lsn: int) -> Decoded | None:
        if self._skipping or (not message.transactional and message.lsn < self._after.lsn):
            return None
        if message.transactional and message.prefix == messages.HEARTBEAT:
            if message.content.decode(errors="replace") in self._tokens:
                self._heartbeat = True
                return None
        elif message.transactional and message.prefix == messages.DDL:
            record = messages.parse_ddl(message.content, self._secret, self._open(lsn).xid)
            if record is not None:
                return self._schema_change(record, lsn)
        return self._foreign(message, lsn)

    def _schema_change(self, record: dict[str, Any], lsn: int) -> NewShapes | None:
        """The event trigger's word on a table. The Relation message that follows must agree (`_match`)."""
        if "rewritten" in record:
            self._rewritten[record["rewritten"]] = record["reason"] & ~messages.REWRITTEN_IN_PLACE
            return None
        if "dropped" in record:
            if record["dropped"] in self._streams:
                raise self._changed(record["dropped"], lsn, "it was dropped")
            return None
        by_oid = {stream.table.oid: stream for stream in self._streams.values()}
        stream = by_oid.get(record["oid"]) or self._streams.get(f"{record['schema']}.{record['name']}")
        if stream is None:
            return None
        name, rewritten = stream.table.full_name, self._rewritten.pop(record["oid"], 0)
        try:
            shape = replace(table_from_catalog(record, source=self._facts.source), types=stream.table.types)
            steps = effects(stream.table, shape, rewritten=bool(rewritten))
        except UnfollowableError as change:
            raise self._changed(name, lsn, str(change)) from None
        if rewritten & ~messages.REWRITTEN_FOR_COLUMN:
            raise self._changed(name, lsn, "its rows were rewritten with new values")
        if not steps:
            return None
        shapes = [(schema_id(table), table) for _, table in steps]
        old = stream.schema_id
        for (effect, _), (new, _) in zip(steps, shapes, strict=True):
            self._changes.append(Change(self._open(lsn).ordinal, name, old, new, effect))
            old = new
        self._streams[name] = TableStream(shapes[-1][1], old, stream.topic, self._facts)
        self._by_oid.pop(_oid_bytes(stream.table.oid), None)
        self._relations.pop(stream.table.oid, None)
        return NewShapes(self._open(lsn).seq, tuple(shapes))

    def _foreign(self, message: Message, lsn: int) -> list[Record] | Lone:
        """Somebody else's message: an event of its transaction, or a transaction of its own."""
        self.foreign_messages += 1
        if message.transactional:
            return [self._messages.event(self._open(lsn), message, lsn)]
        now_ns = self._clock_ns()
        txn = PgTransaction(
            xid=0,
            final_lsn=message.lsn,
            commit_ts_us=now_ns // 1000,
            seq=self._seq + 1,
            last_commit_lsn=self._last_commit,
            now_ns=now_ns,
        )
        self._changes, self._heartbeat = [], False
        records = [self._messages.event(txn, message, lsn)]
        # The message has no commit record; the byte behind its start is beyond it for the slot and for us.
        position = PgPosition(self._after.timeline, Lsn(message.lsn + 1))
        return Lone(records, self._finish(txn, position, f"message:{position}", None))

    # -- refusals -----------------------------------------------------------------------------------------------
    def _changed(self, table: str, lsn: int, change: str) -> CdcError:
        return CdcError(
            SCHEMA_CHANGE_UNSUPPORTED,
            source=self._facts.source,
            table=table,
            position=Lsn(lsn),
            change=change,
        )

    def _disorder(self, what: str, lsn: int) -> CdcError:
        return CdcError(STREAM_OUT_OF_ORDER, source=self._facts.source, position=Lsn(lsn), what=what)


def _oid_bytes(oid: int) -> bytes:
    """As a change names its table."""
    return oid.to_bytes(4, "big")
