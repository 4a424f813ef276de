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
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from tests.servers.fetch import SERVERS
from tests.servers.kafka import Kafka
from tests.servers.postgres import Postgres

FOLDER = SERVERS / "demo"
STATE = FOLDER / "state.json"


@dataclass
class Stage:
    """Where everything is. `holder` and `pipeline` are process groups; `pipeline` is `cdc up`."""

    holder: int
    source_url: str
    source_password: str
    replica_url: str
    replica_password: str
    restored_url: str
    archive_url: str
    bootstrap: str
    reader_password: str
    writer_password: str
    pipeline: int = 0

    def save(self) -> None:
        STATE.touch(mode=0o600)
        STATE.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls) -> "Stage":
        return cls(**json.loads(STATE.read_text()))

    @property
    def environment(self) -> dict[str, str]:
        """What the commands need: the two passwords that cdc.toml names."""
        return {
            **os.environ,
            "CDC_CONFIG": str(FOLDER / "cdc.toml"),
            "SHOP_PASSWORD": self.reader_password,
            "EU_PASSWORD": self.writer_password,
            "PG_DUMP": str(Postgres.pg_dump),
        }


def hold() -> None:
    """Run the servers until told to stop."""
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    source, replica, kafka = Postgres(FOLDER / "source"), Postgres(FOLDER / "replica"), Kafka(FOLDER / "kafka")
    with source, replica, kafka:
        source.create_database("shop")
        replica.create_database("shop")
        replica.create_database("restored")
        Stage(
            holder=os.getpid(),
            source_url=source.url("shop"),
            source_password=source.password,
            replica_url=replica.url("shop"),
            replica_password=replica.password,
            restored_url=replica.url("restored"),
            archive_url=f"file://{FOLDER / 'archive'}",
            bootstrap=kafka.bootstrap,
            reader_password=secrets.token_hex(12),
            writer_password=secrets.token_hex(12),
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
    time.sleep(0.2)  # the file appears before it is whole
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
