"""Kafka behind TLS, certificates, SCRAM and ACLs: what is set right works, what is set wrong is named."""

import argparse
import json
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from cdc.errors import (
    KAFKA_DENIED,
    KAFKA_LOGIN,
    KAFKA_OPTIONS,
    KAFKA_TLS,
    KAFKA_UNREACHABLE,
    CdcError,
    Code,
)
from cdc.kafka import Producer, Reader
from cdc.kafka_admin import Admin
from tests.servers.certificates import Authority
from tests.servers.kafka_secured import MECHANISM, SecuredKafka
from tests.servers.postgres import Database
from tests.system.pipeline import Pipeline, wait_until

ROLES = ("cdc_source", "cdc_sink", "cdc_archive", "cdc_reader")
PASSWORD = "wonder land/s3cret"
SECURITY = Path(__file__).parents[2] / "docs" / "SECURITY.md"


@dataclass(frozen=True)
class Site:
    """A broker and who vouches for whom."""

    kafka: SecuredKafka
    authority: Authority
    stranger: Authority

    def options(self, listener: str, **changed: str) -> dict[str, str]:
        """What leads in by a listener, but for what is changed; a word for a property, "" leaves it out."""
        options = {"bootstrap.servers": self.kafka.listener(listener), "security.protocol": "SSL",
                   "ssl.ca.location": str(self.authority.file)}  # fmt: skip
        if listener == "MUTUAL":
            options |= self.certificate(self.authority, "cdc_source")
        if listener == "SCRAM":
            options |= {"security.protocol": "SASL_SSL", "sasl.mechanism": MECHANISM,
                        "sasl.username": "cdc_source", "sasl.password": PASSWORD}  # fmt: skip
        options |= {name.replace("_", "."): value for name, value in changed.items()}
        return {name: value for name, value in options.items() if value}

    @staticmethod
    def certificate(authority: Authority, name: str, *, expired: bool = False) -> dict[str, str]:
        made = authority.client(name, expired=expired)
        return {"ssl.certificate.location": str(made.cert), "ssl.key.location": str(made.key)}


@pytest.fixture(scope="module")
def site(module_directory: Path) -> Iterator[Site]:
    authority = Authority(module_directory / "links", "authority")
    users = dict.fromkeys(ROLES, PASSWORD)
    with SecuredKafka(module_directory / "kafka-secured", authority, users) as kafka:
        yield Site(kafka, authority, Authority(module_directory / "links", "stranger"))


# -- faults -----------------------------------------------------------------------------------------------------
def refused(options: Mapping[str, str]) -> CdcError:
    with pytest.raises(CdcError) as caught:
        Admin(options).cluster()
    assert PASSWORD not in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("listener", "changed", "code", "words"),
    [
        ("EXPIRED", {}, KAFKA_TLS, "certificate has expired"),
        ("ELSEWHERE", {}, KAFKA_TLS, "certificate is not valid for '127.0.0.1'"),
        ("TLS", {"ssl_ca_location": ""}, KAFKA_TLS, "unable to get local issuer certificate"),
        ("MUTUAL", {"ssl_certificate_location": "", "ssl_key_location": ""}, KAFKA_TLS, "wants a certificate"),
        ("SCRAM", {"sasl_mechanism": "PLAIN"}, KAFKA_LOGIN, f"supported mechanisms: {MECHANISM}"),
        ("SCRAM", {"sasl_password": "geheim"}, KAFKA_LOGIN, "invalid credentials"),
        ("SCRAM", {"sasl_username": "nobody"}, KAFKA_LOGIN, "invalid credentials"),
        ("SCRAM", {"security_protocol": "SSL"}, KAFKA_UNREACHABLE, 'security.protocol = "SASL_SSL"'),
        ("TLS", {"security_protocol": "PLAINTEXT"}, KAFKA_UNREACHABLE, 'speaks TLS: security.protocol = "SSL" or'),
        ("TLS", {"ssl_ca_location": "/nowhere.pem"}, KAFKA_OPTIONS, "ssl.ca.location failed"),
        ("TLS", {"ssl_ca_locatoin": "x"}, KAFKA_OPTIONS, "No such configuration property"),
    ],
    ids=lambda given: given.name if isinstance(given, Code) else None,
)
def test_a_fault_is_named(
    site: Site, listener: str, changed: Mapping[str, str], code: Code, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.kafka.REQUEST_TIMEOUT_S", 3.0)
    monkeypatch.setattr("cdc.kafka_admin.REQUEST_TIMEOUT_S", 3.0)
    error = refused(site.options(listener, **changed))
    assert error.code is code, error
    assert words in error.text


def test_a_stranger_s_authority_is_not_trusted_on_either_side(site: Site) -> None:
    untrusted = refused(site.options("TLS", ssl_ca_location=str(site.stranger.file)))
    assert untrusted.code is KAFKA_TLS
    assert "unable to get local issuer certificate" in untrusted.text
    for certificate in (
        site.certificate(site.stranger, "cdc_source"),
        site.certificate(site.authority, "late", expired=True),
    ):
        error = refused(site.options("MUTUAL") | certificate)
        assert error.code is KAFKA_TLS
        assert "wants a certificate of this client" in error.text


def test_tls_at_a_plain_port_is_named(site: Site) -> None:
    error = refused(site.options("TLS") | {"bootstrap.servers": site.kafka.bootstrap})
    assert error.code is KAFKA_UNREACHABLE
    assert "PLAINTEXT broker listener" in error.text


def test_a_reader_names_what_it_is_refused_for(site: Site) -> None:
    """The client tells its reasons with its records, of which there are none."""
    reader = Reader(site.options("SCRAM", sasl_password="geheim"))
    with pytest.raises(CdcError, match="KAFKA_LOGIN"):
        reader.watermarks("shop.transaction", 0)
    reader.close()


# -- rights -----------------------------------------------------------------------------------------------------
def statements(role: str, prefix: str) -> list[AclBinding]:
    """What docs/SECURITY.md says for a role, with another prefix."""
    parser = argparse.ArgumentParser()
    for option in ("--bootstrap-server", "--command-config", "--allow-principal", "--topic", "--group"):
        parser.add_argument(option)
    parser.add_argument("--operation", action="append")
    parser.add_argument("--resource-pattern-type", default="literal")
    for option in ("--add", "--cluster"):
        parser.add_argument(option, action="store_true")
    found = []
    for line in re.findall(r"^kafka-acls.sh (.*)$", SECURITY.read_text(), re.MULTILINE):
        given = parser.parse_args(shlex.split(line))
        if given.allow_principal == f"User:{role}" and not given.cluster:
            name = given.group or re.sub("^shop", prefix, given.topic)
            kind = ResourceType.GROUP if given.group else ResourceType.TOPIC
            found += [binding(role, name, one, given.resource_pattern_type, kind) for one in given.operation]
    assert found
    return found


def binding(
    role: str, name: str, operation: str, pattern: str = "literal", kind: ResourceType = ResourceType.TOPIC
) -> AclBinding:
    named = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).upper()
    return AclBinding(
        kind, name, ResourcePatternType[pattern.upper()], f"User:{role}", "*", AclOperation[named],
        AclPermissionType.ALLOW,
    )  # fmt: skip


class Guarded(Pipeline):
    """Each process logs in to Kafka as whoever `user` is by then."""

    user = "cdc_source"

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"KAFKA_USER": self.user, "KAFKA_PASSWORD": PASSWORD}


def guarded(directory: Path, source: Database, target: Database, site: Site) -> Guarded:
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'copied')")
    options = site.options("SCRAM", sasl_username="${KAFKA_USER}", sasl_password="${KAFKA_PASSWORD}")
    del options["bootstrap.servers"]
    pipeline = Guarded(directory, source, target, site.kafka.listener("SCRAM"), kafka_options=options)
    pipeline.publish()
    return pipeline


def test_each_role_does_its_work_with_exactly_the_rights_that_the_docs_list(
    tmp_path: Path, database: Database, target_database: Database, site: Site
) -> None:
    pipeline = guarded(tmp_path, database, target_database, site)
    site.kafka.allow([one for role in ROLES for one in statements(role, pipeline.name)])
    pipeline.user = "cdc_source"
    with pipeline.source_running():
        pipeline.user = "cdc_sink"
        with pipeline.sink_running():
            pipeline.user = "cdc_archive"
            with pipeline.archive_running():
                database.execute("INSERT INTO t VALUES (2, 'streamed')")
                pipeline.wait_caught_up()
                pipeline.wait_archived()
                check_as_reader(pipeline)
    assert target_database.execute("SELECT * FROM t ORDER BY id") == [(1, "copied"), (2, "streamed")]
    assert PASSWORD not in "".join(path.read_text() for path in tmp_path.glob("*.log"))


def check_as_reader(pipeline: Guarded) -> None:
    pipeline.user = "cdc_reader"
    status = pipeline.command("status", "--json")
    assert json.loads(status.stdout)["sources"][0]["state"] == "streaming", status.stdout
    verified = pipeline.command("verify", pipeline.name, "--sink", "eu")
    assert "EQUAL: 1 tables" in verified.stdout, verified.stdout + verified.stderr
    tail = pipeline.run("tail", pipeline.name, "--json")

    def told() -> bool:
        pipeline.source.execute("UPDATE t SET v = v || '.' WHERE id = 99; UPDATE t SET v = v WHERE id = 2")
        return bool(tail.log.read_text())

    wait_until(told, "a line of tail")
    tail.stop()
    pipeline.user = "cdc_source"
    report = json.loads(pipeline.command("check", pipeline.name, "--json").stdout)
    (kafka,) = [section["findings"] for section in report["sections"] if section["section"] == "kafka"]
    assert "FAIL" not in [finding["level"] for finding in kafka]
    (unseen,) = [finding for finding in kafka if "the brokers' settings are not judged" in finding["what"]]
    assert "--operation DescribeConfigs --cluster" in unseen["fix"]


def test_a_right_that_is_missing_is_named(site: Site, unique_name: str) -> None:
    topic = f"{unique_name}.transaction"
    Admin({"bootstrap.servers": site.kafka.bootstrap}).create(topic, partitions=1, replicas=1, config={})
    options = site.options("SCRAM", sasl_username="cdc_sink")
    given: list[str] = []

    def denied(operation: str, *more: AclBinding) -> None:
        group = binding("cdc_sink", "cdc-", "Describe", "prefixed", ResourceType.GROUP)
        site.kafka.allow([*([group] if given else []), *(binding("cdc_sink", topic, one) for one in given), *more])
        with pytest.raises(CdcError) as caught:
            TRIES[operation](options, topic)
        error = caught.value
        assert error.code is KAFKA_DENIED, error
        assert error.exit_code == 5
        assert error.text == f"Kafka does not let this client {operation} topic {topic}"
        assert f"--allow-principal User:NAME --operation {operation} --topic {topic};" in error.hint
        given.append(operation)

    for operation in ("Describe", "DescribeConfigs", "Read"):
        denied(operation)
    with pytest.raises(CdcError, match="KAFKA_DENIED: Kafka does not let this client Write any topic"):
        _produce(options, topic)
    elsewhere = binding("cdc_sink", "elsewhere", "Write")
    denied("Write", elsewhere)
    site.kafka.allow([])
    with pytest.raises(CdcError, match=f"Create topic {topic}x"):
        _create(options, f"{topic}x")
    with pytest.raises(CdcError, match="Describe group cdc-reader"):
        _read(options, topic)


def _produce(options: Mapping[str, str], topic: str) -> None:
    producer = Producer(options)
    failed: list[CdcError] = []
    producer.produce_raw(
        topic, b"{}", on_delivery=lambda error, record: failed.append(producer.failed(error, record, "shop"))
    )
    try:
        while not failed:
            producer.poll(0.1)
    finally:
        producer.close()
    raise failed[0]


def _read(options: Mapping[str, str], topic: str) -> None:
    reader = Reader(options)
    reader.assign({(topic, 0): 0})
    try:
        for _ in range(50):
            reader.poll(1, 0.2)
    finally:
        reader.close()


def _create(options: Mapping[str, str], topic: str) -> None:
    Admin(options).create(topic, partitions=1, replicas=1, config={})


TRIES = {
    "Describe": lambda options, topic: Admin(options).describe([topic]),
    "DescribeConfigs": lambda options, topic: Admin(options).describe([topic]),
    "Read": _read,
    "Write": _produce,
}


def test_readers_may_not_write_and_nobody_sees_another_prefix(site: Site, unique_name: str) -> None:
    topic, other = f"{unique_name}.transaction", f"{unique_name}x.transaction"
    for name in (topic, other):
        Admin({"bootstrap.servers": site.kafka.bootstrap}).create(name, partitions=1, replicas=1, config={})
    site.kafka.allow([one for role in ROLES for one in statements(role, unique_name)])
    for role in ROLES[1:]:
        with pytest.raises(CdcError, match="Kafka does not let this client Write any topic"):
            _produce(site.options("SCRAM", sasl_username=role), topic)
    for role in ROLES:
        options = site.options("SCRAM", sasl_username=role)
        assert list(Admin(options).describe([topic])) == [topic]
        with pytest.raises(CdcError, match=f"KAFKA_DENIED.*Describe topic {other}"):
            Admin(options).describe([other])


def test_a_producer_that_may_not_write_is_closed_without_a_word(site: Site, unique_name: str) -> None:
    """Its client tells of the refusal in whatever call comes next; what it had to send is called back all the same."""
    topic = f"{unique_name}.transaction"
    Admin({"bootstrap.servers": site.kafka.bootstrap}).create(topic, partitions=1, replicas=1, config={})
    site.kafka.allow([binding("cdc_sink", topic, "Describe")])
    producer = Producer(site.options("SCRAM", sasl_username="cdc_sink"))
    called: list[object] = []
    for _ in range(3):
        producer.produce_raw(topic, b"{}", on_delivery=lambda error, _: called.append(error))
    time.sleep(3)
    producer.close()
    assert len(called) == 3
    assert producer.pending() == 0


def test_a_pipeline_runs_by_certificates_of_its_own(
    tmp_path: Path, database: Database, target_database: Database, site: Site
) -> None:
    """The name in the certificate is whom the rights are given to."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    options = site.options("MUTUAL")
    pipeline = Pipeline(
        tmp_path, database, target_database, options.pop("bootstrap.servers"), kafka_options=options
    )  # fmt: skip
    pipeline.publish()
    site.kafka.allow(own(statements("cdc_source", pipeline.name)))
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
    assert target_database.execute("SELECT * FROM t") == [(1,)]


def own(bindings: Sequence[AclBinding]) -> list[AclBinding]:
    return [
        AclBinding(
            one.restype, one.name, one.resource_pattern_type, "User:CN=cdc_source", one.host, one.operation,
            one.permission_type,
        )
        for one in bindings
    ]  # fmt: skip
