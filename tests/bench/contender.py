"""What every contender is: prepared before the changes exist, it drains them afterwards."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bench.measure import Drain
from tests.bench.workload import Milestones, Workload
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres


@dataclass(frozen=True)
class Bench:
    """The servers, and a folder for what the contenders write."""

    source: Postgres
    target: Postgres
    kafka: Kafka
    directory: Path


@dataclass(frozen=True)
class Task:
    """One workload, one of its runs, and the database on the source that holds it."""

    bench: Bench
    workload: Workload
    run: int
    database: Database

    def name(self, contender: str) -> str:
        """For slots, topic prefixes, databases and folders."""
        return f"{contender}_{self.workload.name}_{self.run}"


class Contender(Protocol):
    """A program that is measured."""

    @property
    def name(self) -> str:
        """As it stands in the measures."""
        ...

    def prepare(self, task: Task) -> None:
        """Make the slot, so that the changes to come are kept for it."""
        ...

    def drain(self, task: Task, milestones: Milestones) -> Drain:
        """Carry them over, measured; raises if what arrived is not what was sent."""
        ...


def create_slot(task: Task, slot: str) -> None:
    """A pgoutput slot on the source."""
    task.database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])


def expect(
    what: str, seen: Callable[[], object], expected: object, explain: Callable[[], str], timeout: float = 60
) -> None:
    """Wait until `seen` is as expected; a contender that loses or doubles changes has no figures."""
    deadline = time.monotonic() + timeout
    while (found := seen()) != expected:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: {found} instead of {expected}: {explain()}")
        time.sleep(0.5)
