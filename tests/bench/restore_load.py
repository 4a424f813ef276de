"""What is restored: ten tables alike, their rows at the base, and three times as many changes afterwards. By SQL.

In: an empty database. Out: tables `t0` to `t9`, each with a primary key, two indexes and a foreign key to a small
table; exactly the stated numbers of rows and changes, the same on every server that they are made on. A transaction is
100 changes of one table: 40 inserts, 40 updates, 20 deletes.
"""

from dataclasses import dataclass

from tests.servers.postgres import Database

TABLES = 10
INSERTS, UPDATES, DELETES = 40, 40, 20
_PER_TRANSACTION = INSERTS + UPDATES + DELETES

_TABLE = """
CREATE TABLE {table} (
  id bigint PRIMARY KEY,
  customer int NOT NULL REFERENCES customers,
  code text NOT NULL,
  note text,
  amount numeric(12,2) NOT NULL,
  details jsonb,
  paid bool NOT NULL,
  created timestamptz NOT NULL,
  changed timestamptz
);
CREATE INDEX {table}_customer ON {table} (customer, created);
CREATE UNIQUE INDEX {table}_code ON {table} (code);
"""
_ROW = """
  id, mod(id * 7919, 1000)::int, 'ORD-' || lpad(id::text, 10, '0'), repeat('lorem ipsum ', 4),
  (mod(id, 10000) * 37) / 100.0,
  jsonb_build_object('items', mod(id, 9), 'channel', 'web', 'tags', jsonb_build_array('a', 'b'), 'kg', mod(id, 50)),
  false, timestamptz '2024-01-01Z' + id * interval '1.000001 s', NULL
"""
# Rows that go are multiples of 3, oldest first; rows that change are others, far from each other.
_CHANGES = f"""
CREATE PROCEDURE changes(base bigint, first int, behind int) LANGUAGE plpgsql AS $$
BEGIN
  FOR round IN first .. behind - 1 LOOP
    FOR at IN 0 .. {TABLES - 1} LOOP
      EXECUTE format($sql$INSERT INTO t%s SELECT {_ROW} FROM generate_series($1, $2) AS id$sql$, at)
        USING base + round * {INSERTS} + 1, base + round * {INSERTS} + {INSERTS};
      EXECUTE format($sql$UPDATE t%s SET amount = amount + 1, paid = NOT paid, note = 'changed in round ' || $1,
          changed = timestamptz '2024-06-01Z' + $1 * interval '1.000001 s'
          WHERE id = ANY (ARRAY(SELECT 3 * mod(($1::bigint * {UPDATES} + k) * 7919, $2) + 1
                                FROM generate_series(0, {UPDATES - 1}) AS k))$sql$, at) USING round, base / 3;
      EXECUTE format($sql$DELETE FROM t%s WHERE id = ANY (ARRAY(
          SELECT 3 * k FROM generate_series($1, $2) AS k))$sql$, at)
        USING round * {DELETES} + 1, round * {DELETES} + {DELETES};
      COMMIT;
    END LOOP;
  END LOOP;
END $$;
"""


@dataclass(frozen=True)
class Load:
    """`rows` at the base, all tables together."""

    rows: int

    @property
    def rounds(self) -> int:
        return 3 * self.rows // (TABLES * _PER_TRANSACTION)

    @property
    def changes(self) -> int:
        return self.rounds * TABLES * _PER_TRANSACTION

    @property
    def rows_afterwards(self) -> int:
        return self.rows + self.rounds * TABLES * (INSERTS - DELETES)

    def make_tables(self, database: Database) -> None:
        """Empty, but for the customers."""
        statements = ["CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL)"]
        statements += [_TABLE.format(table=f"t{at}") for at in range(TABLES)]
        statements += ["INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(0, 999) AS i", _CHANGES]
        for statement in statements:
            database.execute(statement.encode())

    def make_base(self, database: Database) -> None:
        """The rows that are there before the changes."""
        for at in range(TABLES):
            insert = f"INSERT INTO t{at} SELECT {_ROW} FROM generate_series(1, {self.rows // TABLES}) AS id"
            database.execute(insert.encode())
        database.execute("VACUUM ANALYZE")

    def make_changes(self, database: Database) -> None:
        """All of them."""
        self._call(database, 0, self.rounds)

    def make_more(self, database: Database) -> None:
        """A few more behind them, which a restore has to leave out."""
        self._call(database, self.rounds, self.rounds + 10)

    def _call(self, database: Database, first: int, behind: int) -> None:
        with database.connect() as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute("CALL changes(%s, %s, %s)", [self.rows // TABLES, first, behind])


def digest(database: Database) -> list[tuple[int, int]]:
    """Of each table, rows and an order-free sum over all values."""
    found = []
    for at in range(TABLES):
        query = f"SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM t{at} AS t"
        ((count, total),) = database.execute(query.encode())
        found.append((int(count), int(total)))
    return found
