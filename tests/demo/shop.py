"""What runs at the source: pgbench's bank, and a shop with the rows that hurt replication."""

import os
import random
import subprocess
import threading

import psycopg

from tests.servers.postgres import Postgres

SCALE = 10
RATE = 150
SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL, visits int NOT NULL DEFAULT 0, profile text NOT NULL);
ALTER TABLE customers ALTER COLUMN profile SET STORAGE EXTERNAL;
INSERT INTO customers SELECT i, 'customer' || i || '@example.org', 0, repeat(md5(i::text), 320)
  FROM generate_series(1, 200) i;
CREATE TABLE seats (code text PRIMARY KEY, holder int REFERENCES customers);
INSERT INTO seats SELECT 'seat-' || i, i FROM generate_series(1, 100) i;
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES customers,
  total numeric(10,2) NOT NULL, placed timestamptz NOT NULL DEFAULT now(), status text NOT NULL DEFAULT 'new');
CREATE TABLE page_views (at timestamptz NOT NULL, customer int, page text);
ALTER TABLE page_views REPLICA IDENTITY FULL;
ALTER TABLE pgbench_history REPLICA IDENTITY FULL;
"""
LOST = 4711
ACCIDENT = (f"DELETE FROM pgbench_accounts WHERE aid % 20 = {LOST % 20}",
            "ALTER TABLE pgbench_accounts DROP COLUMN filler")  # fmt: skip
SUMS = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
       (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
"""
ADD_COLUMN = "ALTER TABLE orders ADD COLUMN priority int NOT NULL DEFAULT 1"


def build(url: str, password: str) -> None:
    """pgbench's tables, then the shop's."""
    env = {**os.environ, "PGPASSWORD": password}
    subprocess.run(
        [str(Postgres.pgbench), "--initialize", "--quiet", f"--scale={SCALE}", url], env=env, check=True,
        capture_output=True,
    )  # fmt: skip
    with psycopg.connect(url, password=password) as connection:
        connection.execute(SHOP)


class Load:
    """pgbench's TPC-B and the shop, until stopped. `transactions` counts both."""

    def __init__(self, url: str, password: str, rate: int, *, alters: bool = False) -> None:
        self._url, self._password, self._rate, self._alters = url, password, rate, alters
        self._stop = threading.Event()
        self._shop = threading.Thread(target=self._trade, daemon=True)
        self._bank: subprocess.Popen[str] | None = None
        self.shop_transactions = 0
        self.bank_transactions = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        self._bank = subprocess.Popen(
            [str(Postgres.pgbench), "--no-vacuum", "--client=2", "--time=600", f"--rate={self._rate}",
             f"--random-seed={random.randrange(2**31)}", self._url],
            env={**os.environ, "PGPASSWORD": self._password}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._shop.start()

    def stop(self) -> None:
        """End both; what was committed stays."""
        self._stop.set()
        self._shop.join()
        if self.failure:
            raise self.failure
        assert self._bank is not None
        if self._bank.poll() is not None:
            raise RuntimeError(f"pgbench ended by itself: {self._bank.communicate()[0]}")
        self._bank.terminate()
        self._bank.wait()
        with psycopg.connect(self._url, password=self._password) as connection:
            row = connection.execute("SELECT count(*) FROM pgbench_history").fetchone()
            assert row is not None
            self.bank_transactions = row[0]

    def _trade(self) -> None:
        try:
            with psycopg.connect(self._url, password=self._password, autocommit=True) as connection:
                while not self._stop.wait(0.005):
                    with connection.transaction():
                        self._transaction(connection)
                    self.shop_transactions += 1
        except Exception as error:  # noqa: BLE001 - told by stop()
            self.failure = error

    def _transaction(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        customer, number = random.randint(1, 200), self.shop_transactions
        connection.execute("UPDATE customers SET visits = visits + 1 WHERE id = %s", [customer])
        connection.execute(
            "INSERT INTO orders (customer, total) VALUES (%s, %s)", [customer, f"{random.randint(1, 9999) / 100:.2f}"]
        )
        connection.execute("INSERT INTO page_views VALUES (now(), %s, 'cart'), (now(), %s, 'cart')", [customer] * 2)
        if number % 5 == 0:
            seat = f"seat-{random.randint(1, 100)}"
            connection.execute("UPDATE seats SET code = code || '+' WHERE code = %s", [seat])
            connection.execute("UPDATE seats SET code = rtrim(code, '+') WHERE code = %s", [f"{seat}++"])
        if number % 7 == 0:
            connection.execute("DELETE FROM page_views WHERE ctid IN (SELECT ctid FROM page_views ORDER BY at LIMIT 5)")
            connection.execute(
                "UPDATE orders SET status = 'paid' WHERE id %% 50 = %s AND status = 'new'", [number % 50]
            )
        if number % 50 == 0:
            connection.execute(
                "UPDATE customers SET profile = repeat(md5(%s), 320) WHERE id = %s", [str(number), customer]
            )
        if number == 1000 and self._alters:
            connection.execute(ADD_COLUMN)
