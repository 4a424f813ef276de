"""A pipeline of its own for each test, on the session's servers; what its source says."""

from pathlib import Path

import pytest

from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.servers.process import Process
from tests.system.pipeline import Pipeline

STOPPED = 5
SHOP = """
CREATE TABLE accounts (id int PRIMARY KEY, owner text NOT NULL, balance numeric(12,2) NOT NULL, notes text);
ALTER TABLE accounts ALTER COLUMN notes SET STORAGE EXTERNAL;
CREATE TABLE visits (at timestamptz, page text);
ALTER TABLE visits REPLICA IDENTITY FULL;
INSERT INTO accounts SELECT i, 'owner ' || i, 100, repeat(md5(i::text), 300) FROM generate_series(1, 50) i;
INSERT INTO visits SELECT now(), 'start' FROM generate_series(1, 3);
"""


@pytest.fixture
def pipeline(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka) -> Pipeline:
    """Source with a small shop, published; nothing runs yet."""
    database.execute(SHOP)
    made = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    made.publish()
    return made


def ends(pipeline: Pipeline) -> list[str]:
    try:
        return [end.kind for end in pipeline.valid_ends()]
    except Exception:  # noqa: BLE001 - before its first start the topic is not there
        return []


def refusal(pipeline: Pipeline, *arguments: str) -> str:
    """What the source says when it refuses to start."""
    return died(pipeline.run("source", "run", pipeline.name, *arguments))


def died(process: Process) -> str:
    code = process.wait(60)
    output = process.log.read_text()
    assert code == STOPPED, output
    return output
