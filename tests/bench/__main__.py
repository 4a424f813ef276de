"""`make bench`: our source and sink beside Debezium and native replication, on the same changes.

In: nothing but the checkout. Out: one line per measure, medians over the runs; a folder in `results/` with
every sample. Ends with 1 if a target is missed. Contenders take turns, so that a slow minute of the machine
hits all of them. `--scale` shortens the workloads for a look at the harness; such figures mean nothing.
"""

import argparse
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench import topics
from tests.bench.contender import Bench, Contender, Task
from tests.bench.measure import Drain, measure_line, median, meets
from tests.bench.ours import OurSink, OurSource
from tests.bench.peer_debezium import Debezium
from tests.bench.peer_jdbc import JdbcSink
from tests.bench.peer_native import Native
from tests.bench.workload import MIXED, SINGLE, Workload, create_source, generate
from tests.servers.fetch import ROOT
from tests.servers.kafka import Kafka
from tests.servers.postgres import Postgres

RESULTS = Path(__file__).with_name("results")
SETTINGS: dict[str, str | int] = {
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "30min",
    "max_replication_slots": 40,
    "max_wal_senders": 40,
}
FIGURES: dict[str, Callable[[Drain], float]] = {
    "events": lambda drain: drain.events,
    "events_per_s": lambda drain: drain.events_per_second,
    "cpu_us_per_event": lambda drain: drain.cpu_us_per_event,
    "peak_rss_mib": lambda drain: drain.peak_rss_mib,
}
Ratio = tuple[str, str, str, str]
"""Ours, peer, figure, target of the ratio ours / peer."""
RATIOS: list[Ratio] = [
    ("ours", "debezium", "events_per_s", ">= 1.2"),
    ("ours", "debezium", "cpu_us_per_event", "<= 0.5"),
    ("ours", "debezium", "peak_rss_mib", ""),
    ("our_sink", "jdbc", "events_per_s", ">= 5"),
    ("our_sink", "jdbc", "cpu_us_per_event", ""),
    ("our_sink", "native", "events_per_s", ""),
]


@contextmanager
def servers() -> Iterator[Bench]:
    """Fresh ones, as durable as a user's: fsync on."""
    directory = ROOT / ".bench"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    with (
        Postgres(directory / "source", SETTINGS, fsync=True) as source,
        Postgres(directory / "target", SETTINGS, fsync=True) as target,
        Kafka(directory / "kafka", heap="1g") as kafka,
    ):
        yield Bench(source, target, kafka, directory)
    shutil.rmtree(directory, ignore_errors=True)


def drain_all(bench: Bench, workload: Workload, contenders: Sequence[Contender], runs: int) -> Iterator[Drain]:
    """Every contender, `runs` times, on one making of the workload."""
    database = create_source(bench.source, workload.name)
    tasks = [Task(bench, workload, run, database) for run in range(1, runs + 1)]
    for task in tasks:
        for contender in contenders:
            contender.prepare(task)
    started = time.monotonic()
    milestones = generate(database, workload)
    say(f"{workload.name}: {workload.events} changes in {workload.transactions} transactions made "
        f"in {time.monotonic() - started:.0f} s")  # fmt: skip
    for task in tasks:
        for contender in contenders:
            yield contender.drain(task, milestones)
    database.drop()
    names = {contender.name for contender in contenders} | {"schemas"}
    topics.delete(bench.kafka.bootstrap, [f"{name}_{workload.name}_" for name in names])


def measures(drains: Sequence[Drain], ratios: Sequence[Ratio]) -> Iterator[tuple[str, float, str]]:
    """Name, value, target: medians of every contender, then the ratios."""
    table: dict[tuple[str, str, str], float] = {}
    for workload in dict.fromkeys(drain.workload for drain in drains):
        for contender in dict.fromkeys(drain.contender for drain in drains):
            runs = [d for d in drains if (d.workload, d.contender) == (workload, contender)]
            for figure, of in FIGURES.items() if runs else ():
                table[workload, contender, figure] = median(runs, of)
                yield f"{workload}.{contender}.{figure}", table[workload, contender, figure], ""
        for ours, peer, figure, target in ratios:
            pair = table.get((workload, ours, figure)), table.get((workload, peer, figure))
            if pair[0] and pair[1]:
                yield f"{workload}.{ours}/{peer}.{figure}", pair[0] / pair[1], target


def new_results(kind: str, arguments: Mapping[str, object]) -> Path:
    """A folder for a run's raw output; what it ran on is there already."""
    results = RESULTS / time.strftime(f"%Y-%m-%dT%H-%M-%SZ{kind}", time.gmtime())
    results.mkdir()
    (results / "machine.json").write_text(json.dumps(machine(arguments), indent=1))
    return results


def keep(results: Path, drain: Drain) -> None:
    """Tell of one drain, and keep all its samples."""
    say(f"{drain.workload} run {drain.run}: {drain.contender} {drain.events_per_second:.0f} events/s, "
        f"{drain.cpu_us_per_event:.1f} µs CPU/event, {drain.peak_rss_mib:.0f} MiB; "
        f"strangers kept {drain.strangers_cores:.1f} cores busy")  # fmt: skip
    (results / f"{drain.workload}-{drain.contender}-{drain.run}.json").write_text(json.dumps(drain.raw()))


def conclude(results: Path, lines: Sequence[tuple[str, float, str]]) -> int:
    """Print the measures and keep them; 1 if a target is missed."""
    printed = [measure_line(*line) for line in lines]
    (results / "measures.txt").write_text("\n".join(printed) + "\n")
    print("\n".join(printed))
    missed = [name for name, value, target in lines if not meets(value, target)]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def main(arguments: Sequence[str]) -> int:
    """Run, print, keep."""
    chosen = _parse(arguments)
    results = new_results("", vars(chosen))
    drains: list[Drain] = []
    with servers() as bench:
        for workload in (MIXED, SINGLE):
            if workload.name in chosen.workloads:
                contenders = [each for each in _contenders(workload) if each.name in chosen.only]
                for drain in drain_all(bench, workload.scaled(chosen.scale), contenders, chosen.runs):
                    drains.append(drain)
                    keep(results, drain)
    return conclude(results, list(measures(drains, RATIOS)))


def _contenders(workload: Workload) -> list[Contender]:
    sources: list[Contender] = [Debezium(), OurSource()]
    sinks: list[Contender] = [JdbcSink(), OurSink(), Native()]
    return [*sources, *sinks] if workload.name == MIXED.name else [*sources, OurSink(), Native()]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    everybody = [contender.name for contender in _contenders(MIXED)]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=everybody, default=everybody)
    parser.add_argument("--workloads", nargs="+", choices=[MIXED.name, SINGLE.name], default=["mixed", "single"])
    parser.add_argument("--scale", type=float, default=1.0)
    return parser.parse_args(arguments)


def machine(arguments: Mapping[str, object]) -> dict[str, object]:
    """What the figures were measured on, and how."""
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "cpu": cpu[1] if cpu else "",
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
        "arguments": dict(arguments),
    }


def say(line: str) -> None:
    """To whoever watches; the measures are what is printed."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
