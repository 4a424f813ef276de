"""Findings that every engine's check has."""

import pytest

from cdc.finding import Level, clocks, listed


@pytest.mark.parametrize(("apart_s", "words"), [(90.0, "90 s before this host's"), (-6.2, "6 s behind this host's")])
def test_clocks_that_are_apart_are_told(apart_s: float, words: str) -> None:
    (finding,) = clocks(apart_s)
    assert finding.level is Level.WARN
    assert words in finding.what


def test_clocks_that_are_together_are_no_news() -> None:
    assert list(clocks(4.0)) == list(clocks(-4.0)) == []


def test_a_long_list_is_cut() -> None:
    assert listed(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert listed(("a", "b"), most=2) == "a, b"
