"""What may be wrong with an archive: a damaged, lost or swapped object, a wrong key, a moment it does not hold.

Whatever it is: a restore and `verify` name it, or what comes out is what the source held all the same.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cdc.errors import (
    ARCHIVE_CORRUPT,
    ARCHIVE_KEY_WRONG,
    ARCHIVE_MISSING,
    BEFORE_ARCHIVE,
    BEYOND_ARCHIVE,
    CHAIN_BROKEN,
    CdcError,
)
from cdc.position import PgPosition
from cdc.secret import new_key, parse_key
from sinks.archive.archive import Archive
from sinks.archive.chain import fetch
from sinks.archive.dump import Dump
from sinks.archive.manifest import Base, Link, Segment, Stored, sha256
from sinks.archive.plan import Moment
from sinks.archive.restore import fold_digests
from sinks.archive.verify import verify
from sinks.archive.window import Windows
from tests.servers.postgres import Postgres
from tests.system.conftest import Lived
from tests.system.test_archive_restore import Quiet, cdc_restore

NAMED = {ARCHIVE_CORRUPT, ARCHIVE_KEY_WRONG, ARCHIVE_MISSING, BEFORE_ARCHIVE, BEYOND_ARCHIVE, CHAIN_BROKEN}
TABLES = ["public.accounts", "public.visits"]
KINDS = {
    "identity": "archive.json",
    "key": "keys/*.json",
    "shape": "shape/*.json",
    "manifest": "log/*/*.json",
    "head": "head.json",
    "rows": "body/*/*.rows.parquet",
    "transactions": "body/*/*.txns.parquet",
    "base": "base/0*/*.json",
    "base file": "base/files/*/0*.parquet",
    "schema file": "base/files/*/schema.json",
}


@dataclass
class Damaged:
    """A directory that holds an archive, sound so far, and what the source held at some moments."""

    root: Path
    key: bytes | None
    past: Lived

    def open(self) -> Archive:
        return Archive.open(f"file://{self.root}", self.key)

    def paths(self, kind: str) -> list[Path]:
        return sorted(self.root.glob(KINDS[kind]))

    def outcome(self) -> set[str]:
        """Names of errors of restores to all moments; rows that are not the source's are an error of this test."""
        found: set[str] = set()
        for name in ("copy", "second", "end"):
            lsn, expected = self.past.moments[name]
            digests = expected
            with self._named(found.add):
                opened = self.open()
                plan = Windows(opened).plan(Moment(position=PgPosition(1, lsn)))
                digests = fold_digests(opened, plan, TABLES, Quiet())
                if plan.base:
                    opened.vouched_as(Dump, plan.base.schema_file)
            assert {name: digests[name] for name in TABLES} == {name: expected[name] for name in TABLES}
        return found

    def damages(self) -> list[str]:
        """What `verify` names."""
        found: list[str] = []
        with self._named(found.append):
            found += [damage.name for damage in verify(self.open(), lambda _: None)[1]]
        return found

    @contextmanager
    def _named(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Errors that name what is wrong; others are an error of this test."""
        try:
            yield
        except CdcError as error:
            if error.code not in NAMED:
                raise
            tell(error.code.name)


@pytest.fixture(scope="module")
def plain(lived: Lived, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same archive as if it had never been encrypted: nothing but hashes vouches for its objects."""
    root = tmp_path_factory.mktemp("plain")
    archive = lived.pipeline.archive()

    def write(name: str, data: bytes) -> Stored:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
        return Stored(name=name, size=len(data), sha256=sha256(data))

    def again(stored: Stored) -> Stored:
        return write(stored.name, archive.vouched(stored))

    write("archive.json", archive.identity.model_copy(update={"encryption": "none"}).to_bytes())
    for name in archive.names("shape/"):
        write(name, archive.get(name))
    link = None
    for _, segment in fetch(archive, list(archive.names("log/"))):
        update: dict[str, Any] = {"transactions": again(segment.transactions), "previous": link}
        if segment.rows:
            update["rows"] = again(segment.rows)
        written = write(segment.name, segment.model_copy(update=update).to_bytes())
        link = Link(name=segment.name, sha256=written.sha256)
    head = json.loads(archive.get("head.json"))
    write("head.json", json.dumps(head | {"sha256": link.sha256 if link else ""}).encode())
    for name in archive.names("base/0"):
        base = archive.read(Base, name)
        tables = {
            of: table.model_copy(update={"files": tuple(map(again, table.files))}) for of, table in base.tables.items()
        }
        update = {"tables": tables, "schema_file": again(base.schema_file)}
        write(name, base.model_copy(update=update).to_bytes())
    return root


@pytest.fixture(params=["encrypted", "plain"])
def archive(request: pytest.FixtureRequest, lived: Lived, plain: Path, tmp_path: Path) -> Damaged:
    """A fresh copy, sound so far."""
    encrypted, root = request.param == "encrypted", tmp_path / "archive"
    shutil.copytree(lived.pipeline.directory / "archive" / lived.pipeline.name if encrypted else plain, root)
    return Damaged(root, parse_key(lived.pipeline.archive_key) if encrypted else None, lived)


def test_it_is_sound(archive: Damaged) -> None:
    assert archive.damages() == []
    assert archive.outcome() == set()
    assert all(archive.paths(kind) for kind in KINDS if kind != "key")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


HARM: dict[str, Callable[[Path], None]] = {"deleted": Path.unlink, "cut": cut, "altered": flipped}
UNSEEN = {("head", "deleted"), ("base", "deleted")}
"""Nothing names these. A restore to a later moment goes from an earlier base, which is as right."""


@pytest.mark.parametrize("how", HARM)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_object_is_named_or_does_not_matter(archive: Damaged, kind: str, how: str) -> None:
    paths = archive.paths(kind)
    if paths:
        harmed = paths[-1 if kind in ("manifest", "transactions") else 0]
        HARM[how](harmed)
        outcome, named = archive.outcome(), archive.damages()
        # Of an archive without a key, fields that no reader knows may have changed in a shape.
        assert named or (kind, how) in UNSEEN or (kind == "shape" and archive.key is None and not outcome)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_in_another_s_place_is_named(archive: Damaged, kind: str) -> None:
    if len(paths := archive.paths(kind)) > 1:
        first, last = paths[0].read_bytes(), paths[-1].read_bytes()
        paths[0].write_bytes(last)
        paths[-1].write_bytes(first)
        assert archive.outcome() <= {"ARCHIVE_CORRUPT"}
        assert {str(path.relative_to(archive.root)) for path in (paths[0], paths[-1])} <= set(archive.damages())


def test_an_older_head_and_a_chain_that_lost_its_end(archive: Damaged) -> None:
    """What is archived behind it is not there; nothing else comes of it."""
    manifests = archive.paths("manifest")
    head = json.loads(archive.open().get("head.json"))
    earlier = manifests[-2]
    name = str(earlier.relative_to(archive.root))
    at = archive.open().read(Segment, name)
    facts = {"segment": name, "sha256": sha256(earlier.read_bytes()), "position": at.position, "txn_seq": at.last_seq}
    archive.open().put("head.json", json.dumps({**head, **facts}).encode())
    # An archiver may have been killed just so.
    assert (archive.outcome(), archive.damages()) == (set(), [])
    manifests[-1].unlink()
    assert archive.outcome() == {"BEYOND_ARCHIVE"}


def test_the_wrong_key_no_key_and_one_too_many(past: Lived, plain: Path, tmp_path: Path) -> None:
    """By every command; none tells a key, none makes anything."""
    pipeline = past.pipeline
    right, plainly = pipeline.archive_key, tmp_path / "plainly"
    into, moment = ("--into", pipeline.target.url()), ("--to-txn", "6")
    for key, code, words in [(new_key(), 5, "ARCHIVE_KEY_WRONG"), ("", 2, "ARCHIVE_KEY_MISSING"),
                             ("hunter2", 2, "ARCHIVE_KEY_INVALID")]:  # fmt: skip
        done = cdc_restore(pipeline, *moment, *into, key=key)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
        assert not key or key not in done.stderr + done.stdout
    for command in ("verify", "backup"):
        pipeline.archive_key = new_key()
        process = pipeline.run("archive", command, "main", env={"PG_DUMP": str(Postgres.pg_dump)})
        assert (process.wait(60), "ARCHIVE_KEY_WRONG" in process.log.read_text()) == (5, True), process.tail()
        assert pipeline.archive_key not in process.log.read_text()
    pipeline.archive_url, pipeline.archive_key = f"file://{plainly}", right
    shutil.copytree(plain, plainly)
    done = cdc_restore(pipeline, *moment, *into)
    assert (done.returncode, "ARCHIVE_KEY_UNUSED" in done.stderr) == (5, True), done.stderr
    done = cdc_restore(pipeline, *moment, *into, key="")
    assert done.returncode == 0, done.stderr
