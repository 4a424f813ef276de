"""pgoutput is read as the server wrote it, and nothing else is."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import CORRUPT_WIRE, CdcError
from cdc.postgres import wire
from cdc.rowevents import UNCHANGED

GOLDEN = [
    json.loads(line)
    for line in (Path(__file__).parents[3] / "golden/pgoutput/postgres-18.jsonl").read_text().splitlines()
]
MESSAGES = [bytes.fromhex(record["hex"]) for record in GOLDEN]


def parse(data: bytes) -> object:
    """Any message, by its tag, as the decoder does."""
    rows = {b"I": wire.parse_insert, b"U": wire.parse_update, b"D": wire.parse_delete}
    return rows.get(data[:1], wire.parse_control)(data)


def of(tag: str) -> list[bytes]:
    return [message for message in MESSAGES if message[:1] == tag.encode()]


def test_the_golden_stream_has_every_message() -> None:
    assert {message[:1] for message in MESSAGES} >= {b"B", b"C", b"I", b"U", b"D", b"R", b"T", b"M", b"Y", b"O"}


def test_rows_of_the_golden_stream() -> None:
    assert wire.parse_insert(of("I")[0])[1][:3] == [b"1", b"a", None]
    oid, kind, old, row = wire.parse_update(of("U")[0])
    assert (kind, old, row[3]) == (b"", None, UNCHANGED)
    _, kind, old, row = wire.parse_update(of("U")[1])
    assert (kind, row[0]) == (b"K", b"2")
    assert old is not None
    assert old[:2] == [b"1", None]
    assert wire.parse_delete(of("D")[0]) == (oid, b"K", [b"2", None, None, None, None, None])
    assert wire.parse_delete(of("D")[1])[1:] == (b"O", [b"1", b"b"])


def test_control_messages_of_the_golden_stream() -> None:
    begin, commit = wire.parse_control(of("B")[0]), wire.parse_control(of("C")[0])
    assert isinstance(begin, wire.Begin)
    assert isinstance(commit, wire.Commit)
    assert begin.final_lsn == commit.commit_lsn < commit.end_lsn
    assert begin.commit_ts_us == commit.commit_ts_us > 1_700_000_000_000_000
    relation = wire.parse_control(of("R")[0])
    assert isinstance(relation, wire.Relation)
    assert (relation.schema, relation.name, relation.replica_identity) == ("public", "wide", "d")
    assert [c.name for c in relation.columns if c.in_key] == ["id"]
    truncate = wire.parse_control(of("T")[0])
    assert isinstance(truncate, wire.Truncate)
    assert (len(truncate.oids), truncate.cascade, truncate.restart_identity) == (2, True, True)
    inside, alone = (wire.parse_control(message) for message in of("M")[1:])
    assert isinstance(inside, wire.Message)
    assert isinstance(alone, wire.Message)
    assert (inside.transactional, inside.prefix, inside.content) == (True, "note", b"transactional")
    assert (alone.transactional, alone.content) == (False, b"alone")
    origin = wire.parse_control(of("O")[0])
    assert isinstance(origin, wire.Origin)
    assert origin.name == "elsewhere"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: f"{m[:1].decode()}{len(m)}")
def test_every_truncation_is_refused_with_its_offset(message: bytes) -> None:
    lengths = range(len(message)) if len(message) < 400 else [*range(200), len(message) - 1]
    for length in lengths:
        with pytest.raises(CdcError) as caught:
            parse(message[:length])
        assert caught.value.code is CORRUPT_WIRE
        offset = caught.value.facts["offset"]
        assert isinstance(offset, int)
        assert 0 <= offset <= length


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: f"{m[:1].decode()}{len(m)}")
def test_trailing_bytes_are_refused(message: bytes) -> None:
    with pytest.raises(CdcError, match="trailing"):
        parse(message + b"\0")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    for prefix in (b"", b"I\0\0\0\1N", b"U\0\0\0\1", b"D\0\0\0\1K", b"R", b"M", b"T"):
        try:
            parse(prefix + data)
        except CdcError as error:
            refused = error.code
        else:
            continue
        assert refused is CORRUPT_WIRE


def test_frames() -> None:
    keepalive = b"k" + (0x10).to_bytes(8, "big") + bytes(8) + b"\1"
    assert wire.parse_keepalive(keepalive) == wire.Keepalive(0x10, reply_requested=True)
    data = b"w" + (1).to_bytes(8, "big") + (2).to_bytes(8, "big") + bytes(8) + b"B"
    assert wire.parse_xlog_header(data) == (1, 2)
    assert data[wire.XLOG_DATA_HEADER :] == b"B"
    for length in range(len(keepalive)):
        with pytest.raises(CdcError):
            wire.parse_keepalive(keepalive[:length])
    for length in range(len(data)):
        with pytest.raises(CdcError):
            wire.parse_xlog_header(data[:length])


def test_a_status_update_reports_one_position_three_times() -> None:
    update = wire.status_update(0xABCD, 946_684_800_000_001)
    assert update == b"r" + (0xABCD).to_bytes(8, "big") * 3 + (1).to_bytes(8, "big") + b"\0"
