"""The pipelines of the demonstration: how they are configured, started, killed and waited for."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cdc.kafka import Reader
from cdc.log import End, Validity
from cdc.logparse import parse
from cdc.topics import log_topic
from tests.demo import billing, shop
from tests.demo.screen import CDC, console, run_cdc, run_setup, say, show, wait_until
from tests.demo.stage import FOLDER, Stage

LOAD_S = float(os.environ.get("DEMO_SECONDS", "80"))
KILLS = 3
"""Of each unit."""


@dataclass(frozen=True)
class Route:
    """One source into one replica. `sums` must be equal at any moment; `first` is a row to be shown."""

    source: str
    sink: str
    replica: str
    sums: str
    first: str

    def __str__(self) -> str:
        return f"{self.source} → {self.sink}"


_CUSTOMER = "SELECT id, email, visits FROM customers ORDER BY id LIMIT 1"
_ACCOUNT = "SELECT id, name, balance FROM billing.accounts ORDER BY id LIMIT 1"
ROUTES = (
    Route("shop", "eu", "eu", shop.SUMS, _CUSTOMER),
    Route("shop", "us", "us", shop.SUMS, _CUSTOMER),
    Route("billing", "eu-billing", "eu", billing.SUMS, _ACCOUNT),
)
SOURCES = ("shop", "billing")
UNITS = (
    ("source", "shop"), ("sink", "eu"), ("source", "billing"), ("sink", "us"), ("archive", "main.shop"),
    ("sink", "eu-billing"), ("archive", "main.billing"),
)  # fmt: skip


# -- from nothing to rows on every replica ----------------------------------------------------------------------
def configure(stage: Stage) -> None:
    """A cdc.toml as `cdc init` writes it, with the second source's sections after the first one's; then the roles."""
    kafka = ("--kafka", stage.bootstrap)
    run_cdc(
        stage, "init", stage["shop"].url_without_role, *kafka, "--sink", f"eu={stage['eu'].url_without_role}",
        "--sink", f"us={stage['us'].url_without_role}", "--archive", stage.archive_url,
    )  # fmt: skip
    config, other = FOLDER / "cdc.toml", FOLDER / "billing.toml"
    run_cdc(
        stage, "init", stage["billing"].url_without_role, *kafka, "--sink",
        f"eu-billing={stage['eu'].url_without_role}", "--config", str(other),
    )  # fmt: skip
    say("the sections of billing.toml go into cdc.toml: one file for both, and one archive")
    _, source, more = other.read_text().partition("[source.billing]")
    text = config.read_text().replace('# roll_every = "60s"', 'roll_every = "5s"')
    config.write_text(text.replace('sources = ["shop"]', 'sources = ["shop", "billing"]') + "\n" + source + more)
    say("setup prints the SQL that it runs; here only what it is for")
    for name in SOURCES:
        run_setup(stage, name, stage[name])
    for route in ROUTES:
        run_setup(stage, route.sink, stage[route.replica])
    run_cdc(stage, "check")


def start(stage: Stage) -> subprocess.Popen[bytes]:
    """`cdc up`, in a session of its own, so that KEEP=1 can leave it."""
    log = FOLDER / "up.log"
    show(["up"], f"> {log.name}")
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(CDC), "up"], env=stage.environment, stdout=output, stderr=output, start_new_session=True
        )
    stage.pipeline = process.pid
    stage.save()
    return process


def wait_for_first_rows(stage: Stage, began: float) -> None:
    """On screen as soon as they are on a replica."""
    waiting = list(ROUTES)

    def all_there() -> bool:
        for route in tuple(waiting):
            rows = stage[route.replica].ask(route.first)
            if rows:
                waiting.remove(route)
                row = ", ".join(map(str, rows[0]))
                say(f"{route}: first row on the replica after {time.monotonic() - began:.0f} s: {row}")
        return not waiting

    wait_until(all_there, "a row of each source on its replica")


def wait_for_copies(stage: Stage) -> None:
    """The base copies, a million accounts among them."""
    for route in ROUTES:
        replica = stage[route.replica]
        with console.status(f"{route}: base copy"):
            wait_until(lambda: replica.has_copied(route.sink), f"{route}: base copy", 600.0)  # noqa: B023 - run at once
        tables = f"{len(replica.tables(route.sink))} tables"
        if route.source == "shop":
            tables += f", {replica.ask('SELECT count(*) FROM pgbench_accounts')[0][0]:,} accounts"
        say(f"{route}: base copy done: {tables}")


# -- kills ------------------------------------------------------------------------------------------------------
def kill_again_and_again(pipeline: subprocess.Popen[bytes]) -> Counter[tuple[str, str]]:
    """SIGKILL to every unit in turn, at moments of chance."""
    kills: Counter[tuple[str, str]] = Counter()
    began = time.monotonic()
    for number in range(len(UNITS) * KILLS):
        unit = UNITS[number % len(UNITS)]
        due = began + LOAD_S * (number + random.uniform(0.3, 0.9)) / (len(UNITS) * KILLS)
        time.sleep(max(0.0, due - time.monotonic()))
        pid = _child_of(pipeline.pid, unit)
        os.kill(pid, signal.SIGKILL)
        kills[unit] += 1
        console.print(f"  [red]kill -9[/] {pid}  (cdc {unit[0]} run {unit[1]})")
    time.sleep(max(0.0, began + LOAD_S - time.monotonic()))
    return kills


def _child_of(parent: int, unit: tuple[str, str]) -> int:
    """The pid of `cdc <kind> run <name> …` under `cdc up`; waits while it is being started again."""
    words = b"\0".join(word.encode() for word in ("", unit[0], "run", unit[1], ""))
    found: list[int] = []

    def runs() -> bool:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if int(stat[1]) == parent and stat[0] != "Z" and words in command:
                found.append(int(folder.name))
        return bool(found)

    wait_until(runs, f"cdc {unit[0]} run {unit[1]} runs", every_s=0.1)
    return found[0]


# -- where they stand -------------------------------------------------------------------------------------------
def wait_until_caught_up(stage: Stage) -> dict[Route, float]:
    """Until every replica stands beyond everything that its source has committed; how long each took."""
    ends = {name: stage[name].position() for name in SOURCES}
    for name, position in ends.items():
        say(f"{name}: load over at {position}")
    began, took = time.monotonic(), dict[Route, float]()

    def all_have() -> bool:
        for route in ROUTES:
            if route not in took and stage[route.replica].has_applied(route.sink, ends[route.source]):
                took[route] = time.monotonic() - began
        return len(took) == len(ROUTES)

    wait_until(all_have, "every replica has all that its source has")
    return took


def log_of(stage: Stage, source: str) -> list[End]:
    """The valid ENDs; a hole in their numbers is an error."""
    reader, topic = Reader({"bootstrap.servers": stage.bootstrap}), log_topic(source)
    records = (parse(record.value() or b"") for record in reader.read_range(topic, 0, *reader.watermarks(topic, 0)))
    validity = Validity()
    ends = [record for record in records if record and validity.admit(record) and isinstance(record, End)]
    reader.close()
    numbers = [end.txn_seq for end in ends if end.numbered]
    if numbers != list(range(1, len(numbers) + 1)):
        sys.exit(f"the log of {source} has a hole in its numbers")
    return ends
