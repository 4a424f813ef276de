"""The catalogue: every code has a text, a way out and a place that raises it; every code is met by a test."""

import re
import string
from pathlib import Path

import pytest

from cdc import errors
from cdc.errors import CATALOGUE, EXIT_CODES, CdcError, Code, Kind
from tests.troubleshooting import FILE, document

ROOT = Path(__file__).parents[3]
WHERE = {"source", "table", "position"}
UNTESTED = {
    "DELIVERY_FAILED": "ends a run that was superseded or whose topic is gone, and is followed by that word",
}
"""Codes that no test meets by name, and why."""


def fields(code: Code) -> set[str]:
    texts = code.text + code.hint
    return {name for _, name, _, _ in string.Formatter().parse(texts) if name}


def made(code: Code) -> CdcError:
    return CdcError(code, **{name: f"<{name}>" for name in fields(code)})


@pytest.mark.parametrize("code", CATALOGUE.values(), ids=str)
def test_every_code_says_what_is_wrong_and_what_to_do(code: Code) -> None:
    error = made(code)
    assert error.text
    assert error.hint
    assert "{" not in error.text.replace("${", "")
    assert str(error).startswith(code.name)
    assert f"what to do: {error.hint}" in str(error)
    assert error.exit_code == EXIT_CODES[code.kind]
    for name in fields(code):
        assert f"<{name}>" in error.text + error.hint


@pytest.mark.parametrize("code", [c for c in CATALOGUE.values() if fields(c) - WHERE], ids=lambda c: c.name)
def test_a_missing_fact_is_refused_at_the_raise(code: Code) -> None:
    with pytest.raises(KeyError):
        CdcError(code)


def test_every_code_is_a_name_of_the_module_and_raised_somewhere() -> None:
    code = "\n".join(
        path.read_text() for package in ("cdc", "sinks") for path in (ROOT / package).rglob("*.py")
        if path.name != "errors.py"
    )  # fmt: skip
    for name, entry in CATALOGUE.items():
        assert getattr(errors, name) is entry
        assert re.search(rf"\b{name}\b", code), f"{name} is raised nowhere"


def test_every_code_is_met_by_a_test() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__))
    unmet = {name for name in CATALOGUE if not re.search(rf"\b{name}\b", tests)}
    assert unmet <= UNTESTED.keys()


def test_the_handbook_has_them_all() -> None:
    assert FILE.read_text() == document(), "write it anew: python -m tests.troubleshooting"


def test_the_place_stands_in_the_message() -> None:
    code = Code("SOMETHING", Kind.STOP, "it broke", "mend it")
    error = CdcError(code, source="shop", table="public.a", position="1:0/1")
    assert str(error) == "SOMETHING (source shop, table public.a, position 1:0/1): it broke\n  what to do: mend it"
    assert not error.transient
    assert CdcError(Code("AWAY", Kind.TRANSIENT, "away", "")).transient
    assert str(CdcError(Code("AWAY", Kind.TRANSIENT, "away", ""))) == "AWAY: away"


def test_exit_codes_are_those_of_the_handbook() -> None:
    assert EXIT_CODES == {Kind.TRANSIENT: 1, Kind.STOP: 5, Kind.USAGE: 2, Kind.HELD: 4, Kind.CORRUPT: 1, Kind.FAILED: 1}


def test_one_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="two codes named COPY_TORN"):
        errors._code("COPY_TORN", Kind.STOP, "", "")
