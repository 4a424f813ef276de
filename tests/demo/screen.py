"""What is shown: each command as a user types it, with what it prints."""

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.demo.database import Database
from tests.demo.stage import FOLDER, Stage

CDC = Path(sys.executable).with_name("cdc")
console = Console(highlight=False, soft_wrap=True)


def run_cdc(stage: Stage, *arguments: str, check: bool = True) -> int:
    """A command as a user types it, shown with what it prints."""
    show(arguments)
    process = subprocess.run([str(CDC), *arguments], env=stage.environment, cwd=FOLDER, check=False)
    if check and process.returncode != 0:
        sys.exit(process.returncode)
    return process.returncode


def run_setup(stage: Stage, name: str, admin: Database) -> None:
    """What it does and why, without the SQL itself."""
    arguments = ("setup", name, "--admin-url", admin.url)
    show(arguments)
    env = {**stage.environment, **admin.variables}
    done = subprocess.run([str(CDC), *arguments], env=env, cwd=FOLDER, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("-- "):
            console.print(line, markup=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def run_restore(stage: Stage, *arguments: str, into: Database | None = None) -> str:
    """`cdc-restore` as a user types it; its last line."""
    more = ("--into", into.url) if into else ()
    console.print(f"[bold]$ cdc-restore {shlex.join([*arguments, *more])}[/]")
    began = time.monotonic()
    done = restore_process(stage, *arguments, *more, variables=into.variables if into else {})
    console.print(done.stdout, end="", markup=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    say(f"({time.monotonic() - began:.1f} s)")
    return done.stdout.splitlines()[-1]


def restore_process(
    stage: Stage, *arguments: str, variables: dict[str, str], capture: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CDC.with_name("cdc-restore")), *arguments], env={**stage.environment, **variables}, cwd=FOLDER,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE if capture else None, text=True, check=False,
    )  # fmt: skip


def wait_until(met: Callable[[], bool], what: str, patience_s: float = 180.0, every_s: float = 0.2) -> None:
    """Ask again and again; the end of the play if it never comes."""
    deadline = time.monotonic() + patience_s
    while not met():
        if time.monotonic() > deadline:
            sys.exit(f"not within {patience_s:.0f} s: {what}; see {FOLDER / 'up.log'}")
        time.sleep(every_s)


def show(arguments: list[str] | tuple[str, ...], more: str = "") -> None:
    console.print(f"[bold]$ cdc {shlex.join(arguments)} {more}[/]".rstrip())


def say(line: str) -> None:
    console.print(f"[cyan]{time.strftime('%X')}[/] {line}")


def head(line: str) -> None:
    """A new act."""
    console.print()
    console.rule(f"[bold]{line}", align="left")
