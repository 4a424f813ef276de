"""The restore's peers, at their best published settings: pg_dump and pg_restore with two jobs, pgBackRest with two.

In: databases and a server that hold the load. Out: seconds until the same rows can be used, and bytes stored.
pgBackRest comes from Debian's packages, unpacked; the machine's own is taken where there is one.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.servers.fetch import SERVERS, _apt_options, _piece, _run, _unpack
from tests.servers.postgres import Database, Postgres, _privileges

PGBACKREST = SERVERS / "pgbackrest"
PROGRAMS = Postgres.pg_dump.parent
_STANZA = "bench"


def bytes_under(directory: Path) -> int:
    """Of all files."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


# -- pg_restore -------------------------------------------------------------------------------------------------
def dump(database: Database, directory: Path) -> None:
    """In the form that several jobs can read, and not compressed, which is read most quickly."""
    options = ["--format=directory", "--jobs=2", "--compress=0", f"--file={directory}"]
    _postgres(database, "pg_dump", *options)


def pg_restore(directory: Path, target: Database) -> float:
    """Until it has its indexes, constraints and statistics."""
    began = time.monotonic()
    _postgres(target, "pg_restore", "--jobs=2", "--exit-on-error", f"--dbname={target.name}", str(directory))
    _postgres(target, "vacuumdb", "--analyze-only", "--jobs=2", "--quiet", target.name)
    return time.monotonic() - began


def pg_restore_table(directory: Path, target: Database, table: str) -> float:
    """Of one table, by a list of what belongs to it; its foreign key wants a table that is not there."""
    found = _postgres(target, "pg_restore", "--list", str(directory)).splitlines()
    contents = directory.with_suffix(".list")
    contents.write_text("\n".join(one for one in found if f" {table} " in f"{one} " or f" {table}_" in one
                                  if "FK CONSTRAINT" not in one))  # fmt: skip
    began = time.monotonic()
    _postgres(target, "pg_restore", "--jobs=2", "--exit-on-error", f"--use-list={contents}", f"--dbname={target.name}",
              str(directory))  # fmt: skip
    _postgres(target, "vacuumdb", "--analyze-only", "--jobs=2", "--quiet", target.name)
    return time.monotonic() - began


def _postgres(database: Database, program: str, *arguments: str) -> str:
    return _done([str(PROGRAMS / program), *arguments], database.server.env(database.name))


# -- pgBackRest -------------------------------------------------------------------------------------------------
def fetch_pgbackrest() -> str:
    """The shell's words for the program."""
    found = shutil.which("pgbackrest")
    if found:
        return found
    if not PGBACKREST.exists():
        _run(["apt-get", *_apt_options(), "update", "--quiet"])
        with _piece(PGBACKREST) as partial:
            _unpack("pgbackrest", partial)
    libraries = ":".join(map(str, PGBACKREST.glob("usr/lib/*-linux-*")))
    return f"env LD_LIBRARY_PATH={libraries} {PGBACKREST / 'usr/bin/pgbackrest'}"


class PgBackRest:
    """A repository beside a Postgres 15, whose `settings` it brings."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        directory.chmod(0o777)
        self.repository, self._config = directory / "repository", directory / "pgbackrest.conf"
        self._directory = directory
        self._program = fetch_pgbackrest()
        self._command = f"{self._program} --config={self._config} --stanza={_STANZA}"
        self.settings: dict[str, str | int] = {
            "archive_mode": "on",
            "archive_command": f"{self._command} archive-push %p",
            "wal_level": "replica",
            "unix_socket_directories": str(directory),
        }

    def attach(self, server: Postgres) -> None:
        """The server runs."""
        self._config.write_text(f"""
[global]
repo1-path={self.repository}
repo1-bundle=y
repo1-retention-full=1
log-path={self._directory / "log"}
lock-path={self._directory / "lock"}
spool-path={self._directory / "spool"}
log-level-console=warn
process-max=2
compress-type=zst
compress-level=3
archive-async=y
start-fast=y
[{_STANZA}]
pg1-path={server.data}
pg1-port={server.port}
pg1-socket-path={self._directory}
pg1-user=postgres
""")
        self._server = server
        self._run("stanza-create")

    def backup(self) -> None:
        self._run("backup", "--type=full")

    @property
    def backup_bytes(self) -> int:
        return bytes_under(self.repository / "backup")

    @property
    def log_bytes(self) -> int:
        return bytes_under(self.repository / "archive")

    def restore(self, moment: str) -> float:
        """The server was stopped. Until it takes writes again, as it was at that moment."""
        server = self._server
        server.data.rename(server.data.with_name("data.before"))
        began = time.monotonic()
        _done(["setpriv", *_privileges(), "--", "mkdir", "-m", "0700", str(server.data)], os.environ)
        self._run("restore", "--type=time", f"--target={moment}", "--target-action=promote", "--archive-mode=off")
        server.start(timeout=7200)
        while server.execute("SELECT pg_is_in_recovery()") != [(False,)]:
            time.sleep(0.1)
        return time.monotonic() - began

    def _run(self, command: str, *options: str) -> None:
        words = [*self._command.split(), *options, command]
        _done(["setpriv", *_privileges(), "--", *words], os.environ | {"PGPASSWORD": self._server.password})


def _done(command: Sequence[str], environment: "os._Environ[str] | dict[str, str]") -> str:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"failed: {' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
