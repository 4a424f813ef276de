"""A real MySQL of our own: made, started, killed, frozen, restarted on one port and one data directory.

In: an empty or earlier used directory. Out: a server on 127.0.0.1 with a row binlog, GTIDs, TLS and passwords by
caching_sha2_password as MySQL 8 has them out of the box; user `root` from everywhere. A directory that was used before
keeps its port, password, UUID and data; another begins with a copy of `MYSQL_DATA`.
"""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT

from tests.servers.fetch import MYSQL, MYSQL_DATA, mysql_libraries, mysql_user
from tests.servers.process import Process, free_port
from tests.servers.server import Server

Row = tuple[Any, ...]
_FIRST = "init.sql"


class MySQL(Server):
    """One server; `settings` are lines of my.cnf, on top of what the tests always need."""

    kind = "MySQL"
    program = MYSQL / "bin" / "mysqld"
    collation = "utf8mb4_0900_bin"
    """Binary, and blanks at the end count."""

    def __init__(
        self, directory: Path, settings: Mapping[str, str | int] | None = None, *, fsync: bool = False
    ) -> None:
        super().__init__(directory)
        self.data = directory / "data"
        self.config = directory / "my.cnf"
        directory.mkdir(parents=True, exist_ok=True)
        identity = directory / "identity.json"
        known = json.loads(identity.read_text()) if identity.exists() else None
        self.port: int = known["port"] if known else free_port()
        self.password: str = known["password"] if known else secrets.token_hex(12)
        self._configure(settings or {}, fsync=fsync)
        if not known:
            identity.touch(mode=0o600)
            identity.write_text(json.dumps({"port": self.port, "password": self.password}))

    def spawn(self) -> Process:
        program: list[str | Path] = [self.program, f"--defaults-file={self.config}", *mysql_user()]
        if not self.data.exists():
            program.append(f"--init-file={self._prepare()}")
        return Process(program, self.log, env=self.environment())

    def answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.OperationalError:
            return False
        (self.directory / _FIRST).unlink(missing_ok=True)
        return True

    def url(self, dbname: str = "", user: str = "root", *, port: int | None = None) -> str:
        """A URL without password, as a cdc.toml wants it; `port` of a proxy, if one stands in front."""
        return f"mysql://{quote(user)}@127.0.0.1:{port or self.port}/{quote(dbname)}"

    def connect(
        self, dbname: str = "", user: str = "root", password: str | None = None, *, autocommit: bool = True
    ) -> Connection:
        """A connection: root's, unless another is named; it takes several statements at once."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=user,
            password=self.password if password is None else password,
            database=dbname or None,
            autocommit=autocommit,
            client_flag=CLIENT.MULTI_STATEMENTS,
            ssl_disabled=True,  # which takes a tenth of the time
        )

    def execute(self, query: str, params: Any = None, *, dbname: str = "") -> list[Row]:
        """Run statements in a connection of its own, committed; the rows of the last one, if it has any."""
        with self.connect(dbname) as connection, connection.cursor() as cursor:
            cursor.execute(query, params)
            while cursor.nextset():
                pass
            return list(cursor.fetchall()) if cursor.description else []

    def gtids(self) -> str:
        """Every transaction it has executed, on one line."""
        return str(self.execute("SELECT @@gtid_executed")[0][0]).replace("\n", "")

    def last_gtid(self) -> str:
        """Of the transaction that it made last."""
        (uuid,) = self.execute("SELECT @@server_uuid")[0]
        return f"{uuid}:{self.gtids().rpartition('-')[2]}"

    def create_database(self, name: str) -> "MySQLDatabase":
        """A fresh, empty database."""
        self.execute(f"CREATE DATABASE {quoted(name)}")
        return MySQLDatabase(self, name)

    def environment(self) -> dict[str, str]:
        """In which its program finds its libraries."""
        return os.environ | {"LD_LIBRARY_PATH": mysql_libraries()}

    def make_data(self) -> None:
        """A data directory in which nobody has been."""
        shutil.copytree(MYSQL_DATA, self.data)

    def _prepare(self) -> Path:
        self.make_data()
        first = self.directory / _FIRST
        first.touch(mode=0o600)
        first.write_text(
            "SET sql_log_bin = 0;\n"
            f"ALTER USER root@localhost IDENTIFIED BY '{self.password}';\n"
            "RENAME USER root@localhost TO root@'%';\n"
        )
        return first

    def own_settings(self) -> dict[str, str | int]:
        """What no other server of this family has."""
        return {
            "basedir": str(MYSQL),
            "mysqlx": "OFF",
            "gtid-mode": "ON",
            "enforce-gtid-consistency": "ON",
            "innodb-redo-log-capacity": "64M",
        }

    def _configure(self, settings: Mapping[str, str | int], *, fsync: bool) -> None:
        values: dict[str, str | int] = {
            "datadir": str(self.data),
            "bind-address": "127.0.0.1",
            "port": self.port,
            "socket": "mysql.sock",  # in the data directory: a path of its own may be too long for a socket
            "skip-name-resolve": "ON",
            "server-id": self.port,
            "log-bin": "binlog",
            "binlog-row-metadata": "FULL",
            "max-connections": 100,
            "innodb-buffer-pool-size": "64M",
            "innodb-flush-log-at-trx-commit": 1 if fsync else 2,
            "innodb-doublewrite": "ON" if fsync else "OFF",
            "sync-binlog": 1 if fsync else 0,
            "table-open-cache": 400,
            **self.own_settings(),
        }
        values.update({name.replace("_", "-"): value for name, value in settings.items()})
        lines = "".join(f"{name} = {value}\n" for name, value in values.items())
        self.config.write_text(f"[mysqld]\n{lines}")


@dataclass(frozen=True)
class MySQLDatabase:
    """One database of a running server."""

    server: MySQL
    name: str

    def url(self, user: str = "root", *, port: int | None = None) -> str:
        """See `MySQL.url`."""
        return self.server.url(self.name, user, port=port)

    def connect(self, *, autocommit: bool = True) -> Connection:
        """Root's connection."""
        return self.server.connect(self.name, autocommit=autocommit)

    def execute(self, query: str, params: Any = None) -> list[Row]:
        """See `MySQL.execute`."""
        return self.server.execute(query, params, dbname=self.name)

    def drop(self) -> None:
        """Drop it, and end the sessions that would keep it."""
        sessions = self.server.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [self.name])
        for (session,) in sessions:
            try:
                self.server.execute(f"KILL {session}")
            except pymysql.OperationalError as gone:
                if gone.args[0] != _NO_SUCH_THREAD:
                    raise
        self.server.execute(f"DROP DATABASE {quoted(self.name)}")


_NO_SUCH_THREAD = 1094


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return "`" + name.replace("`", "``") + "`"
