"""A newcomer's first pipeline between two MySQLs or MariaDBs, every step by its command, from `init` to `teardown`."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.kafka import Kafka
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQLDatabase
from tests.servers.process import Process
from tests.system.pipeline import CDC, wait_until

pytestmark = [pytest.mark.matrix, pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)]

ORDERS = """
CREATE TABLE orders (id int PRIMARY KEY, what text, total decimal(10,2));
INSERT INTO orders VALUES (1, 'order 1', 1), (2, 'order 2', 2), (3, 'order 3', 3);
"""


class Host:
    """Where the commands are typed: a directory, and passwords in the environment."""

    def __init__(self, directory: Path, source: MySQLDatabase, target: MySQLDatabase, scheme: str) -> None:
        self.directory, self.scheme = directory, scheme
        self.environment = {
            **os.environ, "CDC_CONFIG": str(directory / "cdc.toml"), "COLUMNS": "250", "EU_PASSWORD": "it's-theirs",
            f"{source.name.upper()}_PASSWORD": "it's-ours", "MYSQL_PWD": source.server.password,
        }  # fmt: skip
        self._passwords = {name: database.server.password for name, database in ((source.name, source), ("eu", target))}
        self._admins = {name: self.url(at, "root") for name, at in ((source.name, source), ("eu", target))}

    def url(self, database: MySQLDatabase, user: str = "") -> str:
        return f"{self.scheme}://{user}{'@' if user else ''}127.0.0.1:{database.server.port}/{database.name}"

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CDC, *arguments], env={**self.environment, **more}, cwd=self.directory, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    def cdc(self, *arguments: str, **more: str) -> str:
        """Done without a fault; what it said."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def as_admin(self, verb: str, section: str, *arguments: str) -> str:
        admin = ("--admin-url", self._admins[section])
        return self.cdc(verb, section, *admin, *arguments, MYSQL_PWD=self._passwords[section])


@pytest.fixture
def host(
    tmp_path: Path, mysql_database: MySQLDatabase, mysql_target_database: MySQLDatabase, flavour: str
) -> Iterator[Host]:
    mysql_database.execute(ORDERS)
    yield Host(tmp_path, mysql_database, mysql_target_database, flavour)
    mysql_database.execute("DROP USER IF EXISTS cdc_reader")
    mysql_target_database.execute("DROP USER IF EXISTS cdc_writer")


def test_from_init_to_teardown(
    host: Host, mysql_database: MySQLDatabase, mysql_target_database: MySQLDatabase, kafka: Kafka
) -> None:
    source, target, name = mysql_database, mysql_target_database, mysql_database.name
    archive = f"file://{host.directory}/archive"
    host.cdc(
        "init", host.url(source), "--kafka", kafka.bootstrap, "--sink", f"eu={host.url(target)}", "--archive", archive
    )
    config = host.directory / "cdc.toml"
    written = config.read_text().replace('# roll_every = "60s"', 'roll_every = "1s"  ')
    config.write_text(written.replace('# heartbeat_every = "10s"', 'heartbeat_every = "1s"'))
    assert "CREATE USER" in host.as_admin("setup", name, "--dry-run")
    for section in (name, "eu"):
        host.as_admin("setup", section)
    assert "FAIL" not in host.cdc("check")
    running = Process([CDC, "up"], host.directory / "up.log", env=host.environment, cwd=host.directory)
    try:
        from_archive = ["restore", "--archive", f"{archive}/{name}", "--key-file", "archive-main.key"]
        wait_until(lambda: "base" in host.run(*from_archive, "--list").stdout, "the first base")
        source.execute("INSERT INTO orders VALUES (43, 'a new one', 12.50); DELETE FROM orders WHERE id = 1")
        gtid = source.server.last_gtid()
        assert "EQUAL: 1 tables" in host.cdc("verify", name, "--sink", "eu", "--wait", "60")
        assert "streaming" in host.cdc("status")
        host.cdc("archive", "anchor", "main")
        here = [*from_archive, "--to-gtid", gtid, "--table", f"{name}.orders", "--as", "again"]
        here += ["--into", host.url(target, "root")]
        wait_until(lambda: host.run(*here, "--dry-run").returncode == 0, "the transaction in the archive")
        restored = host.cdc(*here, MYSQL_PWD=target.server.password)
        assert restored.splitlines()[-1].startswith(("VERIFIED", "PROVEN")), restored
    finally:
        running.stop()
    assert target.execute("SELECT * FROM again") == source.execute("SELECT * FROM orders")
    # Other tests have used these servers, and a role that others may use stays.
    if source.execute("SHOW DATABASES LIKE 'cdc'"):
        source.execute("DELETE FROM cdc.heartbeat WHERE source NOT LIKE %s", [f"{name}%"])
    for section in (name, "eu"):
        host.as_admin("teardown", section)
    for database in (source, target):
        assert database.execute("SELECT user FROM mysql.user WHERE user LIKE 'cdc%%'") == []
