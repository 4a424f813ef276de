"""The restore's loop: an archive's rows at a cut into a database, compared before anybody can see them.

In: an archive, a `Plan`, what is wanted of it, a target. Out: `Outcome`. Refuses: what the plan, the fold and the
target refuse; rows on the target that are not those of the fold (RESTORE_FAILED).

    schema → segments into the scratch → fold → COPY → indexes, constraints → sequences → ANALYZE → digests → commit
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from cdc.errors import RESTORE_FAILED, TABLE_COPYING, TABLE_UNKNOWN, CdcError
from sinks.archive.archive import Archive
from sinks.archive.cascade import Cascade, edges_of
from sinks.archive.fold import TableFold
from sinks.archive.lines import digest_of, rows_in
from sinks.archive.manifest import Base
from sinks.archive.place import Place
from sinks.archive.plan import Plan, TablePlan
from sinks.archive.reading import BATCH_ROWS, segment_rows
from sinks.archive.schema import Target, schema_of
from sinks.archive.scratch import Scratch
from sinks.digest import Digests, differing, digests
from sinks.transaction import Progress

HELD_BYTES = 64 << 20
"""Of changes that are read and not yet in the scratch."""
_SHOWN = 5
BaseRows = Callable[[], Iterator[pa.RecordBatch]]


class Observer(Protocol):
    """What a restore tells those who watch it."""

    def begun(self, changes: int, rows: Mapping[str, int]) -> None: ...
    def reading(self, changes: int) -> None: ...
    def loading(self, table: str, rows: int, *, done: bool) -> None: ...
    def step(self, what: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """All tables, or these; `name` and `schema` put a table elsewhere."""

    tables: tuple[str, ...] = ()
    name: str | None = None
    schema: str | None = None

    @property
    def whole(self) -> bool:
        return not (self.tables or self.name or self.schema)


@dataclass(frozen=True, slots=True)
class Restored:
    table: str
    place: str
    rows: int
    digests: Digests


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is in the target now, and equal to the archive there."""

    tables: tuple[Restored, ...]
    notes: tuple[str, ...]


def restore(archive: Archive, plan: Plan, wanted: Wanted, target: Target, observer: Observer) -> Outcome:
    """All of it or nothing."""
    tables = chosen(plan, wanted)
    places = {table.name: target.place(table.shape, wanted.schema, wanted.name) for table in tables}
    target.refuse_existing(list(places.values()))
    every = not (wanted.tables or wanted.name)
    schema = schema_of(archive, plan, target, every=every, schema=wanted.schema)
    placed = [(table, places[table.name]) for table in tables]
    observer.step("schema")
    schema.before(placed)
    with Scratch() as scratch:
        loads = {}
        for table, fold in zip(tables, _read(archive, plan, tables, scratch, observer), strict=True):
            load = _Load(scratch, table, fold, _base_reader(archive, plan.base, table), observer)
            target.load(table.shape, places[table.name], load.blocks())
            observer.loading(table.name, load.rows, done=True)
            loads[table.name] = load
        observer.step("indexes and constraints")
        schema.after(placed)
        observer.step("statistics")
        target.analyze(list(places.values()))
        restored = []
        for table in tables:
            observer.step(f"comparing {table.name}")
            place, load = places[table.name], loads[table.name]
            _compare(table, place, target, load)
            restored.append(Restored(table.name, str(place), load.rows, load.digests))
    if wanted.whole and plan.cut.last:
        last = plan.cut.last
        progress = Progress(plan.cut.epoch, last.txn_seq, last.run, last.position, last.log_offset, last.commit_us)
        source = archive.identity.source
        held = {table.name: (table.schema_id, place) for table, place in placed}
        target.write_progress(f"restored:{source}", source, progress, held)
    target.commit()
    return Outcome(tuple(restored), (*target.notes, *schema.notes))


def fold_digests(archive: Archive, plan: Plan, names: Sequence[str], observer: Observer) -> dict[str, Digests]:
    """What these tables hold at the cut, by the archive alone."""
    tables = [plan.tables[name] for name in sorted(names)]
    with Scratch() as scratch:
        found = {}
        for table, fold in zip(tables, _read(archive, plan, tables, scratch, observer), strict=True):
            load = _Load(scratch, table, fold, _base_reader(archive, plan.base, table), observer)
            for _ in load.batches():
                pass
            found[table.name] = load.digests
        return found


def chosen(plan: Plan, wanted: Wanted) -> list[TablePlan]:
    """What is wanted of it, each table complete there."""
    unknown = [name for name in wanted.tables if name not in plan.tables]
    if unknown:
        raise CdcError(TABLE_UNKNOWN, table=unknown[0], known=", ".join(sorted(plan.tables)) or "none")
    tables = [table for name, table in sorted(plan.tables.items()) if not wanted.tables or name in wanted.tables]
    for table in tables:
        if table.copying:
            raise CdcError(TABLE_COPYING, table=table.name)
    return tables


def _compare(table: TablePlan, place: Place, target: Target, load: _Load) -> None:
    """What the target holds, by SQL, with what the archive gave."""
    buckets = differing(target.digests(table.shape, place), load.digests)
    if buckets:
        there, given = Counter(target.rows_of(table.shape, place, buckets[0])), Counter(load.rows_of(buckets[0]))
        keys = sorted({key for key, _ in [*(there - given), *(given - there)]})
        raise CdcError(
            RESTORE_FAILED, table=table.name,
            problem=f"what the target holds is not what the archive gave, in buckets {', '.join(buckets[:5])}; in the "
            f"first of them rows {'; '.join(keys[:_SHOWN])}",
        )  # fmt: skip


# -- reading ----------------------------------------------------------------------------------------------------
def _read(
    archive: Archive, plan: Plan, tables: Sequence[TablePlan], scratch: Scratch, observer: Observer
) -> list[TableFold]:
    """Every segment once, its rows to the tables they belong to; then what keys of MySQL did to these."""
    edges = edges_of(plan, [table.name for table in tables])
    cascade = Cascade(scratch, plan, edges, archive.shape)
    names = [table.name for table in tables]
    folds = {
        name: TableFold(scratch, plan.tables[name], archive.shape, plan.cut.txn_seq, number, acted=name in edges)
        for number, name in enumerate(dict.fromkeys([*names, *edges]))
    }
    needed = folds.keys() | cascade.parents
    observer.begun(sum(_changes(plan, name) for name in needed), {t.name: _estimate(plan, t) for t in tables})
    held = _Held(scratch, folds, cascade)
    read = 0
    for segment in plan.segments:
        for name, batch in segment_rows(archive, segment, needed):
            held.add(name, batch)
            read += batch.num_rows
            observer.reading(read)
    held.flush()
    cascade.carry_out(folds, lambda table: _base_reader(archive, plan.base, table))
    return [folds[name] for name in names]


class _Held:
    """Batches on their way to the folds, which take few large ones in half the time of many small ones."""

    def __init__(self, scratch: Scratch, folds: Mapping[str, TableFold], cascade: Cascade) -> None:
        self._scratch, self._folds, self._cascade = scratch, folds, cascade
        self._batches: dict[str, list[pa.RecordBatch]] = {}
        self._bytes = 0

    def add(self, name: str, batch: pa.RecordBatch) -> None:
        self._batches.setdefault(name, []).append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        self._scratch.run("BEGIN")
        for name, batches in self._batches.items():
            rows = pa.Table.from_batches(batches)
            if name in self._folds:
                self._folds[name].add(rows)
            self._cascade.add(name, rows)
        self._scratch.run("COMMIT")
        self._batches.clear()
        self._bytes = 0


def _changes(plan: Plan, table: str) -> int:
    return sum(segment.tables[table].rows for segment in plan.segments if table in segment.tables)


def _estimate(plan: Plan, table: TablePlan) -> int:
    """How many rows it will have: a guess, for the progress that is shown."""
    return plan.base.tables[table.name].rows if plan.base and table.from_base else _changes(plan, table.name)


def _base_reader(archive: Archive, base: Base | None, table: TablePlan) -> BaseRows | None:
    if base is None or not table.from_base:
        return None
    files = base.tables[table.name].files

    def batches() -> Iterator[pa.RecordBatch]:
        for stored in files:
            file = pq.ParquetFile(pa.BufferReader(archive.vouched(stored)))
            for group in range(file.num_row_groups):  # as the base was written, in pieces of bounded size
                yield from file.iter_batches(BATCH_ROWS, [group])

    return batches


class _Load:
    """A table's rows on their way to COPY, counted and digested as they pass."""

    def __init__(
        self,
        scratch: Scratch,
        table: TablePlan,
        fold: TableFold,
        base: BaseRows | None,
        observer: Observer,
    ) -> None:
        self._scratch, self._table, self._fold, self._base, self._observer = scratch, table, fold, base, observer
        self.rows = 0
        self.digests: Digests = {}

    def blocks(self) -> Generator[tuple[int, bytes], None, None]:
        for batch in self.batches():
            yield batch.num_rows, _lines(batch)

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self._fold.rows(self._base):
            self._count(batch)
            self.rows += batch.num_rows
            self._observer.loading(self._table.name, self.rows, done=False)
            yield batch

    def rows_of(self, bucket: str) -> Iterator[tuple[Any, ...]]:
        """Key's line and row's hash of every row in a bucket; they are folded once more for it."""
        for batch in self._fold.rows(self._base):
            yield from self._scratch.aside(batch, rows_in("incoming", bucket))

    def _count(self, batch: pa.RecordBatch) -> None:
        for bucket, sums in digests(self._scratch.aside(batch, digest_of("incoming"))).items():
            known = self.digests.get(bucket, (0, 0, 0))
            self.digests[bucket] = (known[0] + sums[0], known[1] + sums[1], known[2] + sums[2])


def _lines(batch: pa.RecordBatch) -> bytes:
    """What COPY reads."""
    return "".join([f"{line}\n" for line in batch.column("line").to_pylist()]).encode()
