"""The children that take bases and anchors: when one is begun, how its end is told, and that none is left behind."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdc.errors import CdcError
from sinks.archive import jobs as module
from sinks.archive.archive import Archive
from sinks.archive.jobs import Jobs, JobSettings
from sinks.archive.manifest import Base, Stored
from sinks.archive.newest import Newest
from sinks.archive.schedule import Job, Schedule

EPOCH = int(time.time() * 1000) - 1000
PROGRAM = """
import os, signal, sys, time
how = open(os.environ["HOW"]).read()
print("rows so far", flush=True)
if how == "fails":
    sys.exit("error PG_DUMP_MISSING: no pg_dump\\n  what to do: install it")
if how == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if how in ("deaf", "hangs"):
    time.sleep(60)
print(f"{sys.argv[1]} of {sys.argv[2]} by {sys.argv[4]}, child of {os.environ['CDC_SUPERVISOR']}")
"""


class Told:
    """Remembers."""

    def __init__(self) -> None:
        self.due: list[float | None] = []
        self.overdue: list[bool] = []
        self.begun: list[tuple[Job, int]] = []
        self.done: list[str] = []
        self.failed: list[tuple[int, str, float]] = []
        self.errors: list[str] = []

    def looked(self, found: Newest, due: float | None, *, overdue: bool) -> None:
        del found
        self.due.append(due)
        self.overdue.append(overdue)

    def job_begun(self, job: Job, pid: int) -> None:
        self.begun.append((job, pid))

    def job_done(self, job: Job, words: str) -> None:
        self.done.append(f"{job}: {words}")

    def job_failed(self, job: Job, code: int, words: str, wait_s: float) -> None:
        del job
        self.failed.append((code, words, wait_s))

    def retry(self, error: CdcError, wait_s: float) -> None:
        del wait_s
        self.errors.append(error.code.name)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """What the child does."""
    monkeypatch.setattr(module, "_PROGRAM", (sys.executable, "-c", PROGRAM))
    monkeypatch.setenv("HOW", str(tmp_path / "how"))
    (tmp_path / "how").write_text("ends")
    return (tmp_path / "how").write_text


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive.open_or_make(f"file://{tmp_path}/archive", None, "shop")


def jobs(tmp_path: Path, told: Told, **facts: Any) -> Jobs:
    given: dict[str, Any] = {"base_every": 3600.0, "base_at": None, "from_source": True, "anchor_every": None} | facts
    url = f"file://{tmp_path}/archive"
    return Jobs(JobSettings("main.shop", Path("/etc/cdc.toml"), url, None, Schedule(**given)), told)


def put_base(archive: Archive, begun: float, epoch: int = EPOCH) -> None:
    base = Base(
        archive=archive.identity.archive, id="0" * 16, taken_from="source", server_version=180000, epoch=epoch,
        txn_seq=1, position="1:0/1", commit_us=1, started_ms=int(begun * 1000), finished_ms=int(begun * 1000),
        tables={}, schema_file=Stored(name="x", size=0, sha256="0" * 64), sequences={},
    )  # fmt: skip
    archive.put(base.name, base.to_bytes())


def tend(running: Jobs, until: Callable[[], object], *, epoch: int = EPOCH, alone: bool = True) -> None:
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline
        running.tend(epoch, alone=alone)
        time.sleep(0.02)


@pytest.mark.usefixtures("how")
def test_the_first_base_is_begun_at_once_and_the_next_when_it_is_due(
    tmp_path: Path, archive: Archive, told: Told
) -> None:
    running = jobs(tmp_path, told)
    tend(running, lambda: told.done)
    assert told.done == [f"backup: backup of main.shop by /etc/cdc.toml, child of {os.getpid()}"]
    # It wrote nothing, but it said that it did: not again and again.
    for _ in range(10):
        running.tend(EPOCH, alone=True)
    assert len(told.begun) == 1
    put_base(archive, time.time())
    other = jobs(tmp_path, Told())
    other.tend(EPOCH, alone=True)
    assert other._child is None


@pytest.mark.usefixtures("how", "archive")
def test_an_archiver_that_is_not_alone_begins_nothing(tmp_path: Path, told: Told) -> None:
    running = jobs(tmp_path, told)
    for _ in range(3):
        running._look_at = 0.0
        running.tend(EPOCH, alone=False)
    assert (told.begun, len(told.due)) == ([], 3)
    running._look_at = 0.0
    running.tend(EPOCH, alone=True)
    assert len(told.begun) == 1
    running.close()


@pytest.mark.usefixtures("how")
def test_a_new_epoch_has_no_base(tmp_path: Path, archive: Archive, told: Told) -> None:
    put_base(archive, time.time())
    running = jobs(tmp_path, told)
    running.tend(EPOCH, alone=True)
    assert told.begun == []
    tend(running, lambda: told.done, epoch=EPOCH + 500)
    tend(running, lambda: len(told.done) == 2, epoch=EPOCH + 600)


@pytest.mark.usefixtures("archive")
def test_a_failure_is_told_and_tried_again_later_and_later(
    tmp_path: Path, told: Told, how: Callable[[str], object]
) -> None:
    how("fails")
    running = jobs(tmp_path, told)
    tend(running, lambda: told.failed)
    assert told.failed == [(1, "error PG_DUMP_MISSING: no pg_dump", 60.0)]
    running.tend(EPOCH, alone=True)
    assert len(told.begun) == 1
    for number in range(2, 9):
        running._next_at = running._look_at = 0.0
        tend(running, lambda number=number: len(told.failed) == number)  # type: ignore[misc]
    assert [wait for _, _, wait in told.failed] == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0]
    how("ends")
    running._next_at = running._look_at = 0.0
    tend(running, lambda: told.done)
    assert running._failures == 0


@pytest.mark.parametrize("manner", ["hangs", "deaf"])
@pytest.mark.usefixtures("archive")
def test_the_child_ends_with_the_archiver(
    tmp_path: Path, told: Told, how: Callable[[str], object], manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 1.0)
    how(manner)
    running = jobs(tmp_path, told)
    running.tend(EPOCH, alone=True)
    ((_, pid),) = told.begun
    time.sleep(0.3)
    running.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)


def test_a_store_that_is_away_is_told(tmp_path: Path, told: Told) -> None:
    running = jobs(tmp_path, told)
    running.tend(EPOCH, alone=True)
    assert (told.errors, told.begun) == (["ARCHIVE_MISSING"], [])
