"""`cdc check` of Kafka: whether "END is there, so every event is durable" holds on these brokers. Pure judgement.

In: what the brokers say of themselves and of the topics of one source. Out: findings, each with the promise it costs.
Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from cdc.finding import Finding, Level, fail, note, ok, warn
from cdc.kafka_admin import Topic
from cdc.sections import Kafka, Registry, Source
from cdc.server import is_loopback
from cdc.topics import log_topic, message_topic, shape_topic

_SAFE_REPLICAS = 3
_SHORT_S = 86400
_COST = "a lost disk then takes transactions that readers were promised"
ALTER = (
    "kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics --entity-name {topic} --add-config"
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The brokers: how many, and the settings that topics inherit."""

    id: str
    brokers: int
    config: Mapping[str, str]


def check_cluster(kafka: Kafka, cluster: Cluster) -> Iterator[Finding]:
    """What holds for every topic that will be made."""
    yield ok(f"cluster {cluster.id}, {cluster.brokers} brokers")
    replicas = kafka.replication_factor or min(_SAFE_REPLICAS, cluster.brokers)
    if replicas > cluster.brokers:
        yield fail(
            f"replication_factor = {replicas}, but there are {cluster.brokers} brokers",
            "lower it in [kafka], or add some",
        )
    elif replicas < _SAFE_REPLICAS:
        what = "one broker" if cluster.brokers == 1 else f"replication factor {replicas}"
        cost = _COST if replicas == 1 else "writing stops while one broker is away, or goes on without a second copy"
        yield warn(f"{what}: {cost}", "three brokers and replication_factor = 3")
    else:
        yield ok(f"new topics: replication factor {replicas}, min.insync.replicas 2")
    if cluster.config.get("unclean.leader.election.enable") == "true":
        yield warn(
            f"unclean.leader.election.enable = true: a broker that lags may become leader, and {_COST}",
            "unclean.leader.election.enable = false on the brokers",
        )


def check_link(kafka: Kafka) -> Iterator[Finding]:
    """Rows should not cross a network in the clear, nor go to whoever answers."""
    options = {name: str(value).lower() for name, value in kafka.options.items()}
    protocol = options.get("security.protocol", "plaintext")
    servers = [server.rpartition("://")[2] for server in kafka.bootstrap_servers.split(",")]
    away = [server for server in map(str.strip, servers) if not is_loopback(server.rpartition(":")[0])]
    if away and not protocol.endswith("ssl"):
        what = "rows and the password" if protocol.startswith("sasl") else "rows"
        yield warn(
            f"the connections to {', '.join(away)} are not encrypted: {what} cross the network in the clear",
            'security.protocol = "SSL" or "SASL_SSL", ssl.ca.location = "FILE" in [kafka.options]',
        )
    if away and (options.get("enable.ssl.certificate.verification") == "false"):
        yield warn("the brokers' certificates are not verified", "no enable.ssl.certificate.verification")
    if away and options.get("ssl.endpoint.identification.algorithm") == "none":
        yield warn("the brokers' host names are not verified", "no ssl.endpoint.identification.algorithm")


def check_registry_link(registry: Registry) -> Iterator[Finding]:
    """Schemas name tables and columns, and a login goes with each request."""
    for url in map(str.strip, registry.url.split(",")):
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield warn(
                f"the connection to the schema registry at {url} is not encrypted", "https:// in url of [registry]"
            )


def check_topics(kafka: Kafka, source: Source, found: Mapping[str, Topic], rows: Sequence[str]) -> Iterator[Finding]:
    """The topics of one source, where they exist."""
    prefix = source.topic_prefix
    own = [log_topic(prefix), shape_topic(prefix), message_topic(prefix)]
    missing = [name for name in [*own, *rows] if name not in found]
    if missing:
        yield note(f"{len(missing)} topics are made by the source's first start: {', '.join(missing[:5])}…")
    judged = [(name, f) for name in [*own, *rows] if name in found
              for f in _topic(kafka, source, found[name], for_ever=name in own)]  # fmt: skip
    yield from _together(judged)


def _together(judged: Sequence[tuple[str, Finding]]) -> Iterator[Finding]:
    """What is to be said of many topics alike is said once, of the first."""
    alike: dict[tuple[Level, str, str], list[tuple[str, Finding]]] = {}
    for name, finding in judged:
        same = finding.level, finding.what.replace(name, ""), finding.fix.replace(name, "")
        alike.setdefault(same, []).append((name, finding))
    for (name, finding), *others in alike.values():
        more = f" (and {len(others)} more)" if others else ""
        yield replace(finding, what=finding.what.replace(name, f"{name}{more}", 1))


def _topic(kafka: Kafka, source: Source, topic: Topic, *, for_ever: bool) -> Iterator[Finding]:
    alter = ALTER.format(bootstrap=kafka.bootstrap_servers, topic=topic.name)
    kept = _kept_for_ever(topic, alter) if for_ever else _kept(topic, alter)
    partitions = _alone(topic) if for_ever else _spread(source, topic)
    judged = (_policy(topic, alter), partitions, _durable(topic, alter), kept)
    problems = [finding for finding in (*judged, _size(topic, source, alter)) if finding]
    yield from problems or [ok(f"topic {topic.name}: {topic.replicas} replicas, kept for {_span(topic)}")]


def _policy(topic: Topic, alter: str) -> Finding | None:
    policy = topic.config.get("cleanup.policy", "delete")
    if "compact" not in policy:
        return None
    return fail(
        f"topic {topic.name} has cleanup.policy={policy}: compaction removes events that the log counts",
        f"{alter} cleanup.policy=delete",
    )


def _spread(source: Source, topic: Topic) -> Finding | None:
    if topic.partitions == source.partitions:
        return None
    return warn(
        f"topic {topic.name} has {topic.partitions} partitions and keeps them: partitions = {source.partitions} is for "
        "topics that are made",
        f"partitions = {topic.partitions}",
    )


def _alone(topic: Topic) -> Finding | None:
    if topic.partitions == 1:
        return None
    return fail(f"topic {topic.name} has {topic.partitions} partitions, exactly 1 is needed", "make the topic anew")


def _durable(topic: Topic, alter: str) -> Finding | None:
    in_sync = int(topic.config.get("min.insync.replicas", "1"))
    if topic.replicas >= _SAFE_REPLICAS and in_sync < 2:
        return warn(f"topic {topic.name} has min.insync.replicas={in_sync}: {_COST}", f"{alter} min.insync.replicas=2")
    if topic.replicas > 1 and topic.config.get("unclean.leader.election.enable") == "true":
        fix = f"{alter} unclean.leader.election.enable=false"
        return warn(f"topic {topic.name} allows unclean elections: {_COST}", fix)
    if topic.replicas == 1:
        return warn(f"topic {topic.name} has one replica: {_COST}", "kafka-reassign-partitions.sh, to three replicas")
    return None


def _kept_for_ever(topic: Topic, alter: str) -> Finding | None:
    if topic.config.get("retention.ms") == "-1" and topic.config.get("retention.bytes") == "-1":
        return None
    return warn(
        f"topic {topic.name} is kept for {_span(topic)} only: a source or sink that is away for longer cannot go on",
        f"{alter} retention.ms=-1,retention.bytes=-1",
    )


def _kept(topic: Topic, alter: str) -> Finding | None:
    limited = topic.config.get("retention.bytes", "-1") != "-1"
    milliseconds = int(topic.config.get("retention.ms", "-1"))
    if not limited and not 0 <= milliseconds < _SHORT_S * 1000:
        return None
    return warn(
        f"topic {topic.name} is kept for {_span(topic)}: a sink that is away for longer has to copy again",
        f"{alter} retention.ms=604800000,retention.bytes=-1",
    )


def _span(topic: Topic) -> str:
    milliseconds, size = int(topic.config.get("retention.ms", "-1")), topic.config.get("retention.bytes", "-1")
    hours = milliseconds / 3_600_000
    time = "ever" if milliseconds < 0 else f"{hours / 24:g} d" if hours >= 24 else f"{hours:g} h"
    return time if size == "-1" else f"{time} or {size} bytes a partition"


def _size(topic: Topic, source: Source, alter: str) -> Finding | None:
    limit = int(topic.config.get("max.message.bytes", "1048588"))
    if limit >= source.max_record:
        return None
    return warn(
        f"topic {topic.name} accepts {limit} bytes, max_record is {source.max_record}: a larger event stops the source",
        f"{alter} max.message.bytes={source.max_record}",
    )
