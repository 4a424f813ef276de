"""What rows that are there get from ADD COLUMN: what we say of the statement is what a real server does, or nothing."""

from contextlib import closing
from itertools import product

import pytest

from cdc.mysql.catalog import Catalog
from cdc.mysql.ddl import UnfollowableError, effects
from cdc.mysql.session import Server
from cdc.mysql.statements import Altered, read_statement
from cdc.server import Side
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQLDatabase
from tests.types.test_mysql import selected

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)

TYPES = (
    "int", "tinyint unsigned", "bigint NOT NULL", "decimal(6,2)", "decimal(6,2) unsigned NOT NULL", "float",
    "double(7,2)", "double NOT NULL", "bit(9)", "year", "date", "datetime", "datetime(3)", "time", "time(3) NOT NULL",
    "char(6)", "varchar(9)", "varchar(9) CHARACTER SET latin1 NOT NULL", "binary(6)", "varbinary(9)",
    "enum('a ','1','b')", "set('a','1','b') NOT NULL", "bool",
)  # fmt: skip
DEFAULTS = (
    "", "1", "-1", "'1'", "0", "'0'", "24", "'24'", "2024", "'2024'", "1.005", "'1.005'", "1e1", "'1e1'", "2.5e0",
    "0x41", "x'4142'", "b'101'", "true", "''", "'a'", "'A'", "'b,a'", "'a,b'", "'a '", "' a'", "'0001'", "0001",
    "'é'", "'a/*b*/'", "'it''s'", r"'\\\n'", '"q""q"', "'2024-02-29'", "'2024-02-29 10:20:30'",
    "'2024-02-29 10:20:30.25'", "20240229", "'10:20'", "-0.0", "'-0'", "'10:20:30'", "'-10:20:30.125'",
    "(1)", "(1 + 1)", "NULL",
)  # fmt: skip
OF_MARIADB = ("uuid", "uuid NOT NULL", "inet4", "inet4 NOT NULL", "inet6", "inet6 NOT NULL")
ADDRESSES = (
    "", "NULL", "''", "0", "'123E4567-e89b-42d3-a456-426614174000'", "'123e4567e89b42d3a456426614174000'", "'1.2.3.4'",
    "'01.2.3.4'", "'1.2.3'", "'::'", "'::1'", "'::FFFF:1.2.3.4'", "'2001:DB8:0:0:1::'", "'1:0:2:3:4:5:6:7'", "'::1%1'",
    "x'01020304'", "UUID()", "(UUID())",
)  # fmt: skip


@pytest.mark.parametrize("sql_mode", ["", "STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,ANSI_QUOTES"])
@pytest.mark.matrix
def test_the_value_of_rows_that_are_there(mysql_database: MySQLDatabase, flavour: str, sql_mode: str) -> None:
    mysql_database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    server = Server(Side.SOURCE, "added", mysql_database.url(), mysql_database.server.password)
    followed, wrong = 0, []
    with closing(Catalog(server)) as catalog, closing(mysql_database.server.connect(mysql_database.name)) as session:
        empty = catalog.shape(mysql_database.name, "t")
        assert empty
        cursor = session.cursor()
        cursor.execute("SET sql_mode = %s", [sql_mode])
        bits = sum(bit for name, bit in (("ANSI_QUOTES", 4), ("NO_BACKSLASH_ESCAPES", 1 << 20)) if name in sql_mode)
        columns = [*product(TYPES, DEFAULTS), *(product(OF_MARIADB, ADDRESSES) if flavour == "mariadb" else ())]
        for column_type, default in columns:
            statement = f"ALTER TABLE t ADD COLUMN c {column_type}{f' DEFAULT {default}' if default else ''}"
            meaning = read_statement(statement, mysql_database.name, bits)
            assert isinstance(meaning, Altered), statement
            try:
                ((_, shape),) = effects(empty, meaning, 9)
            except UnfollowableError:
                continue
            try:
                cursor.execute(statement)
            except session.Error:
                continue  # It takes no such default.
            told = shape.columns[-1].missing
            ((_, there),) = selected(mysql_database, "t", list(shape.columns))
            cursor.execute("ALTER TABLE t DROP COLUMN c, ALGORITHM = COPY")
            followed += 1
            if (None if told is None else told.encode()) != there:
                wrong.append((statement, there, told))
    assert not wrong
    assert followed > 150
