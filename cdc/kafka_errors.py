"""What the errors of Kafka's client mean: which pass, which want somebody, and what he is to do.

In: an error of librdkafka, the options it was given, what was asked for. Out: a `CdcError`. `Reports` collects what
the client says beside its calls. Refuses nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from confluent_kafka import KafkaError

from cdc.errors import (
    KAFKA_DENIED,
    KAFKA_LOGIN,
    KAFKA_REFUSED,
    KAFKA_TLS,
    KAFKA_UNREACHABLE,
    TOPIC_MISSING,
    CdcError,
)
from cdc.secret import redact
from cdc.tls import fault, speaks_tls

Options = Mapping[str, str]
_LOGIN = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}
_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}
REFUSALS = {
    *_LOGIN,
    *_DENIED,
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_CONFIG,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError._SSL,
}
_GUESS = "broker listener?"
"""Whether it is a port for another protocol, librdkafka asks itself at its first try alone."""
_ALERT = re.compile(r"SSL alert number (4[0-9]|116)\b")
"""The other side is not content with our certificate, or with there being none."""
_ADDRESS = re.compile(r"ssl://\[?(.+?)\]?:([0-9]+)/")
GONE = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID,
}
AWAY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._TRANSPORT}
LOST = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}


def kafka_error(
    options: Options, error: KafkaError, *, topic: str = "?", source: str | None = None, operation: str = "Describe"
) -> CdcError:
    """What an error of the client means for the loop. Unknown ones count as passing: the log decides what is lost."""
    code, bootstrap, problem = error.code(), options["bootstrap.servers"], redact(error.str())
    if code == KafkaError._SSL or _ALERT.search(problem):
        problem, fix = _distrust(options, problem)
        return CdcError(KAFKA_TLS, source=source, bootstrap=bootstrap, problem=problem, fix=fix)
    if code in _LOGIN:
        return CdcError(KAFKA_LOGIN, source=source, bootstrap=bootstrap, problem=problem)
    if code in _DENIED:
        return _denied(options, code, topic, operation)
    if code in REFUSALS:
        return CdcError(KAFKA_REFUSED, source=source, problem=problem)
    if code in GONE:
        return CdcError(TOPIC_MISSING, source=source or topic.partition(".")[0], topic=topic)
    return CdcError(KAFKA_UNREACHABLE, source=source, bootstrap=bootstrap, problem=problem)


def _denied(options: Options, code: int, topic: str, operation: str) -> CdcError:
    resource, option = f"topic {topic}", f"--topic {topic}"
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
        # Nobody joins it, but the client asks who keeps it.
        operation, resource, option = "Describe", f"group {options['group.id']}", f"--group {options['group.id']}"
    elif code == KafkaError.CLUSTER_AUTHORIZATION_FAILED and operation == "Write":
        # So is a producer told that may write nowhere.
        resource, option = "any topic", "--topic PREFIX. --resource-pattern-type prefixed"
    elif code == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
        resource, option = "the cluster", "--cluster"
    facts = {"bootstrap": options["bootstrap.servers"], "operation": operation, "resource": resource, "option": option}
    return CdcError(KAFKA_DENIED, **facts)


def _distrust(options: Options, problem: str) -> tuple[str, str]:
    """Who does not trust whom, and what to do. The client tells not why it trusts a broker's certificate too little."""
    if _ALERT.search(problem):
        return f"the broker wants a certificate of this client that it trusts: {problem}", (
            "ssl.certificate.location and ssl.key.location in [kafka.options], not expired, signed by an authority "
            "that the brokers trust"
        )
    address = _ADDRESS.search(problem)
    check_host = options.get("ssl.endpoint.identification.algorithm", "https") != "none"
    ca_file = options.get("ssl.ca.location")
    why = fault(address[1], int(address[2]), ca_file=ca_file, check_host=check_host) if address else ""
    return why or problem, (
        "ssl.ca.location in [kafka.options] names the authority that signed the brokers' certificates; those must "
        "not be expired, and name the host that clients connect to"
    )


class Reports:
    """Collects what librdkafka reports beside the calls; `check` raises what cannot pass by itself."""

    def __init__(self, options: Options, operation: str) -> None:
        self._options, self._operation = options, operation
        self._refusal: KafkaError | None = None
        self._last = ""
        self.all_down_at = 0.0

    def __call__(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.all_down_at = time.monotonic()
            return
        said = error.str()
        if _GUESS not in self._last:
            self._last = said
        if error.fatal() or error.code() in REFUSALS or _ALERT.search(said):
            self._refusal = error

    def check(self) -> None:
        if self._refusal:
            raise kafka_error(self._options, self._refusal, operation=self._operation)

    def unreachable(self) -> CdcError:
        """No broker answers, as far as can be told why."""
        self.check()
        bootstrap = self._options["bootstrap.servers"]
        problem = redact(self._last) or _why_silent(self._options) or "no answer"
        return CdcError(KAFKA_UNREACHABLE, bootstrap=bootstrap, problem=problem)


def _why_silent(options: Options) -> str:
    """A broker hangs up without a word on who speaks another protocol than its port."""
    host, _, port = options["bootstrap.servers"].partition(",")[0].rpartition(":")
    protocol = options.get("security.protocol", "plaintext").lower()
    if not port.isdigit() or not speaks_tls(host.strip("[]"), int(port)):
        return ""
    if not protocol.endswith("ssl"):
        return f'{host}:{port} speaks TLS: security.protocol = "SSL" or "SASL_SSL" in [kafka.options]'
    if protocol == "ssl":
        return f'{host}:{port} hangs up: security.protocol = "SASL_SSL" in [kafka.options], where it wants a login'
    return ""
