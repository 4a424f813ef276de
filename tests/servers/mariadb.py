"""A real MariaDB of our own, made, started and ended as a MySQL is; its database and its rows are of the same classes.

In: an empty or earlier used directory, the program from Debian's package. Out: a server on 127.0.0.1 with a row binlog
in domain 0, whose root logs in by a password as MariaDB 10.11 has it out of the box (mysql_native_password).
"""

import os
import subprocess

import pytest

from tests.servers.fetch import MARIADB, mysql_user
from tests.servers.mysql import MySQL

FLAVOURS = ("mysql", pytest.param("mariadb", marks=pytest.mark.matrix))
"""For the fixture `flavour`: on both servers, on MariaDB in the matrix alone."""
_SHARE = MARIADB / "usr" / "share" / "mysql"
_SYSTEM = ("mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data", "maria_add_gis_sp_bootstrap",
           "mysql_sys_schema")  # fmt: skip
_FIRST = """
CREATE DATABASE mysql;
USE mysql;
SET @auth_root_socket = NULL;
"""
_LAST = "DELETE FROM mysql.global_priv WHERE host <> 'localhost';\n"


class MariaDB(MySQL):
    """One server."""

    kind = "MariaDB"
    program = MARIADB / "usr" / "sbin" / "mariadbd"
    collation = "utf8mb4_nopad_bin"

    def environment(self) -> dict[str, str]:
        folders = map(str, (MARIADB / "usr" / "lib").glob("*-linux-*"))
        return os.environ | {"LD_LIBRARY_PATH": ":".join(folders)}

    def make_data(self) -> None:
        """What its own script does, less the help texts."""
        self.data.mkdir()
        places = (f"{name}={value}" for name, value in self._places().items())
        program = [str(self.program), "--no-defaults", "--bootstrap", *mysql_user(), f"--datadir={self.data}",
                   *(f"--{place}" for place in places), "--enforce-storage-engine=", "--innodb-log-file-size=16M",
                   "--max-allowed-packet=8M", "--net-buffer-length=16K"]  # fmt: skip
        system = "".join((_SHARE / f"{name}.sql").read_text() for name in _SYSTEM)
        statements = f"{_FIRST}{system}{_LAST}".encode()
        done = subprocess.run(program, input=statements, env=self.environment(), capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.kind} makes no data directory: {done.stderr.decode()[-1000:]}")

    def gtids(self) -> str:
        return str(self.execute("SELECT @@gtid_binlog_pos")[0][0])

    def last_gtid(self) -> str:
        (found,) = (each for each in self.gtids().split(",") if each.startswith("0-"))  # others are of single tests
        return found

    def own_settings(self) -> dict[str, str | int]:
        return {
            **self._places(),
            "binlog-format": "ROW",
            "character-set-server": "utf8mb4",
            "innodb-log-file-size": "64M",
        }

    def _places(self) -> dict[str, str | int]:
        # A server that starts clears the temporary files of all that share its folder.
        temporary = self.directory / "tmp"
        temporary.mkdir(exist_ok=True)
        return {"basedir": str(MARIADB / "usr"), "lc-messages-dir": str(_SHARE), "tmpdir": str(temporary)}
