"""Whole transactions out of a connector's records, in whatever order they come, and however often."""

import json
from typing import Any

import pytest

from cdc.errors import DEBEZIUM_ENDED, DEBEZIUM_INCOMPLETE, DEBEZIUM_RECORD, CdcError
from sinks.debezium.assemble import Assembler, Past, offsets_of, past_of
from sinks.debezium.rows import Incoming
from sinks.debezium.shapes import Shapes, shape_id
from sinks.decode import Decoder
from sinks.transaction import ChangeTransaction, Progress

T, U = ("shop.public.t", 0), ("shop.public.u", 0)


def value_schema(columns: dict[str, str]) -> dict[str, Any]:
    fields = [{"field": name, "type": type_, "optional": True} for name, type_ in columns.items()]
    image = {"type": "struct", "fields": fields, "optional": True}
    return {"type": "struct", "fields": [{**image, "field": "before"}, {**image, "field": "after"}]}


def row(
    op: str, id_: int, transaction: str | None = None, order: int = 1, *, table: str = "t", v: str | None = "x",
    columns: dict[str, str] | None = None, **more: Any,
) -> tuple[bytes, bytes]:  # fmt: skip
    """Key and value, Connect's JSON."""
    source = {
        "name": "shop", "connector": "postgresql", "schema": "public", "table": table, "db": "d", "ts_ms": 5,
        "lsn": int(transaction.partition(":")[2]) if transaction else 0,
    }  # fmt: skip
    payload = {
        "before": None, "after": None if op in "dt" else {"id": id_, "v": v, **more}, "source": source, "op": op,
        "transaction": transaction and {"id": transaction, "total_order": order, "data_collection_order": 1},
    }  # fmt: skip
    text = {"schema": value_schema(columns or {"id": "int32", "v": "string"}), "payload": payload}
    key = {"schema": {"type": "struct"}, "payload": {"id": id_}}
    return tuple(json.dumps(one, separators=(",", ":")).encode() for one in (key, text))  # type: ignore[return-value]


def end(id_: str, **counts: int) -> bytes:
    collections = [{"data_collection": f"public.{table}", "event_count": n} for table, n in counts.items()]
    total = sum(counts.values())
    return json.dumps(
        {"status": "END", "id": id_, "event_count": total, "data_collections": collections, "ts_ms": 7}
    ).encode()


def begin(id_: str) -> bytes:
    return json.dumps({"status": "BEGIN", "id": id_}).encode()


class Feeder:
    """An assembler and the next offsets of its partitions."""

    def __init__(self, after: Progress | None = None, past: Past | None = None, partitions: int = 1) -> None:
        self.shapes = Shapes({}, lambda _schema, _name: None)
        self.assembler = Assembler("shop", Decoder(), self.shapes, after, past)
        self.at = {T: 0, U: 0}
        for partition in self.at:
            self.assembler.assigned(partition, 0, partitions)
        self.logged = self.clock = 0

    def rows(self, *given: tuple[bytes, bytes | None], into: tuple[str, int] = T) -> None:
        for key, value in given:
            self.assembler.row(into, Incoming(self.at[into], key, value, self.clock))
            self.at[into] += 1

    def log(self, *values: bytes) -> None:
        for value in values:
            self.assembler.log(Incoming(self.logged, None, value, self.clock))
            self.logged += 1

    def all(self) -> list[ChangeTransaction]:
        found = []
        while (transaction := self.assembler.next()) is not None:
            found.append(transaction)
        return found


def told(transaction: ChangeTransaction) -> list[tuple[str, str, Any]]:
    return [(event.table, event.op, (event.after or event.before or {}).get("id")) for event in transaction.events]


def test_a_transaction_is_whole_when_all_that_its_end_counts_is_there() -> None:
    feeder = Feeder()
    feeder.log(begin("9:1"), end("9:99", t=2, u=1))
    feeder.rows(row("c", 1, "9:10"), row("u", 1, "9:30", 3))
    assert feeder.all() == []
    assert feeder.assembler.awaited() == ("9:99", 2, 3)
    feeder.rows(row("c", 7, "9:20", 2, table="u"), into=U)
    (transaction,) = feeder.all()
    assert told(transaction) == [("public.t", "c", "1"), ("public.u", "c", "7"), ("public.t", "u", "1")]
    assert [(change.at, change.table, change.effect) for change in transaction.changes] == [
        (0, "public.t", "copying"), (1, "public.u", "copying"),
    ]  # fmt: skip
    progress = feeder.assembler.progress
    assert progress
    assert (progress.txn_seq, progress.log_offset, progress.commit_ts_us) == (1, 1, 7000)
    assert offsets_of(progress) == {T: 2, U: 1}


def test_transactions_come_in_the_order_of_their_ends_and_progress_keeps_what_waits() -> None:
    feeder = Feeder()
    feeder.rows(row("c", 2, "2:1"), row("c", 1, "1:1"))
    feeder.log(end("1:9", t=1))
    (first,) = feeder.all()
    assert told(first) == [("public.t", "c", "1")]
    assert offsets_of(feeder.assembler.progress or pytest.fail("no progress")) == {T: 0, U: 0}
    feeder.log(end("2:9", t=1))
    (second,) = feeder.all()
    assert (told(second), second.txn_seq) == ([("public.t", "c", "2")], 2)


def test_what_was_handed_on_and_comes_again_is_passed_over() -> None:
    feeder = Feeder(past=Past({"1": None}))
    feeder.rows(row("c", 1, "1:1"), row("c", 2, "2:1"), row("c", 2, "2:1"))
    feeder.log(end("1:9", t=1), end("2:9", t=1), end("2:9", t=1))
    feeder.rows(row("c", 2, "2:1"), row("c", 3, "3:1"))
    feeder.log(end("3:9", t=1))
    assert [told(transaction) for transaction in feeder.all()] == [[("public.t", "c", "2")], [("public.t", "c", "3")]]
    assert feeder.assembler.repeated == 5
    assert offsets_of(feeder.assembler.progress or pytest.fail("no progress"))[T] == 5
    records = [Incoming(0, None, value, 3) for value in (end("4:1"), None, begin("5:1"), begin("4:1"), end("4:2"))]
    assert past_of(records, Decoder(), "log") == Past({"4": None}, {"5": [3]})


def test_a_transaction_that_the_connector_began_again_in_its_middle() -> None:
    feeder = Feeder()
    feeder.log(begin("1:5"))
    feeder.rows(row("u", 1, "1:10"), row("u", 2, "1:20", 2), row("u", 3, "1:30", 3))
    feeder.clock = 1000
    feeder.log(begin("1:5"), end("1:99", t=2))
    assert feeder.all() == []
    feeder.rows(row("u", 3, "1:30"), row("u", 4, "1:40", 2))
    assert feeder.all() == []
    assert feeder.assembler.resumed == "1:99"
    feeder.assembler.read_to_the_end("1:99")
    (transaction,) = feeder.all()
    assert [event[2] for event in told(transaction)] == ["1", "2", "3", "4"]


def test_rows_of_a_snapshot_come_where_they_stand() -> None:
    feeder = Feeder()
    feeder.rows(row("r", 1), row("r", 2), row("u", 1, "1:1"), row("r", 3))
    (copied,) = feeder.all()
    assert (copied.kind, told(copied)) == ("snapshot", [("public.t", "r", "1"), ("public.t", "r", "2")])
    feeder.log(end("1:9", t=1))
    assert [told(transaction) for transaction in feeder.all()] == [[("public.t", "u", "1")], [("public.t", "r", "3")]]


def test_columns_come_and_are_never_dropped() -> None:
    feeder = Feeder()
    wider = {"id": "int32", "v": "string", "n": "int64"}
    feeder.rows(row("r", 1), row("c", 2, "1:1", columns=wider, n=5), row("u", 2, "1:1", 2), row("c", 3, "1:1", 3))
    feeder.log(end("1:9", t=3))
    _, transaction = feeder.all()
    assert [(change.at, change.effect) for change in transaction.changes] == [(0, "add_column")]
    inserted, updated, earlier = transaction.events
    assert inserted.after == {"id": "2", "v": "x", "n": "5"}
    assert updated.unchanged == ("n",)
    assert earlier.after == {"id": "3", "v": "x", "n": None}
    table = feeder.shapes.by_id[inserted.schema_id]
    assert [(column.name, column.type_expression) for column in table.columns] == [
        ("id", "integer"), ("v", "text"), ("n", "bigint"),
    ]  # fmt: skip
    assert shape_id(table) == inserted.schema_id


def test_a_row_under_another_key_keeps_what_was_not_sent() -> None:
    feeder = Feeder()
    lost = "__debezium_unavailable_value"
    feeder.rows(
        row("r", 1), row("d", 1, "1:1"), row("c", 2, "1:1", 2, v=lost), row("d", 2, "1:1", 3), row("c", 3, "1:1", 4)
    )
    feeder.log(end("1:9", t=4))
    _, transaction = feeder.all()
    gone, moved, deleted, inserted = transaction.events
    assert (gone.moved_to, moved.moved_from, moved.unchanged) == ({"id": "2"}, {"id": "1"}, ("v",))
    assert (deleted.moved_to, inserted.moved_from) == (None, None)


def test_an_insert_that_moves_no_key_is_taken_at_its_word() -> None:
    feeder, text = Feeder(), "__debezium_unavailable_value"
    feeder.rows(row("r", 9, v=text), row("c", 1, "1:1", v=text), row("u", 2, "1:1", 2, v=text))
    feeder.log(end("1:9", t=2))
    copied, transaction = feeder.all()
    inserted, updated = transaction.events
    for event in (*copied.events, inserted):
        assert (event.after and event.after["v"], event.unchanged) == (text, ())
    assert (updated.after and updated.after["v"], updated.unchanged) == (None, ("v",))


def test_an_insert_whose_header_tells_of_another_key_is_not() -> None:
    feeder = Feeder()
    key, value = row("c", 2, "1:1", v="__debezium_unavailable_value")
    feeder.assembler.row(T, Incoming(0, key, value, 1, moved=True))
    feeder.log(end("1:9", t=1))
    (transaction,) = feeder.all()
    (moved,) = transaction.events
    assert (moved.after and moved.after["v"], moved.unchanged) == (None, ("v",))


def test_messages_are_not_counted_and_other_connectors_rows_are_not_ours() -> None:
    feeder = Feeder()
    key, value = row("c", 1, "1:1")
    feeder.rows((key, value.replace(b'"name":"shop"', b'"name":"shop.eu"')), (key, None), row("c", 2, "1:1"))
    record = json.loads(end("1:9", t=1))
    record["data_collections"].append({"data_collection": "io.debezium.x$LogicalDecodingMessageId@1", "event_count": 1})
    feeder.log(json.dumps(record).encode())
    assert [told(transaction) for transaction in feeder.all()] == [[("public.t", "c", "2")]]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ((b'{"id":1}', json.dumps(json.loads(row("c", 1, "1:1")[1])["payload"]).encode()), "schemas.enable=true"),
        (row("c", 1), "provide.transaction.metadata=true"),
        ((None, row("c", 1, "1:1")[1]), "message.key.columns"),
        (row("c", 1, "1:1", columns={"id": "int32", "v": "map"}), "column v of public.t|'map'"),
        (row("t", 1), "skipped.operations"),
        ((b"\1", b"\1"), "neither JSON nor Avro"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(given: tuple[bytes | None, bytes], problem: str) -> None:
    feeder = Feeder(partitions=3)
    with pytest.raises(CdcError, match=problem) as refused:
        feeder.rows(given)  # type: ignore[arg-type]
    assert refused.value.code is DEBEZIUM_RECORD


def test_more_rows_than_are_counted_and_a_log_that_is_ours_now() -> None:
    feeder = Feeder()
    feeder.rows(row("c", 1, "1:1"), row("c", 2, "1:1", 2))
    feeder.log(end("1:9", t=1))
    with pytest.raises(CdcError) as refused:
        feeder.all()
    assert refused.value.code is DEBEZIUM_INCOMPLETE
    with pytest.raises(CdcError) as refused:
        feeder.log(b'{"status":"START","id":"start:1"}')
    assert refused.value.code is DEBEZIUM_ENDED
    with pytest.raises(CdcError, match="unknown status"):
        feeder.log(b'{"status":"MIDDLE","id":"1"}')
