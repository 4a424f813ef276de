"""A real Kafka broker that lets nobody in unasked: TLS, certificates of clients, passwords by SCRAM, ACLs.

In: an empty directory, an authority that signs. Out: one broker with a listener for each way in, and some whose
certificate is not what it should be. On `bootstrap`, in plain text, everybody is the superuser: it is the tests' own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.servers.certificates import Authority, Certificate
from tests.servers.kafka import Kafka
from tests.servers.process import free_port

MECHANISM = "SCRAM-SHA-512"


class SecuredKafka(Kafka):
    """`users` are those of SCRAM, with their passwords; nobody may do anything until `allow` says so."""

    def __init__(self, directory: Path, authority: Authority, users: Mapping[str, str]) -> None:
        self._users = users
        good = authority.server("kafka")
        self._certificates: dict[str, Certificate] = {
            "TLS": good,
            "MUTUAL": good,
            "SCRAM": good,
            "EXPIRED": authority.server("kafka-expired", expired=True),
            "ELSEWHERE": authority.server("kafka-elsewhere", host="kafka.elsewhere.test"),
        }
        self._ports = {name: free_port() for name in self._certificates}
        self._trusted = authority.file
        super().__init__(directory)

    def listener(self, name: str) -> str:
        """Bootstrap servers of TLS, MUTUAL, SCRAM, EXPIRED or ELSEWHERE."""
        return f"127.0.0.1:{self._ports[name]}"

    def allow(self, bindings: Sequence[AclBinding]) -> None:
        """These rights and no others."""
        any_: Any = None
        old = AclBindingFilter(
            ResourceType.ANY, any_, ResourcePatternType.ANY, any_, any_, AclOperation.ANY, AclPermissionType.ANY
        )
        for deleted in self._admin.delete_acls([old]).values():
            deleted.result(20)
        if bindings:
            for made in self._admin.create_acls(list(bindings)).values():
                made.result(20)

    def _configure(self, properties: Mapping[str, str | int]) -> None:
        super()._configure(properties)
        file = self.directory / "server.properties"
        values = dict(line.split("=", 1) for line in file.read_text().splitlines())
        added = "".join(f",{name}://127.0.0.1:{port}" for name, port in self._ports.items())
        values["listeners"] += added
        values["advertised.listeners"] += added
        protocols = {name: "SASL_SSL" if name == "SCRAM" else "SSL" for name in self._ports}
        values["listener.security.protocol.map"] += "".join(f",{name}:{what}" for name, what in protocols.items())
        for name, certificate in self._certificates.items():
            listener = f"listener.name.{name.lower()}"
            values |= {
                f"{listener}.ssl.keystore.type": "PEM",
                f"{listener}.ssl.keystore.location": str(certificate.both),
                f"{listener}.ssl.truststore.type": "PEM",
                f"{listener}.ssl.truststore.location": str(self._trusted),
                f"{listener}.ssl.client.auth": "required" if name == "MUTUAL" else "none",
            }
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        values |= {
            "sasl.enabled.mechanisms": MECHANISM,
            "listener.name.scram.sasl.enabled.mechanisms": MECHANISM,
            f"listener.name.scram.{MECHANISM.lower()}.sasl.jaas.config": login,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    def _format_options(self) -> list[str]:
        added = [f"{MECHANISM}=[name={name},password={password}]" for name, password in self._users.items()]
        return [part for user in added for part in ("--add-scram", user)]
