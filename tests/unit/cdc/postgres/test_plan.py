"""One pass over the bytes writes what the step-by-step way writes, and accepts nothing that it would refuse."""

import json
from pathlib import Path

import pytest

from cdc.decoded import Captured
from cdc.errors import CORRUPT_WIRE, CdcError
from cdc.event import Table
from cdc.position import Lsn, PgPosition
from cdc.postgres.decode import Decoder
from cdc.postgres.events import TableStream
from cdc.rowevents import Record, RunFacts
from cdc.shape import parse_shape
from cdc.topics import row_topic

GOLDEN = Path(__file__).parents[3] / "golden/pgoutput"
STREAM = [
    (record["lsn"], bytes.fromhex(record["hex"]))
    for record in map(json.loads, (GOLDEN / "postgres-18.jsonl").read_text().splitlines())
]
_WRITTEN = json.loads((GOLDEN / "postgres-18.shapes.json").read_text())


def decoder() -> Decoder:
    tables: list[Table] = [parse_shape(json.dumps(shape).encode()).table for shape in _WRITTEN["shapes"]]
    captured = Captured(
        {table.full_name: table for table in tables},
        lambda schema, table: row_topic("shop", schema, table),
        "shop.message",
        lambda schema, _: schema == "public",
    )
    return Decoder(
        RunFacts("shop", "golden", "a" * 16, 1_000), captured, after=PgPosition(1, Lsn(0)), last_seq=0,
        tokens=frozenset(), secret=bytes.fromhex(_WRITTEN["secret"]), clock_ns=lambda: 1_700_000_000_000_000_000,
    )  # fmt: skip


def records() -> list[Record]:
    decode = decoder()
    decoded = [decode.feed(data, lsn) for lsn, data in STREAM]
    return [record for sent in decoded if isinstance(sent, list) for record in sent]


def test_both_ways_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    declined = []
    plain = TableStream.plain

    def counted(*args: object) -> list[Record] | None:
        sent = plain(*args)  # type: ignore[arg-type]
        declined.append(sent is None)
        return sent

    monkeypatch.setattr(TableStream, "plain", counted)
    written = records()
    assert set(declined) == {True, False}
    monkeypatch.setattr(TableStream, "plain", lambda *_: None)
    assert records() == written


def changes() -> list[int]:
    return [at for at, (_, data) in enumerate(STREAM) if data[:1] in b"IUD"]


@pytest.mark.parametrize("at", changes())
def test_what_is_cut_or_too_long_is_refused(at: int) -> None:
    """After its table was met, so that the one pass is tried first."""
    decode = decoder()
    for lsn, data in STREAM[: at + 1]:
        decode.feed(data, lsn)
    lsn, data = STREAM[at]
    for wrong in [data[:length] for length in range(1, len(data))] + [data + b"\0"]:
        with pytest.raises(CdcError) as caught:
            decode.feed(wrong, lsn)
        assert caught.value.code is CORRUPT_WIRE
