"""Debezium's own JDBC sink on the topics of our source: its database comes to hold the source's rows."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from cdc.errors import CdcError
from tests.servers.connect import JSON_WITH_SCHEMA, Connect, avro
from tests.servers.mysql import MySQLDatabase
from tests.servers.postgres import Database
from tests.servers.registry import Registry
from tests.system.ends import AnyDatabase
from tests.system.pipeline import wait_until
from tests.system.shop import Shop

MATRIX = pytest.mark.matrix
TABLES = {
    "postgres": """
        CREATE TABLE goods (id int PRIMARY KEY, name varchar(40), price {decimal}, paid boolean, raw bytea, at {moment},
          born {date}, n bigint);
    """,
    "mysql": """
        CREATE TABLE goods (id int PRIMARY KEY, name varchar(40), price decimal(12,2), paid bit(1), raw varbinary(20),
          at timestamp(6) NULL, born date, n bigint);
    """,
}
TYPED = {"decimal": "numeric(12,2)", "moment": "timestamptz", "date": "date"}
AS_TEXT = {"decimal": "text", "moment": "timestamptz", "date": "text"}
"""What the sink makes of the mode in which decimals and dates are texts."""
ROWS = {
    "postgres": "(%s, 'é \U0001f600', %s, true, '\\x00ff', '2024-02-29 12:34:56.789012+00', '2024-02-29', NULL)",
    "mysql": "(%s, 'é \U0001f600', %s, b'1', x'00ff', '2024-02-29 12:34:56.789012', '2024-02-29', NULL)",
}
MakeShop = Callable[..., Shop]


@pytest.mark.parametrize(
    ("source", "format_", "types"),
    [
        ("postgres", "avro", "debezium"),
        pytest.param("postgres", "json-with-schema", "exact", marks=MATRIX),
        pytest.param("mysql", "avro", "exact", marks=MATRIX),
        pytest.param("mysql", "json-with-schema", "debezium", marks=MATRIX),
    ],
)
def test_debeziums_sink_holds_the_sources_rows(
    make_shop: MakeShop, connect: Connect, registry: Registry, source: str, format_: str, types: str
) -> None:
    shop = make_shop(source, "postgres", source_options={"format": format_, "types": types}, registry=registry.url)
    database, target = shop.source, shop.target
    assert isinstance(target, Database)
    database.execute(TABLES[source].format(**TYPED))
    target.execute(TABLES["postgres"].format(**(TYPED if types == "debezium" else AS_TEXT)).encode())
    insert = f"INSERT INTO goods VALUES {ROWS[source]}"
    for id_ in range(1, 6):
        database.execute(insert, [id_, id_ * 1.25])
    schema = "public" if source == "postgres" else database.name
    converter = avro(registry) if format_ == "avro" else JSON_WITH_SCHEMA
    connector = {**jdbc(shop.name, f"{shop.name}.{schema}.goods", target), **converter}
    with shop.source_running():
        wait_until(lambda: copied(shop, f"{schema}.goods"), "the first copy")
        connect.create(connector)
        try:
            for statement in (
                "UPDATE goods SET name = 'changed', price = -0.05 WHERE id = 1",
                "UPDATE goods SET id = 77 WHERE id = 2",
                "DELETE FROM goods WHERE id = 3",
                "UPDATE goods SET n = 9223372036854775807, paid = NULL, raw = NULL, born = NULL WHERE id = 4",
            ):
                database.execute(statement)
            wait_until(lambda: found(target, types) == wanted(database, types), "the sink's rows", 120)
        finally:
            connect.check(shop.name)
            connect.end(shop.name)


def copied(shop: Shop, table: str) -> bool:
    with suppress(CdcError):
        return any(end.copy and end.copy.last and end.copy.table == table for end in shop.valid_ends())
    return False


def jdbc(name: str, topic: str, target: Database) -> dict[str, str | int]:
    return {
        "name": name,
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": 1,
        "topics": topic,
        "connection.url": f"jdbc:postgresql://127.0.0.1:{target.server.port}/{target.name}",
        "connection.username": "postgres",
        "connection.password": target.server.password,
        "collection.name.format": "goods",
        "insert.mode": "upsert",
        "delete.enabled": "true",
        "primary.key.mode": "record_key",
        "schema.evolution": "none",
        "consumer.override.auto.offset.reset": "earliest",
    }


def found(target: Database, types: str) -> list[Any]:
    return _plain(target.execute("SELECT * FROM goods ORDER BY id"), types)


def wanted(database: AnyDatabase, types: str) -> list[Any]:
    paid = "paid + 0" if isinstance(database, MySQLDatabase) else "paid"
    columns = f"id, name, price, {paid}, raw, at, born, n"
    return _plain(database.execute(f"SELECT {columns} FROM goods ORDER BY id"), types)


def _plain(rows: list[Any], types: str) -> list[Any]:
    """Texts of decimals and dates stand for themselves; clocks compare without a zone."""

    def plain(at: int, value: Any) -> Any:
        if value is None:
            return None
        if at == 3:
            return bool(value)
        if at == 5:
            return value.replace(tzinfo=None)
        if types == "exact" and at in {2, 6}:
            return str(value).removesuffix("Z")
        return value

    return [tuple(plain(at, value) for at, value in enumerate(row)) for row in rows]
