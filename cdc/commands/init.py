"""`cdc init`: a commented cdc.toml for a source, its sinks and archives, and a key for each archive. The text is pure.

In: URLs of either engine, without passwords. Out: a file that `cdc.config.parse` takes; key files that only their
owner can read.
Refuses: a password in a URL, an engine or store that is not supported, a sink that is not NAME=URL, a file that is
there already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from cdc.config import parse
from cdc.engine import database_url, engine_of
from cdc.errors import ARGUMENT_INVALID, FILE_EXISTS, CdcError
from cdc.event import Engine
from cdc.secret import new_key
from cdc.sections import NAME, refuse_password, store_url
from cdc.topics import slot_name

_NOT_IN_NAME = re.compile(r"[^a-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class NewSection:
    """A section to be written."""

    name: str
    url: str

    @property
    def variable(self) -> str:
        return f"{self.name.upper().replace('-', '_')}_PASSWORD"


@dataclass(frozen=True, slots=True)
class NewArchive:
    """Likewise. `key` is the file that its key will be in."""

    name: str
    url: str
    key: Path


@dataclass(frozen=True, slots=True)
class Written:
    """`variables`: of the environment, that passwords are read from. `keys`: files of new keys."""

    variables: list[str]
    keys: list[Path]


def write_config(
    file: Path, source_url: str, kafka: str, sinks: Sequence[str], archives: Sequence[str] = ()
) -> Written:
    """Write the file, and a key for each archive."""
    source = NewSection(_name_of_database(source_url), _with_role(_checked(source_url, "the source"), "cdc_reader"))
    targets = [_sink(given) for given in sinks]
    stores = [_archive(given, file.absolute().parent) for given in archives]
    for what, named in (("sink", targets), ("archive", stores)):
        names = [one.name for one in named]
        if len(set(names)) < len(names):
            raise _invalid(f"two {what}s have one name", f"give each --{what} a name of its own")
    keys = [store.key for store in stores]
    for there in (file, *keys):
        if there.exists():
            raise CdcError(FILE_EXISTS, file=there)
    text = config_text(source, kafka, targets, stores)
    parse(text, file)
    for key in keys:
        _write_key(key)
    with file.open("x", encoding="utf-8") as new:
        new.write(text)
    return Written([source.variable, *(target.variable for target in targets)], keys)


def _write_key(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CdcError(FILE_EXISTS, file=file) from None
    with os.fdopen(descriptor, "w") as new:
        new.write(new_key() + "\n")


def config_text(
    source: NewSection, kafka: str, sinks: Sequence[NewSection], archives: Sequence[NewArchive] = ()
) -> str:
    """The whole file."""
    sections = [_HEAD.format(kafka=kafka), _source_text(source), *(_sink_text(sink, source.name) for sink in sinks)]
    sections += [_ARCHIVE.format(name=a.name, source=source.name, url=a.url, key=a.key) for a in archives]
    return "\n".join([*sections, _TAIL])


def _source_text(source: NewSection) -> str:
    on_mysql = engine_of(source.url) == "mysql"
    schema = (_database(source.url) or "*") if on_mysql else "public"
    place = schema if schema != "*" else "billing"
    topics = f"{source.name}.{place}.orders, …, {source.name}.transaction"
    return (_ON_MYSQL if on_mysql else _ON_POSTGRES).format(
        head=f"[source.{source.name}]".ljust(33) + f" # topics {topics}",
        url=source.url,
        link=_LINKS[engine_of(source.url)],
        variable=source.variable,
        tables=f'tables = ["{schema}.*"]'.ljust(33) + " ",
        glob="database.table" if on_mysql else "schema.table",
        exclude=f"{place}.sessions",
        gtids="0-1-42" if source.url.startswith("mariadb://") else "UUID:1-5",
        name=source.name,
        slot=slot_name(source.name),
    )


def _sink_text(sink: NewSection, source: str) -> str:
    return _SINK.format(
        name=sink.name, source=source, url=sink.url, link=_LINKS[engine_of(sink.url)], variable=sink.variable
    )


_LINKS: dict[Engine, str] = {
    "postgresql": "over a network: …?sslmode=verify-full&sslrootcert=/etc/cdc/ca.pem",
    "mysql": "over a network: …?ssl-mode=VERIFY_IDENTITY&ssl-ca=/etc/cdc/ca.pem",
}
_HEAD = """\
# cdc: one file for all hosts; a process reads only the secrets of [kafka], [registry] and its own section.
# A secret is "${{NAME}}" (environment) or "file:/path"; it is never written here.

[kafka]
bootstrap_servers = "{kafka}"
# replication_factor = 3          # of topics made here; default: 3, or as many as there are brokers
# retention = "7d"                # how long row events stay; longer than the longest outage of a sink

# [kafka.options]                 # librdkafka's properties under their own names
# security.protocol = "SASL_SSL"
# ssl.ca.location = "/etc/cdc/kafka-ca.pem"
# sasl.mechanism = "SCRAM-SHA-512"
# sasl.username = "cdc"
# sasl.password = "${{KAFKA_PASSWORD}}"

# [registry]                      # of schemas, by Confluent's API: for format = "avro"
# url = "https://registry.internal:8081"
# user = "cdc"
# password = "${{REGISTRY_PASSWORD}}"
# ca = "/etc/cdc/registry-ca.pem"
# certificate = "/etc/cdc/registry-client.pem"
# key = "/etc/cdc/registry-client.key"
# subjects = "topic"              # or "record", "topic-record"
"""
_SOURCE = """\
{head}
url = "{url}"  # {link}
password = "${{{variable}}}"
{tables}# globs {glob}; cdc check lists every table that stays out, and why
# exclude = ["{exclude}"]
# format = "json"                 # or "json-with-schema", or "avro", which needs [registry]
# types = "exact"                 # or "debezium": values as a Debezium with its default settings writes them
# topic_prefix = "{name}"
# partitions = 1                  # of each row topic; fixed once it exists
# heartbeat_every = "10s"
# max_record = "8MiB"             # a larger event stops the source by name
"""
_ON_POSTGRES = (
    _SOURCE
    + """\
# max_retained_wal = "20GiB"      # alarm before production's disk is in danger; default: none
# slot = "{slot}"
# publication = "{slot}"
# snapshot = "initial"            # "never": go on where the slot stands, that of a Debezium connector, say
"""
)
_ON_MYSQL = (
    _SOURCE
    + """\
# cascades = "refuse"             # "derive": sinks carry out what foreign keys do, which MySQL's log does not tell
# snapshot = "initial"            # "never", with begin_after = "{gtids}": go on behind these GTIDs
"""
)
_SINK = """\
[sink.{name}]
source = "{source}"
url = "{url}"  # {link}
password = "${{{variable}}}"
# existing_rows = "refuse"        # "truncate": empty a table that has rows of its own, then copy
"""
_ARCHIVE = """\
[archive.{name}]
sources = ["{source}"]
url = "{url}"
encryption_key = "file:{key}"     # keep a copy elsewhere: nothing can be restored without it. "none" is written out
# roll_every = "60s"              # how much a lost archiver host may not have archived yet
# base_every = "24h"              # or "never"; the first base is taken at once
# base_at = "02:30 Europe/Berlin"
# base_from = "source"            # or a sink's name: spare the source the reading
# anchor_every = "24h"            # digests of the source, to prove restores by; a base from the source is one
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


def _archive(given: str, directory: Path) -> NewArchive:
    name, _, url = ("main", "", given) if given.startswith(("s3://", "file://")) else given.partition("=")
    if not NAME.fullmatch(name):
        raise _invalid("--archive is neither a URL nor NAME=URL", f"NAME matches {NAME.pattern}")
    refuse_password(url, f"--archive {name}")
    try:
        return NewArchive(name, store_url(url), directory / f"archive-{name}.key")
    except ValueError as error:
        raise _invalid(f"--archive {name}: {error}", "s3://BUCKET/PREFIX") from None


def _checked(url: str, what: str) -> str:
    refuse_password(url, what)
    try:
        return database_url(url)
    except ValueError as error:
        raise _invalid(f"{what}: {error}", "postgresql://HOST/DATABASE or mysql://HOST/DATABASE") from None


def _with_role(url: str, role: str) -> str:
    """The role that setup makes, where the URL names none."""
    parts = urlsplit(url)
    if "@" in parts.netloc or not parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc}"))


def _name_of_database(url: str) -> str:
    """A section is called after its database: topics, slot and publication follow."""
    name = _NOT_IN_NAME.sub("-", _database(url).lower()).strip("-_")
    return name if NAME.fullmatch(name) else "main"


def _database(url: str) -> str:
    return unquote(urlsplit(url).path.strip("/"))


def _invalid(problem: str, fix: str) -> CdcError:
    return CdcError(ARGUMENT_INVALID, problem=problem, fix=fix)
