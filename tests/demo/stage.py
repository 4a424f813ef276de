"""The servers of the demonstration, held by a process of its own so that KEEP=1 can leave them up.

In: a folder. Out: `state.json` there (addresses, passwords, pids) once all servers answer; the servers end with the
holder. Passwords are random, made anew each time, and stay in the folder.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from tests.demo.database import Database
from tests.servers.fetch import SERVERS
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL
from tests.servers.postgres import Postgres

FOLDER = SERVERS / "demo"
STATE = FOLDER / "state.json"
_MYSQL = {"innodb-buffer-pool-size": "512M", "innodb-redo-log-capacity": "512M"}


@dataclass
class Stage:
    """Where everything is. `holder` and `pipeline` are process groups; `pipeline` is `cdc up`."""

    holder: int
    databases: dict[str, Database]
    archive_url: str
    bootstrap: str
    passwords: dict[str, str]
    """Of the roles that cdc.toml names, by the variables that it reads them from."""
    pipeline: int = 0

    def save(self) -> None:
        new = STATE.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(asdict(self)))
        new.replace(STATE)

    @classmethod
    def load(cls) -> "Stage":
        state = json.loads(STATE.read_text())
        databases = {name: Database(**facts) for name, facts in state.pop("databases").items()}
        return cls(databases=databases, **state)

    def __getitem__(self, name: str) -> Database:
        return self.databases[name]

    @property
    def environment(self) -> dict[str, str]:
        """What the commands need."""
        return {
            **os.environ,
            **self.passwords,
            "CDC_CONFIG": str(FOLDER / "cdc.toml"),
            "PG_DUMP": str(Postgres.pg_dump),
        }


def hold() -> None:
    """Run the servers until told to stop."""
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    kafka, shop, eu = Kafka(FOLDER / "kafka"), Postgres(FOLDER / "shop"), Postgres(FOLDER / "eu")
    billing, us = MySQL(FOLDER / "billing", _MYSQL), MySQL(FOLDER / "us", _MYSQL)
    with ExitStack() as running:
        for server in (kafka, shop, eu, billing, us):
            running.enter_context(server)
        for postgres, name in ((shop, "shop"), (eu, "replica"), (eu, "restored"), (eu, "billing_restored")):
            postgres.create_database(name)
        for mysql, name in ((billing, "billing"), (us, "replica"), (us, "shop_restored")):
            mysql.create_database(name)
        of_eu = secrets.token_hex(12)  # two sinks, one role there
        Stage(
            holder=os.getpid(),
            databases={
                "shop": Database(shop.url("shop"), shop.password),
                "billing": Database(billing.url("billing"), billing.password),
                "eu": Database(eu.url("replica"), eu.password),
                "us": Database(us.url("replica"), us.password),
                "restored": Database(eu.url("restored"), eu.password),
                "billing_restored": Database(eu.url("billing_restored"), eu.password),
                "shop_restored": Database(us.url("shop_restored"), us.password),
            },
            archive_url=f"file://{FOLDER / 'archive'}",
            bootstrap=kafka.bootstrap,
            passwords={
                "SHOP_PASSWORD": secrets.token_hex(12),
                "BILLING_PASSWORD": secrets.token_hex(12),
                "EU_PASSWORD": of_eu,
                "EU_BILLING_PASSWORD": of_eu,
                "US_PASSWORD": secrets.token_hex(12),
            },
        ).save()
        while not stopped:
            time.sleep(0.2)


def raise_curtain() -> Stage:
    """Start the holder in a session of its own and wait for its servers."""
    lower_curtain()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with (FOLDER / "servers.log").open("w") as log:
        holder = subprocess.Popen(
            [sys.executable, "-m", "tests.demo", "hold"], stdout=log, stderr=log, start_new_session=True
        )
    while not STATE.exists():
        if holder.poll() is not None:
            sys.exit(f"the servers did not start:\n{(FOLDER / 'servers.log').read_text()}")
        time.sleep(0.1)
    return Stage.load()


def lower_curtain() -> bool:
    """End what an earlier demonstration left running; whether there was anything."""
    if not STATE.exists():
        return False
    stage = Stage.load()
    for pid in filter(None, (stage.pipeline, stage.holder)):
        _end(pid)
    STATE.unlink()
    return True


def _end(pid: int) -> None:
    """SIGTERM to a process of ours, and wait; one that is gone, or is another's by now, is left alone."""
    for _ in range(300):
        try:
            ours = (
                b"cdc" in Path(f"/proc/{pid}/cmdline").read_bytes()
                or b"tests.demo" in Path(f"/proc/{pid}/cmdline").read_bytes()
            )
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if not ours or state == "Z":
            return
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
