"""`sinks.archive.store`: what every store keeps to, on a directory; tests/system asks the same of S3."""

import io
import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from cdc.errors import STORE_REFUSED, STORE_URL, CdcError
from sinks.archive.bucket import Bucket
from sinks.archive.store import Directory, Store, open_store
from tests.servers.process import Process

OUTSIDE = ["../x", "/x", "a/../../x", "a/..", "a//b", "a/./b", ".", "..", "a/"]


class Broken:
    """A stream that ends with an error."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        found = self._data.read(size)
        if not found:
            raise BrokenPipeError("the rest is gone")
        return found


class Contract:
    """The tests of a `store` at a `url`."""

    many: ClassVar[int] = 50
    races: ClassVar[int] = 20

    def test_put_get_replace_delete(self, store: Store) -> None:
        for data in (b"one", b"", b"\x00\xff" * (1 << 20), b"two"):
            store.put("a/b.json", io.BytesIO(data))
            assert store.get("a/b.json") == data
        store.delete("a/b.json")
        store.delete("a/b.json")
        with pytest.raises(FileNotFoundError):
            store.get("a/b.json")
        assert list(store.names("")) == []

    def test_names_come_in_order_by_prefix_and_after(self, store: Store) -> None:
        names = [f"log/{number:06}.json" for number in range(self.many)]
        others = ["head.json", "log.json", "log/é.json", "log-2/1.json", "logs/1", "base/1/x.json", "base/1.json"]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: store.put(name, io.BytesIO(b"x")), [*reversed(names), *others]))
        assert list(store.names("log/")) == [*names, "log/é.json"]
        assert list(store.names("log/", after=names[-2])) == [names[-1], "log/é.json"]
        assert list(store.names("log/", after="log/000000")) == [*names, "log/é.json"]
        assert list(store.names("log/00000")) == names[:10]
        assert list(store.names("base/1")) == ["base/1.json", "base/1/x.json"]
        assert list(store.names("nothing/")) == []
        assert list(store.names("")) == sorted([*names, *others])

    def test_of_many_writers_one_is_told_that_it_won(self, url: str) -> None:
        stores = [open_store(url) for _ in range(8)]
        for number in range(self.races):
            name, start = f"fence/{number}", threading.Barrier(len(stores))

            def write(at: int, name: str = name, start: threading.Barrier = start) -> bool:
                start.wait()
                return stores[at].put_new(name, b"%d" % at * 1000)

            with ThreadPoolExecutor(len(stores)) as pool:
                told = list(pool.map(write, range(len(stores))))
            assert told.count(True) == 1
            assert stores[0].get(name) == b"%d" % told.index(True) * 1000

    def test_who_meets_his_own_bytes_has_won(self, store: Store) -> None:
        assert store.put_new("a", b"mine")
        assert store.put_new("a", b"mine")
        assert not store.put_new("a", b"another's")
        assert not store.put_new("a", b"")
        assert store.get("a") == b"mine"

    @pytest.mark.parametrize("name", [*OUTSIDE, ""])
    def test_a_name_that_leaves_the_root_is_refused(self, store: Store, name: str) -> None:
        calls: list[Any] = [lambda: store.get(name), lambda: store.put(name, io.BytesIO()), lambda: store.delete(name)]
        calls += [lambda: store.put_new(name, b"")]
        if name in {"../x", "/x", "a/../../x", ".."}:
            calls.append(lambda: list(store.names(name)))
        for call in calls:
            with pytest.raises(CdcError) as error:
                call()
            assert error.value.code is STORE_REFUSED

    def test_a_write_that_fails_leaves_what_was_there(self, store: Store) -> None:
        store.put("a", io.BytesIO(b"old"))
        for name in ("a", "b"):
            with pytest.raises((CdcError, BrokenPipeError)):
                store.put(name, Broken(bytes(40 << 20)))
        assert list(store.names("")) == ["a"]
        assert store.get("a") == b"old"

    def test_a_killed_write_leaves_nothing(self, store: Store, url: str, tmp_path: Path) -> None:
        store.put("a/old", io.BytesIO(b"old"))
        script = textwrap.dedent(f"""
            import time
            from sinks.archive.store import open_store

            class Endless:
                at = 0
                def read(self, size):
                    self.at += size
                    if self.at > 40 << 20:
                        print("written", flush=True)
                        time.sleep(60)
                    return bytes(size)

            open_store({url!r}).put("a/new", Endless())
        """)
        log = tmp_path / "writer.log"
        writer = Process([sys.executable, "-c", script], log, env=dict(os.environ), cwd=Path(__file__).parents[4])
        deadline = time.monotonic() + 30
        while "written" not in writer.tail():
            assert writer.running, writer.tail()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        writer.kill9()
        assert list(store.names("")) == ["a/old"]
        with pytest.raises(FileNotFoundError):
            store.get("a/new")
        assert store.put_new("a/new", b"new")


class TestDirectory(Contract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/{quote('an archive ü')}"

    @pytest.fixture
    def store(self, url: str) -> Store:
        return open_store(url)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "archive")


def test_the_url_s_escapes_are_read(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/a%20b").put("x", io.BytesIO(b"1"))
    assert (tmp_path / "a b" / "x").read_bytes() == b"1"


def test_a_failed_write_takes_no_room(directory: Directory) -> None:
    with pytest.raises(CdcError, match="the rest is gone"):
        directory.put("a/b", Broken(b"some"))
    directory.put_new("a/c", b"1")
    directory.put_new("a/c", b"2")
    assert [path.name for path in directory.root.rglob("*") if path.is_file()] == ["c"]


@pytest.mark.parametrize("how", ["put", "put_new"])
def test_bytes_are_durable_before_their_name_and_the_name_before_the_answer(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    synced: list[tuple[str, bool]] = []

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").resolve()
        synced.append((str(path.relative_to(directory.root)), (directory.root / "a/b/c").exists()))
        if path.is_file():
            assert path.read_bytes() == b"data"

    monkeypatch.setattr(os, "fsync", fsync)
    if how == "put_new":
        directory.put_new("a/b/c", b"data")
    else:
        directory.put("a/b/c", io.BytesIO(b"data"))
    (file, *folders) = synced
    assert file[0].startswith("a/b/.")
    assert not file[1]
    assert folders == [("a/b", True), ("a", True), (".", True)]
    # Of one who was killed before the name was durable, and tries again.
    synced.clear()
    assert directory.put_new("a/b/c", b"data")
    assert ("a/b", True) in synced


def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.put("log/1/1", io.BytesIO(b"1"))
    directory.put("log/2/1", io.BytesIO(b"1"))
    scandir = os.scandir

    def refusing(path: str) -> Iterator[Any]:
        if str(path).endswith("log/2"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(CdcError, match=r"refuses log/: Permission denied") as error:
        list(directory.names("log/"))
    assert error.value.code is STORE_REFUSED


def test_what_the_file_system_refuses_is_named(directory: Directory) -> None:
    directory.put("a", io.BytesIO(b"a file"))
    for call in (lambda: directory.put("a/b", io.BytesIO()), lambda: directory.put_new("a/b", b"")):
        with pytest.raises(CdcError, match="refuses a/b") as error:
            call()
        assert error.value.code is STORE_REFUSED


@pytest.mark.parametrize(
    "url",
    ["", "archive", "/archive", "file:archive", "file://host/archive", "file:///a?b", "file:///a#b", "s3:/bucket", "s3://",
     "s3:///prefix", "s3://bucket?x", "s3://bucket/p#x", "s3://bucket/a/../b", "s3://bucket/a//b", "https://bucket", "s3://[x",
     "s3://bucket/p?", "s3://bucket?sse=yes", "s3://bucket?kms-key=k", "s3://bucket?sse=AES256&kms-key=k",
     "s3://bucket?sse=aws:kms&kms-key=", "s3://bucket?sse=AES256&sse=aws:kms", "file:///a?sse=AES256",
     "s3://AKIA:secret@bucket/p", "s3://bucket/p?token=secret", "file://me:secret@host/a"],
)  # fmt: skip
def test_a_url_that_is_no_store_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(CdcError) as error:
        open_store(url)
    assert error.value.code is STORE_URL
    assert "secret" not in str(error.value)
    assert "AKIA" not in str(error.value)


def test_the_url_tells_the_kind_of_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert isinstance(open_store("file:///archive"), Directory)
    for url, shown in (
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/a?sse=aws:kms&kms-key=k", "s3://bucket/a"),
    ):
        store = open_store(url)
        assert isinstance(store, Bucket)
        assert store.url == shown
