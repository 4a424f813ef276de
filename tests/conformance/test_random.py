"""Any work of any sessions, between any engines: the replica ends as the source does. `CDC_EXAMPLES=N` for more."""

import os
import random
from collections.abc import Callable

import psycopg
import pymysql
import pytest

from tests.system.pipeline import wait_until
from tests.system.shop import MARIADB_PAIRS, Shop

TRANSACTIONS = int(os.environ.get("CDC_EXAMPLES", "12")) * 10
PAIRS = [
    pytest.param("mysql", "postgres", id="mysql-postgres"),
    pytest.param("postgres", "mysql", id="postgres-mysql", marks=pytest.mark.matrix),
    pytest.param("mysql", "mysql", id="mysql-mysql", marks=pytest.mark.matrix),
    *(pytest.param(*pair, id="-".join(pair), marks=pytest.mark.matrix) for pair in MARIADB_PAIRS),
]
TABLES = {
    "postgres": "CREATE TABLE pairs (a int, b varchar(9), n bigint, t text, u int UNIQUE, PRIMARY KEY (b, a));"
    "ALTER TABLE pairs ALTER COLUMN t SET STORAGE EXTERNAL;"
    "CREATE TABLE bag (n int, t varchar(30)); ALTER TABLE bag REPLICA IDENTITY FULL",
    "mysql": "CREATE TABLE pairs (a int, b varchar(9) COLLATE utf8mb4_0900_bin, n bigint, t text, u int UNIQUE, "
    "PRIMARY KEY (b, a)); CREATE TABLE bag (n int, t varchar(30))",
}
TABLES["mariadb"] = TABLES["mysql"].replace("utf8mb4_0900_bin", "utf8mb4_nopad_bin")
TEXTS = ["NULL", "''", "'x'", "'é\U0001f600'", "'it''s'", "'\\\\.'", "' lead'", "'trail '", "'A'", "'a'"]
LONG = "repeat(md5('{0}'), 400)"


def statement(chance: random.Random) -> str:
    a, other = chance.randrange(8), chance.randrange(8)
    b = chance.choice(["'k'", "'K'", "'k '", "'ü'"])
    text = LONG.format(chance.random()) if chance.random() < 0.2 else chance.choice(TEXTS)
    bag = chance.choice(TEXTS)
    matching = "IS NULL" if bag == "NULL" else f"= {bag}"
    return chance.choice([
        f"INSERT INTO pairs VALUES ({a}, {b}, {chance.getrandbits(62)}, {text}, NULL)",
        f"INSERT INTO pairs VALUES ({a}, {b}, -1, {text}, {chance.randrange(40)})",
        f"UPDATE pairs SET n = n / 2, t = {text} WHERE a = {a}",
        f"UPDATE pairs SET n = {a} WHERE b = {b}",
        f"UPDATE pairs SET a = {other} WHERE a = {a} AND b = {b}",
        f"UPDATE pairs SET u = NULL WHERE a = {a}",
        f"DELETE FROM pairs WHERE a = {a} AND b = {b}",
        f"INSERT INTO bag VALUES ({a}, {bag}), ({a}, {bag})",
        f"UPDATE bag SET n = {other} WHERE n = {a}",
        f"DELETE FROM bag WHERE n = {a} AND t {matching}",
        f"SAVEPOINT s; DELETE FROM pairs; INSERT INTO bag VALUES ({a}, 'undone'); ROLLBACK TO SAVEPOINT s",
    ])  # fmt: skip


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_any_work(make_shop: Callable[..., Shop], source: str, target: str) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    shop = make_shop(source, target)
    shop.source.execute(TABLES[source])
    if source == "postgres":
        shop.source.execute(f"ALTER PUBLICATION cdc_{shop.name} SET TABLES IN SCHEMA public")
    with shop.source_running(), shop.sink_running():
        wait_until(lambda: bool(shop.progress() and not shop.copying()), "the copy")
        done = sum(committed(shop, chance) for _ in range(TRANSACTIONS))
        shop.wait_caught_up()
        try:
            shop.assert_equal()
        except AssertionError as error:
            error.add_note(f"seed {seed}, {done} transactions")
            raise
    assert done > TRANSACTIONS / 10


def committed(shop: Shop, chance: random.Random) -> bool:
    """One transaction, if no key of it is taken."""
    statements = [statement(chance) for _ in range(chance.choice([1, 1, 2, 6]))]
    connection = shop.source.connect(autocommit=False)
    try:
        cursor = connection.cursor()
        for one in "; ".join(statements).split("; "):
            cursor.execute(one)
        connection.commit()
    except (psycopg.errors.UniqueViolation, pymysql.IntegrityError):
        connection.rollback()
        return False
    finally:
        connection.close()
    return True
