"""The configuration: one TOML file for all hosts, as values; a process resolves only the secrets it asks for.

In: a file (--config, $CDC_CONFIG, ./cdc.toml, /etc/cdc/cdc.toml). Out: `Config` with its sections, checked.
Refuses, as usage errors that name file, section and key: unknown sections and keys (with the nearest known),
values that are not supported, a password in a URL or in plain text, Kafka options that the promises rest on.

Secrets are read when a section's server or Kafka's options are asked for, so that a host needs only its own.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from cdc.engine import Server, database_url, engine_of, server_of
from cdc.errors import (
    CONFIG_INVALID,
    CONFIG_MISSING,
    CONFIG_UNKNOWN_KEY,
    PASSWORD_IN_URL,
    SECTION_UNKNOWN,
    CdcError,
)
from cdc.event import Engine, Types
from cdc.kafka import FIXED_OPTIONS
from cdc.measure import DailyTime, Duration, Size
from cdc.position import parse_gtids
from cdc.registry import RegistryServer, SubjectStrategy
from cdc.secret import Secret, is_reference, parse_key
from cdc.server import Side
from cdc.storeurl import StoreUrl
from cdc.topics import slot_name

DEFAULT_FILE = Path("cdc.toml")
SYSTEM_FILE = Path("/etc/cdc/cdc.toml")

NAME = re.compile(r"[a-z][a-z0-9_-]*")
_SLOT = re.compile(r"[a-z0-9_]{1,63}")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,150}")
_SECRET_OPTION = re.compile(r"password|secret|key\.pem")
Format = Literal["json", "json-with-schema", "avro"]
Kind = Literal["source", "sink", "archive"]
"""Of a section that a process runs."""
_ALIASES = {
    "request.required.acks": "acks",
    "delivery.timeout.ms": "message.timeout.ms",
    "auto.commit.enable": "enable.auto.commit",
}
"""librdkafka's other names for properties that are ours."""
_NEVER_WANTED: dict[Engine, tuple[str, ...]] = {
    "postgresql": ("cdc", "information_schema"),
    "mysql": ("cdc", "information_schema", "performance_schema", "mysql", "sys"),
}
_OWN_OPTIONS = {
    "bootstrap.servers": "it is bootstrap_servers in [kafka]",
    "metadata.broker.list": "it is bootstrap_servers in [kafka]",
    "transactional.id": "the commit log makes transactions atomic without Kafka's",
    "group.id": "readers join no group",
}


def _secret(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        return Secret(value, _file_of(info))
    return value


def _file_of(info: ValidationInfo) -> str:
    return str((info.context or {}).get("file", "cdc.toml"))


def _only(*supported: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in supported:
            raise ValueError(f"{value!r} is not supported yet, only {' or '.join(map(repr, supported))}")
        return value

    return AfterValidator(check)


def _matching(pattern: re.Pattern[str]) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"{value!r} does not match {pattern.pattern}")
        return value

    return AfterValidator(check)


def refuse_password(url: str, what: str) -> None:
    """A URL stands in process lists, logs and files: no password in it."""
    parts = urlsplit(url)
    if parts.password is not None or {"password", "sslpassword"} & parse_qs(parts.query).keys():
        raise CdcError(PASSWORD_IN_URL, what=what)


def _glob(value: str) -> str:
    schema, dot, table = value.partition(".")
    if not (schema and dot and table):
        raise ValueError(f"{value!r} is not schema.table; each part may hold * and ?")
    return value


def _secret_or_none(value: object, info: ValidationInfo) -> object:
    return value if value == "none" else _secret(value, info)


def store_url(value: str) -> str:
    """A URL of a store that an archive can be kept in."""
    StoreUrl.parse(value)
    return value


def _never(value: object) -> object:
    return None if value == "never" else value


PlaceOfSecret = Annotated[Secret | None, BeforeValidator(_secret)]
Url = Annotated[str, AfterValidator(database_url)]
Name = Annotated[str, _matching(NAME)]
Glob = Annotated[str, AfterValidator(_glob)]
Interval = Annotated[Duration | None, BeforeValidator(_never)]
"""None for `"never"`."""
FROM_SOURCE = "source"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Kafka(_Section):
    """`[kafka]`."""

    bootstrap_servers: str = Field(min_length=1)
    options: dict[str, str | Secret] = Field(default={}, repr=False)
    """librdkafka's properties under their own names."""
    replication_factor: int | None = Field(default=None, ge=1)
    """Of topics we make; None: 3, or as many as there are brokers."""
    retention: Duration = 7 * 86400.0
    """How long row events stay. The log and the shapes stay for ever."""

    @field_validator("options", mode="before")
    @classmethod
    def _options(cls, given: Any, info: ValidationInfo) -> dict[str, str | Secret]:
        if not isinstance(given, dict):
            raise ValueError("expected a table of librdkafka's properties")  # noqa: TRY004 - pydantic's way
        return {name: _option(name, value, info) for name, value in _flat(given)}

    def resolved(self) -> dict[str, str]:
        """What a client of librdkafka is given."""
        options = {
            name: value.resolve("kafka.options", name) if isinstance(value, Secret) else value
            for name, value in self.options.items()
        }
        return {"bootstrap.servers": self.bootstrap_servers, **options}


def _flat(given: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """`sasl.mechanism = …` without quotes is a table in a table to TOML."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _option(name: str, value: object, info: ValidationInfo) -> str | Secret:
    fixed = _ALIASES.get(name, name)
    if fixed in FIXED_OPTIONS:
        raise ValueError(f"{name} cannot be set: the promises rest on its being {FIXED_OPTIONS[fixed]!r}")
    if name in _OWN_OPTIONS:
        raise ValueError(f"{name} cannot be set: {_OWN_OPTIONS[name]}")
    if isinstance(value, Secret):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise ValueError(f"{name} is not a text, number or truth value")  # noqa: TRY004 - pydantic's way
    if is_reference(str(value)) or _SECRET_OPTION.search(name):
        try:
            return Secret(str(value), _file_of(info))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return str(value)


class Registry(_Section):
    """`[registry]`: the schema registry that Avro needs, by Confluent's API."""

    url: str
    """One, or several with commas between them."""
    user: str | None = None
    password: PlaceOfSecret = None
    ca: str | None = None
    """A file of certificates to trust instead of the system's."""
    certificate: str | None = None
    key: str | None = None
    subjects: SubjectStrategy = "topic"

    @field_validator("url")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for url in value.split(","):
            parts = urlsplit(url.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url.strip()!r} is not like https://registry.internal:8081")
            if parts.username is not None:
                raise ValueError("a login is not written here: user and password are keys of their own")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        if self.key is not None and self.certificate is None:
            raise ValueError("key is that of a certificate, which is not named")
        return self

    def server(self) -> RegistryServer:
        return RegistryServer(
            tuple(url.strip() for url in self.url.split(",")),
            self.user,
            _password(self.password, "registry"),
            self.ca,
            self.certificate,
            self.key,
            self.subjects,
        )


class Source(_Section):
    """`[source.NAME]`: a database that is captured."""

    name: Name
    url: Url
    password: PlaceOfSecret = None
    tables: tuple[Glob, ...] = Field(min_length=1)
    exclude: tuple[Glob, ...] = ()
    snapshot: Annotated[str, _only("initial", "never")] = "initial"
    """`never`: go on where somebody else stopped, a Debezium connector, say."""
    begin_after: str | None = None
    """With it, of MySQL: every transaction up to there, as GTIDs. A slot of Postgres knows its own place."""
    format: Format = "json"
    types: Types = "exact"
    slot: Annotated[str, _matching(_SLOT)] = ""
    publication: str = Field(default="", max_length=63)
    topic_prefix: Annotated[str, _matching(_PREFIX)] = ""
    partitions: int = Field(default=1, ge=1)
    """Of each row topic."""
    heartbeat_every: Duration = 10.0
    max_retained_wal: Size | None = None
    cascades: Annotated[str, _only("refuse", "derive")] = "refuse"
    """Of MySQL's foreign keys, whose changes to rows are not in its log: `derive` has sinks carry them out too."""
    max_record: Size = 8 * 2**20

    @model_validator(mode="before")
    @classmethod
    def _named_after_it(cls, given: Any) -> Any:
        name = given.get("name") if isinstance(given, dict) else None
        if not isinstance(name, str):
            return given
        return {"slot": slot_name(name), "publication": slot_name(name), "topic_prefix": name, **given}

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        slotless = self.engine != "postgresql"
        if (self.begin_after is not None) != (slotless and self.snapshot == "never"):
            raise ValueError(
                'snapshot = "never" and begin_after = "…" go together'
                if slotless
                else "begin_after is for MySQL: a slot knows its own place"
            )
        if self.begin_after is not None:
            try:
                parse_gtids(self.begin_after)
            except ValueError as error:
                raise ValueError(f"begin_after: {error}") from None
        return self

    def wanted(self, schema: str, table: str) -> bool:
        """Whether a table is to be captured. Ours and the server's own schemas never are."""
        if schema in _NEVER_WANTED[self.engine] or (self.engine == "postgresql" and schema.startswith("pg_")):
            return False
        return _matches(self.tables, schema, table) and not _matches(self.exclude, schema, table)

    @property
    def engine(self) -> Engine:
        return engine_of(self.url)

    def server(self) -> Server:
        return server_of(Side.SOURCE, self.name, self.url, _password(self.password, f"source.{self.name}"))


class Debezium(_Section):
    """`[debezium.NAME]`: topics that a Debezium connector writes, for sinks to read in place of a source's."""

    name: Name
    topic_prefix: Annotated[str, _matching(_PREFIX)] = ""

    @model_validator(mode="before")
    @classmethod
    def _named_after_it(cls, given: Any) -> Any:
        name = given.get("name") if isinstance(given, dict) else None
        return {"topic_prefix": name, **given} if isinstance(name, str) else given

    @property
    def tables(self) -> tuple[str, ...]:
        """The connector chooses them."""
        return ("*.*",)

    def wanted(self, schema: str, table: str) -> bool:
        """Whether a table of a replica may be one of them."""
        return schema not in _NEVER_WANTED["postgresql"] and not schema.startswith("pg_") and bool(table)


class Sink(_Section):
    """`[sink.NAME]`: a replica."""

    name: Name
    source: str
    url: Url
    password: PlaceOfSecret = None
    existing_rows: Annotated[str, _only("refuse", "truncate")] = "refuse"

    def server(self) -> Server:
        return server_of(Side.TARGET, self.name, self.url, _password(self.password, f"sink.{self.name}"))


Written = Source | Debezium
"""What a sink reads."""


class Archive(_Section):
    """`[archive.NAME]`: log and base snapshots of sources in object storage, each under `url`/SOURCE."""

    name: Name
    sources: tuple[str, ...] = Field(min_length=1)
    url: Annotated[str, AfterValidator(store_url)]
    encryption_key: Annotated[Secret | Literal["none"], BeforeValidator(_secret_or_none)]
    roll_every: Duration = 60.0
    base_every: Interval = 86400.0
    base_at: DailyTime | None = None
    base_from: str = FROM_SOURCE
    """`"source"`, or the name of a sink of it."""
    anchor_every: Interval = 86400.0

    @model_validator(mode="after")
    def _base_at_once_a_day(self) -> Self:
        if self.base_at is not None and self.base_every is not None and self.base_every < 86400:
            raise ValueError('base_at names one time a day: base_every must be "24h" or more')
        return self

    def url_of(self, source: str) -> str:
        place, mark, parameters = self.url.partition("?")
        return f"{place.rstrip('/')}/{source}{mark}{parameters}"

    def key(self) -> bytes | None:
        """None where `"none"` was written out."""
        if isinstance(self.encryption_key, str):
            return None
        return parse_key(self.encryption_key.resolve(f"archive.{self.name}", "encryption_key"))


class Metrics(_Section):
    """`[metrics]`: the first unit of the file answers at `listen`, each further one a port higher."""

    listen: str

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f'{value!r} is not like "127.0.0.1:9187"')
        return value


class Config(_Section):
    """The whole file."""

    file: Path
    kafka: Kafka
    registry: Registry | None = None
    sources: dict[str, Source] = Field(default={}, alias="source")
    debezium: dict[str, Debezium] = {}
    sinks: dict[str, Sink] = Field(default={}, alias="sink")
    archives: dict[str, Archive] = Field(default={}, alias="archive")
    metrics: Metrics | None = None

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        for name in self.debezium:
            if name in self.sources:
                raise ValueError(f"[debezium.{name}] and [source.{name}] have one name: sinks could mean either")
        for name, sink in self.sinks.items():
            if sink.source not in self.sources and sink.source not in self.debezium:
                near = _nearest(sink.source, [*self.sources, *self.debezium], "; did you mean {}?")
                raise ValueError(f"[sink.{name}] source: there is no [source.{sink.source}]{near}")
            if sink.source in self.debezium and engine_of(sink.url) != "postgresql":
                raise ValueError(f"[sink.{name}] reads [debezium.{sink.source}], which only Postgres replicas can yet")
        for name, archive in self.archives.items():
            self._archive_fits(name, archive)
        for name, source in self.sources.items():
            if source.format == "avro" and self.registry is None:
                raise ValueError(f'[source.{name}] format = "avro" needs a [registry] with its url')
        prefixes = [source.topic_prefix for source in self.sources.values()]
        for prefix in prefixes:
            if prefixes.count(prefix) > 1:
                raise ValueError(f"two sources would write the topics of prefix {prefix!r}")
        return self

    def _archive_fits(self, name: str, archive: Archive) -> None:
        for source in archive.sources:
            if source not in self.sources:
                near = _nearest(source, self.sources, "; did you mean {}?")
                raise ValueError(f"[archive.{name}] sources: there is no [source.{source}]{near}")
            self._base_from_fits(name, archive.base_from, source)

    def _base_from_fits(self, name: str, base_from: str, source: str) -> None:
        if base_from == FROM_SOURCE:
            return
        if base_from not in self.sinks:
            near = _nearest(base_from, [FROM_SOURCE, *self.sinks], "; did you mean {}?")
            raise ValueError(f"[archive.{name}] base_from: there is no [sink.{base_from}]{near}")
        if self.sinks[base_from].source != source:
            raise ValueError(f"[archive.{name}] base_from: [sink.{base_from}] is no replica of source {source}")

    def source(self, name: str) -> Source:
        if name not in self.sources:
            raise self._unknown("source", name, self.sources)
        return self.sources[name]

    def written(self, name: str) -> Written:
        """Whatever a sink reads: what one of our sources writes, or a Debezium connector."""
        return self.debezium[name] if name in self.debezium else self.source(name)

    def sink(self, name: str) -> Sink:
        if name not in self.sinks:
            raise self._unknown("sink", name, self.sinks)
        return self.sinks[name]

    def archive(self, name: str) -> tuple[Archive, str]:
        """An archive and one of its sources, by `NAME.SOURCE`; by `NAME` where there is one source."""
        section, _, source = name.partition(".")
        if section not in self.archives:
            raise self._unknown("archive", section, self.archives)
        archive = self.archives[section]
        if not source and len(archive.sources) == 1:
            return archive, archive.sources[0]
        if source not in archive.sources:
            raise self._unknown("archive", name, [f"{section}.{one}" for one in archive.sources])
        return archive, source

    def kafka_options(self) -> dict[str, str]:
        """What every client of Kafka is given."""
        return self.kafka.resolved()

    def registry_server(self) -> RegistryServer | None:
        """None where no registry is configured."""
        return None if self.registry is None else self.registry.server()

    def units(self) -> list[tuple[Kind, str]]:
        """Every section that a process runs, sources first, in the file's order."""
        return [
            *(("source", name) for name in self.sources),
            *(("sink", name) for name in self.sinks),
            *(("archive", f"{name}.{source}") for name, archive in self.archives.items() for source in archive.sources),
        ]

    def metrics_address(self, kind: Kind, name: str) -> tuple[str, int] | None:
        """Where a unit answers /metrics and /healthz."""
        if self.metrics is None:
            return None
        host, _, port = self.metrics.listen.rpartition(":")
        return host.strip("[]"), int(port) + self.units().index((kind, name))

    def _unknown(self, kind: str, name: str, known: Iterable[str]) -> CdcError:
        names = ", ".join(known) or "none"
        return CdcError(SECTION_UNKNOWN, kind=kind, name=name, file=self.file, known=names)


def _matches(globs: Iterable[str], schema: str, table: str) -> bool:
    parts = (glob.partition(".") for glob in globs)
    return any(fnmatchcase(schema, s) and fnmatchcase(table, t) for s, _, t in parts)


def _password(secret: Secret | None, section: str) -> str | None:
    return None if secret is None else secret.resolve(section, "password")


# -- the file -----------------------------------------------------------------------------------------------
def find(path: Path | None = None) -> Path:
    """The file that holds: the one named, else $CDC_CONFIG, ./cdc.toml, /etc/cdc/cdc.toml."""
    named = path or (Path(os.environ["CDC_CONFIG"]) if os.environ.get("CDC_CONFIG") else None)
    places = [named] if named else [DEFAULT_FILE, SYSTEM_FILE]
    for place in places:
        if place.is_file():
            return place
    raise CdcError(CONFIG_MISSING, places=", ".join(map(str, places)))


def load(path: Path | None = None) -> Config:
    """The configuration of this process."""
    file = find(path)
    try:
        return parse(file.read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise CdcError(CONFIG_INVALID, file=file, problem=f"cannot be read: {error}") from None


def parse(text: str, file: Path) -> Config:
    """The configuration in a text."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CdcError(CONFIG_INVALID, file=file, problem=f"not TOML: {error}") from None
    if "file" in given:
        raise _unknown_key(file, (), "file")
    for kind in ("source", "debezium", "sink", "archive"):
        given[kind] = _named_sections(kind, given.get(kind, {}), file)
    try:
        return Config.model_validate({**given, "file": file}, context={"file": str(file)})
    except ValidationError as error:
        raise _refused(file, error.errors(include_input=False, include_url=False)) from None


def _named_sections(kind: str, sections: Any, file: Path) -> dict[str, Any]:
    if not isinstance(sections, dict) or not all(isinstance(body, dict) for body in sections.values()):
        raise CdcError(CONFIG_INVALID, file=file, problem=f"a {kind} has a name: [{kind}.NAME]")
    named = {}
    for name, body in sections.items():
        if "name" in body:
            raise _unknown_key(file, (kind, name), "name")
        if isinstance(body.get("url"), str):
            refuse_password(body["url"], f"[{kind}.{name}]")
        named[name] = {**body, "name": name}
    return named


def _refused(file: Path, errors: list[ErrorDetails]) -> CdcError:
    for error in errors:
        *section, key = error["loc"] or ("",)
        if error["type"] == "extra_forbidden":
            return _unknown_key(file, tuple(map(str, section)), str(key))
    return CdcError(CONFIG_INVALID, file=file, problem="; ".join(map(_problem, errors)))


def _problem(error: ErrorDetails) -> str:
    """Where and what; never the value itself, which may be a secret in the wrong place."""
    match [str(part) for part in error["loc"]]:
        case [("source" | "sink" | "archive") as kind, name, *keys]:
            where = f"[{kind}.{name}] {'.'.join(keys)}: "
        case [section, *keys]:
            where = f"[{section}] {'.'.join(keys)}: "
        case _:
            where = ""
    if error["type"] == "missing":
        return f"{where}is missing"
    return where + error["msg"].removeprefix("Value error, ")


_MODELS: dict[str, type[_Section]] = {
    "kafka": Kafka, "source": Source, "sink": Sink, "archive": Archive, "metrics": Metrics,
}  # fmt: skip


def _unknown_key(file: Path, section: tuple[str, ...], key: str) -> CdcError:
    model = _MODELS[section[0]] if section else Config
    names = [field.alias or name for name, field in model.model_fields.items()]
    known = [name for name in names if name not in ("name", "file")]
    nearest = _nearest(key, known, "did you mean {}?") or f"known there: {', '.join(known)}"
    where = ".".join(section) or "top level"
    return CdcError(CONFIG_UNKNOWN_KEY, file=file, section=where, key=key, nearest=nearest)


def _nearest(word: str, known: Iterable[str], text: str) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return text.format(near[0]) if near else ""
