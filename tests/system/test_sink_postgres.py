"""The Postgres target with a real server: rows, exactly once, and what is refused.

Transactions come as records in memory (`tests.log_writer`) through the assembler, as a reader would hand them on.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sinks.mysql.rows
import sinks.postgres.rows
from cdc.engine import Server
from cdc.errors import (
    APPLY_FAILED,
    PROGRESS_OF_ANOTHER,
    PROGRESS_TAKEN,
    ROW_DIVERGED,
    TARGET_REFUSED,
    Code,
)
from cdc.event import RowEvent
from cdc.postgres.session import Server as PostgresServer
from cdc.server import Side
from sinks.engines import hold_of
from tests.log_writer import Event, column, table
from tests.servers.postgres import Database
from tests.system.pipeline import wait_until
from tests.system.replica import (
    ACCOUNTS,
    BOTH,
    NOTES,
    WIDER,
    AnyDatabase,
    Content,
    Replica,
    account,
    accounts,
    changed,
    delete,
    insert,
    kept,
    make_unique,
    move,
    note,
    progress,
    refusal,
    update,
)

pytestmark = pytest.mark.postgres_versions("target")


# -- every kind of event, every way --
@BOTH
def test_every_kind_of_change(replica: Replica, target: AnyDatabase, way: str) -> None:
    replica.commit(insert(1, "a"), insert(2, "b"), insert(3, None), insert(4, "long", 4), insert(5, "x"))
    # MariaDB has no place for -0.
    least = 0.0 if target.server.kind == "MariaDB" else -0.0
    replica.commit(note("x", 1.5), note("x", 1.5), note("x", 1.5), note(None, 1e300), note("", least))
    replica.sync()
    replica.commit(update(1, "a2", 1), update(4, "?", 44, unchanged=["v"]), delete(2), *move(3, 30, "moved", 3))
    replica.commit(*move(5, 2, "?", 5, unchanged=["v"]), insert(3, "again"))
    replica.commit(
        Event(NOTES, "d", before={"v": "x", "f": 1.5}),
        Event(NOTES, "d", before={"v": "x", "f": 1.5}),
        Event(NOTES, "u", before={"v": None, "f": 1e300}, after={"v": None, "f": 0.0}),
    )
    replica.sync()
    assert accounts(target) == [
        (1, "a2", 1), (2, "x", 5), (3, "again", 0), (4, "long", 44), (30, "moved", 3),
    ]  # fmt: skip
    notes = target.execute("SELECT v, CONCAT(f, '') FROM notes ORDER BY v IS NULL, v")
    assert notes == [("", f"{least:g}"), ("x", "1.5"), (None, "0")]
    replica.commit(Event(ACCOUNTS, "t"), Event(NOTES, "t"), insert(9))
    replica.sync()
    assert accounts(target) == [(9, "", 0)]
    assert target.execute("SELECT count(*) FROM notes") == [(0,)]
    assert bool(replica.target.replayed) is (way == "replayed")


@BOTH
@pytest.mark.usefixtures("way")
def test_what_one_commit_stages_is_told_apart(replica: Replica, target: AnyDatabase, way: str) -> None:
    replica.commit(insert(1), insert(2), insert(3))
    replica.sync()
    replica.commit(update(1, "x"), update(2, "y"), Event(NOTES, "t"), delete(3), Event(NOTES, "t"), update(2, "z"))
    replica.sync()
    assert accounts(target) == [(1, "x", 0), (2, "z", 0)]
    assert bool(replica.target.replayed) is (way == "replayed")


@BOTH
def test_a_keyless_delete_takes_the_row_with_exactly_this_text(
    make: Callable[..., Replica], target: AnyDatabase
) -> None:
    """1.0 and 1.00 are equal numbers, '' and NULL equal nothing: each row has its own text."""
    shape = table("public.bag", {"n": "numeric", "v": "text", "j": "json"})
    replica = make(shape)
    replica.copy(shape)
    rows = [{"n": n, "v": v, "j": '{"a": 1}'} for n in ("1.0", "1.00") for v in ("", None)]
    replica.commit(*[Event(shape, "c", after=row) for row in rows])
    replica.sync()
    replica.commit(Event(shape, "d", before=rows[2]), Event(shape, "d", before=rows[1]))
    replica.sync()
    left = target.execute("SELECT CONCAT(n, ''), v FROM bag ORDER BY 1")
    assert left == [("1.0", ""), ("1.00", None)]


TYPES: Mapping[str, Sequence[tuple[Any, str]]] = {
    "int8": [(-(2**63), "-9223372036854775808")],
    "float8": [(-0.0, "-0"), (1e300, "1e+300"), ("NaN", "NaN"), ("-Infinity", "-Infinity"), (0.1, "0.1")],
    "float4": [(0.1, "0.1"), (3.4e38, "3.4e+38")],
    "numeric": [("1.000", "1.000"), ("NaN", "NaN"), ("-12345678901234567890.1", "-12345678901234567890.1")],
    "text": [("", ""), ("a\tb\nc\\d\r\\N", "a\tb\nc\\d\r\\N"), ("\\.", "\\."), ("é🙂", "é🙂")],
    "bpchar": [("a  ", "a")],
    "bool": [(True, "true"), (False, "false")],
    "bytea": [("AP8=", "\\x00ff"), ("", "\\x")],
    "uuid": [("00000000-0000-0000-0000-00000000000a",) * 2],
    "date": [("2024-02-29Z", "2024-02-29"), ("infinity", "infinity"), ("0044-03-15 BC", "0044-03-15 BC")],
    "time": [("23:59:59.999999Z", "23:59:59.999999")],
    "timestamp": [("2024-02-29T01:02:03.5Z", "2024-02-29 01:02:03.5")],
    "timestamptz": [("2024-02-29T01:02:03Z", "2024-02-29 01:02:03+00"), ("-infinity", "-infinity")],
    "jsonb": [('{"a": [1, null]}', '{"a": [1, null]}')],
    "json": [('{ "a":1 }', '{ "a":1 }')],
    "enum": [("so so", "so so")],
    "int4[]": [([1, None, 3], "{1,NULL,3}"), ([], "{}")],
    "text[]": [(["a,b", 'q"', "\\", "", None, "NULL"], '{"a,b","q\\"","\\\\","",NULL,"NULL"}')],
    "enum[]": [(["sad", None], "{sad,NULL}")],
    "bytea[]": [(["AP8="], '{"\\\\x00ff"}')],
}


@pytest.mark.usefixtures("way")
def test_every_type_holds_what_the_event_said(make: Callable[..., Replica], target_database: Database) -> None:
    shapes = {
        name: replace(
            table(f"public.t{at}", {"id": "int4", "v": name}, ["id"]),
            columns=(
                column("id", not_null=True),
                column("v", name, 2, enum_values=("sad", "so so") if "enum" in name else None),
            ),
        )
        for at, name in enumerate(TYPES)
    }
    replica = make(*shapes.values())
    replica.copy(*shapes.values())
    for name, values in TYPES.items():
        replica.commit(*[Event(shapes[name], "c", after={"id": at, "v": v}) for at, (v, _) in enumerate(values)])
        replica.commit(*[Event(shapes[name], "c", after={"id": 100 + at, "v": None}) for at, _ in enumerate(values)])
    replica.sync()
    for name, values in TYPES.items():
        replica.commit(*[Event(shapes[name], "u", after={"id": 100 + at, "v": v}) for at, (v, _) in enumerate(values)])
    replica.sync()
    for name, values in TYPES.items():
        found = target_database.execute(f"SELECT v::text FROM public.{shapes[name].name} ORDER BY id")
        assert [text for (text,) in found] == [text for _, text in values] * 2, name


@BOTH
@pytest.mark.usefixtures("way")
def test_names_that_need_quotes(make: Callable[..., Replica], target: AnyDatabase) -> None:
    shape = table('public.odd "%s" 100%', {"id%": "int4", 'a"b': "text", "{}": "text"}, ["id%"])
    replica = make(shape)
    replica.copy(shape)
    rows = [{"id%": at, 'a"b': "x", "{}": "y"} for at in range(3)]
    replica.commit(*[Event(shape, "c", after=row) for row in rows])
    replica.sync()
    replica.commit(Event(shape, "u", after=rows[0] | {"{}": "z"}), Event(shape, "d", before=rows[1]))
    replica.sync()
    query = 'SELECT "id%", "{}" FROM "odd ""%s"" 100%" ORDER BY 1'
    found = target.execute(query if isinstance(target, Database) else f"SET sql_mode = 'ANSI_QUOTES'; {query}")
    assert found == [(0, "z"), (2, "y")]


@pytest.mark.usefixtures("way")
def test_array_and_composite_keys(make: Callable[..., Replica], target_database: Database) -> None:
    shape = table("public.pairs", {"v": "text", "x": "int4[]", "y": "text"}, ["y", "x"])
    replica = make(shape)
    replica.copy(shape)
    rows = [{"v": "", "x": [1, at], "y": "k"} for at in range(3)]
    replica.commit(*[Event(shape, "c", after=row) for row in rows])
    replica.sync()
    replica.commit(Event(shape, "u", after=rows[0] | {"v": "new"}), Event(shape, "d", before=rows[1]))
    replica.sync()
    assert target_database.execute("SELECT v, x FROM public.pairs ORDER BY x") == [("new", [1, 0]), ("", [1, 2])]


# -- any history: the three ways end in the same content --
@st.composite
def histories(draw: st.DrawFn) -> list[list[Event]]:
    """Transactions a source could have made on `accounts`, with `v` unique where it is not null."""
    rows: dict[int, dict[str, Any]] = {}
    transactions: list[list[Event]] = []
    for _ in range(draw(st.integers(1, 4))):
        events: list[Event] = []
        for _ in range(draw(st.integers(0, 6))):
            action, key = draw(st.sampled_from("iiuudmt")), draw(st.integers(0, 4))
            v = draw(st.one_of(st.none(), st.sampled_from("pqr")))
            v = None if v in [row["v"] for row in rows.values()] else v
            if action == "i" and key not in rows:
                rows[key] = account(key, v)
                events.append(insert(key, v))
            elif action == "u" and key in rows:
                kept = draw(st.booleans())
                rows[key] = account(key, rows[key]["v"] if kept else v, rows[key]["n"] + 1)
                events.append(update(key, v, rows[key]["n"], unchanged=["v"] if kept else []))
            elif action == "d" and key in rows:
                del rows[key]
                events.append(delete(key))
            elif action == "m" and rows and key not in rows:
                old = draw(st.sampled_from(sorted(rows)))
                rows[key] = rows.pop(old) | {"id": key}
                events += move(old, key, None, rows[key]["n"], unchanged=["v"])
            elif action == "t" and draw(st.integers(0, 3)) == 0:
                rows.clear()
                events.append(Event(ACCOUNTS, "t"))
        transactions.append(events)
    return transactions


@pytest.fixture
def indexed(replica: Replica, target: AnyDatabase) -> None:
    """Tables that a closed replica leaves, `v` of accounts unique."""
    make_unique(target, "accounts", "v")
    replica.close()


@BOTH
@pytest.mark.usefixtures("indexed")
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(), st.lists(st.booleans(), min_size=4, max_size=4))
def test_any_history_ends_as_row_by_row(
    make: Callable[..., Replica], target: AnyDatabase, history: list[list[Event]], cuts: list[bool]
) -> None:
    """A unique value that moves between rows, swapped keys and all: folded, staged, and in batches of any size."""
    contents = []
    for few, every in ((0, False), (100, False), (100, True)):
        tables = (kept(target, "cdc_progress"), kept(target, "cdc_table"), "accounts")
        target.execute("; ".join(f"DELETE FROM {table}" for table in tables))
        replica = make(ACCOUNTS)
        replica.copy(ACCOUNTS)
        replica.sync()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sinks.postgres.rows, "FEW", few)
            patch.setattr(sinks.mysql.rows, "FEW", few)
            for events, cut in zip(history, cuts, strict=False):
                for one in [[event] for event in _pairs(events)] if every else [[*_pairs(events)]]:
                    if one:
                        replica.commit(*itertools.chain(*one))
                if cut or every:
                    replica.sync()
            replica.sync()
        contents.append(accounts(target))
        replica.close()
    expected = contents[-1]
    assert contents == [expected] * 3


def _pairs(events: list[Event]) -> Iterator[list[Event]]:
    """Events, the two of a moved key together."""
    at = 0
    while at < len(events):
        width = 2 if "moved_to" in events[at].fields else 1
        yield events[at : at + width]
        at += width


@BOTH
@pytest.mark.usefixtures("way")
def test_a_unique_value_that_moves_between_rows(replica: Replica, target: AnyDatabase) -> None:
    make_unique(target, "accounts", "v")
    replica.commit(insert(1, "x"), insert(2, "y"))
    replica.sync()
    replica.commit(update(1, "z"), update(2, "x"), update(1, "y"))
    replica.sync()
    assert accounts(target) == [(1, "y", 0), (2, "x", 0)]


@BOTH
@pytest.mark.usefixtures("way")
def test_swapped_keys(replica: Replica, target: AnyDatabase) -> None:
    replica.commit(insert(1, "one"), insert(2, "two"))
    replica.sync()
    replica.commit(*move(1, 99, "one"), *move(2, 1, "two"), *move(99, 2, "one"))
    replica.sync()
    assert accounts(target) == [(1, "two", 0), (2, "one", 0)]


# -- exactly once --
@BOTH
def test_progress_and_rows_are_one_commit(replica: Replica, target: AnyDatabase) -> None:
    replica.commit(insert(1))
    replica.sync()
    assert progress(target)[0][:4] == (1, 4, "1:0/4", 4)
    replica.commit(insert(2), insert(2))
    refusal(replica.sync)
    assert progress(target)[0][:4] == (1, 4, "1:0/4", 4)
    assert accounts(target) == [(1, "", 0)]


@BOTH
def test_a_heartbeat_moves_only_the_progress(replica: Replica, target: AnyDatabase) -> None:
    replica.run.heartbeat(position="1:0/FF")
    replica.sync()
    assert progress(target)[0][:4] == (1, 3, "1:0/FF", 4)


@BOTH
def test_a_new_process_goes_on_where_the_last_one_stopped(replica: Replica, target: AnyDatabase) -> None:
    replica.commit(insert(1))
    replica.sync()
    writer = progress(target)[0][4]
    replica.open()
    assert replica.hold.progress == replica.assembler.progress
    assert progress(target)[0][4] != writer
    replica.commit(update(1, "x"))
    replica.sync()
    assert accounts(target) == [(1, "x", 0)]


@BOTH
@pytest.mark.parametrize("change", ["txn_seq = txn_seq + 1", "writer = 'other'", "epoch = 7"])
def test_the_guard_stops_at_a_row_that_somebody_moved(replica: Replica, target: AnyDatabase, change: str) -> None:
    target.execute(f"UPDATE {kept(target, 'cdc_progress')} SET {change}")
    replica.commit(insert(1))
    assert refusal(replica.sync)[0] is PROGRESS_TAKEN
    assert accounts(target) == []


@BOTH
def test_the_name_is_held_by_one_session(replica: Replica, target_server: Server) -> None:
    with hold_of(target_server, "eu", "shop") as second:
        assert not second.try_lock()
        # MariaDB knows no session by its name, out of the box.
        assert any(name in second.holder() for name in ("cdc sink eu", "root"))
        with hold_of(target_server, "us", "shop") as other:
            assert other.try_lock()
        replica.close()
        # The server ends the session a moment after its client is gone.
        wait_until(second.try_lock, "the name")


@BOTH
def test_a_name_keeps_to_its_source(replica: Replica, target_server: Server) -> None:
    replica.close()
    with hold_of(target_server, "eu", "other") as hold:
        code, text = refusal(hold.take)
    assert code is PROGRESS_OF_ANOTHER
    assert "source shop by its progress" in text


# -- a target that somebody else changed --
@BOTH
@pytest.mark.parametrize(
    ("tampering", "event", "code"),
    [
        ("DELETE FROM accounts WHERE id = 1", update(1, "x"), ROW_DIVERGED),
        ("DELETE FROM accounts WHERE id = 1", delete(1), ROW_DIVERGED),
        ("INSERT INTO accounts VALUES (2, '', 0)", insert(2), APPLY_FAILED),
        ("ALTER TABLE accounts ADD CHECK (v <> 'bad')", update(1, "bad"), APPLY_FAILED),
        ("UPDATE accounts SET id = 3", [*move(1, 4)], ROW_DIVERGED),
    ],
)
@pytest.mark.usefixtures("way")
def test_a_row_that_is_not_as_it_should_be_stops_by_name(
    replica: Replica, target: AnyDatabase, tampering: str, event: Event | list[Event], code: Code
) -> None:
    replica.commit(insert(1))
    replica.sync()
    target.execute(tampering)
    before = accounts(target)
    replica.commit(*(event if isinstance(event, list) else [event]))
    found, text = refusal(replica.sync)
    assert found is code
    assert "public.accounts" in text
    assert '"id":' in text
    assert "transaction 5" in text
    assert accounts(target) == before


@BOTH
@pytest.mark.usefixtures("way")
def test_a_keyless_row_that_is_gone_stops_by_name(replica: Replica, target: AnyDatabase) -> None:
    replica.commit(note("x", 1.5), note("x", 1.5))
    replica.sync()
    first = "WHERE ctid = (SELECT min(ctid) FROM notes)" if isinstance(target, Database) else "LIMIT 1"
    target.execute(f"DELETE FROM notes {first}")
    replica.commit(Event(NOTES, "d", before={"v": "x", "f": 1.5}), Event(NOTES, "d", before={"v": "x", "f": 1.5}))
    assert refusal(replica.sync)[0] is ROW_DIVERGED


def test_a_deferred_constraint_that_only_commit_meets(replica: Replica, target_database: Database) -> None:
    target_database.execute("ALTER TABLE public.accounts ADD UNIQUE (v) DEFERRABLE INITIALLY DEFERRED")
    replica.commit(insert(1, "x"), insert(2, "x"))
    code, text = refusal(replica.sync)
    assert code is APPLY_FAILED
    assert "commit" in text


@BOTH
def test_an_event_that_lacks_a_column_is_refused(replica: Replica) -> None:
    replica.commit(Event(ACCOUNTS, "c", after={"id": 1, "v": ""}))
    code, text = refusal(replica.sync)
    assert code is APPLY_FAILED
    assert "'n'" in text


# -- a transaction too large to hold --
@BOTH
def test_a_streamed_transaction_is_one_commit(
    replica: Replica, target: AnyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.target.PIECE_EVENTS", 3)
    change = changed(replica, 4, "add_column", ACCOUNTS, WIDER)
    replica.commit(
        insert(1),
        insert(2),
        *move(1, 3),
        *[Event(WIDER, "u", after={**account(2, "w"), "x": "y"})] * 2,
        changes=[change],
    )
    (transaction,) = replica.new()
    assert replica.assembler.progress is not None
    seen: list[Content] = []

    def slowly(events: list[RowEvent]) -> Iterator[RowEvent]:
        for event in events:
            seen.append(accounts(target) if event.ordinal < 5 else [])
            yield event

    transaction.events = slowly(list(transaction.events))
    replica.target.apply([transaction], replica.assembler.progress)
    assert seen == [[]] * 6
    found = target.execute("SELECT id, v, x FROM accounts ORDER BY id")
    assert found == [(2, "w", "y"), (3, "", "it's")]


@BOTH
def test_a_streamed_transaction_that_breaks_off_leaves_nothing(
    replica: Replica, target: AnyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.target.PIECE_EVENTS", 1)
    replica.commit(insert(1), insert(2), insert(2))
    (transaction,) = replica.new()
    assert replica.assembler.progress is not None
    transaction.events = iter(list(transaction.events))
    code, text = refusal(lambda: replica.target.apply([transaction], replica.assembler.progress))  # type: ignore[arg-type]
    assert code is APPLY_FAILED
    assert '{"id":2}' in text
    assert accounts(target) == []


# -- sessions and rights --
def test_settings_of_database_and_role_change_nothing(target_server: PostgresServer, target_database: Database) -> None:
    opposite = {
        "DateStyle": "German", "IntervalStyle": "iso_8601", "TimeZone": "Asia/Tokyo", "bytea_output": "escape",
        "extra_float_digits": "-3", "search_path": "public", "xmloption": "document", "lock_timeout": "1ms",
        "statement_timeout": "1ms", "default_transaction_isolation": "serializable",
        "array_nulls": "off",
    }  # fmt: skip
    for name, value in opposite.items():
        target_database.execute(f"ALTER DATABASE {target_database.name} SET {name} = '{value}'")
    replica = Replica(target_server, NOTES)
    replica.copy(NOTES)
    replica.commit(note("x", 0.30000000000000004))
    replica.sync()
    with sinks.postgres.Hold(target_server, "eu2", "shop") as hold:
        connection = hold.connection
        assert connection.execute("SELECT f::text FROM public.notes").fetchone() == ("0.30000000000000004",)
        assert connection.execute("SELECT '2024-04-03'::date::text, '\\xff'::bytea::text").fetchone() == (
            "2024-04-03", "\\xff",
        )  # fmt: skip
        assert connection.execute("SHOW search_path").fetchone() == ("",)
        assert connection.execute("SELECT '{NULL}'::text[]").fetchone() == ([None],)
    replica.close()


def test_a_right_that_is_missing_is_named(target_database: Database) -> None:
    role = f"weak_{target_database.name}"
    target_database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'weak-secret'")
    weak = PostgresServer(Side.TARGET, "eu", target_database.url(role), "weak-secret")
    with hold_of(weak, "eu", "shop") as hold:
        code, text = refusal(hold.take)
    assert code is TARGET_REFUSED
    assert "permission denied" in text
    assert "weak-secret" not in text
    target_database.execute(f"DROP ROLE {role}")
