"""The commit log: START and END records and which ENDs are valid. Pure; source and readers share it.

In: values of topic `<prefix>.transaction` as bytes, or the records as values. Out: `Start`, `End` and their bytes,
in Debezium's transaction form followed by our fields, empty ones left out (docs/EVENTS.md).
Refuses: JSON that is not such a record, and an unknown `v`, `status`, `kind` or `effect`, by `ValueError` that names
it. Unknown fields are skipped, Debezium's BEGIN is `None`.

An END is valid if its run is that of the latest START before it in the log: a frozen, orphaned or dead producer can
still append, but never again becomes the latest run. `Validity` is that rule, and the only place where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

VERSION = 1
_NOT_OURS = b"\x00", b'{"schema":'
"""So begin Avro, and Connect's JSON with its schema: the log is plain JSON."""
KINDS = frozenset({"data", "schema", "snapshot", "heartbeat"})
EFFECTS = frozenset({"create", "add_column", "drop_column", "recreate", "drop", "copying"})


@dataclass(frozen=True, slots=True)
class Identity:
    """The server a log was written from. Positions compare within one `system_id` only."""

    connector: str
    system_id: str
    timeline: int
    database: str
    slot: str


@dataclass(frozen=True, slots=True)
class Opened:
    """Why an epoch begins: `first`, `copy_again` or `adopt`; `from_` is the position its stream opened at."""

    reason: str
    from_: str | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap that the operator accepted, where every reader sees it."""

    kind: str
    from_: str | None
    to: str | None
    tables: tuple[str, ...]
    accepted_by: str


@dataclass(frozen=True, slots=True)
class Start:
    """The first record of a run. It carries no number: an older run may still add ENDs before it."""

    run: str
    epoch: int
    source: Identity
    publication: str
    copy: str
    cluster_id: str
    ts_ms: int
    opened: Opened | None = None
    gaps: tuple[Gap, ...] = ()

    @property
    def id(self) -> str:
        return f"start:{self.run}"

    def to_bytes(self) -> bytes:
        record: dict[str, Any] = {
            "status": "START",
            "id": self.id,
            "event_count": None,
            "data_collections": None,
            "ts_ms": self.ts_ms,
            "v": VERSION,
            "run": self.run,
            "epoch": self.epoch,
            "source": {
                "connector": self.source.connector,
                "system_id": self.source.system_id,
                "timeline": self.source.timeline,
                "database": self.source.database,
                "slot": self.source.slot,
            },
            "publication": self.publication,
            "copy": self.copy,
            "cluster_id": self.cluster_id,
        }
        if self.opened:
            record["opened"] = {"reason": self.opened.reason, "from": self.opened.from_}
        if self.gaps:
            record["gaps"] = [
                {
                    "kind": g.kind,
                    "from": g.from_,
                    "to": g.to,
                    "tables": g.tables,
                    "accepted_by": g.accepted_by,
                }
                for g in self.gaps
            ]
        return orjson.dumps(record)


@dataclass(slots=True)
class Span:
    """Where a transaction's events of one topic-partition lie: first and last offset, and how many events."""

    topic: str
    partition: int
    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class Change:
    """A schema change inside a transaction: holds after ordinal `at` (0: before the first event)."""

    at: int
    table: str
    old: str | None
    new: str | None
    effect: str
    copy_id: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One part of a base copy. `from_` and `to` bound its keys, None = open; `last` ends COPYING for the table."""

    id: str
    table: str
    chunk: int
    from_: tuple[Any, ...] | None
    to: tuple[Any, ...] | None
    snapshot_position: str
    last: bool


@dataclass(slots=True)
class End:
    """A transaction is durable and complete: all its events were acknowledged before this was written.

    Nobody changes one. It is not frozen, because that makes it three times as slow, and there is one a transaction.
    """

    id: str
    event_count: int
    data_collections: tuple[tuple[str, int], ...]
    ts_ms: int
    kind: str
    run: str
    epoch: int
    txn_seq: int
    position: str
    prev_position: str | None
    commit_ts_us: int | None = None
    xid: int | None = None
    origin: str | None = None
    offsets: tuple[Span, ...] = ()
    schemas: tuple[tuple[str, int], ...] = ()
    changes: tuple[Change, ...] = ()
    copy: Chunk | None = None
    publication: str | None = None
    sequences: tuple[tuple[str, int], ...] = field(default=())

    @property
    def numbered(self) -> bool:
        """Whether it is a transaction to readers. A heartbeat only repeats the last number."""
        return self.kind != "heartbeat"

    @property
    def copying(self) -> bool:
        """Whether a base copy was open behind it: a closed one ends with a heartbeat."""
        return self.kind == "snapshot" or any(change.effect == "copying" for change in self.changes)

    def to_bytes(self) -> bytes:
        record: dict[str, Any] = {
            "status": "END",
            "id": self.id,
            "event_count": self.event_count,
            "data_collections": [{"data_collection": t, "event_count": n} for t, n in self.data_collections],
            "ts_ms": self.ts_ms,
            "v": VERSION,
            "kind": self.kind,
            "run": self.run,
            "epoch": self.epoch,
            "txn_seq": self.txn_seq,
            "position": self.position,
            "prev_position": self.prev_position,
        }
        if self.commit_ts_us is not None:
            record["commit_ts_us"] = self.commit_ts_us
        if self.xid is not None:
            record["xid"] = self.xid
        if self.origin is not None:
            record["origin"] = self.origin
        if self.offsets:
            record["offsets"] = [(s.topic, s.partition, s.first, s.last, s.count) for s in self.offsets]
        if self.schemas:
            record["schemas"] = self.schemas
        if self.changes:
            record["changes"] = [_change_record(change) for change in self.changes]
        if self.copy:
            c = self.copy
            record["copy"] = {
                "id": c.id,
                "table": c.table,
                "chunk": c.chunk,
                "from": c.from_,
                "to": c.to,
                "snapshot_position": c.snapshot_position,
                "last": c.last,
            }
        if self.publication is not None:
            record["publication"] = self.publication
        if self.sequences:
            record["sequences"] = dict(self.sequences)
        return orjson.dumps(record)


class OrdinaryEnds:
    """Writes the ENDs of a run that say nothing but what every transaction of rows says: `End.to_bytes`, by a template.

    There may be one to every event, and building records field by field would cost as much as the event.
    """

    def __init__(self, run: str, epoch: int) -> None:
        self._template = (
            b'{"status":"END","id":%%b,"event_count":%%d,"data_collections":[%%b],"ts_ms":%%d,"v":%d,"kind":"data",'
            b'"run":"%b","epoch":%d,"txn_seq":%%d,"position":"%%b","prev_position":%%b,"commit_ts_us":%%d,"xid":%%d,'
            b'"offsets":%%b}' % (VERSION, run.encode(), epoch)
        )

    def to_bytes(
        self,
        transaction_id: str,
        collections: Sequence[tuple[str, int]],
        commit_ts_us: int,
        txn_seq: int,
        position: str,
        previous: str | None,
        xid: int,
        offsets: Sequence[tuple[str, int, int, int, int]],
    ) -> bytes:
        """`offsets` are the fields of `Span`s; events are counted by their collections."""
        return self._template % (
            orjson.dumps(transaction_id),
            sum(count for _, count in collections),
            b",".join([b'{"data_collection":%b,"event_count":%d}' % (orjson.dumps(t), n) for t, n in collections]),
            commit_ts_us // 1000,
            txn_seq,
            position.encode(),
            orjson.dumps(previous),
            commit_ts_us,
            xid,
            orjson.dumps(offsets),
        )


def log_key(record_id: str) -> bytes:
    """The key of a START or END record, Debezium's `{"id": …}`."""
    return orjson.dumps({"id": record_id})


def parse(value: bytes) -> Start | End | None:
    """A record of the log topic. None for what Debezium wrote there; `ValueError` names what is wrong.

    A topic that was taken over from it begins with its BEGINs and ENDs, which have no version.
    """
    if value.startswith(_NOT_OURS):
        return None
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - bytes of a peer, not an argument of the wrong type
    status = record.get("status")
    if status == "BEGIN" or (status == "END" and not {"v", "run"} & record.keys()):
        return None
    if status not in ("START", "END"):
        raise ValueError(f"unknown status {status!r}")
    if record.get("v") != VERSION:
        raise ValueError(f"unknown version v = {record.get('v')!r}, this process reads {VERSION}")
    try:
        return _parse_end(record) if status == "END" else _parse_start(record)
    except KeyError as missing:
        raise ValueError(f"field {missing} is missing from {status} {record.get('id')!r}") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a field of {status} {record.get('id')!r} has the wrong type: {error}") from None


def _parse_start(record: dict[str, Any]) -> Start:
    source, opened = record["source"], record.get("opened")
    return Start(
        run=_text(record, "run"),
        epoch=_number(record, "epoch"),
        source=Identity(
            _text(source, "connector"),
            _text(source, "system_id"),
            _number(source, "timeline"),
            _text(source, "database"),
            _text(source, "slot"),
        ),
        publication=_text(record, "publication"),
        copy=_text(record, "copy"),
        cluster_id=_text(record, "cluster_id"),
        ts_ms=_number(record, "ts_ms"),
        opened=Opened(_text(opened, "reason"), opened["from"]) if opened else None,
        gaps=tuple(
            Gap(_text(g, "kind"), g["from"], g["to"], tuple(g["tables"]), _text(g, "accepted_by"))
            for g in record.get("gaps", ())
        ),
    )


def _parse_end(record: dict[str, Any]) -> End:
    kind, copy = record["kind"], record.get("copy")
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}")
    return End(
        id=_text(record, "id"),
        event_count=_number(record, "event_count"),
        data_collections=tuple((d["data_collection"], d["event_count"]) for d in record["data_collections"]),
        ts_ms=_number(record, "ts_ms"),
        kind=kind,
        run=_text(record, "run"),
        epoch=_number(record, "epoch"),
        txn_seq=_number(record, "txn_seq"),
        position=_text(record, "position"),
        prev_position=record["prev_position"],
        commit_ts_us=record.get("commit_ts_us"),
        xid=record.get("xid"),
        origin=record.get("origin"),
        offsets=tuple(Span(*span) for span in record.get("offsets", ())),
        schemas=tuple((schema_id, offset) for schema_id, offset in record.get("schemas", ())),
        changes=tuple(_parse_change(change) for change in record.get("changes", ())),
        copy=_parse_chunk(copy) if copy else None,
        publication=record.get("publication"),
        sequences=tuple(record.get("sequences", {}).items()),
    )


def _change_record(change: Change) -> dict[str, Any]:
    record = {
        "at": change.at,
        "table": change.table,
        "old": change.old,
        "new": change.new,
        "effect": change.effect,
    }
    if change.copy_id is not None:
        record["copy_id"] = change.copy_id
    return record


def _parse_change(record: dict[str, Any]) -> Change:
    if record["effect"] not in EFFECTS:
        raise ValueError(f"unknown effect {record['effect']!r}")
    return Change(
        _number(record, "at"),
        _text(record, "table"),
        record["old"],
        record["new"],
        record["effect"],
        record.get("copy_id"),
    )


def _parse_chunk(record: dict[str, Any]) -> Chunk:
    return Chunk(
        id=_text(record, "id"),
        table=_text(record, "table"),
        chunk=_number(record, "chunk"),
        from_=None if record["from"] is None else tuple(record["from"]),
        to=None if record["to"] is None else tuple(record["to"]),
        snapshot_position=_text(record, "snapshot_position"),
        last=bool(record["last"]),
    )


def _text(record: dict[str, Any], name: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a text: {value!r}")
    return value


def _number(record: dict[str, Any], name: str) -> int:
    value = record[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is not a whole number: {value!r}")
    return value


class Validity:
    """Which ENDs count, fed with every record of the log in order.

    `start` is the START in force. A reader that goes on in the middle of a run knows only its epoch and run
    (`in_force`). `ignored` counts the ENDs of other runs, which `status` shows.
    """

    def __init__(self, start: Start | None = None, *, in_force: tuple[int, str] | None = None) -> None:
        self.start = start
        self._in_force = (start.epoch, start.run) if start else in_force
        self.ignored = 0

    def admit(self, record: Start | End) -> bool:
        """Whether this record counts: every START does, an END only of the run in force."""
        if isinstance(record, Start):
            self.start = record
            self._in_force = (record.epoch, record.run)
            return True
        if (record.epoch, record.run) == self._in_force:
            return True
        self.ignored += 1
        return False
