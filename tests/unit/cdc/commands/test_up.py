"""The supervisor, on programs that end in every way: again after a failure, alone after a decision, all at the end."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cdc.commands import up
from cdc.commands.sections import Unit

PROGRAM = """
import os, sys, time, signal
name = sys.argv[3]
starts = os.path.join(os.environ["STARTS"], name)
with open(starts, "a") as file:
    file.write("x")
print(f"{name} runs", flush=True)
if name == "decides":
    sys.exit(5)
if name == "misconfigured":
    sys.exit(2)
if name == "fails":
    sys.exit(1)
if name == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while os.getppid() == int(os.environ["CDC_SUPERVISOR"]):
    time.sleep(0.05)
"""


@pytest.fixture
def supervise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, Callable[[str], int]]]:
    """Run these units until stopped after so many seconds; exit code, output, number of starts."""
    program = tmp_path / "unit.py"
    program.write_text(PROGRAM)
    monkeypatch.setenv("STARTS", str(tmp_path))
    monkeypatch.setattr(up, "_BACKOFF_S", (0.1, 0.2))
    plain = up.Child.__init__

    def init(self: up.Child, unit: Unit, config: Path) -> None:
        plain(self, unit, config)
        self._command[1:3] = [str(program)]

    monkeypatch.setattr(up.Child, "__init__", init)

    def run(*names: str, for_s: float = 60) -> tuple[int, str, Callable[[str], int]]:
        until = time.monotonic() + for_s
        code = up.run([("source", name) for name in names], tmp_path / "cdc.toml", lambda: time.monotonic() > until)
        time.sleep(0.1)
        return code, capsys.readouterr().err, lambda name: len((tmp_path / name).read_text())

    return run


Supervise = Callable[..., tuple[int, str, Callable[[str], int]]]


def test_units_run_until_the_signal_and_their_lines_are_prefixed(supervise: Supervise) -> None:
    code, output, starts = supervise("one", "two", for_s=1.5)
    assert code == 0
    assert "source.one | one runs" in output
    assert "source.two | two runs" in output
    assert (starts("one"), starts("two")) == (1, 1)


def test_a_unit_that_fails_is_started_again(supervise: Supervise) -> None:
    code, output, starts = supervise("fails", for_s=2)
    assert code == 0
    assert starts("fails") > 2
    assert "source.fails | ended with exit code 1, again in 0.1 s" in output


def test_a_unit_that_wants_a_decision_is_left_alone_and_named(supervise: Supervise) -> None:
    code, output, starts = supervise("decides", "one", for_s=2)
    assert code == 5
    assert (starts("decides"), starts("one")) == (1, 1)
    assert "source.decides wants a decision (exit code 5)" in output


def test_when_every_unit_wants_a_decision_it_ends_by_itself(supervise: Supervise) -> None:
    begun = time.monotonic()
    code, output, _ = supervise("misconfigured")
    assert code == 2
    assert time.monotonic() - begun < 30
    assert "source.misconfigured wants a decision (exit code 2)" in output


def test_a_unit_that_does_not_hear_is_killed(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "_PATIENCE_S", 0.5)
    begun = time.monotonic()
    code, _, _ = supervise("deaf", for_s=1.5)
    assert code == 0
    assert time.monotonic() - begun < 10
