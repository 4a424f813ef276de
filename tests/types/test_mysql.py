"""Every value of every type that is carried: read from the binary log, it is the value that our session selects.

The server is the oracle: `select_expression` under the settings of our sessions gives the source text, while the server
is set the other way (CORRECTNESS 12). The values are those of the golden bytes, and random ones.
"""

import json
import math
import struct
from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Any

import orjson
import pytest

from cdc.event import Column, Table
from cdc.mysql import mariadb, tablemap, wire
from cdc.mysql.events import MySqlTransaction, TableStream
from cdc.mysql.rows import parse_rows
from cdc.mysql.session import Server, dialect_in
from cdc.mysql.tablemap import TableMap
from cdc.mysql.tables import Definition, column_of, plain_type, told_apart
from cdc.mysql.values import encoder, select_expression, to_text
from cdc.mysql.wire import Header
from cdc.rowevents import Row, RunFacts
from cdc.server import Side
from cdc.types import TYPES
from tests.golden.mysql.record import column, events, fill, tables
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQL, MySQLDatabase

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)

OPPOSITE = {
    "time_zone": "'+05:30'",
    "sql_mode": "'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH,TIME_TRUNCATE_FRACTIONAL,NO_ZERO_DATE,NO_BACKSLASH_ESCAPES'",
    "character_set_results": "'latin1'",
    "div_precision_increment": "0",
}


_MYSQL_MODE = "TIME_TRUNCATE_FRACTIONAL,"


@pytest.fixture(scope="module")
def contrary(mysql_server: MySQL, flavour: str) -> Iterator[MySQL]:
    """The server, its defaults set so that a session that takes them reads other texts."""
    before = {name: mysql_server.execute(f"SELECT @@GLOBAL.{name}")[0][0] for name in OPPOSITE}
    for name, value in OPPOSITE.items():
        mysql_server.execute(f"SET GLOBAL {name} = {value if flavour == 'mysql' else value.replace(_MYSQL_MODE, '')}")
    yield mysql_server
    for name, value in before.items():
        mysql_server.execute(f"SET GLOBAL {name} = %s", [value])


def selected(database: MySQLDatabase, table: str, columns: list[Column]) -> list[Row]:
    """Source texts, by a session of ours."""
    server = Server(Side.SOURCE, "types", database.url(), database.server.password)
    with closing(server.connect(raw=True)) as connection, connection.cursor() as cursor:
        dialect = dialect_in(connection)
        expressions = ", ".join(select_expression(shape, f"`{shape.name}`", dialect) for shape in columns)
        cursor.execute(f"SELECT {expressions} FROM {table} ORDER BY id")
        return [list(row) for row in cursor.fetchall()]


def logged(database: MySQLDatabase) -> Iterator[tuple[TableMap, Header, bytes]]:
    """The rows events of this database in the current file."""
    described = None
    for data in events(database.server):
        header, body = wire.parse_event(data, checksum=data[4] != wire.FORMAT_DESCRIPTION)
        if header.type in mariadb.REWRITTEN:
            header, body = mariadb.as_mysql(header, body)
        if header.type == wire.TABLE_MAP:
            mine = tablemap.mapped_table(body).schema == database.name
            described = tablemap.parse_table_map(body) if mine else None
        elif header.type == wire.WRITE_ROWS and described:
            yield described, header, body


def check(shape: Table, described: TableMap, header: Header, body: bytes, expected: list[Row]) -> None:
    """Rows of the log are those selected, one by one and in one pass, and so is what is read back from their JSON."""
    described = told_apart(shape, described)
    cells = [tablemap.cell(mapped) for mapped in described.columns]
    rows = [after for _, after in parse_rows(header.type, body, cells)]
    assert rows == expected, described.name
    txn = MySqlTransaction(commit_ts_us=1, seq=1, now_ns=1, gtid="g:1", file="f", pos=4, server_id=1, thread=1)
    records = TableStream(shape, described, "5" * 16, "topic", RunFacts("s", "d", "a" * 16, 1)).rows(txn, header, body)
    encoders, backs = [encoder(c) for c in shape.columns], [to_text(c) for c in shape.columns]
    for record, row in zip(records, expected, strict=True):
        assert record.value is not None
        after = b"{%b}" % b",".join(
            b'"%b":%b' % (c.name.encode(), b"null" if text is None else encode(text))  # type: ignore[arg-type]
            for c, text, encode in zip(shape.columns, row, encoders, strict=True)
        )
        assert b'"after":%b,"source"' % after in record.value
        values = orjson.loads(record.value)["after"].values()
        texts = [None if v is None else back(v).encode() for v, back in zip(values, backs, strict=True)]
        assert texts == row


def test_the_table_of_types_is_covered() -> None:
    covered = set()
    for declared in tables("mariadb").values():
        base = declared.partition("(")[0].split()[0]
        covered.add(f"{base} unsigned" if "unsigned" in declared and base != "decimal" else base)
    assert covered | {"json"} == set(TYPES["mysql"])


def test_every_value_selected_is_the_one_logged(contrary: MySQL, mysql_database: MySQLDatabase, flavour: str) -> None:
    contrary.execute("FLUSH BINARY LOGS")
    fill(mysql_database, flavour)
    number = column_of(Definition("id", "int", not_null=True), 1)
    found = list(logged(mysql_database))
    assert [described.name for described, _, _ in found] == list(tables(flavour))
    for described, header, body in found:
        columns = [number, column(mysql_database, described.name)]
        shape = Table(mysql_database.name, described.name, 0, tuple(columns), ("id",), "d", (), engine="mysql")
        check(shape, described, header, body, selected(mysql_database, described.name, columns))


WIDE = [
    "int", "bigint unsigned", "double", "float", "decimal(30,10)", "decimal(65,30)", "bit(33)", "date", "datetime(6)",
    "timestamp(3)", "time(6)", "varchar(99)", "varchar(99) character set utf16", "longtext character set utf32",
    "varchar(99) character set latin1", "varbinary(99)", "binary(9)", "json",
]  # fmt: skip


def random_row(random: Random, number: int) -> list[Any]:
    double = struct.unpack("<d", random.randbytes(8))[0]
    single = struct.unpack("<f", random.randbytes(4))[0]
    near = round(random.uniform(-1e6, 1e6), random.randint(0, 9)) * 10 ** random.randint(-18, 18)
    text = "".join(random.choice('aé€𝄞 "\\\n\x01') for _ in range(random.randint(0, 20)))
    sign = random.choice(["", "-"])
    day = f"{random.randint(0, 9999):04}-{random.randint(0, 12):02}-{random.randint(0, 31):02}"
    clock = f"{random.randint(0, 23):02}:{random.randint(0, 59):02}:{random.randint(0, 59):02}"
    micros = f"{random.randint(0, 999_999):06}"
    values = [
        number, random.getrandbits(64), double if math.isfinite(double) and number % 2 else near,
        single if math.isfinite(single) else 0.0, f"{sign}{random.getrandbits(60)}.{random.getrandbits(30)}"[:30],
        f"{sign}{random.getrandbits(100)}.{random.getrandbits(90)}", random.getrandbits(33),
        day, f"{day} {clock}.{micros}",
        f"{random.randint(1971, 2037)}-{random.randint(1, 12):02}-{random.randint(1, 28):02} {clock}.{micros[:3]}",
        f"{sign}{random.randint(0, 837)}{clock[2:]}.{micros}", text, text, text, text.replace("𝄞", "ÿ"),
        random.randbytes(random.randint(0, 30)), random.randbytes(random.randint(0, 9)),
        json.dumps(random_json(random, 3)),
    ]  # fmt: skip
    return [value if at == 0 or random.random() > 0.1 else None for at, value in enumerate(values)]


def random_json(random: Random, depth: int) -> Any:
    kind = random.randint(0, 7 if depth else 4)
    text = "".join(random.choice('ab/"\\é𝄞\t\x7f') for _ in range(random.choice([1, 5, 200])))
    if kind == 5:
        # More than 64 KB: the large form.
        return [random.getrandbits(40) for _ in range(random.choice([3, 9_000]))] if depth == 3 else []
    if kind == 6:
        return [random_json(random, depth - 1) for _ in range(random.randint(0, 5))]
    if kind == 7:
        return {f"{text}{at}": random_json(random, depth - 1) for at in range(random.randint(0, 5))}
    return [None, random.random() > 0.5, random.getrandbits(random.randint(1, 63)), random.uniform(-9, 9), text][kind]


def test_random_values(contrary: MySQL, mysql_database: MySQLDatabase) -> None:
    random = Random(5)
    names = ["id", *(f"c{at}" for at in range(1, len(WIDE)))]
    contrary.execute("FLUSH BINARY LOGS")
    with mysql_database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'")
        columns = ", ".join(f"{name} {type_} NULL" for name, type_ in zip(names[1:], WIDE[1:], strict=True))
        cursor.execute(f"CREATE TABLE wide (id int PRIMARY KEY, {columns})")
        rows = [random_row(random, number) for number in range(300)]
        cursor.executemany(f"INSERT IGNORE INTO wide VALUES ({', '.join(['%s'] * len(WIDE))})", rows)
    catalog = mysql_database.execute(
        "SELECT column_name, column_type, is_nullable = 'NO', character_set_name, collation_name "
        "FROM information_schema.columns WHERE table_schema = database() ORDER BY ordinal_position"
    )
    shapes = [
        column_of(Definition(name, plain_type(type_), bool(not_null), charset=charset, collation=collation), at)
        for at, (name, type_, not_null, charset, collation) in enumerate(catalog, 1)
    ]
    shape = Table(mysql_database.name, "wide", 0, tuple(shapes), ("id",), "d", (), engine="mysql")
    expected = selected(mysql_database, "wide", shapes)
    assert len(expected) == 300
    for described, header, body in logged(mysql_database):
        count = len(list(parse_rows(header.type, body, [tablemap.cell(mapped) for mapped in described.columns])))
        check(shape, described, header, body, expected[:count])
        del expected[:count]
    assert not expected
