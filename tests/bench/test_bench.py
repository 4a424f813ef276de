"""The arithmetic behind the measures; the drains themselves are `make bench`."""

import pytest

from tests.bench import mysql_workload
from tests.bench.measure import Drain, Sample, measure_line, meets
from tests.bench.restore_load import Load
from tests.bench.workload import MIXED, SINGLE, Milestones, parse_lsn


def test_workloads_have_the_published_size() -> None:
    assert (MIXED.events, MIXED.transactions) == (510_000, 18_000)
    assert [MIXED.rounds * each for each in (MIXED.inserts, MIXED.updates, MIXED.deletes)] == [
        300_000,
        150_000,
        60_000,
    ]
    assert (SINGLE.events, SINGLE.transactions) == (200_000, 200_000)
    assert MIXED.events_of_records(MIXED.records) == MIXED.events


def test_workloads_of_mysql_have_the_published_size() -> None:
    assert (mysql_workload.MIXED.events, mysql_workload.MIXED.transactions) == (300_000, 9_000)
    assert (mysql_workload.SINGLE.events, mysql_workload.SINGLE.transactions) == (150_000, 150_000)


def test_a_restore_has_the_published_size() -> None:
    load = Load(2_000_000)
    assert (load.changes, load.rows_afterwards) == (6_000_000, 3_200_000)


def test_milestones_are_interpolated() -> None:
    milestones = Milestones(1000, [(85, 2000), (170, 4000)])
    seen = [milestones.events_at(lsn) for lsn in (0, 1000, 1500, 2000, 3000, 4000, 9000)]
    assert seen == [0, 0, 42.5, 85, 127.5, 170, 170]


def test_lsn() -> None:
    assert parse_lsn("1/A0") == (1 << 32) + 160


def test_only_the_last_two_thirds_count() -> None:
    cold = [Sample(seconds=9.0, events=299, cpu_seconds=50.0), Sample(10.0, 300, 50.0)]
    drain = Drain("x", "mixed", 1, 900, 1.0, 0.0, [*cold, Sample(11.0, 600, 50.3), Sample(12.0, 900, 50.6)])
    assert drain.events_per_second == pytest.approx(300)
    assert drain.cpu_us_per_event == pytest.approx(1000)


@pytest.mark.parametrize(
    ("value", "target", "kept"),
    [(1.2, ">= 1.2", True), (1.1, ">= 1.2", False), (0.5, "<= 0.5", True), (0.6, "<= 0.5", False), (9, "", True)],
)
def test_targets(value: float, target: str, *, kept: bool) -> None:
    assert meets(value, target) is kept


def test_line() -> None:
    assert measure_line("mixed.ours/debezium.events_per_s", 1.5, ">= 1.2") == (
        "measure mixed.ours/debezium.events_per_s 1.50 >= 1.2"
    )
    assert measure_line("mixed.ours.events_per_s", 51234.5) == "measure mixed.ours.events_per_s 51234"
