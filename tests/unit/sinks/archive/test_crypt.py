"""`sinks.archive.crypt`: what is sealed comes back whole under its own name and key, or not at all."""

import base64
import io
import secrets
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.errors import ARCHIVE_CORRUPT, ARCHIVE_KEY_INVALID, ARCHIVE_KEY_WRONG, CdcError
from cdc.secret import new_key, parse_key
from sinks.archive import crypt
from sinks.archive.crypt import FRAME, Plain, Sealed, Stream, WrappedKey, key_id, unwrap, wrap

ARCHIVE, OTHER = "a" * 16, "b" * 16
NAME = "body/1/2.rows.parquet"
KEY = bytes(range(32))
SMALL, TAG = 64, 16


def sealed(archive: str = ARCHIVE, data_key: bytes = KEY) -> Sealed:
    return Sealed(archive, {key_id(data_key): data_key}, key_id(data_key))


def refused(call: Callable[[], object]) -> str:
    """The message of the ARCHIVE_CORRUPT that it ends with."""
    with pytest.raises(CdcError) as error:
        call()
    assert error.value.code is ARCHIVE_CORRUPT
    return str(error.value)


@pytest.fixture
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that every bit can be tried."""
    monkeypatch.setattr(crypt, "FRAME", SMALL)


@pytest.fixture
def three_frames(small_frames: None) -> bytes:
    del small_frames
    return sealed().seal(NAME, Random(1).randbytes(2 * SMALL + 10))


def frames(stored: bytes) -> list[bytes]:
    """Head, then frames."""
    size, head = SMALL + TAG, crypt._HEAD
    return [stored[:head], *(stored[at : at + size] for at in range(head, len(stored), size))]


# -- whole --
@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME])
def test_what_is_sealed_comes_back(size: int) -> None:
    data = Random(size).randbytes(size)
    stored = sealed().seal(NAME, data)
    assert sealed().open(NAME, stored) == data
    assert len(stored) == crypt._HEAD + size + TAG * max(1, -(-size // FRAME))


@settings(max_examples=200)
@given(chunks=st.lists(st.binary(max_size=3 * SMALL), max_size=8))
def test_it_comes_back_however_it_was_written(chunks: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crypt, "FRAME", SMALL)
        for seal in (sealed(), Plain()):
            file = io.BytesIO()
            stream: Stream = seal.writer(NAME, file)
            for chunk in chunks:
                stream.write(chunk)
            stream.close()
            stream.close()
            assert not file.closed
            if isinstance(seal, Plain) and file.getvalue().startswith(crypt._MAGIC):
                continue  # no object of an archive begins so
            assert seal.open(NAME, file.getvalue()) == b"".join(chunks)


def test_a_full_frame_waits_for_no_more_than_one_byte(small_frames: None) -> None:
    del small_frames
    file = io.BytesIO()
    stream = sealed().writer(NAME, file)
    for _ in range(10):
        stream.write(bytes(SMALL))
    assert len(frames(file.getvalue())) == 1 + 9
    stream.close()


def test_the_same_data_is_never_stored_as_the_same_bytes() -> None:
    first, second = (sealed().seal(NAME, b"the same") for _ in range(2))
    assert first[crypt._HEAD :] != second[crypt._HEAD :]


def test_nothing_readable_is_stored() -> None:
    text = b"".join(b"%06d readable;" % number for number in range(100_000))
    stored = sealed().seal(NAME, text)
    assert b"readable" not in stored
    assert NAME.encode() not in stored
    assert ARCHIVE.encode() not in stored
    assert KEY not in stored


# -- damaged --
def test_any_flipped_bit_is_seen(three_frames: bytes) -> None:
    for at in range(len(three_frames) * 8):
        damaged = bytearray(three_frames)
        damaged[at // 8] ^= 1 << at % 8
        refused(lambda damaged=damaged: sealed().open(NAME, bytes(damaged)))  # type: ignore[misc]


def test_any_truncation_is_seen(three_frames: bytes) -> None:
    for size in range(len(three_frames)):
        refused(lambda size=size: sealed().open(NAME, three_frames[:size]))  # type: ignore[misc]


@pytest.mark.parametrize("size", [0, 1, 5, SMALL, SMALL + TAG, 2 * (SMALL + TAG)])
def test_whatever_is_appended_is_seen(three_frames: bytes, size: int) -> None:
    more = secrets.token_bytes(size) if size else frames(three_frames)[-1]
    refused(lambda: sealed().open(NAME, three_frames + more))


@pytest.mark.parametrize(
    "order", [(2, 1, 3), (1, 3, 2), (3, 2, 1), (1, 1, 3), (1, 2, 2, 3), (1, 3), (2, 3), (3,), (1, 2, 3, 3), (1, 2)]
)
def test_frames_swapped_doubled_or_left_out_are_seen(three_frames: bytes, order: tuple[int, ...]) -> None:
    parts = frames(three_frames)
    refused(lambda: sealed().open(NAME, parts[0] + b"".join(parts[at] for at in order)))


def test_full_last_frames_cut_at_their_edges_are_seen(small_frames: None) -> None:
    del small_frames
    parts = frames(sealed().seal(NAME, bytes(3 * SMALL)))
    for count in range(len(parts)):
        refused(lambda count=count: sealed().open(NAME, b"".join(parts[:count])))  # type: ignore[misc]


def test_frames_of_another_object_are_seen(small_frames: None) -> None:
    del small_frames
    one, two = (frames(sealed().seal(NAME, bytes(3 * SMALL))) for _ in range(2))
    refused(lambda: sealed().open(NAME, b"".join([*one[:2], two[2], one[3]])))


def test_an_object_cannot_stand_in_for_another() -> None:
    stored = sealed().seal(NAME, b"data")
    assert "another name" in refused(lambda: sealed().open("body/1/3.rows.parquet", stored))
    refused(lambda: sealed(archive=OTHER).open(NAME, stored))
    refused(lambda: Sealed(ARCHIVE, {key_id(KEY): bytes(32)}, key_id(KEY)).open(NAME, stored))
    assert "is not in keys/" in refused(lambda: sealed(data_key=bytes(32)).open(NAME, stored))


def test_plain_and_sealed_do_not_pass_for_each_other() -> None:
    assert "it is not encrypted" in refused(lambda: sealed().open(NAME, b"plain"))
    assert "it is not encrypted" in refused(lambda: sealed().open(NAME, b""))
    assert "it is encrypted" in refused(lambda: Plain().open(NAME, sealed().seal(NAME, b"")))
    assert Plain().open(NAME, Plain().seal(NAME, b"plain")) == b"plain"


# -- keys --
def test_data_keys_come_back_by_their_ids() -> None:
    key, old, new = (secrets.token_bytes(32) for _ in range(3))
    wrapped = [wrap(ARCHIVE, key, old, 1), wrap(ARCHIVE, key, new, 2)]
    assert unwrap(ARCHIVE, key, wrapped) == {key_id(old): old, key_id(new): new}
    for one in wrapped:
        shown = one.model_dump_json()
        for secret in (key, old, new):
            assert secret.hex() not in shown
            assert base64.b64encode(secret).decode() not in shown


def test_a_wrong_key_is_named_by_its_id_alone() -> None:
    key, wrong = secrets.token_bytes(32), secrets.token_bytes(32)
    with pytest.raises(CdcError) as error:
        unwrap(ARCHIVE, wrong, [wrap(ARCHIVE, key, KEY, 1)])
    assert error.value.code is ARCHIVE_KEY_WRONG
    assert f"the key {key_id(wrong)} is not the archive's, which is {key_id(key)}" in str(error.value)
    assert wrong.hex() not in str(error.value)


def test_keys_of_other_keys_and_other_archives_are_passed_over() -> None:
    key, other = secrets.token_bytes(32), secrets.token_bytes(32)
    strangers = [wrap(ARCHIVE, other, bytes(32), 1), wrap(OTHER, key, bytes(32), 1)]
    assert unwrap(ARCHIVE, key, [*strangers, wrap(ARCHIVE, key, KEY, 1)]) == {key_id(KEY): KEY}
    with pytest.raises(CdcError) as error:
        unwrap(ARCHIVE, key, strangers)
    assert error.value.code is ARCHIVE_KEY_WRONG


@pytest.mark.parametrize(
    "change",
    [
        lambda one: {"wrapped": bytes([bytes.fromhex(one.wrapped)[0] ^ 1]).hex() + one.wrapped[2:]},
        lambda one: {"wrapped": one.wrapped[:-2]},
        lambda _: {"wrapped": ""},
        lambda _: {"wrapped": "no hex"},
        lambda one: {"nonce": one.wrapped[:24]},
        lambda _: {"nonce": ""},
        lambda _: {"key": key_id(bytes(32))},
        # A key that everybody knows may not slip in by failing to decrypt.
        lambda one: {"key": key_id(b""), "wrapped": one.wrapped[:-2]},
    ],
)
def test_a_wrapped_key_that_was_altered_is_refused(change: Callable[[WrappedKey], dict[str, str]]) -> None:
    one = wrap(ARCHIVE, KEY, secrets.token_bytes(32), 1)
    altered = one.model_copy(update=change(one))
    assert f"keys/{altered.key}.json" in refused(lambda: unwrap(ARCHIVE, KEY, [altered]))


def test_a_wrapped_key_stands_for_one_archive_only() -> None:
    one = wrap(OTHER, KEY, secrets.token_bytes(32), 1).model_copy(update={"archive": ARCHIVE})
    refused(lambda: unwrap(ARCHIVE, KEY, [one]))


def test_a_new_key_is_a_key() -> None:
    first, second = parse_key(new_key()), parse_key(f"  {new_key()}\n")
    assert len(first) == len(second) == 32
    assert first != second


@pytest.mark.parametrize(
    "text",
    ["", "c2VjcmV0", base64.b64encode(b"secret" * 6).decode(), base64.b64encode(bytes(31)).decode(), "secret" * 8,
     KEY.hex(), "ä" * 44, f"{base64.b64encode(KEY).decode()[:43]}!", f"{base64.b64encode(KEY).decode()} secret"],
)  # fmt: skip
def test_a_text_that_is_no_key_is_refused_without_it(text: str) -> None:
    with pytest.raises(CdcError) as error:
        parse_key(text)
    assert error.value.code is ARCHIVE_KEY_INVALID
    assert not text or text not in str(error.value)
    assert "secret" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None
