"""`make demo`: replication on real servers, under load, while everything is killed; then accidents, and the way back.

Only public commands, each printed. Says `REPLICATED exactly`, ends with `PROVEN`, or non-zero. `make demo-down` ends
what KEEP=1 left.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

from rich.table import Table

from tests.demo import billing, shop
from tests.demo.accident import lose_and_restore
from tests.demo.billing import Bookkeeping
from tests.demo.checker import Checker
from tests.demo.pipeline import (
    LOAD_S,
    ROUTES,
    SOURCES,
    Route,
    configure,
    kill_again_and_again,
    log_of,
    start,
    wait_for_copies,
    wait_for_first_rows,
    wait_until_caught_up,
)
from tests.demo.screen import console, head, run_cdc, say
from tests.demo.shop import RATE, SCALE, Load
from tests.demo.stage import STATE, Stage, hold, lower_curtain, raise_curtain


def main() -> None:
    """The play; whatever ends it early ends everything it started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        play()
    except BaseException:
        lower_curtain()
        raise


def play() -> None:
    """One act after the other."""
    began = time.monotonic()
    head("Servers and sources")
    say("real servers in .servers/demo: two Postgres 18, two MySQL 8.0, each pair a source and a replica; and Kafka")
    stage = raise_curtain()
    say(f"shop, on Postgres: pgbench's bank (scale {SCALE}) and a shop")
    shop.build(stage["shop"].url, stage["shop"].password)
    say("billing, on MySQL: accounts, invoices, payments, and MySQL's own types")
    billing.build(stage["billing"])
    head("Three pipelines: shop → eu (Postgres), shop → us (MySQL), billing → eu (Postgres)")
    configure(stage)
    pipeline = start(stage)
    wait_for_first_rows(stage, began)
    wait_for_copies(stage)
    replicate(stage, pipeline, began)
    verdicts = lose_and_restore(stage)
    finish(stage, pipeline, verdicts, time.monotonic() - began)


def replicate(stage: Stage, pipeline: subprocess.Popen[bytes], began: float) -> None:
    """Load and kills; every replica holds what its source holds."""
    head(f"Load at both sources; for {LOAD_S:.0f} s every process is killed (SIGKILL), and cdc up starts it again")
    checkers = {route: Checker(stage[route.replica], route.sink, route.sums) for route in ROUTES}
    trade = Load(stage["shop"].url, stage["shop"].password, RATE, alters=True)
    books = Bookkeeping(stage["billing"], alters=True)
    for checker in checkers.values():
        checker.start()
    trade.start()
    books.start()
    kills = kill_again_and_again(pipeline)
    trade.stop()
    books.stop()
    caught_up_s = wait_until_caught_up(stage)
    for checker in checkers.values():
        checker.stop()
    head("The verdict")
    run_cdc(stage, "status")
    verified = {
        route: run_cdc(stage, "verify", route.source, "--sink", route.sink, check=False) == 0 for route in ROUTES
    }
    report_sources(stage, trade, books)
    report_replicas(checkers, kills, caught_up_s, verified)
    if any(checker.violations for checker in checkers.values()) or not all(verified.values()):
        sys.exit("NOT REPLICATED exactly: see above")
    took_s = time.monotonic() - began
    for route in ROUTES:
        console.print(f"[bold green]REPLICATED exactly[/]: {route}: every transaction once, whole, in order")
    say(f"({took_s:.0f} s)")


def report_sources(stage: Stage, trade: Load, books: Bookkeeping) -> None:
    """What was done."""
    done = {
        "shop": f"{trade.bank_transactions:,} of pgbench, {trade.shop_transactions:,} of the shop: 10 KB rows, changed "
        f"keys, a table without one; {shop.ADD_COLUMN}",
        "billing": f"{books.transactions:,}: transfers, invoices, payments, both taken back, changed keys, a table "
        f"without one; {billing.ADD_COLUMN}",
    }
    table = Table(box=None)
    for title in ("source", "in the log, without a hole", "events", "transactions"):
        table.add_column(title)
    for source in SOURCES:
        ends = log_of(stage, source)
        numbered, events = sum(end.numbered for end in ends), sum(end.event_count for end in ends)
        table.add_row(source, f"{numbered:,}", f"{events:,}", done[source])
    console.print(table)


def report_replicas(
    checkers: dict[Route, Checker],
    kills: Counter[tuple[str, str]],
    caught_up_s: dict[Route, float],
    verified: dict[Route, bool],
) -> None:
    """What was seen."""
    table = Table(box=None)
    for title in ("replica", "kills", "readings", "violations", "lag p50 / p99", "caught up", "digests"):
        table.add_column(title)
    for route, checker in checkers.items():
        units = (("source", route.source), ("archive", f"main.{route.source}"), ("sink", route.sink))
        table.add_row(
            str(route),
            ", ".join(f"{kind} {kills[kind, name]}" for kind, name in units),
            f"{checker.readings:,}",
            f"{len(checker.violations)}",
            f"{checker.lag(0.5):.2f} s / {checker.lag(0.99):.2f} s",
            f"{caught_up_s[route]:.1f} s",
            "equal at the same position" if verified[route] else "DIFFERENT",
        )
    console.print(table)
    for checker in checkers.values():
        for violation in checker.violations[:10]:
            console.print(f"[red]{violation}[/]")


def finish(stage: Stage, pipeline: subprocess.Popen[bytes], verdicts: dict[str, str], took_s: float) -> None:
    """End everything, unless KEEP=1; the verdicts."""
    if os.environ.get("KEEP") == "1":
        console.print("left running:")
        for name, database in stage.databases.items():
            console.print(f"  {name}: {database.url}")
        console.print(f"  Kafka {stage.bootstrap}: topics shop.public.*, billing.billing.*, and each source's log")
        console.print(f"archive {stage.archive_url}; passwords in {STATE}; make demo-down ends it")
    else:
        pipeline.terminate()
        pipeline.wait(30)
        lower_curtain()
    console.print()
    *others, (_, last) = verdicts.items()
    for what, verdict in others:
        console.print(f"{what}: [bold green]{verdict}[/]")
    console.print(f"[bold green]{last}[/] ({took_s:.0f} s in all)")


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
