"""A MySQL source as an archive asks it (`origin`): a consistent snapshot at a set of GTIDs, SHOW CREATE. I/O.

In: a server, a source of the configuration. Out: rows, digests and schema at one exact position. Refuses: a replica to
read bases from (REPLICA_UNFIT), what `cdc.mysql.snapshot` refuses.

Under the lock that the snapshot begins with nothing commits, so the set of GTIDs is exactly what it shows; each table
is touched then, and cannot be altered until the snapshot ends. Where no lock may be taken, whoever asks begins again
(COPY_TORN) until nothing was committed while the snapshot began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass

import pyarrow as pa

from cdc.errors import REPLICA_UNFIT, CdcError
from cdc.event import Table
from cdc.finding import Finding, fail, ok
from cdc.log import End
from cdc.mysql.catalog import Catalog, FoundTable, Publication
from cdc.mysql.dialect import version_number
from cdc.mysql.session import Server
from cdc.mysql.snapshot import BaseCopy
from cdc.position import GtidPosition
from cdc.sections import Sink, Source
from sinks.archive.dump import Dump
from sinks.archive.sequences import Value
from sinks.archive.show_create import lacking_rights, show_create
from sinks.archive.table_files import text_batches
from sinks.digest import Digests, digests
from sinks.mysql.digest import digest_query
from sinks.transaction import Progress

_ESTIMATES = "SELECT table_schema, table_name, COALESCE(table_rows, 0) FROM information_schema.tables"
_TABLES = """
SELECT table_schema, table_name FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_schema IN %s
AND table_name NOT IN ('cdc_progress', 'cdc_table') ORDER BY 1, 2
"""
_SEQUENCES = """
SELECT table_schema, table_name FROM information_schema.tables
WHERE table_type = 'SEQUENCE' AND table_schema IN %s ORDER BY 1, 2
"""
_NEVER = "accounts, grants and roles; what has no place in the databases of the captured tables"


@dataclass(frozen=True, slots=True)
class _Exact:
    """`catalog` answers for the present, `copy` for the position."""

    copy: BaseCopy
    catalog: Catalog
    tables: Sequence[Table]
    system_id: str
    database: str
    position: GtidPosition
    fingerprint: str

    def rows(self, table: Table) -> Iterator[pa.Table]:
        with self.copy.reading([table]) as ahead:
            yield from text_batches([column.name for column in table.columns], ahead.chunks(table))

    def digests(self, table: Table) -> Digests:
        found = self.copy.rows(digest_query(table, self.catalog.dialect, only=True))
        decoded = [[None if value is None else value.decode() for value in row] for row in found]
        return digests(decoded, table.full_name, self.catalog.server.name)

    def schema(self) -> Dump:
        with self.catalog.server.errors():
            return show_create(self.catalog, sorted({table.schema for table in self.tables}))

    def beside_rows(self, tables: Sequence[Table]) -> tuple[dict[str, Value], tuple[str, ...]]:
        numbers: dict[str, Value] = {name: (value, False) for name, value in self.catalog.auto_increments().items()}
        databases = sorted({table.schema for table in tables})
        there, sequences = self._named(_TABLES, databases), self._named(_SEQUENCES, databases)
        captured = {table.full_name for table in tables}
        beside = [f"rows of table {name}, which is not captured" for name in there if name not in captured]
        unseen = [what for what, _ in lacking_rights(self.catalog, databases)]
        return numbers, (_NEVER, *unseen, *beside, *(f"sequence {name}" for name in sequences))

    def _named(self, query: str, databases: Sequence[str]) -> list[str]:
        return [f"{schema}.{name}" for schema, name in self.catalog.rows(query, databases)] if databases else []


class Origin:
    """One attempt's."""

    numbers_columns = False

    def __init__(self, server: Server, source: Source) -> None:
        self._server, self._source = server, source
        self._now = Catalog(server)
        self.version = _number(self._now.version)

    def close(self) -> None:
        self._now.close()

    def refuse_unready(self) -> None:
        """The server itself tells everything."""

    def fingerprint(self) -> str:
        return self._publication().fingerprint

    def _publication(self) -> Publication:
        patterns = self._source.tables, self._source.exclude
        return self._now.publication(self._source.topic_prefix, patterns, self._source.wanted)

    @contextmanager
    def captured(self, waiting: Callable[[str], None]) -> Iterator[_Exact]:
        waiting("for the moment in which the snapshot begins")
        publication = self._publication()
        with BaseCopy(self._server, publication.tables) as copy:
            yield _Exact(
                copy, self._now, copy.shapes, self._now.identity(), self._server.database, copy.executed,
                publication.fingerprint,
            )  # fmt: skip

    def replica(self, sink: Sink, last: End) -> AbstractContextManager[tuple[Progress, _Exact]]:
        del last
        raise CdcError(REPLICA_UNFIT, sink=sink.name, problem="bases of a MySQL source are read from the source alone")

    def estimates(self, tables: Sequence[Table]) -> Mapping[str, int]:
        found = {f"{schema}.{name}": int(rows) for schema, name, rows in self._now.rows(_ESTIMATES)}
        return {table.full_name: found.get(table.full_name, 0) for table in tables}


@contextmanager
def named(server: Server, tables: Sequence[str]) -> Iterator[_Exact]:
    with closing(Catalog(server)) as now:
        there = now.publication("", ((), ()), lambda schema, name: f"{schema}.{name}" in tables).tables
        with BaseCopy(server, _of_innodb(there)) as copy:
            yield _Exact(copy, now, copy.shapes, now.identity(), server.database, copy.executed, "")


def _of_innodb(tables: Sequence[FoundTable]) -> list[FoundTable]:
    """Others have no snapshot."""
    return [table for table in tables if table.engine.lower() == "innodb"]


def _number(version: str) -> int:
    """8.0.31-log as 80031."""
    major, minor, patch = (*version_number(version), 0, 0)[:3]
    return major * 10_000 + minor * 100 + patch


def findings(server: Server, source: Source) -> Iterator[Finding]:
    """What reading the definitions needs."""
    with closing(Catalog(server)) as catalog:
        tables = catalog.publication("", (source.tables, source.exclude), source.wanted).tables
        lacking = lacking_rights(catalog, sorted({table.schema for table in tables}))
    for what, grant in lacking:
        yield fail(f"bases would lack {what}", grant)
    if not lacking:
        yield ok(f"the role of [source.{server.name}] may read what bases read")
