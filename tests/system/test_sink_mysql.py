"""What only a MySQL target has: its types, its collations, packets, and DDL that commits by itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cdc.errors import (
    APPLY_FAILED,
    SCHEMA_CHANGE_UNSUPPORTED,
    TARGET_MISMATCH,
    TARGET_REFUSED,
    TARGET_TRIGGERS,
    CdcError,
)
from cdc.event import Column, Table
from cdc.mysql.session import Server
from cdc.server import Side
from sinks.engines import hold_of
from tests.log_writer import Event, column, table
from tests.servers.mariadb import FLAVOURS, MariaDB
from tests.servers.mysql import MySQLDatabase
from tests.system.replica import (
    ACCOUNTS,
    NOTES,
    WIDER,
    Content,
    Replica,
    account,
    accounts,
    changed,
    delete,
    insert,
    refusal,
    server_of,
    shapes_of,
    update,
)

pytestmark = pytest.mark.parametrize("target_engine", FLAVOURS, indirect=True)


def rows(database: MySQLDatabase, table: str = "accounts") -> Content:
    return database.execute(f"SELECT * FROM {table} ORDER BY 1")


# -- values --
def test_keys_that_only_bytes_tell_apart(make: Callable[..., Replica], target: MySQLDatabase, way: str) -> None:
    shape = table("public.words", {"w": "text", "n": "int4"}, ["w"])
    replica = make(shape)
    replica.copy(shape)
    words = ["a", "A", "a ", "Á", "á", "", "ß", "ss", "'", "\\", "%s", '"', "🙂", "\0", "\n"]
    replica.commit(*[Event(shape, "c", after={"w": word, "n": 0}) for word in words])
    replica.sync()
    replica.commit(*[Event(shape, "u", after={"w": word, "n": at}) for at, word in enumerate(words)])
    replica.commit(Event(shape, "d", before={"w": "A", "n": None}), Event(shape, "d", before={"w": "a ", "n": None}))
    replica.sync()
    kept = {word: at for at, word in enumerate(words) if word not in ("A", "a ")}
    assert dict(target.execute("SELECT w, n FROM words")) == kept
    assert bool(replica.target.replayed) is (way == "replayed")


TYPES: Mapping[str, Sequence[tuple[Any, str]]] = {
    "tinyint": [(-128, "-128"), (0, "0")],
    "bigint unsigned": [("AP//////////", "18446744073709551615"), ("AA==", "0")],
    "decimal(65,30)": [("-" + "9" * 35 + "." + "9" * 30,) * 2, ("0." + "0" * 30,) * 2],
    "float": [(0.1, "0.1"), (3.4028235e38, "3.40282e38"), (-0.0, "-0")],
    "double": [(-0.0, "-0"), (1.7976931348623157e308, "1.7976931348623157e308"), (5e-324, "5e-324"), (0.1, "0.1")],
    "bit(1)": [(True, "1"), (False, "0")],
    "bit(64)": [("//////////8=", "18446744073709551615"), ("AAAAAAAAAAA=", "0")],
    "year": [(2024, "2024"), (0, "0"), (1901, "1901")],
    "date": [("2024-02-29Z", "2024-02-29"), ("0000-00-00", "0000-00-00"), ("2024-00-00", "2024-00-00")],
    "datetime(6)": [("9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.999999")],
    "timestamp(3)": [("2038-01-19T03:14:07.999Z", "2038-01-19 03:14:07.999"), ("0000-00-00 00:00:00.000",) * 2],
    "time(6)": [("-838:59:59.000000",) * 2, ("23:59:59.999999Z", "23:59:59.999999")],
    "char(4)": [("a", "a"), ("", "")],
    "varchar(9)": [("a'\"\\%s \0\n", "a'\"\\%s \0\n"), ("🙂 ", "🙂 ")],
    "longtext": [("x" * 70_000,) * 2, ("", "")],
    "binary(2)": [("AAA=", "0000")],
    "varbinary(9)": [("", ""), ("AP8AAA==", "00FF0000")],
    "longblob": [("AP8=", "00FF"), ("", "")],
    "enum('it''s','b,c')": [("it's", "it's"), ("b,c", "b,c")],
    "set('a','b')": [("a,b", "a,b"), ("", "")],
    "json": [('{"a": [1, null, "ä\\"\\\\"]}',) * 2],
}


def mysql_column(name: str, expression: str, attnum: int, **facts: Any) -> Column:
    base = expression.partition("(")[0] + (" unsigned" if expression.endswith("unsigned") and "(" in expression else "")
    text = {"charset": "utf8mb4", "collation": "utf8mb4_0900_ai_ci"}
    given = text if base in ("char", "varchar", "longtext", "enum", "set") else {}
    return column(name, base, attnum, type_expression=expression, **{**given, **facts})


@pytest.mark.usefixtures("way")
def test_every_type_of_mysql_holds_what_the_event_said(make: Callable[..., Replica], target: MySQLDatabase) -> None:
    # MariaDB has no negative zero, and refuses it by name (tests/types/test_across.py).
    lacks = {"-0"} if isinstance(target.server, MariaDB) else set()
    types = {kind: [value for value in values if value[1] not in lacks] for kind, values in TYPES.items()}
    shapes = {
        kind: Table(
            schema=target.name,
            name=f"t{at}",
            oid=0,
            columns=(mysql_column("id", "int", 1, not_null=True), mysql_column("v", kind, 2)),
            primary_key=("id",),
            replica_identity="d",
            identity_columns=(),
            engine="mysql",
        )
        for at, kind in enumerate(types)
    }
    replica = make(*shapes.values())
    replica.copy(*shapes.values())
    for kind, values in types.items():
        replica.commit(*[Event(shapes[kind], "c", after={"id": at, "v": v}) for at, (v, _) in enumerate(values)])
        replica.commit(*[Event(shapes[kind], "c", after={"id": 100 + at, "v": None}) for at, _ in enumerate(values)])
    replica.sync()
    for kind, values in types.items():
        replica.commit(*[Event(shapes[kind], "u", after={"id": 100 + at, "v": v}) for at, (v, _) in enumerate(values)])
    replica.sync()
    for kind, values in types.items():
        text = "HEX(v)" if "bin" in kind or "blob" in kind else "v + 0" if kind[:3] in ("bit", "yea") else "CONCAT(v)"
        found = target.execute(f"SELECT {text} FROM {shapes[kind].name} ORDER BY id")
        assert [str(value[0]) for value in found] == [text for _, text in values] * 2, kind


@pytest.mark.usefixtures("way")
def test_a_row_of_a_keyless_table_is_told_by_its_bytes(make: Callable[..., Replica], target: MySQLDatabase) -> None:
    kinds = {
        "c": "varchar(9)",
        "d": "double",
        "j": "json",
        "b": "bit(3)",
        "y": "year",
        "z": "date",
        "x": "varbinary(9)",
    }
    columns = tuple(mysql_column(name, kind, at) for at, (name, kind) in enumerate(kinds.items(), 1))
    shape = Table(target.name, "bag", 0, columns, (), "f", (), engine="mysql")
    replica = make(shape)
    replica.copy(shape)
    first: dict[str, Any] = {"c": "a", "d": 0.0, "j": '{"a": 1}', "b": "BQ==", "y": 0, "z": "0000-00-00", "x": "AA=="}
    others: list[dict[str, Any]] = [
        {"c": "A"},
        {"c": "a "},
        *([{"d": -0.0}] if target.server.kind == "MySQL" else []),  # MariaDB has none
        {"j": '{"a": 1.0}'},
        {"b": None},
        {"y": 2000},
        {"x": "AAA="},
    ]
    different = [first, *(first | other for other in others)]
    replica.commit(*[Event(shape, "c", after=row) for row in [*different, *different, *different]])
    replica.sync()
    for row in different[1:]:
        replica.commit(Event(shape, "d", before=row), Event(shape, "d", before=row))
    replica.sync()
    left = "SELECT c, CONCAT(d), CONCAT(j), b + 0, y, HEX(x), COUNT(*) FROM bag GROUP BY 1, 2, 3, 4, 5, 6"
    target.execute(f"ALTER TABLE bag MODIFY c varchar(9) COLLATE {target.server.collation}")
    assert sorted(row[-1] for row in target.execute(left)) == [1] * len(others) + [3]


@pytest.mark.usefixtures("opposite_settings", "way")
def test_settings_of_the_server_change_nothing(make: Callable[..., Replica], target: MySQLDatabase) -> None:
    shape = table("public.t", {"id": "int4", "v": "text", "at": "timestamptz"}, ["id"])
    replica = make(shape)
    replica.copy(shape)
    replica.commit(Event(shape, "c", after={"id": 0, "v": "a\\'\"`", "at": "2024-02-29T23:00:00.5Z"}))
    replica.sync()
    replica.commit(Event(shape, "u", after={"id": 0, "v": "é\\n", "at": "2024-02-29T23:00:01Z"}))
    replica.sync()
    assert target.execute("SELECT id, v, CONCAT(at) FROM t") == [(0, "é\\n", "2024-02-29 23:00:01.000000")]


# -- packets and locks --
@pytest.fixture
def small_packets(target: MySQLDatabase) -> Iterator[None]:
    before = target.execute("SELECT @@GLOBAL.max_allowed_packet")[0][0]
    target.execute("SET GLOBAL max_allowed_packet = 65536")
    yield
    target.execute("SET GLOBAL max_allowed_packet = %s", [before])


@pytest.mark.usefixtures("small_packets")
def test_statements_are_split_to_fit_a_packet(make: Callable[..., Replica], target: MySQLDatabase) -> None:
    replica = make(ACCOUNTS)
    replica.copy(ACCOUNTS)
    replica.commit(*[insert(at, "v" * 10_000) for at in range(100)])
    replica.sync()
    replica.commit(
        *[update(at, "ü" * 5_000, 1) for at in range(50)], *[update(at, "w" * 9_000) for at in range(50, 60)]
    )
    replica.commit(*[delete(at) for at in range(60, 100)])
    replica.sync()
    assert target.execute("SELECT COUNT(*), SUM(n), SUM(LENGTH(v)) FROM accounts") == [(60, 50, 590_000)]
    assert replica.target.replayed == 0
    replica.commit(insert(100, "x" * 70_000))
    code, text = refusal(replica.sync)
    assert code is APPLY_FAILED
    assert "max_allowed_packet = 65536" in text
    assert '{"id":100}' in text


def test_two_databases_of_a_server_have_a_sink_of_the_same_name(target: MySQLDatabase, unique_name: str) -> None:
    other = target.server.create_database(f"{unique_name}_other")
    with hold_of(server_of(target), "eu", "shop") as one, hold_of(server_of(other), "eu", "shop") as two:
        assert one.try_lock()
        assert two.try_lock()
    other.drop()


def test_a_url_without_a_database_is_refused(target: MySQLDatabase) -> None:
    bare = Server(Side.TARGET, "eu", target.server.url(), target.server.password)
    code, text = refusal(lambda: hold_of(bare, "eu", "shop"))
    assert code is TARGET_REFUSED
    assert "names no database" in text


def test_a_child_may_come_before_its_parent_and_no_cascade_runs(replica: Replica, target: MySQLDatabase) -> None:
    target.execute(
        "ALTER TABLE accounts ADD UNIQUE (n), ADD INDEX (id);"
        "CREATE TABLE children (id int PRIMARY KEY, up int,"
        " FOREIGN KEY (up) REFERENCES accounts (id) ON DELETE CASCADE)"
    )
    replica.commit(insert(1, "", 1), insert(2, "", 2))
    replica.sync()
    target.execute("INSERT INTO children VALUES (1, 1)")
    replica.commit(delete(1))
    replica.sync()
    assert target.execute("SELECT * FROM children") == [(1, 1)]


# -- tables --
def test_schemas_are_databases(make: Callable[..., Replica], target: MySQLDatabase) -> None:
    far = f"{target.name} far`away"
    mood = column("m", "enum", 2, type_expression="far.mood", enum_values=("sad", "it's"))
    shape = replace(table("x.T", {"id": "int4"}, ["id"]), schema=far)
    shape = replace(shape, columns=(*shape.columns, mood))
    replica = make(shape, NOTES)
    replica.copy(shape, NOTES)
    replica.commit(Event(shape, "c", after={"id": 1, "m": "it's"}))
    replica.sync()
    quoted = f"`{far.replace('`', '``')}`"
    assert target.execute(f"SELECT * FROM {quoted}.T") == [(1, "it's")]
    names = target.execute("SELECT target_table FROM cdc_table")
    assert {name for (name,) in names} == {f"{far}.T", f"{target.name}.notes"}
    target.execute(f"DROP DATABASE {quoted}")


def test_two_tables_under_one_name_are_refused(make: Callable[..., Replica], target: MySQLDatabase) -> None:
    same = replace(NOTES, schema=target.name)
    replica = make(NOTES, same)
    replica.copy(NOTES, same)
    code, text = refusal(replica.sync)
    assert code is TARGET_MISMATCH
    assert f"{target.name}.notes: it would be {target.name}.notes on the target, as public.notes is" in text


def test_an_existing_table_that_fits_is_used(make: Callable[..., Replica], target: MySQLDatabase) -> None:
    target.execute(
        "CREATE TABLE accounts (own int AUTO_INCREMENT PRIMARY KEY, n int, at datetime NOT NULL DEFAULT NOW(),"
        f" v longtext COLLATE {target.server.collation}, id int NOT NULL UNIQUE, extra text, made int AS (n + 1),"
        " seen timestamp DEFAULT NOW() ON UPDATE NOW())"
    )
    replica = make(ACCOUNTS)
    replica.copy(ACCOUNTS)
    replica.commit(insert(1, "x"))
    replica.sync()
    assert accounts(target) == [(1, "x", 0)]
    replica.copy(ACCOUNTS, copy_id="again")
    replica.commit(insert(2, "y"))
    replica.sync()
    assert target.execute("SELECT id, v, made FROM accounts") == [(2, "y", 1)]


TRIGGER = "CREATE TRIGGER `od``d` AFTER INSERT ON accounts FOR EACH ROW SET @seen = 1"


def test_a_trigger_on_an_existing_table_is_refused(make: Callable[..., Replica], target: MySQLDatabase) -> None:
    target.execute(f"CREATE TABLE accounts (id int PRIMARY KEY, v longtext COLLATE {target.server.collation}, n int)")
    target.execute(f"{TRIGGER}; CREATE TABLE own (id int)")
    target.execute("CREATE TRIGGER own AFTER INSERT ON own FOR EACH ROW SET @seen = 1")
    replica = make(ACCOUNTS)
    replica.copy(ACCOUNTS)
    with pytest.raises(CdcError) as caught:
        replica.sync()
    assert caught.value.code is TARGET_TRIGGERS
    assert f"{target.name}.accounts" in caught.value.text
    assert "own" not in caught.value.text
    target.execute(caught.value.hint.partition("then: ")[2])
    replica.open()
    replica.sync()
    assert accounts(target) == []


def test_a_trigger_that_comes_later_is_refused_at_the_next_start_and_change(
    replica: Replica, target: MySQLDatabase
) -> None:
    target.execute(TRIGGER)
    with pytest.raises(CdcError) as caught:
        replica.open()
    assert caught.value.code is TARGET_TRIGGERS
    target.execute("DROP TRIGGER `od``d`")
    replica.open()
    target.execute(TRIGGER)
    replica.commit(changes=[changed(replica, 0, "add_column", ACCOUNTS, WIDER)])
    with pytest.raises(CdcError) as caught:
        replica.sync()
    assert caught.value.code is TARGET_TRIGGERS


def test_every_misfit_of_every_table_is_listed_at_once(make: Callable[..., Replica], target: MySQLDatabase) -> None:
    binary = target.server.collation
    target.execute(
        f"CREATE TABLE accounts (id bigint, n int NOT NULL, more int NOT NULL, v longtext COLLATE {binary}"
        f" AS ('') STORED, m enum('sad') COLLATE {binary}, at datetime(6) ON UPDATE NOW(6), UNIQUE (v(9)))"
        " ENGINE=MyISAM;"
        "CREATE VIEW notes AS SELECT 1 AS x"
    )
    mood = column("m", "enum", 4, enum_values=("sad", "so so"))
    at = column("at", "timestamp", 6)
    wider = replace(ACCOUNTS, columns=(*ACCOUNTS.columns, mood, column("gone", "text", 5), at))
    replica = make(wider, NOTES)
    replica.copy(wider, NOTES)
    code, text = refusal(replica.sync)
    assert code is TARGET_MISMATCH
    for problem in (
        "accounts: column at is set by the server at each update",
        "accounts: its engine MyISAM has no transactions",
        "accounts: column id is bigint, it must be int",
        "accounts: column n is NOT NULL",
        "accounts: column v is generated",
        "accounts: column more is not the source's",
        f"accounts: column gone (longtext CHARACTER SET utf8mb4 COLLATE {target.server.collation}) is missing",
        "accounts: column m is enum('sad')",
        "accounts: no primary key or unique index on (id)",
        "notes: it is no table",
    ):
        assert problem in text
    assert target.execute("SELECT COUNT(*) FROM cdc_table") == [(0,)]


@pytest.mark.parametrize(
    "expression", ["int, ADD x int", "enum('a') DEFAULT 'a'", "int); DROP TABLE precious; --", "varchar(9) -- "]
)
def test_a_type_expression_is_never_run_as_sql(
    make: Callable[..., Replica], target: MySQLDatabase, expression: str
) -> None:
    columns = (
        mysql_column("id", "int", 1, not_null=True),
        replace(mysql_column("v", "int", 2), type_expression=expression),
    )
    shape = Table(target.name, "evil", 0, columns, ("id",), "d", (), engine="mysql")
    replica = make(shape)
    replica.copy(shape)
    code, text = refusal(replica.sync)
    assert code is TARGET_MISMATCH
    assert "is no type of MySQL" in text


def test_another_copy_brings_another_form(replica: Replica, target: MySQLDatabase) -> None:
    replica.commit(insert(1, "x"))
    replica.sync()
    other = replace(
        ACCOUNTS,
        columns=(
            replace(ACCOUNTS.columns[1], not_null=True),
            column("n", "text", 7),
            column("k", "int8", 8, not_null=True),
        ),
        primary_key=("k",),
    )
    replica.shapes |= shapes_of(other)
    target.execute("ALTER TABLE accounts ADD extra int DEFAULT 7")
    replica.copy(other, NOTES, copy_id="again")
    replica.commit(Event(other, "c", after={"v": "x", "n": "text", "k": 5}))
    replica.sync()
    assert target.execute("SELECT k, v, n, extra FROM accounts") == [(5, "x", "text", 7)]
    replica.copy(ACCOUNTS, NOTES, copy_id="back")
    replica.commit(insert(1, "x"))
    replica.sync()
    assert accounts(target) == [(1, "x", 0)]


# -- DDL that commits by itself --
def test_columns_come_and_go_in_a_transaction_with_rows(replica: Replica, target: MySQLDatabase) -> None:
    key, v, n = ACCOUNTS.columns
    strict = replace(ACCOUNTS, columns=(key, v, n, column("s", "text", 4, missing="é'", not_null=True)))
    last = replace(
        ACCOUNTS, columns=(key, n, column("d", "numeric", 5, type_expression="numeric(5,2)", missing="1.50"))
    )
    replica.commit(insert(1, "x"))
    replica.commit(
        insert(2, "y"),
        Event(strict, "c", after={**account(3), "s": "own"}),
        Event(strict, "u", after={**account(2), "s": "set"}),
        Event(last, "c", after={"id": 4, "n": 4, "d": None}),
        changes=[changed(replica, 1, "add_column", ACCOUNTS, strict), changed(replica, 3, "drop_column", strict, last)],
    )
    replica.sync()
    assert [(row[0], str(row[2])) for row in rows(target)] == [(1, "1.50"), (2, "1.50"), (3, "1.50"), (4, "None")]
    assert target.execute("SELECT intent FROM cdc_table WHERE intent IS NOT NULL") == []
    created = target.execute("SHOW CREATE TABLE accounts")[0][1]
    assert "DEFAULT '1.50'" not in created


def test_a_column_takes_anothers_name(replica: Replica, target: MySQLDatabase) -> None:
    key, _, n = ACCOUNTS.columns
    other = replace(ACCOUNTS, columns=(key, n, column("v", "int4", 4, missing="7")))
    replica.commit(insert(1, "x"))
    replica.commit(changes=[changed(replica, 0, "add_column", ACCOUNTS, other)])
    replica.sync()
    assert target.execute("SELECT id, v FROM accounts") == [(1, 7)]
    replica.commit(
        Event(other, "c", after={"id": 2, "n": 0, "v": 1}), changes=[changed(replica, 1, "add_column", other, ACCOUNTS)]
    )
    code, text = refusal(replica.sync)
    assert code is SCHEMA_CHANGE_UNSUPPORTED
    assert "takes another's name" in text
