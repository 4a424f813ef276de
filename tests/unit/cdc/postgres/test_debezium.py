"""What a real Debezium 3.5.0 wrote, with its schemas, in both profiles: our schemas and values are the same.

The recordings are `golden/debezium-3.5.0/postgres_{exact,debezium}_schema.json`. In its tables `nulls` and `required`
stand a column for each type and a row for each value; `ALTERED` are the values that Debezium alters, where ours is
another.
"""

import json
import struct
import tomllib
from base64 import b64decode
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cdc.connect import Schema, as_json, to_json
from cdc.envelope import Carried, Described, envelope_schema, key_schema
from cdc.event import Column, Types
from cdc.postgres.carried import encode
from cdc.postgres.events import source_places
from cdc.postgres.values import UnrepresentableError
from cdc.rowevents import RunFacts
from cdc.types import TYPES

GOLDEN = Path(__file__).parents[3] / "golden/debezium-3.5.0"
NAMES = {"char": "bpchar", "mood": "enum"}
DECLARED = tomllib.loads((GOLDEN / "values.toml").read_text())["types"]
TEXTS = {
    (row["type"], row["id"]): row["text"]
    for row in map(json.loads, (GOLDEN / "postgres_exact_text.jsonl").read_text().splitlines())
}
ALTERED: dict[Types, dict[str, set[str]]] = {
    "exact": {
        "date": {"0001-12-31 BC", "4713-01-01 BC", "infinity", "-infinity"},
        "time": {"24:00:00"},
        "timestamp": {"0001-12-31 23:59:59 BC", "4713-01-01 00:00:00 BC", "infinity", "-infinity"},
        "timestamptz": {"0001-12-31 23:59:59+00 BC", "4713-01-01 00:00:00+00 BC"},
    },
    "debezium": {"timestamptz": {"0001-12-31 23:59:59+00 BC", "4713-01-01 00:00:00+00 BC"}},
}
REFUSED = {
    "numeric": {"NaN", "Infinity", "-Infinity"},
    "numeric(10,2)": {"NaN"},
    "date": {"infinity", "-infinity"},
    "timestamp": {"294276-12-31 23:59:59.999999", "infinity", "-infinity"},
}
"""By `types = "debezium"`, where Debezium writes null or another moment."""
OURS = {"run", "epoch", "txn_seq", "ordinal", "schema_id", "commit_lsn", "commit_ts_us"}
OUR_FIELDS = {"unchanged", "before_absent", "moved_to", "moved_from"}


def carried_types() -> list[str]:
    bases = {name: name.removesuffix("[]").partition("(")[0] for name in DECLARED}
    # Of numeric(3,-2) Debezium takes the scale for 2046.
    return [n for n, base in bases.items() if NAMES.get(base, base) in TYPES["postgresql"] and n != "numeric(3,-2)"]


def column(declared: str, *, not_null: bool = False) -> Column:
    base, _, rest = declared.removesuffix("[]").partition("(")
    name, modifier = NAMES.get(base, base), -1
    if rest:
        numbers = [*map(int, rest.rstrip(")").split(",")), 0]
        modifier = (numbers[0] << 16 | numbers[1] & 0x7FF) + 4 if name == "numeric" else numbers[0]
    labels = ("sad", 'so "so"', "") if name == "enum" else None
    array = "[]" if declared.endswith("[]") else ""
    return Column("v", name + array, declared, 0, modifier, 1, not_null, enum_values=labels)


def field_of(declared: str) -> str:
    return "v_" + declared.translate(str.maketrans("(,", "__", ")")).replace("[]", "_array")


@cache
def recorded(types: Types, table: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Schema of its values, and the values."""
    golden = json.loads((GOLDEN / f"postgres_{types}_schema.json").read_text())
    records = [r["value"] for r in golden["records"] if r["topic"] == f"{types}.public.{table}" and r["value"]]
    return json.loads(golden["schemas"][records[0][0]]), [json.loads(text) for _, text in records]


of_each_profile = pytest.mark.parametrize("types", ["exact", "debezium"])
of_each_type = pytest.mark.parametrize("declared", carried_types())


def without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in names}


@of_each_profile
@of_each_type
def test_the_schema_of_a_type(declared: str, types: Types) -> None:
    for table, not_null in (("nulls", False), ("required", True)):
        envelope, _ = recorded(types, table)
        theirs = next(f for f in envelope["fields"][1]["fields"] if f["field"] == field_of(declared))
        ours = as_json(encode(column(declared, not_null=not_null), types, keyed=False).schema)
        if not_null and (declared.endswith("[]") or (types == "debezium" and declared.startswith("numeric"))):
            # Not carried by the log, such a value is null, though its column is NOT NULL.
            theirs |= {"optional": ours["optional"]}
        if declared == "mood[]":
            # Theirs lose the array if a label in it is NULL.
            theirs |= {"items": theirs["items"] | {"optional": True}}
        assert ours == without(theirs, "field", "doc")


@of_each_profile
@of_each_type
def test_a_value(declared: str, types: Types) -> None:
    carried, compared = encode(column(declared), types, keyed=False), 0
    altered = ALTERED[types].get(declared, set())
    for event in recorded(types, "nulls")[1]:
        number = (event["after"] or {}).get("id", 0) - 300
        text = TEXTS.get((declared, number))
        if number < 1 or text is None or text in altered or declared in ("char(5)", "bpchar"):
            continue  # the texts of char were recorded without the blanks at their end
        text = {"true": "t", "false": "f"}.get(text, text) if declared == "bool" else text
        if types == "debezium" and text in REFUSED.get(declared, ()):
            with pytest.raises(UnrepresentableError):
                carried.json(text.encode())
            continue
        theirs = event["after"][field_of(declared)]
        if theirs is None and declared.endswith("[]"):
            continue  # an array that Debezium loses (README of the golden folder)
        assert by_value(json.loads(carried.json(text.encode())), carried.schema) == by_value(theirs, carried.schema)
        compared += 1
    assert compared or declared in ("char(5)", "bpchar") or declared.endswith("[]")


def by_value(value: Any, schema: Schema) -> Any:
    """Debezium cuts the zeros off a decimal that has no scale of its own; 1.4e-45 and 1e-45 are one float."""
    if isinstance(value, dict):
        return Decimal(int.from_bytes(b64decode(value["value"]), "big", signed=True)).scaleb(-value["scale"])
    if schema.type == "float" and isinstance(value, int | float):
        return struct.pack("f", value)
    return [by_value(item, schema.items) for item in value] if schema.items and isinstance(value, list) else value


@of_each_profile
@of_each_type
def test_what_stands_in_a_before_that_lacks_a_column(declared: str, types: Types) -> None:
    deleted = recorded(types, "required")[1][-1]
    assert deleted["op"] == "d"
    carried = encode(column(declared, not_null=True), types, keyed=False)
    assert json.loads(to_json(carried.schema)(carried.invented)) == deleted["before"][field_of(declared)]


@of_each_profile
def test_envelope_and_source(types: Types) -> None:
    envelope, events = recorded(types, "nulls")
    facts = RunFacts(types, "shop", "a" * 16, 1)
    carried = Carried("id", Schema("int32"), bytes, int)
    table = Described(
        f"{types}.public.nulls", "public.nulls", "5" * 16, "t", (carried,), (0,),
        "io.debezium.connector.postgresql.Source",
        lambda snapshot: source_places(facts, snapshot, "public", "nulls", "5" * 16),
    )  # fmt: skip
    ours = as_json(envelope_schema(table))
    assert without(ours, "fields") == without(envelope, "fields")
    mine = {field["field"]: field for field in ours["fields"]}
    assert [name for name in mine if name not in OUR_FIELDS] == [field["field"] for field in envelope["fields"]]
    for their in envelope["fields"]:
        our = mine[their["field"]]
        kept = [field for field in our.get("fields", ()) if field["field"] not in OURS]
        if their["field"] in ("before", "after"):
            assert without(our, "fields") == without(their, "fields")
        else:
            assert without(our, "fields") == without(their, "fields")
            assert kept == their.get("fields", [])
    assert list(events[0]) == [name for name in mine if name not in OUR_FIELDS]
    assert without(as_json(key_schema(table)), "fields") == {
        "type": "struct", "optional": False, "name": f"{types}.public.nulls.Key"
    }  # fmt: skip
