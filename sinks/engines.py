"""Which engine a target is: the one place of a sink that knows them all.

In: a server. Out: the hold on it, and what writes there; what compares it with another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import cdc.mysql.session
import sinks.mysql
import sinks.mysql.reading
import sinks.postgres
import sinks.postgres.at_target
import sinks.postgres.reading
from cdc.engine import Server
from cdc.event import Table
from sinks.debezium.reader import DebeziumReader
from sinks.decode import SchemaOf
from sinks.target import ExistingRows, Hold, Target, Writer
from sinks.transaction import Progress
from sinks.verify import Reading


def hold_of(server: Server, pipeline: str, source: str) -> Hold:
    """A connection that may become the sink's, if it gets the lock."""
    if isinstance(server, cdc.mysql.session.Server):
        return sinks.mysql.Hold(server, pipeline, source)
    return sinks.postgres.Hold(server, pipeline, source)


def target_of(hold: Hold, shape_of: Callable[[str], Table], existing_rows: ExistingRows = "refuse") -> Target:
    """What applies under this hold."""
    return Target(hold, _writer(hold, shape_of, existing_rows), shape_of)


def _writer(hold: Hold, shape_of: Callable[[str], Table], existing_rows: ExistingRows) -> Writer:
    if isinstance(hold, sinks.mysql.Hold):
        return sinks.mysql.Writer(hold, shape_of, existing_rows)
    assert isinstance(hold, sinks.postgres.Hold)
    return sinks.postgres.Writer(hold, shape_of, existing_rows)


def debezium_reader(
    hold: Hold, kafka: Mapping[str, str], after: Progress | None, client: str, schema_of: SchemaOf | None
) -> DebeziumReader:
    """A reader of the topics that Debezium writes, for the target under this hold."""
    assert isinstance(hold, sinks.postgres.Hold), "the configuration lets no other read them"
    known = sinks.postgres.at_target.known_tables(hold.connection, hold.pipeline)
    at_target = partial(sinks.postgres.at_target.table_at, hold.connection)
    return DebeziumReader(
        kafka, prefix=hold.source, after=after, known=known, at_target=at_target, client=client, schema_of=schema_of
    )


def reading_of(server: Server) -> Reading:
    """A connection that only reads; a sink's name is its server's."""
    if isinstance(server, cdc.mysql.session.Server):
        return sinks.mysql.reading.Reading(server)
    return sinks.postgres.reading.Reading(server)
