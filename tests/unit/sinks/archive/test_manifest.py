"""`sinks.archive.manifest`: objects come back as they were written, and names sort as numbers do."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cdc.position import Lsn, PgPosition
from sinks.archive.manifest import (
    Anchor,
    AnchorTable,
    Base,
    BaseTable,
    Head,
    Identity,
    Link,
    Object,
    RestoredTable,
    RestoreRecord,
    SchemaChange,
    Segment,
    Stored,
    TableRows,
    body_name,
    segment_name,
    sha256,
)

IDENTITY = Identity(archive="0123456789abcdef", source="shop", engine="postgresql", encryption="none", created_ms=1)
HEAD = Head(
    segment="log/1", sha256="0" * 64, epoch=1, txn_seq=2, run="r", position="1:0/1", log_offset=3, commit_us=4,
    written_ms=5,
)  # fmt: skip
DIGESTS = {"00": (1, 2**63, 2**64), "ff": (0, 0, 0)}
STORED = Stored(name="x", size=1, sha256="a" * 64)
BASE = Base(
    archive="0123456789abcdef", id="1f", taken_from="source", server_version=180000, epoch=1, txn_seq=2,
    position="1:0/1", commit_us=None, started_ms=1, finished_ms=2,
    tables={"public.a": BaseTable(schema_id="s", rows=1, digests=DIGESTS, files=(STORED,))}, schema_file=STORED,
    sequences={"public.a_id_seq": (3, True)}, not_covered=("role admin",),
)  # fmt: skip
ANCHOR = Anchor(
    archive="0123456789abcdef", id="1f", system_id="7", database="shop", position="1:0/1", taken_ms=1,
    tables={"public.a": AnchorTable(schema_id="s", digests=DIGESTS)},
)  # fmt: skip
RESTORE = RestoreRecord(
    archive="0123456789abcdef", id="1f", epoch=1, txn_seq=2, base=None, finished_ms=1, verdict="VERIFIED",
    tables={"public.a": RestoredTable(place="public.b", schema_id="s", rows=1, digests=DIGESTS)},
)  # fmt: skip

numbers = st.integers(0, 2**63 - 1)
texts = st.text(max_size=8)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
stored = st.builds(Stored, name=texts, size=numbers, sha256=hashes)
changes = st.builds(
    SchemaChange,
    seq=numbers,
    at=numbers,
    table=texts,
    effect=texts,
    old=st.none() | texts,
    new=st.none() | texts,
    copy_id=st.none() | texts,
)
rows = st.builds(TableRows, rows=numbers, first=numbers, last=numbers, schemas=st.lists(texts, max_size=2).map(tuple))
segments = st.builds(
    Segment,
    archive=texts,
    epoch=numbers,
    first_seq=numbers,
    last_seq=numbers,
    run=texts,
    prev_position=st.none() | texts,
    position=texts,
    log_offset=numbers,
    events=numbers,
    min_commit_us=st.none() | numbers,
    max_commit_us=st.none() | numbers,
    running_max_us=st.none() | numbers,
    commit_us=st.none() | st.integers(-(2**63), 2**63 - 1),
    opened=st.none() | texts,
    tables=st.dictionaries(texts, rows, max_size=2),
    changes=st.lists(changes, max_size=3).map(tuple),
    sequences=st.dictionaries(texts, numbers, max_size=2),
    rows=st.none() | stored,
    transactions=stored,
    previous=st.none() | st.builds(Link, name=texts, sha256=hashes),
)


@given(segments)
def test_a_segment_comes_back(segment: Segment) -> None:
    assert Segment.parse(segment.to_bytes()) == segment


@pytest.mark.parametrize("one", [IDENTITY, HEAD, BASE, ANCHOR, RESTORE], ids=lambda one: type(one).__name__)
class TestEach:
    def test_it_comes_back(self, one: Object) -> None:
        assert type(one).parse(one.to_bytes()) == one

    def test_fields_that_nobody_knows_yet_are_skipped(self, one: Object) -> None:
        more = {**json.loads(one.to_bytes()), "later": {"a": [1]}}
        assert type(one).parse(json.dumps(more).encode()) == one

    @pytest.mark.parametrize("v", [0, 2, "1", None])
    def test_another_version_is_refused(self, one: Object, v: object) -> None:
        other = {**json.loads(one.to_bytes()), "v": v}
        with pytest.raises(ValidationError, match="v\n"):
            type(one).parse(json.dumps(other).encode())

    def test_any_cut_is_refused(self, one: Object) -> None:
        data = one.to_bytes()
        for size in range(len(data)):
            with pytest.raises(ValidationError):
                type(one).parse(data[:size])

    def test_no_bit_turns_unnoticed(self, one: Object) -> None:
        data = one.to_bytes()
        for at in range(8 * len(data)):
            altered = bytearray(data)
            altered[at // 8] ^= 1 << at % 8
            with suppress(ValueError):
                assert type(one).parse(bytes(altered)) == one

    def test_a_field_that_is_missing_is_refused(self, one: Object) -> None:
        fields = json.loads(one.to_bytes())
        optional = {"v", "kind", "not_covered", "sequences", "sum", "writer"}
        for name in fields.keys() - optional:
            with pytest.raises(ValidationError, match=name):
                type(one).parse(json.dumps({k: v for k, v in fields.items() if k != name}).encode())


def test_one_object_is_not_read_as_another() -> None:
    for one, other in ((BASE, Anchor), (ANCHOR, Base), (BASE, Segment), (HEAD, Segment)):
        with pytest.raises(ValidationError):
            other.parse(one.to_bytes())


def test_stored_bytes_are_held_to_size_and_hash() -> None:
    one = Stored(name="x", size=4, sha256=sha256(b"data"))
    assert one.holds(b"data")
    assert not one.holds(b"date")
    assert not one.holds(b"dat")
    assert not Stored(name="x", size=5, sha256=sha256(b"data")).holds(b"data")


places = st.tuples(st.integers(1, 2**63 - 1), numbers)


@pytest.mark.parametrize(
    "name",
    [
        segment_name,
        lambda epoch, seq: body_name(epoch, seq, "0f", "rows"),
        lambda epoch, seq: BASE.model_copy(update={"epoch": epoch, "txn_seq": seq}).name,
        lambda epoch, seq: ANCHOR.model_copy(update={"position": str(PgPosition(epoch, Lsn(seq)))}).name,
    ],
    ids=["segment", "body", "base", "anchor"],
)
@given(one=places, other=places)
def test_names_sort_as_numbers_do(name: Callable[..., str], one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (name(*one) < name(*other)) == (one < other)
    assert (name(*one) == name(*other)) == (one == other)


@given(segments)
def test_a_segment_s_name_is_its_first_transaction_alone(segment: Segment) -> None:
    other: dict[str, Any] = {"last_seq": segment.last_seq + 1, "run": "another", "events": 0}
    assert segment.name == segment.model_copy(update=other).name == segment_name(segment.epoch, segment.first_seq)
