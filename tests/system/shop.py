"""One shop in the words of each engine, and a pipeline from any engine to any.

In: databases of any engines and a broker. Out: a `Shop`, published, with rows in it; nothing runs yet.
"""

import itertools
from collections.abc import Mapping, Sequence

import pytest

from tests.servers.mysql import MySQLDatabase
from tests.system.pipeline import AnyPipeline

ENGINES = ("postgres", "mysql")
PAIRS = [pytest.param(pair, id="-".join(pair)) for pair in itertools.product(ENGINES, ENGINES)]
NEW_PAIRS = PAIRS[1:]
"""Without Postgres to Postgres, which has a suite of its own."""
MARIADB_PAIRS = [
    ("mariadb", "postgres"), ("postgres", "mariadb"), ("mariadb", "mariadb"), ("mysql", "mariadb"), ("mariadb", "mysql")
]  # fmt: skip

SHOP = {
    "postgres": """
        CREATE TABLE accounts (id int PRIMARY KEY, owner varchar(40) NOT NULL, balance numeric(12,2) NOT NULL,
          notes text, code varchar(20) UNIQUE);
        ALTER TABLE accounts ALTER COLUMN notes SET STORAGE EXTERNAL;
        CREATE TABLE visits (at timestamptz(6), page varchar(40), raw bytea);
        ALTER TABLE visits REPLICA IDENTITY FULL;
        INSERT INTO accounts SELECT i, 'owner ' || i, 100, repeat(md5(i::text), 100), 'c' || i
          FROM generate_series(1, 50) i;
        INSERT INTO visits SELECT '2024-05-06 07:08:09.123456+00', 'start', '\\x00ff' FROM generate_series(1, 3);
    """,
    "mysql": """
        CREATE TABLE accounts (id int PRIMARY KEY, owner varchar(40) NOT NULL, balance decimal(12,2) NOT NULL,
          notes text, code varchar(20) COLLATE utf8mb4_0900_bin UNIQUE);
        CREATE TABLE visits (at timestamp(6) NULL, page varchar(40), raw varbinary(9));
        INSERT INTO accounts WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
          SELECT i, CONCAT('owner ', i), 100, REPEAT(MD5(i), 100), CONCAT('c', i) FROM n;
        INSERT INTO visits VALUES ('2024-05-06 07:08:09.123456', 'start', x'00ff'),
          ('2024-05-06 07:08:09.123456', 'start', x'00ff'), ('2024-05-06 07:08:09.123456', 'start', x'00ff');
    """,
}  # fmt: skip
SHOP = {**SHOP, "mariadb": SHOP["mysql"].replace("utf8mb4_0900_bin", "utf8mb4_nopad_bin")}
WORK: Sequence[str | Mapping[str, str]] = [
    "UPDATE accounts SET balance = balance - 1 WHERE id = 1; UPDATE accounts SET balance = balance + 1 WHERE id = 2",
    "UPDATE accounts SET id = id + 1000 WHERE id BETWEEN 3 AND 5; DELETE FROM accounts WHERE id = 6",
    ("INSERT INTO visits VALUES (CURRENT_TIMESTAMP, 'a', NULL), (NULL, 'a', NULL); "
     "UPDATE visits SET page = 'é\U0001f600' WHERE page = 'start'"),
    {"postgres": "INSERT INTO accounts SELECT i, 'new', 0, NULL, NULL FROM generate_series(2000, 2200) i",
     "mysql": "INSERT INTO accounts WITH RECURSIVE n(i) AS (SELECT 2000 UNION ALL SELECT i + 1 FROM n WHERE i < 2200) "
              "SELECT i, 'new', 0, NULL, NULL FROM n"},
    {"postgres": "DELETE FROM visits WHERE ctid = (SELECT min(ctid) FROM visits)",
     "mysql": "DELETE FROM visits WHERE page <> 'a' LIMIT 1"},
    "ALTER TABLE accounts ADD COLUMN tier int NOT NULL DEFAULT 3",
    "UPDATE accounts SET tier = 4, owner = 'é' WHERE id % 7 = 0",
    # A unique value that moves between rows: folded, its order is gone.
    ("UPDATE accounts SET code = 'x' WHERE id = 7; UPDATE accounts SET code = 'c7' WHERE id = 8; "
     "UPDATE accounts SET code = 'c8' WHERE id = 7"),
    {"postgres": "TRUNCATE visits", "mysql": "TRUNCATE TABLE visits"},
    "INSERT INTO visits VALUES (CURRENT_TIMESTAMP, 'after', NULL)",
    "ALTER TABLE accounts DROP COLUMN notes",
    "INSERT INTO accounts (id, owner, balance, tier) VALUES (9000, 'last', -0.01, 1)",
]  # fmt: skip


class Shop(AnyPipeline):
    """A pipeline between any engines whose source holds the shop; `work` changes it, a line a transaction."""

    engine: str

    def work(self, first: int = 0, last: int | None = None) -> None:
        for line in WORK[first:last]:
            words = "postgres" if self.engine == "postgres" else "mysql"
            self.transaction(line if isinstance(line, str) else line[words])

    def transaction(self, statements: str) -> None:
        if isinstance(self.source, MySQLDatabase):
            ddl = statements.startswith(("ALTER", "TRUNCATE"))
            self.source.execute(statements if ddl else f"START TRANSACTION; {statements}; COMMIT")
        else:
            self.source.execute(statements)
