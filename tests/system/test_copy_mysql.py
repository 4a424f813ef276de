"""The base copy of MySQL: all its sessions show one set of transactions, with a lock and where none may be taken."""

import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from cdc.errors import COPY_TORN, SOURCE_PREREQUISITE, SOURCE_UNREACHABLE, CdcError
from cdc.mysql.catalog import FoundTable
from cdc.mysql.session import Server
from cdc.mysql.setup import HEARTBEAT_TABLE
from cdc.mysql.snapshot import CHUNK_BYTES, SESSIONS, BaseCopy
from cdc.mysql.window import read_window
from cdc.position import GtidPosition, parse_gtids
from cdc.server import Side
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQLDatabase
from tests.servers.proxy import Proxy
from tests.system.pipeline import wait_until

BOTH = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)
"""MariaDB's snapshots need no lock, nor what replaces one."""

RIGHTS = "REPLICATION SLAVE, REPLICATION CLIENT"
WRITES = """
INSERT INTO t VALUES ({0}, 'new'), ({0} + 1, 'gone'); UPDATE t SET b = 'changed {0}' WHERE id = 2; DELETE FROM t WHERE
id = {0} + 1; UPDATE t SET id = id + 500 WHERE id = 3; DELETE FROM t WHERE id = 4; UPDATE t SET b = 'two' WHERE id = {0}
"""
FILL = """
INSERT INTO {0} WITH RECURSIVE d(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM d WHERE i < 31)
SELECT a.i * 1024 + b.i * 32 + c.i + 1, REPEAT('x', {2}) FROM d a, d b, d c WHERE a.i * 1024 + b.i * 32 + c.i < {1}
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
    """Have something executed before each snapshot begins, and again behind it: `{0}` is another number each time."""

    def install(statements: str) -> None:
        begin = BaseCopy._begin
        numbers = iter(range(100, 10_000, 10))

        def around(copy: BaseCopy, session: Connection, tables: list[FoundTable]) -> None:
            mysql_database.execute(statements.format(next(numbers)))
            begin(copy, session, tables)
            mysql_database.execute(statements.format(next(numbers)))

        monkeypatch.setattr(BaseCopy, "_begin", around)

    return install


def copied(
    server: Server, database: MySQLDatabase, names: tuple[str, ...] = ("bag", "t"), sessions: int = 1
) -> tuple[GtidPosition, dict[str, list[tuple[str | None, ...]]]]:
    tables = [FoundTable(database.name, name, "InnoDB") for name in names]
    with BaseCopy(server, tables, sessions=sessions, patched=True) as copy, copy.reading(copy.shapes) as ahead:
        rows = {
            shape.name: sorted(
                tuple(None if v is None else v.decode() for v in row)  # type: ignore[union-attr]
                for chunk in ahead.chunks(shape)
                for row in chunk
            )
            for shape in copy.shapes
        }
        return copy.executed, rows


# -- without a lock ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sessions", [1, 2])
def test_what_is_committed_meanwhile_is_in_it_once(
    server: Server, mysql_database: MySQLDatabase, meanwhile: Callable[[str], None], sessions: int
) -> None:
    meanwhile(WRITES)
    executed, rows = copied(server, mysql_database, sessions=sessions)
    now = sorted((str(a), b) for a, b in mysql_database.execute("SELECT id, b FROM t"))
    assert rows == {"bag": [("x",), ("x",)], "t": now}
    assert executed <= parse_gtids(mysql_database.server.gtids())


def test_what_is_committed_behind_it_is_not_in_it(
    server: Server, mysql_database: MySQLDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log gives it together with what is."""

    def late(*arguments: Any, **options: Any) -> Any:
        mysql_database.execute("UPDATE t SET b = 'late'; INSERT INTO bag VALUES ('late'); INSERT INTO t VALUES (9, '')")
        return read_window(*arguments, **options)

    monkeypatch.setattr("cdc.mysql.snapshot.read_window", late)
    _, rows = copied(server, mysql_database)
    assert [len(of) for of in rows.values()] == [2, 5]
    assert "late" not in {b for _, b in rows["t"]}


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
    begin = BaseCopy._begin

    def before(copy: BaseCopy, session: Connection, tables: list[FoundTable]) -> None:
        mysql_database.execute(statement.format(1))
        begin(copy, session, tables)

    monkeypatch.setattr(BaseCopy, "_begin", before)
    with pytest.raises(CdcError) as torn:
        copied(server, mysql_database)
    assert torn.value.code is COPY_TORN


@pytest.mark.parametrize("statement", ["DELETE FROM up WHERE id = 1", "UPDATE up SET id = 3 WHERE id = 1"])
def test_what_a_foreign_key_changes_below_the_log_begins_it_again(
    server: Server, mysql_database: MySQLDatabase, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    mysql_database.execute(
        "CREATE TABLE up (id int PRIMARY KEY); INSERT INTO up VALUES (1), (2);"
        "CREATE TABLE down (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES up (id) ON DELETE CASCADE"
        " ON UPDATE CASCADE); INSERT INTO down VALUES (1, 1), (2, 2)"
    )
    begin = BaseCopy._begin

    def behind(copy: BaseCopy, session: Connection, tables: list[FoundTable]) -> None:
        begin(copy, session, tables)
        mysql_database.execute(f"{statement}; INSERT INTO up VALUES (9)")

    monkeypatch.setattr(BaseCopy, "_begin", behind)
    with pytest.raises(CdcError) as torn:
        copied(server, mysql_database, ("down", "up"))
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


# -- several sessions -------------------------------------------------------------------------------------------
MANY = tuple(f"m{number}" for number in range(6))


@contextmanager
def moving(database: MySQLDatabase) -> Iterator[GtidPosition]:
    """Two writers, each transaction of which moves an amount from one table to another and is told in a journal.

    What was executed before the journal's first row. Each has rows of its own and takes tables in their order: else a
    lock waits for who waits for another writer, who waits for the lock.
    """
    database.execute("CREATE TABLE journal (id int AUTO_INCREMENT PRIMARY KEY)")
    for name in MANY:
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, n int); INSERT INTO {name} VALUES (0, 50), (1, 50)")
    before = parse_gtids(database.server.gtids())
    stop, failures = threading.Event(), []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        try:
            with database.connect() as connection, connection.cursor() as cursor:
                while not stop.is_set():
                    a, b = sorted(chance.sample(MANY, 2))
                    sign, back = chance.choice([("+", "-"), ("-", "+")])
                    cursor.execute(
                        "START TRANSACTION; INSERT INTO journal VALUES ();"
                        f"UPDATE {a} SET n = n {sign} 1 WHERE id = {seed};"
                        f"UPDATE {b} SET n = n {back} 1 WHERE id = {seed}; COMMIT"
                    )
                    while cursor.nextset():
                        pass
        except pymysql.MySQLError as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(2)]
    for writer in writers:
        writer.start()
    try:
        yield before
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failures


@BOTH
@pytest.mark.parametrize("right", ["RELOAD ON *.*", "LOCK TABLES ON {0}.*", None])
def test_all_sessions_show_one_set_of_transactions(
    server: Server, mysql_database: MySQLDatabase, right: str | None, flavour: str
) -> None:
    name = mysql_database.name
    if right:
        mysql_database.execute(f"GRANT {right.format(name)} TO {name}")
    counts: list[int] = []
    with moving(mysql_database) as before:
        for _ in range(5):
            executed, rows = copied(server, mysql_database, (*MANY, "journal"), SESSIONS)
            assert sum(int(n or 0) for of in MANY for _, n in rows[of]) == 100 * len(MANY)
            # Where nothing is locked, each copy has written a heartbeat.
            ours = 0 if right or flavour == "mariadb" else len(counts) + 1
            counts.append(len(rows["journal"]))
            assert executed.ahead_of(before) - ours == counts[-1]
            assert len(set(rows["journal"])) == counts[-1]
    assert counts[0] < counts[-1]


@BOTH
def test_one_session_or_several_give_the_same_bytes(server: Server, mysql_database: MySQLDatabase) -> None:
    names = ("bag", "t", "u", "v", "w")
    for name, rows in zip(names[2:], (0, 1, 25_000), strict=True):
        mysql_database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, b varchar(2000))")
        mysql_database.execute(FILL.format(name, rows, 40) if rows else "DO 0")
    one, several = (copied(server, mysql_database, names, sessions)[1] for sessions in (1, SESSIONS))
    assert one == several
    assert [len(rows) for rows in one.values()] == [2, 5, 0, 1, 25_000]


@BOTH
def test_tables_cannot_be_altered_until_it_is_over(server: Server, mysql_database: MySQLDatabase) -> None:
    altered = threading.Event()

    def alter() -> None:
        mysql_database.execute("ALTER TABLE t ADD COLUMN later int")
        altered.set()

    waiting = threading.Thread(target=alter)
    tables = [FoundTable(mysql_database.name, name, "InnoDB") for name in ("bag", "t")]
    with BaseCopy(server, tables, sessions=2, patched=True) as copy:
        for statement in ("ALTER TABLE {} ADD COLUMN c int", "TRUNCATE TABLE {}", "DROP TABLE {}"):
            for name in ("bag", "t"):
                with pytest.raises(pymysql.OperationalError, match="Lock wait timeout"):
                    mysql_database.execute(f"SET SESSION lock_wait_timeout = 1; {statement.format(name)}")
        # Behind somebody who waits to alter it, a table can be read by those alone who have touched it.
        waiting.start()
        query = "SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for table metadata%'"
        wait_until(lambda: mysql_database.execute(query) == [(1,)], "an ALTER that waits")
        with copy.reading(copy.shapes) as ahead:
            assert [sum(map(len, ahead.chunks(shape))) for shape in copy.shapes] == [2, 5]
        assert not altered.is_set()
    waiting.join()


# -- trouble while it is read -----------------------------------------------------------------------------------
def nothing_is_left(copy: BaseCopy, database: MySQLDatabase, ids: list[int]) -> None:
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("copy ")]
    assert not any(session.open for session in copy._sessions)
    there = "SELECT COUNT(*) FROM information_schema.processlist WHERE id IN %s"
    wait_until(lambda: database.execute(there, [ids]) == [(0,)], "the end of the sessions")


def large(database: MySQLDatabase) -> list[FoundTable]:
    """Two tables beyond what sockets hold."""
    for name in ("one", "two"):
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, b varchar(2000))")
        database.execute(FILL.format(name, 30_000, 1000))
    return [FoundTable(database.name, name, "InnoDB") for name in ("one", "two")]


def read_all(copy: BaseCopy, then: Callable[[], object]) -> None:
    """`then`, once the first chunk is here."""
    with copy.reading(copy.shapes) as ahead:
        for at, _ in enumerate(chunk for shape in copy.shapes for chunk in ahead.chunks(shape)):
            if at == 0:
                then()


@BOTH
@pytest.mark.parametrize("killed", [0, 1])
def test_a_session_that_is_killed_is_named(server: Server, mysql_database: MySQLDatabase, killed: int) -> None:
    with BaseCopy(server, large(mysql_database), sessions=2, patched=True) as copy:
        ids = [session.thread_id() for session in copy._sessions]
        with pytest.raises(CdcError) as caught:
            read_all(copy, lambda: mysql_database.execute(f"KILL {ids[killed]}"))
    assert caught.value.code is SOURCE_UNREACHABLE
    nothing_is_left(copy, mysql_database, ids)


@pytest.mark.usefixtures("server")
@BOTH
def test_a_connection_that_is_cut_is_named(mysql_database: MySQLDatabase) -> None:
    tables, name = large(mysql_database), mysql_database.name
    with Proxy(mysql_database.server.port) as proxy:
        away = Server(Side.SOURCE, "shop", mysql_database.url(name, port=proxy.port), "p", "copy")
        with BaseCopy(away, tables, sessions=2, patched=True) as copy:
            ids = [session.thread_id() for session in copy._sessions]
            with pytest.raises(CdcError) as caught:
                read_all(copy, proxy.cut)
    assert caught.value.code is SOURCE_UNREACHABLE
    nothing_is_left(copy, mysql_database, ids)


@BOTH
def test_left_early_it_reads_no_more(server: Server, mysql_database: MySQLDatabase) -> None:
    def leave() -> None:
        raise KeyboardInterrupt

    with BaseCopy(server, large(mysql_database), sessions=2, patched=True) as copy:
        ids = [session.thread_id() for session in copy._sessions]
        with pytest.raises(KeyboardInterrupt):
            read_all(copy, leave)
    nothing_is_left(copy, mysql_database, ids)


@BOTH
def test_wide_rows_do_not_pile_up(server: Server, mysql_database: MySQLDatabase) -> None:
    """Each session holds a chunk and makes one; the loop has two."""
    for number in range(SESSIONS):
        mysql_database.execute(f"CREATE TABLE wide{number} (id int PRIMARY KEY, b longtext)")
        mysql_database.execute(FILL.format(f"wide{number}", 40, 1 << 20))
    tables = [FoundTable(mysql_database.name, f"wide{number}", "InnoDB") for number in range(SESSIONS)]
    rows = 0
    with BaseCopy(server, tables, sessions=SESSIONS, patched=True) as copy, copy.reading(copy.shapes) as ahead:
        tracemalloc.start()
        try:
            for shape in copy.shapes:
                for chunk in ahead.chunks(shape):
                    rows += len(chunk)
                    time.sleep(0.05)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert rows == SESSIONS * 40
    # Beside chunks, the driver has a row or two of each session in its hands.
    assert most < (2 * SESSIONS + 2) * CHUNK_BYTES + SESSIONS * (4 << 20)
