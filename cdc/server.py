"""A database server of a section, whatever its engine: who it is to us, and what its refusals mean. Pure.

In: an engine's session module subclasses `Endpoint` and sorts its driver's errors into three. Out: the catalogue's
error for the side that the server is on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address

from cdc.errors import (
    SOURCE_AUTH,
    SOURCE_PREREQUISITE,
    SOURCE_TLS,
    SOURCE_UNREACHABLE,
    TARGET_AUTH,
    TARGET_REFUSED,
    TARGET_TLS,
    TARGET_UNREACHABLE,
    CdcError,
)
from cdc.excerpt import WORDS, excerpt


class Side(Enum):
    SOURCE = "source"
    TARGET = "sink"


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and which section of the configuration it belongs to."""

    side: Side
    name: str
    url: str
    password: str | None = field(default=None, repr=False)
    purpose: str = ""
    """Of sessions that are not the section's own process; the server's list of sessions shows it."""

    @property
    def program(self) -> str:
        """What the server's list of sessions shows."""
        return f"cdc {self.side.value} {self.name} {self.purpose}".rstrip()

    def hidden(self, text: str) -> str:
        """On one line, not longer than anybody reads, without our password."""
        text = " ".join(text.split())
        return excerpt(text.replace(self.password, "***") if self.password else text, WORDS)

    def login_refused(self, user: str, problem: str) -> CdcError:
        if self.side is Side.SOURCE:
            return CdcError(SOURCE_AUTH, source=self.name, user=user, problem=problem)
        return CdcError(TARGET_AUTH, sink=self.name, user=user, problem=problem)

    def untrusted(self, problem: str, fix: str) -> CdcError:
        """No connection as private as it was asked for; `fix` names the parameters of the URL."""
        if self.side is Side.SOURCE:
            return CdcError(SOURCE_TLS, source=self.name, problem=problem, fix=fix)
        return CdcError(TARGET_TLS, sink=self.name, problem=problem, fix=fix)

    def unreachable(self, problem: str) -> CdcError:
        """Away, or busy: try again."""
        if self.side is Side.SOURCE:
            return CdcError(SOURCE_UNREACHABLE, source=self.name, problem=problem)
        return CdcError(TARGET_UNREACHABLE, sink=self.name, problem=problem)

    def refused(self, problem: str) -> CdcError:
        """The server does not do what we ask."""
        if self.side is Side.SOURCE:
            fix = f"see what is missing, and the statement that mends it, with: cdc check {self.name}"
            return CdcError(SOURCE_PREREQUISITE, source=self.name, problem=problem, fix=fix)
        return CdcError(TARGET_REFUSED, sink=self.name, problem=problem)
