"""`cdc init`: a commented cdc.toml for a source and its sinks. The text is pure.

In: URLs without passwords. Out: a file that `cdc.config.parse` takes.
Refuses: a password in a URL, an engine that is not supported, a sink that is not NAME=URL, a file that is there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cdc.config import NAME, parse, postgres_url, refuse_password
from cdc.errors import ARGUMENT_INVALID, FILE_EXISTS, CdcError

_NOT_IN_NAME = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class NewSection:
    """A section to be written."""

    name: str
    url: str

    @property
    def variable(self) -> str:
        return f"{self.name.upper().replace('-', '_')}_PASSWORD"


def write_config(file: Path, source_url: str, kafka: str, sinks: Sequence[str]) -> list[str]:
    """Write the file; the environment variables that its passwords are read from."""
    if file.exists():
        raise CdcError(FILE_EXISTS, file=file)
    source = NewSection(_name_of_database(source_url), _with_role(_checked(source_url, "the source"), "cdc_reader"))
    targets = [_sink(given) for given in sinks]
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        raise _invalid("two sinks have one name", "give each --sink a name of its own")
    text = config_text(source, kafka, targets)
    parse(text, file)
    with file.open("x", encoding="utf-8") as new:
        new.write(text)
    return [source.variable, *(target.variable for target in targets)]


def config_text(source: NewSection, kafka: str, sinks: Sequence[NewSection]) -> str:
    """The whole file."""
    sections = [_HEAD.format(kafka=kafka), _source_text(source), *(_sink_text(sink, source.name) for sink in sinks)]
    return "\n".join([*sections, _TAIL])


def _source_text(source: NewSection) -> str:
    comment = f"# topics {source.name}.public.orders, …, {source.name}.transaction"
    return _SOURCE.format(head=f"[source.{source.name}]".ljust(34) + comment, url=source.url, variable=source.variable)


def _sink_text(sink: NewSection, source: str) -> str:
    return _SINK.format(name=sink.name, source=source, url=sink.url, variable=sink.variable)


_HEAD = """\
# cdc: one file for all hosts; a process reads only [kafka] and its own section's secrets.
# A secret is "${{NAME}}" (environment) or "file:/path"; it is never written here.

[kafka]
bootstrap_servers = "{kafka}"
# replication_factor = 3          # of topics made here; default: 3, or as many as there are brokers
# retention = "7d"                # how long row events stay; longer than the longest outage of a sink

# [kafka.options]                 # librdkafka's properties under their own names
# security.protocol = "SASL_SSL"
# sasl.mechanism = "SCRAM-SHA-512"
# sasl.username = "cdc"
# sasl.password = "${{KAFKA_PASSWORD}}"
"""
_SOURCE = """\
{head}
url = "{url}"
password = "${{{variable}}}"
tables = ["public.*"]             # globs schema.table; cdc check lists every table that stays out, and why
# exclude = ["public.sessions"]
# partitions = 1                  # of each row topic; fixed once it exists
# heartbeat_every = "10s"
# max_retained_wal = "20GiB"      # alarm before production's disk is in danger
# max_record = "8MiB"             # a larger event stops the source by name
"""
_SINK = """\
[sink.{name}]
source = "{source}"
url = "{url}"
password = "${{{variable}}}"
# existing_rows = "refuse"        # "truncate": empty a table that has rows of its own, then copy
"""
_TAIL = """\
# [metrics]                       # /metrics and /healthz: the first section here, each further one a port higher
# listen = "127.0.0.1:9187"
"""


# -- arguments --------------------------------------------------------------------------------------------------
def _sink(given: str) -> NewSection:
    name, equals, url = given.partition("=")
    if not equals or not NAME.fullmatch(name):
        raise _invalid("--sink is not NAME=URL", f"NAME matches {NAME.pattern}; no password in URL")
    return NewSection(name, _with_role(_checked(url, f"--sink {name}"), "cdc_writer"))


def _checked(url: str, what: str) -> str:
    refuse_password(url, what)
    try:
        return postgres_url(url)
    except ValueError as error:
        raise _invalid(f"{what}: {error}", "postgresql://HOST/DATABASE") from None


def _with_role(url: str, role: str) -> str:
    """The role that setup makes, where the URL names none."""
    parts = urlsplit(url)
    if "@" in parts.netloc or not parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc}"))


def _name_of_database(url: str) -> str:
    """A section is called after its database: topics, slot and publication follow."""
    name = _NOT_IN_NAME.sub("-", urlsplit(url).path.strip("/").lower()).strip("-_")
    return name if NAME.fullmatch(name) else "main"


def _invalid(problem: str, fix: str) -> CdcError:
    return CdcError(ARGUMENT_INVALID, problem=problem, fix=fix)
