"""Whatever form a record was written in, its value is the same: on what real connectors wrote."""

import base64
import json
from pathlib import Path
from struct import pack
from typing import Any

import fastavro
import pytest

from cdc.avro import sized
from cdc.connect import SCHEMA_ID, STRING, as_avro, struct
from cdc.errors import CdcError
from cdc.mysql.values import to_single
from sinks.decode import Decoder, parts

GOLDEN = Path(__file__).parents[2] / "golden/debezium-3.5.0"
RECORDINGS = [f"{engine}_{mode}" for engine in ("postgres", "mysql") for mode in ("exact", "debezium")]
PASSING = {"ts_ms", "ts_us", "ts_ns", "source", "transaction", "message"}
"""Two connectors wrote them, each at its own time and place."""
AVRO_NAMES = {"1a": "_1a", "a-b": "a_b", "c d é": "c_d__", "Col umn": "Col_umn", 'q"uote': "q_uote"}


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return loaded


def adjusted(value: Any) -> Any:
    """Without what passes, names as Avro's connector has them."""
    if isinstance(value, dict):
        return {AVRO_NAMES.get(name, name): adjusted(of) for name, of in value.items() if name not in PASSING}
    if isinstance(value, float):
        # Java writes more digits than a single needs.
        return to_single(value) if 1e-46 < abs(value) < 2e-38 else value
    return [adjusted(one) for one in value] if isinstance(value, list) else value


def of_schemas(recording: dict[str, Any], row: dict[str, Any], side: str) -> bytes | None:
    if row[side] is None:
        return None
    number, payload = row[side]
    return f'{{"schema":{recording["schemas"][number]},"payload":{payload}}}'.encode()


@pytest.mark.parametrize("name", RECORDINGS)
def test_avro_and_json_with_schema_are_the_same_values(name: str) -> None:
    described, avro = load(f"{name}_schema"), load(f"{name}_avro")
    schemas = {entry["id"]: json.loads(entry["schema"]) for entry in avro["subjects"]}
    for_avro, for_json = Decoder(schemas.__getitem__), Decoder()
    compared = 0
    for row, other in zip(described["records"], avro["records"], strict=True):
        mode = name.partition("_")[2]
        assert other["topic"] == row["topic"].replace(mode, f"{mode}_avro", 1)
        if ".transaction" in row["topic"] or row["topic"] == mode:
            continue  # ids and clocks of a connector of its own
        for side in ("key", "value"):
            raw = of_schemas(described, row, side)
            if raw is None:
                assert other[side] is None
                continue
            wanted = json.loads(raw)["payload"]
            assert for_json.value(raw, "t") == wanted
            found = for_avro.value(base64.b64decode(other[side]), "t")
            assert adjusted(found) == adjusted(wanted)
            compared += 1
    assert compared > 70


def test_a_schema_is_told_by_its_text_or_its_id() -> None:
    raw = b'{"schema":{"type":"string","optional":true},"payload":"}"}'
    assert parts(raw) == (b'{"type":"string","optional":true}', b'"}"')
    assert Decoder().schema(raw) == (b'{"type":"string","optional":true}', {"type": "string", "optional": True})
    assert Decoder().schema(b'{"id":1}') is None
    assert Decoder({7: "string"}.__getitem__).schema(b"\0\0\0\0\7\2x") == (7, "string")


def test_a_registry_that_gives_another_schema_for_an_id_is_noticed() -> None:
    """Two shapes of one layout: the bytes alone would not tell."""

    def envelope(*columns: str, shape: str) -> dict[str, Any]:
        row = struct("s.t.Value", *((name, STRING) for name in columns))
        source = struct("s.Source", ("schema_id", STRING))
        return {**as_avro(struct("s.t.Envelope", ("after", row), ("source", source))), SCHEMA_ID: shape}

    written = {7: envelope("credit", "debit", shape="a" * 16)}
    event = b"\0\0\0\0\7" + b"".join(sized(text) for text in (b"C", b"D", b"a" * 16))
    assert Decoder(written.__getitem__).value(event, "t")["after"] == {"credit": "C", "debit": "D"}
    lost = {7: envelope("debit", "credit", shape="b" * 16)}
    with pytest.raises(ValueError, match=f"that of shape {'b' * 16}, and the event was written under another"):
        Decoder(lost.__getitem__).value(event, "t")
    with pytest.raises(ValueError, match="1 bytes behind the value"):
        Decoder(written.__getitem__).value(event + b"\0", "t")
    with pytest.raises(ValueError, match="no value of the schema of id 7"):
        Decoder({7: "double"}.__getitem__).value(event[:9], "t")


def test_a_field_that_had_to_be_adjusted_has_its_own_name() -> None:
    schema = {
        "type": "record", "name": "r", "fields": [
            {"name": "a_b", "type": ["null", "bytes"], "cdc.name": "a-b"},
            {"name": "n", "type": {"type": "array", "items": ["null", "float"]}},
        ],
    }  # fmt: skip
    body = b"\2\4\0\xff" + b"\6\0\2\xcd\xcc\xcc\x3d\2\0\0\xc0\x7f\0"
    value = Decoder({1: schema}.__getitem__).value(b"\0\0\0\0\1" + body, "t")
    assert value == {"a-b": "AP8=", "n": [None, 0.1, "NaN"]}


def test_what_is_neither_is_refused() -> None:
    decoder = Decoder({1: {"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}]}}.__getitem__)
    for data in (b"", b"\0\0", b"\1\0\0\0\1\2", b"[1]", b"\0\0\0\0\1"):
        with pytest.raises(ValueError, match=r"neither JSON nor Avro|no value of the schema"):
            decoder.value(data, "t")
    with pytest.raises(ValueError, match="union"):
        Decoder({1: ["int", "string"]}.__getitem__).value(b"\0\0\0\0\1\2", "t")
    with pytest.raises(ValueError, match="'fixed'"):
        Decoder({1: {"type": "fixed", "name": "f", "size": 1}}.__getitem__).value(b"\0\0\0\0\1\2", "t")
    with pytest.raises(CdcError, match="REGISTRY_MISSING"):
        Decoder().value(b"\0\0\0\0\1\2", "t")


def test_fastavro_keeps_a_decimal_as_connect_wrote_it() -> None:
    schema = {"type": "bytes", "logicalType": "decimal", "scale": 2, "precision": 4}
    assert Decoder({1: schema}.__getitem__).value(b"\0\0\0\0\1\4\0\x96", "t") == "AJY="
    assert fastavro.__version__


def test_singles_have_the_digits_of_the_server() -> None:
    """As Postgres 18 shows them: no decimal halfway to the next single, and above a power of two the shorter one."""
    texts = [
        "33554448",
        "-33554448",
        "1.2621775e-29",
        "1.5474251e+26",
        "1.2379401e+27",
        "16777216",
        "0.1",
        "1e-45",
        "3.4028235e+38",
    ]
    for text in texts:
        assert Decoder({7: "float"}.__getitem__).value(b"\0\0\0\0\7" + pack("<f", float(text)), "t") == float(text)
