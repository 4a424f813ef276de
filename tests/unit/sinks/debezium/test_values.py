"""What Debezium writes is the server's text again: on values that real connectors wrote, in both modes."""

import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cdc.connect import BYTES, INT64, Schema, array, named
from sinks.debezium.schemas import from_avro, from_json
from sinks.debezium.values import date_text, is_unavailable, iso_text, kind_of, moment_text, time_text

GOLDEN = Path(__file__).parents[3] / "golden/debezium-3.5.0"
LOST = re.compile(r"[iI]nfinity|NaN|BC|24:00|^\{|294276|e|E")
"""What the connector alters, or writes in other words: compared by hand below, or by what a server makes of it."""


def recorded(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return loaded


def server_text() -> dict[str, list[str]]:
    """The server's own text of each value of a column, in order."""
    lines = [json.loads(line) for line in (GOLDEN / "postgres_exact_text.jsonl").read_text().splitlines()]
    texts: dict[str, list[str]] = {}
    for line in lines:
        texts.setdefault(line["table"], []).append(line["text"])
    return texts


def streamed(name: str, mode: str, table: str) -> tuple[Schema, list[dict[str, Any]]]:
    recording = recorded(f"{name}_{mode}_schema")
    found = [record for record in recording["records"] if record["topic"] == f"{mode}.{table}" and record["value"]]
    image = dict(from_json(json.loads(recording["schemas"][found[0]["value"][0]])).fields)["after"]
    events = [json.loads(record["value"][1]) for record in found]
    return image, [event["after"] for event in events if event["op"] == "c"]


@pytest.mark.parametrize("mode", ["exact", "debezium"])
def test_every_type_of_postgres_has_the_servers_text(mode: str) -> None:
    image, rows = streamed("postgres", mode, "public.nulls")
    texts, compared = server_text(), 0
    for column, schema in image.fields:
        if column not in texts or column == "v_numeric_3_2":
            continue
        kind = kind_of(schema, "postgresql")
        found = [row[column] for row in rows if row["id"] > 300]
        for text, value in zip(texts[column], found, strict=False):
            if value is None or LOST.search(text) or "float" in column:
                continue
            got = kind.text(value)
            if "numeric" in column:  # of whose zeros behind the default mode knows nothing
                assert [Decimal(n) for n in got.strip("{}").split(",") if n != "NULL"] == [
                    Decimal(n) for n in text.strip("{}").split(",") if n != "NULL"
                ]
                continue
            # The connector fills char(n) with blanks, and a fraction to its column's length.
            assert re.sub(r"\.?0+(?=\+00$)", "", got).rstrip(" ") == text.rstrip(" ") or got == text, column
            compared += 1
    assert compared > 70


@pytest.mark.parametrize("length", [0, 83_886_081, 2**31])
def test_bits_of_no_length_that_a_server_has_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"of {length} bits"):
        kind_of(named(BYTES, "io.debezium.data.Bits", ("length", str(length))), "postgresql")


def test_decimals_and_days() -> None:
    assert [date_text(day) for day in (0, -1, 19782, 2932897, -719163, -2440550)] == [
        "1970-01-01", "1969-12-31", "2024-02-29", "10000-01-01", "0001-12-31 BC", "4713-01-01 BC",
    ]  # fmt: skip
    assert [moment_text(at) for at in (-1, 1709210096789012, -62135596801000000, 9223372036825200000)] == [
        "1969-12-31 23:59:59.999999", "2024-02-29 12:34:56.789012", "0001-12-31 23:59:59 BC", "infinity",
    ]  # fmt: skip
    nanos = kind_of(named(INT64, "io.debezium.time.NanoTimestamp"), "postgresql").text
    assert [nanos(at) for at in (2**63 - 1, -(2**63), 1709210096789012000)] == [
        "infinity", "-infinity", "2024-02-29 12:34:56.789012",
    ]  # fmt: skip
    assert [time_text(at) for at in (0, -3600500000, 3020399000000)] == ["00:00:00", "-01:00:00.5", "838:59:59"]
    assert [iso_text(text) for text in ("2024-02-29Z", "+10000-01-01Z", "0000-12-31Z", "-4712-01-01Z", "infinity")] == [
        "2024-02-29", "10000-01-01", "0001-12-31 BC", "4713-01-01 BC", "infinity",
    ]  # fmt: skip
    assert iso_text("0000-12-31T23:59:59.000000Z", "+00") == "0001-12-31 23:59:59.000000+00 BC"


def test_every_type_of_mysql_is_known_in_both_modes() -> None:
    declared = tomllib.loads((GOLDEN.parent / "mysql/values.toml").read_text())["types"]
    for mode in ("exact", "debezium"):
        image, rows = streamed("mysql", mode, "golden.types")
        kinds = {name: kind_of(schema, "mysql") for name, schema in image.fields}
        assert len(kinds) == len(declared) + 1
        for row in rows:
            for name, value in row.items():
                assert value is None or isinstance(kinds[name].text(value), str)
        assert kinds["v_time_3"].type == "interval"
        assert kinds["v_bit_12"].type == "bit(12)"
        assert next(kinds["v_bit_12"].text(row["v_bit_12"]) for row in rows if row["v_bit_12"]) == "101000000001"
        assert kinds["v_decimal_10_2"].type == ("text" if mode == "exact" else "numeric(10,2)")


def test_avro_describes_the_same() -> None:
    for engine in ("postgres", "mysql"):
        for mode in ("exact", "debezium"):
            table = "public.names" if engine == "postgres" else "golden.types"
            subjects = recorded(f"{engine}_{mode}_avro")["subjects"]
            (avro,) = [entry["schema"] for entry in subjects if entry["subject"] == f"{mode}_avro.{table}-value"]
            image, _ = streamed(engine, mode, table)
            found = dict(from_avro(json.loads(avro)).fields)["after"]
            assert [kind_of(schema, engine).type for _, schema in found.fields] == [
                kind_of(schema, engine).type for _, schema in image.fields
            ]
            assert found.fields[0][0] == ("_1a" if engine == "postgres" else "id")


def test_what_is_not_known_is_refused_by_name() -> None:
    for schema in (named(INT64, "io.debezium.time.MicroDuration"), array(named(INT64, "x.Geometry"))):
        with pytest.raises(ValueError, match=r"MicroDuration|Geometry"):
            kind_of(schema, "postgresql")
    with pytest.raises(ValueError, match="'map'"):
        from_json({"type": "map"})
    with pytest.raises(ValueError, match="'fixed'"):
        from_avro({"type": "fixed", "name": "f", "size": 2})


def test_a_value_that_was_not_sent() -> None:
    _, rows = streamed("postgres", "exact", "public.nulls")
    assert not any(is_unavailable(value) for row in rows for value in row.values() if value is not None)
    recording = recorded("postgres_exact_schema")
    (update,) = [
        event["after"]
        for record in recording["records"]
        if record["topic"] == "exact.public.toast_types" and record["value"]
        if (event := json.loads(record["value"][1]))["op"] == "u"
    ]
    sent = {name for name, value in update.items() if value is not None and not is_unavailable(value)}
    assert sent == {"id", "n"}
