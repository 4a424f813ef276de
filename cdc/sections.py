"""The sections of the configuration, as values that are checked. What a process runs is one of them.

In: tables of the file. Out: `Kafka`, `Registry`, `Source`, `Debezium`, `Sink`, `Archive`, `Metrics`. Refuses, in words
for `config` to name file and section: values that are not supported, a password in a URL or in plain text, options of
Kafka that the promises rest on.

Secrets are read when a section's server or Kafka's options are asked for, so that a host needs only its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cdc.engine import Server, database_url, engine_of, server_of
from cdc.errors import (
    PASSWORD_IN_URL,
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


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Kafka(Section):
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


class Registry(Section):
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


class Source(Section):
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
            if not self.begin_after.strip():
                raise ValueError('begin_after is empty: it names what was brought before, "-" if nothing was')
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


class Debezium(Section):
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


class Sink(Section):
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


class Archive(Section):
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


class Metrics(Section):
    """`[metrics]`: the first unit of the file answers at `listen`, each further one a port higher."""

    listen: str

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f'{value!r} is not like "127.0.0.1:9187"')
        return value


def _matches(globs: Iterable[str], schema: str, table: str) -> bool:
    parts = (glob.partition(".") for glob in globs)
    return any(fnmatchcase(schema, s) and fnmatchcase(table, t) for s, _, t in parts)


def _password(secret: Secret | None, section: str) -> str | None:
    return None if secret is None else secret.resolve(section, "password")
