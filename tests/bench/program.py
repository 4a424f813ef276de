"""`cdc` as a benchmark runs it: commands that come to an end, and a service while it is watched.

In: a configuration file, the environment that names its secrets. Out: a command that succeeded, or a running process
that is stopped in order. Refuses: a command that fails, with its output.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import Process

CDC = Path(sys.executable).with_name("cdc")


def run_to_end(config: Path, environment: Mapping[str, str], *command: str) -> None:
    """`cdc COMMAND…`, which has to succeed."""
    done = subprocess.run(
        [CDC, *command, "--config", config],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"cdc {' '.join(command)} failed: {done.stdout}{done.stderr}")


@contextmanager
def running(config: Path, environment: Mapping[str, str], kind: str, name: str) -> Iterator[Process]:
    """`cdc source run NAME` or `cdc sink run NAME`, its log beside the configuration."""
    program = Process([CDC, kind, "run", name, "--config", config], config.with_name(f"{name}.log"), env=environment)
    try:
        yield program
        program.stop()
    finally:
        if program.running:
            program.kill9()
