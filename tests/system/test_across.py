"""A Postgres replica of shapes and values of MySQL: tables, rows every way, columns that come later, refusals.

The values' own test is tests/types/test_across.py.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from cdc.errors import APPLY_FAILED, TARGET_MISMATCH
from cdc.event import Column, Table
from tests.log_writer import Event
from tests.servers.postgres import Database
from tests.system.replica import Replica, changed, refusal


def column(name: str, type_name: str, declared: str, attnum: int, **facts: Any) -> Column:
    return Column(name, type_name, declared, 0, -1, attnum, not_null=name in ("code", "n"), **facts)


COLUMNS = (
    column("code", "varchar", "varchar(20)", 1, charset="utf8mb4", collation="utf8mb4_0900_ai_ci"),
    column("n", "int unsigned", "int unsigned", 2),
    column("amount", "decimal", "decimal(10,2) unsigned", 3),
    column("ratio", "float", "float", 4),
    column("flags", "bit", "bit(9)", 5),
    column("at", "timestamp", "timestamp(3)", 6),
    column("span", "time", "time", 7),
    column("state", "enum", "enum('new','it''s')", 8, enum_values=("new", "it's")),
    column("body", "longblob", "longblob", 9),
    column("more", "json", "json", 10),
)
BILLS = Table("billing", "bills", 0, COLUMNS, ("code", "n"), "d", ("code", "n"), engine="mysql")
LINES = Table("billing", "lines", 0, (COLUMNS[2], COLUMNS[3], COLUMNS[9]), (), "f", (), engine="mysql")


def bill(code: str, n: int = 1, **more: Any) -> dict[str, Any]:
    values = {"amount": "0.50", "ratio": 0.1, "flags": "AQE=", "at": "2024-02-29T12:34:56.700Z", "span": "-100:00:00",
              "state": "it's", "body": "AP8=", "more": '{"a": [1.50, "x"]}'}  # fmt: skip
    return {"code": code, "n": n, **values, **more}


@pytest.fixture
def mysql_replica(make: Callable[..., Replica]) -> Replica:
    made = make(BILLS, LINES)
    made.copy(BILLS, LINES)
    made.sync()
    return made


@pytest.mark.usefixtures("way")
def test_rows_every_way(mysql_replica: Replica, target_database: Database) -> None:
    keys = ["a", "A", "a ", "Á"]
    replica = mysql_replica
    replica.commit(*(Event(BILLS, "c", after=bill(key)) for key in keys))
    line = {"amount": "1.00", "ratio": 1e-7, "more": None}
    replica.commit(Event(LINES, "c", after=line), Event(LINES, "c", after=line))
    replica.sync()
    replica.commit(
        Event(BILLS, "u", after=bill("a", ratio=16777216.0, state="", body=None)),
        Event(BILLS, "d", before=bill("a ")),
        Event(BILLS, "d", before=bill("Á"), fields={"moved_to": {"code": "Á", "n": 4294967295}}),
        Event(BILLS, "c", after=bill("Á", 4294967295), fields={"moved_from": {"code": "Á", "n": 1}}),
    )
    replica.commit(Event(LINES, "d", before=line))
    replica.sync()
    rows = target_database.execute("SELECT code, n, amount, ratio, flags::int, at::text, span::text, state, body, "
                                   "more::text FROM billing.bills ORDER BY code COLLATE \"C\"")  # fmt: skip
    rest = (Decimal("0.50"), pytest.approx(0.1), 257, "2024-02-29 12:34:56.7+00", "-100:00:00", "it's", b"\0\xff",
            '{"a": [1.50, "x"]}')  # fmt: skip
    assert rows == [
        ("A", 1, *rest),
        ("a", 1, rest[0], 16777216.0, *rest[2:5], "", None, rest[7]),
        ("Á", 4294967295, *rest),
    ]
    assert target_database.execute("SELECT count(*) FROM billing.lines") == [(1,)]


def test_columns_that_come_later(mysql_replica: Replica, target_database: Database) -> None:
    replica = mysql_replica
    replica.commit(Event(BILLS, "c", after=bill("a")))
    added = (
        *COLUMNS,
        column("y", "year", "year", 11, missing="0000"),
        column("b", "binary", "binary(2)", 12, missing="0a00"),
    )
    wider = replace(BILLS, columns=added)
    replica.commit(changes=[changed(replica, 0, "add_column", BILLS, wider)])
    replica.sync()
    assert target_database.execute("SELECT y, b FROM billing.bills") == [(0, b"\n\0")]
    with_date = replace(wider, columns=(*added, column("d", "date", "date", 13, missing="0000-00-00")))
    replica.commit(changes=[changed(replica, 0, "add_column", wider, with_date)])
    code, said = refusal(replica.sync)
    assert code is TARGET_MISMATCH
    assert "billing.bills: existing rows cannot be given column d: Postgres has no place for 0000-00-00" in said


def test_a_value_that_has_no_place_stops_by_name(mysql_replica: Replica) -> None:
    replica = mysql_replica
    replica.commit(Event(BILLS, "c", after=bill("a", at="0000-00-00 00:00:00.000")))
    code, said = refusal(replica.sync)
    assert code is APPLY_FAILED
    assert "column at: Postgres has no place for 0000-00-00" in said
    assert 'billing.bills {"code":"a","n":1}' in said


def test_tables_that_do_not_fit(make: Callable[..., Replica], target_database: Database) -> None:
    target_database.execute("CREATE SCHEMA billing")
    target_database.execute("CREATE TABLE billing.bills (code varchar(20), n int, PRIMARY KEY (code, n))")
    long = replace(LINES, name="n" * 64)
    replica = make(BILLS, long)
    replica.copy(BILLS, long)
    code, said = refusal(replica.sync)
    assert code is TARGET_MISMATCH
    assert f"the name {long.name} is longer than Postgres' 63 bytes" in said
    assert "billing.bills: column n is integer, it must be bigint" in said
    assert "billing.bills: column state (text) is missing" in said
