"""`make bench-mysql`: our MySQL source beside Debezium's, and beside pymysqlreplication's decoding, on the same log.

In: nothing but the checkout. Out: one line per measure, medians over the runs; a folder in `results/`.
Ends with 1 if a target is missed. Contenders take turns. `--scale` shortens the workloads for a look at the harness.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench import topics
from tests.bench.__main__ import Ratio, conclude, keep, measures, new_results, say
from tests.bench.measure import Drain
from tests.bench.mysql_contenders import Contender, Debezium, Ours, Pymysqlreplication, Task
from tests.bench.mysql_workload import MIXED, SINGLE, create_source, generate
from tests.bench.workload import Workload
from tests.servers.fetch import ROOT
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL

SETTINGS: dict[str, str | int] = {"innodb-buffer-pool-size": "1G", "innodb-redo-log-capacity": "1G"}
RATIOS: dict[str, list[Ratio]] = {
    MIXED.name: [
        ("ours", "debezium", "events_per_s", ">= 2"),
        ("ours", "debezium", "cpu_us_per_event", ""),
        ("ours", "debezium", "peak_rss_mib", ""),
        ("ours", "pymysqlreplication", "events_per_s", ">= 8"),
        ("ours", "pymysqlreplication_frozen", "events_per_s", ""),
    ],
    SINGLE.name: [
        ("ours", "debezium", "events_per_s", ""),
        ("ours", "debezium", "cpu_us_per_event", ""),
        ("ours", "debezium", "peak_rss_mib", ""),
    ],
}


@contextmanager
def servers(settings: dict[str, str | int]) -> Iterator[tuple[MySQL, Kafka, Path]]:
    """Fresh ones, as durable as a user's: fsync on."""
    directory = ROOT / ".bench"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    with MySQL(directory / "mysql", settings, fsync=True) as source, Kafka(directory / "kafka", heap="1g") as kafka:
        yield source, kafka, directory
    shutil.rmtree(directory, ignore_errors=True)


def drain_all(
    source: MySQL, kafka: Kafka, directory: Path, workload: Workload, contenders: Sequence[Contender], runs: int
) -> Iterator[Drain]:
    """Every contender, `runs` times, on one making of the workload."""
    database = create_source(source, workload.name)
    tasks = [Task(directory, kafka, database, workload, run) for run in range(1, runs + 1)]
    for task in tasks:
        for contender in contenders:
            contender.prepare(task)
    started = time.monotonic()
    span = generate(database, workload)
    say(f"{workload.name}: {workload.events} changes in {workload.transactions} transactions made "
        f"in {time.monotonic() - started:.0f} s")  # fmt: skip
    for task in tasks:
        for contender in contenders:
            yield contender.drain(task, span)
    database.drop()
    topics.delete(kafka.bootstrap, [f"{contender.name}_{workload.name}_" for contender in contenders])


def main(arguments: Sequence[str]) -> int:
    """Run, print, keep."""
    chosen = _parse(arguments)
    results = new_results("-mysql", vars(chosen))
    drains: list[Drain] = []
    lines: list[tuple[str, float, str]] = []
    with servers(SETTINGS) as (source, kafka, directory):
        for workload in (MIXED, SINGLE):
            contenders = [each for each in _contenders(workload) if each.name in chosen.only]
            for drain in drain_all(source, kafka, directory, workload.scaled(chosen.scale), contenders, chosen.runs):
                drains.append(drain)
                keep(results, drain)
            lines += measures([drain for drain in drains if drain.workload == workload.name], RATIOS[workload.name])
    return conclude(results, lines)


def _contenders(workload: Workload) -> list[Contender]:
    both: list[Contender] = [Debezium(), Ours()]
    decoders = [Pymysqlreplication(frozen=False), Pymysqlreplication(frozen=True)]
    return [*both, *decoders] if workload.name == MIXED.name else both


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    everybody = [contender.name for contender in _contenders(MIXED)]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mysql", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=everybody, default=everybody)
    parser.add_argument("--scale", type=float, default=1.0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
