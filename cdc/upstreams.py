"""Which upstream a source has: the one place of a source that knows the engines, and loads its own alone."""

from __future__ import annotations

from collections.abc import Callable

from cdc.sections import Source
from cdc.upstream import Upstream


def upstream_of(source: Source, waiting: Callable[[str], None], lacking: Callable[[str], None]) -> Upstream:
    """The database of a `[source.NAME]`. `waiting` and `lacking` tell what a source's observer is told."""
    server = source.server()
    if server.engine == "mysql":
        from cdc.mysql.upstream import MySqlUpstream

        return MySqlUpstream(source, server, waiting, lacking)
    from cdc.postgres.upstream import PostgresUpstream

    return PostgresUpstream(source, server, waiting, lacking)
