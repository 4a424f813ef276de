"""A value's text becomes the JSON that a real Debezium wrote for it, and comes back as the same text."""

import json
import struct
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.postgres.values import UnrepresentableError, encoder, split_array, to_text
from cdc.types import TYPES

GOLDEN = Path(__file__).parents[3] / "golden/debezium-3.5.0"
NAMES = {"char": "bpchar", "bool": "bool", "mood": "enum"}

# Where Debezium alters a value (README of the golden folder), we write the server's text, or its value.
OURS = {
    ("date", "0001-12-31 BC"): "0001-12-31 BC",
    ("date", "4713-01-01 BC"): "4713-01-01 BC",
    ("date", "infinity"): "infinity",
    ("date", "-infinity"): "-infinity",
    ("time", "24:00:00"): "24:00:00",
    ("timestamp", "0001-12-31 23:59:59 BC"): "0001-12-31 23:59:59 BC",
    ("timestamp", "4713-01-01 00:00:00 BC"): "4713-01-01 00:00:00 BC",
    ("timestamp", "infinity"): "infinity",
    ("timestamp", "-infinity"): "-infinity",
    ("timestamptz", "0001-12-31 23:59:59+00 BC"): "0001-12-31 23:59:59+00 BC",
    ("timestamptz", "4713-01-01 00:00:00+00 BC"): "4713-01-01 00:00:00+00 BC",
    ("numeric", "12300"): "12300",
    ("numeric", "0"): "0",
    ("numeric[]", "{NaN}"): ["NAN"],
    ("numeric[]", "{Infinity}"): ["POSITIVE_INFINITY"],
    ("date[]", "{infinity}"): ["infinity"],
    ("date[]", '{"0001-12-31 BC"}'): ["0001-12-31 BC"],
    ("time[]", "{12:34:56.789012,NULL,00:00:00}"): ["12:34:56.789012Z", None, "00:00:00Z"],
    ("time[]", "{24:00:00}"): ["24:00:00"],
    ("timestamp[]", "{infinity}"): ["infinity"],
    ("timestamp[]", '{"0001-12-31 23:59:59 BC"}'): ["0001-12-31 23:59:59 BC"],
    ("timestamptz[]", '{"0001-12-31 23:59:59+00 BC"}'): ["0001-12-31 23:59:59+00 BC"],
}


def type_of(declared: str) -> tuple[str, int]:
    """`timestamptz(3)[]` as a row of the type table and a modifier."""
    base, bracket, rest = declared.removesuffix("[]").partition("(")
    array = "[]" if declared.endswith("[]") else ""
    modifier = int(rest.rstrip(")").split(",")[0]) if bracket and base.startswith("timestamptz") else -1
    return NAMES.get(base, base) + array, modifier


def golden() -> list[tuple[str, int, str, object]]:
    """(type, modifier, server's text, Debezium's value) of every streamed value of a type that is carried."""
    written = {}
    for line in (GOLDEN / "postgres_exact.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["topic"].startswith("shop.public.v_") and record["value"]:
            after = orjson.loads(record["value"])["after"]
            if after and after["id"] > 100 and "v" in after:
                written[record["topic"].rpartition(".")[2], after["id"] - 100] = after["v"]
    cases = []
    for line in (GOLDEN / "postgres_exact_text.jsonl").read_text().splitlines():
        row = json.loads(line)
        name, modifier = type_of(row["type"])
        known = (row["table"], row["id"]) in written
        # A cast to text spells booleans out; the output function, which the log uses, does not.
        text = {"true": "t", "false": "f"}.get(row["text"], row["text"]) if name == "bool" else row["text"]
        if text is not None and known and name.removesuffix("[]") in TYPES["postgresql"]:
            cases.append((name, modifier, text, written[row["table"], row["id"]]))
    return cases


CASES = golden()


def test_the_golden_values_cover_the_type_table() -> None:
    assert {name.removesuffix("[]") for name, *_ in CASES} >= set(TYPES["postgresql"])
    assert len(CASES) > 150


@pytest.mark.parametrize(("name", "modifier", "text", "debezium"), CASES)
def test_a_value_is_written_as_debezium_writes_it(name: str, modifier: int, text: str, debezium: object) -> None:
    if name == "int4[]" and text.startswith(("{{", "[")):
        with pytest.raises(UnrepresentableError):
            encoder(name)(text.encode())
        return
    if name == "bpchar" and "(" not in text and isinstance(debezium, str):
        text = debezium  # the recording trimmed what the server pads
    ours = orjson.loads(encoder(name, modifier)(text.encode()))
    if name == "float4" and isinstance(debezium, float) and isinstance(ours, float):
        # Java writes the shortest double text in places; as the column's type it is the same number.
        assert struct.pack("f", ours) == struct.pack("f", debezium)
        return
    assert ours == OURS.get((name, text), debezium)
    assert type(ours) is type(OURS.get((name, text), debezium)) or isinstance(ours, int | float)


@pytest.mark.parametrize(("name", "modifier", "text"), [case[:3] for case in CASES])
def test_the_way_back_ends_at_the_same_json(name: str, modifier: int, text: str) -> None:
    if name == "int4[]" and text.startswith(("{{", "[")):
        return
    encode = encoder(name, modifier)
    json_value = orjson.loads(encode(text.encode()))
    assert orjson.loads(encode(to_text(name)(json_value).encode())) == json_value


def test_minus_zero_stays_a_float() -> None:
    assert encoder("float8")(b"-0") == b"-0.0"
    assert str(orjson.loads(b"-0.0")) == "-0.0"


@pytest.mark.parametrize(
    ("literal", "elements"),
    [
        (b"{}", []),
        (b"{1,NULL,2}", [b"1", None, b"2"]),
        (b'{"NULL",NULL}', [b"NULL", None]),
        (b'{"a,b","c\\"d","e\\\\f"," "}', [b"a,b", b'c"d', b"e\\f", b" "]),
        (b'{"{}",x}', [b"{}", b"x"]),
        (b'{""}', [b""]),
    ],
)
def test_arrays_are_split_as_the_server_quotes_them(literal: bytes, elements: list[bytes | None]) -> None:
    assert split_array(literal) == elements


@pytest.mark.parametrize("literal", [b"{{1,2},{3,4}}", b"[0:1]={1,2}", b'{{"a","b"}}'])
def test_other_arrays_are_refused(literal: bytes) -> None:
    with pytest.raises(UnrepresentableError):
        encoder("text[]")(literal)


@given(st.lists(st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=5))
def test_any_text_array_comes_back(values: list[str | None]) -> None:
    literal = to_text("text[]")(values)
    assert orjson.loads(encoder("text[]")(literal.encode())) == values
