"""`TransactionReader` with a real Kafka: in order and once, late or lost, deleted, made anew, too large to hold."""

import time
from collections.abc import Callable
from typing import Any

import pytest

import sinks.reader
from cdc.errors import (
    EVENTS_LOST,
    LOG_LOST,
    PROGRESS_UNKNOWN,
    SCHEMA_UNKNOWN,
    TOPIC_COMPACTED,
    TOPIC_MISSING,
    TOPIC_REPLACED,
    CdcError,
    Code,
)
from cdc.log import Opened, Span
from cdc.shape import schema_id
from sinks import ChangeTransaction, Progress, TransactionReader
from tests.log_writer import Event, Run, Topics, table
from tests.servers.kafka import Kafka
from tests.system.cluster import Cluster, run_of

ACCOUNTS = table("public.accounts", {"id": "int4", "v": "text"}, ["id"])
NOTES = table("public.notes", {"v": "text"})
PATIENCE_S = 20.0
Handed = list[tuple[int, int, list[Any]]]


def insert(key: int, v: str = "") -> Event:
    return Event(ACCOUNTS, "c", after={"id": key, "v": v})


def note(v: str) -> Event:
    return Event(NOTES, "c", after={"v": v})


class Source:
    """Topics in Kafka with two tables, and a run that has started."""

    def __init__(self, prefix: str, bootstrap: str, partitions: int = 2) -> None:
        self.topics = Topics(prefix, partitions)
        self.cluster = Cluster(self.topics, bootstrap)
        self.notes, self.accounts = f"{prefix}.public.notes", f"{prefix}.public.accounts"
        self.run = run_of(self.topics)

    def open(self) -> "Source":
        self.schemas = tuple(self.cluster.make(ACCOUNTS, NOTES))
        self.run.start(copy="initial", opened=Opened("first", None))
        return self

    def commit(self, *events: Event, run: Run | None = None, **facts: Any) -> None:
        run = run or self.run
        position = f"1:0/{len(self.topics.log):X}"
        run.transaction(events, position=position, **({"schemas": self.schemas} | facts))

    def copy_again(self) -> Run:
        run = run_of(self.topics, "c", epoch=2)
        run.start(copy="initial", opened=Opened("copy_again", None))
        return run

    def reader(self, after: Progress | None = None, **facts: Any) -> TransactionReader:
        return TransactionReader(self.cluster.options, source=self.topics.prefix, after=after, **facts)


@pytest.fixture
def source(kafka: Kafka, unique_name: str) -> Source:
    return Source(unique_name, kafka.bootstrap).open()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks.reader, "_LATE_S", 0.2)
    monkeypatch.setattr(sinks.reader, "_LOST_S", 1.0)


def taken(transaction: ChangeTransaction) -> tuple[int, int, list[Any]]:
    rows = [dict(event.after or event.before or {}) for event in transaction.events]
    return transaction.epoch, transaction.txn_seq, [row.get("id", row["v"]) for row in rows]


def read(reader: TransactionReader, count: int) -> Handed:
    """So many transactions, and no further one."""
    seen: Handed = []
    deadline = time.monotonic() + PATIENCE_S
    while len(seen) < count and time.monotonic() < deadline:
        transaction = reader.poll(0.5)
        if transaction is not None:
            seen.append(taken(transaction))
    assert reader.poll(0.3 if seen else 2.0) is None
    return seen


def stopped(reader: TransactionReader) -> tuple[Handed, Code, str]:
    """What comes before the error, and the error."""
    seen: Handed = []
    deadline = time.monotonic() + PATIENCE_S
    with reader, pytest.raises(CdcError) as error:  # noqa: PT012 - what comes before it counts
        while time.monotonic() < deadline:
            transaction = reader.poll(0.5)
            if transaction is not None:
                seen.append(taken(transaction))
    return seen, error.value.code, str(error.value)


# -- in order and once --
def test_every_transaction_once_and_in_order(source: Source) -> None:
    source.commit(insert(1), insert(2), note("x"), insert(3))
    source.commit(note("y"))
    source.run.heartbeat(position="1:0/AA")
    source.commit(*[insert(key) for key in range(10, 30)])
    source.cluster.publish()
    with source.reader() as reader:
        assert read(reader, 3) == [(1, 1, [1, 2, "x", 3]), (1, 2, ["y"]), (1, 3, list(range(10, 30)))]
        assert reader.schema(schema_id(ACCOUNTS)) == ACCOUNTS
        assert reader.ignored == 0


def test_goes_on_behind_any_progress(source: Source) -> None:
    for key in range(5):
        source.commit(insert(key), note(str(key)))
    source.run.heartbeat(position="1:0/AA")
    source.cluster.publish()
    saved: list[Progress] = []
    with source.reader() as reader:
        for transaction in reader:
            taken(transaction)
            assert reader.progress is not None
            saved.append(reader.progress)
            if len(saved) == 5:
                break
    for done, after in enumerate(saved, 1):
        with source.reader(after) as reader:
            assert [seq for _, seq, _ in read(reader, 5 - done)] == list(range(done + 1, 6))
            assert reader.progress is not None
            assert (reader.progress.txn_seq, reader.progress.position) == (5, "1:0/AA")


def test_what_is_committed_while_reading_comes_at_once(source: Source) -> None:
    """The transaction is handed on when its last record is there, not when a poll has waited its time."""
    source.commit(insert(0))
    source.cluster.publish()
    waits: list[float] = []
    with source.reader() as reader:
        read(reader, 1)
        for key in range(1, 11):
            source.commit(insert(key), note("x"))
            source.cluster.publish()
            began = time.monotonic()
            transaction = reader.poll(5)
            waits.append(time.monotonic() - began)
            assert transaction is not None
            assert taken(transaction)[2] == [key, "x"]
    assert sorted(waits)[5] < 0.1


def test_an_end_may_come_before_its_rows_are_read(source: Source) -> None:
    source.commit(insert(1), note("x"))
    source.cluster.publish(rows=False)
    with source.reader() as reader:
        assert reader.poll(0.5) is None
        source.cluster.publish()
        assert read(reader, 1) == [(1, 1, [1, "x"])]


def test_rows_without_an_end_are_not_handed_on(source: Source) -> None:
    source.commit(insert(1))
    source.run.events([insert(2), note("x")])
    source.cluster.publish()
    with source.reader() as reader:
        assert read(reader, 1) == [(1, 1, [1])]


def test_a_reader_may_be_earlier_than_its_source(kafka: Kafka, unique_name: str) -> None:
    source = Source(unique_name, kafka.bootstrap)
    with source.reader() as reader:
        assert reader.poll(0.2) is None
        source.open().commit(insert(1))
        source.cluster.publish()
        assert read(reader, 1) == [(1, 1, [1])]


def test_a_table_that_comes_later_is_read_from_where_it_begins(source: Source) -> None:
    source.commit(insert(1))
    source.cluster.publish()
    later = table("public.later", {"v": "text"})
    with source.reader() as reader:
        assert read(reader, 1) == [(1, 1, [1])]
        schema = source.cluster.remember(later)
        source.commit(Event(later, "c", after={"v": "late"}), schemas=(schema,))
        source.cluster.publish()
        assert read(reader, 1) == [(1, 2, ["late"])]
        assert reader.schema(schema[0]) == later


def test_a_broker_that_comes_back_is_read_on(source: Source, kafka: Kafka) -> None:
    source.commit(insert(1))
    source.cluster.publish()
    with source.reader() as reader:
        assert read(reader, 1) == [(1, 1, [1])]
        kafka.restart()
        source.commit(insert(2))
        source.cluster.publish()
        assert read(reader, 1) == [(1, 2, [2])]


# -- late or lost --
@pytest.mark.parametrize("offset", [0, 1, 99])
def test_a_progress_that_the_log_does_not_hold(source: Source, offset: int) -> None:
    source.commit(insert(1))
    source.commit(insert(2))
    source.cluster.publish()
    seen, code, text = stopped(source.reader(Progress(1, 2, "a" * 16, "1:0/2", offset)))
    assert (seen, code) == ([], PROGRESS_UNKNOWN)
    assert f"at offset {offset}" in text


def test_a_progress_of_another_run_is_unknown(source: Source) -> None:
    source.commit(insert(1))
    source.cluster.publish()
    assert stopped(source.reader(Progress(1, 1, "b" * 16, "1:0/1", 1)))[1] is PROGRESS_UNKNOWN


def test_a_log_that_was_deleted_is_missed(source: Source) -> None:
    source.commit(insert(1))
    source.cluster.publish()
    source.cluster.delete(f"{source.topics.prefix}.transaction")
    assert stopped(source.reader(Progress(1, 1, "a" * 16, "1:0/1", 1)))[1] is TOPIC_MISSING


def test_retention_past_a_stopped_reader(source: Source) -> None:
    source.topics.partitions = 1
    source.commit(note("1"))
    source.commit(note("2"), note("3"))
    source.cluster.publish()
    source.cluster.expire(source.notes, 2)
    seen, code, text = stopped(source.reader())
    assert (seen, code) == ([], LOG_LOST)
    assert f"{source.notes}[0] begins at offset 2, this reader needs 0" in text


def test_a_log_without_its_beginning(source: Source) -> None:
    source.commit(insert(1))
    source.commit(insert(2))
    run_of(source.topics, "b", txn_seq=2, position=source.run.position).start()
    source.cluster.publish()
    source.cluster.expire(f"{source.topics.prefix}.transaction", 2)
    seen, code, _ = stopped(source.reader())
    assert (seen, code) == ([], LOG_LOST)


@pytest.mark.usefixtures("impatient")
def test_acknowledged_records_that_are_not_there(source: Source) -> None:
    source.commit(note("1"))
    source.run.end([Span(source.notes, 0, 1, 1, 1)], position="1:0/F")
    source.cluster.publish()
    seen, code, text = stopped(source.reader())
    assert (seen, code) == ([(1, 1, ["1"])], EVENTS_LOST)
    assert "offsets 1..1" in text
    assert "ends at offset 0" in text


@pytest.mark.usefixtures("impatient")
def test_a_topic_that_is_deleted_or_made_again_is_not_taken_for_slow(source: Source) -> None:
    source.commit(note("1"))
    source.cluster.publish()
    source.cluster.delete(source.notes)
    assert stopped(source.reader())[1] is TOPIC_MISSING
    source.cluster.admin.create(source.notes, partitions=2, replicas=1, config={})
    assert stopped(source.reader())[1] is TOPIC_REPLACED


def test_a_compacted_topic_is_refused(source: Source) -> None:
    source.commit(note("1"))
    source.cluster.publish()
    source.cluster.alter(source.notes, cleanup_policy="compact,delete")
    seen, code, text = stopped(source.reader())
    assert (seen, code) == ([], TOPIC_COMPACTED)
    assert source.notes in text


def test_a_shape_that_is_lost(source: Source) -> None:
    source.commit(note("1"), schemas=(("f" * 16, 1),))
    source.cluster.publish()
    assert stopped(source.reader())[1] is SCHEMA_UNKNOWN


# -- a copy voids what was lost before it --
LOSSES: dict[str, Callable[[Source], object]] = {
    "rows expired": lambda s: s.cluster.expire(s.accounts, 1),
    "row topic deleted": lambda s: s.cluster.delete(s.accounts),
    "log expired": lambda s: s.cluster.expire(f"{s.topics.prefix}.transaction", 2),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("loss", LOSSES)
def test_goes_on_at_a_copy_that_voids_the_loss(kafka: Kafka, unique_name: str, loss: str) -> None:
    source = Source(unique_name, kafka.bootstrap, partitions=1).open()
    source.commit(insert(1))
    source.commit(insert(2))
    source.cluster.publish()
    LOSSES[loss](source)
    progress = Progress(1, 1, "a" * 16, "1:0/1", 1) if loss == "log expired" else None
    assert stopped(source.reader(progress))[0] in ([], [(1, 1, [1])])
    copy = source.copy_again()
    source.commit(note("copied"), run=copy)
    source.cluster.publish()
    with source.reader(progress) as reader:
        assert read(reader, 1)[-1] == (2, 1, ["copied"])
        assert reader.progress is not None
        assert reader.progress.epoch == 2


def test_topics_made_anew_for_a_new_copy_are_read_from_their_beginning(source: Source) -> None:
    source.commit(*[note(str(n)) for n in range(5)])
    source.cluster.publish()
    with source.reader() as reader:
        assert len(read(reader, 1)) == 1
        source.cluster.delete(source.notes)
        while source.cluster.admin.describe([source.notes]):
            time.sleep(0.05)
        schema = source.cluster.remember(NOTES)
        source.cluster.forget((source.notes, 0))
        copy = source.copy_again()
        source.commit(note("new"), run=copy, schemas=(schema,))
        source.cluster.publish()
        assert read(reader, 1)[-1] == (2, 1, ["new"])


# -- what does not fit into memory --
def fill(source: Source, transactions: int, rows: int, size: int) -> Handed:
    """Large rows, all of one table in one partition far ahead of the others."""
    expected: Handed = []
    for seq in range(1, transactions + 1):
        events = [note("n" * size) for _ in range(rows)] + [insert(seq, "a" * size)]
        source.commit(*events)
        expected.append((1, seq, ["n" * size] * rows + [seq]))
    return expected


def test_partitions_that_run_ahead_are_paused(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks.reader, "_POLL_RECORDS", 10)
    expected: Handed = []
    for seq in range(1, 41):
        # What comes second is read along from the beginning, and waits.
        events = [insert(seq * 20 + i, "a" * 1_000) if seq <= 20 else note("n" * 1_000) for i in range(20)]
        source.commit(*events)
        expected.append((1, seq, [seq * 20 + i if seq <= 20 else "n" * 1_000 for i in range(20)]))
    source.cluster.publish()
    most, paused = 0, False
    with source.reader(budget_bytes=100_000) as reader:
        seen: Handed = []
        while len(seen) < 40:
            transaction = reader.poll(10)
            assert transaction is not None
            most = max(most, reader.buffered_bytes)
            paused = paused or bool(reader._paused)
            seen.append(taken(transaction))
        assert reader.poll(0.2) is None
    assert seen == expected
    assert paused
    assert most < 200_000


def test_a_transaction_larger_than_the_budget_is_streamed(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks.reader, "_POLL_RECORDS", 10)
    events = [event for n in range(300) for event in (note("n" * 1_000), insert(n, "a" * 1_000))]
    source.commit(note("before"))
    source.commit(*events)
    source.commit(note("after"))
    source.cluster.publish()
    most = 0
    with source.reader(budget_bytes=50_000) as reader:
        seen: Handed = []
        while len(seen) < 3:
            transaction = reader.poll(1.0, stream=bool(seen))
            if transaction is None:
                continue
            if transaction.streamed:
                ordinals = []
                for event in transaction.events:
                    ordinals.append(event.ordinal)
                    most = max(most, reader.buffered_bytes)
                assert ordinals == list(range(1, 601))
                seen.append((1, transaction.txn_seq, []))
            else:
                seen.append(taken(transaction))
    assert seen == [(1, 1, ["before"]), (1, 2, []), (1, 3, ["after"])]
    assert most < 150_000


def test_a_streamed_transaction_must_be_taken_to_its_end(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.assemble.STREAMED_EVENTS", 2)
    source.commit(note("1"), note("2"), note("3"))
    source.cluster.publish()
    with source.reader() as reader:
        transaction = reader.poll(5)
        assert transaction is not None
        with pytest.raises(RuntimeError):
            reader.poll(0)
        assert taken(transaction) == (1, 1, ["1", "2", "3"])
        assert reader.poll(0) is None


def test_rows_ahead_of_an_end_that_is_not_written_yet_do_not_fill_memory(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A huge transaction whose END is still to come: its events are there, nobody can ask for them."""
    monkeypatch.setattr(sinks.reader, "_POLL_RECORDS", 10)
    source.commit(note("first"))
    spans = source.run.events([note("n" * 1_000) for _ in range(500)])
    source.cluster.publish()
    with source.reader(budget_bytes=50_000) as reader:
        assert len(read(reader, 1)) == 1
        for _ in range(5):
            assert reader.poll(0.1) is None
        assert reader.buffered_bytes < 100_000
        source.run.end(spans, position="1:0/FF")
        source.cluster.publish()
        transaction = reader.poll(10)
        assert transaction is not None
        assert len(list(transaction.events)) == 500
