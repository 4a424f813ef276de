"""A bucket of a real S3 store keeps to what a store promises, also where answers get lost."""

import http.client
import io
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from botocore.config import Config

from cdc.errors import STORE_REFUSED, STORE_UNREACHABLE, CdcError, Code
from sinks.archive import bucket as bucket_module
from sinks.archive.archive import Archive
from sinks.archive.bucket import Bucket
from sinks.archive.chain import read_tail
from sinks.archive.store import Store, open_store
from tests.servers.process import free_port
from tests.servers.s3 import S3, SECRET_KEY
from tests.unit.sinks.archive.test_store import Contract

Fault = str | Callable[[], object]


class Front:
    """An HTTP proxy before the store. Each request whose path holds `where` takes the next of `faults`:

    `lost` is forwarded and its answer cut off, `half` cuts the answer's body, a number is a status that the proxy gives
    itself; a function is called before the connection is dropped without forwarding.
    """

    def __init__(self, target: int) -> None:
        self.faults: deque[Fault] = deque()
        self.where = ""
        self.seen: list[str] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                front.seen.append(self.command)
                fault = front.faults.popleft() if front.faults and front.where in self.path else None
                if callable(fault):
                    fault()
                    self._drop()
                elif fault in {"500", "503", "409"}:
                    self._answer(int(fault), {}, b"")
                else:
                    status, headers, data = self._forwarded(body)
                    if fault == "lost":
                        self._drop()
                    else:
                        self._answer(status, headers, data, cut=fault == "half")

            def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                upstream = http.client.HTTPConnection("127.0.0.1", target, timeout=30)
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                data = answer.read()
                upstream.close()
                return answer.status, dict(answer.headers), data

            def _answer(self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if cut else data)
                if cut:
                    self._drop()

            def _drop(self) -> None:
                self.close_connection = True
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - names of http.server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def environment(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Clients find this store and nothing of this machine."""
    home = {"AWS_CONFIG_FILE": tmp_path / "none", "AWS_SHARED_CREDENTIALS_FILE": tmp_path / "none"}
    for name, value in (*s3.env().items(), *home.items(), ("AWS_EC2_METADATA_DISABLED", "true")):
        monkeypatch.setenv(name, str(value))


@pytest.fixture
def bucket(s3: S3, unique_name: str) -> str:
    return s3.bucket(unique_name)


@pytest.fixture
def url(bucket: str) -> str:
    return f"s3://{bucket}/shop/é"


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    times = Config(connect_timeout=0.5, read_timeout=0.5, retries={"mode": "standard", "total_max_attempts": 1})
    monkeypatch.setattr(bucket_module, "_CLIENT", bucket_module._CLIENT.merge(times))


@pytest.fixture
def front(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """What clients made from here on go through."""
    front = Front(s3.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{front.port}")
    yield front
    front.close()


def refused(call: Callable[[], object], code: Code) -> str:
    """The message, and that it names the store and tells no secret."""
    with pytest.raises(CdcError) as error:
        call()
    assert error.value.code is code
    shown = str(error.value)
    assert "s3://" in shown
    assert SECRET_KEY not in shown
    return shown


def calls(store: Store) -> list[Callable[[], Any]]:
    return [
        lambda: store.get("a"), lambda: store.put("a", io.BytesIO(b"x")), lambda: store.put_new("b", b"x"),
        lambda: list(store.names("log/")), lambda: store.delete("a"),
    ]  # fmt: skip


class TestBucket(Contract):
    many: ClassVar[int] = 1_100
    """A listing comes in pages of 1,000."""
    races: ClassVar[int] = 3
    """Each takes this store a second or two."""


# -- whole --
def test_prefixes_of_one_bucket_do_not_meet(bucket: str) -> None:
    stores = [open_store(f"s3://{bucket}{prefix}") for prefix in ("/shop", "/shop2", "/shop/eu")]
    for at, store in enumerate(stores):
        store.put("a", io.BytesIO(b"%d" % at))
    assert [store.get("a") for store in stores] == [b"0", b"1", b"2"]
    assert list(stores[1].names("")) == ["a"]
    assert sorted(open_store(f"s3://{bucket}").names("")) == ["shop/a", "shop/eu/a", "shop2/a"]


def test_many_parts_become_one_object(store: Store, s3: S3, bucket: str) -> None:
    data = b"".join(at.to_bytes(4, "big") * 256 for at in range(50 << 10))
    store.put("body", io.BytesIO(data))
    assert store.get("body") == data
    assert s3.client().head_object(Bucket=bucket, Key="shop/é/body")["ETag"].strip('"').endswith("-4")


@pytest.mark.parametrize("key", [b"k" * 32, None])
def test_an_archive_lives_in_a_bucket(url: str, key: bytes | None) -> None:
    with ThreadPoolExecutor(4) as pool:
        archives = list(pool.map(lambda _: Archive.open_or_make(url, key, "shop"), range(4)))
    assert len({archive.identity.archive for archive in archives}) == 1
    stored = archives[0].put_new("a", b"data")
    assert stored
    assert archives[1].vouched(stored) == b"data"
    assert archives[2].put_new("a", b"other") is None
    assert read_tail(Archive.open(f"{url}/", key)) is None


# -- lost answers --
def test_whose_answer_got_lost_meets_his_own_object_and_has_won(front: Front, url: str) -> None:
    store = open_store(url)
    front.faults += ["lost"]
    assert store.put_new("log/1", b"mine")
    assert front.seen == ["PUT", "PUT", "GET"]
    assert store.get("log/1") == b"mine"


def test_whose_request_got_lost_meets_another_s_object_and_has_not(front: Front, url: str, s3: S3, bucket: str) -> None:
    store = open_store(url)
    front.faults += [lambda: s3.client().put_object(Bucket=bucket, Key="shop/é/log/1", Body=b"another's")]
    assert not store.put_new("log/1", b"mine")
    assert front.seen == ["PUT", "PUT", "GET"]
    assert store.get("log/1") == b"another's"


def test_a_write_whose_answer_never_comes_is_told_at_the_next_try(front: Front, url: str, impatient: None) -> None:
    del impatient
    store = open_store(url)
    front.faults += ["lost"]
    refused(lambda: store.put_new("log/1", b"mine"), STORE_UNREACHABLE)
    assert not store.put_new("log/1", b"another's")
    assert store.put_new("log/1", b"mine")


def test_a_lost_answer_of_anything_else_is_asked_for_again(front: Front, url: str) -> None:
    store = open_store(url)
    front.faults += ["lost"]
    store.put("a", io.BytesIO(b"x"))
    front.faults += ["lost"]
    assert store.get("a") == b"x"
    front.faults += ["lost"]
    assert list(store.names("")) == ["a"]
    front.faults += ["lost"]
    store.delete("a")
    assert list(store.names("")) == []


def test_an_answer_cut_short_is_not_taken_for_the_object(front: Front, url: str) -> None:
    store = open_store(url)
    store.put("a", io.BytesIO(b"x" * 1000))
    front.faults += ["half", "half"]
    assert store.get("a") == b"x" * 1000
    front.faults += ["half"] * 3
    refused(lambda: store.get("a"), STORE_UNREACHABLE)
    assert store.get("a") == b"x" * 1000


# -- a store that is away, busy or says no --
def test_a_store_that_is_down_is_unreachable(url: str, impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    del impatient
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    for call in calls(open_store(url)):
        assert "does not answer" in refused(call, STORE_UNREACHABLE)


def test_a_store_that_is_frozen_is_unreachable_and_back_again(s3: S3, url: str, impatient: None) -> None:
    del impatient
    store = open_store(url)
    s3.pause()
    try:
        for call in calls(store):
            refused(call, STORE_UNREACHABLE)
    finally:
        s3.cont()
    # It takes a moment to find its own parts again.
    deadline = time.monotonic() + 60
    while not answers(store):
        assert time.monotonic() < deadline
    store.put("a", io.BytesIO(b"x"))
    assert store.get("a") == b"x"


def answers(store: Store) -> bool:
    try:
        store.put("b", io.BytesIO(b"x"))
    except CdcError:
        return False
    return True


@pytest.mark.parametrize("status", ["500", "503", "409"])
def test_a_store_that_is_busy_is_unreachable(front: Front, url: str, impatient: None, status: str) -> None:
    del impatient
    store = open_store(url)
    for call in calls(store):
        front.faults += [status]
        assert status in refused(call, STORE_UNREACHABLE)


def test_a_store_that_was_busy_is_asked_again(front: Front, url: str) -> None:
    front.faults += ["503"]
    assert open_store(url).put_new("a", b"x")


def test_another_s_keys_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    for call in calls(open_store(url)):
        assert "another-secret" not in refused(call, STORE_REFUSED)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    for call in calls(open_store(url)):
        assert "another-secret" not in refused(call, STORE_REFUSED)


def test_no_keys_or_half_of_them_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(lambda: open_store(url).get("a"), STORE_REFUSED)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for call in calls(open_store(url)):
        assert "credentials" in refused(call, STORE_REFUSED)


@pytest.mark.parametrize("name", ["no-such-bucket", "NO_BUCKET_S_NAME", "a"])
def test_a_bucket_that_is_not_there_is_no_empty_archive(name: str) -> None:
    store = open_store(f"s3://{name}/shop")
    for call in calls(store):
        refused(call, STORE_REFUSED)
    refused(lambda: Archive.open(f"s3://{name}/shop", None), STORE_REFUSED)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AWS_ENDPOINT_URL_S3", "no url"), ("AWS_PROFILE", "nobody"), ("AWS_REGION", "no region")],
)
def test_settings_that_no_client_takes_are_refused(
    url: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    refused(lambda: open_store(url).get("a"), STORE_REFUSED)


def test_the_region_is_that_of_other_programs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for region, used in (("eu-west-3", "eu-west-3"), ("", "eu-west-1")):
        monkeypatch.setenv("AWS_REGION", region)
        store = open_store(url)
        assert isinstance(store, Bucket)
        assert store._client.meta.region_name == used


def test_a_password_in_the_endpoint_is_not_shown(url: str, impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    del impatient
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://me:{SECRET_KEY}@127.0.0.1:{free_port()}")
    for call in calls(open_store(url)):
        refused(call, STORE_UNREACHABLE)
