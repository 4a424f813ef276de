"""What `cdc setup` and `cdc teardown` ask of a section and of an engine, whichever it is. Values, no I/O.

In: sections of the configuration. Out: the role that a URL names, the schemas that `tables` names; what a plan looks
like to whoever prints it. Refuses: a URL that names no role (SETUP_REFUSED).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from cdc.errors import SETUP_REFUSED, CdcError
from cdc.sections import Written

_GLOB = frozenset("*?[")
_REASONS = 5


class Step(Protocol):
    """One thing to do."""

    def text(self) -> str:
        """As `--dry-run` prints it, without secrets."""
        ...


class Plan(Protocol):
    """Steps, and what a reader should know besides."""

    @property
    def steps(self) -> Sequence[Step]: ...
    @property
    def notes(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What other sections of the configuration use too, and therefore stays. `home`: the place of our own tables.

    `named`: the sections of this kind, whose roles are known here.
    """

    role: bool = False
    home: bool = False
    named: frozenset[str] = frozenset()


def role_of(url: str, section: str) -> str:
    """The role that a section's URL logs in as."""
    name = urlsplit(url).username
    if not name:
        scheme = url.partition("://")[0]
        raise CdcError(SETUP_REFUSED, section=section, problem=f"its url names no role to make ({scheme}://ROLE@…)")
    return unquote(name)


def password_note(role: str, section: str) -> str:
    """Of a role that is there: sections of other files may use it too."""
    return (
        f"role {role} was there: its password is that of [{section}] from now on, for everything that logs in as it; a "
        "pipeline beside this one on the server needs the same password, or a role of its own in its url"
    )


def nothing_to_capture(tables: Sequence[str], left_out: Sequence[tuple[str, str]]) -> str:
    """What is wrong where `tables` matches nothing but these, each with the reason why it stays out."""
    told = [f"{table}: {why}" for table, why in left_out[:_REASONS]]
    if len(left_out) > _REASONS:
        told.append(f"and {len(left_out) - _REASONS} more, which cdc check names")
    found = "; ".join(told) or "no table is named so"
    return f"no table that can be captured matches tables = {', '.join(tables)} ({found})"


def named_schemas(source: Written) -> tuple[list[str], bool]:
    """The schemas that `tables` names, and whether a pattern may bring others."""
    named = sorted({glob.partition(".")[0] for glob in source.tables})
    schemas = [schema for schema in named if not _GLOB & set(schema)]
    return schemas, schemas != named
