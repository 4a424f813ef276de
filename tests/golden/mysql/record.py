"""Records what a real MySQL writes into its binary log: `python -m tests.golden.mysql.record`.

Out: `mysql-8.0.31.json`, of `values.toml` each type's column as the catalog has it, the source text that a SELECT gives
for its values, and the events that carry them (hex, headers and checksums included); and the events of `STREAM`.
"""

import json
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdc.event import Column
from cdc.mysql.dialect import MYSQL
from cdc.mysql.tables import Definition, column_of, plain_type
from cdc.mysql.values import select_expression
from tests.servers.mysql import MySQL, MySQLDatabase

HERE = Path(__file__).parent
TYPES: dict[str, list[str]] = tomllib.loads((HERE / "values.toml").read_text())["types"]
# Of our sessions: what a SELECT gives depends on it.
SESSION = """SET NAMES utf8mb4, time_zone = '+00:00',
             sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'"""
STREAM = """
CREATE TABLE wide (id int, part varchar(9), n int, t text, b blob, PRIMARY KEY (part, id))
CREATE TABLE prefixed (id int, name varchar(99) INVISIBLE, u bigint unsigned, PRIMARY KEY (id, name(3)))
CREATE TABLE keyless (x int, y text, z blob)
CREATE TABLE point (id int PRIMARY KEY, p point)
INSERT INTO wide VALUES (1, 'é', 1, 'text', 0x00ff), (2, 'b', NULL, NULL, NULL)
UPDATE wide SET n = 3
UPDATE wide SET id = id + 10 WHERE id = 1
DELETE FROM wide WHERE id = 2
INSERT INTO prefixed (id, name, u) VALUES (1, 'name', 18446744073709551615)
INSERT INTO keyless VALUES (1, NULL, 'b'), (1, NULL, 'b')
DELETE FROM keyless LIMIT 1
INSERT INTO point VALUES (1, POINT(1, 2))
SET SESSION binlog_row_image = MINIMAL
UPDATE wide SET n = 4
UPDATE wide SET id = 12
UPDATE keyless SET y = 'c'
INSERT INTO wide (id, part) VALUES (3, 'c')
DELETE FROM wide WHERE id = 3
SET SESSION binlog_row_image = NOBLOB
UPDATE wide SET n = 5
UPDATE wide SET t = 'changed'
SET SESSION binlog_row_image = FULL
SET SESSION binlog_transaction_compression = ON
INSERT INTO wide SELECT 100 + n, 'squeezed', n, repeat('é', 200), NULL FROM (VALUES ROW(1), ROW(2), ROW(3)) r (n)
SET SESSION binlog_transaction_compression = OFF
TRUNCATE wide
SET SESSION sql_mode = 'ANSI_QUOTES'
ALTER TABLE "keyless" ADD "ä" int
SET SESSION binlog_format = STATEMENT
INSERT INTO keyless VALUES (7, 'statement', NULL, 8)
"""


OF_MARIADB = {
    "uuid": ["'00000000-0000-0000-0000-000000000000'", "'F27A4B6D-e73d-11f1-932d-02fc00000000'",
             "'123e4567-e89b-42d3-a456-426614174000'"],
    "inet4": ["'0.0.0.0'", "'1.2.3.4'", "'10.0.0.0'", "'255.255.255.255'"],
    "inet6": ["'::'", "'::1'", "'1200::'", "'::ffff:1.2.3.4'", "'::1.2.3.4'", "'1:0:2:0:0:3:0:4'",
              "'1:0:2:3:4:5:6:7'", "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'"],
}  # fmt: skip
"""Values of the types that it alone has."""


def values(flavour: str = "mysql") -> dict[str, list[str]]:
    if flavour == "mysql":
        return TYPES
    # Its json is a longtext.
    return {
        declared.replace("utf8mb4_0900_bin", "utf8mb4_nopad_bin"): of
        for declared, of in {**TYPES, **OF_MARIADB}.items()
        if declared != "json"
    }


def tables(flavour: str = "mysql") -> dict[str, str]:
    """Table name → declared type."""
    return {f"t{at}": declared for at, declared in enumerate(values(flavour))}


def fill(database: MySQLDatabase, flavour: str = "mysql") -> None:
    """A table for each type, with all its values and NULL, in one transaction each."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(SESSION)
        for name, declared in tables(flavour).items():
            cursor.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v {declared} NULL)")
            rows = ", ".join(f"({at}, {value})" for at, value in enumerate([*values(flavour)[declared], "NULL"]))
            cursor.execute(f"INSERT IGNORE INTO {name} VALUES {rows}")


def column(database: MySQLDatabase, table: str) -> Column:
    """The column `v` as the catalog has it."""
    ((type_, charset, collation),) = database.execute(
        "SELECT column_type, character_set_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = database() AND table_name = %s AND column_name = 'v'",
        [table],
    )
    return column_of(Definition("v", plain_type(type_), not_null=False, charset=charset, collation=collation), 2)


def selected(database: MySQLDatabase, table: str, shape: Column) -> list[str | None]:
    """The source text of every value."""
    with database.connect() as connection, connection.cursor() as cursor:
        connection.decoders = {}
        cursor.execute(SESSION)
        cursor.execute(f"SELECT {select_expression(shape, 'v', MYSQL)} FROM {table} ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def events(server: MySQL) -> Iterator[bytes]:
    """Of the current file, from its beginning."""
    file = server.execute("SHOW MASTER STATUS")[0][0]
    data, at = (server.data / file).read_bytes(), 4
    while at < len(data):
        size = int.from_bytes(data[at + 9 : at + 13], "little")
        yield data[at : at + size]
        at += size


def main() -> None:
    """Start a server, run the statements, write down the events."""
    with tempfile.TemporaryDirectory(prefix="golden-") as directory, MySQL(Path(directory) / "mysql") as server:
        database = server.create_database("golden")
        server.execute("FLUSH BINARY LOGS")
        fill(database)
        types: dict[str, Any] = {}
        mapped = [data for data in events(server) if data[4] in (19, 30)]
        for (name, declared), table_map, rows in zip(tables().items(), mapped[::2], mapped[1::2], strict=True):
            shape = column(database, name)
            types[declared] = {
                "column": [shape.type_expression, shape.charset, shape.collation],
                "text": selected(database, name, shape),
                "events": [table_map.hex(), rows.hex()],
            }
        server.execute("FLUSH BINARY LOGS")
        with database.connect() as connection, connection.cursor() as cursor:
            cursor.execute(SESSION)
            for statement in STREAM.strip().splitlines():
                cursor.execute(statement)
        written = {"types": types, "stream": [data.hex() for data in events(server)]}
        (HERE / "mysql-8.0.31.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")
        print(f"{len(types)} types, {len(written['stream'])} events")


if __name__ == "__main__":
    main()
