"""A real Kafka 4.1.1 broker of our own (KRaft, broker and controller in one), kept on its ports and data.

In: an empty directory. Out: a broker on 127.0.0.1 that creates no topics by itself. It has a second listener,
whose advertised address is that of a proxy: clients that start from `proxied_bootstrap` meet only the proxy,
and are cut off by it, while those that start from `bootstrap` go on.
"""

import base64
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.servers.fetch import KAFKA_LIBS
from tests.servers.process import Process, free_port
from tests.servers.proxy import Proxy
from tests.servers.server import Server


class Kafka(Server):
    """One broker; `properties` are server.properties, on top of what the tests always need."""

    kind = "Kafka"

    def __init__(
        self, directory: Path, properties: Mapping[str, str | int] | None = None, *, heap: str = "512m"
    ) -> None:
        super().__init__(directory)
        self.port = free_port()
        self._heap = heap
        self._behind_proxy = free_port()
        self._proxy_port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self._configure(properties or {})
        self._format()

    @property
    def bootstrap(self) -> str:
        """Bootstrap servers that lead straight to the broker."""
        return f"127.0.0.1:{self.port}"

    @property
    def proxied_bootstrap(self) -> str:
        """Bootstrap servers that lead through `proxy()`, which must be open."""
        return f"127.0.0.1:{self._proxy_port}"

    def proxy(self) -> Proxy:
        """The proxy that `proxied_bootstrap` names; one at a time, as a context manager."""
        return Proxy(self._behind_proxy, self._proxy_port)

    def spawn(self) -> Process:
        self._admin = AdminClient(
            {"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200}
        )
        return Process([*self._java(), "kafka.Kafka", str(self.directory / "server.properties")], self.log)

    def answers(self) -> bool:
        try:
            return bool(self._admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def _configure(self, properties: Mapping[str, str | int]) -> None:
        controller = free_port()
        values: dict[str, str | int] = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},PROXIED://127.0.0.1:{self._behind_proxy}"
            f",CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port},PROXIED://127.0.0.1:{self._proxy_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.directory / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "broker.session.timeout.ms": 3000,  # a killed broker may register anew only after it
            "broker.heartbeat.interval.ms": 500,
            "group.initial.rebalance.delay.ms": 0,
        }
        values.update(properties)
        (self.directory / "server.properties").write_text(
            "".join(f"{name}={value}\n" for name, value in values.items())
        )

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        config = str(self.directory / "server.properties")
        done = subprocess.run(
            [
                *self._java(),
                "kafka.tools.StorageTool",
                "format",
                "--standalone",
                f"--cluster-id={cluster}",
                "-c",
                config,
                *self._format_options(),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}")

    def _format_options(self) -> list[str]:
        """More of them, where a broker of another kind needs some."""
        return []

    def _java(self) -> list[str]:
        settings = ("defaultLogLevel=warn", "showDateTime=true", "dateTimeFormat=HH:mm:ss.SSS")
        logging = [f"-Dorg.slf4j.simpleLogger.{setting}" for setting in settings]
        return [
            "java",
            f"-Xmx{self._heap}",
            "-XX:+ExitOnOutOfMemoryError",
            *logging,
            "-cp",
            f"{KAFKA_LIBS}/*",
        ]
