"""Bases by themselves on real servers: on time, beside the archiver, and gone with it."""

import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from cdc.config import load
from cdc.errors import CdcError
from sinks.archive.archive import Archive
from sinks.archive.check import archive_facts, check_archive
from sinks.archive.manifest import Base
from sinks.archive.verify import verify
from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.servers.process import Process
from tests.system.pipeline import Pipeline, wait_until
from tests.system.test_archive_writer import logged, transactions, work


@pytest.fixture
def pipeline(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> Pipeline:
    monkeypatch.setenv("PATH", f"{Postgres.pg_dump.parent}:{os.environ['PATH']}")
    database.execute(SHOP)
    options = {"base_every": "3s", "anchor_every": "never"}
    made = Pipeline(tmp_path, database, target_database, kafka.bootstrap, archive_options=options)
    made.publish()
    return made


def bases(pipeline: Pipeline) -> list[Base]:
    try:
        archive: Archive = pipeline.archive()
    except CdcError:
        return []
    return [archive.read(Base, name) for name in archive.names("base/0") if name.endswith(".json")]


def hanging_pg_dump(pipeline: Pipeline) -> dict[str, str]:
    """It tells its pid and that it hangs; a new enough version, too."""
    program = pipeline.directory / "pg_dump"
    program.write_text(f"""#!/bin/sh
case "$*" in *--version*) echo "pg_dump (PostgreSQL) 99.0"; exit;; esac
echo $$ >> {pipeline.directory}/pids
exec sleep 300
""")
    program.chmod(0o755)
    return {"PG_DUMP": str(program)}


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def began(archiver: Process) -> list[int]:
    lines = [line for line in archiver.log.read_text().splitlines() if "backup begun" in line]
    return [int(line.partition("pid=")[2].split()[0]) for line in lines]


def test_the_first_at_once_then_one_after_the_other(pipeline: Pipeline) -> None:
    with pipeline.source_running(), pipeline.archive_running() as archiver:
        wait_until(lambda: len(bases(pipeline)) >= 1, "the first base")
        wait_until(lambda: work(pipeline, 2) or len(bases(pipeline)) >= 3, "the third")
        pipeline.wait_archived()
        assert archiver.stop(timeout=20) == 0
    taken = bases(pipeline)
    assert all(later.started_ms - one.started_ms >= 3000 for one, later in pairwise(taken))
    assert transactions(pipeline.archive()) == logged(pipeline)
    log = archiver.log.read_text()
    assert "backup done" in log
    assert "behind transaction" in log
    assert verify(pipeline.archive(), lambda _: None)[1] == []


def test_a_new_epoch_gets_a_base_at_once(pipeline: Pipeline) -> None:
    config = pipeline.config.read_text().replace('"base_every" = "3s"', '"base_every" = "1h"')
    pipeline.config.write_text(config)
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: len(bases(pipeline)) == 1, "the first base")
    with pipeline.source_running("--reopen", "copy-again"), pipeline.archive_running():
        wait_until(lambda: len(bases(pipeline)) == 2, "a base of the new epoch")
    one, other = bases(pipeline)
    assert one.epoch < other.epoch


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.matrix), signal.SIGKILL])
def test_the_child_ends_with_the_archiver(pipeline: Pipeline, number: signal.Signals) -> None:
    """By the signal's way down, or because it sees that it is alone; pg_dump goes with it, and the slot."""
    environment = hanging_pg_dump(pipeline)
    pids = pipeline.directory / "pids"
    with pipeline.source_running():
        archiver = pipeline.run("archive", "run", "main", env=environment)
        wait_until(lambda: pids.exists() and bool(pids.read_text().strip()), "pg_dump")
        children = [*began(archiver), *map(int, pids.read_text().split())]
        assert len(children) == 2
        archiver.send(number)
        archiver.wait(20)
        wait_until(lambda: all(gone(pid) for pid in children), "the end of the child", 10)
        wait_until(
            lambda: pipeline.source.execute(
                "SELECT count(*) FROM pg_replication_slots WHERE database = %s AND temporary", [pipeline.source.name]
            ) == [(0,)],
            "the end of its slot",
        )  # fmt: skip
        with pipeline.archive_running():
            wait_until(lambda: len(bases(pipeline)) == 1, "a base by the next one")
    assert verify(pipeline.archive(), lambda _: None)[1] == []


def test_a_base_that_fails_is_said_and_the_archive_goes_on(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    with pipeline.source_running():
        archiver = pipeline.run("archive", "run", "main", env={"PG_DUMP": "/nowhere"})
        wait_until(lambda: "backup failed" in archiver.log.read_text(), "the failure")
        work(pipeline, 3)
        pipeline.wait_archived()
        (line,) = [line for line in archiver.log.read_text().splitlines() if "backup failed" in line]
        assert "PG_DUMP_MISSING" in line
        assert "again_in_s=60" in line
        archiver.kill9()
    assert bases(pipeline) == []
    said_by_status_and_check(pipeline, monkeypatch)


def said_by_status_and_check(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before it is overdue, on any host: of the archive alone."""
    pipeline.config.write_text(pipeline.config.read_text().replace('"base_every" = "3s"', '"base_every" = "24h"'))
    config, unit, since = load(pipeline.config), f"main.{pipeline.name}", time.time()
    for name, value in pipeline.environment.items():
        monkeypatch.setenv(name, value)

    def seen(after_s: float) -> tuple[bool, bool, list[str]]:
        monkeypatch.setattr("sinks.archive.check.time", SimpleNamespace(time=lambda: since + after_s))
        facts = archive_facts(config, unit)
        assert facts is not None
        lines = [f"{finding.level.value} {finding.what}" for finding in check_archive(config, unit)]
        return facts.base_late, facts.base_overdue, [line for line in lines if " base" in line]

    assert seen(200)[:2] == (False, False)
    late, overdue, lines = seen(301)
    assert (late, overdue) == (True, False)
    assert lines[0].startswith("WARN no base yet; one was due at 20")
    late, overdue, lines = seen(7 * 3600)
    assert (late, overdue) == (True, True)
    assert lines[0].startswith("WARN no base yet; one is overdue, it was due at 20")


def test_anchors_by_themselves(pipeline: Pipeline) -> None:
    text = pipeline.config.read_text().replace('"base_every" = "3s"', '"base_every" = "never"')
    pipeline.config.write_text(text.replace('"anchor_every" = "never"', '"anchor_every" = "2s"'))
    with pipeline.source_running(), pipeline.archive_running() as archiver:
        wait_until(lambda: archiver.log.read_text().count("anchor done") >= 2, "two anchors")
    archive = pipeline.archive()
    assert len(list(archive.names("anchor/"))) >= 2
    assert bases(pipeline) == []


def test_two_bases_at_once_are_both_right(pipeline: Pipeline) -> None:
    """The child of a killed archiver may still be at work when the next one begins another."""
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: len(bases(pipeline)) >= 1, "the first base")
        before = len(bases(pipeline))
        writing = threading.Thread(target=work, args=[pipeline, 50])
        writing.start()
        both = [pipeline.run("archive", "backup", "main") for _ in range(2)]
        for one in both:
            assert one.wait(60) == 0, one.log.read_text()
        writing.join()
        pipeline.wait_archived()
    assert len(bases(pipeline)) >= before + 2
    assert verify(pipeline.archive(), lambda _: None)[1] == []
    assert transactions(pipeline.archive()) == logged(pipeline)
