"""`cdc.retry`: what passes is waited for, what does not is raised."""

import pytest

from cdc.errors import SINK_HELD, SOURCE_UNREACHABLE, CdcError
from cdc.retry import keep_trying

AWAY = CdcError(SOURCE_UNREACHABLE, source="shop", problem="away")
HELD = CdcError(SINK_HELD, sink="eu", holder="somebody")


class Clock:
    """Time that only passes where somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("time.sleep", self.wait)

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def waits(clock: Clock, errors: list[CdcError | None], lasting: float = 0.0, **options: object) -> list[float]:
    """The waits until an attempt has ended by each of these; None: because it was stopped."""
    left, told = list(errors), []

    def attempt() -> None:
        clock.wait(lasting)
        error = left.pop(0)
        if error:
            raise error

    keep_trying(attempt, lambda: not left, lambda _, wait_s: told.append(wait_s), **options)  # type: ignore[arg-type]
    return told


def test_waits_grow_to_a_limit(clock: Clock) -> None:
    assert waits(clock, [AWAY] * 8 + [None]) == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_an_attempt_that_went_well_begins_them_anew(clock: Clock) -> None:
    assert waits(clock, [AWAY] * 3 + [None], lasting=61) == [0.5] * 3


def test_what_waiting_cannot_mend_is_raised(clock: Clock) -> None:
    with pytest.raises(CdcError) as raised:
        waits(clock, [AWAY, HELD, None])
    assert raised.value is HELD


def test_who_stands_by_asks_again_at_one_pace(clock: Clock) -> None:
    assert waits(clock, [HELD, HELD, None], standing_by={SINK_HELD}) == [2.0, 2.0]


def test_stopping_ends_the_waiting(clock: Clock) -> None:
    def fails() -> None:
        raise AWAY

    keep_trying(fails, lambda: clock.now >= 0.3, lambda *_: None)
    assert clock.now < 0.5
