"""Durations and sizes of the configuration: a number with a unit, as text. Pure.

In: `"10s"`, `"20GiB"`; a plain number is seconds or bytes. Out: seconds as float, bytes as int.
Refuses: another unit, another form, nothing or less.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

_NUMBER_AND_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
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
