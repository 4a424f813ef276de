"""Durations, sizes and times of day of the configuration, as text. Pure.

In: `"10s"`, `"20GiB"`; a plain number is seconds or bytes; `"02:30 Europe/Berlin"`. Out: seconds as float, bytes as
int, `TimeOfDay`. Refuses: another unit, another form, nothing or less, a zone that this system does not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, PlainValidator

_NUMBER_AND_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_CLOCK_AND_ZONE = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s+([A-Za-z0-9_+/-]+)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


def _measure(units: Mapping[str, float], example: str) -> BeforeValidator:
    def parse(value: object) -> object:
        if not isinstance(value, str):
            return value
        match = _NUMBER_AND_UNIT.fullmatch(value.strip())
        if not match or match[2] not in units:
            raise ValueError(f"{value!r} is not like {example}; units: {', '.join(units)}")
        return float(match[1]) * units[match[2]]

    return BeforeValidator(parse)


Duration = Annotated[float, _measure(_SECONDS, '"10s"'), Field(gt=0)]
"""In seconds."""
Size = Annotated[int, _measure(_BYTES, '"20GiB"'), Field(gt=0)]
"""In bytes."""


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A time on the clocks of a zone. One that a day's change of clocks leaves out comes an hour later."""

    at: time
    zone: ZoneInfo

    def after(self, moment: float) -> float:
        """The first moment behind this one, both in seconds since 1970, at which the clocks show it."""
        day = datetime.fromtimestamp(moment, self.zone).date()
        while True:
            found = datetime.combine(day, self.at, self.zone).timestamp()
            if found > moment:
                return found
            day += timedelta(days=1)

    @classmethod
    def parse(cls, value: object) -> TimeOfDay:
        match = _CLOCK_AND_ZONE.fullmatch(value.strip()) if isinstance(value, str) else None
        if not match:
            raise ValueError(f'{value!r} is not like "02:30 Europe/Berlin"')
        try:
            zone = ZoneInfo(match[3])
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{match[3]!r} is no time zone that this system knows") from None
        return cls(time(int(match[1]), int(match[2])), zone)


DailyTime = Annotated[TimeOfDay, PlainValidator(TimeOfDay.parse)]
