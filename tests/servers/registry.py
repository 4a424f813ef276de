"""A real schema registry of our own (Apicurio), which speaks Confluent's API; it keeps what it has in memory alone.

In: a directory for its log. Out: a registry on 127.0.0.1, for clients of Confluent's at `url`, for its own at
`core_url`. A restart on the same port is an empty registry.
"""

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote

from tests.servers.fetch import REGISTRY
from tests.servers.process import Process, free_port
from tests.servers.server import Server


class Registry(Server):
    """One registry; `properties` are Quarkus', on top of the port's."""

    kind = "Registry"

    def __init__(self, directory: Path, properties: Mapping[str, str | int] | None = None) -> None:
        super().__init__(directory)
        self.port = free_port()
        self._properties = properties or {}
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """Confluent's API."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    @property
    def core_url(self) -> str:
        """Its own, which Apicurio's converter asks."""
        return f"http://127.0.0.1:{self.port}/apis/registry/v2"

    def spawn(self) -> Process:
        properties = {"quarkus.http.host": "127.0.0.1", "quarkus.http.port": self.port, **self._properties}
        settings = [f"-D{name}={value}" for name, value in properties.items()]
        (program,) = REGISTRY.glob("*-runner.jar")
        return Process(["java", "-Xmx400m", "-XX:+ExitOnOutOfMemoryError", *settings, "-jar", program], self.log)

    def answers(self) -> bool:
        try:
            self.subjects()
        except (URLError, ConnectionError):
            return False
        return True

    def subjects(self) -> list[str]:
        """The names under which it has schemas."""
        return list(self._get("/subjects"))

    def versions(self, subject: str) -> list[int]:
        return list(self._get(f"/subjects/{quote(subject, safe='')}/versions"))

    def schema(self, subject: str, version: int | str = "latest") -> dict[str, Any]:
        """A version as Confluent's API gives it: `subject`, `version`, `id`, `schema` (text)."""
        return dict(self._get(f"/subjects/{quote(subject, safe='')}/versions/{version}"))

    def by_id(self, number: int) -> Any:
        """The schema of this id, parsed."""
        return json.loads(self._get(f"/schemas/ids/{number}")["schema"])

    def compatibility(self, subject: str) -> str:
        """What is set for this subject itself."""
        return str(self._get(f"/config/{quote(subject, safe='')}")["compatibilityLevel"])

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:  # noqa: S310 - its own address
            return json.load(answer)
