"""What a sink's target says of itself, whatever its engine. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Applied:
    """A sink's progress row. It has no position before the first transaction."""

    epoch: int
    txn_seq: int
    position: str
    commit_ts_us: int | None


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """`applied` is None before the first transaction; `copying` are tables whose base copy is not closed.

    `waiting` is the code of the error that its process waits to pass.
    """

    connected: bool
    applied: Applied | None
    copying: tuple[str, ...]
    waiting: str | None = None
