"""Object stores: an S3 bucket or a local directory. I/O; the only home of boto3.

In: names relative to the archive's root, and bytes. Out: the same bytes. Refuses: a name that leaves the root, a
store that cannot be reached (STORE_UNREACHABLE, which passes) or refuses (STORE_REFUSED), an object that is not there
(`FileNotFoundError`, which callers name by what it means).

`put_new` is the fence of the whole archive: of any number of writers one succeeds, and it is told so truthfully even
if an answer got lost, because the loser reads what is there and compares.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError

from cdc.errors import STORE_REFUSED, STORE_UNREACHABLE, STORE_URL, CdcError

_PART = 16 << 20
_TRANSFER = TransferConfig(multipart_threshold=2 * _PART, multipart_chunksize=_PART, use_threads=False)
_PASSING = frozenset({"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "500", "502",
                      "503", "504"})  # fmt: skip
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
_TAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})


class Readable(Protocol):
    """What gives bytes, none at its end."""

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
    """The store behind `s3://bucket/prefix` or `file:///directory`.

    S3 takes credentials, region and endpoint from where every AWS program does: AWS_ACCESS_KEY_ID and its kin,
    AWS_ENDPOINT_URL_S3, ~/.aws, the machine's role.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
        return Directory(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc and not parts.query and "@" not in parts.netloc:
        return Bucket(parts.netloc, parts.path.strip("/"))
    raise CdcError(STORE_URL, url=url)


def _checked(name: str) -> str:
    if not name or name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"not a name in an archive: {name!r}")
    return name


class Directory:
    """A local directory. Files appear whole, by rename or link, after an fsync."""

    def __init__(self, root: Path) -> None:
        self.root, self.url = root, f"file://{root}"

    def put(self, name: str, data: Readable) -> None:
        with self._errors(name):
            self._sync(self._written(name, data).rename(self._path(name)))

    def put_new(self, name: str, data: bytes) -> bool:
        with self._errors(name):
            written = self._written(name, io.BytesIO(data))
            try:
                self._path(name).hardlink_to(written)
            except FileExistsError:
                return self._path(name).read_bytes() == data
            finally:
                written.unlink()
            self._sync(self._path(name))
            return True

    def get(self, name: str) -> bytes:
        with self._errors(name):
            return self._path(name).read_bytes()

    def names(self, prefix: str, *, after: str = "") -> Iterator[str]:
        folder = prefix.rpartition("/")[0]
        with self._errors(prefix):
            found = [
                str(Path(place, file).relative_to(self.root))
                for place, _, files in os.walk(self.root / folder)
                for file in files
                if not file.startswith(".")
            ]
        yield from sorted(name for name in found if name.startswith(prefix) and name > after)

    def delete(self, name: str) -> None:
        with self._errors(name):
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.root / _checked(name)

    def _written(self, name: str, data: Readable) -> Path:
        """A hidden file beside the target; one that a kill leaves is never listed."""
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        written = target.with_name(f".{secrets.token_hex(8)}")
        with written.open("xb") as file:
            while block := data.read(1 << 20):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return written

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
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            raise CdcError(STORE_REFUSED, url=self.url, name=name, problem=error.strerror or error) from None


class Bucket:
    """An S3 bucket, or a prefix in one."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        config = Config(
            retries={"mode": "standard", "max_attempts": 4}, connect_timeout=10, read_timeout=60,
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )  # fmt: skip
        with self._errors(""):
            self._client = boto3.client("s3", config=config)

    def put(self, name: str, data: Readable) -> None:
        with self._errors(name):
            self._client.upload_fileobj(data, self._bucket, self._key(name), Config=_TRANSFER)

    def put_new(self, name: str, data: bytes) -> bool:
        with self._errors(name):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data, IfNoneMatch="*")
            except ClientError as error:
                if _code(error) not in _TAKEN:
                    raise
                # The client itself tries again when an answer is lost, and then meets its own object.
                return self.get(name) == data
            return True

    def get(self, name: str) -> bytes:
        with self._errors(name):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            body: bytes = answer["Body"].read()
            return body

    def names(self, prefix: str, *, after: str = "") -> Iterator[str]:
        given: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if after:
            given["StartAfter"] = self._prefix + after
        with self._errors(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(**given):
                for entry in page.get("Contents", ()):
                    yield entry["Key"][len(self._prefix) :]

    def delete(self, name: str) -> None:
        with self._errors(name):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def _key(self, name: str) -> str:
        return self._prefix + _checked(name)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = _code(error)
            if code in _ABSENT and name:
                raise FileNotFoundError(name) from None
            kind = STORE_UNREACHABLE if code in _PASSING else STORE_REFUSED
            problem = error.response.get("Error", {}).get("Message") or code
            raise CdcError(kind, url=self.url, name=name, problem=f"{code}: {problem}") from None
        except NoCredentialsError as error:
            raise CdcError(STORE_REFUSED, url=self.url, name=name, problem=error) from None
        except (BotoCoreError, HTTPClientError) as error:
            raise CdcError(STORE_UNREACHABLE, url=self.url, name=name, problem=error) from None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
