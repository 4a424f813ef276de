"""A base: every captured table as it stood at one exact position of the source, with digests and the schema. I/O.

In: a source of the configuration, its archive, the log. Out: a `Base`, which exists once its manifest is written.
Refuses: a table without columns, a row that the server cannot write in one line, pg_dump missing or too old, rows and
digest that do not count the same; and, to begin again by itself, a table that is rewritten, a log that begins anew or a
publication that changes meanwhile.

    a snapshot at an exact position: shapes, locks, schema, rows, digests, sequences → the log's number → manifest
    or: a replica's snapshot, its progress → shapes and schema at the source → rows, digests → sequences → manifest

The position is where the log would go on after exactly the transactions that the snapshot shows (CORRECTNESS 33).
Which number that is, the log itself tells as soon as it has passed the point; a heartbeat beyond it that names the same
publication proves that log and base hold the same tables. A kill leaves objects that no manifest names.
MySQL's catalog does not tell what makes a column the same, so there the log's own shapes are taken; a table that the
log does not know has no place in a base.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol

from cdc.engine import Server, engine_of
from cdc.errors import ARCHIVE_HELD, BASE_MISCOUNTED, BASE_OVERTAKEN, COPY_TORN, TOPIC_MISSING, CdcError
from cdc.event import Table
from cdc.failpoint import failpoint
from cdc.kafka import Options, Reader
from cdc.log import End
from cdc.logtail import read_log
from cdc.position import Position, parse_position
from cdc.sections import Sink, Source
from cdc.shape import schema_id
from cdc.shapes import ShapeTopic
from cdc.status_tail import Tail, follow, read_tail
from sinks.archive.archive import Archive
from sinks.archive.dump import Dump
from sinks.archive.manifest import Base, BaseTable
from sinks.archive.origin import Origin, Rows, origin_of
from sinks.archive.sequences import Value
from sinks.archive.table_files import TableFiles
from sinks.transaction import Progress

_EVERY_S = 0.5
_AGAIN_S = 1.0
_AGAIN = {BASE_OVERTAKEN, COPY_TORN}


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
    with closing(origin_of(server, settings.source)) as origin:
        origin.refuse_unready()
    archive = Archive.open_or_make(
        settings.url, settings.key, settings.source.topic_prefix, engine_of(settings.source.url)
    )
    with closing(Reader(settings.kafka, client=f"cdc-base-{settings.name}")) as reader:
        while True:
            try:
                with closing(origin_of(server, settings.source)) as origin:
                    return _Attempt(settings, observer, archive, reader, origin).take()
            except CdcError as error:
                if error.code not in _AGAIN:
                    raise
                observer.again(error)
                time.sleep(_AGAIN_S)


def _server(settings: BaseSettings) -> Server:
    return replace(settings.source.server(), purpose="base")


# -- one attempt ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Taken:
    """What came out of the snapshots. `at`: the transaction that it stands behind."""

    at: Progress
    tables: dict[str, BaseTable]
    dump: Dump
    sequences: dict[str, Value]
    not_covered: tuple[str, ...]


class _Attempt:
    """From the log's tail to the manifest."""

    def __init__(
        self, settings: BaseSettings, observer: Observer, archive: Archive, reader: Reader, origin: Origin
    ) -> None:
        self._source, self._sink, self._observer = settings.source, settings.sink, observer
        self._archive, self._reader, self._origin = archive, reader, origin
        # Behind one transaction of a quiet source stand many; by name the newest is the last.
        self._id = f"{_now_ms():011x}{secrets.token_hex(8)[:5]}"

    def take(self) -> Base:
        started_ms = _now_ms()
        tail = self._quiet_tail()
        taken = self._from_source(tail) if self._sink is None else self._from_sink(tail, self._sink)
        schema_file = self._archive.put(f"base/files/{self._id}/schema.json", taken.dump.to_bytes())
        base = Base(
            archive=self._archive.identity.archive,
            id=self._id,
            taken_from="source" if self._sink is None else self._sink.name,
            server_version=self._origin.version,
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
    def _quiet_tail(self) -> Tail:
        """The end of the log, once no base copy of the source goes on and it streams what a base would hold."""
        while True:
            tail = self._tail()
            if tail.last is None:
                self._observer.waiting("for the source's first transaction")
            elif tail.copying is not None:
                self._observer.waiting(f"for the source's own copy of {tail.copying}")
            elif self._streamed(tail) not in (None, self._origin.fingerprint()):
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

    def _placed(self, tail: Tail, at: Position, fingerprint: str) -> tuple[Progress, dict[str, str]]:
        """Behind the last END at or before it, once a heartbeat beyond it shows that the log goes on as it was.

        Also the shapes that tables have taken on since the tail, by their ids.
        """
        assert tail.last is not None
        last: End | None = None
        changed: dict[str, str] = {}
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
                changed |= {change.table: change.new for change in end.changes if change.new}
            elif end.publication is not None:
                if last is None or position.timeline != at.timeline or not at <= position:
                    raise self._overtaken("the source went on from another server")
                if end.publication != fingerprint:
                    raise self._overtaken("the publication or tables = … changed")
                return Progress.behind(last, -1), changed
        raise AssertionError("the log is followed for ever")

    def _overtaken(self, problem: str) -> CdcError:
        return CdcError(BASE_OVERTAKEN, source=self._source.name, problem=problem)

    # -- the snapshots ------------------------------------------------------------------------------------------
    def _from_source(self, tail: Tail) -> _Taken:
        origin = self._origin
        known = None if origin.numbers_columns else self._known_to_the_log(tail)
        with origin.captured(self._observer.waiting) as exact:
            tables = [table for table in exact.tables if known is None or table.full_name in known]
            left_out = [table.full_name for table in exact.tables if table not in tables]
            schema = exact.schema()
            copied = self._rows(exact, tables)
            sequences, not_covered = exact.beside_rows(tables)
            position, fingerprint = exact.position, exact.fingerprint
        at, changed = self._placed(tail, position, fingerprint)
        if known is not None:
            copied = self._numbered(tables, copied, known | changed)
        later = [f"rows of table {name}, which the source has not copied yet" for name in left_out]
        return _Taken(at, copied, schema, sequences, (*not_covered, *later))

    def _known_to_the_log(self, tail: Tail) -> dict[str, str]:
        """Captured tables' shapes at the tail, by their ids."""
        assert tail.offset is not None
        state = read_log(self._reader, self._source.topic_prefix, until=tail.offset + 1)
        return {name: schema_id(table) for name, table in self._shapes().in_force(state).items()}

    def _shapes(self) -> ShapeTopic:
        topic = ShapeTopic(self._source.name, self._source.topic_prefix)
        topic.load(self._reader, lambda: None)
        return topic

    def _numbered(
        self, tables: Sequence[Table], copied: Mapping[str, BaseTable], known: Mapping[str, str]
    ) -> dict[str, BaseTable]:
        """The same rows under the log's own shapes, which say which columns are the same."""
        records = self._shapes().records
        found = {}
        for table in tables:
            of_log = records[known[table.full_name]].table
            if _form(of_log) != _form(table):
                raise self._overtaken(f"{table.full_name} has another shape in the log than at the source")
            found[table.full_name] = copied[table.full_name].model_copy(
                update={"schema_id": self._archive.put_shape(of_log)}
            )
        return found

    def _from_sink(self, tail: Tail, sink: Sink) -> _Taken:
        assert tail.last is not None
        with self._origin.replica(sink, tail.last) as (at, replica):
            schema, copied = replica.schema(), self._rows(replica, replica.tables)
            return _Taken(at, copied, schema, *replica.beside_rows(replica.tables))

    def _rows(self, snapshot: Rows, tables: Sequence[Table]) -> dict[str, BaseTable]:
        self._observer.begun(self._origin.estimates(tables))
        files = TableFiles(self._archive, f"base/files/{self._id}")
        copied = {}
        for table in tables:
            copied[table.full_name] = self._table(snapshot, table, files)
            failpoint("base.after_table")
        return copied

    def _table(self, snapshot: Rows, table: Table, files: TableFiles) -> BaseTable:
        name, tell = table.full_name, self._observer.copying
        rows, stored = files.write(table, snapshot.rows(table), lambda rows: tell(name, rows, done=False))
        digest = snapshot.digests(table)
        counted = sum(count for count, _, _ in digest.values())
        if rows != counted:
            raise CdcError(BASE_MISCOUNTED, source=self._source.name, table=name, rows=rows, counted=counted)
        tell(name, rows, done=True)
        return BaseTable(schema_id=self._archive.put_shape(table), rows=rows, digests=digest, files=stored)


def _form(table: Table) -> tuple[object, ...]:
    """What a row's line depends on."""
    return table.key, [(column.name, column.type) for column in table.columns]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
