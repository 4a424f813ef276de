"""Events that a real server wrote: what they say, and that nothing cut, too long or wrong is read."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.errors import CORRUPT_WIRE, CdcError
from cdc.mysql import tablemap, wire
from cdc.mysql.rows import parse_rows
from cdc.mysql.tablemap import MappedColumn, TableMap, cell
from cdc.mysql.wire import Header
from cdc.rowevents import UNCHANGED, Row
from tests.golden.mysql.recorded import STREAM, TYPES, RecordedType, stream

EVENTS = stream()
ROWS = (wire.WRITE_ROWS, wire.UPDATE_ROWS, wire.DELETE_ROWS)
ANY = MappedColumn(tablemap.BLOB, 4, nullable=True, collation=63)


def bodies(kind: int) -> list[bytes]:
    return [body for header, body in EVENTS if header.type == kind]


def maps() -> dict[str, TableMap]:
    """The first description of each table."""
    parsed = [tablemap.parse_table_map(body) for body in reversed(bodies(wire.TABLE_MAP))]
    return {table.name: table for table in parsed}


def changes() -> Iterator[tuple[str, list[tuple[Row | None, Row | None]]]]:
    """Table and rows of each rows event; of a type that is not carried, bytes."""
    current = maps()["wide"]
    for header, body in EVENTS:
        if header.type == wire.TABLE_MAP:
            current = tablemap.parse_table_map(body)
        elif header.type in ROWS:
            cells = [cell(ANY if c.type == tablemap.GEOMETRY else c) for c in current.columns]
            yield current.name, list(parse_rows(header.type, body, cells))


def refused(read: object) -> int:
    """The offset of the refusal."""
    with pytest.raises(CdcError) as caught:
        read()  # type: ignore[operator]
    assert caught.value.code is CORRUPT_WIRE
    offset = caught.value.facts["offset"]
    assert isinstance(offset, int)
    return offset


# -- every type -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("recorded", TYPES, ids=lambda r: r.declared)
def test_values_are_what_the_server_selects(recorded: RecordedType) -> None:
    table_map, header, body = recorded.bodies()
    columns = tablemap.parse_table_map(table_map).columns
    rows = list(parse_rows(header.type, body, [cell(column) for column in columns]))
    assert [(before, after[1] if after else None) for before, after in rows] == [(None, t) for t in recorded.texts]
    assert (columns[1].type, columns[1].metadata) == (recorded.column.type_oid, recorded.column.typmod)


# -- every event ------------------------------------------------------------------------------------------------
def test_the_recorded_stream_has_every_event() -> None:
    assert {header.type for header, _ in EVENTS} >= {
        wire.PREVIOUS_GTIDS, wire.GTID, wire.QUERY, wire.TABLE_MAP, *ROWS, wire.XID, wire.TRANSACTION_PAYLOAD,
    }  # fmt: skip


def test_the_format_is_described() -> None:
    assert wire.parse_format_description(STREAM[0]) == wire.FormatDescription("8.0.31", checksum=True)
    in_use = STREAM[0][:17] + b"\1\0" + STREAM[0][19:]
    assert wire.parse_format_description(in_use).checksum
    at = 19 + 57 + wire.WRITE_ROWS - 1
    other = bytearray(STREAM[0])
    other[at], other[-5] = 8, 0
    with pytest.raises(CdcError, match=r"event 30 of .* has another form"):
        wire.parse_format_description(bytes(other))


def test_gtids() -> None:
    gtids = [wire.parse_gtid(body) for body in bodies(wire.GTID)]
    assert len({gtid.sid for gtid in gtids}) == 1
    assert len(gtids[0].sid) == 36
    assert [gtid.number for gtid in gtids] == list(range(gtids[0].number, gtids[0].number + len(gtids)))
    assert str(gtids[0]) == f"{gtids[0].sid}:{gtids[0].number}"
    first = gtids[0]
    assert first.original_us == first.immediate_us
    assert first.immediate_us is not None
    assert first.immediate_us > 1_700_000_000_000_000
    starts = [header.end - header.size for header, _ in EVENTS if header.type == wire.GTID]
    assert [gtid.length for gtid in gtids[:-1]] == [b - a for a, b in pairwise(starts)]
    replica = bytearray(bodies(wire.GTID)[0])
    replica[48] |= 0x80
    replica[49:49] = (5).to_bytes(7, "little")
    assert wire.parse_gtid(bytes(replica)).original_us == 5


def test_queries() -> None:
    queries = [wire.parse_query(body) for body in bodies(wire.QUERY)]
    assert {query.schema for query in queries if query.text != "BEGIN"} == {"golden"}
    assert len({query.thread for query in queries}) == 1
    texts = [query.text for query in queries]
    assert "BEGIN" in texts
    assert "TRUNCATE wide" in texts
    altered = queries[texts.index('ALTER TABLE "keyless" ADD "ä" int')]
    assert altered.sql_mode == 4
    assert altered.error == 0
    assert "INSERT INTO keyless VALUES (7, 'statement', NULL, 8)" in texts
    latin1 = bytes(13) + b"\0SELECT '\xe9\x80'"
    assert wire.parse_query(latin1).text == "SELECT '\\xe9\\x80'"
    status = b"\4" + (8).to_bytes(2, "little") + bytes(4)
    assert wire.parse_query(bytes(11) + b"\7\0" + status + latin1[13:]).text == "SELECT 'é€'"


def test_other_events() -> None:
    assert all(isinstance(wire.parse_xid(body), int) for body in bodies(wire.XID))
    assert wire.parse_rotate((4).to_bytes(8, "little") + b"binlog.000002") == wire.Rotate("binlog.000002", 4)


# -- tables and rows --------------------------------------------------------------------------------------------
def test_tables() -> None:
    tables = maps()
    assert [column.name for column in tables["wide"].columns] == ["id", "part", "n", "t", "b"]
    assert tables["wide"].primary_key == ((1, 0), (0, 0))
    assert tables["prefixed"].primary_key == ((0, 0), (1, 3))
    assert [column.visible for column in tables["prefixed"].columns] == [True, False, True]
    assert [column.unsigned for column in tables["prefixed"].columns] == [False, False, True]
    assert [column.nullable for column in tables["wide"].columns] == [False, False, True, True, True]
    assert [column.charset for column in tables["wide"].columns] == [None, "utf8mb4", None, "utf8mb4", "binary"]
    assert tables["keyless"].primary_key == ()
    with pytest.raises(ValueError, match="type 255"):
        cell(tables["point"].columns[1])
    number, schema, name = tablemap.mapped_table(bodies(wire.TABLE_MAP)[0])
    assert (schema, name) == ("golden", "wide")
    assert number > 0


def test_whole_and_partial_images() -> None:
    one, two = [b"1", "é".encode(), b"1", b"text", b"00ff"], [b"2", b"b", None, None, None]
    left_out = [UNCHANGED] * 3
    of_wide = [rows for table, rows in changes() if table == "wide"]
    assert of_wide[0] == [(None, one), (None, two)]
    assert of_wide[1][0] == (two, [b"2", b"b", b"3", None, None])
    assert of_wide[2] == [([b"1", *one[1:2], b"3", *one[3:]], [b"11", *one[1:2], b"3", *one[3:]])]
    assert of_wide[3] == [([b"2", b"b", b"3", None, None], None)]
    # MINIMAL: the key before, what changed after.
    assert of_wide[4] == [([b"11", one[1], *left_out], [UNCHANGED, UNCHANGED, b"4", UNCHANGED, UNCHANGED])]
    assert of_wide[5] == [([b"11", one[1], *left_out], [b"12", UNCHANGED, *left_out])]
    assert of_wide[6] == [(None, [b"3", b"c", *left_out])]
    assert of_wide[7] == [([b"3", b"c", *left_out], None)]
    # NOBLOB: all but text and blob.
    assert of_wide[8] == [([b"12", one[1], b"4", *left_out[:2]], [b"12", one[1], b"5", *left_out[:2]])]
    assert of_wide[9][0][1] == [b"12", one[1], b"5", b"changed", UNCHANGED]
    # Compressed.
    assert [after[0] for _, after in of_wide[10] if after] == [b"101", b"102", b"103"]


# -- what is not read -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("data", STREAM[1:], ids=lambda data: f"{data[4]}")
def test_a_cut_or_altered_event_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        assert refused(lambda length=length: wire.parse_event(data[:length], checksum=True)) <= length
    assert refused(lambda: wire.parse_event(data + b"\0", checksum=True)) == len(data)
    altered = data[:-1] + bytes([data[-1] ^ 1])
    assert refused(lambda: wire.parse_event(altered, checksum=True)) == len(data) - 4
    assert wire.parse_event(data, checksum=False)[1] == data[19:]


def test_a_cut_format_description_is_refused() -> None:
    for length in range(len(STREAM[0])):
        assert refused(lambda length=length: wire.parse_format_description(STREAM[0][:length])) <= length


def parse(header: Header, body: bytes) -> None:
    """The body of an event that has a parser for it alone; rows of any table."""
    parsers = {
        wire.GTID: wire.parse_gtid,
        wire.QUERY: wire.parse_query,
        wire.XID: wire.parse_xid,
        wire.TABLE_MAP: tablemap.parse_table_map,
    }
    if header.type == wire.TRANSACTION_PAYLOAD:
        list(wire.parse_payload(body))
    elif header.type in parsers:
        parsers[header.type](body)


# Behind these a shorter body is one that a server might write: the event's size says that it is not whole.
ENDS_ANYWHERE = {wire.GTID: 42, wire.QUERY: 13 + 8}


@pytest.mark.parametrize("at", range(len(EVENTS)), ids=lambda at: f"{EVENTS[at][0].type}-{at}")
def test_a_cut_body_is_refused(at: int) -> None:
    header, body = EVENTS[at]
    if header.type in (*ROWS, wire.PREVIOUS_GTIDS):
        return
    accepted = [length for length in range(len(body)) if not fails(header, body[:length])]
    if header.type in ENDS_ANYWHERE:
        assert min(accepted) >= ENDS_ANYWHERE[header.type]
    else:
        # A TABLE_MAP may have fewer optional fields.
        assert len(accepted) <= (12 if header.type == wire.TABLE_MAP else 0)


def fails(header: Header, body: bytes) -> bool:
    try:
        parse(header, body)
    except CdcError as error:
        return error.code is CORRUPT_WIRE
    return False


@pytest.mark.parametrize("recorded", TYPES, ids=lambda r: r.declared)
def test_cut_rows_are_refused(recorded: RecordedType) -> None:
    table_map, header, body = recorded.bodies()
    cells = [cell(column) for column in tablemap.parse_table_map(table_map).columns]
    whole = 0
    for length in range(len(body)):
        try:
            rows = list(parse_rows(header.type, body[:length], cells))
        except CdcError:
            continue
        whole += 1
        assert len(rows) == whole
    assert whole == len(recorded.texts) - 1
    with pytest.raises(CdcError):
        list(parse_rows(header.type, body + b"\0", cells))
    with pytest.raises(CdcError, match="2 columns, 1 expected"):
        list(parse_rows(header.type, body, cells[:1]))


@settings(deadline=None)
@given(st.sampled_from(EVENTS), st.data())
def test_any_bytes_are_read_or_refused_by_name(event: tuple[Header, bytes], data: st.DataObject) -> None:
    header, body = event
    altered = bytearray(body)
    for at in data.draw(st.lists(st.integers(0, max(0, len(body) - 1)), max_size=4)):
        if altered:
            altered[at] = data.draw(st.integers(0, 255))
    with suppress(CdcError):
        parse(header, bytes(altered))


# -- compressed transactions ------------------------------------------------------------------------------------
def field(kind: int, value: bytes) -> bytes:
    return bytes([kind, len(value)]) + value


def payload(packed: bytes, algorithm: int, uncompressed: int, more: bytes = b"") -> bytes:
    sizes = [b"\xfc" + size.to_bytes(2, "little") for size in (len(packed), uncompressed)]
    algorithm_ = bytes([algorithm]) if algorithm < 251 else b"\xfc" + algorithm.to_bytes(2, "little")
    return field(2, algorithm_) + field(3, sizes[1]) + field(1, sizes[0]) + more + b"\0" + packed


def test_payloads() -> None:
    (body,) = bodies(wire.TRANSACTION_PAYLOAD)
    events = list(wire.parse_payload(body))
    assert [header.type for header, _ in events] == [wire.QUERY, wire.TABLE_MAP, wire.WRITE_ROWS, wire.XID]
    assert {header.end for header, _ in events} == {0}
    raw = b"".join(wire._HEADER.pack(*header) + inner for header, inner in events)
    assert list(wire.parse_payload(payload(raw, 255, len(raw)))) == events
    packed = zstandard.compress(raw)
    assert list(wire.parse_payload(payload(packed, 0, len(raw)))) == events
    halves = zstandard.compress(raw[:50]) + zstandard.compress(raw[50:])
    assert list(wire.parse_payload(payload(halves, 0, len(raw)))) == events
    for wrong, problem in [
        (payload(packed, 1, len(raw)), "unknown compression 1"),
        (payload(packed, 0, len(raw), field(4, b"\1")), "unknown field 4"),
        (payload(packed, 0, len(raw) - 1), "an event of"),
        (payload(packed, 0, len(raw) + 1), "truncated"),
        (payload(packed, 0, len(raw) - events[-1][0].size), "trailing bytes"),
        (payload(packed[:-1], 0, len(raw)), "truncated"),
        (payload(b"no zstd at all", 0, len(raw)), "zstd"),
        (payload(packed, 0, len(raw)) + b"\0", "1 trailing bytes"),
        (b"\0", "is not said"),
    ]:
        with pytest.raises(CdcError, match=problem):
            list(wire.parse_payload(wrong))


def test_a_payload_is_read_with_bounded_memory() -> None:
    """Sixty MB of events out of a few KB: one at a time."""
    event = wire._HEADER.pack(0, wire.QUERY, 1, 19 + 1_000_000, 0, 0) + bytes(1_000_000)
    compressor = zstandard.ZstdCompressor().compressobj()
    packed = b"".join([compressor.compress(event) for _ in range(60)]) + compressor.flush()
    sizes = b"\xfe" + (60 * len(event)).to_bytes(8, "little")
    body = field(2, b"\0") + field(3, sizes) + field(1, b"\xfd" + len(packed).to_bytes(3, "little")) + b"\0" + packed
    events = wire.parse_payload(body)
    assert sum(len(inner) for _, inner in events) == 60_000_000
