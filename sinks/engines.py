"""Which engine a target is: the one place of a sink that knows them all.

In: a server. Out: the hold on it, and what writes there; what compares it with another.
"""

from __future__ import annotations

from collections.abc import Callable

import cdc.mysql.session
import sinks.mysql
import sinks.mysql.reading
import sinks.postgres
import sinks.postgres.reading
from cdc.engine import Server
from cdc.event import Table
from sinks.target import ExistingRows, Hold, Target, Writer
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


def reading_of(server: Server) -> Reading:
    """A connection that only reads; a sink's name is its server's."""
    if isinstance(server, cdc.mysql.session.Server):
        return sinks.mysql.reading.Reading(server)
    return sinks.postgres.reading.Reading(server)
