"""The decoder on sessions that a real server logged: transactions and their numbers, what is told, what stops."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from cdc.decoded import Captured, Decoded, NewShapes, Statement, Transaction
from cdc.errors import (
    CORRUPT_WIRE,
    EVENT_UNSUPPORTED,
    RELATION_MISMATCH,
    ROW_IMAGE_PARTIAL,
    SCHEMA_CHANGE_UNSUPPORTED,
    STATEMENT_NOT_ROWS,
    STREAM_OUT_OF_ORDER,
    CdcError,
    Code,
)
from cdc.mysql.decode import Decoder, Surroundings
from cdc.position import GtidSet
from cdc.rowevents import RunFacts
from cdc.shape import parse_table
from cdc.topics import row_topic

SESSIONS = json.loads((Path(__file__).parents[3] / "golden/mysql/sessions.json").read_text())
HEARTBEAT = "a" * 16
ROTATE, FORMAT, GTID, XID, TABLE_MAP = 4, 15, 33, 16, 19


def events(session: str) -> list[bytes]:
    return [bytes.fromhex(event) for event in SESSIONS[session]["events"]]


def decoder(
    session: str, *, bystanders: Sequence[str] = ("golden.other",), captured: bool = True, seq: int = 10
) -> Decoder:
    of = SESSIONS[session]
    shapes = {"golden.t": parse_table(of["shape"].encode())} if captured else {}
    return Decoder(
        RunFacts("shop", "golden", "r" * 16, 1),
        Captured(shapes, lambda schema, name: row_topic("shop", schema, name), "shop.message", lambda *_: True),
        Surroundings(lambda: frozenset(bystanders), ("cdc", "heartbeat"), checksum=True, uncaptured=lambda _: None),
        after=GtidSet.parse(of["executed"]),
        last_seq=seq,
        tokens=frozenset({HEARTBEAT}),
        clock_ns=lambda: 1_000,
    )


def decoded(session: str, of: Decoder | None = None) -> list[Decoded]:
    of = of or decoder(session)
    return [found for event in events(session) for found in of.feed(event)]


def transactions(found: Sequence[Decoded]) -> list[Transaction]:
    return [item for item in found if isinstance(item, Transaction)]


def ops(found: Sequence[Decoded]) -> list[str]:
    records = [record for item in found if isinstance(item, list) for record in item]
    return [json.loads(record.value)["op"] for record in records if record.value]


@pytest.mark.parametrize(
    ("session", "expected", "numbers"),
    [
        ("rows", ["c", "c", "u", "d", "d", "c"], [11, 12, 13]),
        ("compressed", ["c", "c"], [11]),
        ("minimal", ["u", "d"], [11, 12]),
        ("truncate", ["t"], [11]),
        ("savepoint", ["c"], [11]),
    ],
)
def test_rows_in_numbered_transactions(session: str, expected: list[str], numbers: list[int]) -> None:
    found = decoded(session)
    assert ops(found) == expected
    numbered = [txn for txn in transactions(found) if txn.numbered]
    assert [txn.seq for txn in numbered] == numbers
    assert sum(txn.event_count for txn in numbered) == len(expected)
    # Positions are all that was executed, each with one transaction more.
    before = GtidSet.parse(SESSIONS[session]["executed"])
    for txn in transactions(found):
        assert isinstance(txn.position, GtidSet)
        assert before < txn.position
        assert txn.position.number == before.number + 1
        assert txn.commit_ts_us
        assert txn.commit_ts_us > 1_700_000_000_000_000
        before = txn.position


@pytest.mark.parametrize("session", ["others", "statement", "rows", "drop", "xa"])
def test_what_is_not_captured_gives_no_number(session: str) -> None:
    of = decoder(session, captured=False, bystanders=["golden.other", "golden.t"])
    found = decoded(session, of)
    assert ops(found) == []
    assert not any(txn.numbered for txn in transactions(found))
    assert of.last_seq == 10
    assert of.executed.number == GtidSet.parse(SESSIONS[session]["executed"]).number + len(transactions(found))


def test_heartbeats_of_ours_come_back() -> None:
    assert [txn.heartbeat for txn in transactions(decoded("heartbeat"))] == [True, False, True]


def test_an_added_column_is_told_before_its_rows() -> None:
    shapes, changed, rows, inserted = decoded("add_column")
    assert isinstance(shapes, NewShapes)
    assert isinstance(changed, Transaction)
    assert isinstance(inserted, Transaction)
    assert [change.effect for change in changed.changes] == ["drop_column", "add_column"]
    assert [column.name for column in shapes.shapes[-1][1].columns] == ["id", "c", "a", "j"]
    assert shapes.shapes[-1][1].columns[1].missing == "new"
    assert str(shapes.ddl).startswith("ALTER TABLE t ADD COLUMN c")
    assert ops([rows]) == ["c"]
    assert (shapes.seq, changed.seq, inserted.seq) == (11, 11, 12)


def test_other_ddl_is_told_as_it_was_written() -> None:
    found = decoded("harmless")
    told = [item.ddl for item in found if isinstance(item, Statement)]
    assert [text.split()[0] for text in told] == ["ALTER", "CREATE"]
    assert ops(found) == ["c"]


@pytest.mark.parametrize(
    ("session", "code", "word"),
    [
        ("statement", STATEMENT_NOT_ROWS, "UPDATE t SET a = 8"),
        ("load", STATEMENT_NOT_ROWS, "golden.t"),
        ("defaults", ROW_IMAGE_PARTIAL, "an insert"),
        ("xa", EVENT_UNSUPPORTED, "XA transaction"),
        ("partial", EVENT_UNSUPPORTED, "PARTIAL_JSON"),
        ("modify", SCHEMA_CHANGE_UNSUPPORTED, "column a was changed"),
        ("retyped", SCHEMA_CHANGE_UNSUPPORTED, "column a was changed"),
        ("drop", SCHEMA_CHANGE_UNSUPPORTED, "it was dropped"),
        ("database", SCHEMA_CHANGE_UNSUPPORTED, "its database was dropped"),
        ("rename", SCHEMA_CHANGE_UNSUPPORTED, "it was renamed"),
    ],
)
def test_what_stops_by_name(session: str, code: Code, word: str) -> None:
    with pytest.raises(CdcError, match=word) as stopped:
        decoded(session)
    assert stopped.value.code is code


def test_a_statement_on_a_view_or_a_table_with_triggers_may_have_changed_any() -> None:
    with pytest.raises(CdcError) as stopped:
        decoded("others", decoder("others", bystanders=[]))
    assert stopped.value.code is STATEMENT_NOT_ROWS


def test_a_table_that_differs_without_a_statement_stops_with_mysql_s_way_out() -> None:
    of = decoder("rows")
    table = of._shapes["golden.t"]
    of._shapes["golden.t"] = replace(table, columns=table.columns[:-1])
    with pytest.raises(CdcError) as stopped:
        decoded("rows", of)
    assert stopped.value.code is RELATION_MISMATCH
    assert "sql_log_bin" in stopped.value.hint
    assert "event trigger" not in stopped.value.hint


def test_transactions_of_the_checkpoint_are_passed_over() -> None:
    of = decoder("rows")
    first = transactions(decoded("rows"))[0].position
    assert isinstance(first, GtidSet)
    of._executed = first
    assert ops(decoded("rows", of)) == ["d", "d", "c"]


@pytest.mark.parametrize("missing", [GTID, TABLE_MAP, XID])
def test_an_event_that_is_missing_is_disorder(missing: int) -> None:
    of = decoder("rows")
    rest = [event for event in events("rows") if event[4] != missing]
    with pytest.raises(CdcError) as refused:
        list(chain.from_iterable(map(of.feed, rest)))
    assert refused.value.code is STREAM_OUT_OF_ORDER


@pytest.mark.parametrize("kind", [34, 42, 26, 99])
def test_an_event_that_may_carry_rows_and_is_not_read_stops(kind: int) -> None:
    of = decoder("rows")
    of._checksum = False
    with pytest.raises(CdcError) as refused:
        list(of.feed(bytes(4) + bytes([kind]) + bytes(4) + (19).to_bytes(4, "little") + bytes(6)))
    assert refused.value.code is EVENT_UNSUPPORTED
    assert str(kind) in refused.value.text


@pytest.mark.parametrize("session", ["rows", "compressed", "add_column"])
def test_a_flipped_byte_is_noticed(session: str) -> None:
    """By the checksum, of every event but the one that says whether there is one."""
    of = decoder(session)
    for event in events(session):
        if event[4] == FORMAT:
            list(of.feed(event))
            continue
        for at in range(0, len(event), 7):
            with pytest.raises(CdcError) as refused:
                list(of.feed(event[:at] + bytes([event[at] ^ 1]) + event[at + 1 :]))
            assert refused.value.code is CORRUPT_WIRE
