"""A Postgres source as an archive asks it (`origin`): a temporary slot's snapshot, pg_dump, COPY. I/O.

In: a server, a source of the configuration. Out: rows, digests and schema at one exact position. Refuses: pg_dump
missing or too old, a publication that is not there, a replica of another engine, what `snapshot` and `replica` refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pyarrow as pa

from cdc.errors import PUBLICATION_MISSING, REPLICA_UNFIT, CdcError
from cdc.event import Table
from cdc.finding import Finding, fail, ok
from cdc.log import End
from cdc.position import PgPosition
from cdc.postgres.catalog import Catalog, Publication, PublishedTable
from cdc.postgres.session import Server
from cdc.postgres.snapshot import BaseCopy
from cdc.sections import Sink, Source
from sinks.archive.dump import Dump, dump, find_program
from sinks.archive.replica import replica_snapshot
from sinks.archive.sequences import Value
from sinks.archive.snapshot import exact_snapshot
from sinks.archive.table_files import csv_batches
from sinks.digest import Digests, digests
from sinks.postgres.digest import digest_query
from sinks.transaction import Progress

_NAMED = """
SELECT n.nspname, c.relname, c.oid::bigint FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname || '.' || c.relname = ANY (%s::text[])
  AND pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY 1, 2
"""
_ESTIMATES = (
    "SELECT c.oid::bigint, greatest(c.reltuples, 0)::bigint FROM pg_catalog.pg_class c WHERE c.oid = ANY(%s::oid[])"
)
_SEQUENCES = """
SELECT n.nspname || '.' || c.relname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence = 'p' AND n.nspname <> 'cdc' ORDER BY 1
"""
_RELATIONS = """
SELECT n.nspname || '.' || c.relname, c.oid::bigint, c.relkind::text, c.relpersistence::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'f', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('cdc', 'information_schema') ORDER BY 1
"""
# pg_dump locks tables and partitioned tables; what is in schemas of ours it leaves out.
_UNREADABLE = """
SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('cdc', 'information_schema')
  AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND CASE c.relkind
    WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
    ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END)
ORDER BY 1
"""
_MOST = 10


@dataclass(frozen=True, slots=True)
class _Rows:
    """`copy` reads rows, `source` answers what is beside them; the schema comes from wherever it was told."""

    copy: BaseCopy
    tables: Sequence[Table]
    source: Catalog
    schema_of: Callable[[], Dump]

    def rows(self, table: Table) -> Iterator[pa.Table]:
        return csv_batches([column.name for column in table.columns], self.copy.csv(table))

    def digests(self, table: Table) -> Digests:
        return digests(self.copy.rows(digest_query(table, only=True)))

    def schema(self) -> Dump:
        return self.schema_of()

    def beside_rows(self, tables: Sequence[Table]) -> tuple[dict[str, Value], tuple[str, ...]]:
        sequences, gone = _sequences(self.source)
        return sequences, (*_not_covered(self.source, {table.oid for table in tables}), *gone)


@dataclass(frozen=True, slots=True)
class _Exact(_Rows):
    system_id: str
    database: str
    position: PgPosition
    fingerprint: str


class Origin:
    """One attempt's."""

    numbers_columns = True

    def __init__(self, server: Server, source: Source) -> None:
        self._server, self._source = server, source
        self._now = Catalog(server)
        self.version = self._now.version

    def close(self) -> None:
        self._now.close()

    def refuse_unready(self) -> None:
        find_program(self._server, self.version)

    def fingerprint(self) -> str:
        return self._publication(self._now).fingerprint

    def _publication(self, catalog: Catalog) -> Publication:
        name = self._source.publication
        publication = catalog.publication(name, self._source.wanted)
        if publication is None:
            raise CdcError(PUBLICATION_MISSING, source=self._source.name, publication=name)
        return publication

    def _schema(self, snapshot: str) -> Dump:
        program = find_program(self._server, self.version)
        return dump(program, self._server, snapshot, self._source.publication)

    @contextmanager
    def captured(self, waiting: Callable[[str], None]) -> Iterator[_Exact]:
        with exact_snapshot(self._server, self._now, waiting) as exact:
            publication = self._publication(exact.copy.catalog)
            tables = exact.shapes(publication.tables)
            yield _Exact(
                exact.copy, tables, exact.copy.catalog, lambda: self._schema(exact.snapshot), exact.system_id,
                self._now.database, exact.position, publication.fingerprint,
            )  # fmt: skip

    @contextmanager
    def replica(self, sink: Sink, last: End) -> Iterator[tuple[Progress, _Rows]]:
        """The source is asked for its schema and its sequences alone, which are not behind what a replica holds."""
        server = sink.server()
        if not isinstance(server, Server):
            raise CdcError(REPLICA_UNFIT, sink=sink.name, problem="its engine is not that of the source")
        publication = self._publication(self._now)
        with replica_snapshot(sink, server, self._source.topic_prefix, publication.tables) as replica:
            at = replica.applied(last)
            with BaseCopy(self._server, None) as source:
                tables = source.catalog.shapes([table.oid for table in publication.tables])
                replica.refuse(tables)
                schema = self._schema(source.export())
            yield at, _Rows(replica.copy, tables, self._now, lambda: schema)

    def estimates(self, tables: Sequence[Table]) -> Mapping[str, int]:
        found = dict(self._now.rows(_ESTIMATES, [table.oid for table in tables]))
        return {table.full_name: found.get(table.oid, 0) for table in tables}


@contextmanager
def named(server: Server, tables: Sequence[str], waiting: Callable[[str], None]) -> Iterator[_Exact]:
    with closing(Catalog(server)) as now, exact_snapshot(server, now, waiting) as exact:
        found = [
            PublishedTable(schema, name, oid, partitioned=False, narrowed=False, entry=None)
            for schema, name, oid in exact.copy.catalog.rows(_NAMED, list(tables))
        ]
        yield _Exact(
            exact.copy, exact.shapes(found), now, _no_schema, exact.system_id, now.database, exact.position, ""
        )  # fmt: skip


def _no_schema() -> Dump:
    raise AssertionError("an anchor has no schema")


def _sequences(catalog: Catalog) -> tuple[dict[str, Value], list[str]]:
    """`last_value` and `is_called` of each; and the names of those that were dropped meanwhile."""
    found: dict[str, Value] = {}
    gone = []
    for name, quoted in catalog.rows(_SEQUENCES):
        if catalog.rows("SELECT pg_catalog.to_regclass(%s)", quoted)[0][0] is None:
            gone.append(f"value of sequence {name}, dropped while the base was taken")
            continue
        last_value, is_called = catalog.rows(f"SELECT s.last_value, s.is_called FROM {quoted} s")[0]  # noqa: S608
        found[name] = (int(last_value), bool(is_called))
    return found, gone


def _not_covered(catalog: Catalog, captured: set[int]) -> Iterator[str]:
    """What a restore will lack, by name."""
    yield "roles, grants and owners; tablespaces; subscriptions"
    large_objects = catalog.rows("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata")[0][0]
    if large_objects:
        yield f"{large_objects} large objects"
    for name, oid, kind, persistence in catalog.rows(_RELATIONS):
        if kind == "f":
            yield f"rows of foreign table {name}"
        elif kind == "m":
            yield f"contents of materialized view {name}"
        elif persistence == "u":
            yield f"rows of unlogged table {name}"
        elif oid not in captured:
            yield f"rows of table {name}, which is not captured"


def findings(server: Server) -> Iterator[Finding]:
    """What pg_dump and the base's own session need."""
    with closing(Catalog(server)) as catalog:
        yield _rights(catalog, server)
        program = find_program(server, catalog.version)
    yield ok(f"pg_dump {program.version} at {program.path}")


def _rights(catalog: Catalog, server: Server) -> Finding:
    role, unreadable = catalog.rows("SELECT pg_catalog.quote_ident(current_user)")[0][0], catalog.rows(_UNREADABLE)
    names = [name for (name,) in unreadable]
    if not names:
        return ok(f"role {role} of [source.{server.name}] may read what pg_dump and bases read")
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    what = f"role {role} may not read {', '.join(names[:_MOST])}{more}"
    return fail(f"{what}: pg_dump reads every definition, a base every sequence", f"GRANT pg_read_all_data TO {role};")
