"""SIGKILL at every edge between two durable steps, between any engines: replica = source, the log has no hole."""

import signal
from typing import Any

import pytest

from cdc.errors import CdcError
from tests.system.pipeline import wait_until
from tests.system.shop import MARIADB_PAIRS, NEW_PAIRS, Shop


def in_matrix(*pair: str) -> Any:
    return pytest.param(pair, id="-".join(pair), marks=pytest.mark.matrix)


SOURCES = [pytest.param(("mysql", "postgres"), id="mysql-postgres"), in_matrix("mariadb", "postgres")]
SINKS = [pytest.param(("postgres", "mysql"), id="postgres-mysql"), in_matrix("postgres", "mariadb")]
MARIADB = [in_matrix(*pair) for pair in MARIADB_PAIRS]

SOURCE_EDGES = ["source.after_start", "source.in_copy", "source.before_end:5", "source.after_end:6"]
SINK_EDGES = ["sink.before_commit:3", "sink.after_rows:2", "sink.after_commit:2"]
DDL_EDGES = ["sink.after_ddl:2", "sink.after_settled"]
"""MySQL commits DDL by itself: between it and its rows, and between it and the word that it is done."""


@pytest.mark.parametrize("pair", SOURCES, indirect=True)
@pytest.mark.parametrize("edge", SOURCE_EDGES)
def test_the_source_killed(shop: Shop, edge: str) -> None:
    with shop.sink_running(), shop.source_running(failpoint=edge) as doomed:
        wait_until(lambda: not doomed.running or bool(shop.progress() and not shop.copying()), "a first pass")
        shop.work()
        wait_until(lambda: not doomed.running, f"death at {edge}")
        assert doomed.returncode == -9
        with shop.source_running():
            shop.wait_caught_up()
            shop.assert_equal()


@pytest.mark.parametrize("pair", SINKS, indirect=True)
@pytest.mark.parametrize("edge", SINK_EDGES + DDL_EDGES)
def test_the_sink_killed(shop: Shop, edge: str) -> None:
    with shop.source_running(), shop.sink_running(failpoint=edge) as doomed:
        wait_until(lambda: not doomed.running or bool(shop.progress() and not shop.copying()), "a first pass")
        shop.work()
        wait_until(lambda: not doomed.running, f"death at {edge}")
        assert doomed.returncode == -9
        with shop.sink_running():
            shop.wait_caught_up()
            shop.assert_equal()


@pytest.mark.matrix
@pytest.mark.parametrize("pair", [*SOURCES, *SINKS], indirect=True)
def test_a_stop_in_the_middle_of_a_copy(shop: Shop) -> None:
    """It does not wait for the copy's end; the next run begins another."""
    for first in range(10_000, 250_000, 1_000):
        rows = ", ".join(f"({number}, 'many', 0)" for number in range(first, first + 1_000))
        shop.source.execute(f"INSERT INTO accounts (id, owner, balance) VALUES {rows}")

    def chunks() -> int:
        try:
            return sum(end.kind == "snapshot" for end in shop.valid_ends())
        except CdcError:
            return 0

    with shop.source_running() as source:
        wait_until(lambda: chunks() > 0, "a first chunk")
        source.send(signal.SIGTERM)
        assert source.wait(20) == 0
    assert chunks() < 24
    with shop.source_running(), shop.sink_running():
        shop.work()
        shop.wait_caught_up()
        shop.assert_equal()


@pytest.mark.parametrize("pair", [*NEW_PAIRS, *MARIADB], indirect=True)
def test_both_killed_again_and_again(shop: Shop) -> None:
    for number in range(4):
        with shop.source_running() as source, shop.sink_running() as sink:
            if number:
                shop.work(3 * (number - 1), 3 * number)
                wait_until(lambda: shop.progress() is not None, "some progress")
            source.kill9()
            sink.kill9()
    with shop.source_running(), shop.sink_running():
        shop.work(9)
        shop.wait_caught_up()
        shop.assert_equal()
