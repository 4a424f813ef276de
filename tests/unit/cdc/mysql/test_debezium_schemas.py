"""What a real Debezium 3.5.0 wrote for each type, with its schema, in both profiles: ours is the same.

The recordings are `golden/debezium-3.5.0/mysql_{exact,debezium}_schema.json`; the texts are those that a server
gave for the same literals (`golden/mysql`). `ALTERED`: types of which Debezium alters or loses values; of the
rest every value is compared.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cdc.connect import as_json
from cdc.event import Types
from cdc.mysql.carried import encode
from tests.golden.mysql.recorded import TYPES, RecordedType

GOLDEN = Path(__file__).parents[3] / "golden/debezium-3.5.0"
ALTERED = {
    "exact": {
        "float", "float(7,3)", "year", "date", "datetime", "datetime(1)", "datetime(3)", "datetime(6)", "timestamp",
        "timestamp(1)", "timestamp(6)", "time", *(f"time({digits})" for digits in range(1, 7)), "json",
    },
    "debezium": {
        "bigint unsigned", "float", "float(7,3)", "year", "date", "datetime", "datetime(1)", "datetime(6)", "timestamp",
        "timestamp(1)", "timestamp(6)", "json",
    },
}  # fmt: skip
LABELS_ALTERED = {"enum('a','b''\"','é𝄞','')", "enum('aé','𝄞') character set utf16"}
"""Characters beyond the BMP are `?` in them."""


@cache
def recorded(types: Types) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Fields of a row's schema by name, and the rows that the log brought."""
    golden = json.loads((GOLDEN / f"mysql_{types}_schema.json").read_text())
    records = [r["value"] for r in golden["records"] if r["topic"] == f"{types}.golden.types" and r["value"]]
    fields = json.loads(golden["schemas"][records[0][0]])["fields"][1]["fields"]
    rows = [json.loads(text)["after"] for _, text in records]
    return {field.pop("field"): field for field in fields}, [row for row in rows if row["id"] > 100]


def field_of(declared: str) -> str:
    return "v_" + re.sub(r"[^A-Za-z0-9]+", "_", declared).strip("_")


of_each_profile = pytest.mark.parametrize("types", ["exact", "debezium"])
of_each_type = pytest.mark.parametrize("recorded_type", TYPES, ids=lambda r: r.declared)


@of_each_profile
@of_each_type
def test_the_schema_of_a_type(recorded_type: RecordedType, types: Types) -> None:
    theirs = recorded(types)[0].get(field_of(recorded_type.declared))
    ours = as_json(encode(recorded_type.column, types).schema)
    if theirs is None:
        # Two types whose names would be one field: the recording has the first.
        assert recorded_type.declared.startswith(("enum", "set")), recorded_type.declared
        return
    if recorded_type.declared == "float(7,3)":
        theirs = theirs | {"type": "float"}  # they widen it, and so its digits
    if recorded_type.declared in LABELS_ALTERED:
        theirs = theirs | {"parameters": ours["parameters"]}
    assert ours == theirs


@of_each_profile
@of_each_type
def test_its_values(recorded_type: RecordedType, types: Types) -> None:
    declared, carried = recorded_type.declared, encode(recorded_type.column, types)
    if declared in ALTERED[types] or declared in LABELS_ALTERED or "latin1" in declared:
        return  # of latin1 they lose five control characters
    rows = recorded(types)[1]
    for text, row in zip(recorded_type.texts, rows, strict=False):
        theirs = row.get(field_of(declared))
        assert (None if text is None else json.loads(carried.json(text))) == theirs


@pytest.mark.parametrize(
    ("declared", "types", "place", "theirs_at"),
    [("date", "exact", 4, 0), ("date", "debezium", 4, 0), ("datetime(6)", "debezium", 1, 0), ("time", "debezium", 4, 4),
     ("datetime", "debezium", 3, 1), ("timestamp", "exact", 2, 1), ("timestamp(6)", "exact", 2, 1),
     ("year", "exact", 2, 2)],
)  # fmt: skip
def test_values_of_the_others(declared: str, types: Types, place: int, theirs_at: int) -> None:
    """Days of the calendar after year 1, which Debezium does not alter."""
    found = next(each for each in TYPES if each.declared == declared)
    text = found.texts[place]
    assert text is not None
    ours = json.loads(encode(found.column, types).json(text))
    assert ours == recorded(types)[1][theirs_at][field_of(declared)]
