"""Watching a drain, and the lines that are printed.

In: a function that tells how many row changes have arrived, and the processes that do the work. Out: a
`Drain`: rate and CPU over the last two thirds of the changes, so that start-up and a cold JIT are outside,
peak memory over the whole life, every sample, and how many cores strangers kept busy meanwhile: on a machine of
two cores a neighbour halves the rate, while CPU per event hardly moves. A drain that stands still for a minute
raises.
"""

import os
import re
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

INTERVAL = 0.1
WARM_FROM = 1 / 3
STALLED_AFTER = 60.0


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment."""

    seconds: float
    events: float
    cpu_seconds: float


@dataclass(frozen=True)
class Drain:
    """One contender's run through one workload."""

    contender: str
    workload: str
    run: int
    events: int
    peak_rss_mib: float
    strangers_cores: float
    samples: Sequence[Sample] = field(repr=False)

    @property
    def warm(self) -> tuple[Sample, Sample]:
        """First and last sample of the last two thirds."""
        first = next(sample for sample in self.samples if sample.events >= self.events * WARM_FROM)
        return first, self.samples[-1]

    @property
    def events_per_second(self) -> float:
        """Over the warm span."""
        first, last = self.warm
        return (last.events - first.events) / (last.seconds - first.seconds)

    @property
    def cpu_us_per_event(self) -> float:
        """Over the warm span, user and system, all cores."""
        first, last = self.warm
        return (last.cpu_seconds - first.cpu_seconds) / (last.events - first.events) * 1e6

    def raw(self) -> dict[str, Any]:
        """Figures and samples, for the results folder."""
        figures = {
            "events_per_second": round(self.events_per_second),
            "cpu_us_per_event": round(self.cpu_us_per_event, 2),
            "peak_rss_mib": round(self.peak_rss_mib, 1),
            "strangers_cores": round(self.strangers_cores, 2),
        }
        samples = [[round(value, 3) for value in asdict(sample).values()] for sample in self.samples]
        return {**asdict(self), **figures, "samples": samples}


def watch(
    contender: str,
    workload: str,
    run: int,
    *,
    events: int,
    arrived: Callable[[], float],
    pids: Callable[[], Sequence[int]],
    explain: Callable[[], str],
) -> Drain:
    """Sample until all `events` have arrived; `explain` tells why they might not."""
    samples: list[Sample] = []
    start = moved = time.monotonic()
    peak, strangers_at_warm, warm_at = 0.0, 0.0, 0.0
    while True:
        due = start + INTERVAL * (len(samples) + 1)
        time.sleep(max(0.0, due - time.monotonic()))
        now, done = time.monotonic(), arrived()
        if samples and done > samples[-1].events:
            moved = now
        family = pids()
        peak = max(peak, sum(map(peak_rss_mib, family)))
        samples.append(Sample(now - start, min(done, events), sum(map(cpu_seconds, family))))
        if not warm_at and done >= events * WARM_FROM:
            strangers_at_warm, warm_at = strangers_cpu_seconds(), now
        if done >= events:
            strangers = max(0.0, strangers_cpu_seconds() - strangers_at_warm) / max(now - warm_at, INTERVAL)
            return Drain(contender, workload, run, events, peak, strangers, samples)
        if now - moved > STALLED_AFTER:
            raise RuntimeError(f"{contender} stands still at {done:.0f} of {events} changes: {explain()}")


def cpu_seconds(pid: int) -> float:
    """User and system time of one process so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def strangers_cpu_seconds() -> float:
    """Busy time of all cores so far, without this program, its children, and what it has waited for."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - sum(map(_cpu_with_dead_children, _family()))


def _family() -> list[int]:
    pids = [os.getpid()]
    for pid in pids:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                pids += map(int, children.read_text().split())
    return pids


def _cpu_with_dead_children(pid: int) -> float:
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def peak_rss_mib(pid: int) -> float:
    """The most memory one process ever had resident; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def median(drains: Sequence[Drain], figure: Callable[[Drain], float]) -> float:
    """Of one figure over several runs."""
    return statistics.median(map(figure, drains))


def measure_line(name: str, value: float, target: str = "") -> str:
    """`measure NAME VALUE [>= TARGET | <= TARGET]`."""
    shown = f"{value:.0f}" if value >= 1000 else f"{value:.2f}"
    return f"measure {name} {shown} {target}".rstrip()


def meets(value: float, target: str) -> bool:
    """Whether a value keeps to `>= X` or `<= X`; without a target it does."""
    if not target:
        return True
    comparison, bound = target.split()
    return value >= float(bound) if comparison == ">=" else value <= float(bound)
