"""Records of the log are read back as they were written; what is unknown stops by name."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.log import Change, Chunk, End, Gap, Identity, Opened, OrdinaryEnds, Span, Start, Validity, log_key
from cdc.logparse import parse

IDENTITY = Identity("postgresql", "7123456789", 1, "shop", "cdc_shop")


def start(run: str = "0123456789abcdef", epoch: int = 1000) -> Start:
    return Start(run, epoch, IDENTITY, "f" * 64, "initial", "cluster", 1)


def end(run: str = "0123456789abcdef", seq: int = 1, epoch: int = 1000) -> End:
    return End("7:99", 0, (), 1, "data", run, epoch, seq, "1:0/100", None)


FULL_START = Start(
    "0123456789abcdef", 1000, IDENTITY, "f" * 64, "none", "cluster", 1, Opened("adopt", "1:0/5"),
    (Gap("adopted", "1:0/1", "1:0/5", ("public.a",), "operator"),),
)  # fmt: skip
FULL_END = End(
    "7:99", 3, (("public.a", 3),), 5, "snapshot", "0123456789abcdef", 1000, 8, "1:0/100", "1:0/90", 5_000_001, 7,
    "elsewhere", (Span("shop.public.a", 0, 4, 9, 3),), (("abcdef0123456789", 2),),
    (Change(1, "public.a", None, "abcdef0123456789", "copying", "c1"), Change(2, "public.a", "x", "y", "drop_column")),
    Chunk("c1", "public.a", 1, None, (1, "b"), "1:0/90", last=True), "f" * 64, (("public.s", 9),),
)  # fmt: skip


@pytest.mark.parametrize("record", [start(), end(), FULL_START, FULL_END])
def test_a_record_is_read_back_as_it_was_written(record: Start | End) -> None:
    assert parse(record.to_bytes()) == record


@given(
    collections=st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.integers(1, 9)), min_size=1),
    previous=st.none() | st.just("1:0/90"),
)
def test_the_template_of_ordinary_ends_writes_what_the_record_writes(
    collections: list[tuple[str, int]], previous: str | None
) -> None:
    span = ("shop.public.a", 3, 4, 9, 5)
    written = OrdinaryEnds("0123456789abcdef", 1000).to_bytes(
        "7:99", collections, 5_000_001, 8, "1:0/100", previous, 7, [span]
    )
    assert written == End(
        "7:99", sum(n for _, n in collections), tuple(collections), 5_000, "data", "0123456789abcdef", 1000, 8,
        "1:0/100", previous, 5_000_001, 7, offsets=(Span(*span),),
    ).to_bytes()  # fmt: skip


def test_debezium_s_fields_come_first_and_ours_are_left_out_when_empty() -> None:
    fields = list(orjson.loads(end().to_bytes()))
    assert fields[:5] == ["status", "id", "event_count", "data_collections", "ts_ms"]
    assert fields[5:] == ["v", "kind", "run", "epoch", "txn_seq", "position", "prev_position"]
    assert list(orjson.loads(start().to_bytes()))[:5] == fields[:5]


def test_a_heartbeat_is_no_transaction() -> None:
    assert end().numbered
    assert not parse_end({"kind": "heartbeat"}).numbered


def parse_end(changes: dict[str, object]) -> End:
    record = parse(orjson.dumps({**orjson.loads(FULL_END.to_bytes()), **changes}))
    assert isinstance(record, End)
    return record


def test_unknown_fields_are_skipped() -> None:
    assert parse_end({"later": 1}) == FULL_END


def test_debezium_s_begin_is_skipped() -> None:
    assert parse(b'{"status":"BEGIN","id":"1:2","event_count":null,"data_collections":null,"ts_ms":1}') is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "PREPARE"}, "unknown status 'PREPARE'"),
        ({"v": 2}, "unknown version v = 2"),
        ({"kind": "mystery"}, "unknown kind 'mystery'"),
        ({"changes": [{"at": 0, "table": "t", "old": None, "new": None, "effect": "explode"}]}, "effect 'explode'"),
        ({"txn_seq": "8"}, "txn_seq"),
        ({"txn_seq": True}, "txn_seq"),
        ({"run": 5}, "run"),
        ({"offsets": [1]}, "wrong type"),
    ],
)
def test_what_is_unknown_stops_by_name(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_end(change)


@pytest.mark.parametrize("field", ["id", "run", "epoch", "position", "prev_position", "data_collections"])
def test_a_missing_field_is_named(field: str) -> None:
    record = orjson.loads(FULL_END.to_bytes())
    del record[field]
    with pytest.raises(ValueError, match=field):
        parse(orjson.dumps(record))


@given(st.integers(0, len(FULL_END.to_bytes()) - 1))
def test_a_truncated_record_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        parse(FULL_END.to_bytes()[:length])


def test_an_end_counts_under_its_own_start_only() -> None:
    """CORRECTNESS 1: the log held `B: END 99, B: END 100, A: END 99`."""
    a, b = "a" * 16, "b" * 16
    log: list[Start | End] = [start(a), end(a, 98), start(b), end(b, 99), end(b, 100), end(a, 99)]
    validity = Validity()
    assert [validity.admit(record) for record in log] == [True, True, True, True, True, False]
    assert validity.ignored == 1


def test_keys_are_debezium_s() -> None:
    assert log_key("start:1") == b'{"id":"start:1"}'


@pytest.mark.parametrize(
    "value",
    [
        b'{"status":"END","id":"9:1","event_count":1,"data_collections":[],"ts_ms":1}',
        b'{"schema":{"type":"struct"},"payload":{"status":"END","id":"9:1"}}',
        b"\0\0\0\0\4\6END",
    ],
)
def test_what_debezium_wrote_before_it_was_taken_over_is_skipped(value: bytes) -> None:
    assert parse(value) is None
