"""What somebody sees while a base is taken."""

import io

import pytest
from rich.console import Console

from cdc.errors import COPY_TORN, CdcError
from sinks.archive.progress import BaseProgress

TORN = CdcError(COPY_TORN, source="shop", table="public.a")


def test_the_share_is_that_of_the_estimates_until_the_rows_are_known() -> None:
    shown = BaseProgress(Console(file=io.StringIO()))
    shown.begun({"public.a": 100, "public.b": 300})
    shares = []
    for table, rows, done in (("a", 50, False), ("a", 200, False), ("a", 200, True), ("b", 30, True)):
        shown.copying(f"public.{table}", rows, done=done)
        shares.append(shown.share)
    assert shares == [50 / 400, 200 / 501, 200 / 500, 1.0]
    shown.begun({"public.a": 100})
    assert shown.share == 0
    shown.begun({})
    assert shown.share == 1


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each table, and now and then one for what takes long."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with BaseProgress(Console(file=io.StringIO())) as shown:
        shown.waiting("for one")
        shown.waiting("for two")
        now[0] += 11
        shown.waiting("for three")
        shown.begun({"public.[b]": 4000})
        shown.copying("public.[b]", 1000, done=False)
        now[0] += 11
        shown.copying("public.[b]", 2000, done=False)
        shown.again(TORN)
        shown.copying("public.[b]", 5000, done=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "waiting for one",
        "waiting for three",
        "public.[b]: 2,000 rows so far; about 50% of all",
        "beginning again: table public.a was rewritten while the copy began",
        "public.[b]: 5,000 rows; about 100% of all",
    ]


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    with BaseProgress(Console(file=file, force_terminal=True, width=100)) as shown:
        shown.waiting("for the log")
        shown.begun({"public.[b]": 4000})
        shown.copying("public.[b]", 2000, done=False)
        shown.again(TORN)
        shown.copying("public.[b]", 2000, done=False)
    assert "public.[b]: 2,000 rows so far; about 50% of all" in file.getvalue()
    assert capsys.readouterr() == ("", "")
