"""Object stores: an S3 bucket (`bucket`) or a local directory. I/O.

In: names relative to the archive's root, and bytes. Out: the same bytes. Refuses: a name that leaves the root, a
store that cannot be reached (STORE_UNREACHABLE, which passes) or refuses (STORE_REFUSED), an object that is not there
(`FileNotFoundError`, which callers name by what it means), a server that is not trusted (STORE_TLS) or does not encrypt
what it is asked to (STORE_UNENCRYPTED).

`put_new` is the fence of the whole archive: of any number of writers one succeeds, and it is told so truthfully even
if an answer got lost, because the loser reads what is there and compares.
"""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from cdc.errors import STORE_REFUSED, STORE_URL, CdcError
from cdc.storeurl import StoreUrl


class Readable(Protocol):
    """What gives as many bytes as it is asked for, fewer only at its end: boto3 takes those for the last ones."""

    def read(self, size: int = -1, /) -> bytes: ...


class Store(Protocol):
    """Objects under one root. A `put` that returned is durable; a `get` after it sees it."""

    url: str

    def put(self, name: str, data: Readable) -> None:
        """Write, or replace whole: a reader sees the old bytes or the new, never a part."""

    def put_new(self, name: str, data: bytes) -> bool:
        """Write if nothing is there. Whether exactly these bytes are there now; what was there stays untouched."""

    def get(self, name: str) -> bytes:
        """The bytes; `FileNotFoundError` if there is no such object."""

    def names(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Names that begin with `prefix`, in order, beyond `after`."""

    def delete(self, name: str) -> None:
        """Remove; nothing happens if it is not there."""

    @property
    def in_the_clear(self) -> str:
        """The endpoint, where what is sent there crosses a network unencrypted; else ''."""


def open_store(url: str) -> Store:
    """The store behind `s3://bucket/prefix?sse=…` or `file:///directory`.

    S3 takes credentials, region and endpoint from where every AWS program does: AWS_ACCESS_KEY_ID and its kin,
    AWS_ENDPOINT_URL_S3, ~/.aws, the machine's role.
    """
    try:
        given = StoreUrl.parse(url)
        parts = urlsplit(given.place)
    except ValueError:
        raise CdcError(STORE_URL, url=shown(url)) from None
    prefix = parts.path.strip("/")
    if parts.scheme == "file":
        return Directory(Path(unquote(parts.path)))
    if prefix and not is_name(prefix):
        raise CdcError(STORE_URL, url=shown(url))
    from sinks.archive.bucket import Bucket

    return Bucket(parts.netloc, prefix, sse=given.sse, kms_key=given.kms_key)


def shown(url: str) -> str:
    """Without what stands where other URLs have a password or a token."""
    return re.sub(r"[?#].*", "?***", re.sub(r"//.*@", "//***@", url))


def is_name(name: str) -> bool:
    return not any(part in ("", ".", "..") for part in name.split("/"))


def checked(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"not a name in an archive: {name!r}")
    return name


def checked_prefix(prefix: str) -> str:
    if prefix:
        checked(prefix.removesuffix("/"))
    return prefix


class Directory:
    """A local directory. Files appear whole, by rename or link, after an fsync."""

    def __init__(self, root: Path) -> None:
        self.root, self.url = root, f"file://{root}"

    def put(self, name: str, data: Readable) -> None:
        with self._errors(name), self._written(name, data) as (written, path):
            written.rename(path)
            self._sync(path)

    def put_new(self, name: str, data: bytes) -> bool:
        with self._errors(name), self._written(name, io.BytesIO(data)) as (written, path):
            try:
                path.hardlink_to(written)
            except FileExistsError:
                if path.read_bytes() != data:
                    return False
            # Of an earlier try that was killed, it may not be durable yet.
            self._sync(path)
            return True

    def get(self, name: str) -> bytes:
        with self._errors(name):
            return self._path(name).read_bytes()

    def names(self, prefix: str, *, after: str = "") -> Iterator[str]:
        with self._errors(prefix):
            start = self.root / checked_prefix(prefix).rpartition("/")[0]
            found = [
                str(Path(place, file).relative_to(self.root))
                for place, _, files in os.walk(start, onerror=_unlisted)
                for file in files
                if not file.startswith(".")
            ]
        yield from sorted(name for name in found if name.startswith(prefix) and name > after)

    def delete(self, name: str) -> None:
        with self._errors(name):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.root / checked(name)

    @contextmanager
    def _written(self, name: str, data: Readable) -> Iterator[tuple[Path, Path]]:
        """A hidden file beside the target, and the target; what a kill leaves of it is never listed."""
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        written = target.with_name(f".{secrets.token_hex(8)}")
        try:
            with written.open("xb") as file:
                while block := data.read(1 << 20):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            yield written, target
        finally:
            written.unlink(missing_ok=True)

    def _sync(self, path: Path) -> None:
        """The name is durable when its directory is, and that one's name likewise."""
        for folder in (path.parent, *path.parent.parents):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            if folder == self.root:
                break

    @property
    def in_the_clear(self) -> str:
        return ""

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error
            raise CdcError(STORE_REFUSED, url=self.url, name=name, problem=problem) from None


def _unlisted(error: OSError) -> None:
    """What cannot be listed is not empty; what is not there is."""
    if not isinstance(error, FileNotFoundError):
        raise error
