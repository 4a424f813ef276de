"""Columns that come and go while rows do, in tables whose rows are told apart by all of them."""

from pathlib import Path

from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.system.pipeline import Pipeline

STATEMENTS = """
INSERT INTO notes VALUES (2, 'y')
ALTER TABLE notes ADD COLUMN n int DEFAULT 7
ALTER TABLE named ADD COLUMN n int DEFAULT 7
UPDATE notes SET n = n + a
DELETE FROM notes WHERE ctid = (SELECT min(ctid) FROM notes WHERE a = 1)
UPDATE named SET n = 8, b = 'z'
ALTER TABLE notes DROP COLUMN b
ALTER TABLE named DROP COLUMN b
UPDATE notes SET n = 0 WHERE a = 2
INSERT INTO notes VALUES (3, NULL), (3, NULL)
DELETE FROM named WHERE a = 2
"""


def test_under_replica_identity_full(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka
) -> None:
    database.execute("CREATE TABLE notes (a int, b text); ALTER TABLE notes REPLICA IDENTITY FULL")
    database.execute("CREATE TABLE named (a int PRIMARY KEY, b text); ALTER TABLE named REPLICA IDENTITY FULL")
    database.execute("INSERT INTO notes VALUES (1, 'x'), (1, 'x'); INSERT INTO named VALUES (1, 'x'), (2, 'y')")
    pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    pipeline.publish()
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
        for statement in STATEMENTS.strip().splitlines():
            database.execute(statement.encode())
        pipeline.wait_caught_up()
        pipeline.assert_equal()
    assert pipeline.rows_at_target("notes") == ["(1,8)", "(2,0)", "(3,)", "(3,)"]
