"""What the service writes is what the published schemas say, no field more."""

from typing import Any

import orjson
import pytest
from fastavro import parse_schema
from fastavro.validation import validate

from cdc.log import End, Start
from schemas import load
from tests.unit.cdc.postgres.test_decode import RECORDS
from tests.unit.cdc.test_log import FULL_END, FULL_START, end, start


def check(name: str, record: dict[str, Any]) -> None:
    """Every field that is there is known and of its type; every field without a default is there."""
    schema = load(name)
    known = {field["name"]: field for field in schema["fields"]}
    assert record.keys() <= known.keys()
    assert {n for n, field in known.items() if "default" not in field} <= record.keys()
    filled = {n: record.get(n, field.get("default")) for n, field in known.items()}
    assert validate(filled, parse_schema(schema), raise_errors=True)


@pytest.mark.parametrize("record", [start(), FULL_START])
def test_start(record: Start) -> None:
    check("start", orjson.loads(record.to_bytes()))


@pytest.mark.parametrize("record", [end(), FULL_END])
def test_end(record: End) -> None:
    fields = orjson.loads(record.to_bytes())
    if fields.get("copy"):
        fields["copy"]["to"] = None  # key values have the table's own types
    check("end", fields)


def test_row_events_of_the_golden_stream() -> None:
    events = [orjson.loads(r.value) for r in RECORDS if r.value and r.topic != "shop.message"]
    assert {event["op"] for event in events} == {"c", "u", "d", "t"}
    for event in events:
        check("event", event)


def test_a_field_that_no_schema_knows_is_noticed() -> None:
    with pytest.raises(AssertionError):
        check("start", {**orjson.loads(start().to_bytes()), "more": 1})
