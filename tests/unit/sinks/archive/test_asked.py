"""`sinks.archive.asked`: which moment somebody means, and that nothing is guessed."""

import time
from collections.abc import Iterator
from typing import cast

import pytest

from cdc.errors import ARGUMENT_INVALID, CdcError
from cdc.event import Engine
from cdc.position import Lsn, PgPosition
from sinks.archive.asked import choice, moment, of_its_engine, one_of, row, time_us
from sinks.archive.plan import Moment


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def refused(text: str) -> str:
    with pytest.raises(CdcError) as caught:
        time_us(text)
    assert caught.value.code is ARGUMENT_INVALID
    return str(caught.value)


def test_a_time_with_an_offset() -> None:
    assert time_us("1970-01-01 01:00:00.000001+01:00") == 1
    assert time_us("1970-01-01T00:00:00Z") == 0


@pytest.mark.parametrize(
    "text", ["", "yesterday", "0001-01-01 00:00:00+14:00", "9999-12-31 23:59:59-14:00", "0001-01-01"]
)
def test_what_is_no_time(text: str) -> None:
    assert "is no time" in refused(text)


@pytest.mark.usefixtures("berlin")
def test_a_time_without_an_offset_is_shown_as_what_it_could_mean() -> None:
    words = refused("2026-11-22 03:10:00")
    assert "'2026-11-22 03:10:00+00:00' (UTC), or --to-time '2026-11-22 03:10:00+01:00' (here)" in words


@pytest.mark.usefixtures("berlin")
def test_the_hour_that_comes_twice_and_the_one_that_does_not() -> None:
    twice = refused("2026-10-25 02:30:00")
    assert "'2026-10-25 02:30:00+02:00' (here)" in twice
    assert "'2026-10-25 02:30:00+01:00' (here)" in twice
    assert "that hour does not exist here" in refused("2026-03-29 02:30:00")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("1970-01-01 00:00:01+00:00", None, None), Moment(time_us=1_000_000)),
        ((None, "0/1A", None), Moment(position=PgPosition(1, Lsn(26)))),
        ((None, None, 7), Moment(txn_seq=7)),
    ],
)
def test_one_moment(given: tuple[str | None, str | None, int | None], meant: Moment) -> None:
    assert moment(*given, exclusive=False, epoch=None) == meant
    left_out = moment(*given, exclusive=True, epoch=3)
    assert (left_out.exclusive, left_out.epoch) == (True, 3)


def test_a_gtid_and_what_is_none() -> None:
    gtid = "3E11FA47-71CA-11E1-9E33-C80AA9429562:23"
    assert str(moment(None, None, None, gtid, exclusive=False, epoch=None).gtid) == gtid.lower()
    for wrong in ("23", f"{gtid}-24", f"{gtid},{gtid}", gtid[:-2]):
        with pytest.raises(CdcError, match="is no GTID"):
            moment(None, None, None, wrong, exclusive=False, epoch=None)


def test_positions_of_the_other_engine() -> None:
    of_its_engine("mysql", None, "x")
    of_its_engine("postgresql", "x", None)
    for engine, lsn, gtid in (("mysql", "0/1", None), ("postgresql", None, "x:1")):
        with pytest.raises(CdcError, match="the archive is of a"):
            of_its_engine(cast("Engine", engine), lsn, gtid)


def test_none_or_several() -> None:
    one_of(None, "x", None)
    for given in ((None, None), ("x", 7)):
        with pytest.raises(CdcError):
            one_of(*given)
    with pytest.raises(CdcError):
        moment(None, "nowhere", None, exclusive=False, epoch=None)


def test_a_row() -> None:
    assert row("public.lines:42,1") == ("public.lines", ["42", "1"])
    assert row('public.t:"a,b",c:d') == ("public.t", ["a,b", "c:d"])


@pytest.mark.parametrize("text", ["public.lines", "public.lines:", ":4", "t:a\nb", 't:"a'])
def test_what_names_no_row(text: str) -> None:
    with pytest.raises(CdcError) as caught:
        row(text)
    assert "names no row" in caught.value.text


def test_a_choice() -> None:
    assert [choice(None), choice("first-after"), choice("last-before")] == [None, "first-after", "last-before"]
    with pytest.raises(CdcError):
        choice("both")
