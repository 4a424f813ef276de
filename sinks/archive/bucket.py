"""An S3 bucket as a store. I/O; the only home of boto3, which is loaded where an archive lies in one.

In, out and refused: what `sinks.archive.store` says of every store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

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

from cdc.errors import STORE_REFUSED, STORE_TLS, STORE_UNENCRYPTED, STORE_UNREACHABLE, CdcError
from cdc.server import is_loopback
from sinks.archive.store import Readable, checked, checked_prefix, shown

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
            given: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + checked_prefix(prefix)}
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
        return self._prefix + checked(name)

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
            raise CdcError(kind, url=self.url, name=name, problem=shown(str(error))) from None
        except _AWAY as error:
            raise CdcError(STORE_UNREACHABLE, url=self.url, name=name, problem=shown(str(error))) from None
        except (BotoCoreError, ValueError) as error:
            # No credentials, no such profile, an endpoint that is no URL.
            raise CdcError(STORE_REFUSED, url=self.url, name=name, problem=shown(str(error))) from None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
