"""What brokers and topics cost in promises."""

import pytest

from cdc.brokers import Cluster, check_cluster, check_link, check_registry_link, check_topics
from cdc.finding import Finding, Level
from cdc.kafka_admin import Topic
from cdc.secret import Secret
from cdc.sections import Kafka, Registry, Source

KAFKA = Kafka(bootstrap_servers="k:1")
SHOP = Source(name="shop", url="postgresql:///shop", tables=("public.*",), partitions=4)
FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "min.insync.replicas": "2"}
WEEK = {**FOR_EVER, "retention.ms": "604800000"}
LARGE = {"max.message.bytes": str(8 * 2**20)}


def cluster(brokers: int, **config: str) -> Cluster:
    return Cluster("abc", brokers, {key.replace("_", "."): value for key, value in config.items()})


def worst(findings: list[Finding]) -> Finding:
    order = [Level.OK, Level.NOTE, Level.WARN, Level.FAIL]
    return max(findings, key=lambda finding: order.index(finding.level))


@pytest.mark.parametrize(
    ("kafka", "given", "level", "words"),
    [
        (KAFKA, cluster(3), Level.OK, "cluster abc, 3 brokers"),
        (KAFKA, cluster(1), Level.WARN, "one broker: a lost disk then takes transactions that readers were promised"),
        (KAFKA, cluster(2), Level.WARN, "replication factor 2: writing stops"),
        (KAFKA.model_copy(update={"replication_factor": 1}), cluster(3), Level.WARN, "replication factor 1: a lost"),
        (KAFKA.model_copy(update={"replication_factor": 3}), cluster(2), Level.FAIL, "there are 2 brokers"),
        (KAFKA, cluster(3, unclean_leader_election_enable="true"), Level.WARN, "unclean.leader.election.enable = true"),
    ],
)
def test_a_cluster(kafka: Kafka, given: Cluster, level: Level, words: str) -> None:
    finding = worst(list(check_cluster(kafka, given)))
    assert (finding.level, words in finding.what) == (level, True), finding


@pytest.mark.parametrize(
    ("servers", "options", "words"),
    [
        ("127.0.0.1:1,localhost:2,[::1]:3", {}, ""),
        ("k1:1, 127.0.0.1:2,10.0.0.7:3", {}, "the connections to k1:1, 10.0.0.7:3 are not encrypted: rows cross"),
        ("k1:1", {"security.protocol": "SASL_PLAINTEXT"}, "not encrypted: rows and the password cross"),
        ("k1:1", {"security.protocol": "SSL"}, ""),
        ("SSL://k1:1", {"security.protocol": "ssl", "enable.ssl.certificate.verification": "false"},
         "certificates are not verified"),
        ("k1:1", {"security.protocol": "SASL_SSL", "ssl.endpoint.identification.algorithm": "none"},
         "host names are not verified"),
    ],
)  # fmt: skip
def test_a_link(servers: str, options: dict[str, str | Secret], words: str) -> None:
    found = [finding.what for finding in check_link(Kafka(bootstrap_servers=servers, options=options))]
    assert bool(words) == bool(found)
    assert words in "".join(found)


def test_a_registry_s_link() -> None:
    found = list(check_registry_link(Registry(url="https://r1:8081, http://r2:8081,http://127.0.0.1:8081")))
    assert [finding.what for finding in found] == [
        "the connection to the schema registry at http://r2:8081 is not encrypted"
    ]


def topics(**changes: Topic) -> dict[str, Topic]:
    names = ["shop.transaction", "shop", "shop.message"]
    found = {name: Topic(name, "i", 1, 3, {**FOR_EVER, **LARGE}) for name in names}
    found["shop.public.a"] = Topic("shop.public.a", "i", 4, 3, {**WEEK, **LARGE})
    return found | {key.replace("_", "."): topic for key, topic in changes.items()}


def changed(name: str, partitions: int = 0, replicas: int = 3, **config: str) -> dict[str, Topic]:
    settings = {**FOR_EVER, **LARGE, **{key.replace("_", "."): value for key, value in config.items()}}
    return topics() | {name: Topic(name, "i", partitions or topics()[name].partitions, replicas, settings)}


def test_topics_as_we_make_them_are_fine() -> None:
    findings = list(check_topics(KAFKA, SHOP, topics(), ["shop.public.a"]))
    assert {finding.level for finding in findings} == {Level.OK}
    assert "topic shop.public.a: 3 replicas, kept for 7 d" in [finding.what for finding in findings]
    assert "topic shop.transaction (and 2 more): 3 replicas, kept for ever" in [finding.what for finding in findings]


def test_topics_that_are_not_there_yet_are_a_note() -> None:
    findings = list(check_topics(KAFKA, SHOP, {}, ["shop.public.a"]))
    assert [finding.level for finding in findings] == [Level.NOTE]
    assert "4 topics are made by the source's first start" in findings[0].what


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (changed("shop.public.a", cleanup_policy="compact"), Level.FAIL, "compaction removes events"),
        (changed("shop.public.a", cleanup_policy="compact,delete"), Level.FAIL, "cleanup.policy=compact,delete"),
        (changed("shop.public.a", partitions=3), Level.WARN, "has 3 partitions and keeps them"),
        (changed("shop.transaction", partitions=2), Level.FAIL, "has 2 partitions, exactly 1"),
        (changed("shop.transaction", retention_ms="86400000"), Level.WARN, "is kept for 1 d only"),
        (changed("shop", retention_bytes="1000"), Level.WARN, "is kept for ever or 1000 bytes a partition only"),
        (changed("shop.public.a", retention_ms="3600000"), Level.WARN, "is kept for 1 h: a sink that is away"),
        (changed("shop.public.a", min_insync_replicas="1"), Level.WARN, "min.insync.replicas=1"),
        (changed("shop.public.a", replicas=1), Level.WARN, "has one replica"),
        (changed("shop.public.a", unclean_leader_election_enable="true"), Level.WARN, "unclean elections"),
        (changed("shop.public.a", max_message_bytes="1000"), Level.WARN, "accepts 1000 bytes, max_record is 8388608"),
    ],
)
def test_a_topic_that_costs_a_promise(found: dict[str, Topic], level: Level, words: str) -> None:
    finding = worst(list(check_topics(KAFKA, SHOP, found, ["shop.public.a"])))
    assert (finding.level, words in finding.what) == (level, True), finding
    assert finding.fix
