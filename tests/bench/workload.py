"""The two workloads, made in SQL on the source, and where in the log they are.

In: a database, and slots that already exist, so that every change lies in the log for each of them. Out:
exactly the stated numbers of changes and transactions on one ten-column table, in rounds that are all alike,
and milestones: how many changes lie before which log position. Between them positions are interpolated.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace

from tests.servers.postgres import Database, Postgres

TABLE = "orders"
PUBLICATION = "bench"

_SCHEMA = f"""
CREATE TABLE {TABLE} (
  id bigint PRIMARY KEY,
  customer int NOT NULL,
  code text NOT NULL,
  note text,
  amount numeric(12,2) NOT NULL,
  rate numeric(8,3),
  details jsonb,
  paid bool NOT NULL,
  created timestamptz NOT NULL,
  changed timestamptz
)
"""

_ROW = """
  id, (id % 1000 * 7919 % 100000)::int, 'ORD-' || lpad(id::text, 10, '0'), repeat('lorem ipsum ', 4),
  (id % 10000 * 37) / 100.0, (id % 97) / 8.0,
  jsonb_build_object('items', id % 9, 'channel', 'web', 'tags', jsonb_build_array('a', 'b'), 'kg', id % 50),
  false, timestamptz '2024-01-01Z' + id * interval '1.000001 s', NULL
"""

_CHANGE = f"""
  UPDATE {TABLE} SET amount = amount + 1, paid = NOT paid, note = 'changed in round ' || round,
         changed = timestamptz '2024-06-01Z' + round * interval '1.000001 s'
"""

# Deleted rows are multiples of 4 (mixed) or 3 (single), oldest first; changed rows are others, of older
# rounds. A milestone is taken before a round's last commit: whoever has applied that commit is beyond it.
_PROCEDURES = f"""
CREATE TABLE milestone (events bigint, lsn pg_lsn);

CREATE PROCEDURE mixed(rounds int) LANGUAGE plpgsql AS $$
DECLARE mark pg_lsn;
BEGIN
  FOR round IN 0 .. rounds - 1 LOOP
    INSERT INTO {TABLE} SELECT {_ROW} FROM generate_series(round * 50 + 1, round * 50 + 50) AS id;
    COMMIT;
    {_CHANGE} WHERE id = ANY (ARRAY(
        SELECT i FROM generate_series(round / 2 * 50 + 1, round / 2 * 50 + 50) AS i
        WHERE i % 4 <> 0 ORDER BY i LIMIT 25));
    COMMIT;
    DELETE FROM {TABLE} WHERE id = ANY (ARRAY(
        SELECT 4 * k FROM generate_series(round * 10 + 1, round * 10 + 10) AS k));
    mark := pg_current_wal_insert_lsn();
    COMMIT;
    IF round % 50 = 49 OR round = rounds - 1 THEN
      INSERT INTO milestone VALUES ((round + 1) * 85, mark);
      COMMIT;
    END IF;
  END LOOP;
END $$;

CREATE PROCEDURE single(rounds int) LANGUAGE plpgsql AS $$
DECLARE
  changed_id bigint;
  mark pg_lsn;
BEGIN
  FOR round IN 0 .. rounds - 1 LOOP
    FOR id IN round * 6 + 1 .. round * 6 + 6 LOOP
      INSERT INTO {TABLE} SELECT {_ROW};
      COMMIT;
    END LOOP;
    FOREACH changed_id IN ARRAY ARRAY(
        SELECT i FROM generate_series(round / 2 * 6 + 1, round / 2 * 6 + 6) AS i
        WHERE i % 3 <> 0 ORDER BY i LIMIT 3) LOOP
      {_CHANGE} WHERE id = changed_id;
      COMMIT;
    END LOOP;
    DELETE FROM {TABLE} WHERE id = 3 * (round + 1);
    mark := pg_current_wal_insert_lsn();
    COMMIT;
    IF round % 100 = 99 OR round = rounds - 1 THEN
      INSERT INTO milestone VALUES ((round + 1) * 10, mark);
      COMMIT;
    END IF;
  END LOOP;
END $$;
"""


@dataclass(frozen=True)
class Workload:
    """`rounds` times the same small set of transactions."""

    name: str
    rounds: int
    inserts: int
    updates: int
    deletes: int
    transactions_per_round: int

    @property
    def events_per_round(self) -> int:
        """Row changes."""
        return self.inserts + self.updates + self.deletes

    @property
    def events(self) -> int:
        """Row changes of the whole workload."""
        return self.rounds * self.events_per_round

    @property
    def transactions(self) -> int:
        """Transactions of the whole workload."""
        return self.rounds * self.transactions_per_round

    @property
    def records(self) -> int:
        """Row changes and the tombstones after deletes."""
        return self.rounds * (self.events_per_round + self.deletes)

    def events_of_records(self, records: float) -> float:
        """How many row changes so many records of the row topic carry."""
        return records * self.events / self.records

    def scaled(self, factor: float) -> "Workload":
        """The same mixture, shorter."""
        rounds = max(1, round(self.rounds * factor))
        return replace(self, rounds=rounds)


MIXED = Workload("mixed", rounds=6_000, inserts=50, updates=25, deletes=10, transactions_per_round=3)
SINGLE = Workload("single", rounds=20_000, inserts=6, updates=3, deletes=1, transactions_per_round=10)


class Milestones:
    """Log position → row changes before it."""

    def __init__(self, start: int, marks: list[tuple[int, int]]) -> None:
        self._lsns = [start, *(lsn for _, lsn in marks)]
        self._events = [0, *(events for events, _ in marks)]

    def events_at(self, lsn: int) -> float:
        """Interpolated; 0 before the first change, all of them at the end."""
        after = bisect_right(self._lsns, lsn)
        if after == 0:
            return 0
        if after == len(self._lsns):
            return self._events[-1]
        low, high = self._lsns[after - 1], self._lsns[after]
        step = self._events[after] - self._events[after - 1]
        return self._events[after - 1] + step * (lsn - low) / (high - low)


def create_table(database: Database) -> None:
    """The empty table, on a source or a target."""
    database.execute(_SCHEMA.encode())


def create_source(server: Postgres, name: str) -> Database:
    """A database with the empty table, published."""
    database = server.create_database(name)
    create_table(database)
    database.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {TABLE}".encode())
    return database


def generate(database: Database, workload: Workload) -> Milestones:
    """Make the changes; every slot that is to deliver them must exist."""
    database.execute(_PROCEDURES.encode())
    with database.connect() as connection:
        connection.execute("SET synchronous_commit = off")
        start = parse_lsn(connection.execute("SELECT pg_current_wal_insert_lsn()").fetchall()[0][0])
        connection.execute(f"CALL {workload.name}(%s)".encode(), [workload.rounds])
        connection.execute("SET synchronous_commit = on; CREATE TABLE flushed ()")
        marks = connection.execute("SELECT events, lsn FROM milestone ORDER BY events").fetchall()
    return Milestones(start, [(events, parse_lsn(lsn)) for events, lsn in marks])


def digest(database: Database) -> tuple[int, int]:
    """Row count and an order-free sum over all values."""
    query = f"SELECT count(*), coalesce(sum(hashtext(o::text)::numeric), 0) FROM {TABLE} AS o"
    count, total = database.execute(query.encode())[0]
    return int(count), int(total)


def parse_lsn(text: str) -> int:
    """`X/X` as a number."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)
