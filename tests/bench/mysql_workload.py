"""The two workloads of MySQL, made in SQL on the source.

In: a server, and contenders that already know where in the log to begin. Out: exactly the stated numbers of changes and
transactions on one ten-column table, in rounds that are all alike. Of `mixed` every other round changes its rows by one
statement a transaction, which the log holds as some thirty rows an event; the rounds between change them one by one, as
programs mostly do, and the log holds an event for each.
"""

from dataclasses import dataclass

from tests.bench.workload import Workload
from tests.servers.mysql import MySQL, MySQLDatabase

TABLE = "orders"

_SCHEMA = f"""
CREATE TABLE {TABLE} (
  id bigint PRIMARY KEY,
  customer int NOT NULL,
  code varchar(20) NOT NULL,
  note text,
  amount decimal(12,2) NOT NULL,
  rate decimal(8,3),
  details json,
  paid tinyint(1) NOT NULL,
  created datetime(6) NOT NULL,
  changed timestamp(6) NULL
)
"""

_ROW = """
  id, id % 1000 * 7919 % 100000, CONCAT('ORD-', LPAD(id, 10, '0')), REPEAT('lorem ipsum ', 4),
  id % 10000 * 37 / 100.0, id % 97 / 8.0,
  JSON_OBJECT('items', id % 9, 'channel', 'web', 'tags', JSON_ARRAY('a', 'b'), 'kg', id % 50),
  0, TIMESTAMP '2024-01-01 00:00:00' + INTERVAL id * 1.000001 SECOND, NULL
"""

_CHANGE = f"""
  UPDATE {TABLE} SET amount = amount + 1, paid = NOT paid, note = CONCAT('changed in round ', round),
         changed = TIMESTAMP '2024-06-01 00:00:00' + INTERVAL round * 1.000001 SECOND
"""

# Deleted rows are multiples of 4 (mixed) or 3 (single), oldest first; changed rows are others, of older rounds.
_PROCEDURES = f"""
CREATE TABLE number (n int PRIMARY KEY);
INSERT INTO number WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 60)
  SELECT n FROM counted;

CREATE PROCEDURE mixed(rounds int)
BEGIN
  DECLARE round, i, changed_id, changes bigint DEFAULT 0;
  WHILE round < rounds DO
    START TRANSACTION;
    IF round % 2 = 0 THEN
      INSERT INTO {TABLE} SELECT {_ROW} FROM (SELECT round * 60 + n AS id FROM number) AS ids;
      COMMIT; START TRANSACTION;
      {_CHANGE} WHERE id BETWEEN round DIV 2 * 60 + 1 AND round DIV 2 * 60 + 60 AND id % 4 <> 0 ORDER BY id LIMIT 30;
      COMMIT; START TRANSACTION;
      DELETE FROM {TABLE} WHERE id BETWEEN round * 40 + 4 AND round * 40 + 40 AND id % 4 = 0;
    ELSE
      SET i = 0;
      WHILE i < 60 DO
        SET i = i + 1;
        INSERT INTO {TABLE} SELECT {_ROW} FROM (SELECT round * 60 + i AS id) AS ids;
      END WHILE;
      COMMIT; START TRANSACTION;
      SET changed_id = round DIV 2 * 60, changes = 0;
      WHILE changes < 30 DO
        SET changed_id = changed_id + 1;
        IF changed_id % 4 <> 0 THEN
          SET changes = changes + 1;
          {_CHANGE} WHERE id = changed_id;
        END IF;
      END WHILE;
      COMMIT; START TRANSACTION;
      SET i = 0;
      WHILE i < 10 DO
        SET i = i + 1;
        DELETE FROM {TABLE} WHERE id = (round * 10 + i) * 4;
      END WHILE;
    END IF;
    COMMIT;
    SET round = round + 1;
  END WHILE;
END;

CREATE PROCEDURE single(rounds int)
BEGIN
  DECLARE round, i, changed_id, changes bigint DEFAULT 0;
  WHILE round < rounds DO
    SET i = 0;
    WHILE i < 6 DO
      SET i = i + 1;
      INSERT INTO {TABLE} SELECT {_ROW} FROM (SELECT round * 6 + i AS id) AS ids;
    END WHILE;
    SET changed_id = round DIV 2 * 6, changes = 0;
    WHILE changes < 3 DO
      SET changed_id = changed_id + 1;
      IF changed_id % 3 <> 0 THEN
        SET changes = changes + 1;
        {_CHANGE} WHERE id = changed_id;
      END IF;
    END WHILE;
    DELETE FROM {TABLE} WHERE id = 3 * (round + 1);
    SET round = round + 1;
  END WHILE;
END;
"""

MIXED = Workload("mixed", rounds=3_000, inserts=60, updates=30, deletes=10, transactions_per_round=3)
"""A third of it warms up, so that 200,000 changes are measured."""
SINGLE = Workload("single", rounds=15_000, inserts=6, updates=3, deletes=1, transactions_per_round=10)


def create_source(server: MySQL, name: str) -> MySQLDatabase:
    """A database with the empty table."""
    database = server.create_database(name)
    database.execute(_SCHEMA)
    database.execute(_PROCEDURES)
    return database


@dataclass(frozen=True)
class Span:
    """Where the changes lie in the log: the sets of transactions before and behind them."""

    before: str
    behind: str


def generate(database: MySQLDatabase, workload: Workload) -> Span:
    """Make the changes. They need not be durable one by one."""
    server = database.server
    before = server.gtids()
    server.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2, GLOBAL sync_binlog = 0")
    database.execute(f"CALL {workload.name}(%s)", [workload.rounds])
    server.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1; FLUSH LOGS")
    (found,) = database.execute(f"SELECT COUNT(*), SUM(changed IS NOT NULL) FROM {TABLE}")
    kept = workload.rounds * (workload.inserts - workload.deletes)
    if found != (kept, (workload.rounds + 1) // 2 * workload.updates):
        raise RuntimeError(f"{workload.name} made {found}")
    return Span(before, server.gtids())
