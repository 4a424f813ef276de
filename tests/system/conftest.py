"""Fixtures for the sink's tests: a target that is applied to without Kafka."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sinks.postgres.rows
from cdc.event import Table
from cdc.postgres.session import Server, Side
from sinks.postgres.rows import Mismatch, Rows
from tests.servers.postgres import Database
from tests.system.replica import ACCOUNTS, NOTES, Replica


@pytest.fixture
def target_server(target_database: Database) -> Server:
    return Server(Side.TARGET, "eu", target_database.url(), target_database.server.password)


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
    if request.param == "replayed":

        def never(*_: object, **__: object) -> None:
            raise Mismatch

        monkeypatch.setattr(Rows, "write", never)
    return str(request.param)
