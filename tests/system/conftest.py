"""Fixtures for the sink's tests: a target that is applied to without Kafka. For the archive's: a past."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import sinks.mysql.rows
import sinks.postgres.rows
from cdc.engine import Server
from cdc.event import Table
from cdc.position import Lsn
from sinks.digest import Digests
from sinks.target import Mismatch
from tests.conftest import unused_name
from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL
from tests.servers.postgres import Database, Postgres
from tests.system.pipeline import Pipeline, wait_until
from tests.system.replica import ACCOUNTS, NOTES, AnyDatabase, Replica, server_of
from tests.system.test_archive_restore import SCHEMA, at_source, work
from tests.system.test_archive_writer import logged


@pytest.fixture
def target_engine(request: pytest.FixtureRequest) -> str:
    """What is replicated into; a test that is for every engine is parametrized by it (`BOTH`)."""
    return str(getattr(request, "param", "postgres"))


@pytest.fixture
def target(target_engine: str, request: pytest.FixtureRequest) -> AnyDatabase:
    """A fresh database to replicate into."""
    found: AnyDatabase = request.getfixturevalue(
        {"postgres": "target_database", "mysql": "mysql_database", "mariadb": "mariadb_database"}[target_engine]
    )
    return found


@pytest.fixture
def target_server(target: AnyDatabase) -> Server:
    return server_of(target)


@pytest.fixture
def opposite_settings(mysql_server: MySQL) -> Iterator[None]:
    """A server whose settings are the opposite of ours."""
    names = (
        "sql_mode",
        "time_zone",
        "sql_safe_updates",
        "completion_type",
        "character_set_results",
        "lock_wait_timeout",
    )
    (before,) = mysql_server.execute(f"SELECT {', '.join(f'@@GLOBAL.{name}' for name in names)}")
    mysql_server.execute(
        "SET GLOBAL sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,NO_ZERO_DATE,PAD_CHAR_TO_FULL_LENGTH',"
        " GLOBAL time_zone = '+05:45', GLOBAL sql_safe_updates = 1, GLOBAL completion_type = 'CHAIN',"
        " GLOBAL character_set_results = 'latin1', GLOBAL lock_wait_timeout = 1"
    )
    yield
    values = ", ".join(f"GLOBAL {name} = %s" for name in names)
    mysql_server.execute(f"SET {values}", before)


@pytest.fixture
def make(target_server: Server) -> Iterator[Callable[..., Replica]]:
    made: list[Replica] = []

    def start(*shapes: Table, **facts: Any) -> Replica:
        made.append(Replica(target_server, *shapes, **facts))
        return made[-1]

    yield start
    for replica in made:
        replica.close()


@pytest.fixture
def replica(make: Callable[..., Replica]) -> Replica:
    """With `accounts` and `notes`, empty and ready."""
    made = make(ACCOUNTS, NOTES)
    made.copy(ACCOUNTS, NOTES)
    made.sync()
    return made


@pytest.fixture(params=["one by one", "staged", "replayed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The three ways rows go to the server."""
    if request.param == "staged":
        monkeypatch.setattr(sinks.postgres.rows, "FEW", 0)
        monkeypatch.setattr(sinks.mysql.rows, "FEW", 0)
    if request.param == "replayed":

        def never(*_: object, **__: object) -> None:
            raise Mismatch

        monkeypatch.setattr(sinks.postgres.rows.Rows, "write", never)
        monkeypatch.setattr(sinks.mysql.rows.Rows, "write", never)
    return str(request.param)


class Lived(NamedTuple):
    """A pipeline whose source lived through something; what it held at some moments, by name."""

    pipeline: Pipeline
    moments: dict[str, tuple[Lsn, dict[str, Digests]]]


@pytest.fixture(scope="session")
def lived(
    tmp_path_factory: pytest.TempPathFactory, postgres_source: Postgres, postgres_target: Postgres, kafka: Kafka
) -> Iterator[Lived]:
    """Once in a session: `copy`, a base, `first`, another base, `second`, then everything deleted at `end`."""
    name = unused_name("lived")
    source, target = postgres_source.create_database(name), postgres_target.create_database(name)
    source.execute(SHOP + SCHEMA)
    made = Pipeline(tmp_path_factory.mktemp("lived"), source, target, kafka.bootstrap)
    made.publish()
    moments = {}

    def base() -> None:
        backup = made.run("archive", "backup", "main", env={"PG_DUMP": str(Postgres.pg_dump)})
        assert backup.wait(60) == 0, backup.tail()

    def moment(name: str) -> None:
        work(made)
        moments[name] = at_source(made)
        time.sleep(0.05)

    with made.source_running(), made.archive_running() as archiver:
        wait_until(lambda: len(logged(made)) >= 4, "the copy")
        made.wait_archived()
        moment("copy")
        made.wait_archived()  # A heartbeat lies between the two; else the base might serve that moment too.
        base()
        moment("first")
        source.execute("ALTER TABLE orders ADD COLUMN priority int NOT NULL DEFAULT 1; TRUNCATE visits")
        base()
        moment("second")
        made.wait_archived()
        source.execute("DELETE FROM accounts; DELETE FROM customers")
        moment("end")
        work(made)
        made.wait_archived()
        # Killed, it may leave a segment that its head does not name yet, which nothing vouches for.
        archiver.stop()
    yield Lived(made, moments)
    source.drop()
    target.drop()


@pytest.fixture
def past(lived: Lived, tmp_path: Path, target_database: Database) -> Lived:
    """A copy of its archive, and an empty target."""
    made = Pipeline(tmp_path, lived.pipeline.source, target_database, lived.pipeline.bootstrap)
    made.archive_key = lived.pipeline.archive_key
    shutil.copytree(lived.pipeline.directory / "archive", tmp_path / "archive")
    return Lived(made, lived.moments)
