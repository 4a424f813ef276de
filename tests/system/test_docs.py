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
from tests.servers.registry import Registry
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


@pytest.fixture
def avro_stream(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, registry: Registry
) -> Iterator[Pipeline]:
    """An order under a name that Avro does not have, changed where a long text is not."""
    database.execute('CREATE TABLE orders (id int PRIMARY KEY, "paid-by" text, note text)')
    database.execute("ALTER TABLE orders ALTER note SET STORAGE EXTERNAL")
    database.execute("INSERT INTO orders VALUES (1, 'Ann', repeat('x', 9000))")
    pipeline = Pipeline(
        tmp_path, database, target_database, kafka.bootstrap, source_options={"format": "avro"}, registry=registry.url
    )
    pipeline.publish()
    with pipeline.source_running() as source:
        wait_until(lambda: "table copied" in source.log.read_text(), "the copy")
        database.execute("UPDATE orders SET \"paid-by\" = 'Bob'")
        database.execute("DELETE FROM orders")
        wait_until(lambda: [end.kind for end in pipeline.valid_ends()].count("data") == 2, "both transactions")
        yield pipeline


def python(code: str, pipeline: Pipeline, registry: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code.replace('"shop', f'"{pipeline.name}')],
        env={**os.environ, "KAFKA": pipeline.bootstrap, "REGISTRY": registry, "PYTHONPATH": str(ROOT)},
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


def test_a_consumer_of_avro(avro_stream: Pipeline, registry: Registry) -> None:
    output, _ = python(shown("consumer-avro"), avro_stream, registry.url).communicate(timeout=60)
    copied, updated, deleted = output.splitlines()
    assert copied == f"r { ({'id': 1, 'paid-by': 'Ann', 'note': 'x' * 9000}) }"
    assert (updated, deleted) == ("u {'id': 1, 'paid-by': 'Bob'}", "d {}")


def test_whole_transactions_of_avro(avro_stream: Pipeline, registry: Registry) -> None:
    lines = printed(python(shown("transactions-avro"), avro_stream, registry.url), 4)
    assert lines[2].startswith("3 [('u', {'id': 1, 'paid-by': 'Bob', 'note': ")
    assert lines[3] == "4 [('d', None)]\n"


def test_whole_transactions(stream: Pipeline) -> None:
    lines = printed(python(shown("transactions"), stream), 4)
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4"]
    assert lines[1].count("'r'") == 5
    assert lines[2].endswith("[('public.orders', 'd'), ('public.orders', 'c')]\n")


def printed(reader: subprocess.Popen[str], lines: int) -> list[str]:
    """Its first lines; it goes on for ever."""
    assert reader.stdout is not None
    found = [reader.stdout.readline() for _ in range(lines)]
    reader.kill()
    reader.wait()
    reader.stdout.close()
    return found
