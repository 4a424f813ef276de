"""What MySQL's keys did below its log comes back from an archive as the server did it: whole, alone, across."""

import random
from collections.abc import Iterator
from contextlib import suppress

import pymysql
import pytest

from cdc.position import Gtid
from sinks.archive.plan import Moment
from sinks.archive.restore import Wanted, fold_digests
from sinks.archive.window import Windows
from tests.conftest import unused_name
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL, MySQLDatabase
from tests.servers.postgres import Database
from tests.system.pipeline import AnyPipeline
from tests.system.test_archive_mysql import Past, at_source, cdc_restore, held, into, restored
from tests.system.test_archive_restore import Quiet

TREE = """
CREATE TABLE customers (id int PRIMARY KEY, code varchar(9) COLLATE utf8mb4_0900_ai_ci UNIQUE, text varchar(9));
CREATE TABLE orders (id int PRIMARY KEY, customer int, code varchar(20) COLLATE utf8mb4_0900_ai_ci, text varchar(9),
  FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE ON UPDATE SET NULL,
  FOREIGN KEY (code) REFERENCES customers (code) ON UPDATE CASCADE ON DELETE SET NULL);
CREATE TABLE items (orders int, line int, text varchar(9), PRIMARY KEY (orders, line),
  FOREIGN KEY (orders) REFERENCES orders (id) ON DELETE CASCADE);
CREATE TABLE notes (id int PRIMARY KEY, orders int, line int, text varchar(9),
  FOREIGN KEY (orders, line) REFERENCES items (orders, line) ON DELETE CASCADE);
CREATE TABLE parts (customer int, n int, text varchar(9), PRIMARY KEY (n, customer),
  FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE tags (customer int, code varchar(9) COLLATE utf8mb4_0900_ai_ci, mark int UNIQUE,
  FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE ON UPDATE CASCADE,
  FOREIGN KEY (code) REFERENCES customers (code) ON DELETE CASCADE ON UPDATE SET NULL);
CREATE TABLE stubs (id int PRIMARY KEY, mark int,
  FOREIGN KEY (mark) REFERENCES tags (mark) ON DELETE SET NULL ON UPDATE CASCADE);
"""
STATEMENTS = [
    "INSERT INTO customers VALUES ({a}, '{code}', 'x')",
    "INSERT INTO customers VALUES ({a}, '{code}', NULL)",
    "INSERT INTO customers VALUES ({b}, '{code}', 'x') ON DUPLICATE KEY UPDATE id = {c}, text = 'dup'",
    "REPLACE INTO customers VALUES ({a}, '{code}', 'y')",
    "INSERT INTO orders VALUES ({a}, {b}, '{other}', 'x')", "INSERT INTO orders VALUES ({c}, {b}, '{code}', 'x')",
    "INSERT INTO orders VALUES ({a}, NULL, '{other}', 'x')",
    "INSERT IGNORE INTO items SELECT id, {b}, 'x' FROM orders", "INSERT INTO items VALUES ({a}, {b}, NULL)",
    "INSERT IGNORE INTO notes SELECT orders * 10 + line, orders, line, 'x' FROM items",
    "INSERT IGNORE INTO parts SELECT id, {a}, 'x' FROM customers", "INSERT INTO parts VALUES ({a}, {b}, 'x')",
    "INSERT INTO tags VALUES ({a}, '{code}', {b})", "INSERT INTO tags VALUES ({a}, NULL, NULL), ({a}, NULL, NULL)",
    "INSERT INTO stubs VALUES ({a}, {b})", "INSERT IGNORE INTO stubs SELECT mark * 10, mark FROM tags",
    "UPDATE customers SET code = '{code}' WHERE id = {a}", "UPDATE customers SET id = {b} WHERE id = {a}",
    "UPDATE customers SET id = {b}, code = '{code}' WHERE id = {a}",
    "UPDATE customers SET id = id + 5 ORDER BY id DESC",
    "UPDATE customers SET id = id - 5 WHERE id > 5 ORDER BY id", "UPDATE customers SET text = 'z'",
    "UPDATE orders SET customer = {a} WHERE id = {b}", "UPDATE orders SET code = '{code}', text = 'u'",
    "UPDATE orders SET text = 'v' WHERE id = {a}", "UPDATE orders SET id = {b} WHERE id = {a}",
    "UPDATE parts SET text = 'w' WHERE n = {a}", "UPDATE parts SET n = {b} WHERE n = {a}",
    "UPDATE tags SET mark = {b} WHERE mark = {a}", "UPDATE notes SET text = 'n', orders = orders WHERE id % 2 = 1",
    "DELETE FROM customers WHERE id = {a}", "DELETE FROM customers WHERE id = {a}",
    "DELETE FROM customers WHERE id <= {a}", "DELETE FROM orders WHERE id = {a}", "DELETE FROM tags LIMIT 1",
    "DELETE FROM items WHERE line = {a}",
]  # fmt: skip

FILL = """
INSERT IGNORE INTO customers VALUES (1, 'ann', 'x'), (2, 'bob', 'x'), (3, 'cyd', 'x'), (4, 'dan', NULL);
INSERT IGNORE INTO orders SELECT id, id, UPPER(code), 'x' FROM customers;
INSERT IGNORE INTO items SELECT id, 1, 'x' FROM orders UNION ALL SELECT id, 2, 'x' FROM orders;
INSERT IGNORE INTO notes SELECT orders * 10 + line, orders, line, 'x' FROM items;
INSERT IGNORE INTO parts SELECT id, 1, 'x' FROM customers; INSERT IGNORE INTO tags SELECT id, code, id FROM customers;
INSERT IGNORE INTO stubs SELECT mark * 10, mark FROM tags WHERE mark IS NOT NULL
"""


def mixed(database: MySQLDatabase, chance: random.Random, count: int) -> None:
    """So many statements, in transactions of a few. Some log only what changed."""
    while count > 0:
        connection = database.connect(autocommit=False)
        with connection, connection.cursor() as cursor:
            minimal = chance.random() < 0.3
            cursor.execute(f"SET SESSION binlog_row_image = {'MINIMAL' if minimal else 'FULL'}")
            for _ in range(chance.choice([1, 1, 2, 6])):
                statement = chance.choice(STATEMENTS)
                if minimal and not statement.startswith(("UPDATE orders", "UPDATE parts", "UPDATE notes")):
                    continue  # An insert that lacks its defaults stops a source, and old values of codes are wanted.
                codes = {"code": chance.choice(["ann", "Ann", "bob", "cyd"]), "other": chance.choice(["ann", "BOB"])}
                with suppress(pymysql.IntegrityError, pymysql.OperationalError):
                    numbers = {name: chance.randint(1, 4) for name in "abc"}
                    cursor.execute(statement.format(**numbers, **codes))
                count -= 1
            if chance.random() < 0.1:
                connection.rollback()
            connection.commit()


@pytest.fixture(scope="module")
def lived_with_keys(
    tmp_path_factory: pytest.TempPathFactory, mysql_server: MySQL, mysql_target: MySQL, kafka: Kafka
) -> Iterator[Past]:
    """A copy, statements at random with a base among them, and an anchor at the end."""
    name = unused_name("keys")
    source, target = mysql_server.create_database(name), mysql_target.create_database(name)
    source.execute(TREE)
    chance = random.Random(5)
    source.execute(FILL)
    mixed(source, chance, 40)
    made = AnyPipeline(tmp_path_factory.mktemp("keys"), source, target, kafka.bootstrap,
                       source_options={"tables": [f"{source.name}.*"], "cascades": "derive"})  # fmt: skip
    made.publish()
    moments = {}

    with made.source_running(), made.archive_running():
        made.wait_archived()
        made.done("archive", "anchor", "main")
        for at in range(12):
            source.execute(FILL)
            mixed(source, chance, 25)
            moments[str(at)] = at_source(source)
            if at == 5:
                made.wait_archived()
                made.done("archive", "backup", "main")
        source.execute("ALTER TABLE orders ADD COLUMN later int DEFAULT 7 FIRST")
        mixed(source, chance, 1)
        source.execute("DELETE FROM customers WHERE id IN (1, 2)")
        moments["last"] = at_source(source)
        made.wait_archived()
        made.done("archive", "anchor", "main")
        made.wait_archived()
    yield Past(made, moments)
    source.drop()
    target.drop()


@pytest.fixture
def keys(lived_with_keys: Past) -> Iterator[Past]:
    """The target has nothing of it."""
    yield lived_with_keys
    target = into(lived_with_keys.pipeline)
    target.execute(f"DROP DATABASE {target.name}; CREATE DATABASE {target.name}")


@pytest.mark.matrix
def test_every_moment(keys: Past) -> None:
    """All tables together, and each alone, which needs what its parents did."""
    archive = keys.pipeline.archive()
    windows = Windows(archive)
    for at, (gtid, expected) in keys.moments.items():
        plan = windows.plan(Moment(gtid=Gtid.parse(gtid)))
        found = fold_digests(archive, plan, list(plan.tables), Quiet())
        assert {table.partition(".")[2]: digests for table, digests in found.items()} == expected, at
        for table in found:
            assert fold_digests(archive, plan, [table], Quiet())[table] == found[table], (at, table)
    for table in ("orders", "items", "notes", "parts", "tags", "stubs"):
        assert sum(bool(expected[table]) for _, expected in keys.moments.values()) > 3, table
    assert windows.plan(Moment(gtid=Gtid.parse(keys.moments["2"][0]))).base is None
    assert windows.plan(Moment(gtid=Gtid.parse(keys.moments["8"][0]))).base is not None


def test_whole_and_proven(keys: Past) -> None:
    pipeline, (gtid, expected) = keys.pipeline, keys.moments["9"]
    _, verdict = restored(pipeline, Moment(gtid=Gtid.parse(gtid)), Wanted())
    target = into(pipeline)
    assert {name: found for name, found in held(target, target.name).items() if name in expected} == expected
    assert verdict == "PROVEN"


def test_one_child_beside_the_live_one(keys: Past) -> None:
    """By the command; its parents are read and not restored."""
    pipeline, (gtid, expected) = keys.pipeline, keys.moments["8"]
    target = into(pipeline)
    done = cdc_restore(pipeline, "--to-gtid", gtid, "--table", f"{target.name}.notes", "--as", "notes_then")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("PROVEN"), done.stdout
    assert target.execute("SHOW TABLES") == [("notes_then",)]
    assert held(target, target.name)["notes_then"] == expected["notes"]


def test_into_postgres(keys: Past, target_database: Database) -> None:
    pipeline, (gtid, expected) = keys.pipeline, keys.moments["7"]
    done = cdc_restore(pipeline, "--to-gtid", gtid, "--no-anchor", target=target_database)
    assert done.returncode == 0, done.stderr
    for name, digests in expected.items():
        rows = target_database.execute(f"SELECT count(*) FROM {pipeline.source.name}.{name}")
        assert rows == [(sum(count for count, _, _ in digests.values()),)], name
