"""What a check found: one line, how bad it is, and the statement that mends it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
