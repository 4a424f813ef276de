"""The configuration: one TOML file for all hosts; a process resolves only the secrets it asks for.

In: a file (--config, $CDC_CONFIG, ./cdc.toml, /etc/cdc/cdc.toml). Out: `Config` with its sections, checked.
Refuses, as usage errors that name file, section and key: unknown sections and keys (with the nearest known), what the
sections refuse, sections that do not fit together.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from cdc.engine import engine_of
from cdc.errors import (
    CONFIG_INVALID,
    CONFIG_MISSING,
    CONFIG_UNKNOWN_KEY,
    SECTION_UNKNOWN,
    CdcError,
)
from cdc.registry import RegistryServer
from cdc.sections import (
    FROM_SOURCE,
    Archive,
    Debezium,
    Kafka,
    Kind,
    Metrics,
    Registry,
    Section,
    Sink,
    Source,
    Written,
    refuse_password,
)

DEFAULT_FILE = Path("cdc.toml")
SYSTEM_FILE = Path("/etc/cdc/cdc.toml")


class Config(Section):
    """The whole file."""

    file: Path
    kafka: Kafka
    registry: Registry | None = None
    sources: dict[str, Source] = Field(default={}, alias="source")
    debezium: dict[str, Debezium] = Field(default={})
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
        case [("source" | "debezium" | "sink" | "archive") as kind, name, *keys]:
            where = f"[{kind}.{name}] {'.'.join(keys)}: "
        case [section, *keys]:
            where = f"[{section}] {'.'.join(keys)}: "
        case _:
            where = ""
    if error["type"] == "missing":
        return f"{where}is missing"
    return where + error["msg"].removeprefix("Value error, ")


_MODELS: dict[str, type[Section]] = {
    "kafka": Kafka, "registry": Registry, "source": Source, "debezium": Debezium, "sink": Sink, "archive": Archive,
    "metrics": Metrics,
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
