"""What runs at the MySQL source: accounts, invoices and payments that must add up, in MySQL's own types.

A transfer moves a balance; an invoice raises one, a payment lowers it, and both can be taken back. So at any moment
the balances are what was invoiced less what was paid, and that is what is open on the invoices.
"""

import random
import threading
from contextlib import closing
from decimal import Decimal

import pymysql
from pymysql.cursors import Cursor

from tests.demo.database import Database

SCHEMA = """
CREATE TABLE accounts (id int unsigned PRIMARY KEY, name varchar(60) NOT NULL, kind enum('person', 'company') NOT NULL,
  flags set('vip', 'paper', 'blocked') NOT NULL DEFAULT '', balance decimal(14,2) NOT NULL DEFAULT 0,
  contact json, seen timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6));
CREATE TABLE invoices (id bigint unsigned AUTO_INCREMENT PRIMARY KEY, account int unsigned NOT NULL,
  number char(12) CHARACTER SET latin1 NOT NULL, total decimal(12,2) NOT NULL, paid decimal(12,2) NOT NULL DEFAULT 0,
  issued date NOT NULL, due datetime(3), scan mediumblob, FOREIGN KEY (account) REFERENCES accounts (id));
CREATE TABLE payments (id binary(16) PRIMARY KEY, invoice bigint unsigned NOT NULL, amount decimal(12,2) NOT NULL,
  at timestamp(6) NOT NULL, note varchar(80) CHARACTER SET utf16, FOREIGN KEY (invoice) REFERENCES invoices (id));
CREATE TABLE contracts (code varchar(20) PRIMARY KEY, since year NOT NULL, discount float, rate double,
  terms text CHARACTER SET latin1);
CREATE TABLE meter (at datetime(6) NOT NULL, took time(3), used bigint unsigned, state bit(9), raw varbinary(20));
"""
FILL = """
SET SESSION cte_max_recursion_depth = 100000;
INSERT INTO accounts (id, name, kind, contact)
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
  SELECT i, CONCAT('Zoë ', i, ' 😀'), 1 + i % 2, JSON_OBJECT('city', 'Łódź', 'floor', i % 9, 'rate', 0.5) FROM n;
INSERT INTO invoices (account, number, total, issued, due)
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
  SELECT 1 + i % 2000, CONCAT('A', i), 10 + i % 90 + 0.25, '2024-02-29', '2024-03-29 23:59:59.999' FROM n;
UPDATE accounts SET balance = (SELECT SUM(total) FROM invoices WHERE account = accounts.id);
INSERT INTO contracts WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
  SELECT CONCAT('contract-', i), 1999 + i % 30, i / 3, i / 7, REPEAT('café ', i) FROM n
"""
SUMS = """
SELECT (SELECT sum(balance) FROM billing.accounts),
       (SELECT sum(total) FROM billing.invoices) - (SELECT coalesce(sum(amount), 0) FROM billing.payments),
       (SELECT sum(total - paid) FROM billing.invoices)
"""
ADD_COLUMN = "ALTER TABLE invoices ADD COLUMN currency char(3) NOT NULL DEFAULT 'EUR'"
ACCIDENT = "UPDATE invoices SET total = 0"
_ADDED_AT = 300
_DEADLOCK = 1213


def build(database: Database) -> None:
    """Tables and first rows."""
    with closing(database.connect()) as session, session.cursor() as cursor:
        for statement in (SCHEMA + FILL).split(";"):
            cursor.execute(statement)


class Bookkeeping:
    """Transactions until stopped, which it counts."""

    def __init__(self, database: Database, *, alters: bool = False) -> None:
        self._database, self._alters = database, alters
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.transactions = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What was committed stays."""
        self._stop.set()
        self._thread.join()
        if self.failure:
            raise self.failure

    def _work(self) -> None:
        try:
            with closing(self._database.connect()) as session, session.cursor() as cursor:
                assert isinstance(cursor, Cursor)
                while not self._stop.wait(0.01):
                    try:
                        self._transaction(cursor)
                    except pymysql.OperationalError as error:
                        if error.args[0] != _DEADLOCK:
                            raise
                        continue  # the accident won, and the server has rolled back
                    self.transactions += 1
                    if self._alters and self.transactions == _ADDED_AT:
                        cursor.execute(ADD_COLUMN)
        except Exception as error:  # noqa: BLE001 - told by stop()
            self.failure = error

    def _transaction(self, cursor: Cursor) -> None:
        number = self.transactions
        cursor.execute("START TRANSACTION")
        _transfer(cursor)
        _invoice(cursor, number)
        _pay(cursor)
        if number % 5 == 0:
            _take_back(cursor)
        if number % 3 == 0:
            _measure(cursor)
        if number % 4 == 0:
            # The key changes, and changes back.
            code = f"contract-{random.randint(1, 100)}"
            cursor.execute("UPDATE contracts SET code = CONCAT(code, '+'), rate = rate * 1.1 WHERE code = %s", [code])
            cursor.execute("UPDATE contracts SET code = %s WHERE code = %s", [code, f"{code}+"])
        cursor.execute("COMMIT")


def _transfer(cursor: Cursor) -> None:
    one, other = random.sample(range(1, 2001), 2)
    amount = _amount(500)
    cursor.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", [amount, one])
    cursor.execute("UPDATE accounts SET balance = balance + %s, flags = 'vip,paper' WHERE id = %s", [amount, other])


def _invoice(cursor: Cursor, number: int) -> None:
    account, total = random.randint(1, 2000), _amount(9999)
    scan = random.randbytes(20_000) if number % 20 == 0 else None
    cursor.execute(
        "INSERT INTO invoices (account, number, total, issued, due, scan) VALUES (%s, %s, %s, CURRENT_DATE, NULL, %s)",
        [account, f"B{number}", total, scan],
    )
    cursor.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", [total, account])


def _pay(cursor: Cursor) -> None:
    cursor.execute("SELECT id, account, total - paid FROM invoices WHERE id = %s", [random.randint(1, 20_000)])
    invoice = cursor.fetchone()
    if invoice is None or invoice[2] <= 0:
        return
    number, account, amount = invoice
    pid = random.randbytes(14) + b"\0\0"
    cursor.execute("INSERT INTO payments VALUES (%s, %s, %s, NOW(6), 'thank you 😀')", [pid, number, amount])
    cursor.execute("UPDATE invoices SET paid = paid + %s WHERE id = %s", [amount, number])
    cursor.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", [amount, account])


def _take_back(cursor: Cursor) -> None:
    """An invoice that nobody paid, and a payment."""
    cursor.execute("SELECT id, account, total FROM invoices WHERE paid = 0 ORDER BY id LIMIT 1")
    for number, account, total in cursor.fetchall():
        cursor.execute("DELETE FROM invoices WHERE id = %s", [number])
        cursor.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", [total, account])
    cursor.execute("SELECT p.id, invoice, amount, account FROM payments p JOIN invoices i ON i.id = invoice LIMIT 1")
    for pid, number, amount, account in cursor.fetchall():
        cursor.execute("DELETE FROM payments WHERE id = %s", [pid])
        cursor.execute("UPDATE invoices SET paid = paid - %s WHERE id = %s", [amount, number])
        cursor.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", [amount, account])


def _measure(cursor: Cursor) -> None:
    """Into a table without a key."""
    row = [f"-{random.randint(0, 99)}:00:00.125", random.randrange(2**64), random.randrange(2**9), random.randbytes(9)]
    cursor.execute("INSERT INTO meter VALUES (NOW(6), %s, %s, %s, %s), ('2024-02-29', '12:00', 1, 1, x'00')", row)
    if random.random() < 0.3:
        cursor.execute("DELETE FROM meter ORDER BY at LIMIT 3")


def _amount(most: int) -> Decimal:
    return Decimal(random.randint(1, most * 100)) / 100
