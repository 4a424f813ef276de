"""Foreign keys of MySQL that change rows below its log: refused, or carried out by every replica as well."""

import subprocess
from collections.abc import Callable, Mapping

import pytest

from cdc.errors import CdcError
from cdc.log import End
from tests.system.pipeline import CDC, wait_until
from tests.system.shop import Shop

TREE = """
CREATE TABLE customers (id int PRIMARY KEY, code char(3) NOT NULL UNIQUE, name varchar(20));
CREATE TABLE orders (id int PRIMARY KEY, customer int, code char(3), note text,
  FOREIGN KEY (customer) REFERENCES customers (id) ON DELETE CASCADE,
  CONSTRAINT by_code FOREIGN KEY (code) REFERENCES customers (code) ON UPDATE CASCADE ON DELETE SET NULL);
CREATE TABLE items (orders int, line int, PRIMARY KEY (orders, line),
  FOREIGN KEY (orders) REFERENCES orders (id) ON DELETE CASCADE);
CREATE TABLE notes (id int PRIMARY KEY, orders int, line int, text varchar(20),
  FOREIGN KEY (orders, line) REFERENCES items (orders, line) ON DELETE CASCADE);
INSERT INTO customers VALUES (1, 'ann', 'Ann'), (2, 'bob', 'Bob'), (3, 'cyd', 'Cyd');
INSERT INTO orders VALUES (10, 1, 'ann', 'x'), (11, 1, 'bob', 'x'), (20, 2, 'bob', 'x'), (30, NULL, 'ann', 'x');
INSERT INTO items VALUES (10, 1), (10, 2), (11, 1), (20, 1);
INSERT INTO notes VALUES (1, 10, 1, 'a'), (2, 10, 2, 'b'), (3, 20, 1, 'c'), (4, NULL, NULL, 'd')
"""
WORK = [
    # Three levels down, and a column that is set to NULL.
    "DELETE FROM customers WHERE id = 1",
    # In one transaction rows come and go by the key that deletes them.
    (
        "START TRANSACTION; INSERT INTO orders VALUES (40, 3, 'cyd', 'y'); INSERT INTO items VALUES (40, 1); "
        "INSERT INTO notes VALUES (5, 40, 1, 'e'); DELETE FROM customers WHERE id = 3; "
        "INSERT INTO customers VALUES (3, 'cyd', 'again'); INSERT INTO orders VALUES (40, 3, 'cyd', 'z'); COMMIT"
    ),
    "UPDATE customers SET code = 'rob' WHERE id = 2",
    "UPDATE customers SET name = 'Robert' WHERE id = 2",
    # The row's own key and what another table refers to, by one statement; a text that is written otherwise.
    "INSERT INTO customers VALUES (6, 'fay', 'Fay'); INSERT INTO orders VALUES (60, NULL, 'FAY', 'x')",
    "UPDATE customers SET id = 7, code = 'eve' WHERE id = 6",
    "DELETE FROM items WHERE orders = 20",
]


@pytest.mark.parametrize("target", ["postgres", "mysql"])
def test_replicas_carry_out_the_same_rules(make_shop: Callable[..., Shop], target: str) -> None:
    shop = make_shop("mysql", target, source_options={"cascades": "derive"})
    shop.source.execute(TREE)
    with shop.source_running(), shop.sink_running():
        wait_until(lambda: bool(shop.progress() and not shop.copying()), "the copy")
        for statements in WORK:
            shop.source.execute(statements)
        shop.wait_caught_up()
        shop.assert_equal()
    assert [row[0] for row in shop.into.rows(f"{shop.source.name}.orders")] == [20, 30, 40, 60]
    assert [row[0] for row in shop.into.rows(f"{shop.source.name}.notes")] == [4]


def test_they_are_refused_unless_allowed(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop("mysql", "postgres")
    shop.source.execute(TREE)
    refused = shop.run("source", "run", shop.name)
    assert refused.wait(60) == 5
    assert "TABLE_CASCADES" in refused.log.read_text()
    assert "items_ibfk_1" in refused.log.read_text()


def test_a_key_that_leads_back_to_its_table_is_never_derived(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop("mysql", "postgres", source_options={"cascades": "derive"})
    shop.source.execute("CREATE TABLE tree (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES tree (id) "
                        "ON DELETE CASCADE)")  # fmt: skip
    refused = shop.run("source", "run", shop.name)
    assert refused.wait(60) == 5
    assert "leads back to its own table" in refused.log.read_text()


def test_a_restore_carries_out_the_same_rules(make_shop: Callable[..., Shop]) -> None:
    """Also a dry run, and a child alone."""
    shop = make_shop("mysql", "mysql", source_options={"cascades": "derive"})
    shop.source.execute(TREE)
    restore = ["restore", "--archive", shop.archive_url, "--to-txn"]
    with shop.source_running(), shop.archive_running():
        # Behind the copy, and behind a heartbeat that came after it.
        wait_until(lambda: [end.kind for end in ended(shop)][-2:] == ["heartbeat", "heartbeat"], "the copy, closed")
        shop.wait_archived()
        copied = shop.valid_ends()[-1].txn_seq
        shop.source.execute("DELETE FROM customers WHERE id = 1")
        shop.wait_archived()
    environment = {**shop.environment, "CDC_ARCHIVE_KEY": shop.archive_key, "MYSQL_PWD": shop.target.server.password}
    for to in (copied, copied + 1):
        shown = run(environment, *restore, str(to), "--dry-run")
        assert shown.returncode == 0, shown.stderr
    into = ["--into", shop.target.url(), "--no-anchor"]
    whole = run(environment, *restore, str(copied + 1), *into)
    assert whole.returncode == 0, whole.stderr
    name = shop.source.name
    for table in ("customers", "orders", "items", "notes"):
        assert shop.into.rows(f"{name}.{table}") == shop.from_.rows(f"{name}.{table}")
    alone = run(environment, *restore, str(copied + 1), "--table", f"{name}.notes", "--as", "notes_then", *into)
    assert alone.returncode == 0, alone.stderr
    assert shop.into.rows(f"{name}.notes_then") == shop.from_.rows(f"{name}.notes")


def ended(shop: Shop) -> list[End]:
    try:
        return shop.valid_ends()
    except CdcError:  # before its first start the topic is not there
        return []


def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CDC, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120)
