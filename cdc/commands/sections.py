"""Which sections of the configuration a command means."""

from __future__ import annotations

from urllib.parse import urlsplit

from cdc.config import Config
from cdc.errors import SECTION_UNKNOWN, CdcError
from cdc.sections import Kind

Unit = tuple[Kind, str]


def chosen(config: Config, name: str | None) -> list[Unit]:
    """All, or those of this name: `shop`, or `source.shop` where a sink is called so too."""
    units = config.units()
    if name is None:
        return units
    found = [unit for unit in units if name in _names(unit)]
    if not found:
        known = ", ".join(".".join(unit) for unit in units) or "none"
        raise CdcError(SECTION_UNKNOWN, kind="source, sink or archive", name=name, file=config.file, known=known)
    return found


def _names(unit: Unit) -> tuple[str, ...]:
    """An archive's unit is also called by its section, as all of its sources together."""
    kind, name = unit
    if kind == "archive":
        section = name.partition(".")[0]
        return name, section, f"archive.{name}", f"archive.{section}"
    return name, f"{kind}.{name}"


def databases(config: Config, name: str | None) -> list[Unit]:
    """Of the chosen sections those that are databases."""
    return [unit for unit in chosen(config, name) if unit[0] != "archive"]


def url_of(config: Config, unit: Unit) -> str:
    kind, name = unit
    if kind == "archive":
        archive, source = config.archive(name)
        return archive.url_of(source)
    return config.source(name).url if kind == "source" else config.sink(name).url


def same_server(one: str, other: str, *, database: bool) -> bool:
    """Whether two URLs lead to one server, or one database there."""
    a, b = urlsplit(one), urlsplit(other)
    if (a.netloc.rpartition("@")[2], a.query) != (b.netloc.rpartition("@")[2], b.query):
        return False
    return a.path == b.path if database else True
