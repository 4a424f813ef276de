"""Kafka Connect standalone with one connector, as a process of ours.

In: worker and connector properties. Out: a running worker; its jars come once, by Maven, into `.servers/`.
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.fetch import SERVERS, copy_jars
from tests.servers.process import Process

POM = Path(__file__).with_name("pom.xml")
LIBS = SERVERS / "connect-debezium"
HEAP = "2g"
_FAILED = re.compile(r"Task threw an uncaught|Failed to create connector|Stopping after connector error")
_JSON = "org.apache.kafka.connect.json.JsonConverter"


def fetch() -> None:
    """Bring the jars in, if they are not there."""
    if not LIBS.exists():
        copy_jars(POM, LIBS)


class Connect:
    """A worker with one connector; `schemas` puts each record's schema beside its payload."""

    def __init__(
        self, directory: Path, bootstrap: str, connector: Mapping[str, str | int], *, schemas: bool = False
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "connect.log"
        self._directory = directory
        self._process: Process | None = None
        worker = {
            "bootstrap.servers": bootstrap,
            "offset.storage.file.filename": directory / "offsets",
            "listeners": "http://127.0.0.1:0",
            "plugin.discovery": "only_scan",
            "key.converter": _JSON,
            "value.converter": _JSON,
            "key.converter.schemas.enable": str(schemas).lower(),
            "value.converter.schemas.enable": str(schemas).lower(),
            "producer.compression.type": "lz4",
            "producer.linger.ms": 20,
            "producer.batch.size": 256 * 1024,
        }
        for name, properties in (("worker", worker), ("connector", connector)):
            lines = "".join(f"{key}={value}\n" for key, value in properties.items())
            (directory / f"{name}.properties").write_text(lines)

    def __enter__(self) -> Self:
        files = [self._directory / f"{name}.properties" for name in ("worker", "connector")]
        program = "org.apache.kafka.connect.cli.ConnectStandalone"
        self._process = Process(["java", f"-Xmx{HEAP}", "-cp", f"{LIBS}/*", program, *files], self.log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill9()

    def stop(self) -> None:
        """End it in order: it writes down how far it came, and a worker on the same folder goes on there."""
        self.process.stop()

    @property
    def process(self) -> Process:
        """The JVM."""
        assert self._process, "enter it first"
        return self._process

    def wait_for(self, message: str, timeout: float = 120) -> None:
        """Until the log holds `message`."""
        deadline = time.monotonic() + timeout
        while message not in (log := self.log.read_text(errors="replace")):
            if _FAILED.search(log) or not self.process.running or time.monotonic() > deadline:
                raise RuntimeError(f"Connect did not come to {message!r}: {self.explain()}")
            time.sleep(0.2)

    def explain(self) -> str:
        """The errors in the log, else its end."""
        lines = self.log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if " ERROR " in line or line.startswith("Caused by")]
        return "\n".join((errors or lines)[-20:])
