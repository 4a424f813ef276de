"""S3 by TLS with an authority of one's own, and encrypted on the server's side; what is in the way is named."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cdc.errors import STORE_TLS, STORE_UNENCRYPTED, STORE_UNREACHABLE, CdcError, Code
from cdc.secret import new_key, parse_key
from sinks.archive.archive import Archive
from sinks.archive.bucket import Bucket
from sinks.archive.check import _link
from sinks.archive.store import Store, open_store
from tests.servers.certificates import Authority
from tests.servers.s3 import SECRET_KEY
from tests.servers.s3_secured import SecuredS3

SSE = "x-amz-server-side-encryption"


@dataclass(frozen=True)
class Site:
    server: SecuredS3
    stranger: Authority


@pytest.fixture(scope="module")
def site(module_directory: Path) -> Iterator[Site]:
    authority = Authority(module_directory / "s3-links", "authority")
    with SecuredS3(module_directory / "s3-secured", authority) as server:
        yield Site(server, Authority(module_directory / "s3-links", "stranger"))


@pytest.fixture(autouse=True)
def environment(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    none = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    for name, value in {**site.server.env(), **none, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(site: Site, unique_name: str) -> str:
    return site.server.bucket(unique_name)


def refused(code: Code, call: Any) -> str:
    with pytest.raises(CdcError) as caught:
        call()
    assert caught.value.code is code, caught.value
    assert SECRET_KEY not in str(caught.value)
    return caught.value.text


@pytest.mark.parametrize("parameters", ["", "?sse=AES256"])
def test_an_archive_is_kept_by_tls_and_encrypted_as_its_url_says(site: Site, bucket: str, parameters: str) -> None:
    url, key = f"s3://{bucket}/prod/shop{parameters}", parse_key(new_key())
    archive = Archive.open_or_make(url, key, "shop")
    archive.put("log/a", b"a")
    large = b"x" * (40 << 20)
    archive.store.put("large", io.BytesIO(large))
    assert archive.put_new("log/b", b"b")
    assert Archive.open(url, key).get("log/a") == b"a"
    assert Archive.open(f"s3://{bucket}/prod/shop", key).get("log/b") == b"b", "readers need not say how"
    assert archive.store.get("large") == large
    assert "?" not in archive.store.url
    for name in ("archive.json", "log/a", "log/b", "large"):
        head = site.server.client().head_object(Bucket=bucket, Key=f"prod/shop/{name}")
        assert head.get("ServerSideEncryption") == ("AES256" if parameters else None)


def test_a_key_of_one_s_own_is_named_to_the_store(bucket: str) -> None:
    """The store of the tests has no key service: what it is asked is seen on the way."""
    store = open_store(f"s3://{bucket}/shop?sse=aws:kms&kms-key=alias/cdc")
    assert isinstance(store, Bucket)
    asked: list[dict[str, str | bytes]] = []
    store._client.meta.events.register("before-send.s3", lambda request, **_: asked.append(dict(request.headers)))
    for call in (lambda: store.put("a", io.BytesIO(b"a")), lambda: store.put_new("b", b"b")):
        refused(STORE_UNREACHABLE, call)  # as it answers: InternalError
    for headers in asked:
        found = {name.lower(): value for name, value in headers.items() if "encryption" in name.lower()}
        assert found == {SSE: b"aws:kms", f"{SSE}-aws-kms-key-id": b"alias/cdc"}
    assert asked


def test_a_store_that_does_not_encrypt_is_refused(bucket: str) -> None:
    store = open_store(f"s3://{bucket}/shop?sse=AES256")
    assert isinstance(store, Bucket)
    store._client.meta.events.register("after-call.s3.HeadObject", _forget)
    said = refused(STORE_UNENCRYPTED, lambda: store.put("fence", io.BytesIO(b"this")))
    assert "sse=AES256 and says it did by none" in said


def _forget(parsed: dict[str, Any], **_: object) -> None:
    parsed.pop("ServerSideEncryption")


def test_a_fault_of_tls_is_named(site: Site, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = site.server
    https, plain = f"https://127.0.0.1:{server.https}", f"https://127.0.0.1:{server.port}"
    for endpoint, bundle, words in (
        (https, str(site.stranger.file), "certificate verify failed"),
        (https, str(tmp_path / "none.pem"), "No such file"),
        (https.replace("127.0.0.1", "localhost"), str(server.trusted), "doesn't match"),
        (plain, str(server.trusted), "WRONG_VERSION_NUMBER"),
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
        assert words in refused(STORE_TLS, lambda: open_store(f"s3://{bucket}/shop").get("a"))
    monkeypatch.delenv("AWS_CA_BUNDLE")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", https)
    assert "certificate verify failed" in refused(STORE_TLS, lambda: open_store(f"s3://{bucket}/shop").get("a"))


def test_an_endpoint_in_the_clear_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint, warned in (("http://s3.internal:9000", 1), ("https://s3.internal", 0), ("http://127.0.0.1:9000", 0)):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        store: Store = open_store("s3://bucket/shop")
        assert [endpoint in finding.what for finding in _link(store)] == [True] * warned
