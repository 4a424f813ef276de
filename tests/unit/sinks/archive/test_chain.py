"""`sinks.archive.chain`: where a chain ends, and that no damage to it passes."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cdc.errors import ARCHIVE_CORRUPT, CHAIN_BROKEN, CdcError
from sinks.archive.archive import Archive
from sinks.archive.chain import HEAD, check, fetch, read_tail
from sinks.archive.manifest import Head, Link, Segment, Stored, segment_name
from sinks.transaction import Progress

STORED = Stored(name="body/x", size=1, sha256="0" * 64)
Chain = list[Segment]


def segment(archive: Archive, first: int, last: int, **facts: Any) -> Segment:
    given: dict[str, Any] = {
        "archive": archive.identity.archive, "epoch": 1, "first_seq": first, "last_seq": last, "run": "r" * 16,
        "prev_position": f"1:0/{first - 1:X}", "position": f"1:0/{last:X}", "log_offset": last, "events": 1,
        "min_commit_us": first, "max_commit_us": last, "running_max_us": last, "commit_us": last, "tables": {},
        "rows": None, "transactions": STORED,
    } | facts  # fmt: skip
    return Segment(**given)


def append(archive: Archive, *chain: tuple[int, int], behind: Link | None = None, **facts: Any) -> Link:
    """Segments of these transactions behind that one; the last one has these facts."""
    link = behind
    for at, (first, last) in enumerate(chain):
        one = segment(archive, first, last, **({"previous": link} | (facts if at == len(chain) - 1 else {})))
        stored = archive.put_new(one.name, one.to_bytes())
        assert stored
        link = Link(name=one.name, sha256=stored.sha256)
    assert link
    return link


def put_head(archive: Archive, link: Link, seq: int, **facts: Any) -> Head:
    given: dict[str, Any] = {
        "segment": link.name, "sha256": link.sha256, "epoch": 1, "txn_seq": seq, "run": "r" * 16,
        "position": f"1:0/{seq:X}", "log_offset": seq, "commit_us": seq, "written_ms": 0,
    } | facts  # fmt: skip
    head = Head(**given)
    archive.put(HEAD, head.to_bytes())
    return head


def progress(seq: int) -> Progress:
    return Progress(1, seq, "r" * 16, f"1:0/{seq:X}", seq, seq)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture(params=[b"k" * 32, None], ids=["sealed", "plain"])
def archive(root: Path, request: pytest.FixtureRequest) -> Archive:
    return Archive.open_or_make(f"file://{root}", request.param, "shop")


# -- the end --
class Listings:
    """Where the listings of the log began."""

    def __init__(self, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after: list[str] = []
        names = archive.names

        def listed(prefix: str, *, after: str = "") -> Any:
            self.after.append(after)
            return names(prefix, after=after)

        monkeypatch.setattr(archive, "names", listed)


@pytest.fixture
def listings(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Listings:
    return Listings(archive, monkeypatch)


def test_an_archive_without_a_segment_has_no_end(archive: Archive) -> None:
    assert read_tail(archive) is None


def test_a_head_says_how_far_nothing_came_after_its_segment(archive: Archive, listings: Listings) -> None:
    link = append(archive, (1, 2), (3, 5), (6, 6))
    put_head(archive, link, 6, position="1:0/FF", log_offset=99, commit_us=1234)
    tail = read_tail(archive)
    assert tail
    assert (tail.link, tail.segment.first_seq) == (link, 6)
    assert tail.progress == Progress(1, 6, "r" * 16, "1:0/FF", 99, 1234)
    assert tail.horizon_us == 1234
    assert listings.after == [link.name]


def test_a_head_holds_what_was_sampled_since_its_segment(archive: Archive) -> None:
    link = append(archive, (1, 2))
    put_head(archive, link, 2, sequences={"public.a": 7})
    tail = read_tail(archive)
    assert tail
    assert tail.sequences == {"public.a": 7}
    append(archive, (3, 3), behind=link)
    tail = read_tail(archive)
    assert tail
    assert tail.sequences == {}  # they are in the segment that came after


def test_without_a_head_the_listing_finds_the_end(archive: Archive, listings: Listings) -> None:
    link = append(archive, (1, 2), (3, 9), (10, 10))
    tail = read_tail(archive)
    assert tail
    assert (tail.link, tail.progress, tail.horizon_us) == (link, progress(10), 10)
    assert listings.after == [""]


def test_an_old_head_leads_to_what_came_after(archive: Archive, listings: Listings) -> None:
    old = append(archive, (1, 2), (3, 5))
    put_head(archive, old, 5, position="1:0/5F", log_offset=6)
    link = append(archive, (6, 7), (8, 9), behind=old)
    tail = read_tail(archive)
    assert tail
    assert (tail.link, tail.progress) == (link, progress(9))
    assert listings.after == [old.name]


@pytest.mark.parametrize("facts", [{"segment": segment_name(1, 99)}, {"segment": "log/x"}, {"sha256": "f" * 64}])
def test_a_head_that_names_what_is_not_there_is_passed_over(
    archive: Archive, listings: Listings, facts: dict[str, Any]
) -> None:
    link = append(archive, (1, 2), (3, 5))
    put_head(archive, link, 5, **({"position": "1:0/FF", "log_offset": 99} | facts))
    tail = read_tail(archive)
    assert tail
    assert (tail.link, tail.progress) == (link, progress(5))
    assert listings.after == [""]


def test_a_damaged_head_is_named(archive: Archive, root: Path) -> None:
    put_head(archive, append(archive, (1, 2)), 2)
    (root / HEAD).write_bytes((root / HEAD).read_bytes()[:-3])
    with pytest.raises(CdcError, match=r"head\.json: ") as error:
        read_tail(archive)
    assert error.value.code is ARCHIVE_CORRUPT


def test_epochs_follow_each_other(archive: Archive) -> None:
    append(archive, (1, 2), (3, 5))
    link = append(archive, (6, 7), epoch=2)
    tail = read_tail(archive)
    assert tail
    assert (tail.link, tail.progress.epoch) == (link, 2)


# -- damage --
@pytest.fixture
def names(archive: Archive) -> list[str]:
    """A chain of four, its second segment written twice in its life."""
    append(archive, (1, 2), (3, 5), (6, 6), (7, 9))
    return list(archive.names("log/"))


def read(archive: Archive, names: Sequence[str]) -> None:
    check(fetch(archive, names))


def test_a_whole_chain_passes(archive: Archive, names: list[str]) -> None:
    read(archive, names)
    read(archive, names[1:3])
    read(archive, [])
    chain = fetch(archive, names)
    assert [one.first_seq for _, one in chain] == [1, 3, 6, 7]
    assert [link.name for link, _ in chain] == names


def broken(archive: Archive, names: Sequence[str], problem: str, before: str, after: str) -> None:
    with pytest.raises(CdcError, match=problem) as error:
        read(archive, names)
    assert error.value.code is CHAIN_BROKEN
    assert f"between {before} and {after}" in str(error.value)


def corrupt(archive: Archive, names: Sequence[str], problem: str, name: str) -> None:
    with pytest.raises(CdcError, match=problem) as error:
        read(archive, names)
    assert error.value.code is ARCHIVE_CORRUPT
    assert f"{name}: " in str(error.value)


def sealed(archive: Archive) -> bool:
    return archive.identity.encryption != "none"


def again(archive: Archive, at: int, names: list[str], **facts: Any) -> None:
    """Write a manifest anew, well-formed and well-sealed."""
    one = archive.read(Segment, names[at])
    archive.put(names[at], one.model_copy(update=facts).to_bytes())


def test_one_that_was_removed_breaks_the_chain(archive: Archive, names: list[str]) -> None:
    archive.store.delete(names[1])
    corrupt(archive, names, "it is missing", names[1])
    left = list(archive.names("log/"))
    broken(archive, left, "one ends with transaction 2, the other begins with 6", names[0], names[2])


def test_several_that_were_removed_break_the_chain(archive: Archive, names: list[str]) -> None:
    broken(archive, [names[0], names[3]], "one ends with transaction 2, the other begins with 7", names[0], names[3])


def test_one_that_was_altered_breaks_the_chain(archive: Archive, names: list[str], root: Path) -> None:
    path = root / names[1]
    data = path.read_bytes()
    if sealed(archive):
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        corrupt(archive, names, "does not decrypt", names[1])
    else:
        path.write_bytes(data.replace(b'"commit_us":5', b'"commit_us":4'))
        assert path.read_bytes() != data
        corrupt(archive, names, "it was altered", names[1])


def test_one_that_was_written_anew_breaks_the_chain(archive: Archive, names: list[str]) -> None:
    again(archive, 1, names, commit_us=4)
    broken(archive, names, "does not vouch for the first", names[1], names[2])


def test_one_that_was_cut_is_named(archive: Archive, names: list[str], root: Path) -> None:
    (root / names[1]).write_bytes((root / names[1]).read_bytes()[:-5])
    corrupt(archive, names, "does not decrypt" if sealed(archive) else "Invalid JSON", names[1])


def test_two_that_were_swapped_are_named(archive: Archive, names: list[str], root: Path) -> None:
    second, third = (root / names[1]).read_bytes(), (root / names[2]).read_bytes()
    (root / names[1]).write_bytes(third)
    (root / names[2]).write_bytes(second)
    problem = "does not decrypt" if sealed(archive) else "put in another's place"
    corrupt(archive, names, problem, names[1])
    for name in names[1:3]:
        corrupt(archive, [name], problem, name)


def test_the_newest_replaced_by_an_older_one_does_not_become_the_end(
    archive: Archive, names: list[str], root: Path
) -> None:
    (root / names[3]).write_bytes((root / names[1]).read_bytes())
    with pytest.raises(CdcError, match="does not decrypt" if sealed(archive) else "put in another's place") as error:
        read_tail(archive)
    assert error.value.code is ARCHIVE_CORRUPT


def test_one_of_another_archive_is_named(archive: Archive, names: list[str], root: Path, tmp_path: Path) -> None:
    key = b"k" * 32 if sealed(archive) else None
    other = Archive.open_or_make(f"file://{tmp_path}/other", key, "shop")
    append(other, (1, 2), (3, 5))
    (root / names[1]).write_bytes(other.raw(names[1]))
    corrupt(archive, names, "is not in keys" if sealed(archive) else "put in another's place", names[1])


def test_one_replaced_by_an_older_version_of_itself_breaks_the_chain(archive: Archive, names: list[str]) -> None:
    again(archive, 1, names, events=2)
    broken(archive, names, "altered, or replaced by an older one", names[1], names[2])


def test_one_that_was_sealed_anew_breaks_the_chain(archive: Archive, names: list[str]) -> None:
    again(archive, 1, names)
    if sealed(archive):
        broken(archive, names, "does not vouch for the first", names[1], names[2])
    else:
        read(archive, names)


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"prev_position": "1:0/8"}, "one ends at 1:0/9, the other goes on at 1:0/8"),
        ({"prev_position": None}, "one ends at 1:0/9, the other goes on at None"),
        ({"epoch": 2}, "epoch 1 ended and 2 began"),
        ({"previous": None}, "does not vouch for the first"),
        ({"previous": Link(name="log/x", sha256="0" * 64)}, "does not vouch for the first"),
    ],
)
def test_one_that_does_not_go_on_breaks_the_chain(
    archive: Archive, names: list[str], facts: dict[str, Any], problem: str
) -> None:
    newest = read_tail(archive)
    assert newest
    link = append(archive, (10, 11), behind=newest.link, **facts)
    broken(archive, [*names, link.name], problem, names[-1], link.name)


def test_heartbeats_between_two_segments_do_not_break_the_chain(archive: Archive, names: list[str]) -> None:
    newest = read_tail(archive)
    assert newest
    link = append(archive, (10, 11), behind=newest.link, prev_position="1:0/A")
    read(archive, [*names, link.name])


@pytest.mark.parametrize("first", [9, 11])
def test_overlaps_and_holes_break_the_chain(archive: Archive, names: list[str], first: int) -> None:
    newest = read_tail(archive)
    assert newest
    link = append(archive, (first, 12), behind=newest.link, prev_position="1:0/9")
    broken(
        archive, [*names, link.name], f"ends with transaction 9, the other begins with {first}", names[-1], link.name
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda fields: fields | {"v": 2},
        lambda fields: fields | {"kind": "base"},
        lambda fields: {k: v for k, v in fields.items() if k != "previous"},
    ],
)
def test_one_of_another_form_is_named(
    archive: Archive, names: list[str], spoil: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    fields = spoil(json.loads(archive.get(names[2])))
    archive.store.put(names[2], io.BytesIO(archive.seal.seal(names[2], json.dumps(fields).encode())))
    corrupt(archive, names, "v: |kind: |previous: ", names[2])
