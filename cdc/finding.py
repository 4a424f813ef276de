"""What a check found: one line, how bad it is, and the statement that mends it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

_CLOCKS_APART_S = 5.0


class Level(Enum):
    """FAIL: it will not work, the command exits 1. WARN: it works, and a promise is weaker. NOTE: good to know."""

    OK = "OK"
    NOTE = "NOTE"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `cdc check`. `fix` is what to run, empty where nothing is to be done."""

    level: Level
    what: str
    fix: str = ""


def ok(what: str) -> Finding:
    return Finding(Level.OK, what)


def note(what: str, fix: str = "") -> Finding:
    return Finding(Level.NOTE, what, fix)


def warn(what: str, fix: str = "") -> Finding:
    return Finding(Level.WARN, what, fix)


def fail(what: str, fix: str = "") -> Finding:
    return Finding(Level.FAIL, what, fix)


# -- findings of every engine -----------------------------------------------------------------------------------
def clocks(apart_s: float) -> Iterator[Finding]:
    """Lags are differences of a server's clock and ours."""
    if abs(apart_s) > _CLOCKS_APART_S:
        yield warn(
            f"the server's clock is {abs(apart_s):.0f} s {'before' if apart_s > 0 else 'behind'} this host's: lags are "
            "wrong by that much",
            "let both follow a time server (NTP)",
        )


def listed(names: tuple[str, ...] | list[str], most: int = 20) -> str:
    """The first of them, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
