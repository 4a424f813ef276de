"""A source whose clock steps back: a moment that it makes ambiguous is not guessed at."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.fetch import faketime
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.system.pipeline import Pipeline
from tests.system.test_archive_restore import cdc_restore


class Clock:
    """The clock of one server, moved while it runs."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")

    def set(self, offset: str) -> None:
        self._file.write_text(offset)
        self._file.chmod(0o644)

    def environment(self, library: Path) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def server() -> Iterator[Postgres]:
    """In a folder that is open to all: with the privilege to pass through closed ones, no library is preloaded."""
    with tempfile.TemporaryDirectory(prefix="cdc-clock-") as folder:
        Path(folder).chmod(0o755)
        yield Postgres(Path(folder) / "source")


@pytest.fixture
def clock(server: Postgres) -> Clock:
    return Clock(server.data)


@pytest.fixture
def source(server: Postgres, clock: Clock) -> Iterator[Database]:
    library = faketime()
    if library is None:
        pytest.skip("no libfaketime here")
    server.preload(clock.environment(library))
    with server:
        ((before,),) = server.execute("SELECT clock_timestamp()")
        clock.set("-1d")
        ((after,),) = server.execute("SELECT clock_timestamp()")
        assert after < before, "the clock does not move"
        clock.set("+0")
        yield server.create_database("stepping")


@pytest.mark.matrix
def test_a_source_whose_clock_steps_back(
    tmp_path: Path, source: Database, target_database: Database, kafka: Kafka, clock: Clock
) -> None:
    source.execute("CREATE TABLE steps (id int PRIMARY KEY)")
    pipeline = Pipeline(tmp_path, source, target_database, kafka.bootstrap)
    pipeline.publish()
    with pipeline.source_running(), pipeline.archive_running():
        pipeline.wait_archived()
        source.execute("INSERT INTO steps VALUES (1)")
        time.sleep(1)
        ((moment,),) = source.execute("SELECT clock_timestamp()::text")
        time.sleep(1)
        source.execute("INSERT INTO steps VALUES (2)")
        clock.set("-1h")
        source.execute("INSERT INTO steps VALUES (3)")
        clock.set("+0")
        source.execute("INSERT INTO steps VALUES (4)")
        pipeline.wait_archived()

    def restored(*arguments: str) -> list[int]:
        target_database.execute("DROP TABLE IF EXISTS steps; DROP SCHEMA IF EXISTS cdc CASCADE")
        done = cdc_restore(
            pipeline, "--to-time", moment, "--into", target_database.url(), "--table", "public.steps", *arguments
        )
        assert done.returncode == 0, done.stderr
        return [row[0] for row in target_database.execute("SELECT id FROM steps ORDER BY id")]

    asked = cdc_restore(pipeline, "--to-time", moment, "--dry-run")
    assert (asked.returncode, "CUT_AMBIGUOUS" in asked.stderr) == (5, True), asked.stdout + asked.stderr
    assert restored("--cut", "first-after") == [1]
    assert restored("--cut", "last-before") == [1, 2, 3]
