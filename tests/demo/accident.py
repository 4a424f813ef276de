"""The accident, and the way back: what was lost everywhere comes back from the archive while the load goes on."""

import sys
import time

import psycopg

from tests.demo.checker import SUMS
from tests.demo.screen import ask, console, restore_process, run_cdc, run_restore, say
from tests.demo.shop import ACCIDENT, LOST, RATE, SCALE, Load
from tests.demo.stage import FOLDER, Stage

_PATIENCE_S = 60.0


def lose_and_restore(stage: Stage) -> str:
    """While the bank and the shop go on: rows and a column are lost everywhere, and come back from the archive."""
    load = Load(stage.source_url, stage.source_password, RATE)
    load.start()
    say("the bank and the shop go on; digests are taken on the source meanwhile")
    run_cdc(stage, "archive", "anchor", "main")
    have_accident(stage)
    archive = f"{stage.archive_url}/shop"
    what = [
        "--archive",
        archive,
        "--key-file",
        str(FOLDER / "archive-main.key"),
        "--before-delete",
        f"public.pgbench_accounts:{LOST}",
    ]
    wait_until_archived(stage, what)
    say("when was it? just before the transaction that removed the row; the whole database as it stood then")
    whole = run_restore(stage, *what, "--into", stage.restored_url)
    check_money(stage)
    say("one table alone, beside the live one")
    table = ["--table", "public.pgbench_accounts", "--as", "accounts_before"]
    beside = run_restore(stage, *what, *table, "--into", stage.source_url, at_source=True)
    compare_lost_rows(stage)
    load.stop()
    if not whole.startswith("PROVEN") or not beside.startswith("PROVEN"):
        sys.exit(f"not proven: {whole if not whole.startswith('PROVEN') else beside}")
    return whole


def have_accident(stage: Stage) -> None:
    """A careless script, in two transactions; the replica follows, as it must."""
    with psycopg.connect(stage.source_url, password=stage.source_password, autocommit=True) as connection:
        for statement in ACCIDENT:
            console.print(f"  [red]{statement}[/]")
            connection.execute(statement.encode())
    lost = f"SELECT count(*) FROM pgbench_accounts WHERE aid % 20 = {LOST % 20}"
    column = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'pgbench_accounts'::regclass AND attname = 'filler'"
    while ask(stage, lost)[0][0] or ask(stage, column)[0][0]:
        time.sleep(0.2)
    say("it has reached the replica as well: rows and column are gone everywhere")


def wait_until_archived(stage: Stage, what: list[str]) -> None:
    """The accident itself must be in the archive before anybody can ask for the moment before it."""
    deadline = time.monotonic() + _PATIENCE_S
    with console.status("the archive rolls every 5 s"):
        while restore_process(stage, *what, "--dry-run", capture=True).returncode != 0:
            if time.monotonic() > deadline:
                sys.exit(f"the archive did not pass the accident within {_PATIENCE_S:.0f} s: see {FOLDER / 'up.log'}")
            time.sleep(1)
    run_restore(stage, *what, "--dry-run")


def check_money(stage: Stage) -> None:
    """The bank's books in the restored database."""
    with psycopg.connect(stage.restored_url, password=stage.replica_password) as connection:
        sums = connection.execute(SUMS).fetchone()
        rows = connection.execute("SELECT count(*), count(filler) FROM pgbench_accounts").fetchone()
    assert sums is not None
    assert rows is not None
    if len(set(sums)) != 1 or rows != (SCALE * 100_000, SCALE * 100_000):
        sys.exit(f"the restored bank does not add up: {sums}, {rows}")
    say(f"restored: {rows[0]:,} accounts, filler and all; accounts = tellers = branches = history = {sums[0]:,}")


def compare_lost_rows(stage: Stage) -> None:
    """What is missing from the live table stands beside it."""
    query = (
        "SELECT count(*) FROM accounts_before b WHERE NOT EXISTS (SELECT FROM pgbench_accounts a WHERE a.aid = b.aid)"
    )
    with psycopg.connect(stage.source_url, password=stage.source_password) as connection:
        found = connection.execute(query).fetchone()
    assert found is not None
    if found[0] != SCALE * 100_000 // 20:
        sys.exit(f"{found[0]} of the lost rows came back")
    say(f"the {found[0]:,} lost rows stand beside the live table, to be put back by one INSERT … SELECT")
