"""docs/FIRST_PIPELINE.md and the README's commands, in the order in which a newcomer types them."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from tests.servers.fetch import ROOT, kcat
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.servers.process import Process
from tests.system.document import Document
from tests.system.pipeline import CDC, wait_until

ORDERS = """
CREATE TABLE orders (id int PRIMARY KEY, what text, total numeric(10,2));
INSERT INTO orders SELECT i, 'order ' || i, i FROM generate_series(1, 42) i
"""


class Place:
    """Where a newcomer works: two databases, a Kafka, a directory; and the names that the documents have for them."""

    def __init__(self, directory: Path, source: Database, target: Database, kafka: Kafka) -> None:
        self.directory, self.source, self.target = directory, source, target
        passwords = directory / "pgpass"
        lines = [f"127.0.0.1:{d.server.port}:*:postgres:{d.server.password}\n" for d in (source, target)]
        passwords.write_text("".join(lines))
        passwords.chmod(0o600)
        tools = [CDC.parent, Postgres.psql.parent, Path(kcat()).parent, Path("/usr/bin"), Path("/bin")]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("CDC_", "PG"))},
            "PATH": ":".join(map(str, tools)),
            "PGPASSFILE": str(passwords),
            "PG_DUMP": str(Postgres.pg_dump),
        }
        self.names = {
            "db1.internal/shop": f"127.0.0.1:{source.server.port}/{source.name}",
            "pg-eu.internal/shop": f"127.0.0.1:{target.server.port}/{target.name}",
            "kafka1:9092": kafka.bootstrap,
            "SHOP_PASSWORD": f"{source.name.upper()}_PASSWORD",
            "shop.public": f"{source.name}.public",
            "/backup/cdc/shop": f"{directory}/archive/{source.name}",
            "/backup/cdc": f"{directory}/archive",
            " shop ": f" {source.name} ",
            "shop_then": f"{source.name}_then",
        }

    def read(self, name: str) -> Document:
        return Document(name, self.directory, self.names, self.environment)

    def drop_roles(self) -> None:
        for database, role in ((self.source, "cdc_reader"), (self.target, "cdc_writer")):
            if database.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]):
                database.execute(sql.SQL("DROP OWNED BY {0}").format(sql.Identifier(role)))
                database.execute(sql.SQL("DROP ROLE {0}").format(sql.Identifier(role)))


@pytest.fixture
def place(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka) -> Iterator[Place]:
    database.execute(ORDERS)
    made = Place(tmp_path, database, target_database, kafka)
    yield made
    made.drop_roles()


def test_a_newcomer_s_first_pipeline(place: Place) -> None:
    page = place.read("docs/FIRST_PIPELINE.md")
    assert "cdc.toml is written" in page.run("init")
    config = place.directory / "cdc.toml"
    # Nobody waits for an hour here.
    config.write_text(config.read_text().replace('# roll_every = "60s"', 'roll_every = "1s"  #'))
    page.run("secrets")
    page.run("setup")
    assert page.blocks["up"] == "cdc up\n"
    up = Process([CDC, "up"], place.directory / "up.log", env=page.exported, cwd=place.directory)
    try:
        wait_until(lambda: "applying" in page.run("status"), "the sink")
        assert page.run("verify").splitlines()[-1].startswith("EQUAL")
        event = page.run("tail")
        assert '"op":"c"' in event
        assert '"what":"a new one"' in event
        wait_until(lambda: "backup done" in up.log.read_text(), "the first base")
        page.run("accident")
        left = "SELECT count(*) FROM orders WHERE id = 42"
        wait_until(lambda: place.target.execute(left) == [(0,)], "the replica")
        wait_until(lambda: archived(page), "the accident in the archive")
        output = page.run("restore")
        assert re.search(r"^(PROVEN|VERIFIED)", output, re.MULTILINE)
        assert "order 42" in output
    finally:
        up.stop()
    assert up.returncode == 0, up.tail()
    assert "left: " in page.run("teardown")
    assert place.source.execute("SELECT 1 FROM pg_replication_slots WHERE database = current_database()") == []


def archived(page: Document) -> bool:
    """Whether the archive knows of the deletion yet."""
    command = page.blocks["restore"].splitlines()[1].removesuffix("\\") + " --dry-run || true"
    return "first transaction out" in page.shell(command)


def test_every_command_of_the_readme_is_one_that_a_test_runs() -> None:
    """Line by line, by what they begin with, and where they are tested."""
    tested = {
        "make demo": "the demonstration",
        "make test": "this",
        "pip install .": "below",
        "kcat -b kafka1:9092 -t shop.public.orders": "docs/EVENTS.md",
        "cdc up": "docs/FIRST_PIPELINE.md",
        "cdc status --watch": "tests/system/test_operate.py",
        "cdc init": "docs/FIRST_PIPELINE.md",
        "cdc setup --dry-run": "tests/system/test_check_setup.py",
        "cdc check": "docs/FIRST_PIPELINE.md",
        "cdc teardown shop": "docs/FIRST_PIPELINE.md",
        "cdc-restore --archive": "docs/RESTORE.md",
    }
    text = (ROOT / "README.md").read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            command = line.strip()
            if command and not command.startswith("#"):
                assert any(command.startswith(known) for known in tested), command


def test_it_installs(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for package in ("cdc", "sinks", "schemas"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    arguments = "-m pip install --quiet --no-deps --no-build-isolation --no-index --target"
    process = Process([sys.executable, *arguments.split(), str(tmp_path / "here"), str(checkout)], tmp_path / "log")
    assert process.wait(120) == 0, process.tail()
    assert (tmp_path / "here/cdc/cli.py").exists()
    assert (tmp_path / "here/schemas/v1").is_dir()
