"""What bases, anchors and checks ask of an archive's source, whatever its engine: one Protocol, and who answers it.

In: a server, a source of the configuration. Out: `Origin` for bases, `Exact` for as long as its block lasts. Refuses:
what the engines' modules refuse, `of_postgres` and `of_mysql`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import pyarrow as pa

from cdc.engine import Server
from cdc.event import Table
from cdc.finding import Finding
from cdc.log import End
from cdc.position import Position
from cdc.sections import Sink, Source
from sinks.archive.dump import Dump
from sinks.archive.sequences import Value
from sinks.digest import Digests
from sinks.transaction import Progress

Waiting = Callable[[str], None]


class Rows(Protocol):
    """Tables under one snapshot. `tables` are their shapes."""

    @property
    def tables(self) -> Sequence[Table]: ...

    def rows(self, table: Table) -> Iterator[pa.Table]:
        """Every row as the source's text, in columns of strings."""
        ...

    def digests(self, table: Table) -> Digests: ...

    def schema(self) -> Dump:
        """Of the whole database."""
        ...

    def beside_rows(self, tables: Sequence[Table]) -> tuple[dict[str, Value], tuple[str, ...]]:
        """Sequences, and what a restore of these tables will lack. Read last, sequences are not behind the rows."""
        ...


class Exact(Rows, Protocol):
    """A session that sees just the transactions up to a position: `fingerprint` says what is captured there."""

    @property
    def system_id(self) -> str: ...
    @property
    def database(self) -> str: ...
    @property
    def position(self) -> Position: ...
    @property
    def fingerprint(self) -> str: ...


class Origin(Protocol):
    """A source's server. `fingerprint` says what is captured now."""

    @property
    def version(self) -> int: ...

    @property
    def numbers_columns(self) -> bool:
        """Whether its catalog tells a column for good; else the log alone does."""
        ...

    def close(self) -> None: ...
    def refuse_unready(self) -> None:
        """Before anything is done: what a base needs is there."""
        ...

    def fingerprint(self) -> str: ...
    def captured(self, waiting: Waiting) -> AbstractContextManager[Exact]:
        """Every captured table at one position."""
        ...

    def replica(self, sink: Sink, last: End) -> AbstractContextManager[tuple[Progress, Rows]]:
        """The same as a replica holds it, where it stands; `last`: the end of the log a moment ago."""
        ...

    def estimates(self, tables: Sequence[Table]) -> Mapping[str, int]:
        """Rows, more or less."""
        ...


def origin_of(server: Server, source: Source) -> Origin:
    if server.engine == "mysql":
        from sinks.archive import of_mysql

        return of_mysql.Origin(server, source)
    from sinks.archive import of_postgres

    return of_postgres.Origin(server, source)


def named(server: Server, tables: Sequence[str], waiting: Waiting) -> AbstractContextManager[Exact]:
    """These tables at one position, without any that is not there or that the role may not read."""
    if server.engine == "mysql":
        from sinks.archive import of_mysql

        return of_mysql.named(server, tables)
    from sinks.archive import of_postgres

    return of_postgres.named(server, tables, waiting)


def findings(server: Server, source: Source) -> Iterator[Finding]:
    """What keeps bases from being taken."""
    if server.engine == "mysql":
        from sinks.archive import of_mysql

        yield from of_mysql.findings(server, source)
    else:
        from sinks.archive import of_postgres

        yield from of_postgres.findings(server)
