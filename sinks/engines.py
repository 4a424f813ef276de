"""Which engine a target is: the one place of a sink that knows them all, and loads its own alone.

In: a server. Out: the hold on it, and what writes there; what compares it with another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from cdc.event import Table
from sinks.target import ExistingRows, Target
from sinks.transaction import Progress

if TYPE_CHECKING:
    import sinks.mysql
    import sinks.postgres
    from cdc.engine import Server
    from sinks.debezium.reader import DebeziumReader
    from sinks.decode import SchemaOf
    from sinks.verify import Reading

    AnyHold = sinks.mysql.Hold | sinks.postgres.Hold


def hold_of(server: Server, pipeline: str, source: str) -> AnyHold:
    """A connection that may become the sink's, if it gets the lock."""
    if server.engine == "mysql":
        import sinks.mysql

        return sinks.mysql.Hold(server, pipeline, source)
    import sinks.postgres

    return sinks.postgres.Hold(server, pipeline, source)


def target_of(
    hold: AnyHold,
    shape_of: Callable[[str], Table],
    existing_rows: ExistingRows = "refuse",
    at_work: Callable[[], None] = lambda: None,
) -> Target:
    """What applies under this hold. `at_work` is called again and again meanwhile."""
    if hold.engine == "mysql":
        import sinks.mysql

        return Target(hold, sinks.mysql.Writer(hold, shape_of, existing_rows), shape_of, at_work)
    import sinks.postgres

    return Target(hold, sinks.postgres.Writer(hold, shape_of, existing_rows), shape_of, at_work)


def debezium_reader(
    hold: AnyHold, kafka: Mapping[str, str], after: Progress | None, client: str, schema_of: SchemaOf | None
) -> DebeziumReader:
    """A reader of the topics that Debezium writes, for the target under this hold."""
    import sinks.postgres.at_target
    from sinks.debezium.reader import DebeziumReader

    assert hold.engine == "postgresql", "the configuration lets no other read them"
    known = sinks.postgres.at_target.known_tables(hold.connection, hold.pipeline)
    at_target = partial(sinks.postgres.at_target.table_at, hold.connection)
    return DebeziumReader(
        kafka, prefix=hold.source, after=after, known=known, at_target=at_target, client=client, schema_of=schema_of
    )


def reading_of(server: Server) -> Reading:
    """A connection that only reads; a sink's name is its server's."""
    if server.engine == "mysql":
        import sinks.mysql.reading

        return sinks.mysql.reading.Reading(server)
    import sinks.postgres.reading

    return sinks.postgres.reading.Reading(server)
