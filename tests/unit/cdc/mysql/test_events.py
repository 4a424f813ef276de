"""Events of recorded rows: envelope, keys, images that lack columns, moved keys; both ways write the same bytes."""

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from cdc.errors import CORRUPT_WIRE, ROW_IMAGE_PARTIAL, VALUE_UNREPRESENTABLE, CdcError, Code
from cdc.event import UNAVAILABLE, Table
from cdc.mysql import tablemap, wire
from cdc.mysql.events import MySqlTransaction, TableStream
from cdc.mysql.tables import Definition, column_of
from cdc.mysql.wire import Header
from cdc.rowevents import Record, RunFacts
from tests.golden.mysql.recorded import TYPES, RecordedType, stream

FACTS = RunFacts('sh%b"op', "golden", "a" * 16, 1_000)
UTF8 = "utf8mb4"


def table(name: str, columns: Sequence[tuple[str, str]], key: tuple[str, ...]) -> Table:
    shapes = [
        column_of(Definition(column, type_, not_null=column in key, charset=UTF8), at)
        for at, (column, type_) in enumerate(columns, 1)
    ]
    return Table("golden", name, 0, tuple(shapes), key, "d" if key else "f", (), engine="mysql")


WIDE = table("wide", [("id", "int"), ("part", "varchar(9)"), ("n", "int"), ("t", "text"), ("b", "blob")],
             ("part", "id"))  # fmt: skip
KEYLESS = table("keyless", [("x", "int"), ("y", "text"), ("z", "blob")], ())
PREFIXED = table("prefixed", [("id", "int"), ("name", "varchar(99)"), ("u", "bigint unsigned")], ("id", "name"))
TABLES = {shape.name: shape for shape in (WIDE, KEYLESS, PREFIXED)}


def transaction(seq: int = 1, *, snapshot: bool = False) -> MySqlTransaction:
    return MySqlTransaction(
        commit_ts_us=1_700_000_000_123_456, seq=seq, now_ns=1_700_000_001_000_000_007, snapshot=snapshot,
        gtid=None if snapshot else f"uuid:{seq}", file="binlog.000002", pos=4, server_id=7,
        thread=None if snapshot else 9,
    )  # fmt: skip


def changes() -> list[tuple[str, bytes, Header, bytes]]:
    """Table, TABLE_MAP, and rows event, of the tables above."""
    found, current, described = [], "", b""
    for header, body in stream():
        if header.type == wire.TABLE_MAP:
            current, described = tablemap.mapped_table(body).name, body
        elif header.type in (wire.WRITE_ROWS, wire.UPDATE_ROWS, wire.DELETE_ROWS) and current in TABLES:
            found.append((current, described, header, body))
    return found


CHANGES = changes()


def events_of(name: str, number: int, txn: MySqlTransaction | None = None) -> list[Record]:
    """The records of the table's rows event of that number."""
    _, described, header, body = [change for change in CHANGES if change[0] == name][number]
    shape = TABLES[name]
    writer = TableStream(shape, tablemap.parse_table_map(described), "5" * 16, f"shop.golden.{name}", FACTS)
    return writer.rows(txn or transaction(), header, body)


def value(record: Record) -> Any:
    assert record.value is not None
    return orjson.loads(record.value)


def refusal(name: str, number: int, code: Code) -> CdcError:
    with pytest.raises(CdcError) as caught:
        events_of(name, number)
    assert caught.value.code is code
    return caught.value


# -- whole images -----------------------------------------------------------------------------------------------
def test_an_insert_in_debeziums_envelope() -> None:
    first, second = events_of("wide", 0)
    _, _, header, _ = CHANGES[0]
    event = value(first)
    assert list(event) == ["before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns"]
    assert event["before"] is None
    assert event["after"] == {"id": 1, "part": "é", "n": 1, "t": "text", "b": "AP8="}
    source = {
        "version": "0.1.0", "connector": "mysql", "name": 'sh%b"op', "ts_ms": 1_700_000_000_123, "snapshot": "false",
        "db": "golden", "sequence": None, "ts_us": 1_700_000_000_123_456, "ts_ns": 1_700_000_000_123_456_000,
        "table": "wide", "server_id": 7, "gtid": "uuid:1", "file": "binlog.000002", "pos": header.end - header.size,
        "row": 0, "thread": 9, "query": None, "run": "a" * 16, "epoch": 1_000, "txn_seq": 1, "ordinal": 1,
        "schema_id": "5" * 16, "commit_ts_us": 1_700_000_000_123_456,
    }  # fmt: skip
    assert list(event["source"].items()) == list(source.items())
    assert event["transaction"] == {"id": "uuid:1", "total_order": 1, "data_collection_order": 1}
    assert (event["op"], event["ts_ms"], event["ts_ns"]) == ("c", 1_700_000_001_000, 1_700_000_001_000_000_007)
    assert (first.topic, first.key) == ("shop.golden.wide", '{"part":"é","id":1}'.encode())
    other = value(second)
    assert other["after"] == {"id": 2, "part": "b", "n": None, "t": None, "b": None}
    assert (other["source"]["row"], other["source"]["ordinal"]) == (1, 2)
    assert other["transaction"] == {"id": "uuid:1", "total_order": 2, "data_collection_order": 2}


def test_an_update_has_both_images() -> None:
    records = events_of("wide", 1)
    assert [record.key for record in records] == [b'{"part":"b","id":2}', '{"part":"é","id":1}'.encode()]
    event = value(records[0])
    assert (event["before"]["n"], event["after"]["n"], event["op"]) == (None, 3, "u")
    assert "before_absent" not in event


def test_a_delete_has_a_tombstone_that_is_no_event() -> None:
    txn = transaction()
    event, tombstone = events_of("wide", 3, txn)
    assert (value(event)["op"], value(event)["after"]) == ("d", None)
    assert value(event)["before"] == {"id": 2, "part": "b", "n": 3, "t": None, "b": None}
    assert (tombstone.key, tombstone.value, tombstone.event) == (event.key, None, False)
    assert (txn.ordinal, txn.counts) == (1, {"golden.wide": 1})


def test_a_moved_key_is_a_delete_and_an_insert() -> None:
    gone, tombstone, came = events_of("wide", 2)
    assert (value(gone)["op"], value(gone)["before"]["id"], value(gone)["after"]) == ("d", 1, None)
    assert (value(came)["op"], value(came)["before"], value(came)["after"]["id"]) == ("c", None, 11)
    assert value(gone)["moved_to"] == {"part": "é", "id": 11}
    assert value(came)["moved_from"] == {"part": "é", "id": 1}
    assert came.key is not None
    assert gone.key is not None
    assert gone.headers == tombstone.headers == [("__debezium.newkey", came.key)]
    assert came.headers == [("__debezium.oldkey", gone.key)]
    assert (tombstone.key, tombstone.value) == (gone.key, None)


def test_a_table_without_a_key() -> None:
    records = events_of("keyless", 0)
    assert [record.key for record in records] == [None, None]
    gone, tombstone = events_of("keyless", 1)
    assert value(gone)["before"] == {"x": 1, "y": None, "z": "Yg=="}
    assert (tombstone.key, tombstone.value) == (None, None)


def test_numbers_go_on_in_a_transaction_and_begin_again_in_the_next() -> None:
    name, described, header, body = CHANGES[0]
    writer = TableStream(TABLES[name], tablemap.parse_table_map(described), "5" * 16, "t", FACTS)
    first, second = transaction(1), transaction(2)
    first.ordinal, first.counts["other.table"] = 10, 10
    records = [*writer.rows(first, header, body), *writer.rows(first, header, body), *writer.rows(second, header, body)]
    orders = [tuple(value(record)["transaction"].values()) for record in records]
    assert orders == [("uuid:1", 11, 1), ("uuid:1", 12, 2), ("uuid:1", 13, 3), ("uuid:1", 14, 4),
                      ("uuid:2", 1, 1), ("uuid:2", 2, 2)]  # fmt: skip
    assert first.counts == {"other.table": 10, "golden.wide": 4}


def test_an_event_out_of_a_compressed_transaction_stands_where_that_begins() -> None:
    first, *_ = events_of("wide", 10)
    assert (value(first)["source"]["pos"], value(first)["source"]["row"]) == (4, 0)


# -- images that lack columns -----------------------------------------------------------------------------------
def test_a_minimal_update_names_what_it_lacks() -> None:
    (record,) = events_of("wide", 4)
    event = value(record)
    assert event["before"] == {"id": 11, "part": "é", "n": None, "t": None, "b": None}
    placeholder = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
    assert event["after"] == {"id": 11, "part": "é", "n": 4, "t": UNAVAILABLE, "b": placeholder}
    assert (event["unchanged"], event["before_absent"]) == (["t", "b"], ["n", "t", "b"])
    assert record.key == '{"part":"é","id":11}'.encode()


def test_a_minimal_update_that_moves_the_key() -> None:
    gone, _, came = events_of("wide", 5)
    assert value(gone)["before_absent"] == ["n", "t", "b"]
    assert value(gone)["moved_to"] == {"part": "é", "id": 12}
    assert value(came)["unchanged"] == ["n", "t", "b"]
    assert value(came)["after"]["id"] == 12


def test_an_image_without_blobs() -> None:
    event = value(events_of("wide", 8)[0])
    assert (event["unchanged"], event["before_absent"]) == (["t", "b"], ["t", "b"])
    event = value(events_of("wide", 9)[0])
    assert (event["unchanged"], event["after"]["t"]) == (["b"], "changed")


def test_a_minimal_delete() -> None:
    event, _ = events_of("wide", 7)
    assert value(event)["before_absent"] == ["n", "t", "b"]


def test_a_minimal_image_of_a_keyless_table_is_filled_from_before() -> None:
    event = value(events_of("keyless", 2)[0])
    assert "unchanged" not in event
    assert event["after"] == {"x": 1, "y": "c", "z": "Yg=="}


def test_an_insert_that_left_columns_to_their_defaults_is_refused() -> None:
    error = refusal("wide", 6, ROW_IMAGE_PARTIAL)
    assert "an insert of golden.wide at uuid:1 does not carry column n" in str(error)


def test_an_image_that_does_not_tell_its_row_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyless table with a unique index: MINIMAL logs that index alone."""
    monkeypatch.setitem(TABLES, "wide", table("wide", [(c.name, c.type_expression) for c in WIDE.columns], ()))
    assert "an update of golden.wide at uuid:1 does not carry column n" in str(refusal("wide", 4, ROW_IMAGE_PARTIAL))
    assert "a delete" in str(refusal("wide", 7, ROW_IMAGE_PARTIAL))


# -- both ways --------------------------------------------------------------------------------------------------
def test_both_ways_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [at for at, (name, _, header, _) in enumerate(CHANGES) if header.end]
    numbers = [(name, [c[0] for c in CHANGES[:at]].count(name)) for at, (name, *_) in enumerate(CHANGES) if at in whole]
    numbers = [(name, number) for name, number in numbers if (name, number) != ("wide", 6)]
    planned = [events_of(*place) for place in numbers]
    monkeypatch.setattr(TableStream, "_plain", lambda *_: None)
    assert [events_of(*place) for place in numbers] == planned


@pytest.mark.parametrize("recorded", TYPES, ids=lambda r: r.declared)
def test_both_ways_and_a_copy_write_the_same_values(recorded: RecordedType, monkeypatch: pytest.MonkeyPatch) -> None:
    table_map, header, body = recorded.bodies()
    writer = TableStream(recorded.table(), tablemap.parse_table_map(table_map), "5" * 16, "t", FACTS)
    with monkeypatch.context() as only_planned:
        only_planned.delattr(TableStream, "_by_column")
        planned = writer.rows(transaction(), header, body)
    monkeypatch.setattr(TableStream, "_plain", lambda *_: None)
    assert writer.rows(transaction(), header, body) == planned
    copy = transaction(snapshot=True)
    copied = [writer.read(copy, [b"%d" % at, text], "true") for at, text in enumerate(recorded.texts)]
    assert [value(record)["after"] for (record,) in copied] == [value(record)["after"] for record in planned]


# -- copies, TRUNCATE, refusals ---------------------------------------------------------------------------------
def test_a_row_of_a_copy() -> None:
    writer = TableStream(WIDE, None, "5" * 16, "t", FACTS)
    txn = transaction(snapshot=True)
    (record,) = writer.read(txn, [b"1", b'"snapshot":"true"', None, b"", b"00"], "first")
    event = value(record)
    assert (event["op"], event["transaction"], event["source"]["snapshot"]) == ("r", None, "first")
    assert (event["source"]["gtid"], event["source"]["thread"], event["source"]["pos"]) == (None, None, 4)
    assert event["after"] == {"id": 1, "part": '"snapshot":"true"', "n": None, "t": "", "b": "AA=="}
    assert txn.counts == {"golden.wide": 1}
    assert txn.id == "file=binlog.000002,pos=4"


def test_truncate() -> None:
    writer = TableStream(WIDE, None, "5" * 16, "t", FACTS)
    (record,) = writer.truncate(transaction())
    assert record.key is None
    assert (value(record)["op"], value(record)["before"], value(record)["after"]) == ("t", None, None)


def test_a_value_without_a_form_is_refused_by_name() -> None:
    _, described, header, body = CHANGES[0]
    writer = TableStream(WIDE, tablemap.parse_table_map(described), "5" * 16, "t", FACTS)
    with pytest.raises(
        CdcError, match=r"column part of golden.wide at uuid:1 holds a text that no varchar has"
    ) as caught:
        writer.rows(transaction(), header, body.replace("é".encode(), b"\xff\xff"))
    assert caught.value.code is VALUE_UNREPRESENTABLE
    enum = next(recorded for recorded in TYPES if recorded.declared.startswith("enum('a'"))
    table_map, header, body = enum.bodies()
    writer = TableStream(enum.table(), tablemap.parse_table_map(table_map), "5" * 16, "t", FACTS)
    first_label = body.index(b"\0\0\0\0\0\1", 12) + 5
    altered = body[:first_label] + b"\x09" + body[first_label + 1 :]
    with pytest.raises(CdcError, match=r"column v of golden.t at uuid:1 holds label 9 of 4"):
        writer.rows(transaction(), header, altered)
    with pytest.raises(CdcError, match=r"column part of golden.wide .* holds a text"):
        TableStream(WIDE, None, "5" * 16, "t", FACTS).read(transaction(), [b"1", b"\xff", None, None, None], "true")


@pytest.mark.parametrize("at", range(len(CHANGES)))
def test_cut_or_too_long_rows_are_refused(at: int) -> None:
    name, described, header, body = CHANGES[at]
    writer = TableStream(TABLES[name], tablemap.parse_table_map(described), "5" * 16, "t", FACTS)
    for wrong in [body[:8], body[:-1], body + b"\0", body[: len(body) // 2]]:
        with pytest.raises(CdcError) as caught:
            writer.rows(transaction(), header, wrong)
        assert caught.value.code in (CORRUPT_WIRE, ROW_IMAGE_PARTIAL)


def test_other_columns_than_the_shape_has() -> None:
    described = tablemap.parse_table_map(CHANGES[0][1])
    with pytest.raises(ValueError, match="not those of its TABLE_MAP"):
        TableStream(table("wide", [(name, "int") for name in "abcde"], ()), described, "5", "t", FACTS)
