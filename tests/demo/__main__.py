"""`make demo`: replication on real servers, under load, while everything is killed; then an accident, and the way back.

Only public commands, each printed. Says `REPLICATED exactly`, ends with `PROVEN`, or non-zero. `make demo-down` ends
what KEEP=1 left.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
from rich.table import Table

from cdc.kafka import Reader
from cdc.log import End, Validity, parse
from cdc.topics import log_topic
from tests.demo.accident import lose_and_restore
from tests.demo.checker import Checker
from tests.demo.screen import CDC, ask, console, run_cdc, say, show
from tests.demo.shop import ADD_COLUMN, RATE, SCALE, Load, build
from tests.demo.stage import FOLDER, STATE, Stage, hold, lower_curtain, raise_curtain

LOAD_S = float(os.environ.get("DEMO_SECONDS", "80"))
KILLS = 4


def main() -> None:
    """The play; whatever ends it early ends everything it started."""
    try:
        play()
    except BaseException:
        lower_curtain()
        raise


def play() -> None:
    """One act after the other."""
    began = time.monotonic()
    say("real Postgres 18 (source, replica, a place to restore to) and Kafka, in .servers/demo")
    stage = raise_curtain()
    say(f"the source: pgbench's bank (scale {SCALE}) and a shop")
    build(stage.source_url, stage.source_password)
    configure(stage)
    pipeline = start_pipeline(stage)
    wait_for_first_row(stage, began)
    wait_for_copy(stage)
    replicate(stage, pipeline, began)
    verdict = lose_and_restore(stage)
    finish(stage, pipeline, verdict, time.monotonic() - began)


def replicate(stage: Stage, pipeline: subprocess.Popen[bytes], began: float) -> None:
    """Load and kills; the replica holds what the source holds."""
    checker = Checker(stage.replica_url, stage.replica_password)
    load = Load(stage.source_url, stage.source_password, RATE, alters=True)
    checker.start()
    load.start()
    say(f"both run at the source; for {LOAD_S:.0f} s every process is killed (SIGKILL), and cdc up starts it again")
    kills = kill_again_and_again(pipeline)
    load.stop()
    caught_up_s = wait_until_caught_up(stage)
    checker.stop()
    run_cdc(stage, "status")
    verified = run_cdc(stage, "verify", "shop", "--sink", "eu", check=False) == 0
    report(stage, load, checker, kills, caught_up_s, verified)
    if checker.violations or not verified:
        sys.exit("NOT REPLICATED exactly: see above")
    took_s = time.monotonic() - began
    console.print(f"[bold green]REPLICATED exactly[/]: every transaction once, whole, in order ({took_s:.0f} s)")


# -- the acts ---------------------------------------------------------------------------------------------------
def configure(stage: Stage) -> None:
    """A cdc.toml as `cdc init` writes it, then the roles."""
    run_cdc(
        stage, "init", without_role(stage.source_url), "--kafka", stage.bootstrap, "--sink",
        f"eu={without_role(stage.replica_url)}", "--archive", stage.archive_url,
    )  # fmt: skip
    config = FOLDER / "cdc.toml"
    config.write_text(config.read_text().replace('# roll_every = "60s"', 'roll_every = "5s"'))
    run_cdc(stage, "setup", "shop", "--admin-url", stage.source_url, env={"PGPASSWORD": stage.source_password})
    run_cdc(stage, "setup", "eu", "--admin-url", stage.replica_url, env={"PGPASSWORD": stage.replica_password})
    run_cdc(stage, "check")


def without_role(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def start_pipeline(stage: Stage) -> subprocess.Popen[bytes]:
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


def wait_for_first_row(stage: Stage, began: float) -> None:
    """On screen as soon as it is on the replica."""
    while True:
        rows = ask(stage, "SELECT id, email, visits FROM public.customers ORDER BY id LIMIT 1")
        if rows:
            say(f"first row on the replica after {time.monotonic() - began:.0f} s: customers {rows[0]}")
            return
        time.sleep(0.2)


def wait_for_copy(stage: Stage) -> None:
    """The base copy, a million accounts."""
    with console.status("base copy") as status:
        while True:
            states = ask(stage, "SELECT source_table, state FROM cdc.cdc_table ORDER BY 1")
            copying = [table for table, state in states if state != "ready"]
            if states and not copying:
                break
            status.update(f"base copy: {', '.join(map(str, copying))}")
            time.sleep(0.5)
    counts = ask(stage, "SELECT count(*) FROM public.pgbench_accounts")
    say(f"base copy done: {len(states)} tables, {counts[0][0]:,} accounts")


def kill_again_and_again(pipeline: subprocess.Popen[bytes]) -> dict[str, int]:
    """SIGKILL to source, sink and archive in turn, at moments of chance."""
    units = ("source", "sink", "archive")
    kills = dict.fromkeys(units, 0)
    began = time.monotonic()
    for number in range(len(units) * KILLS):
        unit = units[number % len(units)]
        due = began + LOAD_S * (number + random.uniform(0.3, 0.9)) / (len(units) * KILLS)
        time.sleep(max(0.0, due - time.monotonic()))
        pid = child_of(pipeline.pid, unit)
        os.kill(pid, signal.SIGKILL)
        kills[unit] += 1
        console.print(f"  [red]kill -9[/] {pid}  (cdc {unit} run)")
    time.sleep(max(0.0, began + LOAD_S - time.monotonic()))
    return kills


def child_of(parent: int, unit: str) -> int:
    """The pid of `cdc <unit> run …` under `cdc up`; waits while it is being started again."""
    while True:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if int(stat[1]) == parent and stat[0] != "Z" and unit.encode() in words:
                return int(folder.name)
        time.sleep(0.1)


def wait_until_caught_up(stage: Stage) -> float:
    """Until the replica stands beyond everything that the source has committed."""
    with psycopg.connect(stage.source_url, password=stage.source_password) as source:
        row = source.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    say(f"load over at {row[0]}; the replica catches up")
    began = time.monotonic()
    while not ask(stage, f"SELECT split_part(position, ':', 2)::pg_lsn >= '{row[0]}' FROM cdc.cdc_progress")[0][0]:
        if time.monotonic() - began > 90:
            sys.exit(f"the replica did not catch up within 90 s: see {FOLDER / 'up.log'}")
        time.sleep(0.2)
    return time.monotonic() - began


def report(
    stage: Stage,
    load: Load,
    checker: Checker,
    kills: dict[str, int],
    caught_up_s: float,
    verified: bool,  # noqa: FBT001
) -> None:
    """What was done and seen."""
    ends = log_of(stage)
    table = Table(show_header=False, box=None)
    rows = {
        "pgbench transactions": f"{load.bank_transactions:,}",
        "shop transactions": f"{load.shop_transactions:,} (10 KB rows, changed keys, a keyless table; {ADD_COLUMN})",
        "transactions in the log": f"{sum(end.numbered for end in ends):,}, numbered without a hole",
        "events": f"{sum(end.event_count for end in ends):,}",
        "kills (SIGKILL)": ", ".join(f"{unit} {count}" for unit, count in kills.items()),
        "readings of the replica": f"{checker.readings:,}",
        "violations": f"{len(checker.violations)}",
        "lag p50 / p99": f"{checker.lag(0.5):.2f} s / {checker.lag(0.99):.2f} s (kills included)",
        "caught up after the load": f"{caught_up_s:.1f} s",
        "digests": "equal at the same position" if verified else "DIFFERENT",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    for violation in checker.violations[:10]:
        console.print(f"[red]{violation}[/]")


def finish(stage: Stage, pipeline: subprocess.Popen[bytes], verdict: str, took_s: float) -> None:
    """End everything, unless KEEP=1; the verdict."""
    if os.environ.get("KEEP") == "1":
        console.print(f"left running: source {stage.source_url}, replica {stage.replica_url}, Kafka {stage.bootstrap}")
        console.print(f"restored {stage.restored_url}, archive {stage.archive_url}")
        console.print(f"topics shop.public.*, shop.transaction, shop; passwords in {STATE}; make demo-down ends it")
    else:
        pipeline.terminate()
        pipeline.wait(30)
        lower_curtain()
    console.print(f"[bold green]{verdict}[/] ({took_s:.0f} s in all)")


# -- small things -----------------------------------------------------------------------------------------------
def log_of(stage: Stage) -> list[End]:
    """The valid ENDs; a hole in their numbers is an error."""
    reader, topic = Reader({"bootstrap.servers": stage.bootstrap}), log_topic("shop")
    records = (parse(record.value() or b"") for record in reader.read_range(topic, 0, *reader.watermarks(topic, 0)))
    validity = Validity()
    ends = [record for record in records if record and validity.admit(record) and isinstance(record, End)]
    reader.close()
    numbers = [end.txn_seq for end in ends if end.numbered]
    if numbers != list(range(1, len(numbers) + 1)):
        sys.exit("the log has a hole in its numbers")
    return ends


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case ["hold"]:
            hold()
        case ["down"]:
            print("ended" if lower_curtain() else "nothing was running")
        case other:
            sys.exit(f"unknown: {json.dumps(other)}")
