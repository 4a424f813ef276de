"""`sinks.archive.segment`: transactions of a log become Parquet, and pyarrow gives every one of their values back."""

import io
import re
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sinks.assemble
from cdc.event import UNAVAILABLE, RowEvent, Table
from cdc.log import Change, Chunk, Opened
from cdc.postgres.values import encoder
from cdc.shape import schema_id
from cdc.types import TYPES
from sinks.archive import segment
from sinks.archive.crypt import Plain, Seal, Sealed
from sinks.archive.manifest import SchemaChange, TableRows
from sinks.archive.segment import ROWS, TRANSACTIONS, SegmentWriter
from sinks.transaction import ChangeTransaction
from tests.log_writer import Event, Run, Topics, table
from tests.unit.sinks.test_assemble import Feeder

ACCOUNTS = table("public.accounts", {"id": "int4", "v": "text", "n": "numeric"}, ["id"])
NOTES = table("public.notes", {"v": "text"})
WIDER = table("public.accounts", {"id": "int4", "v": "text", "n": "numeric", "w": "int8"}, ["id"])
PAIRS = table("public.pairs", {"v": "text", "b": "int4", "a": "text"}, ["a", "b"])
FIRST = Opened("first", None)
NOW = 1_700_000_000_000_000

# In the server's own text.
TEXTS: dict[str, list[str]] = {
    "int2": ["-32768", "32767", "0"],
    "int4": ["-2147483648", "2147483647"],
    "int8": ["-9223372036854775808", "9223372036854775807", "9007199254740993"],
    "oid": ["0", "4294967295"],
    "float4": ["0.1", "-0", "NaN", "Infinity", "-Infinity", "1e-07", "1.2345679e+06", "3.4e+38"],
    "float8": ["0.1", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e+308", "1e+15", "100000"],
    "numeric": ["1.50", "0.000", "-12.340", "NaN", "Infinity", "-Infinity", "123456789012345678901234567890.12345"],
    "text": ["", "plain", "NULL", "null", 'quo"te\\ ,{}', "hé 世界 😀\n\t\u0001\u2028", " ", UNAVAILABLE],
    "varchar": ["", "x"],
    "bpchar": ["ab   ", "     "],
    "bool": ["t", "f"],
    "bytea": ["\\x", "\\x00", "\\x000102fffe"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "date": ["2024-02-29", "0001-12-31 BC", "infinity", "-infinity", "10000-01-01", "5874897-12-31"],
    "time": ["00:00:00", "12:34:56.789", "24:00:00"],
    "timestamp": ["2024-02-29 12:34:56.789", "0001-12-31 23:59:59 BC", "infinity", "294276-12-31 23:59:59.999999"],
    "timestamptz": ["2024-02-29 00:00:00.1+00", "2024-02-29 00:00:00+00", "0001-12-31 23:59:59+00 BC", "-infinity",
                    "10000-01-01 00:00:00+00"],
    "json": ['{"b": 1,  "a": [1, null, "x"], "a": 2}', "null", " 1.10 "],
    "jsonb": ['{"a": [1, null, "世"]}', "null", "1.10"],
    "enum": ["sad", 'so "so"', ""],
}  # fmt: skip


# -- the way in and out --
def transactions(topics: Topics) -> Iterator[ChangeTransaction]:
    """What a reader is handed, one after the other; a streamed one's events are read as they are taken."""
    feeder = Feeder(topics)
    while True:
        while (transaction := feeder.assembler.next()) is not None:
            if feeder.assembler.streaming:
                transaction.events = taken(feeder)
            yield transaction
        feeder.assign()
        if not feeder.feed_any(lambda ready: ready[0]):
            return


def taken(feeder: Feeder) -> Iterator[RowEvent]:
    while feeder.assembler.streaming:
        events = feeder.assembler.take(10)
        yield from events
        if not events and feeder.assembler.streaming:
            feeder.feed_any(lambda ready: ready[0])


class Written:
    """A segment of these transactions, and its bodies read back."""

    def __init__(
        self, given: Iterator[ChangeTransaction] | Sequence[ChangeTransaction], *tables: Table, seal: Seal | None = None
    ) -> None:
        shapes = {schema_id(one): one for one in tables}
        files, seal = (io.BytesIO(), io.BytesIO()), seal or Plain()
        streams = seal.writer("rows", files[0]), seal.writer("txns", files[1])
        self.writer = SegmentWriter(*streams, shapes.__getitem__)
        for transaction in given:
            self.writer.add(transaction)
        self.writer.close()
        for stream in streams:
            stream.close()
        self.stored = [file.getvalue() for file in files]
        rows, log = (seal.open(name, data) for name, data in zip(("rows", "txns"), self.stored, strict=True))
        self.file = pq.ParquetFile(io.BytesIO(rows))
        self.rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(rows)).to_pylist()
        self.log: list[dict[str, Any]] = pq.read_table(io.BytesIO(log)).to_pylist()
        assert pq.read_schema(io.BytesIO(rows)).equals(ROWS)
        assert pq.read_schema(io.BytesIO(log)).equals(TRANSACTIONS)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Table and number of rows of each row group, by its statistics."""
        found = []
        for at in range(self.file.metadata.num_row_groups):
            group = self.file.metadata.row_group(at)
            statistics = group.column(0).statistics
            assert group.column(0).path_in_schema == "table"
            assert statistics.min == statistics.max
            found.append((statistics.min, group.num_rows))
        return found


@pytest.fixture
def topics() -> Topics:
    return Topics("shop")


@pytest.fixture
def run(topics: Topics) -> Run:
    run = Run(topics, "a" * 16)
    run.start(copy="initial", opened=FIRST)
    return run


def row(of: Table, seq: int, ordinal: int, op: str, **lists: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("key", "before", "after", "unchanged", "before_absent", "moved_from", "moved_to"))
    facts = {"table": of.full_name, "txn_seq": seq, "ordinal": ordinal, "schema_id": schema_id(of), "op": op}
    return facts | empty | lists


def insert(key: int, v: str | None = None, n: str | None = None) -> Event:
    return Event(ACCOUNTS, "c", after={"id": key, "v": v, "n": n})


def note(v: str | None) -> Event:
    return Event(NOTES, "c", after={"v": v})


# -- values --
def value(type_name: str, text: str | None) -> Any:
    """As an event carries it."""
    return None if text is None else orjson.loads(encoder(type_name)(text.encode()))


def array(texts: Sequence[str | None]) -> str:
    """The server's text of an array, by its rule for quotes."""

    def element(text: str | None) -> str:
        if text is None:
            return "NULL"
        if text and text.upper() != "NULL" and not re.search(r'[{}",\\\s]', text, re.ASCII):
            return text
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{" + ",".join(map(element, texts)) + "}"


def test_every_type_is_covered() -> None:
    assert TEXTS.keys() == TYPES["postgresql"].keys()


@pytest.mark.parametrize("name", TEXTS)
def test_every_value_comes_back_as_the_server_s_own_text(topics: Topics, run: Run, name: str) -> None:
    of = table("public.t", {"id": "int4", "v": name, "many": f"{name}[]", "none": name}, ["id"])
    columns: list[tuple[str | None, str | None]] = [(text, array([text, None])) for text in TEXTS[name]]
    columns += [(None, array([])), (TEXTS[name][0], array([None, *TEXTS[name]])), (None, None)]
    events = [
        Event(of, "c", after={"id": at, "v": value(name, text), "many": value(f"{name}[]", many), "none": None})
        for at, (text, many) in enumerate(columns)
    ]
    run.transaction(events, position="1:0/1")
    written = Written(transactions(topics), of)
    assert [one["after"] for one in written.rows] == [
        [str(at), text, many, None] for at, (text, many) in enumerate(columns)
    ]


def test_the_placeholder_as_a_real_value_is_not_an_unchanged_one(topics: Topics, run: Run) -> None:
    run.transaction([insert(1, UNAVAILABLE)], position="1:0/1")
    (only,) = Written(transactions(topics), ACCOUNTS).rows
    assert only == row(ACCOUNTS, 1, 1, "c", key=["1"], after=["1", UNAVAILABLE, None])


# -- rows --
def test_each_kind_of_row_comes_back(topics: Topics, run: Run) -> None:
    events = [
        insert(1, "", None),
        Event(ACCOUNTS, "r", after={"id": 2, "v": None, "n": "1.50"}),
        Event(ACCOUNTS, "u", after={"id": 1, "v": UNAVAILABLE, "n": "2"}, fields={"unchanged": ["v"]}),
        Event(ACCOUNTS, "u", before={"id": 1, "v": "a", "n": "2"}, after={"id": 1, "v": None, "n": None}),
        Event(ACCOUNTS, "d", before={"id": 1}, fields={"before_absent": ["v", "n"]}),
        Event(ACCOUNTS, "d", before={"id": 2, "v": None, "n": "1.50"}, fields={"moved_to": {"id": 3}}),
        Event(ACCOUNTS, "c", after={"id": 3, "v": UNAVAILABLE, "n": UNAVAILABLE},
              fields={"moved_from": {"id": 2}, "unchanged": ["v", "n"]}),
    ]  # fmt: skip
    run.transaction(events, position="1:0/1")
    written = Written(transactions(topics), ACCOUNTS)
    assert written.rows == [
        row(ACCOUNTS, 1, 1, "c", key=["1"], after=["1", "", None]),
        row(ACCOUNTS, 1, 2, "r", key=["2"], after=["2", None, "1.50"]),
        row(ACCOUNTS, 1, 3, "u", key=["1"], after=["1", UNAVAILABLE, "2"], unchanged=[2]),
        row(ACCOUNTS, 1, 4, "u", key=["1"], before=["1", "a", "2"], after=["1", None, None]),
        row(ACCOUNTS, 1, 5, "d", key=["1"], before=["1", None, None], before_absent=[2, 3]),
        row(ACCOUNTS, 1, 6, "d", key=["2"], before=["2", None, "1.50"], moved_to=["3"]),
        row(ACCOUNTS, 1, 7, "c", key=["3"], after=["3", UNAVAILABLE, UNAVAILABLE], unchanged=[2, 3], moved_from=["2"]),
    ]
    assert written.writer.events == 7
    assert written.writer.tables == {
        "public.accounts": TableRows(rows=7, first=1, last=1, schemas=(schema_id(ACCOUNTS),))
    }


def test_rows_without_a_key_have_none(topics: Topics, run: Run) -> None:
    events = [
        note("a"), note(None), note(""),
        Event(NOTES, "u", before={"v": "a"}, after={"v": "b"}),
        Event(NOTES, "d", before={"v": None}),
    ]  # fmt: skip
    run.transaction(events, position="1:0/1")
    assert Written(transactions(topics), NOTES).rows == [
        row(NOTES, 1, 1, "c", after=["a"]),
        row(NOTES, 1, 2, "c", after=[None]),
        row(NOTES, 1, 3, "c", after=[""]),
        row(NOTES, 1, 4, "u", before=["a"], after=["b"]),
        row(NOTES, 1, 5, "d", before=[None]),
    ]


def test_keys_come_in_their_own_order_and_a_long_one_from_where_it_is_known(topics: Topics, run: Run) -> None:
    events = [
        Event(PAIRS, "c", after={"v": "x", "b": 1, "a": "long"}),
        Event(PAIRS, "u", before={"v": "x", "b": 1, "a": "long"}, after={"v": "y", "b": 1, "a": UNAVAILABLE},
              fields={"unchanged": ["a"]}),
        Event(PAIRS, "d", before={"v": "y", "b": 1, "a": "long"}, fields={"moved_to": {"a": "long", "b": 2}}),
        Event(PAIRS, "c", after={"v": "y", "b": 2, "a": UNAVAILABLE},
              fields={"unchanged": ["a"], "moved_from": {"a": "long", "b": 1}}),
    ]  # fmt: skip
    run.transaction(events, position="1:0/1")
    written = Written(transactions(topics), PAIRS)
    assert [one["key"] for one in written.rows] == [["long", "1"], ["long", "1"], ["long", "1"], ["long", "2"]]
    assert [one["moved_to"] for one in written.rows] == [None, None, ["long", "2"], None]
    assert [one["moved_from"] for one in written.rows] == [None, None, None, ["long", "1"]]
    assert [one["unchanged"] for one in written.rows] == [None, [3], None, [3]]


def test_logical_messages_are_no_rows(topics: Topics, run: Run) -> None:
    run.transaction([insert(1), insert(2)], position="1:0/1")
    (whole,) = transactions(topics)
    message, event = whole.events
    message = RowEvent("", "m", message.ordinal, "", None, {"prefix": "p", "content": ""})
    written = Written([replace(whole, events=[message, event])], ACCOUNTS)
    assert [one["ordinal"] for one in written.rows] == [2]
    assert written.writer.events == 1
    assert [one["events"] for one in written.log] == [2]


def test_rows_stand_by_table_and_transaction_a_row_group_for_each_table(topics: Topics, run: Run) -> None:
    run.transaction([note("a"), insert(1), note("b")], position="1:0/1")
    run.transaction([insert(2)], position="1:0/2")
    run.transaction([note("c"), insert(3)], position="1:0/3")
    written = Written(transactions(topics), ACCOUNTS, NOTES)
    assert written.groups == [("public.accounts", 3), ("public.notes", 3)]
    places = [(one["table"], one["txn_seq"], one["ordinal"]) for one in written.rows]
    assert places == [
        ("public.accounts", 1, 2), ("public.accounts", 2, 1), ("public.accounts", 3, 2),
        ("public.notes", 1, 1), ("public.notes", 1, 3), ("public.notes", 3, 1),
    ]  # fmt: skip
    assert written.writer.tables["public.notes"] == TableRows(rows=3, first=1, last=3, schemas=(schema_id(NOTES),))


# -- transactions and changes --
def test_transactions_come_back_heartbeats_do_not(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/1", xid=7)
    run.heartbeat(position="1:0/2")
    run.transaction([], position="1:0/3", kind="schema", commit_ts_us=None)
    run.transaction([insert(2), insert(3)], position="1:0/4", kind="snapshot", commit_ts_us=-5)
    written = Written(transactions(topics), ACCOUNTS)
    assert [tuple(one.values()) for one in written.log] == [
        (1, "data", NOW + 1, "1:0/1", "a" * 16, 1, 7, 1),
        (2, "schema", None, "1:0/3", "a" * 16, 3, None, 0),
        (3, "snapshot", -5, "1:0/4", "a" * 16, 4, None, 2),
    ]
    assert list(written.log[0]) == [
        "txn_seq", "kind", "commit_us", "position", "run", "log_offset", "xid", "events",
    ]  # fmt: skip


def test_changes_stand_where_they_hold(topics: Topics, run: Run) -> None:
    old, new = schema_id(ACCOUNTS), schema_id(WIDER)
    truncate = Event(ACCOUNTS, "t")
    wide = Event(WIDER, "c", after={"id": 2, "v": None, "n": None, "w": 9})
    run.transaction(
        [insert(1), truncate, wide, replace(truncate, table=WIDER)],
        position="1:0/1",
        changes=[Change(1, "public.accounts", old, None, "copying", "c1"),
                 Change(2, "public.accounts", old, new, "add_column")],
    )  # fmt: skip
    run.transaction(
        [Event(WIDER, "r", after={"id": 1, "v": "a", "n": None, "w": None})],
        position="1:0/2",
        kind="snapshot",
        copy=Chunk("c1", "public.accounts", 1, None, None, "1:0/1", last=False),
    )
    run.transaction(
        [],
        position="1:0/3",
        kind="snapshot",
        copy=Chunk("c1", "public.accounts", 2, None, None, "1:0/1", last=True),
    )
    written = Written(transactions(topics), ACCOUNTS, WIDER)

    def change(seq: int, at: int, effect: str, **facts: str) -> SchemaChange:
        return SchemaChange(seq=seq, at=at, table="public.accounts", effect=effect, **facts)

    assert written.writer.changes == [
        change(1, 1, "copying", old=old, copy_id="c1"),
        change(1, 2, "truncate"),
        change(1, 2, "add_column", old=old, new=new),
        change(1, 4, "truncate"),
        change(3, 0, "copied", copy_id="c1"),
    ]
    assert [(one["txn_seq"], one["op"], one["schema_id"], one["after"]) for one in written.rows] == [
        (1, "c", old, ["1", None, None]),
        (1, "c", new, ["2", None, None, "9"]),
        (2, "r", new, ["1", "a", None, None]),
    ]
    assert written.writer.used_shapes == {old, new}
    assert set(written.writer.tables["public.accounts"].schemas) == {old, new}
    assert written.writer.events == 3


def test_shapes_that_only_a_change_names_are_needed_too(topics: Topics, run: Run) -> None:
    run.transaction([], position="1:0/1", changes=[Change(0, "public.a", "aaaa", "bbbb", "add_column")])
    assert Written(transactions(topics)).writer.used_shapes == {"aaaa", "bbbb"}


def test_a_segment_without_rows_is_whole(topics: Topics, run: Run) -> None:
    run.transaction([], position="1:0/1")
    written = Written(transactions(topics))
    assert (written.rows, written.groups, written.writer.tables, written.writer.events) == ([], [], {}, 0)
    assert len(written.log) == 1
    assert Written([]).log == []


# -- what memory would not hold --
@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions of more than a handful of events are streamed, a few records fill a row group."""
    monkeypatch.setattr(sinks.assemble, "STREAMED_EVENTS", 5)
    monkeypatch.setattr(sinks.assemble, "TAKEN_BYTES", 1000)
    monkeypatch.setattr(segment, "FLUSH_BYTES", 10_000)


def test_a_huge_transaction_becomes_several_row_groups(topics: Topics, run: Run, streaming: None) -> None:
    del streaming
    run.transaction([insert(0, "before")], position="1:0/1")
    run.transaction([e for at in range(200) for e in (insert(at, "x"), note(f"{at}"))], position="1:0/2")
    run.transaction([insert(0, "after")], position="1:0/3")
    given = list[ChangeTransaction]()

    def seen() -> Iterator[ChangeTransaction]:
        for transaction in transactions(topics):
            given.append(transaction)
            yield transaction

    written = Written(seen(), ACCOUNTS, NOTES)
    assert [one.streamed for one in given] == [False, True, False]
    assert len(written.groups) > 6
    assert {name for name, _ in written.groups} == {"public.accounts", "public.notes"}
    accounts = [one for one in written.rows if one["table"] == "public.accounts"]
    assert [(one["txn_seq"], one["ordinal"]) for one in accounts] == [
        (1, 1), *((2, at * 2 + 1) for at in range(200)), (3, 1),
    ]  # fmt: skip
    notes = [one for one in written.rows if one["table"] == "public.notes"]
    assert [one["after"] for one in notes] == [[f"{at}"] for at in range(200)]
    assert written.writer.tables == {
        "public.accounts": TableRows(rows=202, first=1, last=3, schemas=(schema_id(ACCOUNTS),)),
        "public.notes": TableRows(rows=200, first=2, last=2, schemas=(schema_id(NOTES),)),
    }
    assert written.writer.events == 402
    assert sum(rows for _, rows in written.groups) == 402


def test_many_transactions_become_several_row_groups(topics: Topics, run: Run, streaming: None) -> None:
    del streaming
    for at in range(100):
        run.transaction([insert(at, "x")], position=f"1:0/{at + 1:X}")
    written = Written(transactions(topics), ACCOUNTS)
    assert len(written.groups) > 2
    assert [one["txn_seq"] for one in written.rows] == list(range(1, 101))


def test_many_streamed_ones_are_not_held_together(topics: Topics, run: Run, streaming: None) -> None:
    del streaming
    for at in range(40):
        run.transaction([insert(number, "x") for number in range(8)], position=f"1:0/{at + 1:X}")
    given = list(replaced(transactions(topics)))
    assert all(one.streamed for one in given)
    written = Written(given, ACCOUNTS)
    assert len(written.groups) > 4
    assert len(written.rows) == 320


def replaced(given: Iterator[ChangeTransaction]) -> Iterator[ChangeTransaction]:
    """Streamed as before, though their events are there already."""
    for transaction in given:
        events, weight = list(transaction.events), transaction.bytes

        def stream(
            into: ChangeTransaction, events: list[RowEvent] = events, each: int = weight // len(events)
        ) -> Iterator[RowEvent]:
            for event in events:
                into.bytes += each
                yield event

        one = replace(transaction, bytes=0)
        one.events = stream(one)
        yield one


def test_a_big_transaction_does_not_fill_memory(topics: Topics, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.transaction([], position="1:0/1")
    (empty,) = transactions(topics)
    one = replace(empty)
    monkeypatch.setattr(segment, "FLUSH_BYTES", 1 << 20)
    many, size = 12_000, 4_000

    def stream() -> Iterator[RowEvent]:
        for at in range(1, many + 1):
            one.bytes += size
            text = f"{at:0{size}d}"
            yield RowEvent("public.notes", "c", at, schema_id(NOTES), None, {"v": text})

    one.events = stream()
    file = io.BytesIO()
    tracemalloc.start()
    try:
        writer = SegmentWriter(Plain().writer("rows", file), Plain().writer("txns", io.BytesIO()), lambda _: NOTES)
        writer.add(one)
        writer.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * segment.FLUSH_BYTES < many * size / 5
    assert pq.ParquetFile(file).metadata.num_rows == many


# -- any transactions, sealed --
texts = st.none() | st.text(max_size=4) | st.sampled_from(["", "NULL", UNAVAILABLE])
events = st.one_of(
    st.builds(insert, st.integers(-2, 2), texts, st.none() | st.sampled_from(["1.50", "NaN"])), st.builds(note, texts)
)


@given(batches=st.lists(st.lists(events, max_size=6), max_size=6), flush=st.sampled_from([0, 400, 1500, 1 << 20]))
def test_whatever_was_written_comes_back(batches: list[list[Event]], flush: int) -> None:
    topics = Topics("shop")
    run = Run(topics, "a" * 16)
    run.start(copy="initial", opened=FIRST)
    for at, batch in enumerate(batches, 1):
        run.transaction(batch, position=f"1:0/{at:X}")
    key = bytes(32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "FLUSH_BYTES", flush)
        written = Written(transactions(topics), ACCOUNTS, NOTES, seal=Sealed("a" * 16, {"0" * 16: key}, "0" * 16))
    expected = [
        row(
            event.table,
            seq,
            ordinal,
            "c",
            after=text_of(event),
            key=None if event.table is NOTES else text_of(event)[:1],
        )
        for seq, batch in enumerate(batches, 1)
        for ordinal, event in enumerate(batch, 1)
    ]
    # Sorting is stable: within a table, rows stand in the order of the log.
    assert sorted(written.rows, key=lambda one: one["table"]) == sorted(expected, key=lambda one: one["table"])
    assert [one["events"] for one in written.log] == [len(batch) for batch in batches]
    # A column's name: longer than what random bytes spell by chance.
    assert not any(b"txn_seq" in stored for stored in written.stored)


def text_of(event: Event) -> list[str | None]:
    assert event.after is not None
    return [None if found is None else str(found) for found in event.after.values()]
