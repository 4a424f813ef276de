"""`sinks.archive.archive`: whose an archive is, that it is sealed and fenced, and that damage has a name."""

import base64
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sinks.archive.archive
from cdc.errors import (
    ARCHIVE_CORRUPT,
    ARCHIVE_KEY_MISSING,
    ARCHIVE_KEY_UNUSED,
    ARCHIVE_KEY_WRONG,
    ARCHIVE_MISSING,
    ARCHIVE_OF_ANOTHER,
    ARCHIVE_UNENCRYPTED,
    STORE_UNFENCED,
    CdcError,
    Code,
)
from cdc.shape import schema_id
from sinks.archive.archive import IDENTITY, Archive
from sinks.archive.crypt import Sealed, wrap
from sinks.archive.manifest import Head, Segment
from sinks.archive.store import Directory
from tests.log_writer import table

KEY, WRONG = b"k" * 32, b"w" * 32
HEAD = Head(
    segment="log/1", sha256="0" * 64, epoch=1, txn_seq=1, run="r", position="1:0/1", log_offset=1, commit_us=None,
    written_ms=1,
)  # fmt: skip


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/archive"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def refused(call: Callable[[], object], code: Code) -> str:
    with pytest.raises(CdcError) as error:
        call()
    assert error.value.code is code
    return str(error.value)


# -- whose --
@pytest.mark.parametrize("key", [KEY, None])
def test_an_archive_is_made_once_and_opened_again(url: str, key: bytes | None) -> None:
    made = Archive.open_or_make(url, key, "shop")
    made.put("a", b"data")
    for again in (Archive.open_or_make(url, key, "shop"), Archive.open(url, key)):
        assert again.identity == made.identity
        assert again.get("a") == b"data"
    assert made.identity.source == "shop"
    assert made.identity.encryption == ("none" if key is None else "aes-256-gcm")


def test_what_is_no_archive_is_missing(url: str, root: Path) -> None:
    refused(lambda: Archive.open(url, KEY), ARCHIVE_MISSING)
    assert not root.exists()


def test_an_archive_of_another_source_is_left_alone(url: str, root: Path) -> None:
    Archive.open_or_make(url, KEY, "shop")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    shown = refused(lambda: Archive.open_or_make(url, KEY, "bank"), ARCHIVE_OF_ANOTHER)
    assert "belongs to source shop, not to bank" in shown
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_each_wrong_use_of_a_key_is_named(tmp_path: Path) -> None:
    sealed, plain = f"file://{tmp_path}/sealed", f"file://{tmp_path}/plain"
    Archive.open_or_make(sealed, KEY, "shop")
    Archive.open_or_make(plain, None, "shop")
    for use in (Archive.open, lambda url, key: Archive.open_or_make(url, key, "shop")):
        refused(lambda use=use: use(sealed, None), ARCHIVE_KEY_MISSING)  # type: ignore[misc]
        refused(lambda use=use: use(sealed, WRONG), ARCHIVE_KEY_WRONG)  # type: ignore[misc]
        refused(lambda use=use: use(plain, KEY), ARCHIVE_KEY_UNUSED)  # type: ignore[misc]


def test_of_many_that_make_it_at_once_one_stands_and_all_read_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, together = sinks.archive.archive._make, threading.Barrier(8)

    def make(*given: object) -> None:
        together.wait()
        made(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(sinks.archive.archive, "_make", make)
    with ThreadPoolExecutor(8) as pool:
        archives = list(pool.map(lambda _: Archive.open_or_make(url, KEY, "shop"), range(8)))
    assert len({archive.identity.archive for archive in archives}) == 1
    for at, archive in enumerate(archives):
        archive.put(f"a/{at}", b"%d" % at)
    for reader in (*archives, Archive.open(url, KEY)):
        assert [reader.get(f"a/{at}") for at in range(8)] == [b"%d" % at for at in range(8)]


@pytest.mark.parametrize("at", ["put", "put_new"])
def test_a_kill_while_it_is_made_leaves_nothing_in_the_way(url: str, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Directory, at, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Archive.open_or_make(url, KEY, "shop")
    refused(lambda: Archive.open(url, KEY), ARCHIVE_MISSING)
    Archive.open_or_make(url, WRONG, "shop").put("a", b"data")
    assert Archive.open(url, WRONG).get("a") == b"data"


def test_a_new_key_opens_what_the_old_one_sealed(url: str) -> None:
    archive = Archive.open_or_make(url, KEY, "shop")
    archive.put("a", b"data")
    seal = archive.seal
    assert isinstance(seal, Sealed)
    (data_key,) = seal._keys.values()
    wrapped = wrap(archive.identity.archive, WRONG, data_key, 1)
    archive.store.put("keys/again.json", io.BytesIO(wrapped.model_dump_json().encode()))
    for key in (KEY, WRONG):
        assert Archive.open(url, key).get("a") == b"data"


# -- fenced and sealed --
class Unfenced(Directory):
    """A store that never heard of If-None-Match."""

    def put_new(self, name: str, data: bytes) -> bool:
        self.put(name, io.BytesIO(data))
        return True


class Opening(Directory):
    """A gateway that decrypts for everybody."""

    def get(self, name: str) -> bytes:
        stored = super().get(name)
        return bytes(64) if stored.startswith(b"CDCA") else stored


@pytest.mark.parametrize("key", [KEY, None])
def test_a_store_that_writes_over_objects_is_refused_and_the_archive_lives(
    url: str, root: Path, monkeypatch: pytest.MonkeyPatch, key: bytes | None
) -> None:
    Archive.open_or_make(url, key, "shop").put("a", b"data")
    with monkeypatch.context() as patch:
        patch.setattr(sinks.archive.archive, "open_store", lambda _: Unfenced(root))
        refused(lambda: Archive.open_or_make(url, key, "shop"), STORE_UNFENCED)
    assert Archive.open(url, key).get("a") == b"data"


def test_a_store_that_hands_back_plain_bytes_is_refused(url: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks.archive.archive, "open_store", lambda _: Opening(root))
    refused(lambda: Archive.open_or_make(url, KEY, "shop"), ARCHIVE_UNENCRYPTED)


def test_nothing_of_the_data_or_the_keys_can_be_read_in_the_store(url: str, root: Path) -> None:
    shape = table("public.clients", {"passport": "text"}, ["passport"])
    archive = Archive.open_or_make(url, KEY, "shop")
    archive.put("a", b"passport 12345678")
    archive.put_new("b", HEAD.to_bytes())
    archive.put_shape(shape)
    seal = archive.seal
    assert isinstance(seal, Sealed)
    stored = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    for secret in (KEY, *seal._keys.values()):
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in stored
    for word in (b"passport", b"12345678", b"clients", b"position", b"log_offset"):
        assert word not in stored


# -- objects --
@pytest.fixture(params=[KEY, None], ids=["sealed", "plain"])
def archive(url: str, request: pytest.FixtureRequest) -> Iterator[Archive]:
    return Archive.open_or_make(url, request.param, "shop")  # type: ignore[return-value]


def test_what_is_written_is_vouched_for_as_it_is_stored(archive: Archive) -> None:
    stored = archive.put("a", b"data")
    assert stored.holds(archive.raw("a"))
    assert archive.vouched(stored) == b"data"
    new = archive.put_new("b", b"first")
    assert new
    assert archive.vouched(new) == b"first"
    assert archive.put_new("b", b"second") is None
    assert archive.vouched(new) == b"first"
    assert list(archive.names("", after="archive.json"))[:2] == ["b", "fence"]


def test_a_vouched_object_that_is_gone_cut_or_replaced_is_named(archive: Archive, root: Path) -> None:
    stored = archive.put("a", b"data")
    archive.put("a", b"date")
    assert "a: it is not what its manifest names: its bytes were altered" in refused(
        lambda: archive.vouched(stored), ARCHIVE_CORRUPT
    )
    (root / "a").write_bytes((root / "a").read_bytes()[:-1])
    assert f"{stored.size - 1} bytes instead of {stored.size}" in refused(
        lambda: archive.vouched(stored), ARCHIVE_CORRUPT
    )
    (root / "a").unlink()
    for call in (lambda: archive.vouched(stored), lambda: archive.get("a"), lambda: archive.read(Segment, "a")):
        assert "a: it is missing" in refused(call, ARCHIVE_CORRUPT)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "head.json: it: Invalid JSON"),
        (b"{", "head.json: it: Invalid JSON"),
        (b"[]", "head.json: it: Input should be an object"),
        (b"\xff", "head.json: it: Invalid JSON"),
        (HEAD.to_bytes()[:-1], "head.json: it: Invalid JSON"),
        (HEAD.to_bytes().replace(b'"v":1', b'"v":2'), "head.json: v: Input should be 1"),
        (HEAD.to_bytes().replace(b'"epoch":1', b'"epoch":"one"'), "head.json: epoch: "),
    ],
)
def test_an_object_of_another_form_is_named_with_its_field(archive: Archive, data: bytes, problem: str) -> None:
    archive.put("head.json", data)
    assert problem in refused(lambda: archive.parsed(Head, "head.json", archive.raw("head.json")), ARCHIVE_CORRUPT)


def test_a_damaged_identity_or_key_is_named(url: str, root: Path) -> None:
    Archive.open_or_make(url, KEY, "shop")
    (key,) = (root / "keys").iterdir()
    key.write_bytes(b"{}")
    shown = refused(lambda: Archive.open(url, KEY), ARCHIVE_CORRUPT)
    assert f"keys/{key.name}: it is not a wrapped key" in shown
    key.unlink()
    assert "keys/: the archive's data keys are missing" in refused(lambda: Archive.open(url, KEY), ARCHIVE_CORRUPT)
    (root / IDENTITY).write_bytes(b"{}")
    for call in (lambda: Archive.open(url, KEY), lambda: Archive.open_or_make(url, KEY, "shop")):
        assert "archive.json: archive: Field required" in refused(call, ARCHIVE_CORRUPT)


def test_shapes_come_back_by_their_hash(archive: Archive, url: str, root: Path) -> None:
    shape = table("public.a", {"id": "int4", "v": "text[]"}, ["id"])
    other = table("public.b", {"id": "int4"})
    assert archive.put_shape(shape) == archive.put_shape(shape) == schema_id(shape)
    archive.put_shape(other)
    key = KEY if archive.identity.encryption != "none" else None
    assert Archive.open(url, key).shape(schema_id(shape)) == shape
    name = f"shape/{schema_id(shape)}.json"
    for data, problem in ((archive.get(f"shape/{schema_id(other)}.json"), "it does not match its own hash"),
                          (b"{}", "unknown version"), (b"", "not JSON")):  # fmt: skip
        archive.put(name, data)
        shown = refused(lambda: Archive.open(url, key).shape(schema_id(shape)), ARCHIVE_CORRUPT)
        assert f"{name}: {problem}" in shown
    (root / name).unlink()
    assert f"{name}: it is missing" in refused(lambda: Archive.open(url, key).shape(schema_id(shape)), ARCHIVE_CORRUPT)
