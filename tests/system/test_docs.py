"""The readers that docs/EVENTS.md shows are run as they stand there, against a real stream."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.servers.fetch import ROOT, kcat
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.system.pipeline import Pipeline, wait_until

EVENTS = (ROOT / "docs/EVENTS.md").read_text()


def shown(name: str) -> str:
    """The code block behind `<!-- test: name -->`."""
    match = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", EVENTS, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture
def stream(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka) -> Iterator[Pipeline]:
    """Orders that were copied, changed, moved and deleted."""
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, price numeric)")
    database.execute("INSERT INTO orders SELECT i, i FROM generate_series(1, 5) i")
    pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    pipeline.publish()
    with pipeline.source_running() as source:
        wait_until(lambda: "table copied" in source.log.read_text(), "the copy")
        database.execute("UPDATE orders SET id = 9 WHERE id = 1")
        database.execute("DELETE FROM orders WHERE id = 2")
        wait_until(lambda: [end.kind for end in pipeline.valid_ends()].count("data") == 2, "both transactions")
        yield pipeline


def python(code: str, pipeline: Pipeline) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code.replace('"shop', f'"{pipeline.name}')],
        env={**os.environ, "KAFKA": pipeline.bootstrap, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_look_with_kcat(stream: Pipeline) -> None:
    line = shown("kcat").partition(" | ")[0].replace("shop.public", f"{stream.name}.public")
    command = shlex.split(line.replace('"$KAFKA"', stream.bootstrap))
    assert command.pop(0) == "kcat"
    output = subprocess.run([kcat(), *command], check=True, capture_output=True).stdout
    ops = [orjson.loads(value)["op"] for value in output.splitlines() if value]
    assert ops == ["r"] * 5 + ["d", "c", "d"]


def test_a_consumer_of_one_s_own(stream: Pipeline) -> None:
    output, _ = python(shown("consumer"), stream).communicate(timeout=60)
    assert output == "4 orders\n"


def test_whole_transactions(stream: Pipeline) -> None:
    reader = python(shown("transactions"), stream)
    assert reader.stdout is not None
    lines = [reader.stdout.readline() for _ in range(4)]
    reader.kill()
    reader.wait()
    reader.stdout.close()
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4"]
    assert lines[1].count("'r'") == 5
    assert lines[2].endswith("[('public.orders', 'd'), ('public.orders', 'c')]\n")
