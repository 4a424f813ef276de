"""A real Postgres of our own: made, started, killed, frozen, restarted on one port and one data directory.

In: an empty or earlier used directory; the programs of another version than 18, if it shall be one. Out: a server on
127.0.0.1 with `wal_level = logical`, passwords by SCRAM, superuser `postgres`. A directory that was used before keeps
its port, password and data.
Postgres refuses to run as root; root runs it as a system user that may pass through folders closed to him.
"""

import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.abc import Params, QueryNoTemplate

from tests.servers.fetch import POSTGRES15, POSTGRES_BIN
from tests.servers.process import Process, free_port
from tests.servers.server import Server

Row = tuple[Any, ...]
Mode = Literal["smart", "fast", "immediate"]
_STOP_SIGNAL = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Postgres(Server):
    """One server; `settings` are lines of postgresql.conf, on top of what the tests always need."""

    kind = "Postgres"
    psql = POSTGRES_BIN / "psql"
    pgbench = POSTGRES_BIN / "pgbench"
    pg_dump = POSTGRES_BIN / "pg_dump"

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str | int] | None = None,
        *,
        fsync: bool = False,
        programs: Path = POSTGRES_BIN,
    ) -> None:
        super().__init__(directory)
        self.programs = programs
        self._env = os.environ | ({} if programs == POSTGRES_BIN else {"LD_LIBRARY_PATH": _unpacked_libraries()})
        self.data = directory / "data"
        identity = directory / "identity.json"
        if identity.exists():
            known = json.loads(identity.read_text())
        else:
            known = {"port": free_port(), "password": secrets.token_hex(12)}
            self._initialize(known["password"])
            identity.touch(mode=0o600)
            identity.write_text(json.dumps(known))
        self.port: int = known["port"]
        self.password: str = known["password"]
        self._configure(settings or {}, fsync=fsync)

    def preload(self, environment: Mapping[str, str]) -> None:
        """More variables for the server, from its next start on."""
        self._env = {**self._env, **environment}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.process.cont()
            self.stop()

    def spawn(self) -> Process:
        return Process(
            [self.programs / "postgres", "-D", self.data],
            self.log,
            env=self._env,
            privileges=_privileges(),
            death_signal=signal.SIGQUIT,  # its immediate shutdown, which takes the backends along
        )

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, timeout: float = 60, mode: Mode = "fast") -> None:
        """End it as `pg_ctl stop -m mode` does."""
        self.process.stop(_STOP_SIGNAL[mode], timeout)

    def restart(self, mode: Mode = "fast") -> None:
        """Stop if it runs, then start on the same port and data."""
        if self.running:
            self.stop(mode=mode)
        self.start()

    def url(self, dbname: str = "postgres", user: str = "postgres", *, port: int | None = None) -> str:
        """A URL without password, as a cdc.toml wants it; `port` of a proxy, if one stands in front."""
        return f"postgresql://{quote(user)}@127.0.0.1:{port or self.port}/{quote(dbname)}"

    def dsn(
        self,
        dbname: str = "postgres",
        user: str = "postgres",
        password: str | None = None,
        *,
        port: int | None = None,
    ) -> str:
        """A URL with password: the superuser's, unless another is given."""
        secret = quote(password or self.password)
        return self.url(dbname, user, port=port).replace("@", f":{secret}@", 1)

    def env(self, dbname: str = "postgres", user: str = "postgres") -> dict[str, str]:
        """This process's environment with libpq's PG* variables, for psql, pgbench and pg_dump."""
        connection = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGDATABASE": dbname, "PGUSER": user}
        return self._env | connection | {"PGPASSWORD": self.password}

    def connect(self, dbname: str = "postgres", *, autocommit: bool = True) -> psycopg.Connection[Row]:
        """A superuser's connection."""
        return psycopg.connect(self.dsn(dbname), autocommit=autocommit, connect_timeout=10)

    def execute(self, query: QueryNoTemplate, params: Params | None = None, *, dbname: str = "postgres") -> list[Row]:
        """Run one statement in a connection of its own, committed; its rows, if it has any."""
        with self.connect(dbname) as connection:
            cursor = connection.execute(query, params)
            return cursor.fetchall() if cursor.description else []

    @property
    def version(self) -> int:
        """18, or 15."""
        return int(self.execute("SHOW server_version_num")[0][0]) // 10000

    def create_database(self, name: str) -> "Database":
        """A fresh, empty database."""
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return Database(self, name)

    def _initialize(self, password: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        passwords = self.directory / "initdb.password"
        passwords.touch(mode=0o600)
        passwords.write_text(password)
        as_server(self.directory, passwords)
        initdb = [
            str(self.programs / "initdb"),
            "-D",
            str(self.data),
            "-U",
            "postgres",
            f"--pwfile={passwords}",
        ]
        options = ["--auth=scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]
        command = ["setpriv", *_privileges(), "--", *initdb, *options]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr}")
        passwords.unlink()

    def _configure(self, settings: Mapping[str, str | int], *, fsync: bool) -> None:
        switch = "on" if fsync else "off"
        values: dict[str, str | int] = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": self.port,
            "max_connections": 100,
            "wal_level": "logical",
            "max_wal_senders": 20,
            "max_replication_slots": 20,
            "fsync": switch,
            "full_page_writes": switch,
            "timezone": "UTC",
        }
        values.update(settings)
        quoted = {name: str(value).replace("'", "''") for name, value in values.items()}
        lines = "".join(f"{name} = '{value}'\n" for name, value in quoted.items())
        (self.data / "tests.conf").write_text(lines)
        main = self.data / "postgresql.conf"
        include = "include 'tests.conf'\n"
        if include not in main.read_text():
            with main.open("a") as appended:
                appended.write(include)


@dataclass(frozen=True)
class Database:
    """One database of a running server."""

    server: Postgres
    name: str

    def url(self, user: str = "postgres", *, port: int | None = None) -> str:
        """See `Postgres.url`."""
        return self.server.url(self.name, user, port=port)

    def dsn(self, user: str = "postgres", password: str | None = None, *, port: int | None = None) -> str:
        """See `Postgres.dsn`."""
        return self.server.dsn(self.name, user, password, port=port)

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection[Row]:
        """A superuser's connection."""
        return self.server.connect(self.name, autocommit=autocommit)

    def execute(self, query: QueryNoTemplate, params: Params | None = None) -> list[Row]:
        """See `Postgres.execute`."""
        return self.server.execute(query, params, dbname=self.name)

    def drop(self) -> None:
        """Drop it with everything that would keep it: its sessions and its slots."""
        self.server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(self.name)))
        self.server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [self.name]
        )
        self.server.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s",
            [self.name],
        )
        self.server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))


def _unpacked_libraries() -> str:
    return ":".join(map(str, POSTGRES15.glob("usr/lib/*-linux-*")))


def as_server(*paths: Path) -> None:
    """Give the server what it must own."""
    if os.geteuid() == 0:
        server = _server_user()
        for path in paths:
            shutil.chown(path, server.pw_uid, server.pw_gid)


def _server_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("root needs a system user `postgres` or `nobody` to run Postgres")


def _privileges() -> list[str]:
    if os.geteuid() != 0:
        return []
    user = _server_user()
    return [
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        # The checkout may have mode 0700, which this user could not enter to read the program itself.
        # Postgres asks access(2), which forgets capabilities unless the fix-up for changed users is off.
        "--securebits=+no_setuid_fixup",
        "--inh-caps=-all,+dac_override",
        "--ambient-caps=-all,+dac_override",
    ]
