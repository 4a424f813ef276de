"""The golden stream becomes numbered transactions of events; what does not fit stops by name."""

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from cdc.decoded import Captured, Lone, NewShapes, Transaction
from cdc.errors import (
    RELATION_MISMATCH,
    SCHEMA_CHANGE_UNSUPPORTED,
    STREAM_OUT_OF_ORDER,
    VALUE_UNREPRESENTABLE,
    CdcError,
)
from cdc.event import Table
from cdc.position import Lsn, PgPosition
from cdc.postgres.decode import Decoder
from cdc.rowevents import Record, RunFacts
from cdc.shape import parse_shape
from cdc.topics import row_topic

GOLDEN = Path(__file__).parents[3] / "golden/pgoutput"
STREAM = [
    (record["lsn"], bytes.fromhex(record["hex"]))
    for record in map(json.loads, (GOLDEN / "postgres-18.jsonl").read_text().splitlines())
]
_WRITTEN = json.loads((GOLDEN / "postgres-18.shapes.json").read_text())
SECRET = bytes.fromhex(_WRITTEN["secret"])
SHAPES = {
    table.full_name: table for table in (parse_shape(json.dumps(shape).encode()).table for shape in _WRITTEN["shapes"])
}
FACTS = RunFacts("shop", "golden", "a" * 16, 1_000)


def decoder(
    shapes: dict[str, Table] = SHAPES, *, after: int = 0, seq: int = 0, secret: bytes | None = SECRET,
    tokens: Sequence[str] = (),
) -> Decoder:  # fmt: skip
    captured = Captured(
        shapes,
        lambda schema, table: row_topic("shop", schema, table),
        "shop.message",
        lambda schema, _: schema == "public",
    )
    return Decoder(
        FACTS, captured, after=PgPosition(1, Lsn(after)), last_seq=seq, tokens=frozenset(tokens), secret=secret,
        clock_ns=lambda: 1_700_000_000_000_000_000,
    )  # fmt: skip


def decode(decoder: Decoder, stream: Sequence[tuple[int, bytes]] = STREAM) -> tuple[list[Record], list[Transaction]]:
    records: list[Record] = []
    transactions: list[Transaction] = []
    for lsn, data in stream:
        match decoder.feed(data, lsn):
            case list() as sent:
                records += sent
            case Lone() as lone:
                records += lone.records
                transactions.append(lone.transaction)
            case Transaction() as transaction:
                transactions.append(transaction)
            case _:
                pass
    return records, transactions


RECORDS, TRANSACTIONS = decode(decoder())


def event(record: Record) -> dict[str, Any]:
    parsed: dict[str, Any] = orjson.loads(record.value or b"null")
    return parsed


def events_of(number: int) -> list[Record]:
    return [r for r in RECORDS if r.event and event(r)["source"]["txn_seq"] == number]


def test_numbers_are_dense_and_each_transaction_counts_its_events() -> None:
    assert [txn.seq for txn in TRANSACTIONS] == list(range(1, len(TRANSACTIONS) + 1))
    for txn in TRANSACTIONS:
        ordinals = [event(record)["source"]["ordinal"] for record in events_of(txn.seq)]
        assert ordinals == list(range(1, txn.event_count + 1))
        assert sum(count for _, count in txn.collections) == txn.event_count


def test_positions_are_ends_of_commits_in_order() -> None:
    positions = [txn.position for txn in TRANSACTIONS]
    assert positions == sorted(set(positions))


def test_an_insert() -> None:
    (record,) = events_of(1)
    assert (record.topic, record.key) == ("shop.public.wide", b'{"id":1}')
    body = event(record)
    assert list(body) == ["before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns"]
    assert body["before"] is None
    assert body["after"]["arr"] == [1, None]
    assert (body["op"], body["after"]["b"], body["after"]["c"], body["after"]["m"]) == ("c", "a", None, "ok")
    assert list(body["source"]) == [
        "version", "connector", "name", "ts_ms", "snapshot", "db", "sequence", "ts_us", "ts_ns", "schema", "table",
        "txId", "lsn", "xmin", "origin", "origin_lsn", "run", "epoch", "txn_seq", "ordinal", "schema_id",
        "commit_lsn", "commit_ts_us",
    ]  # fmt: skip
    assert body["transaction"] == {"id": TRANSACTIONS[0].id, "total_order": 1, "data_collection_order": 1}


def test_unchanged_toast_holds_the_placeholder_and_is_named() -> None:
    body = event(events_of(2)[0])
    assert body["op"] == "u"
    assert body["unchanged"] == ["big"]
    assert body["after"]["big"] == "__debezium_unavailable_value"
    assert body["after"]["b"] == "b"


def test_a_key_change_is_a_delete_and_an_insert_that_name_each_other() -> None:
    at = RECORDS.index(events_of(2)[1])
    gone, tombstone, came = RECORDS[at : at + 3]
    assert (gone.key, tombstone.key, came.key) == (b'{"id":1}', b'{"id":1}', b'{"id":2}')
    assert tombstone.value is None
    assert gone.headers == tombstone.headers == [("__debezium.newkey", b'{"id":2}')]
    assert came.headers == [("__debezium.oldkey", b'{"id":1}')]
    assert (event(gone)["op"], event(gone)["moved_to"]) == ("d", {"id": 2})
    assert (event(came)["op"], event(came)["moved_from"]) == ("c", {"id": 1})
    assert event(came)["unchanged"] == ["big"]
    assert event(gone)["source"]["ordinal"] + 1 == event(came)["source"]["ordinal"]


def test_a_delete_names_what_its_before_image_lacks() -> None:
    body = event(events_of(2)[-1])
    assert (body["op"], body["after"], body["before"]["id"]) == ("d", None, 2)
    assert body["before_absent"] == ["b", "c", "big", "arr", "m"]
    assert RECORDS[RECORDS.index(events_of(2)[-1]) + 1][:3] == ("shop.public.wide", b'{"id":2}', None)


def test_a_keyless_table_has_no_keys_and_whole_images() -> None:
    inserts, updates, deletes = (events_of(number) for number in (3, 4, 5))
    assert [record.key for record in inserts + updates + deletes] == [None] * 6
    assert event(updates[0])["before"] == {"x": 1, "y": None}
    assert event(updates[0])["after"] == {"x": 1, "y": "b"}
    assert "before_absent" not in event(deletes[0])


def test_replica_identity_using_an_index_makes_that_index_the_key() -> None:
    """CORRECTNESS 16."""
    records = [r for r in RECORDS if r.topic == "shop.public.indexed"]
    assert [(r.key, event(r).get("op")) for r in records if r.event] == [
        (b'{"code":10}', "c"), (b'{"code":10}', "d"), (b'{"code":11}', "c"), (b'{"code":11}', "d"),
    ]  # fmt: skip
    assert event([r for r in records if r.event][-1])["before_absent"] == ["id", "t"]


def test_truncate_is_an_event_of_each_table() -> None:
    truncated = [record for record in RECORDS if record.event and event(record)["op"] == "t"]
    assert {record.topic for record in truncated} == {"shop.public.wide", "shop.public.keyless"}
    assert {record.key for record in truncated} == {None}


def test_add_column_is_a_schema_transaction_before_its_first_row() -> None:
    (txn,) = [txn for txn in TRANSACTIONS if txn.changes]
    assert txn.event_count == 0
    assert txn.numbered
    (change,) = txn.changes
    assert (change.at, change.table, change.effect) == (0, "public.wide", "add_column")
    after = [event(r) for r in RECORDS if r.event and r.topic == "shop.public.wide"][-1]
    assert (after["source"]["schema_id"], after["after"]["z"]) == (change.new, 7)


def test_the_new_shape_is_handed_out_before_the_transaction_ends() -> None:
    shapes = decoder()
    seen = [decoded for lsn, data in STREAM if isinstance(decoded := shapes.feed(data, lsn), NewShapes | Transaction)]
    at = next(i for i, decoded in enumerate(seen) if isinstance(decoded, NewShapes))
    new, txn = seen[at : at + 2]
    assert isinstance(new, NewShapes)
    assert isinstance(txn, Transaction)
    assert new.seq == txn.seq
    assert [change.new for change in txn.changes] == [schema for schema, _ in new.shapes]
    assert new.shapes[0][1].columns[-1].missing == "7"


def test_foreign_messages_are_events_inside_or_alone() -> None:
    inside, alone = (r for r in RECORDS if r.topic == "shop.message")
    assert event(inside)["message"] == {"prefix": "note", "content": "dHJhbnNhY3Rpb25hbA=="}
    assert (inside.key, event(alone)["op"], event(alone)["source"]["txId"]) == (b'{"prefix":"note"}', "m", None)
    committed = [txn.commit_ts_us is not None for txn in TRANSACTIONS]
    assert committed == [txn.xid is not None for txn in TRANSACTIONS]
    assert not all(committed)


def test_an_origin_is_told() -> None:
    assert [txn.origin for txn in TRANSACTIONS][-1] == "elsewhere"


@pytest.mark.parametrize("cut", range(len(TRANSACTIONS)))
def test_a_resumed_stream_gives_the_rest_under_the_same_numbers(cut: int) -> None:
    done = TRANSACTIONS[cut]
    shapes = dict(SHAPES)
    if any(txn.changes for txn in TRANSACTIONS[: cut + 1]):
        whole = decoder()
        decode(whole)
        shapes = whole.shapes
    assert isinstance(done.position, PgPosition)
    _, rest = decode(decoder(shapes, after=int(done.position.lsn), seq=done.seq))
    assert [(t.seq, t.id, t.event_count) for t in rest] == [
        (t.seq, t.id, t.event_count) for t in TRANSACTIONS[cut + 1 :]
    ]


def test_a_ddl_message_that_does_not_prove_itself_is_published_and_not_believed() -> None:
    """CORRECTNESS 11: anybody can write a message under our prefix. The row that follows then stops the stream."""
    forged = decoder(secret=sha256(b"another").digest())
    with pytest.raises(CdcError) as caught:
        decode(forged)
    assert caught.value.code is RELATION_MISMATCH
    assert forged.foreign_messages == 1


def test_a_heartbeat_counts_only_with_a_token_of_ours() -> None:
    stream = [(lsn, data.replace(b"note\0", b"cdc.heartbeat\0")) for lsn, data in STREAM if data[:1] in b"BMC"]
    inside = next(i for i, (_, data) in enumerate(stream) if b"transactional" in data)
    stream = stream[inside - 1 : inside + 2]
    records, (txn,) = decode(decoder(tokens=["transactional"]), stream)
    assert (txn.heartbeat, txn.numbered, records) == (True, False, [])
    records, (txn,) = decode(decoder(tokens=["other"]), stream)
    assert (txn.heartbeat, txn.numbered, len(records)) == (False, True, 1)


@pytest.mark.parametrize(
    "change",
    [{"oid": 1}, {"replica_identity": "f"}, {"columns": SHAPES["public.wide"].columns[:-1]}],
)
def test_a_relation_that_differs_from_the_log_s_shape_stops(change: dict[str, Any]) -> None:
    with pytest.raises(CdcError) as caught:
        decode(decoder({**SHAPES, "public.wide": replace(SHAPES["public.wide"], **change)}))
    assert caught.value.code is RELATION_MISMATCH
    assert caught.value.table == "public.wide"
    assert "event triggers" in caught.value.hint


def test_a_wanted_table_without_a_shape_stops() -> None:
    with pytest.raises(CdcError, match="a table that was not there") as caught:
        decode(decoder({name: table for name, table in SHAPES.items() if name != "public.keyless"}))
    assert caught.value.code is SCHEMA_CHANGE_UNSUPPORTED


def test_a_value_without_a_form_stops_with_table_column_and_position() -> None:
    at = next(i for i, (_, data) in enumerate(STREAM) if data[:1] == b"I")
    lsn, data = STREAM[at]
    bad = data.replace(b"{1,NULL}", b"{{1},2}}")
    with pytest.raises(CdcError) as caught:
        decode(decoder(), [*STREAM[:at], (lsn, bad)])
    error = caught.value
    assert (error.code, error.table, error.facts["column"]) == (VALUE_UNREPRESENTABLE, "public.wide", "arr")
    assert error.position == Lsn(lsn)


@pytest.mark.parametrize("tags", [b"BB", b"C", b"I", b"BI"])
def test_messages_out_of_order_stop(tags: bytes) -> None:
    by_tag = {data[:1]: (lsn, data) for lsn, data in reversed(STREAM)}
    with pytest.raises(CdcError) as caught:
        decode(decoder(), [by_tag[bytes([tag])] for tag in tags])
    assert caught.value.code is STREAM_OUT_OF_ORDER


def test_two_steps_of_one_statement_are_two_changes() -> None:
    table = SHAPES["public.wide"]
    both = decoder(
        {**SHAPES, "public.wide": replace(table, columns=(*table.columns, replace(table.columns[1], attnum=99)))}
    )
    _, transactions = decode(both, [m for m in STREAM if m[1][:1] in b"BMC"])
    (txn,) = [t for t in transactions if t.changes]
    assert [change.effect for change in txn.changes] == ["drop_column", "add_column"]
    first, second = txn.changes
    assert first.new == second.old
