"""Every value of every type, on the other engine: it is there, and its digest is that of the source.

Both servers are real. A value goes the way of the service: the source's text, its JSON form, the target's text, the
target's type; then each server computes the digest by itself. Values that the target has no place for are refused.
"""

import math
import re
import struct
import tomllib
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import sql

import cdc.mysql.session as mysql
import cdc.mysql.values
import cdc.postgres.values
from cdc.errors import ROW_TOO_LARGE, CdcError
from cdc.event import Column, Engine, Table
from cdc.mysql.session import dialect_in
from cdc.mysql.tables import Definition, plain_type, table_of
from cdc.postgres.catalog import Catalog
from cdc.postgres.session import Server
from cdc.server import Side
from cdc.types import TYPES
from sinks.across import TargetColumn, UnfitError, target_columns
from sinks.digest import differing, digests
from sinks.mysql import digest as on_mysql
from sinks.mysql.existing import misfits
from sinks.mysql.reading import Reading
from sinks.postgres import digest as on_postgres
from tests.golden.mysql.record import OF_MARIADB
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQLDatabase, quoted
from tests.servers.postgres import Database

BOTH = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)

GOLDEN: dict[str, dict[str, list[str]]] = tomllib.loads(
    (Path(__file__).parents[1] / "golden/debezium-3.5.0/values.toml").read_text()
)
VALUES, ARRAYS = GOLDEN["types"], GOLDEN["arrays"]
NAMES = {"char": "bpchar", "mood": "enum"}
RANDOM = Random(7)


def doubles() -> list[str]:
    """Of every size; those from 2^54 on have shortest digits that not every server takes."""
    found = [struct.unpack("d", RANDOM.randbytes(8))[0] for _ in range(300)]
    found += [float(RANDOM.randrange(2**53, 10 ** RANDOM.randrange(17, 41))) for _ in range(1500)]
    found += [RANDOM.choice((1, -1)) * RANDOM.randrange(1, 10**17) * 10.0 ** RANDOM.randrange(-25, 10)
              for _ in range(500)]  # fmt: skip
    found += [2.0**power for power in range(-40, 100)] + [10.0**power for power in range(-20, 30)]
    return [repr(value) for value in found if math.isfinite(value)]


def floats() -> list[str]:
    found = (struct.unpack("f", RANDOM.randbytes(4))[0] for _ in range(300))
    return [repr(value) for value in found if math.isfinite(value)]


MORE = {
    "float8": doubles(),
    "float4": floats(),
    "text": ["a", "A", "a ", "Á", "\\N", '"', ",", "\\", "%s %", "{0}"],
    "varchar(20000)": ["x" * 20000],
    "numeric(65,30)": ["1." + "1" * 30, "-0.5"],
}
FAR = re.compile(r"\A\d{5,7}-|BC\Z|infinity\Z|NaN\Z|Infinity\Z")
"""What MySQL has no place for, in a type of its own."""


def carried(declared: str) -> bool:
    base = declared.removesuffix("[]").partition("(")[0]
    return NAMES.get(base, base) in TYPES["postgresql"]


# -- Postgres → MySQL -------------------------------------------------------------------------------------------
def postgres_cases() -> dict[str, list[str]]:
    cases = {name: values for name, values in VALUES.items() if carried(name)}
    for name, values in MORE.items():
        cases[name] = [*cases.get(name, []), *values]
    cases |= {f"{name}[]": values for name, values in ARRAYS.items() if carried(name)}
    return cases


@BOTH
def test_every_value_of_postgres_on_mysql(database: Database, mysql_database: MySQLDatabase, flavour: str) -> None:
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'so \"so\"', '')")
    database.execute("CREATE TYPE plain_mood AS ENUM ('sad', 'Sad', 'it''s \\', 'ü,', '1')")
    cases = {**postgres_cases(), "plain_mood": ["sad", "Sad", "it's \\", "ü,", "1"]}
    for at, (declared, values) in enumerate(cases.items()):
        database.execute(f"CREATE TABLE t{at} (id int PRIMARY KEY, v {declared})")
        database.execute(
            f"INSERT INTO t{at} SELECT o, v::{declared} FROM unnest(%s::text[]) WITH ORDINALITY u (v, o) "
            "UNION ALL SELECT 0, NULL", [values]
        )  # fmt: skip
    source = Server(Side.SOURCE, "types", database.url(), database.server.password)
    target = mysql.Server(Side.TARGET, "types", mysql_database.url(), mysql_database.server.password)
    tables = shapes(source, database)
    refused = {}
    with source.connect() as at_source, target.connect() as at_target:
        for at, declared in enumerate(cases):
            table = tables[f"t{at}"]
            refused[declared] = to_mysql(at_source, at_target, table)
            query = sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(sql.Identifier("public", table.name))
            at_source.execute(query, [list(refused[declared])])
            compare(at_source, at_target, table, declared)
    for declared, texts in refused.items():
        expected = {text for text in cases[declared] if FAR.search(text)}
        if flavour == "mariadb" and declared in ("float4", "float8"):
            expected.add("-0")
        exempt = declared.endswith("[]") or declared == "numeric"
        assert len(texts) == (0 if exempt else len(expected)), (declared, texts, expected)


def shapes(source: Server, database: Database) -> dict[str, Table]:
    catalog = Catalog(source)
    oids = [oid for (oid,) in database.execute("SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = "
                                               "'public'::regnamespace")]  # fmt: skip
    found = {table.name: table for table in catalog.shapes(oids)}
    catalog.close()
    return found


def to_mysql(at_source: psycopg.Connection[Any], at_target: Any, table: Table) -> dict[int, str]:
    """Put all rows there; what was refused, by number."""
    columns = target_columns(table, dialect_in(at_target).engine)
    with at_target.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table.name} (id int PRIMARY KEY, v {columns[1].type_sql})")
        # A sink that comes back takes the table that it made.
        cursor.execute("SELECT DATABASE()")
        (home,) = cursor.fetchone()
        assert list(misfits(at_target, replace(table, schema=home), home)) == []
        rows = at_source.execute(f"SELECT id, format('%s', v), v IS NULL FROM public.{table.name}".encode())
        encode = cdc.postgres.values.encoder(table.columns[1].type, table.columns[1].typmod)
        texts, refused = through(columns[1], encode, {i: None if null else t for i, t, null in rows})
        place = "UNHEX(%s)" if columns[1].type in ("longblob", "varbinary") else "%s"
        cursor.executemany(f"INSERT INTO {table.name} VALUES (%s, {place})", list(texts.items()))
    return refused


Encode = Callable[[bytes], bytes]
Texts = dict[int, str | None]


def through(column: TargetColumn, encode: Encode, texts: Mapping[int, str | None]) -> tuple[Texts, dict[int, str]]:
    """By way of the event: the target's texts, and the source's texts that were refused."""
    found: Texts = {}
    refused = {}
    for number, text in texts.items():
        try:
            found[number] = None if text is None else column.text(orjson.loads(encode(text.encode())))
            assert text is None or found[number] == column.from_source(text)
        except UnfitError:
            refused[number] = str(text)
    return found, refused


def text(name: str, declared: str, **facts: Any) -> Column:
    kind = {"character varying": "varchar"}.get(declared.partition("(")[0], declared.partition("(")[0])
    return Column(name, kind, declared, 0, -1, 1, not_null=True, **facts)


LIMITS = {
    "open ends share a key": ([text("a", "text"), text("b", "text"), text("c", "bytea"), text("d", "numeric"),
                               text("e", "int8"), text("f", "uuid"), text("g", "timestamptz")], True),
    "lengths exceed a key": ([text(f"k{at}", "character varying(190)") for at in range(5)], True),
    "other types in a key": ([text("a", "float8"), text("b", "numeric(65,30)"), text("c", "bool"), text("d", "time"),
                              text("e", "int4[]"), text("f", "jsonb")], True),
    "lengths exceed a row": ([text(f"c{at}", f"character varying({300 + at})") for at in range(100)], False),
    "many labels": ([text("a", "enum", enum_values=tuple(f"label {at} é" for at in range(3000)))], True),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("what", LIMITS)
def test_mysql_takes_the_table(mysql_database: MySQLDatabase, what: str, flavour: str) -> None:
    columns, keyed = LIMITS[what]
    key = tuple(column.name for column in columns) if keyed else ()
    table = Table("s", "t", 0, tuple(columns), key, "d" if keyed else "f", ())
    engine: Engine = "mysql" if flavour == "mysql" else "mariadb"
    parts = [f"{there.name} {there.type_sql} NOT NULL" for there in target_columns(table, engine)]
    parts += [f"PRIMARY KEY ({', '.join(key)})"] if keyed else []
    mysql_database.execute(f"CREATE TABLE t ({', '.join(parts)})")


# -- MySQL → Postgres -------------------------------------------------------------------------------------------
INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
MYSQL_CASES: dict[str, list[str]] = {
    **{name: [str(-(2 ** (bits - 1))), "0", str(2 ** (bits - 1) - 1)] for name, bits in INTEGERS.items()},
    **{f"{name} unsigned": ["0", "7", str(2**bits - 1)] for name, bits in INTEGERS.items()},
    "tinyint(1)": ["0", "1", "-5"],
    "decimal(10,2)": ["-99999999.99", "0", "-0.001", "0.5"],
    "decimal(65,30) unsigned zerofill": ["0.1", "1" * 35 + "." + "9" * 30],
    "decimal": ["-7"],
    "float": MORE["float4"] + ["'-0'", "3.4e38", "0.1"],
    "double": MORE["float8"] + ["'-0'", "5e-324", "1.7976931348623157e308"],
    "bit(1)": ["0", "1"],
    "bit(10)": ["0", "1", "513", "1023"],
    "bit(63)": [str(2**63 - 1), "0"],
    "bit(64)": ["0", "1", str(2**63), str(2**64 - 1)],
    "year": ["0", "1901", "2155"],
    "date": ["'1000-01-01'", "'9999-12-31'", "'0001-01-01'", "'2024-02-29'", "'0000-00-00'", "'2024-00-00'",
             "'2024-01-00'", "'0000-05-05'"],
    **{f"datetime({digits})": ["'2024-02-29 12:34:56.789012'", "'0001-01-01'", "'9999-12-31 23:59:59'",
                               "'2024-01-01 00:00:00.1'", "'0000-00-00'", "'2024-00-10 01:02:03'"]
       for digits in (0, 1, 3, 6)},
    **{f"timestamp({digits})": ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:06.9'", "'2024-03-31 02:30:00.001'",
                                "'0000-00-00'"] for digits in (0, 3, 6)},
    **{f"time({digits})": ["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01.5'", "'23:59:59.999999'",
                           "'1:2:3.25'", "'100:00:00'"] for digits in (0, 2, 6)},
    "char(5)": ["'ab'", "''", "'a  '", "'é\"'", "' x'"],
    "char(0)": ["''"],
    "varchar(20)": ["'ab '", "''", "',\"\\\\N'", "'😀'", "'a\\0b'"],
    "varchar(20) character set latin1": ["'é€'", "x'81'"],
    "varchar(20) character set utf16": ["'é😀'"],
    "varchar(20) character set ascii": ["'~'"],
    "tinytext": ["'x'"],
    "text": ["'line\\n\\t\\r'", "'a\\0'"],
    "mediumtext": ["'x'"],
    "longtext": ["repeat('ü', 70000)"],
    "binary(4)": ["''", "'ab'", "x'00ff'"],
    "varbinary(4)": ["''", "x'0000'", "x'ff22'"],
    "tinyblob": ["''", "x'00'"],
    "blob": ["x'5c78'"],
    "mediumblob": ["'\"'"],
    "longblob": ["repeat(x'00', 70000)"],
    "enum('a','it''s','ü,')": ["'a'", "'it\\'s'", "'ü,'"],
    "set('a','b','c d')": ["''", "'a,c d'", "'b'"],
    "json": ["'{\"b\": 1.50, \"a\": [true, null, \"x\\\\u0000😀\"]}'", "'1e300'", "'\"\"'", "json_array(1.50)",
             "cast(cast('2024-01-01' as date) as json)"],
}  # fmt: skip
UNFIT = {"date": 4, "datetime": 2, "timestamp": 1, "varchar(20)": 1, "text": 1}


@BOTH
def test_every_value_of_mysql_on_postgres(
    mysql_database: MySQLDatabase, target_database: Database, flavour: str
) -> None:
    cases = {**MYSQL_CASES, **OF_MARIADB}
    assert {declared.partition("(")[0] for declared in cases} == set(TYPES["mysql"])
    cases = (
        MYSQL_CASES if flavour == "mysql" else {declared: cases[declared] for declared in cases if declared != "json"}
    )
    source = mysql.Server(Side.SOURCE, "types", mysql_database.url(), mysql_database.server.password)
    target = Server(Side.TARGET, "types", target_database.url(), target_database.server.password)
    with source.connect() as at_source, target.connect() as at_target, at_source.cursor() as cursor:
        at_target.execute("CREATE SCHEMA x")
        for at, (declared, values) in enumerate(cases.items()):
            null = " NULL" if declared.startswith("timestamp") else ""
            cursor.execute(f"CREATE TABLE t{at} (id int PRIMARY KEY, v {declared}{null})")
            rows = ", ".join(f"({number}, {value})" for number, value in enumerate(values, 1))
            cursor.execute(f"INSERT INTO t{at} VALUES (0, NULL), {rows}")
            table = shape(at_source, mysql_database.name, f"t{at}")
            refused = to_postgres(at_source, at_target, table)
            for number in refused:
                cursor.execute(f"DELETE FROM t{at} WHERE id = {number}")
            compare(at_target, at_source, table, declared)
            key = declared if declared in UNFIT else declared.partition("(")[0]
            assert len(refused) == (UNFIT.get(key, 0) if key != "varchar" else 0), (declared, refused)


def shape(connection: Any, schema: str, name: str) -> Table:
    query = (
        "SELECT column_name, column_type, is_nullable = 'NO', character_set_name, collation_name "
        "FROM information_schema.columns WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [schema, name])
        columns = [Definition(of, plain_type(kind), bool(not_null), charset=charset, collation=collation)
                   for of, kind, not_null, charset, collation in cursor.fetchall()]  # fmt: skip
    return table_of(schema, name, columns, {"PRIMARY": ["id"]}, engine=dialect_in(connection).engine)


def to_postgres(at_source: Any, at_target: psycopg.Connection[Any], table: Table) -> dict[int, str]:
    """Put all rows there; what was refused, by number."""
    column, of = target_columns(table, "postgresql")[1], table.columns[1]
    with at_source.cursor() as cursor:
        text = cdc.mysql.values.select_expression(of, "v", dialect_in(at_source))
        cursor.execute(f"SELECT id, CONVERT({text} USING utf8mb4) FROM {table.name}")
        texts, refused = through(column, cdc.mysql.values.encoder(of), dict(cursor.fetchall()))
    at_target.execute(f"CREATE TABLE x.{table.name} (id int PRIMARY KEY, v {column.type_sql})".encode())
    shown = at_target.execute(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'v'",
        [f"x.{table.name}"],
    ).fetchone()
    assert shown == (column.type_sql,)
    with at_target.cursor().copy(f"COPY x.{table.name} FROM STDIN".encode()) as copy:
        for row in texts.items():
            copy.write_row(row)
    return refused


# -- both -------------------------------------------------------------------------------------------------------
def compare(at_postgres: psycopg.Connection[Any], at_mysql: Any, table: Table, what: str) -> None:
    """The digests, and that they depend on every row."""
    place = sql.Identifier("public" if table.engine == "postgresql" else "x", table.name)
    ours = digests(at_postgres.execute(on_postgres.digest_query(table, only=False, at=place)))
    with at_mysql.cursor() as cursor:
        cursor.execute(on_mysql.digest_query(table, dialect_in(at_mysql), only=False, at=quoted(table.name)))
        theirs = digests(cursor.fetchall())
        buckets = differing(ours, theirs)
        if buckets:
            here = set(at_postgres.execute(on_postgres.rows_query(table, buckets[0], only=False, at=place)))
            cursor.execute(
                on_mysql.rows_query(table, buckets[0], dialect_in(at_mysql), only=False, at=quoted(table.name))
            )
            pytest.fail(f"{what}: {here ^ set(cursor.fetchall())}")
        cursor.execute(f"SELECT count(*) FROM {table.name}")
        ((rows,),) = cursor.fetchall()
    assert sum(count for count, _, _ in theirs.values()) == rows > 1


def test_a_row_that_mysql_cannot_write_as_a_line(mysql_database: MySQLDatabase) -> None:
    """Its functions give NULL then, and a warning: a digest of it would be one of nothing."""
    mysql_database.execute("CREATE TABLE t (id int PRIMARY KEY, v longblob)")
    mysql_database.execute("INSERT INTO t VALUES (1, NULL), (2, REPEAT('x', 34 << 20))")
    server = mysql.Server(Side.SOURCE, "shop", mysql_database.url(), mysql_database.server.password)
    with server.connect() as connection, closing(Reading(server)) as reading, pytest.raises(CdcError) as refused:
        reading.digests(shape(connection, mysql_database.name, "t"), only=True)
    assert refused.value.code is ROW_TOO_LARGE
    assert f"{mysql_database.name}.t" in str(refused.value)
