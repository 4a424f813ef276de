"""The base copy of MySQL where no lock may be taken: what is committed while its snapshot begins is in it, once."""

from collections.abc import Callable, Iterator

import pytest

from cdc.errors import COPY_TORN, SOURCE_PREREQUISITE, CdcError
from cdc.mysql.catalog import FoundTable
from cdc.mysql.session import Server
from cdc.mysql.setup import HEARTBEAT_TABLE
from cdc.mysql.snapshot import BaseCopy
from cdc.position import GtidSet
from cdc.server import Side
from tests.servers.mysql import MySQLDatabase

RIGHTS = "REPLICATION SLAVE, REPLICATION CLIENT"
WRITES = """
INSERT INTO t VALUES ({0}, 'new'), ({0} + 1, 'gone'); UPDATE t SET b = 'changed {0}' WHERE id = 2; DELETE FROM t WHERE
id = {0} + 1; UPDATE t SET id = id + 500 WHERE id = 3; DELETE FROM t WHERE id = 4; UPDATE t SET b = 'two' WHERE id = {0}
"""


@pytest.fixture
def server(mysql_database: MySQLDatabase) -> Iterator[Server]:
    """A role that may lock nothing."""
    name = mysql_database.name
    for statement in HEARTBEAT_TABLE:
        mysql_database.execute(statement)
    mysql_database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, b varchar(20)); CREATE TABLE bag (b varchar(20));"
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'); INSERT INTO bag VALUES ('x'), ('x');"
        f"CREATE USER {name} IDENTIFIED BY 'p'; GRANT {RIGHTS} ON *.* TO {name}; GRANT SELECT ON {name}.* TO {name};"
        f"GRANT SELECT, INSERT, DELETE ON cdc.heartbeat TO {name}"
    )
    yield Server(Side.SOURCE, "shop", mysql_database.url(name), "p", "copy")
    mysql_database.execute(f"DROP USER {name}")


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch, mysql_database: MySQLDatabase) -> Callable[[str], None]:
    """Have something executed before the snapshot begins, and again behind it: `{0}` is another number each time."""

    def install(statements: str) -> None:
        run = BaseCopy._run
        numbers = iter(range(100, 10_000, 10))

        def around(copy: BaseCopy, statement: str) -> None:
            begins = statement.startswith("START TRANSACTION")
            if begins:
                mysql_database.execute(statements.format(next(numbers)))
            run(copy, statement)
            if begins:
                mysql_database.execute(statements.format(next(numbers)))

        monkeypatch.setattr(BaseCopy, "_run", around)

    return install


def copied(server: Server, database: MySQLDatabase) -> tuple[GtidSet, dict[str, list[tuple[str | None, ...]]]]:
    tables = [FoundTable(database.name, name, "InnoDB") for name in ("bag", "t")]
    with BaseCopy(server, tables, patched=True) as copy:
        rows = {
            shape.name: sorted(
                tuple(None if v is None else v.decode() for v in row)  # type: ignore[union-attr]
                for chunk in copy.chunks(shape)
                for row in chunk
            )
            for shape in copy.shapes
        }
        return copy.executed, rows


def test_what_is_committed_meanwhile_is_in_it_once(
    server: Server, mysql_database: MySQLDatabase, meanwhile: Callable[[str], None]
) -> None:
    meanwhile(WRITES)
    executed, rows = copied(server, mysql_database)
    now = sorted((str(a), b) for a, b in mysql_database.execute("SELECT id, b FROM t"))
    assert rows == {"bag": [("x",), ("x",)], "t": now}
    assert executed <= GtidSet.parse(mysql_database.server.gtids())


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO bag VALUES ('y')",
        "TRUNCATE TABLE bag",
        "ALTER TABLE bag ADD COLUMN c{0} int",
        "SET SESSION binlog_row_image = MINIMAL; UPDATE t SET b = {0} WHERE id = 1",
    ],
)
def test_what_cannot_be_patched_begins_it_again(
    server: Server, mysql_database: MySQLDatabase, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    run = BaseCopy._run

    def before(copy: BaseCopy, sql: str) -> None:
        if sql.startswith("START TRANSACTION"):
            mysql_database.execute(statement.format(1))
        run(copy, sql)

    monkeypatch.setattr(BaseCopy, "_run", before)
    with pytest.raises(CdcError) as torn:
        copied(server, mysql_database)
    assert torn.value.code is COPY_TORN


def test_without_lock_and_without_heartbeat_there_is_no_copy(server: Server, mysql_database: MySQLDatabase) -> None:
    mysql_database.execute(f"REVOKE ALL ON cdc.heartbeat FROM {mysql_database.name}")
    with pytest.raises(CdcError, match="heartbeat") as refused:
        copied(server, mysql_database)
    assert refused.value.code is SOURCE_PREREQUISITE


def test_a_lock_on_the_tables_is_enough(server: Server, mysql_database: MySQLDatabase) -> None:
    name = mysql_database.name
    mysql_database.execute(f"GRANT LOCK TABLES ON {name}.* TO {name}; REVOKE ALL ON cdc.heartbeat FROM {name}")
    assert len(copied(server, mysql_database)[1]["t"]) == 5
