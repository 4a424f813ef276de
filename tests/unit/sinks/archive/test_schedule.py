"""When bases and anchors are due, over days of 23, 24 and 25 hours."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.measure import TimeOfDay
from sinks.archive.schedule import Schedule, Taken, anchor_due, base_due, base_late, base_overdue, job_due

H = 3600.0
DAY = 24 * H
BERLIN = ZoneInfo("Europe/Berlin")
NIGHTLY = TimeOfDay.parse("02:30 Europe/Berlin")


def berlin(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def schedule(
    base: float | None = DAY, at: TimeOfDay | None = None, anchor: float | None = None, *, from_source: bool = True
) -> Schedule:
    return Schedule(base, at, from_source, anchor)


def test_the_first_base_is_due_at_once_and_the_next_one_interval_later() -> None:
    assert base_due(schedule(), Taken(since=100.0)) == 100.0
    assert base_due(schedule(at=NIGHTLY), Taken(since=100.0)) == 100.0
    assert base_due(schedule(), Taken(0.0, base=500.0)) == 500.0 + DAY
    assert base_due(schedule(None), Taken(0.0)) is None


@pytest.mark.parametrize(
    ("begun", "every", "due"),
    [
        ("2026-05-04 02:30:07", DAY, "2026-05-05 02:30"),
        ("2026-05-04 10:00", DAY, "2026-05-05 02:30"),  # by hand
        ("2026-05-04 02:29", DAY, "2026-05-05 02:30"),
        ("2026-05-04 02:30:07", 7 * DAY, "2026-05-11 02:30"),
        ("2026-05-04 10:00", 7 * DAY, "2026-05-11 02:30"),
        ("2026-10-24 02:30:07", DAY, "2026-10-25 02:30"),  # a day of 25 hours follows
        ("2026-10-25 02:30:07", DAY, "2026-10-26 02:30"),
        ("2026-03-28 02:30:07", DAY, "2026-03-29 03:30"),  # 02:30 does not come that night
        ("2026-03-29 03:30:07", DAY, "2026-03-30 02:30"),
    ],
)
def test_a_time_of_day_is_kept_whatever_the_clocks_do(begun: str, every: float, due: str) -> None:
    assert base_due(schedule(every, NIGHTLY), Taken(0.0, base=berlin(begun))) == berlin(due)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001 - becomes Berlin's
    st.integers(1, 14),
    st.sampled_from(["02:30 Europe/Berlin", "00:00 America/Sao_Paulo", "23:59 Australia/Lord_Howe", "12:00 UTC"]),
)
def test_every_base_is_due_behind_the_last_at_that_time_and_never_late(when: datetime, days: int, at: str) -> None:
    begun, daily = when.replace(tzinfo=BERLIN).timestamp(), TimeOfDay.parse(at)
    due = base_due(schedule(days * DAY, daily), Taken(0.0, base=begun))
    assert due is not None
    assert begun < due <= begun + days * DAY + H
    shown = datetime.fromtimestamp(due, daily.zone)
    missing = datetime.combine(shown.date(), daily.at, daily.zone) - timedelta(hours=1)
    assert shown.time() == daily.at or shown.utcoffset() != missing.utcoffset()


def test_a_base_from_the_source_is_an_anchor_too() -> None:
    both = schedule(anchor=DAY)
    assert job_due(both, Taken(0.0), 0.0) == "backup"
    after = Taken(0.0, base=10.0, anchor=10.0)
    assert job_due(both, after, 10.0 + DAY - 1) is None
    assert job_due(both, after, 10.0 + DAY) == "backup"
    # A base that is due within the hour serves; one that fails for so long does not.
    nightly = schedule(at=NIGHTLY, anchor=DAY)
    long_day = Taken(0.0, base=berlin("2026-10-25 02:30"), anchor=berlin("2026-10-25 02:30"))
    assert anchor_due(nightly, long_day) == berlin("2026-10-26 02:30")
    assert job_due(nightly, long_day, berlin("2026-10-26 02:30")) == "backup"
    assert job_due(schedule(anchor=6 * H), after, 10.0 + 6 * H) == "anchor"
    assert job_due(schedule(None, anchor=DAY), Taken(0.0), 0.0) == "anchor"
    assert job_due(schedule(anchor=None, base=None), Taken(0.0), 1e9) is None


def test_a_base_from_a_sink_is_no_anchor() -> None:
    eu = schedule(anchor=DAY, from_source=False)
    assert anchor_due(eu, Taken(0.0, base=10.0, anchor=None)) == 0.0
    assert anchor_due(eu, Taken(0.0, base=10.0, anchor=20.0)) == 20.0 + DAY


def test_a_late_base_becomes_an_alarm() -> None:
    taken = Taken(0.0, base=0.0)
    assert not base_overdue(schedule(), taken, DAY + 6 * H)
    assert base_overdue(schedule(), taken, DAY + 6 * H + 1)
    assert base_overdue(schedule(H), taken, H + H / 4 + 1)
    assert base_overdue(schedule(), Taken(since=0.0), 6 * H + 1)
    assert not base_overdue(schedule(None), Taken(since=0.0), 1e9)


def test_a_base_whose_time_is_past_is_seen_after_minutes() -> None:
    """Or after twice the time that the last one took."""
    first = Taken(since=0.0)
    assert (base_late(schedule(), first, 300), base_late(schedule(), first, 301)) == (False, True)
    slow = Taken(0.0, base=0.0, base_took=H)
    assert (base_late(schedule(), slow, DAY + 2 * H), base_late(schedule(), slow, DAY + 2 * H + 1)) == (False, True)
    assert not base_late(schedule(None), first, 1e9)
