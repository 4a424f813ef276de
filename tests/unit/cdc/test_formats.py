"""One stream of each server, in every format and profile: the same events; Avro byte for byte as fastavro writes it."""

import io
import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import fastavro
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc import avro, connect
from cdc.avro_format import AvroFormat
from cdc.connect import STRING, Schema, as_avro, as_json, optional, to_json
from cdc.decoded import Captured
from cdc.envelope import Carried, Described, Format, as_it_is
from cdc.errors import VALUE_UNREPRESENTABLE, CdcError
from cdc.event import Table, Types
from cdc.json_format import JSON, JsonFormat
from cdc.mysql.catalog import HEARTBEATS
from cdc.mysql.decode import Decoder as MySqlDecoder
from cdc.mysql.decode import Surroundings
from cdc.position import GtidSet, Lsn, PgPosition
from cdc.postgres.decode import Decoder as PgDecoder
from cdc.postgres.values import encode_text
from cdc.rowevents import Record, RunFacts
from cdc.shape import parse_shape, parse_table
from cdc.topics import row_topic
from sinks.across import source_text
from sinks.debezium.schemas import from_avro

GOLDEN = Path(__file__).parents[2] / "golden"
DEBEZIUM = GOLDEN / "debezium-3.5.0"
NOW_NS = 1_700_000_000_000_000_000
MOVED = ("moved_to", "moved_from")


def without_logic(form: Any) -> Any:
    """A decimal as its bytes, which are compared."""
    if isinstance(form, dict):
        return {name: without_logic(value) for name, value in form.items() if name != "logicalType"}
    return [without_logic(inner) for inner in form] if isinstance(form, list) else form


class Registered:
    """What a registry would hold: schemas by id."""

    def __init__(self) -> None:
        self.schemas: dict[int, Any] = {}

    def __call__(self, _topic: str, _part: str, schema: Any) -> int:
        self.schemas[len(self.schemas) + 1] = fastavro.parse_schema(without_logic(schema), named_schemas={})
        return len(self.schemas)


def postgres(form: Format, types: Types) -> tuple[dict[str, Table], list[Record]]:
    written = json.loads((GOLDEN / "pgoutput/postgres-18.shapes.json").read_text())
    shapes = [replace(parse_shape(json.dumps(shape).encode()).table, types=types) for shape in written["shapes"]]
    tables = {table.full_name: table for table in shapes}
    decoder = PgDecoder(
        RunFacts("sh%op", "golden", "a" * 16, 1_000, form),
        Captured(tables, lambda schema, table: row_topic("shop", schema, table), "m", lambda *_: True),
        after=PgPosition(1, Lsn(0)), last_seq=0, tokens=frozenset(), secret=bytes.fromhex(written["secret"]),
        clock_ns=lambda: NOW_NS,
    )  # fmt: skip
    records: list[Record] = []
    for line in (GOLDEN / "pgoutput/postgres-18.jsonl").read_text().splitlines():
        message = json.loads(line)
        decoded = decoder.feed(bytes.fromhex(message["hex"]), message["lsn"])
        records += decoded if isinstance(decoded, list) else getattr(decoded, "records", [])
    return tables, records


def mysql(form: Format, types: Types) -> tuple[dict[str, Table], list[Record]]:
    golden = json.loads((GOLDEN / "debezium-3.5.0/mysql_exact.json").read_text())
    table = replace(parse_table(json.dumps(golden["shape"]).encode()), types=types)
    decoder = MySqlDecoder(
        RunFacts("sh%op", "golden", "a" * 16, 1, form),
        Captured({table.full_name: table}, lambda schema, name: f"shop.{schema}.{name}", "", lambda *_: True),
        Surroundings(frozenset, HEARTBEATS, checksum=True, uncaptured=lambda _: None),
        after=GtidSet.parse(golden["after"]), last_seq=0, tokens=frozenset(), clock_ns=lambda: NOW_NS,
    )  # fmt: skip
    records: list[Record] = []
    try:
        for event in golden["events"]:
            for decoded in decoder.feed(b64decode(event)):
                records += decoded if isinstance(decoded, list) else []
    except CdcError as error:
        # Its last row but one is the largest bigint unsigned.
        if (error.code, types) != (VALUE_UNREPRESENTABLE, "debezium"):
            raise
    return {table.full_name: table}, records


STREAMS = {"postgres": postgres, "mysql": mysql}
of_each_stream = pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
of_each_profile = pytest.mark.parametrize("types", ["exact", "debezium"])
Stream = Callable[[Format, Types], tuple[dict[str, Table], list[Record]]]


def as_plain(value: Any, schema: Any) -> Any:
    """A value that fastavro read, as it stands in JSON."""
    if isinstance(schema, list):
        return None if value is None else as_plain(value, next(branch for branch in schema if branch != "null"))
    if isinstance(schema, dict):
        if schema["type"] == "record":
            return {
                field.get("cdc.name", field["name"]): as_plain(value[field["name"]], field["type"])
                for field in schema["fields"]
            }
        if schema["type"] == "array":
            return [as_plain(item, schema["items"]) for item in value]
        schema = schema["type"]
    if schema == "bytes":
        return b64encode(value).decode()
    if schema in ("float", "double") and value - value:
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return struct.unpack("<f", struct.pack("<f", value))[0] if schema == "float" else value


def resolved(schema: Any, named: dict[str, Any] | None = None) -> Any:
    """The schema with every name replaced by what it names."""
    named = {} if named is None else named
    if isinstance(schema, str):
        return named.get(schema, schema)
    if isinstance(schema, list):
        return [resolved(branch, named) for branch in schema]
    if schema["type"] == "record":
        named[schema["name"]] = schema
        schema["fields"] = [field | {"type": resolved(field["type"], named)} for field in schema["fields"]]
    elif schema["type"] == "array":
        schema["items"] = resolved(schema["items"], named)
    return schema


def read(data: bytes | None, registered: Registered) -> Any:
    """A record through fastavro; writing it again gives the same bytes."""
    if data is None:
        return None
    assert data[0] == 0
    schema = registered.schemas[int.from_bytes(data[1:5], "big")]
    value = fastavro.schemaless_reader(io.BytesIO(data[5:]), schema, None)
    again = io.BytesIO()
    fastavro.schemaless_writer(again, schema, value)
    assert again.getvalue() == data[5:]
    return as_plain(value, resolved(json.loads(json.dumps(schema))))


def singles(value: Any) -> Any:
    """As numbers of 32 bits, where only they can differ: what JSON has is the shortest text of one."""
    if isinstance(value, float):
        return struct.unpack("<f", struct.pack("<f", value))[0] if abs(value) < 1e38 else value
    if isinstance(value, list):
        return [singles(item) for item in value]
    return {name: singles(item) for name, item in value.items()} if isinstance(value, dict) else value


@of_each_profile
@of_each_stream
def test_avro_says_what_json_says(stream: Stream, types: Types) -> None:
    registered = Registered()
    _, plain = stream(JSON, types)
    _, written = stream(AvroFormat(registered), types)
    assert len(written) == len(plain) >= 10
    for ours, json_record in zip(written, plain, strict=True):
        assert (ours.topic, ours.headers) == (json_record.topic, json_record.headers)
        assert singles(read(ours.key, registered)) == singles(orjson.loads(json_record.key or b"null"))
        value, expected = read(ours.value, registered), orjson.loads(json_record.value or b"null")
        if expected is not None and expected["op"] != "m":
            expected = {**dict.fromkeys(("unchanged", "before_absent")), **expected}
            if "moved_to" in value:
                expected = {**dict.fromkeys(MOVED), **expected}
        assert singles(value) == singles(expected)


@of_each_profile
@of_each_stream
def test_a_message_with_its_schema_holds_the_plain_one(stream: Stream, types: Types) -> None:
    _, plain = stream(JSON, types)
    _, written = stream(JsonFormat(with_schema=True), types)
    for ours, expected in zip(written, plain, strict=True):
        for whole, payload in ((ours.key, expected.key), (ours.value, expected.value)):
            if whole is None or payload is None:
                assert whole is payload
                continue
            assert whole.endswith(b',"payload":' + payload + b"}")
            fits(orjson.loads(whole)["schema"], orjson.loads(payload))


def fits(schema: Mapping[str, Any], value: Any) -> None:
    """Whether Connect's JSON converter would read the value under this schema."""
    if value is None:
        assert schema["optional"], schema
        return
    match schema["type"]:
        case "struct":
            members = {field["field"]: field for field in schema["fields"]}
            assert value.keys() <= members.keys()
            for name, field in members.items():
                fits(field, value.get(name))
        case "array":
            for item in value:
                fits(schema["items"], item)
        case "boolean":
            assert isinstance(value, bool)
        case "string":
            assert isinstance(value, str)
        case "bytes":
            b64decode(value, validate=True)
        case "float" | "double":
            assert isinstance(value, int | float) or value in ("NaN", "Infinity", "-Infinity")
        case whole:
            bits = int(whole.removeprefix("int"))
            assert isinstance(value, int)
            assert -(1 << bits - 1) <= value < 1 << bits - 1


@of_each_stream
def test_both_profiles_lead_back_to_the_same_text(stream: Stream) -> None:
    tables, exact = stream(JSON, "exact")
    other, debezium = stream(JSON, "debezium")
    compared = 0
    for first, second in zip(exact, debezium, strict=False):
        one, two = orjson.loads(first.value or b"{}"), orjson.loads(second.value or b"{}")
        name = ".".join(first.topic.split(".")[1:])
        for image in ("before", "after"):
            for column in tables[name].columns if name in tables and one.get(image) else ():
                value = one[image].get(column.name)
                lacking = [*one.get("unchanged", ()), *one.get("before_absent", ())]
                if value is None or column.name in lacking:
                    continue
                text = source_text(tables[name], column)(value)
                assert source_text(other[name], column)(two[image][column.name]) == text
                compared += 1
    assert compared > 20


# -- the rules themselves ---------------------------------------------------------------------------------------
VALUES: dict[str, tuple[Schema, st.SearchStrategy[Any]]] = {
    "int16": (connect.INT16, st.integers(-(2**15), 2**15 - 1)),
    "int32": (connect.INT32, st.integers(-(2**31), 2**31 - 1)),
    "int64": (connect.INT64, st.integers(-(2**63), 2**63 - 1)),
    "float": (connect.FLOAT, st.floats(width=32, allow_nan=False)),
    "double": (connect.DOUBLE, st.floats(allow_nan=False)),
    "boolean": (connect.BOOLEAN, st.booleans()),
    "string": (connect.STRING, st.text(st.characters(exclude_categories=["Cs"]), max_size=300)),
    "bytes": (connect.BYTES, st.binary(max_size=300)),
    "array": (connect.array(optional(connect.INT64)), st.lists(st.one_of(st.none(), st.integers(-9, 9)))),
}


@pytest.mark.parametrize(("schema", "values"), VALUES.values(), ids=VALUES)
@given(data=st.data())
def test_a_value_is_written_as_fastavro_does(
    schema: Schema, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    for form in (schema, optional(schema)):
        value = data.draw(st.one_of(st.none(), values) if form.optional else values)
        expected = io.BytesIO()
        fastavro.schemaless_writer(expected, fastavro.parse_schema(as_avro(form)), value)
        given_value = value.encode() if isinstance(value, str) else value
        assert avro.writer(form)(given_value) == expected.getvalue()
        if isinstance(value, float) and value - value:
            continue
        written = orjson.loads(to_json(form)(given_value))
        assert written == (b64encode(value).decode() if isinstance(value, bytes) else value)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_single_is_rounded_once(value: float) -> None:
    """Between two neighbours: what lies beyond the middle by however little goes to the farther one."""
    above = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", abs(value)))[0] + 1))[0]
    if above - above:
        return
    assert connect.single(str(abs(value))) == abs(value)
    with localcontext() as exact:
        exact.prec = 250
        middle = (Decimal(abs(value)) + Decimal(above)) / 2
        least = Decimal("1e-200")
        assert connect.single(f"{middle + least:f}") == above
        assert connect.single(f"-{middle - least:f}".replace("--", "-")) == -abs(value)


def test_a_single_of_postgres_own_tests() -> None:
    assert struct.pack(">f", connect.single(b"7.038531e-26")).hex() == "15ae43fd"
    assert connect.single("1e39") == float("inf")


def test_what_has_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bits"):
        avro.integer(2**31)
    with pytest.raises(ValueError, match="64 bits"):
        avro.long(2**63)


def test_names_are_adjusted_as_debezium_does() -> None:
    assert connect.avro_full_name("shop-eu.public.Odd name-é") == "shop_eu.public.Odd_name__"
    assert connect.avro_name("1a") == "_1a"
    schema = connect.struct("a.b.Value", ("1a", connect.STRING), ("ok", connect.STRING))
    fields = as_avro(schema)["fields"]
    assert [(field["name"], field.get("cdc.name")) for field in fields] == [("_1a", "1a"), ("ok", None)]
    assert as_json(schema)["fields"][0]["field"] == "1a"
    assert as_avro(schema, own_names=False)["fields"][0] == {"name": "_1a", "type": "string"}


@pytest.mark.parametrize("recording", ["postgres_exact", "postgres_debezium", "mysql_exact", "mysql_debezium"])
def test_a_type_is_told_as_connects_converter_does(recording: str) -> None:
    """Of each column of a real Debezium: its properties in their order, but for the default."""
    told: dict[str, None] = {}

    def look(form: Any) -> None:
        named = isinstance(form, dict) and isinstance(form.get("type"), str) and "connect.name" in form
        if named and form["type"] not in ("record", "array"):
            told[json.dumps({name: value for name, value in form.items() if name != "connect.default"})] = None
        for inner in form.values() if isinstance(form, dict) else form if isinstance(form, list) else ():
            look(inner)

    for subject in json.loads((DEBEZIUM / f"{recording}_avro.json").read_text())["subjects"]:
        look(json.loads(subject["schema"]))
    assert len(told) > 5
    for theirs in told:
        form = json.loads(theirs)
        ours = as_avro(replace(from_avro(form), version=form["connect.version"]))
        assert json.dumps(ours) == theirs


def test_a_key_s_schema_is_connects_own() -> None:
    """Its id stands in each key: a property of ours would move keys that a connector wrote to other partitions."""
    registered: dict[str, Any] = {}

    def register(_topic: str, part: str, schema: Any) -> int:
        registered[part] = schema
        return 7

    column = Carried("i d", connect.STRING, json=as_it_is, native=as_it_is)
    described = Described(
        name="shop.public.odd", full_name="public.odd", schema_id="1", topic="shop.public.odd", columns=(column,),
        key_at=(0,), source_name="s", source=lambda _: (),
    )  # fmt: skip
    AvroFormat(register).table(described)
    assert json.dumps(registered["key"]) == (
        '{"type": "record", "name": "Key", "namespace": "shop.public.odd", '
        '"fields": [{"name": "i_d", "type": "string"}], "connect.name": "shop.public.odd.Key"}'
    )
    assert '"cdc.name": "i d"' in json.dumps(registered["value"])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("plain é €", '{"id":"plain é €"}'),
        ("h😀", '{"id":"h\\uD83D\\uDE00"}'),
        ("\x1f\n\u00ad", '{"id":"\\u001F\\n\u00ad"}'),
        ("\\u001f \\😀", '{"id":"\\\\u001f \\\\\\uD83D\\uDE00"}'),
    ],
)
def test_a_key_in_json_is_the_connector_s_to_the_byte(text: str, key: str) -> None:
    """Its bytes give the partition. So Jackson writes them, as recorded in golden/debezium-3.5.0."""
    column = Carried("id", STRING, encode_text, as_it_is)
    described = Described("n", "public.t", "s", "t", (column,), (0,), "Source", lambda _: ())
    form = JSON.table(described)
    assert form.key_of(form.key)([text.encode()]).decode() == key
    assert json.loads(key) == {"id": text}
