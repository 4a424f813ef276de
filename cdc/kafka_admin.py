"""Topics and brokers: what is there, what they are set to; making topics. With `kafka`, at home in confluent_kafka.

In: librdkafka properties as a mapping. Out: topics as the brokers describe them. Refuses: every error of the client
comes as a `CdcError`; where no broker can be connected to, no longer than some seconds are waited for one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from cdc.errors import TOPIC_MISSING, CdcError
from cdc.kafka import DOWN_S, OF_ONE_KIND, REQUEST_TIMEOUT_S, client_of, log
from cdc.kafka_errors import AWAY, Options, Reports, kafka_error


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the brokers describe it."""

    name: str
    id: str
    partitions: int
    replicas: int
    config: Mapping[str, str]


class Admin:
    """Asks about and creates topics. Only the source creates."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.errors = Reports(options, "Describe")
        known = {k: v for k, v in options.items() if k not in OF_ONE_KIND}
        settings: dict[str, Any] = {**known, "error_cb": self.errors, "logger": log}
        self._admin = client_of(AdminClient, settings)

    def cluster(self) -> tuple[str, int]:
        """The cluster's id and its number of brokers."""
        found = self._ask(self._admin.describe_cluster(request_timeout=REQUEST_TIMEOUT_S))
        return found.cluster_id, len(found.nodes)

    def broker_config(self) -> dict[str, str]:
        """The settings of one broker, which topics have where they set nothing themselves."""
        found = self._ask(self._admin.describe_cluster(request_timeout=REQUEST_TIMEOUT_S))
        broker = ConfigResource(ResourceType.BROKER, str(found.nodes[0].id))
        future = self._admin.describe_configs([broker], request_timeout=REQUEST_TIMEOUT_S)[broker]
        return {key: entry.value for key, entry in self._ask(future, operation="DescribeConfigs").items()}

    def names(self) -> list[str]:
        """Of every topic that this account may see."""
        try:
            return list(self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics)
        except KafkaException as error:
            raise kafka_error(self._options, error.args[0]) from None

    def describe(self, names: Sequence[str]) -> dict[str, Topic]:
        """Those of the topics that exist."""
        if not names:
            return {}
        futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=REQUEST_TIMEOUT_S)
        found = {}
        for name, future in futures.items():
            try:
                description = self._ask(future, name)
            except CdcError as error:
                if error.code is TOPIC_MISSING:
                    continue
                raise
            found[name] = description
        configs = self._configs(list(found))
        return {
            name: Topic(
                name,
                str(d.topic_id),
                len(d.partitions),
                min((len(p.replicas) for p in d.partitions), default=0),
                configs[name],
            )
            for name, d in found.items()
        }

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self._admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
        return {
            resource.name: {
                key: entry.value for key, entry in self._ask(future, resource.name, operation="DescribeConfigs").items()
            }
            for resource, future in futures.items()
        }

    def create(self, name: str, *, partitions: int, replicas: int, config: Mapping[str, str]) -> None:
        """Make a topic; one that exists by now is left as it is."""
        topic = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=dict(config))
        future = self._admin.create_topics([topic], request_timeout=REQUEST_TIMEOUT_S)[name]
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise kafka_error(self._options, error.args[0], topic=name, operation="Create") from None

    def delete(self, names: Sequence[str]) -> None:
        if names:
            futures = self._admin.delete_topics(list(names), operation_timeout=REQUEST_TIMEOUT_S)
            for name, future in futures.items():
                self._ask(future, name, operation="Delete")

    def configure(self, name: str, config: Mapping[str, str]) -> None:
        """Set these properties of a topic, leave the others."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        for future in self._admin.incremental_alter_configs([resource]).values():
            self._ask(future, name, operation="AlterConfigs")

    def _ask(self, future: Any, topic: str = "?", *, operation: str = "Describe") -> Any:
        """The answer; where no broker can be connected to, no longer than some seconds are waited for one."""
        asked_at = time.monotonic()
        while True:
            try:
                return future.result(0.1)
            except KafkaException as error:
                if error.args[0].code() in AWAY:
                    raise self.errors.unreachable() from None
                raise kafka_error(self._options, error.args[0], topic=topic, operation=operation) from None
            except TimeoutError:
                self._admin.poll(0)
            self.errors.check()
            now = time.monotonic()
            if now > asked_at + REQUEST_TIMEOUT_S + 5 or asked_at <= self.errors.all_down_at < now - DOWN_S:
                raise self.errors.unreachable()
