"""What is shown: each command as a user types it, with what it prints, and what the databases answer."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

import psycopg
from rich.console import Console

from tests.demo.stage import FOLDER, Stage

CDC = Path(sys.executable).with_name("cdc")
console = Console(highlight=False, soft_wrap=True)


def run_cdc(stage: Stage, *arguments: str, env: dict[str, str] | None = None, check: bool = True) -> int:
    """A command as a user types it, shown with what it prints."""
    show(arguments)
    process = subprocess.run([str(CDC), *arguments], env={**stage.environment, **(env or {})}, cwd=FOLDER, check=False)
    if check and process.returncode != 0:
        sys.exit(process.returncode)
    return process.returncode


def run_restore(stage: Stage, *arguments: str, at_source: bool = False) -> str:
    """`cdc-restore` as a user types it; its last line."""
    console.print(f"[bold]$ cdc-restore {shlex.join(arguments)}[/]")
    began = time.monotonic()
    done = restore_process(stage, *arguments, at_source=at_source)
    console.print(done.stdout, end="", markup=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    say(f"({time.monotonic() - began:.1f} s)")
    return done.stdout.splitlines()[-1]


def restore_process(
    stage: Stage, *arguments: str, at_source: bool = False, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    password = stage.source_password if at_source else stage.replica_password
    return subprocess.run(
        [str(CDC.with_name("cdc-restore")), *arguments], env={**stage.environment, "PGPASSWORD": password}, cwd=FOLDER,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE if capture else None, text=True, check=False,
    )  # fmt: skip


def ask(stage: Stage, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(stage.replica_url, password=stage.replica_password) as connection:
        try:
            return connection.execute(query).fetchall()
        except psycopg.errors.UndefinedTable:
            return []


def show(arguments: list[str] | tuple[str, ...], more: str = "") -> None:
    console.print(f"[bold]$ cdc {shlex.join(arguments)} {more}[/]".rstrip())


def say(line: str) -> None:
    console.print(f"[cyan]{time.strftime('%X')}[/] {line}")
