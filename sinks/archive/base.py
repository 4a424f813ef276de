"""A base: every captured table as it stood at one exact position of the source, with digests and the schema. I/O.

In: a source of the configuration, its archive, the log. Out: a `Base`, which exists once its manifest is written.
Refuses: a table without columns, a row that the server cannot write in one line, pg_dump missing or too old, rows and
digest that do not count the same; and, to begin again by itself, a table that is rewritten, a log that begins anew or a
publication that changes meanwhile.

    temporary slot → its snapshot: shapes, locks, pg_dump, rows, digests, sequences → the log's number for it → manifest
    or: a replica's snapshot, its progress → shapes and pg_dump at the source → rows, digests → sequences → manifest

The slot's consistent point is where the log would go on after exactly the transactions that the snapshot shows
(CORRECTNESS 33). Which number that is, the log itself tells as soon as it has passed the point; a heartbeat beyond it
that names the same publication proves that log and base hold the same tables. A kill leaves objects that no manifest
names; the slot goes with its connection.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol

from cdc.config import Sink, Source
from cdc.engine import postgres
from cdc.errors import (
    ARCHIVE_HELD,
    BASE_MISCOUNTED,
    BASE_OVERTAKEN,
    COPY_TORN,
    PUBLICATION_MISSING,
    TOPIC_MISSING,
    CdcError,
)
from cdc.event import Table
from cdc.failpoint import failpoint
from cdc.kafka import Options, Reader
from cdc.log import End
from cdc.position import PgPosition, parse_position
from cdc.postgres.catalog import Catalog, Publication
from cdc.postgres.session import Server
from cdc.postgres.snapshot import BaseCopy
from cdc.status import Tail, follow, read_tail
from sinks.archive.archive import Archive
from sinks.archive.dump import Dump, Program, dump, find_program
from sinks.archive.manifest import Base, BaseTable
from sinks.archive.replica import replica_snapshot
from sinks.archive.snapshot import exact_snapshot
from sinks.archive.table_files import TableFiles
from sinks.digest import digests
from sinks.postgres.digest import digest_query
from sinks.transaction import Progress

_EVERY_S = 0.5
_AGAIN_S = 1.0
_AGAIN = {BASE_OVERTAKEN, COPY_TORN}

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


# -- what is told -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class BaseSettings:
    """One source of an `[archive.NAME]` section. `url`: of the source's own archive; `sink`: the replica to read."""

    name: str
    source: Source
    url: str
    kafka: Options = field(repr=False)
    key: bytes | None = field(repr=False)
    sink: Sink | None = None


class Observer(Protocol):
    """What a base tells those who watch it."""

    def waiting(self, what: str) -> None: ...
    def begun(self, estimates: Mapping[str, int]) -> None: ...
    def copying(self, table: str, rows: int, *, done: bool) -> None: ...
    def again(self, error: CdcError) -> None: ...


def take_base(settings: BaseSettings, observer: Observer) -> Base:
    """Take one, however often it has to begin; the errors of servers that are away are the caller's."""
    server = _server(settings)
    with closing(Catalog(server)) as catalog:
        program = find_program(server, catalog.version)
    archive = Archive.open_or_make(settings.url, settings.key, settings.source.topic_prefix)
    with closing(Reader(settings.kafka, client=f"cdc-base-{settings.name}")) as reader:
        while True:
            try:
                return _Attempt(settings, observer, archive, reader, program).take()
            except CdcError as error:
                if error.code not in _AGAIN:
                    raise
                observer.again(error)
                time.sleep(_AGAIN_S)


def _server(settings: BaseSettings) -> Server:
    return replace(postgres(settings.source.server()), purpose="base")


# -- one attempt ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Taken:
    """What came out of the snapshots. `at`: the transaction that it stands behind."""

    at: Progress
    tables: dict[str, BaseTable]
    dump: Dump
    sequences: dict[str, tuple[int, bool]]
    not_covered: tuple[str, ...]


class _Attempt:
    """From the log's tail to the manifest."""

    def __init__(
        self, settings: BaseSettings, observer: Observer, archive: Archive, reader: Reader, program: Program
    ) -> None:
        self._source, self._sink, self._observer = settings.source, settings.sink, observer
        self._archive, self._reader, self._program = archive, reader, program
        self._server = _server(settings)
        # Behind one transaction of a quiet source stand many; by name the newest is the last.
        self._id = f"{_now_ms():011x}{secrets.token_hex(8)[:5]}"

    def take(self) -> Base:
        started_ms = _now_ms()
        with closing(Catalog(self._server)) as now:
            tail = self._quiet_tail(now)
            taken = self._from_source(now, tail) if self._sink is None else self._from_sink(now, tail, self._sink)
            version = now.version
        schema_file = self._archive.put(f"base/files/{self._id}/schema.json", taken.dump.to_bytes())
        base = Base(
            archive=self._archive.identity.archive,
            id=self._id,
            taken_from="source" if self._sink is None else self._sink.name,
            server_version=version,
            epoch=taken.at.epoch,
            txn_seq=taken.at.txn_seq,
            position=taken.at.position,
            commit_us=taken.at.commit_ts_us,
            started_ms=started_ms,
            finished_ms=_now_ms(),
            tables=taken.tables,
            schema_file=schema_file,
            sequences=taken.sequences,
            not_covered=taken.not_covered,
        )
        failpoint("base.before_manifest")
        if self._archive.put_new(base.name, base.to_bytes()) is None:
            raise CdcError(ARCHIVE_HELD, url=self._archive.store.url, name=base.name)
        failpoint("base.after_manifest")
        return base

    # -- the log ------------------------------------------------------------------------------------------------
    def _quiet_tail(self, now: Catalog) -> Tail:
        """The end of the log, once no base copy of the source goes on and it streams what a base would hold."""
        while True:
            tail = self._tail()
            if tail.last is None:
                self._observer.waiting("for the source's first transaction")
            elif tail.copying is not None:
                self._observer.waiting(f"for the source's own copy of {tail.copying}")
            elif self._streamed(tail) not in (None, self._publication(now).fingerprint):
                self._observer.waiting("for the source to stream its publication and tables = … as they are now")
            else:
                return tail
            time.sleep(_EVERY_S)

    def _tail(self) -> Tail:
        try:
            return read_tail(self._reader, self._source.topic_prefix)
        except CdcError as error:
            if error.code is not TOPIC_MISSING:
                raise
            return Tail(())

    def _streamed(self, tail: Tail) -> str | None:
        """The publication's fingerprint by the source's last word, None where that is out of sight."""
        return next((end.publication for end in reversed(tail.ends) if end.publication is not None), None)

    def _placed(self, tail: Tail, at: PgPosition, publication: Publication) -> Progress:
        """Behind the last END at or before it, once a heartbeat beyond it shows that the log goes on as it was."""
        assert tail.last is not None
        last: End | None = None
        for end in follow(self._reader, self._source.topic_prefix, tail):
            if end is None:
                self._observer.waiting(f"for the log to pass {at}; it is at {(last or tail.last).position}")
                time.sleep(_EVERY_S)
                continue
            if end.epoch != tail.last.epoch:
                raise self._overtaken("the log began anew")
            position = parse_position(end.position)
            if position <= at:
                last = end
            elif end.publication is not None:
                if last is None or position.timeline != at.timeline:
                    raise self._overtaken("the source went on from another server")
                if end.publication != publication.fingerprint:
                    raise self._overtaken(f"publication {publication.name} or tables = … changed")
                return Progress.behind(last, -1)
        raise AssertionError("the log is followed for ever")

    def _overtaken(self, problem: str) -> CdcError:
        return CdcError(BASE_OVERTAKEN, source=self._source.name, problem=problem)

    # -- the snapshots ------------------------------------------------------------------------------------------
    def _from_source(self, now: Catalog, tail: Tail) -> _Taken:
        with exact_snapshot(self._server, now, self._observer.waiting) as exact:
            catalog = exact.copy.catalog
            publication = self._publication(catalog)
            tables = exact.shapes(publication.tables)
            schema = self._schema(exact.snapshot)
            copied = self._rows(exact.copy, tables, catalog)
            # Sequences have no past: read last, they are not behind the rows.
            sequences, not_covered = self._beside_rows(catalog, tables)
            position = exact.position
        return _Taken(self._placed(tail, position, publication), copied, schema, sequences, not_covered)

    def _from_sink(self, now: Catalog, tail: Tail, sink: Sink) -> _Taken:
        """The source is asked for its schema and its sequences alone, which are not behind what a replica holds."""
        assert tail.last is not None
        publication = self._publication(now)
        with replica_snapshot(sink, self._source.topic_prefix, publication.tables) as replica:
            at = replica.applied(tail.last)
            with BaseCopy(self._server, None) as source:
                tables = source.catalog.shapes([table.oid for table in publication.tables])
                replica.refuse(tables)
                schema = self._schema(source.export())
            copied = self._rows(replica.copy, tables, now)
        return _Taken(at, copied, schema, *self._beside_rows(now, tables))

    def _publication(self, catalog: Catalog) -> Publication:
        name = self._source.publication
        publication = catalog.publication(name, self._source.wanted)
        if publication is None:
            raise CdcError(PUBLICATION_MISSING, source=self._source.name, publication=name)
        return publication

    def _schema(self, snapshot: str) -> Dump:
        return dump(self._program, self._server, snapshot, self._source.publication)

    def _rows(self, copy: BaseCopy, tables: Sequence[Table], source: Catalog) -> dict[str, BaseTable]:
        estimates = dict(source.rows(_ESTIMATES, [table.oid for table in tables]))
        self._observer.begun({table.full_name: estimates.get(table.oid, 0) for table in tables})
        files = TableFiles(self._archive, f"base/files/{self._id}")
        copied = {}
        for table in tables:
            copied[table.full_name] = self._table(copy, table, files)
            failpoint("base.after_table")
        return copied

    def _beside_rows(
        self, source: Catalog, tables: Sequence[Table]
    ) -> tuple[dict[str, tuple[int, bool]], tuple[str, ...]]:
        """Sequences, and what a restore will lack."""
        sequences, gone = _sequences(source)
        return sequences, (*_not_covered(source, {table.oid for table in tables}), *gone)

    def _table(self, copy: BaseCopy, table: Table, files: TableFiles) -> BaseTable:
        name, tell = table.full_name, self._observer.copying
        rows, stored = files.write(table, copy.csv(table), lambda rows: tell(name, rows, done=False))
        digest = digests(copy.rows(digest_query(table, only=True)))
        counted = sum(count for count, _, _ in digest.values())
        if rows != counted:
            raise CdcError(BASE_MISCOUNTED, source=self._source.name, table=name, rows=rows, counted=counted)
        tell(name, rows, done=True)
        return BaseTable(schema_id=self._archive.put_shape(table), rows=rows, digests=digest, files=stored)


def _sequences(catalog: Catalog) -> tuple[dict[str, tuple[int, bool]], list[str]]:
    """`last_value` and `is_called` of each; and the names of those that were dropped meanwhile."""
    found: dict[str, tuple[int, bool]] = {}
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


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
