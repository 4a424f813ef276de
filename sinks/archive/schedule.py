"""When a base or an anchor is due, and since when it is late or overdue. Pure; moments are seconds since 1970.

In: what an archive is to have, what it has. Out: the job that is due, the next base, whether one is late or overdue.
Refuses: nothing.

The first base is due at once, in each epoch. With a time of day, a base is due at the last such time that is no more
than `base_every` after the one before it; an hour more is allowed, since days have 23 to 25 hours and a base begins a
little late. A base from the source is an anchor too, so an anchor waits for one that will soon be due.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cdc.measure import TimeOfDay
from cdc.sections import FROM_SOURCE, Archive

Job = Literal["backup", "anchor"]
_SLACK_S = 3600.0
_LATE_SHARE, _LATE_S = 0.25, 6 * 3600.0
"""So much of its interval, but not more, may a base be late before that is an alarm."""
_TAKING_S, _TAKING_TIMES = 300.0, 2.0
"""So long, or so many times as long as the last one took, a base may take before one asks what it does."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Of an `[archive.NAME]` section; None: never by itself."""

    base_every: float | None
    base_at: TimeOfDay | None
    from_source: bool
    anchor_every: float | None


def schedule_of(section: Archive) -> Schedule:
    return Schedule(section.base_every, section.base_at, section.base_from == FROM_SOURCE, section.anchor_every)


@dataclass(frozen=True, slots=True)
class Taken:
    """When the newest ones of an epoch were begun, and since when the epoch is archived."""

    since: float
    base: float | None = None
    anchor: float | None = None
    """Or a base from the source."""
    base_took: float = 0.0
    """From its begin to its end."""


def base_due(schedule: Schedule, taken: Taken) -> float | None:
    """When the next base is to begin; None for never."""
    if schedule.base_every is None:
        return None
    if taken.base is None:
        return taken.since
    latest = taken.base + schedule.base_every
    if schedule.base_at is None:
        return latest
    due = schedule.base_at.after(taken.base)
    while (later := schedule.base_at.after(due)) <= latest + _SLACK_S:
        due = later
    return due


def anchor_due(schedule: Schedule, taken: Taken) -> float | None:
    """When the next anchor is to be taken that is not a base; None for never."""
    if schedule.anchor_every is None:
        return None
    due = taken.since if taken.anchor is None else taken.anchor + schedule.anchor_every
    base = base_due(schedule, taken) if schedule.from_source else None
    return due if base is None or base > due + _SLACK_S else due + _SLACK_S


def job_due(schedule: Schedule, taken: Taken, now: float) -> Job | None:
    """What to begin now."""
    base, anchor = base_due(schedule, taken), anchor_due(schedule, taken)
    if base is not None and base <= now:
        return "backup"
    return "anchor" if anchor is not None and anchor <= now else None


def base_overdue(schedule: Schedule, taken: Taken, now: float) -> bool:
    """Whether somebody should look why there is no newer base."""
    due = base_due(schedule, taken)
    if due is None or schedule.base_every is None:
        return False
    return now > due + min(_LATE_S, _LATE_SHARE * schedule.base_every)


def base_late(schedule: Schedule, taken: Taken, now: float) -> bool:
    """Whether a base is not there although its time is past: it takes longer than the one before it, or fails."""
    due = base_due(schedule, taken)
    return due is not None and now > due + max(_TAKING_S, _TAKING_TIMES * taken.base_took)
