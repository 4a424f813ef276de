"""A pipeline of its own for each test, on the session's servers."""

from pathlib import Path

import pytest

from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.system.pipeline import Pipeline

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
