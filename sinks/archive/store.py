"""Object stores: an S3 bucket or a local directory. I/O; the only home of boto3.

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
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name for it
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)

from cdc.errors import STORE_REFUSED, STORE_TLS, STORE_UNENCRYPTED, STORE_UNREACHABLE, STORE_URL, CdcError
from cdc.server import is_loopback
from cdc.storeurl import StoreUrl

_PART = 16 << 20
_TRANSFER = TransferConfig(multipart_threshold=2 * _PART, multipart_chunksize=_PART, use_threads=False)
_PASSING = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "500", "502",
                      "503", "504", "ConditionalRequestConflict", "409"})  # fmt: skip
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
_TAKEN = frozenset({"PreconditionFailed", "412"})
_READS = 3
_AWAY = (ConnectionError, HTTPClientError, IncompleteReadError, CredentialRetrievalError)
_CUT_OFF = re.compile("EOF occurred|timed out|reset by peer")
_CLIENT = Config(
    retries={"mode": "standard", "max_attempts": 4}, connect_timeout=10, read_timeout=60, max_pool_connections=32,
    request_checksum_calculation="when_required", response_checksum_validation="when_required",
)  # fmt: skip


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


def open_store(url: str) -> Store:
    """The store behind `s3://bucket/prefix?sse=…` or `file:///directory`.

    S3 takes credentials, region and endpoint from where every AWS program does: AWS_ACCESS_KEY_ID and its kin,
    AWS_ENDPOINT_URL_S3, ~/.aws, the machine's role.
    """
    try:
        given = StoreUrl.parse(url)
        parts = urlsplit(given.place)
    except ValueError:
        raise CdcError(STORE_URL, url=_shown(url)) from None
    prefix = parts.path.strip("/")
    if parts.scheme == "file":
        return Directory(Path(unquote(parts.path)))
    if prefix and not _is_name(prefix):
        raise CdcError(STORE_URL, url=_shown(url))
    return Bucket(parts.netloc, prefix, sse=given.sse, kms_key=given.kms_key)


def _shown(url: str) -> str:
    """Without what stands where other URLs have a password or a token."""
    return re.sub(r"[?#].*", "?***", re.sub(r"//.*@", "//***@", url))


def _is_name(name: str) -> bool:
    return not any(part in ("", ".", "..") for part in name.split("/"))


def _checked(name: str) -> str:
    if not _is_name(name):
        raise ValueError(f"not a name in an archive: {name!r}")
    return name


def _checked_prefix(prefix: str) -> str:
    if prefix:
        _checked(prefix.removesuffix("/"))
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
            start = self.root / _checked_prefix(prefix).rpartition("/")[0]
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
        return self.root / _checked(name)

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

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error
            raise CdcError(STORE_REFUSED, url=self.url, name=name, problem=problem) from None


class Bucket:
    """An S3 bucket, or a prefix in one."""

    def __init__(self, bucket: str, prefix: str, *, sse: str = "", kms_key: str = "") -> None:
        self._encrypted = {"ServerSideEncryption": sse} if sse else {}
        if kms_key:
            self._encrypted["SSEKMSKeyId"] = kms_key
        self._proven = not sse
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        with self._errors("a client"):
            # A session of its own: the shared one is not made for threads, and keeps the first credentials it found.
            # boto3 knows AWS_DEFAULT_REGION alone, every other program AWS_REGION.
            session = boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)
            self._client = session.client("s3", config=_CLIENT)

    def put(self, name: str, data: Readable) -> None:
        with self._errors(name):
            self._client.upload_fileobj(
                data, self._bucket, self._key(name), Config=_TRANSFER, ExtraArgs=self._encrypted or None
            )
            if not self._proven:
                self._prove(name)

    def put_new(self, name: str, data: bytes) -> bool:
        with self._errors(name):
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=self._key(name), Body=data, IfNoneMatch="*", **self._encrypted
                )
            except ClientError as error:
                if _code(error) not in _TAKEN:
                    raise
                # The client itself tries again when an answer is lost, and then meets its own object.
                return self.get(name) == data
            return True

    def get(self, name: str) -> bytes:
        with self._errors(name):
            for left in reversed(range(_READS)):
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
                try:
                    body: bytes = answer["Body"].read()
                except _AWAY:
                    # The client itself asks again only until an answer begins.
                    if not left:
                        raise
                else:
                    return body
            raise AssertionError("the last one raises")

    def names(self, prefix: str, *, after: str = "") -> Iterator[str]:
        with self._errors(prefix):
            given: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + _checked_prefix(prefix)}
            if after:
                given["StartAfter"] = self._prefix + after
            pages = self._client.get_paginator("list_objects_v2").paginate(**given)
            found = [entry["Key"][len(self._prefix) :] for page in pages for entry in page.get("Contents", ())]
        # Some stores list folder by folder.
        yield from sorted(found)

    def delete(self, name: str) -> None:
        with self._errors(name):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    @property
    def in_the_clear(self) -> str:
        """The endpoint, where what is sent there crosses a network unencrypted."""
        endpoint: str = self._client.meta.endpoint_url
        parts = urlsplit(endpoint)
        return endpoint if parts.scheme == "http" and not is_loopback(parts.hostname or "") else ""

    def _prove(self, name: str) -> None:
        """A store that does not know of encryption passes over what it is asked for."""
        head = self._client.head_object(Bucket=self._bucket, Key=self._key(name))
        wanted, found = self._encrypted["ServerSideEncryption"], head.get("ServerSideEncryption", "none")
        if found != wanted:
            raise CdcError(STORE_UNENCRYPTED, url=self.url, name=name, wanted=wanted, found=found)
        self._proven = True

    def _key(self, name: str) -> str:
        return self._prefix + _checked(name)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = _code(error)
            if code in _ABSENT:
                raise FileNotFoundError(name) from None
            kind = STORE_UNREACHABLE if code in _PASSING else STORE_REFUSED
            problem = error.response.get("Error", {}).get("Message") or code
            raise CdcError(kind, url=self.url, name=name, problem=f"{code}: {problem}") from None
        except SSLError as error:
            # Cut off in its first words, TLS is broken as any connection may be.
            kind = STORE_UNREACHABLE if _CUT_OFF.search(str(error)) else STORE_TLS
            raise CdcError(kind, url=self.url, name=name, problem=_shown(str(error))) from None
        except _AWAY as error:
            raise CdcError(STORE_UNREACHABLE, url=self.url, name=name, problem=_shown(str(error))) from None
        except (BotoCoreError, ValueError) as error:
            # No credentials, no such profile, an endpoint that is no URL.
            raise CdcError(STORE_REFUSED, url=self.url, name=name, problem=_shown(str(error))) from None


def _unlisted(error: OSError) -> None:
    """What cannot be listed is not empty; what is not there is."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
