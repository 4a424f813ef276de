"""A source that writes Avro, with a real registry: what it registers, and what it does when the registry is away."""

import base64
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import fastavro
import pytest

from cdc.errors import (
    COLUMN_NAMES_COLLIDE,
    REGISTRY_LOGIN,
    REGISTRY_LOST,
    REGISTRY_REFUSED,
    REGISTRY_TLS,
    REGISTRY_UNREACHABLE,
    CdcError,
)
from cdc.kafka import Reader
from cdc.kafka_admin import Admin
from cdc.registry import Registry as Client
from cdc.registry import RegistryServer
from tests.servers.certificates import Authority
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.servers.proxy import Proxy
from tests.servers.registry import Registry
from tests.system.pipeline import Pipeline, wait_until

SCHEMA = {"type": "record", "name": "Key", "namespace": "a.b", "fields": [{"name": "id", "type": "int"}]}


def avro(tmp_path: Path, source: Database, target: Database, kafka: Kafka, url: str) -> Pipeline:
    pipeline = Pipeline(tmp_path, source, target, kafka.bootstrap, source_options={"format": "avro"})
    with pipeline.config.open("a") as config:
        config.write(f'\n[registry]\nurl = "{url}"\n')
    pipeline.publish()
    return pipeline


def values(kafka: Kafka, topic: str) -> list[bytes]:
    if topic not in Admin({"bootstrap.servers": kafka.bootstrap}).names():
        return []
    reader = Reader({"bootstrap.servers": kafka.bootstrap})
    try:
        return [record.value() or b"" for record in reader.read_range(topic, 0, *reader.watermarks(topic, 0))]
    finally:
        reader.close()


def test_what_is_registered_is_what_is_written(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    database.execute('CREATE TABLE public.orders (id int PRIMARY KEY, "paid at" timestamptz, total numeric(10,2))')
    database.execute("INSERT INTO public.orders VALUES (1, '2024-02-29 12:00+00', 9.50)")
    pipeline = avro(tmp_path, database, target_database, kafka, registry.url)
    topic = f"{database.name}.public.orders"
    client = Client(RegistryServer((registry.url,)))
    with pipeline.source_running():
        wait_until(lambda: len(values(kafka, topic)) == 1, "the copied row")
        assert {registry.compatibility(f"{topic}-{part}") for part in ("key", "value")} == {"NONE"}
        # Somebody sets rules that the changes break.
        client._call("PUT", f"/config/{topic}-value", {"compatibility": "FULL"}, "rules")
        assert registry.compatibility(f"{topic}-value") == "FULL"
        database.execute("ALTER TABLE public.orders DROP COLUMN total")
        database.execute("ALTER TABLE public.orders ADD COLUMN total bool NOT NULL DEFAULT true")
        database.execute("INSERT INTO public.orders VALUES (2, NULL, false)")
        wait_until(lambda: len(values(kafka, topic)) == 2, "the second row")
    monkeypatch.setenv("PGPASSWORD", database.server.password)
    left = pipeline.command("teardown", database.name, "--dry-run", "--admin-url", database.server.url(database.name))
    assert f"left: in the registry subjects {topic}-key, {topic}-value;" in left.stdout, left.stderr
    read = []
    for data in values(kafka, topic):
        schema = client.schema(int.from_bytes(data[1:5], "big"))
        event: Any = fastavro.schemaless_reader(BytesIO(data[5:]), fastavro.parse_schema(schema), None)
        read.append(event["after"])
    assert read == [
        {"id": 1, "paid_at": "2024-02-29T12:00:00.000000Z", "total": "9.50"},
        {"id": 2, "paid_at": None, "total": False},
    ]


def test_a_registry_that_is_away_delays_what_needs_it_and_nothing_else(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, registry: Registry
) -> None:
    database.execute("CREATE TABLE public.orders (id int PRIMARY KEY)")
    topic = f"{database.name}.public.orders"
    with Proxy(registry.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/apis/ccompat/v7"
        pipeline = avro(tmp_path, database, target_database, kafka, url)
        proxy.cut()
        with pipeline.source_running() as source:
            wait_until(lambda: "REGISTRY_UNREACHABLE" in source.tail(), "the error that names the registry")
            database.execute("INSERT INTO public.orders VALUES (1)")
            proxy.restore()
            wait_until(lambda: len(values(kafka, topic)) == 1, "the row")
            proxy.cut()
            database.execute("INSERT INTO public.orders VALUES (2)")
            wait_until(lambda: len(values(kafka, topic)) == 2, "a row of a known shape")
            database.execute("ALTER TABLE public.orders ADD COLUMN note text")
            database.execute("INSERT INTO public.orders VALUES (3, 'x')")
            runs = source.tail().count("run started")
            wait_until(lambda: source.tail().count("run started") > runs, "another attempt")
            proxy.restore()
            wait_until(lambda: len(values(kafka, topic)) >= 3, "a row of the new shape")
    assert source.log.read_text().count("Traceback") == 0


def test_check_asks_the_registry(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, registry: Registry
) -> None:
    wrong = {
        registry.url: "OK    the schema registry answers: ",
        "http://127.0.0.1:1/x": "FAIL  REGISTRY_UNREACHABLE",
        registry.url.removesuffix("/v7"): "FAIL  REGISTRY_REFUSED",
        registry.url.replace("http:", "https:"): "FAIL  REGISTRY_TLS",
    }
    for at, (url, says) in enumerate(wrong.items()):
        folder = tmp_path / str(at)
        folder.mkdir()
        pipeline = Pipeline(folder, database, target_database, kafka.bootstrap, source_options={"format": "avro"})
        with pipeline.config.open("a") as config:
            config.write(f'\n[registry]\nurl = "{url}"\n')
        output = pipeline.command("check", "eu").stdout
        assert says in output, output


def test_columns_of_one_name_in_avro_are_refused_at_the_start(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, registry: Registry
) -> None:
    database.execute('CREATE TABLE public.orders (id int PRIMARY KEY, "a-b" int, a_b int)')
    source = avro(tmp_path, database, target_database, kafka, registry.url).run("source", "run", database.name)
    assert source.wait(60) == 5
    assert COLUMN_NAMES_COLLIDE.name in source.tail()
    assert "columns a-b and a_b of public.orders would both be a_b in Avro" in source.tail()


# -- the client -------------------------------------------------------------------------------------------------
@contextmanager
def guarded(registry: Registry, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """The registry behind a proxy that asks for a login, as is usual; with TLS where a context is given."""
    expected = "Basic " + base64.b64encode(b"source:s3cret").decode()

    class Gate(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = 401, b'{"error_code": 40101, "message": "no valid login"}'
            if self.headers.get("Authorization") == expected:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{registry.port}{self.path}", body or None, method=self.command,
                    headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
                )  # fmt: skip
                try:
                    with urllib.request.urlopen(request) as got:  # noqa: S310 - our own registry
                        status, answer = got.status, got.read()
                except HTTPError as error:
                    status, answer = error.code, error.read()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = _pass  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/apis/ccompat/v7"
    finally:
        server.shutdown()
        server.server_close()


def test_a_login(registry: Registry, unique_name: str) -> None:
    with guarded(registry) as url:
        assert Client(RegistryServer((url,), "source", "s3cret")).register(unique_name, "key", SCHEMA) > 0
        for user, password in (("source", "wr0ng"), (None, None)):
            with pytest.raises(CdcError) as refused:
                Client(RegistryServer((url,), user, password)).register(unique_name, "key", SCHEMA)
            assert refused.value.code is REGISTRY_LOGIN
            assert "wr0ng" not in str(refused.value)


def test_tls(registry: Registry, unique_name: str, tmp_path: Path) -> None:
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    served, mutual = ours.server(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours.file))
    mutual.load_cert_chain(served.cert, served.key)
    mutual.verify_mode = ssl.CERT_REQUIRED
    me = ours.client("source")
    with guarded(registry, mutual) as url:
        trusted = RegistryServer((url,), "source", "s3cret", str(ours.file), str(me.cert), str(me.key))
        assert Client(trusted).register(unique_name, "key", SCHEMA) > 0
        for wrong in (
            replace(trusted, ca=str(other.file)),
            replace(trusted, ca=str(tmp_path / "nowhere")),
            replace(trusted, certificate=str(ours.file)),
        ):
            with pytest.raises(CdcError) as refused:
                Client(wrong).register(unique_name, "key", SCHEMA)
            assert refused.value.code is REGISTRY_TLS
            assert url in str(refused.value)
    expired = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    old = ours.server("old", expired=True)
    expired.load_cert_chain(old.cert, old.key)
    with guarded(registry, expired) as url, pytest.raises(CdcError, match="expired") as refused:
        Client(replace(trusted, urls=(url,))).schema(1)
    assert refused.value.code is REGISTRY_TLS


def test_a_schema_and_an_id_that_are_refused(registry: Registry, unique_name: str) -> None:
    client = Client(RegistryServer((registry.url,)))
    with pytest.raises(CdcError) as refused:
        client.register(unique_name, "key", SCHEMA | {"fields": [{"name": "no name", "type": "nothing"}]})
    assert refused.value.code is REGISTRY_REFUSED
    with pytest.raises(CdcError) as refused:
        client.schema(999_999)
    assert refused.value.code is REGISTRY_LOST
    assert "999999" in str(refused.value)


def test_the_next_address_is_asked(registry: Registry, unique_name: str) -> None:
    client = Client(RegistryServer(("http://127.0.0.1:1", registry.url)))
    assert client.schema(client.register(unique_name, "key", SCHEMA)) == SCHEMA
    with pytest.raises(CdcError) as away:
        Client(RegistryServer(("http://127.0.0.1:1",))).schema(1)
    assert away.value.code is REGISTRY_UNREACHABLE


@pytest.mark.parametrize(("subjects", "expected"), [("record", "a.b.Key"), ("topic-record", "{}-a.b.Key")])
def test_subjects(registry: Registry, unique_name: str, subjects: str, expected: str) -> None:
    Client(RegistryServer((registry.url,), subjects=subjects)).register(unique_name, "key", SCHEMA)  # type: ignore[arg-type]
    assert expected.format(unique_name) in registry.subjects()
