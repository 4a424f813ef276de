"""docs/RESTORE.md, command by command, in the order in which somebody follows it at night."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.fetch import ROOT
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.system.pipeline import CDC, Pipeline, wait_until
from tests.system.test_archive_writer import logged

pytestmark = pytest.mark.postgres_versions("target")

RUNBOOK = (ROOT / "docs/RESTORE.md").read_text()
SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers, note text);
INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 9) i;
INSERT INTO orders SELECT i, 1 + i % 9, 'order ' || i FROM generate_series(1, 100) i;
"""


class Night:
    """What the commands find in their environment; names of the document become those of the test."""

    def __init__(self, pipeline: Pipeline, region: Database) -> None:
        self._pipeline, self._region = pipeline, region
        self.names: dict[str, str] = {}

    def run(self, name: str) -> str:
        """A block of the document, as it stands; its output."""
        language, text = block(name)
        if language == "sh":
            return self.run_shell(text)
        text = self._with_names(text)
        # ALTER DATABASE wants nobody to be connected to it.
        database = "postgres" if "ALTER DATABASE" in text else self._pipeline.source.name
        statements = [part for one in text.split(";\n") if one.strip() for part in ("-c", one)]
        url = self._pipeline.source.server.url(database)
        return self._done(["psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", url, *statements], self._pipeline.source.server)

    def run_shell(self, text: str) -> str:
        server = self._region.server if "REGION" in text else self._pipeline.source.server
        return self._done(["bash", "-euc", self._with_names(text)], server)

    def _with_names(self, text: str) -> str:
        for old, new in self.names.items():
            text = text.replace(old, new)
        return text

    def _done(self, command: list[str], server: Postgres) -> str:
        environment = {
            **self._pipeline.environment,
            "PATH": f"{CDC.parent}:{Postgres.psql.parent}:{os.environ['PATH']}",
            "ARCHIVE": self._pipeline.archive_url,
            "CDC_ARCHIVE_KEY": self._pipeline.archive_key,
            "LIVE": self._pipeline.source.url(),
            "REGION": self._region.server.url(),
            "PGPASSWORD": server.password,
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


def block(name: str) -> tuple[str, str]:
    """Language and text behind `<!-- test: name -->`."""
    match = re.search(rf"<!-- test: {name} -->\n```(\w+)\n(.*?)```", RUNBOOK, re.DOTALL)
    assert match is not None
    return match[1], match[2]


@pytest.fixture
def pipeline(tmp_path: Path, database: Database, postgres_target: Postgres, kafka: Kafka) -> Iterator[Pipeline]:
    database.execute(SHOP)
    region = Database(postgres_target, f"{database.name}_region")
    made = Pipeline(tmp_path, database, region, kafka.bootstrap)
    made.publish()
    yield made
    postgres_target.execute(f"DROP DATABASE IF EXISTS {region.name} WITH (FORCE)".encode())


def test_the_night(pipeline: Pipeline) -> None:
    source, name = pipeline.source, pipeline.source.name
    night = Night(pipeline, pipeline.target)
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: len(logged(pipeline)) >= 2, "the copy")
        backup = pipeline.run("archive", "backup", "main", env={"PG_DUMP": str(Postgres.pg_dump)})
        assert backup.wait(60) == 0, backup.log.read_text()
        source.execute("UPDATE orders SET note = 'paid' WHERE id < 50")
        time.sleep(0.1)
        ((good,),) = source.execute("SELECT clock_timestamp()::text")
        time.sleep(0.1)
        rows = pipeline.rows(source, "orders")
        source.execute("DELETE FROM orders WHERE id BETWEEN 40 AND 45")
        source.execute("UPDATE orders SET note = 'sent' WHERE id = 7")
        pipeline.wait_archived()
        accident = str(logged(pipeline)[-2][0])
        night.names = {
            "2026-11-22 03:10:00+01:00": f"{good}:00" if re.search(r"[+-]\d\d$", good) else good,
            "--to-txn 42": f"--to-txn {accident}",
            "shop_": f"{name}_",
            " shop;": f" {name};",
            " shop ": f" {name} ",
        }
        assert "transaction" in night.run("list")
        cuts = re.findall(r"first transaction out  (\d+)", night.run("moments"))
        assert cuts == [accident] * 3
        assert night.run("one table").splitlines()[-1].startswith(("VERIFIED", "PROVEN"))
        compared = night.run("compare")
        assert re.search(r"^ +6$", compared, re.MULTILINE)
        assert "sent" in compared
        night.run("merge")
        assert source.execute("SELECT count(*) FROM orders") == [(100,)]
        assert source.execute("SELECT to_regnamespace('restored')") == [(None,)]
        assert night.run("whole").splitlines()[-1].startswith(("VERIFIED", "PROVEN"))
        then = Database(source.server, f"{name}_then")
        assert pipeline.rows(then, "orders") == rows
        pipeline.wait_archived()
        newest = re.findall(r"^to +(\S+ \S+)", night.run("list"), re.MULTILINE)[-1]
        region = f"{name}_region"
        night.names = {"2026-11-22 03:15:00+01:00": newest, "/shop": f"/{region}", '" shop\n': f'" {region}\n'}
        night.run("region")
        with pipeline.sink_running():
            source.execute("INSERT INTO orders VALUES (101, 1, 'the next day')")
            pipeline.wait_caught_up()
            pipeline.assert_equal()
    night.names = {"shop_": f"{name}_", " shop;": f" {name};", " shop ": f" {name} "}
    night.run("leave")
    night.run("switch")
    assert pipeline.rows(source, "orders") == rows
    setup, again = block("return")[1].splitlines()
    night.run_shell(setup)
    assert again.replace("shop", name) == f"cdc source run {name} --reopen copy-again"
    with pipeline.source_running("--reopen", "copy-again"), pipeline.sink_running():
        source.execute("INSERT INTO orders VALUES (102, 1, 'after the switch')")
        pipeline.wait_caught_up()
        pipeline.assert_equal()
    Database(source.server, f"{name}_broken").drop()
