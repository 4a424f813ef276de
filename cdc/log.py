"""The commit log: START and END records and which ENDs are valid. Pure; source and readers share it.

In: what a source has to say. Out: `Start`, `End` and their bytes, in Debezium's transaction form followed by our
fields, empty ones left out (docs/EVENTS.md). `cdc.logparse` reads them back.

An END is valid if its run is that of the latest START before it in the log: a frozen, orphaned or dead producer can
still append, but never again becomes the latest run. `Validity` is that rule, and the only place where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

VERSION = 1


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
