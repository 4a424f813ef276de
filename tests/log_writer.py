"""A source's records without a source: START, END and row events, as a run would append them, in memory.

`Topics` stands for a cluster: partitions are lists, an offset is an index. `Run` writes as the source of
one run does, and keeps writing when it is dead, as a frozen producer that wakes up. What it wrote can be
copied into a real Kafka (tests/system).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from cdc.event import Column, Table
from cdc.log import Change, Chunk, End, Identity, Opened, Span, Start
from cdc.shape import schema_id
from cdc.topics import log_topic, partition_of, row_topic

Record = tuple[bytes | None, bytes | None]
Partition = tuple[str, int]
IDENTITY = Identity("postgresql", "7000000000000000001", 1, "shop", "cdc_shop")
_PRINTED = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "bool": "boolean",
    "float4": "real",
    "float8": "double precision",
    "varchar": "character varying",
    "bpchar": "character(3)",
    "time": "time without time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "enum": "public.mood",
}


def column(name: str, type_name: str = "int4", attnum: int = 1, **facts: Any) -> Column:
    """A column with the server's words for its type."""
    element = type_name.removesuffix("[]")
    expression = _PRINTED.get(element, element) + type_name[len(element) :]
    given: dict[str, Any] = {"not_null": False, "type_expression": expression} | facts
    return Column(name=name, type=type_name, type_oid=23, typmod=-1, attnum=attnum, **given)


def table(name: str, columns: Mapping[str, str], key: Sequence[str] = (), **facts: Any) -> Table:
    """`schema.table` with these columns; key columns are NOT NULL."""
    schema, _, short = name.rpartition(".")
    given: dict[str, Any] = {"replica_identity": "d" if key else "f", "identity_columns": ()} | facts
    return Table(
        schema=schema or "public",
        name=short,
        oid=16384,
        columns=tuple(
            column(name, type_name, at, not_null=name in key) for at, (name, type_name) in enumerate(columns.items(), 1)
        ),
        primary_key=tuple(key),
        **given,
    )


@dataclass(frozen=True)
class Event:
    """One event before it has a number. `fields` are the envelope's optional ones."""

    table: Table
    op: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> bytes | None:
        image = self.after or self.before
        if not self.table.key or image is None:
            return None
        return orjson.dumps({name: image[name] for name in self.table.key})


class Topics:
    """Partitions by topic, in memory."""

    def __init__(self, prefix: str, partitions: int = 2) -> None:
        self.prefix, self.partitions = prefix, partitions
        self.records: dict[Partition, list[Record]] = defaultdict(list)

    def append(self, partition: Partition, key: bytes | None, value: bytes | None) -> int:
        self.records[partition].append((key, value))
        return len(self.records[partition]) - 1

    @property
    def log(self) -> list[Record]:
        return self.records[log_topic(self.prefix), 0]


@dataclass
class Run:
    """One run of a source: its START, then transactions: events and, if it gets so far, an END."""

    topics: Topics
    run: str
    epoch: int = 1
    txn_seq: int = 0
    position: str | None = None
    identity: Identity = IDENTITY
    ends: list[End] = field(default_factory=list)

    def start(self, *, copy: str = "none", opened: Opened | None = None, **facts: Any) -> Start:
        start = Start(self.run, self.epoch, self.identity, "f00d", copy, "cluster", 0, opened=opened, **facts)
        self._log(start.id, start.to_bytes())
        return start

    def events(self, events: Iterable[Event], between: Callable[[], object] = lambda: None) -> tuple[Span, ...]:
        """Append the events of the next transaction, numbered from 1, and something `between` them."""
        spans: dict[Partition, Span] = {}
        for ordinal, event in enumerate(events, 1):
            between()
            topic = row_topic(self.topics.prefix, event.table.schema, event.table.name)
            where = topic, partition_of(event.key, self.topics.partitions)
            offset = self.topics.append(where, event.key, self._event(event, ordinal))
            span = spans.get(where, Span(*where, offset, offset, 0))
            spans[where] = Span(*where, span.first, offset, span.count + 1)
            if event.op == "d" and event.key is not None:
                self.topics.append(where, event.key, None)
        return tuple(spans.values())

    def end(
        self,
        spans: Sequence[Span] = (),
        *,
        position: str,
        kind: str = "data",
        changes: Sequence[Change] = (),
        copy: Chunk | None = None,
        **facts: Any,
    ) -> End:
        """Append the END of what `events` wrote."""
        if kind != "heartbeat":
            self.txn_seq += 1
        given: dict[str, Any] = {"commit_ts_us": 1_700_000_000_000_000 + self.txn_seq} | facts
        end = End(
            id=f"{self.txn_seq}:1",
            event_count=sum(span.count for span in spans),
            data_collections=(),
            ts_ms=0,
            kind=kind,
            run=self.run,
            epoch=self.epoch,
            txn_seq=self.txn_seq,
            position=position,
            prev_position=self.position,
            offsets=tuple(spans),
            changes=tuple(changes),
            copy=copy,
            **given,
        )
        self.position = position
        self._log(end.id, end.to_bytes())
        self.ends.append(end)
        return end

    def transaction(self, events: Iterable[Event], *, position: str, **facts: Any) -> End:
        return self.end(self.events(events), position=position, **facts)

    def heartbeat(self, *, position: str) -> End:
        return self.end(position=position, kind="heartbeat")

    def _log(self, key: str, value: bytes) -> None:
        self.topics.append((log_topic(self.topics.prefix), 0), orjson.dumps({"id": key}), value)

    def _event(self, event: Event, ordinal: int) -> bytes:
        record: dict[str, Any] = {
            "before": event.before,
            "after": event.after,
            "source": {
                "version": "0",
                "connector": "postgresql",
                "schema": event.table.schema,
                "table": event.table.name,
                "run": self.run,
                "epoch": self.epoch,
                "txn_seq": self.txn_seq + 1,
                "ordinal": ordinal,
                "schema_id": schema_id(event.table),
            },
            "transaction": None,
            "op": event.op,
            "ts_ms": 0,
            "ts_us": 0,
            "ts_ns": 0,
        }
        return orjson.dumps(record | dict(event.fields))
