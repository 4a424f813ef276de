"""Where sequences stood at a cut, out of what was sampled around it. Pure.

In: a base's values, the samples of segments and head. Out: for each sequence of the base how far it had come at most,
upwards and downwards; names that the base does not hold. Refuses: nothing.

A sample says what a sequence was at some time after its heartbeat. So the first one behind the cut is not behind the
cut's own value; where that one does not name a sequence, it had not moved since the one before (CORRECTNESS 36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sinks.archive.manifest import Segment

Value = tuple[int, bool]
"""`last_value` and `is_called`."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The least and the greatest value that one may have had at the cut: a descending one is set to the least."""

    lowest: Value
    highest: Value


def reached(
    base: Mapping[str, Value], segments: Sequence[Segment], head: Mapping[str, int], cut: int
) -> tuple[dict[str, Reached], list[str]]:
    """`segments` follow the base to the archive's end, `cut` is the last transaction in. Also: what came later."""
    seen: dict[str, list[Value]] = {name: [value] for name, value in base.items()}
    for samples in _around(segments, head, cut):
        for name, value in samples.items():
            seen.setdefault(name, []).append((value, True))
    found = {name: Reached(min(seen[name], key=_downwards), max(seen[name])) for name in base}
    return found, sorted(seen.keys() - base.keys())


def _around(segments: Sequence[Segment], head: Mapping[str, int], cut: int) -> list[Mapping[str, int]]:
    """Up to the cut's segment all, and behind it the first that were taken."""
    before = [segment.sequences for segment in segments if segment.first_seq <= cut]
    behind = [segment.sequences for segment in segments if segment.first_seq > cut]
    return [*before, next((samples for samples in [*behind, head] if samples), {})]


def _downwards(value: Value) -> tuple[int, bool]:
    return value[0], not value[1]
