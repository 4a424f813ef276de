"""From the same bytes of the log what a real Debezium wrote: fields, their order, their values but for those named.

The recording is `golden/debezium-3.5.0/mysql_exact.json`. Versions, clocks and our own fields are left out; these stand
behind Debezium's.
"""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from cdc.decoded import Captured, Decoded, NewShapes, Transaction
from cdc.mysql.catalog import HEARTBEATS
from cdc.mysql.decode import Decoder, Surroundings
from cdc.mysql.values import unsigned_json
from cdc.position import GtidSet
from cdc.rowevents import Record, RunFacts
from cdc.shape import SchemaRecord, parse_table

GOLDEN = json.loads((Path(__file__).parents[3] / "golden/debezium-3.5.0/mysql_exact.json").read_text())
TOPIC = "shop.golden.account"
CLOCKS = frozenset({"version", "ts_ms", "ts_us", "ts_ns"})
# In a schema record: what stands in `typeExpression` with us, upper case, SQL types one size smaller, labels in quotes.
THEIR_COLUMN = frozenset({
    "jdbcType", "nativeType", "typeName", "typeExpression", "length", "scale", "generated", "enumValues",
})  # fmt: skip


def decoded() -> list[Decoded]:
    table = parse_table(json.dumps(GOLDEN["shape"]).encode())
    decoder = Decoder(
        RunFacts("shop", "golden", "a" * 16, 1),
        Captured({table.full_name: table}, lambda schema, name: f"shop.{schema}.{name}", "", lambda *_: True),
        Surroundings(frozenset, HEARTBEATS, checksum=True, uncaptured=lambda _: None),
        after=GtidSet.parse(GOLDEN["after"]),
        last_seq=0,
        tokens=frozenset(),
        clock_ns=lambda: 1_700_000_000_000_000_000,
    )
    return [each for event in GOLDEN["events"] for each in decoder.feed(b64decode(event))]


DECODED = decoded()
RECORDS: list[Record] = [record for each in DECODED if isinstance(each, list) for record in each]


def theirs(topic: str) -> list[Any]:
    found = [record for record in GOLDEN["records"] if record["topic"] == topic]
    return [record | {name: json.loads(record[name] or "null") for name in ("key", "value")} for record in found]


def as_ours(row: Any) -> Any:
    """An image or key of Debezium's with our value, where it writes another one."""
    if row is None:
        return None
    row = dict(row)
    if row.get("at_ms"):
        # It leaves out the last zeros of a fraction.
        row["at_ms"] = row["at_ms"].replace(".78Z", ".780Z")
    if row.get("details"):
        # It prints JSON by itself; we write the server's text.
        row["details"] = '{"a": {"t": true}, "b": [1, "x", null, 2.5]}'
    if row.get("amount") == "0.05":
        # It writes null for a time below zero.
        row["lasted"] = "-01:00:00.50"
    return row


def as_our_key(text: str) -> dict[str, Any]:
    """Of a header, where Debezium has the number in digits."""
    key: dict[str, Any] = json.loads(text)
    return key | {"id": json.loads(unsigned_json(key["id"]))}


def test_keys_and_headers() -> None:
    recorded = theirs(TOPIC)
    assert [record.topic for record in RECORDS] == [TOPIC] * len(recorded)
    for ours, their in zip(RECORDS, recorded, strict=True):
        assert json.loads(ours.key or b"null") == as_ours(their["key"])
        assert [(name, json.loads(key)) for name, key in ours.headers or ()] == [
            (name, as_our_key(key)) for name, key in their["headers"]
        ]
        assert (ours.value is None) == (their["value"] is None)


@pytest.mark.parametrize("at", [at for at, record in enumerate(RECORDS) if record.value])
def test_an_event(at: int) -> None:
    value, their = json.loads(RECORDS[at].value or b""), theirs(TOPIC)[at]["value"]
    assert list(value)[: len(their)] == list(their)
    assert value["op"] == their["op"]
    for image in ("before", "after"):
        assert value[image] == as_ours(their[image])
        assert list(value[image] or ()) == list(their[image] or ())
    source = value["source"]
    assert list(source)[: len(their["source"])] == list(their["source"])
    # Of a statement it knows the time to the second or the millisecond.
    clocks = CLOCKS if value["op"] == "t" else frozenset({"version"})
    assert without(their["source"], clocks) == {name: source[name] for name in their["source"] if name not in clocks}
    # It counts no TRUNCATE to its transaction.
    assert value["op"] == "t" or value["transaction"] == their["transaction"]


def test_ends() -> None:
    """Of transactions with rows, but a TRUNCATE, which it counts to none."""
    found = [each for each in DECODED if isinstance(each, Transaction) and each.event_count]
    ends = [record["value"] for record in theirs("shop.transaction") if record["value"]["status"] == "END"]
    assert [(each.id, each.event_count, each.commit_ts_us and each.commit_ts_us // 1000) for each in found[:-1]] == [
        (end["id"], end["event_count"], end["ts_ms"]) for end in ends
    ]
    assert [
        [{"data_collection": name, "event_count": count} for name, count in each.collections] for each in found[:-1]
    ] == [end["data_collections"] for end in ends]


def test_a_schema_record() -> None:
    (new,) = (each for each in DECODED if isinstance(each, NewShapes))
    their = theirs("shop")[-1]["value"]
    schema, table = new.shapes[-1]
    record = SchemaRecord(schema, table, "a" * 16, 1, new.seq, TOPIC, "")
    ours = json.loads(record.to_bytes(source={}, ts_ms=0, database="golden", ddl=new.ddl))
    assert list(ours)[: len(their)] == list(their)
    assert (ours["ddl"], ours["databaseName"]) == (their["ddl"], their["databaseName"])
    change, their_change = ours["tableChanges"][0], their["tableChanges"][0]
    assert (change["type"], change["id"]) == (their_change["type"], their_change["id"])
    their_table = their_change["table"]
    assert list(change["table"])[: len(their_table)] == list(their_table)
    assert change["table"]["primaryKeyColumnNames"] == their_table["primaryKeyColumnNames"]
    for column, their_column in zip(change["table"]["columns"], their_table["columns"], strict=True):
        assert list(column)[: len(their_column)] == list(their_column)
        same = their_column.keys() - THEIR_COLUMN
        assert {name: column[name] for name in same} == {name: their_column[name] for name in same}
        assert column["typeName"] == their_column["typeName"].lower()


def without(fields: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}
