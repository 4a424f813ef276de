"""Any history, any bases, any cut: what a plan and its fold give is what the source held, or a word why not.

The archive is a real one in a directory. Objects are then removed and put in each other's places at random: what comes
out is still right, or refused by name. `CDC_EXAMPLES=N` tries N histories instead of a few.
"""

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdc.errors import ARCHIVE_CORRUPT, BEFORE_ARCHIVE, BEYOND_ARCHIVE, CHAIN_BROKEN, CdcError
from cdc.event import UNAVAILABLE, RowEvent, Table
from cdc.shape import schema_id
from sinks.archive.archive import Archive
from sinks.archive.body import Body
from sinks.archive.dump import Dump
from sinks.archive.manifest import Base, BaseTable, Link, SchemaChange, Segment, Stored, TableRows, body_name
from sinks.archive.plan import Moment
from sinks.archive.restore import fold_digests
from sinks.archive.segment import TRANSACTIONS, _Shape, _TableRows
from sinks.archive.window import Windows
from sinks.digest import Digests
from tests.log_writer import column, table

EXAMPLES = int(os.environ.get("CDC_EXAMPLES", "12"))
KEYED = table("public.t", {"id": "int4", "a": "text", "big": "text"}, key=["id"])
KEYLESS = table("public.n", {"a": "text", "big": "text"})
NAMED = {ARCHIVE_CORRUPT, BEFORE_ARCHIVE, BEYOND_ARCHIVE, CHAIN_BROKEN}
EPOCH = 1
Row = dict[str, Any]
TEXTS = st.none() | st.sampled_from(["", "x", 'a"b', "new\nline", "\\."])
OPS = ["put"] * 5 + ["delete", "move", "truncate", "add", "drop", "insert", "insert", "remove", "change"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(OPS),
        st.integers(0, 4), st.integers(0, 4), TEXTS, TEXTS, st.booleans(),
    ), min_size=2, max_size=18,
)  # fmt: skip


@dataclass
class Txn:
    """One transaction, and what both tables hold behind it."""

    events: list[RowEvent] = field(default_factory=list)
    changes: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    shapes: dict[str, Table] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)


class History:
    """A keyed table and one without a key, as a database would let them change."""

    def __init__(self) -> None:
        self.shapes = {KEYED.full_name: KEYED, KEYLESS.full_name: KEYLESS}
        self.known = {schema_id(shape): shape for shape in self.shapes.values()}
        self.keyed: dict[int, Row] = {}
        self.bag: list[Row] = []
        self.txns = [self._behind(Txn())]
        self._attnum = 10

    def play(self, op: str, key: int, other: int, a: str | None, big: str | None, partial: bool) -> None:  # noqa: FBT001
        txn = Txn()
        getattr(self, op)(txn, key, other, {"a": a, "big": big}, partial)
        if txn.events or txn.changes:
            self.txns.append(self._behind(txn))

    def _behind(self, txn: Txn) -> Txn:
        txn.shapes = dict(self.shapes)
        txn.rows = {KEYED.full_name: [dict(row) for row in self.keyed.values()], KEYLESS.full_name: [*self.bag]}
        return txn

    def _event(self, txn: Txn, name: str, op: str, before: Row | None, after: Row | None, **facts: Any) -> None:
        seen = {**after, **dict.fromkeys(facts.get("unchanged", ()), UNAVAILABLE)} if after else None
        txn.events.append(RowEvent(name, op, len(txn.events) + 1, schema_id(self.shapes[name]), before, seen, **facts))

    def _new(self, key: int, values: Row) -> Row:
        return {c.name: key if c.name == "id" else values.get(c.name, "later") for c in self.shapes["public.t"].columns}

    def put(self, txn: Txn, key: int, _other: int, values: Row, partial: bool) -> None:  # noqa: FBT001
        old, new = self.keyed.get(key), self._new(key, values)
        unchanged = ("big",) if old and partial else ()
        if old and partial:
            new["big"] = old["big"]
        self._event(txn, "public.t", "u" if old else "c", None, new, unchanged=unchanged)
        self.keyed[key] = new

    def delete(self, txn: Txn, key: int, *_: object) -> None:
        if old := self.keyed.pop(key, None):
            self._event(txn, "public.t", "d", {**dict.fromkeys(old), "id": key}, None)

    def move(self, txn: Txn, key: int, other: int, values: Row, partial: bool) -> None:  # noqa: FBT001
        if key not in self.keyed or other in self.keyed:
            return
        old, new = self.keyed.pop(key), self._new(other, values)
        if partial:
            new["big"] = old["big"]
        gone, came = {"id": key}, {"id": other}
        self._event(txn, "public.t", "d", {**dict.fromkeys(old), **gone}, None, moved_to=came)
        self._event(txn, "public.t", "c", None, new, unchanged=("big",) if partial else (), moved_from=gone)
        self.keyed[other] = new

    def truncate(self, txn: Txn, key: int, *_: object) -> None:
        name = ("public.t", "public.n")[key % 2]
        txn.changes.append((name, "truncate", None, None))
        (self.keyed if key % 2 == 0 else self.bag).clear()

    def add(self, txn: Txn, *_: object) -> None:
        self._attnum += 1
        made = column(f"c{self._attnum}", "text", self._attnum, missing="7", default="'7'::text")
        self._reshape(txn, "add_column", (*self.shapes["public.t"].columns, made))
        for row in self.keyed.values():
            row[made.name] = "7"

    def drop(self, txn: Txn, *_: object) -> None:
        columns = self.shapes["public.t"].columns
        gone = next((c.name for c in columns if c.name not in ("id", "big")), None)
        if gone:
            self._reshape(txn, "drop_column", tuple(c for c in columns if c.name != gone))
            for row in self.keyed.values():
                del row[gone]

    def _reshape(self, txn: Txn, effect: str, columns: tuple[Any, ...]) -> None:
        old, new = self.shapes["public.t"], replace(self.shapes["public.t"], columns=columns)
        self.shapes["public.t"] = self.known[schema_id(new)] = new
        txn.changes.append(("public.t", effect, schema_id(old), schema_id(new)))

    def insert(self, txn: Txn, _key: int, _other: int, values: Row, _partial: bool) -> None:  # noqa: FBT001
        self.bag.append(values)
        self._event(txn, "public.n", "c", None, values)

    def remove(self, txn: Txn, key: int, *_: object) -> None:
        if self.bag:
            self._event(txn, "public.n", "d", self.bag.pop(key % len(self.bag)), None)

    def change(self, txn: Txn, key: int, _other: int, values: Row, partial: bool) -> None:  # noqa: FBT001
        if self.bag:
            old = self.bag.pop(key % len(self.bag))
            new = {**values, "big": old["big"]} if partial else values
            self.bag.append(new)
            self._event(txn, "public.n", "u", old, new, unchanged=("big",) if partial else ())


# -- an archive of it -------------------------------------------------------------------------------------------
def write(archive: Archive, history: History, cuts: Sequence[int], bases: Sequence[int]) -> None:
    """Segments that end at `cuts`, bases behind `bases`; transaction 0 is the empty beginning."""
    for shape in history.known.values():
        archive.put_shape(shape)
    link, first = None, 1
    for last in cuts:
        link, first = segment(archive, history, first, last, link), last + 1
    for seq in bases:
        base(archive, history, seq)


def segment(archive: Archive, history: History, first: int, last: int, link: Link | None) -> Link:
    numbers, body_id = range(first, last + 1), f"{first:016x}"
    batches: dict[str, _TableRows] = {}
    changes = []
    for seq in numbers:
        for event in history.txns[seq].events:
            rows = batches.setdefault(event.table, _TableRows(event.table))
            rows.add(seq, event, _Shape(history.known[event.schema_id], event.schema_id))
        changes += [
            SchemaChange(seq=seq, at=0, table=name, effect=effect, old=old, new=new)
            for name, effect, old, new in history.txns[seq].changes
        ]
    count = len(numbers)
    log = [numbers, ["txn"] * count, numbers, [f"1:0/{n:X}" for n in numbers], ["0" * 16] * count, numbers, numbers,
           [1] * count]  # fmt: skip
    bodies = {
        "rows": [batches[name].batch() for name in sorted(batches)],
        "txns": [pa.RecordBatch.from_arrays(
            [pa.array(list(values), kind) for values, kind in zip(log, TRANSACTIONS.types, strict=True)],
            schema=TRANSACTIONS)],
    }  # fmt: skip
    stored = {
        what: body(archive, body_name(EPOCH, first, body_id, what), found) for what, found in bodies.items() if found
    }
    made = Segment(
        archive=archive.identity.archive, epoch=EPOCH, first_seq=first, last_seq=last, run="0" * 16,
        prev_position=f"1:0/{first - 1:X}", position=f"1:0/{last:X}", log_offset=last, events=1, min_commit_us=first,
        max_commit_us=last, running_max_us=last, commit_us=last, changes=tuple(changes),
        tables={name: TableRows(rows=len(rows.seqs), first=first, last=last, schemas=tuple(sorted(set(rows.schemas))))
                for name, rows in batches.items()},
        rows=stored.get("rows"), transactions=stored["txns"], previous=link,
    )  # fmt: skip
    put = archive.put_new(made.name, made.to_bytes())
    assert put
    return Link(name=made.name, sha256=put.sha256)


def body(archive: Archive, name: str, batches: Sequence[pa.RecordBatch]) -> Stored:
    made = Body(archive, name)
    with pq.ParquetWriter(made.stream, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=batch.num_rows)
    return made.put()


def base(archive: Archive, history: History, seq: int) -> None:
    txn, base_id = history.txns[seq], f"{seq:016x}"
    tables = {}
    for number, (name, shape) in enumerate(txn.shapes.items(), 1):
        columns = [pa.array([text(row[c.name]) for row in txn.rows[name]], pa.string()) for c in shape.columns]
        batch = pa.RecordBatch.from_arrays(columns, names=[c.name for c in shape.columns])
        files = (body(archive, f"base/files/{base_id}/{number:06d}.parquet", [batch]),) if txn.rows[name] else ()
        tables[name] = BaseTable(schema_id=schema_id(shape), rows=len(txn.rows[name]), digests={}, files=files)
    made = Base(
        archive=archive.identity.archive, id=base_id, taken_from="source", server_version=180000, epoch=EPOCH,
        txn_seq=seq, position=f"1:0/{seq:X}", commit_us=seq, started_ms=0, finished_ms=0, tables=tables, sequences={},
        schema_file=archive.put(f"base/files/{base_id}/schema.json", Dump(pg_dump="18", pre=(), post=()).to_bytes()),
    )  # fmt: skip
    archive.put_new(made.name, made.to_bytes())


def text(value: Any) -> str | None:
    return None if value is None else str(value)


def expected(txn: Txn) -> dict[str, Digests]:
    """As the digest's module describes it, in plain Python."""
    found: dict[str, Digests] = {}
    for name, shape in txn.shapes.items():
        digests: Digests = {}
        for row in txn.rows[name]:
            hashed = sha256(line(row[c.name] for c in shape.columns))
            bucket = (hashed if shape.keyless else sha256(line(row[c] for c in shape.key)))[:2]
            rows, one, two = digests.get(bucket, (0, 0, 0))
            digests[bucket] = (rows + 1, one + int(hashed[:15], 16), two + int(hashed[15:30], 16))
        found[name] = digests
    return found


def line(values: Iterator[Any]) -> str:
    return ",".join("" if value is None else '"' + str(value).replace('"', '""') + '"' for value in values)


def sha256(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()


class Quiet:
    """Watches nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cdc-tests-") as folder:
        yield Path(folder)


def lived(steps: Sequence[tuple[Any, ...]], chance: random.Random) -> tuple[History, list[int], list[int]]:
    """A history, where its segments end, behind which transactions there are bases."""
    history = History()
    for step in steps:
        history.play(*step)
    last = len(history.txns) - 1
    ends = sorted({*chance.sample(range(1, last + 1), min(last, 4)), last}) if last else []
    return history, ends, sorted({0, *chance.sample(range(last + 1), min(last, 2))})


def folded(root: Path, seq: int) -> dict[str, Digests]:
    archive = Archive.open(f"file://{root}", None)
    plan = Windows(archive).plan(Moment(txn_seq=seq))
    return fold_digests(archive, plan, sorted(plan.tables), Quiet())


@settings(max_examples=EXAMPLES, deadline=None)
@given(STEPS, st.integers(0, 2**32))
def test_any_history_at_any_cut(steps: list[tuple[Any, ...]], seed: int) -> None:
    chance = random.Random(seed)
    history, ends, bases = lived(steps, chance)
    if not ends:
        return
    with directory() as root:
        write(Archive.open_or_make(f"file://{root}", None, "shop"), history, ends, bases)
        for seq in {ends[-1], *chance.sample(range(1, ends[-1] + 1), min(ends[-1], 3))}:
            assert folded(root, seq) == expected(history.txns[seq])


@settings(max_examples=EXAMPLES, deadline=None)
@given(STEPS, st.integers(0, 2**32))
@example([(op, 0, 0, None, None, False) for op in ("put", "truncate", "put")], 148133)
@example([("put", 0, 0, None, None, False), ("delete", 1, 0, None, None, False)], 2338960)
def test_any_set_of_its_objects(steps: list[tuple[Any, ...]], seed: int) -> None:
    """Removed, or in each other's places: right, or refused by name."""
    chance = random.Random(seed)
    history, ends, bases = lived(steps, chance)
    if not ends:
        return
    with directory() as root:
        write(Archive.open_or_make(f"file://{root}", None, "shop"), history, ends, bases)
        objects = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "archive.json")
        for path in chance.sample(objects, chance.randint(0, 2)):
            path.unlink()
        left = [path for path in objects if path.exists()]
        for kind in chance.sample(sorted({path.relative_to(root).parts[0] for path in left}), 2):
            alike = [path for path in left if path.relative_to(root).parts[0] == kind]
            if len(alike) > 1 and chance.random() < 0.5:
                one, other = chance.sample(alike, 2)
                kept = one.read_bytes()
                shutil.copyfile(other, one)
                other.write_bytes(kept)
        for seq in {ends[-1], chance.randint(1, ends[-1])}:
            try:
                found = folded(root, seq)
            except CdcError as error:
                if error.code not in NAMED:
                    raise
            else:
                assert found == expected(history.txns[seq])
