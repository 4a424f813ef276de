"""A real Kafka Connect worker of our own (standalone), with Debezium's sources and its JDBC sink.

In: a directory, a broker; connectors by `create`, each with its converters (`JSON`, `JSON_WITH_SCHEMA`, `avro`). Out:
they run in one JVM; how far they came is in the directory, and a worker started there again goes on from it once its
connectors are created again.
"""

import json
import re
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from tests.servers.fetch import CONNECT_LIBS
from tests.servers.mysql import MySQL
from tests.servers.postgres import Database, Postgres
from tests.servers.process import Process, free_port
from tests.servers.registry import Registry
from tests.servers.server import Server

Properties = Mapping[str, str | int]
_FAILED = re.compile(r"Task threw an uncaught|Failed to create connector|Stopping after connector error")
_JSON = "org.apache.kafka.connect.json.JsonConverter"
_AVRO = "io.apicurio.registry.utils.converter.AvroConverter"
LOSSLESS = {
    "decimal.handling.mode": "string",
    "time.precision.mode": "isostring",
    "interval.handling.mode": "string",
    "bigint.unsigned.handling.mode": "precise",
}
"""The modes that our `types = "exact"` equals. Each connector ignores what is not its own."""


def converters(converter: str, **settings: str) -> dict[str, str]:
    """For keys and values alike; `_` in a setting's name is its dot."""
    named = {name.replace("_", "."): value for name, value in settings.items()}
    sides = ("key.converter", "value.converter")
    return {k: v for side in sides for k, v in ((side, converter), *((f"{side}.{n}", v) for n, v in named.items()))}


JSON = converters(_JSON, schemas_enable="false")
JSON_WITH_SCHEMA = converters(_JSON, schemas_enable="true")


def avro(registry: Registry) -> dict[str, str]:
    """Confluent's wire format: a zero byte, four of the schema's id, the body."""
    prefix = "apicurio.registry."
    settings = {
        "url": registry.core_url,
        "auto-register": "true",
        "find-latest": "false",
        "headers.enabled": "false",
        "as-confluent": "true",
        "use-id": "contentId",
        "id-handler": "io.apicurio.registry.serde.Legacy4ByteIdHandler",
    }
    named = {f"{side}.converter.{prefix}{name}": value for side in ("key", "value") for name, value in settings.items()}
    return {"key.converter": _AVRO, "value.converter": _AVRO, **named}


class Connect(Server):
    """One worker; `properties` are the worker's, on top of what it needs."""

    kind = "Connect"

    def __init__(
        self, directory: Path, bootstrap: str, properties: Properties | None = None, *, heap: str = "1g"
    ) -> None:
        super().__init__(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._heap = heap
        self._file = directory / "worker.properties"
        worker: dict[str, str | int] = {
            "bootstrap.servers": bootstrap,
            "offset.storage.file.filename": str(directory / "offsets"),
            "listeners": f"http://127.0.0.1:{self.port}",
            "plugin.discovery": "only_scan",
            **JSON,
            **(properties or {}),
        }
        self._file.write_text("".join(f"{name}={value}\n" for name, value in worker.items()))

    def spawn(self) -> Process:
        program = "org.apache.kafka.connect.cli.ConnectStandalone"
        # Dates before 1582 change with the zone that Java is in.
        java = ["java", f"-Xmx{self._heap}", "-Duser.timezone=UTC", "-cp", f"{CONNECT_LIBS}/*"]
        return Process([*java, program, self._file], self.log)

    def start(self, timeout: float = 180) -> None:
        """See `Server`. It looks through a hundred jars first, which takes a busy machine long."""
        super().start(timeout)

    def answers(self) -> bool:
        try:
            self._call("GET", "/connectors")
        except (URLError, ConnectionError):
            return False
        return True

    def create(self, connector: Properties, timeout: float = 60) -> None:
        """Start a connector and wait until its one task runs."""
        name = str(connector["name"])
        self._call("PUT", f"/connectors/{name}/config", {key: str(value) for key, value in connector.items()})
        self._until(name, "RUNNING", timeout)

    def stop_connector(self, name: str, timeout: float = 60) -> None:
        """Stop a connector in order; how far it came is known."""
        self._call("PUT", f"/connectors/{name}/stop")
        self._until(name, "STOPPED", timeout)

    def end(self, name: str, timeout: float = 60) -> None:
        """Stop a connector and take it away; one of its name goes on there."""
        self.stop_connector(name, timeout)
        self._call("DELETE", f"/connectors/{name}")

    def offsets(self, name: str) -> list[dict[str, Any]]:
        """How far the worker says a connector came: `partition` and `offset` of each."""
        return list(self._call("GET", f"/connectors/{name}/offsets")["offsets"])

    def check(self, name: str) -> None:
        """Raise if a connector's task failed."""
        for task in self._call("GET", f"/connectors/{name}/status")["tasks"]:
            if task["state"] == "FAILED":
                raise RuntimeError(f"connector {name} failed: {task['trace']}")

    def wait_for(self, message: str, timeout: float = 120) -> None:
        """Until the log holds `message`."""
        deadline = time.monotonic() + timeout
        while message not in (log := self.log.read_text(errors="replace")):
            if _FAILED.search(log) or not self.running or time.monotonic() > deadline:
                raise RuntimeError(f"Connect did not come to {message!r}: {self.explain()}")
            time.sleep(0.2)

    def explain(self) -> str:
        """The errors in the log, else its end."""
        lines = self.log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if " ERROR " in line or line.startswith("Caused by")]
        return "\n".join((errors or lines)[-20:])

    def _until(self, name: str, state: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            status = self._status(name)
            states = [task["state"] for task in status["tasks"]] if status else []
            if status and status["connector"]["state"] == state and states == ([state] if state == "RUNNING" else []):
                return
            if "FAILED" in states or time.monotonic() > deadline:
                raise RuntimeError(f"connector {name} is {status}: {self.explain()}")
            time.sleep(0.1)

    def _status(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(self._call("GET", f"/connectors/{name}/status"))
        except HTTPError as error:
            if error.code != 404:
                raise
            return None

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - its own address
            return json.loads(answer.read() or b"null")


_TOPICS: Properties = {
    "topic.creation.default.partitions": 3,
    "topic.creation.default.replication.factor": 1,
    "topic.creation.groups": "log",
    "topic.creation.log.include": r".*\.transaction|[^.]*",
    "topic.creation.log.partitions": 1,
}
"""Rows in several partitions, transactions and shapes in one, or their order would be lost."""


def debezium_postgres(name: str, server: Postgres, database: Database, **options: str) -> dict[str, str | int]:
    """Debezium's Postgres connector with transaction metadata; slot and prefix have the connector's name."""
    return {
        "name": name,
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": 1,
        "database.hostname": "127.0.0.1",
        "database.port": server.port,
        "database.user": "postgres",
        "database.password": server.password,
        "database.dbname": database.name,
        "topic.prefix": name,
        "plugin.name": "pgoutput",
        "slot.name": name,
        "publication.name": name,
        "provide.transaction.metadata": "true",
        "skipped.operations": "none",
        "poll.interval.ms": 20,
        **_TOPICS,
        **options,
    }


_OF_KIND = {
    "MySQL": "io.debezium.connector.mysql.MySqlConnector",
    "MariaDB": "io.debezium.connector.mariadb.MariaDbConnector",
}


def debezium_mysql(name: str, server: MySQL, database: str, directory: Path, **options: str) -> dict[str, str | int]:
    """Debezium's connector of MySQL or MariaDB likewise; `directory` keeps the history of shapes it needs."""
    return {
        "name": name,
        "connector.class": _OF_KIND[server.kind],
        "tasks.max": 1,
        "database.hostname": "127.0.0.1",
        "database.port": server.port,
        "database.user": "root",
        "database.password": server.password,
        "database.server.id": 10_000 + server.port,
        "topic.prefix": name,
        "database.include.list": database,
        "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
        "schema.history.internal.file.filename": str(directory / f"{name}.history"),
        "provide.transaction.metadata": "true",
        "skipped.operations": "none",
        "poll.interval.ms": 20,
        **_TOPICS,
        **options,
    }
