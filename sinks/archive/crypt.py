"""What is stored: sealed by AES-256-GCM, or plain if that was written out. Pure.

In: bytes or a stream, and the name the object will have. Out: what is stored, and back. Refuses: bytes that are
altered, truncated or under another name, whatever the key (ARCHIVE_CORRUPT); a key that is not the archive's
(ARCHIVE_KEY_WRONG).

    sealed object   magic "CDCA", version 1, data key's id (8 bytes), salt (16 bytes), frames
    frame           1 MiB of plain text (the last one less, or none) sealed, and its tag of 16 bytes
    its key         HKDF-SHA256(data key, salt)
    its nonce       7 zero bytes, number of the frame (4 bytes), 1 if it is the last else 0
    its AAD         archive id, "/", name: an object cannot stand in for another

Each object has a key of its own, so nonces may be counted. Data keys are wrapped by the archive's key in `keys/`, so
that changing that key rewrites nothing else.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict

from cdc.errors import ARCHIVE_CORRUPT, ARCHIVE_KEY_WRONG, CdcError

FRAME = 1 << 20
_TAG = 16
_MAGIC = b"CDCA\x01"
_ID, _SALT = 8, 16
_HEAD = len(_MAGIC) + _ID + _SALT


def key_id(key: bytes) -> str:
    """Names a key without telling it."""
    return hashlib.sha256(b"cdc archive key" + key).hexdigest()[: 2 * _ID]


class WrappedKey(BaseModel):
    """An object of `keys/`: a data key, sealed by the archive's key `by`."""

    model_config = ConfigDict(frozen=True)
    v: Literal[1] = 1
    archive: str
    key: str
    by: str
    created_ms: int
    nonce: str
    wrapped: str


class Writable(Protocol):
    """What takes bytes."""

    def write(self, data: bytes, /) -> Any: ...


class Stream(Writable, Protocol):
    """What takes bytes until it is closed; closing it leaves what is behind it open."""

    def close(self) -> None: ...


class Seal(Protocol):
    """How an archive's objects are stored."""

    def seal(self, name: str, data: bytes) -> bytes: ...
    def writer(self, name: str, file: Writable) -> Stream:
        """A stream whose bytes reach `file` as they are stored; complete once it is closed."""

    def open(self, name: str, stored: bytes) -> bytes: ...


class Plain:
    """`encryption_key = "none"`."""

    def seal(self, name: str, data: bytes) -> bytes:
        del name
        return data

    def writer(self, name: str, file: Writable) -> Stream:
        del name
        return _Through(file)

    def open(self, name: str, stored: bytes) -> bytes:
        if stored.startswith(_MAGIC):
            raise CdcError(ARCHIVE_CORRUPT, name=name, problem="it is encrypted, in an archive that is not")
        return stored


class Sealed:
    """AES-256-GCM under data keys by id; the newest one seals."""

    def __init__(self, archive: str, data_keys: Mapping[str, bytes], newest: str) -> None:
        self._archive, self._keys, self._newest = archive, data_keys, newest

    def seal(self, name: str, data: bytes) -> bytes:
        file = io.BytesIO()
        stream = self.writer(name, file)
        stream.write(data)
        stream.close()
        return file.getvalue()

    def writer(self, name: str, file: Writable) -> Stream:
        salt = secrets.token_bytes(_SALT)
        file.write(_MAGIC + bytes.fromhex(self._newest) + salt)
        return _Sealing(file, _object_key(self._keys[self._newest], salt), self._aad(name))

    def open(self, name: str, stored: bytes) -> bytes:
        if not stored.startswith(_MAGIC):
            raise CdcError(ARCHIVE_CORRUPT, name=name, problem="it is not encrypted, in an archive that is")
        by = stored[len(_MAGIC) : len(_MAGIC) + _ID].hex()
        if by not in self._keys:
            raise CdcError(ARCHIVE_CORRUPT, name=name, problem=f"data key {by} is not in keys/")
        cipher = AESGCM(_object_key(self._keys[by], stored[_HEAD - _SALT : _HEAD]))
        aad, plain, at = self._aad(name), io.BytesIO(), _HEAD
        for number in range(max(1, -(-(len(stored) - _HEAD) // (FRAME + _TAG)))):
            frame = stored[at : at + FRAME + _TAG]
            at += len(frame)
            try:
                plain.write(cipher.decrypt(_nonce(number, last=at >= len(stored)), frame, aad))
            except (InvalidTag, ValueError):
                problem = f"frame {number} does not decrypt: it was altered or cut, or belongs to another name"
                raise CdcError(ARCHIVE_CORRUPT, name=name, problem=problem) from None
        return plain.getvalue()

    def _aad(self, name: str) -> bytes:
        return f"{self._archive}/{name}".encode()


def wrap(archive: str, key: bytes, data_key: bytes, created_ms: int) -> WrappedKey:
    """A data key for `keys/`."""
    nonce, by = secrets.token_bytes(12), key_id(key)
    wrapped = AESGCM(key).encrypt(nonce, data_key, f"{archive}/keys".encode())
    return WrappedKey(
        archive=archive, key=key_id(data_key), by=by, created_ms=created_ms, nonce=nonce.hex(), wrapped=wrapped.hex()
    )


def unwrap(archive: str, key: bytes, wrapped: Iterable[WrappedKey]) -> dict[str, bytes]:
    """Data keys by id, in the order given. Those of other keys are passed over; none at all is a wrong key."""
    known, found = key_id(key), {}
    others = set()
    for one in wrapped:
        if one.archive != archive:
            # Of two that make an archive at once, one's identity stands; the other's key is of no use.
            continue
        if one.by != known:
            others.add(one.by)
            continue
        try:
            data_key = AESGCM(key).decrypt(
                bytes.fromhex(one.nonce), bytes.fromhex(one.wrapped), f"{archive}/keys".encode()
            )
        except (InvalidTag, ValueError):
            data_key = None
        if data_key is None or key_id(data_key) != one.key:
            raise CdcError(ARCHIVE_CORRUPT, name=f"keys/{one.key}.json", problem="it was altered")
        found[one.key] = data_key
    if not found:
        raise CdcError(ARCHIVE_KEY_WRONG, given=known, wanted=" or ".join(sorted(others)) or "none")
    return found


def _object_key(data_key: bytes, salt: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"cdc archive object").derive(data_key)


def _nonce(number: int, *, last: bool) -> bytes:
    return bytes(7) + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


class _Through(io.RawIOBase):
    """Writes through, and stays open behind itself."""

    def __init__(self, file: Writable) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(data)
        return len(data)


class _Sealing(io.RawIOBase):
    """Seals frame by frame; `close` writes the last one."""

    def __init__(self, file: Writable, key: bytes, aad: bytes) -> None:
        self._file, self._cipher, self._aad = file, AESGCM(key), aad
        self._held, self._number = bytearray(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        # A full frame is written only when more follows: nobody knows yet whether it is the last.
        while len(self._held) > FRAME:
            self._frame(bytes(self._held[:FRAME]), last=False)
            del self._held[:FRAME]
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._frame(bytes(self._held), last=True)
        super().close()

    def _frame(self, plain: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last=last), plain, self._aad))
        self._number += 1
