"""The accidents, and the way back: what was lost everywhere comes back from the archive while the load goes on."""

import sys
import time
from contextlib import closing
from datetime import UTC, datetime

from tests.demo import billing
from tests.demo.billing import Bookkeeping
from tests.demo.pipeline import SOURCES
from tests.demo.screen import console, head, restore_process, run_cdc, run_restore, say, wait_until
from tests.demo.shop import ACCIDENT, LOST, RATE, SCALE, SUMS, Load
from tests.demo.stage import FOLDER, Stage


def lose_and_restore(stage: Stage) -> dict[str, str]:
    """While both sources go on; the verdict of each restore by what it restored."""
    head("The accident: rows and a column are lost everywhere")
    trade, books = Load(stage["shop"].url, stage["shop"].password, RATE), Bookkeeping(stage["billing"])
    trade.start()
    books.start()
    say("both sources go on; digests are taken on them meanwhile")
    for source in SOURCES:
        run_cdc(stage, "archive", "anchor", f"main.{source}")
    have_accident(stage)
    what = [*archive_of(stage, "shop"), "--before-delete", f"public.pgbench_accounts:{LOST}"]
    wait_until_archived(stage, what)
    verdicts = {"one table beside the live one": restore_table(stage, what)}
    trade.stop()
    verdicts["across, from MySQL into Postgres"] = restore_across(stage)
    books.stop()
    verdicts["the whole shop"] = restore_whole(stage, what)
    for restored, verdict in verdicts.items():
        if not verdict.startswith("PROVEN"):
            sys.exit(f"not proven: {restored}: {verdict}")
    return verdicts


def archive_of(stage: Stage, source: str) -> list[str]:
    return ["--archive", f"{stage.archive_url}/{source}", "--key-file", str(FOLDER / "archive-main.key")]


def have_accident(stage: Stage) -> None:
    """A careless script, in two transactions; the replicas follow, as they must."""
    with closing(stage["shop"].connect()) as session, session.cursor() as cursor:
        for statement in ACCIDENT:
            console.print(f"  [red]{statement}[/]")
            cursor.execute(statement)
    lost = f"SELECT count(*) FROM pgbench_accounts WHERE aid % 20 = {LOST % 20}"
    columns = "information_schema.columns WHERE column_name = 'filler' AND table_name = 'pgbench_accounts'"
    for name in ("eu", "us"):
        for query in (lost, f"SELECT count(*) FROM {columns}"):
            wait_until(lambda: stage[name].ask(query) == [(0,)], f"the accident on {name}")  # noqa: B023 - run at once
    say("it has reached both replicas as well: rows and column are gone everywhere")


def wait_until_archived(stage: Stage, what: list[str]) -> None:
    """The accident itself must be in the archive before anybody can ask for the moment before it."""

    def passed() -> bool:
        return restore_process(stage, *what, "--dry-run", variables={}, capture=True).returncode == 0

    with console.status("the archive rolls every 5 s"):
        wait_until(passed, "the archive has passed the accident", every_s=1.0)
    run_restore(stage, *what, "--dry-run")


# -- the ways back ----------------------------------------------------------------------------------------------
def restore_whole(stage: Stage, what: list[str]) -> str:
    """The database as it stood before; the bank's books in it."""
    head("The whole shop as it stood just before the transaction that removed the row")
    verdict = run_restore(stage, *what, into=stage["restored"])
    (sums,) = stage["restored"].ask(SUMS)
    (rows,) = stage["restored"].ask("SELECT count(*), count(filler) FROM pgbench_accounts")
    if len(set(sums)) != 1 or rows != (SCALE * 100_000, SCALE * 100_000):
        sys.exit(f"the restored bank does not add up: {sums}, {rows}")
    say(f"restored: {rows[0]:,} accounts, filler and all; accounts = tellers = branches = history = {sums[0]:,}")
    return verdict


def restore_table(stage: Stage, what: list[str]) -> str:
    """What is missing from the live table stands beside it."""
    head("One table alone, beside the live one")
    table = ("--table", "public.pgbench_accounts", "--as", "accounts_before")
    verdict = run_restore(stage, *what, *table, into=stage["shop"])
    query = (
        "SELECT count(*) FROM accounts_before b WHERE NOT EXISTS (SELECT FROM pgbench_accounts a WHERE a.aid = b.aid)"
    )
    ((found,),) = stage["shop"].ask(query)
    if found != SCALE * 100_000 // 20:
        sys.exit(f"{found} of the lost rows came back")
    say(f"the {found:,} lost rows stand beside the live table, to be put back by one INSERT … SELECT")
    return verdict


def restore_across(stage: Stage) -> str:
    """An accident on MySQL, and its archive restored into a Postgres as it stood before."""
    head("Across engines: an accident on MySQL, and its archive restored into Postgres")
    moment = datetime.now(UTC)
    time.sleep(0.5)
    console.print(f"  [red]{billing.ACCIDENT}[/]")
    with closing(stage["billing"].connect()) as session, session.cursor() as cursor:
        cursor.execute(billing.ACCIDENT)
    what = [*archive_of(stage, "billing"), "--to-time", moment.isoformat(" ")]
    wait_until_archived(stage, what)
    verdict = run_restore(stage, *what, into=stage["billing_restored"])
    (sums,) = stage["billing_restored"].ask(billing.SUMS)
    if len(set(sums)) != 1 or not sums[0]:
        sys.exit(f"the restored books do not add up: {sums}")
    say(f"restored: balances = invoiced - paid = open on the invoices = {sums[0]:,}")
    return verdict
