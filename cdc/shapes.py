"""The shape topic: which shapes were ever published, which hold at the checkpoint, and how a new one gets there.

In: topic `<prefix>`, the log's state. Out: shapes by table, offsets by schema id. Refuses: a record that is not one,
an id in force that no record describes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from cdc.decoded import Statement
from cdc.envelope import VERSION
from cdc.errors import CORRUPT_LOG, SCHEMA_UNKNOWN, CdcError
from cdc.event import Engine, Table
from cdc.kafka import Reader
from cdc.logtail import LogState
from cdc.publisher import PublishedRun, Publisher
from cdc.shape import SchemaRecord, holds_no_shape, parse_shape, schema_id, shape_key, statement_record
from cdc.topics import row_topic, shape_topic


class ShapeTopic:
    """The topic as read at a start, kept up with what this run adds."""

    def __init__(self, source: str, prefix: str) -> None:
        self._source, self._prefix, self._topic = source, prefix, shape_topic(prefix)
        self.records: dict[str, SchemaRecord] = {}
        self._offsets: dict[str, int] = {}

    def load(self, reader: Reader, waiting: Callable[[], None]) -> None:
        """Read it whole: a record a shape of a table, a few thousand at the most."""
        begins, ends = reader.watermarks(self._topic, 0)
        for record in reader.read_range(self._topic, 0, begins, ends, waiting):
            if holds_no_shape(record.value() or b""):
                continue
            try:
                parsed = parse_shape(record.value() or b"")
            except ValueError as error:
                raise CdcError(
                    CORRUPT_LOG, source=self._source, topic=self._topic, offset=record.offset(), problem=str(error)
                ) from None
            self.records[parsed.schema_id] = parsed
            self._offsets[parsed.schema_id] = record.offset()

    def in_force(self, state: LogState) -> dict[str, Table]:
        """Each table's shape at the checkpoint, from the log alone: the catalog may be ahead of the stream."""
        ids: dict[str, str] = {}
        for schema, _ in state.announced:
            ids[self._record(schema).table.full_name] = schema
        ids.update(state.changed)
        return {table: self._record(schema).table for table, schema in ids.items()}

    def topic_ids(self) -> dict[str, str]:
        """The id that each row topic had when its newest shape was published."""
        return {record.topic: record.topic_id for record in self.records.values()}

    def offset(self, table: Table) -> tuple[str, int]:
        """What an END says to announce this shape."""
        schema = schema_id(table)
        return schema, self._offsets[schema]

    def publish(
        self,
        publisher: Publisher,
        run: PublishedRun,
        table: Table,
        seq: int,
        database: str,
        topic_ids: Mapping[str, str],
        ddl: str | None = None,
    ) -> str:
        """Make a shape durable and have the next END name it; its id."""
        schema, topic = schema_id(table), row_topic(self._prefix, table.schema, table.name)
        record = SchemaRecord(schema, table, run.run, run.epoch, seq, topic, topic_ids[topic])
        now_ms = time.time_ns() // 1_000_000
        source = self._told_by(table.engine, now_ms, database) | {"schema": table.schema, "table": table.name}
        value = record.to_bytes(source=source, ts_ms=now_ms, database=database, ddl=ddl)
        self._offsets[schema] = publisher.publish_and_wait(self._topic, shape_key(database), value)
        self.records[schema] = record
        publisher.announce([(schema, self._offsets[schema])])
        return schema

    def publish_statement(self, publisher: Publisher, engine: Engine, statement: Statement) -> None:
        """Tell of DDL that changed no captured table's shape."""
        now_ms = time.time_ns() // 1_000_000
        source = self._told_by(engine, now_ms, statement.database)
        value = statement_record(source, now_ms, statement.database, statement.ddl)
        publisher.publish_and_wait(self._topic, shape_key(statement.database), value)

    def _told_by(self, engine: Engine, now_ms: int, database: str) -> dict[str, Any]:
        return {"version": VERSION, "connector": engine, "name": self._prefix, "ts_ms": now_ms, "db": database}

    def _record(self, schema: str) -> SchemaRecord:
        if schema not in self.records:
            raise CdcError(
                SCHEMA_UNKNOWN, source=self._source, table="a captured table", schema_id=schema, topic=self._topic
            )
        return self.records[schema]
