"""`sinks.assemble`, `sinks.continuity`: whole valid transactions in order, whatever else is in the topics."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sinks.assemble
from cdc.errors import CORRUPT_EVENT, CORRUPT_LOG, EPOCH_GAP, EVENTS_LOST, LOG_GAP, CdcError, Code
from cdc.event import RowEvent
from cdc.log import End, Gap, Identity, Opened, Span
from cdc.logparse import parse
from cdc.topics import log_topic
from sinks.assemble import Assembler
from sinks.transaction import ChangeTransaction, Progress
from tests.log_writer import Event, Partition, Run, Topics, table

ACCOUNTS = table("public.accounts", {"id": "int4", "v": "text"}, ["id"])
NOTES = table("public.notes", {"v": "text"})
FIRST = Opened("first", None)
OTHER = Identity("postgresql", "7999", 1, "shop", "cdc_shop")
Handed = tuple[int, int, list[tuple[str, Any]]]
Choose = Callable[[list[Partition]], Partition]


def insert(key: int, v: str = "") -> Event:
    return Event(ACCOUNTS, "c", after={"id": key, "v": v})


def note(v: str) -> Event:
    return Event(NOTES, "c", after={"v": v})


class Feeder:
    """Reads `Topics` into an assembler as a reader would, in steps that a test chooses."""

    def __init__(self, topics: Topics, after: Progress | None = None, **facts: Any) -> None:
        self.topics = topics
        self.log = log_topic(topics.prefix), 0
        self.next: dict[Partition, int] = {self.log: 0}
        if after:
            last = parse(topics.log[after.log_offset][1] or b"")
            facts = {"last": last} | facts
            self.next[self.log] = after.log_offset + 1
        self.assembler = Assembler(topics.prefix, after, **facts)

    def feed(self, partition: Partition) -> None:
        """One more record of this partition."""
        offset = self.next[partition]
        _, value = self.topics.records[partition][offset]
        if partition == self.log:
            self.assembler.log(offset, value)
        else:
            self.assembler.row(partition, offset, value)
        self.next[partition] = offset + 1

    def feed_any(self, choose: Choose) -> bool:
        """One more record of the partition that `choose` names, if any has one."""
        ready = [p for p, offset in self.next.items() if offset < len(self.topics.records[p])]
        if ready:
            self.feed(choose(ready))
        return bool(ready)

    def assign(self) -> None:
        """What is asked for, and along with it what later transactions will ask for."""
        wanted = self.assembler.unassigned()
        for partition, first in ({**self.assembler.ahead(), **wanted} if wanted else {}).items():
            self.next[partition] = first
            self.assembler.assigned(partition)

    def read_log(self) -> None:
        """Up to the first transaction, whose partitions are assigned then."""
        while not self.assembler.unassigned():
            self.feed(self.log)
            self.assembler.next()
        self.assign()

    def drain(self, choose: Choose = lambda ready: ready[0]) -> Iterator[Handed]:
        """Everything there is, one record at a time."""
        while True:
            while (transaction := self.assembler.next()) is not None:
                events = list(transaction.events)
                while self.assembler.streaming:
                    taken = self.assembler.take(1)
                    events += taken
                    if not taken and self.assembler.streaming:
                        assert self.feed_any(choose), "it waits for records that will not come"
                yield transaction.epoch, transaction.txn_seq, [_row(event) for event in events]
            self.assign()
            if not self.feed_any(choose):
                return


def _row(event: RowEvent) -> tuple[str, Any]:
    return event.op, dict(event.after or event.before or {})


def read(topics: Topics, after: Progress | None = None, **facts: Any) -> list[Handed]:
    return list(Feeder(topics, after, **facts).drain())


def stopped(topics: Topics, after: Progress | None = None, **facts: Any) -> tuple[list[Handed], Code]:
    """What is handed on before the error, and its code."""
    seen: list[Handed] = []
    with pytest.raises(CdcError) as error:  # noqa: PT012 - what comes before it counts
        for transaction in Feeder(topics, after, **facts).drain():
            seen.append(transaction)  # noqa: PERF402
    return seen, error.value.code


@pytest.fixture
def topics() -> Topics:
    return Topics("shop")


@pytest.fixture
def run(topics: Topics) -> Run:
    run = Run(topics, "a" * 16)
    run.start(copy="initial", opened=FIRST)
    return run


def behind(run: Run, log_offset: int) -> Progress:
    """Behind the run's last END, which is at this offset."""
    return Progress.behind(run.ends[-1], log_offset)


# -- any prefix, any redelivery, any dead run --
@st.composite
def histories(draw: st.DrawFn) -> tuple[Topics, list[Handed]]:
    """What the runs of a source and their woken predecessors wrote, and the transactions that count."""
    topics = Topics("shop", partitions=draw(st.integers(1, 3)))
    batches = st.lists(st.one_of(st.integers(0, 5).map(insert), st.sampled_from("xyz").map(note)), max_size=4)
    dead: list[Run] = []
    counted: list[Handed] = []
    live = Run(topics, f"{0:016x}")
    for number in range(draw(st.integers(1, 4))):
        if number:
            live.events(draw(batches))  # cut off before its END; the next run sends its own
            dead.append(Run(topics, live.run, txn_seq=live.txn_seq, position=live.position))
            live = Run(topics, f"{number:016x}", txn_seq=live.txn_seq, position=live.position)
        live.start(copy="none" if number else "initial", opened=None if number else FIRST)
        for _ in range(draw(st.integers(0, 5))):
            action = draw(st.sampled_from(["commit", "commit", "mixed", "heartbeat", "again", "woken"]))
            position = f"1:0/{len(topics.log):X}"
            events = draw(batches)
            if action == "commit" or (action == "mixed" and dead):
                others = [draw(st.sampled_from(dead)).run for _ in events] if action == "mixed" else []
                noise = iter([(Run(topics, run, txn_seq=live.txn_seq), draw(batches)) for run in others])
                live.end(_interleaved(live, events, noise), position=position)
                counted.append((1, live.txn_seq, [(e.op, dict(e.after or {})) for e in events]))
            elif action == "heartbeat":
                live.heartbeat(position=position)
            elif action == "again" and live.ends:
                topics.append((log_topic("shop"), 0), None, live.ends[-1].to_bytes())
            elif action == "woken" and dead:
                woken = draw(st.sampled_from(dead))
                spans = woken.events(events)
                if draw(st.booleans()):
                    woken.end(spans, position=position)
    return topics, counted


def _interleaved(live: Run, events: list[Event], noise: Iterator[tuple[Run, list[Event]]]) -> Sequence[Span]:
    """The events of one run with those of others between them."""

    def between() -> None:
        for run, others in itertools.islice(noise, 1):
            run.events(others)

    return live.events(events, between)


@settings(max_examples=300, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_hands_on_exactly_the_valid_transactions_in_order(history: tuple[Topics, list[Handed]], random: Any) -> None:
    topics, counted = history
    seen: list[Handed] = []
    for transaction in Feeder(topics).drain(random.choice):
        seen.append(transaction)
        assert seen == counted[: len(seen)]
    assert seen == counted


@settings(max_examples=200, deadline=None)
@given(histories(), st.data())
def test_goes_on_behind_any_end_as_if_it_had_never_stopped(
    history: tuple[Topics, list[Handed]], data: st.DataObject
) -> None:
    topics, counted = history
    first = Feeder(topics)
    drain = first.drain()
    seen = [next(drain) for _ in range(data.draw(st.integers(0, len(counted))))]
    assert seen + read(topics, first.assembler.progress) == counted


@settings(max_examples=200, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_a_streamed_transaction_has_the_same_events(history: tuple[Topics, list[Handed]], random: Any) -> None:
    topics, counted = history
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinks.assemble, "STREAMED_EVENTS", 1)
        assert list(Feeder(topics).drain(random.choice)) == counted


# -- the rules one by one --
def test_ends_of_a_dead_run_are_ignored_and_counted(topics: Topics, run: Run) -> None:
    run.transaction([insert(1, "mine")], position="1:0/1")
    successor = Run(topics, "b" * 16, txn_seq=1, position="1:0/1")
    successor.start()
    run.transaction([insert(2, "dead")], position="1:0/2")
    successor.transaction([insert(2, "alive")], position="1:0/2")
    feeder = Feeder(topics)
    seen = list(feeder.drain())
    assert [rows for _, _, rows in seen[1:]] == [[("c", {"id": 2, "v": "alive"})]]
    assert feeder.assembler.ignored == 1


def test_events_of_a_dead_run_inside_a_range_are_ignored_and_counted(topics: Topics, run: Run) -> None:
    successor = Run(topics, "b" * 16)
    successor.start()
    first = successor.events([note("1"), note("2")])[0]
    records = topics.records[first.topic, 0]
    run.events([note("dead")])
    records[1], records[2] = records[2], records[1]
    successor.end([Span(first.topic, 0, 0, 2, 2)], position="1:0/2")
    feeder = Feeder(topics)
    assert [rows for _, _, rows in feeder.drain()] == [[("c", {"v": "1"}), ("c", {"v": "2"})]]
    assert feeder.assembler.ignored == 1


def test_events_of_another_transaction_inside_a_range_are_not_taken(topics: Topics, run: Run) -> None:
    (span,) = run.events([note("of 1")])
    run.txn_seq = 1
    run.events([note("of 2"), note("of 2")])
    run.txn_seq = 0
    run.end([Span(span.topic, 0, 0, 2, 1)], position="1:0/2")
    assert [rows for _, _, rows in read(topics)] == [[("c", {"v": "of 1"})]]


def test_an_old_run_may_still_add_ends_before_the_next_start(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/1")
    run.transaction([insert(2)], position="1:0/2")
    Run(topics, "b" * 16, txn_seq=2, position="1:0/2").start()
    assert [txn_seq for _, txn_seq, _ in read(topics)] == [1, 2]


def test_heartbeats_move_the_progress_and_are_no_transactions(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/1")
    run.heartbeat(position="1:0/5")
    feeder = Feeder(topics)
    assert len(list(feeder.drain())) == 1
    assert feeder.assembler.progress == Progress(1, 1, "a" * 16, "1:0/5", 2, 1_700_000_000_000_001)


def test_samples_of_sequences_are_kept_until_they_are_taken(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/1")
    run.end(position="1:0/2", kind="heartbeat", sequences=(("public.a", 1), ("public.b", 1)))
    run.end(position="1:0/3", kind="heartbeat", sequences=(("public.a", 2),))
    feeder = Feeder(topics)
    list(feeder.drain())
    assert feeder.assembler.sequences == {"public.a": 2, "public.b": 1}


def test_an_end_without_commit_time_leaves_the_last_one(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/1")
    run.end(position="1:0/2", kind="heartbeat", commit_ts_us=None)
    feeder = Feeder(topics)
    list(feeder.drain())
    assert feeder.assembler.progress == Progress(1, 1, "a" * 16, "1:0/2", 2, 1_700_000_000_000_001)


def test_tombstones_are_in_no_count(topics: Topics, run: Run) -> None:
    run.transaction([insert(1), Event(ACCOUNTS, "d", before={"id": 1, "v": None}), insert(1)], position="1:0/1")
    assert [op for op, _ in read(topics)[0][2]] == ["c", "d", "c"]


def test_optional_fields_reach_the_row_event(topics: Topics, run: Run) -> None:
    gone = {"before_absent": ["v"], "moved_to": {"id": 2}}
    came = {"unchanged": ["v"], "moved_from": {"id": 1}}
    run.transaction(
        [
            Event(ACCOUNTS, "d", before={"id": 1, "v": None}, fields=gone),
            Event(ACCOUNTS, "c", after={"id": 2, "v": "?"}, fields=came),
        ],
        position="1:0/1",
    )
    feeder = Feeder(topics)
    feeder.read_log()
    transaction: ChangeTransaction | None = None
    while transaction is None:
        feeder.feed_any(lambda ready: ready[-1])
        transaction = feeder.assembler.next()
    deleted, inserted = transaction.events
    assert (deleted.moved_to, deleted.before_absent) == ({"id": 2}, ("v",))
    assert (inserted.moved_from, inserted.unchanged) == ({"id": 1}, ("v",))
    assert deleted.table == "public.accounts"


def test_a_missing_number_is_a_gap_after_what_came_before(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/1")
    run.txn_seq += 1
    run.transaction([insert(2)], position="1:0/3")
    seen, code = stopped(topics)
    assert (len(seen), code) == (1, LOG_GAP)


def test_a_wrong_previous_position_is_a_gap(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/1")
    run.position = "1:0/2"
    run.transaction([insert(2)], position="1:0/3")
    assert stopped(topics)[1] is LOG_GAP


def test_a_heartbeat_must_repeat_the_last_number(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/1")
    run.txn_seq += 1
    run.heartbeat(position="1:0/3")
    assert stopped(topics)[1] is LOG_GAP


def test_a_repeated_end_is_passed_over_also_right_behind_a_restart(topics: Topics, run: Run) -> None:
    end = run.transaction([insert(1)], position="1:0/1")
    topics.append((log_topic("shop"), 0), None, end.to_bytes())
    run.transaction([insert(2)], position="1:0/2")
    assert len(read(topics)) == 2
    assert len(read(topics, Progress.behind(end, 1))) == 1


def test_fewer_events_than_counted_are_lost(topics: Topics, run: Run) -> None:
    (span,) = run.events([note("x"), note("y")])
    topics.records[span.topic, 0][0] = (None, None)
    run.end([span], position="1:0/1")
    assert stopped(topics)[1] is EVENTS_LOST


def test_a_hole_in_the_ordinals_is_a_loss(topics: Topics, run: Run) -> None:
    (span,) = run.events([note("x"), note("y")])
    records = topics.records[span.topic, 0]
    records[0] = (None, (records[0][1] or b"").replace(b'"ordinal":1', b'"ordinal":7'))
    run.end([span], position="1:0/1")
    assert stopped(topics)[1] is EVENTS_LOST


def test_a_repeated_event_counts_once(topics: Topics, run: Run) -> None:
    (span,) = run.events([note("x"), note("y")])
    records = topics.records[span.topic, 0]
    records.insert(1, records[0])
    run.end([Span(span.topic, 0, 0, 2, 2)], position="1:0/1")
    assert [row["v"] for _, row in read(topics)[0][2]] == ["x", "y"]


@pytest.mark.parametrize("garbage", [b"{", b"[]", b"{}", b'{"source":{}}', b'{"source":null}'])
def test_an_event_that_cannot_be_read_stops(topics: Topics, run: Run, garbage: bytes) -> None:
    (span,) = run.events([note("x"), note("y")])
    topics.records[span.topic, 0][0] = (None, garbage)
    run.end([span], position="1:0/1")
    assert stopped(topics)[1] is CORRUPT_EVENT
    assert "the registry is not the one that gave its ids" in CORRUPT_EVENT.hint


def test_a_part_of_a_split_event_is_not_taken_for_a_whole(topics: Topics, run: Run) -> None:
    run.transaction([Event(NOTES, "c", after={"v": "x"}, fields={"part": [1, 2]})], position="1:0/1")
    assert stopped(topics)[1] is CORRUPT_EVENT


@pytest.mark.parametrize("garbage", [None, b"", b"{", b'{"status":"WAIT"}', b'{"status":"END","v":2}'])
def test_a_log_record_that_cannot_be_read_stops_in_its_turn(topics: Topics, run: Run, garbage: bytes | None) -> None:
    run.transaction([insert(1)], position="1:0/1")
    topics.append((log_topic("shop"), 0), None, garbage)
    seen, code = stopped(topics)
    assert (len(seen), code) == (1, CORRUPT_LOG)


def test_debeziums_begin_is_skipped(topics: Topics, run: Run) -> None:
    topics.append((log_topic("shop"), 0), None, b'{"status":"BEGIN","id":"1:1"}')
    run.transaction([insert(1)], position="1:0/1")
    assert len(read(topics)) == 1


# -- epochs --
def test_a_new_copy_is_crossed_into_from_anywhere(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/9")
    again = Run(topics, "b" * 16, epoch=2)
    again.start(copy="initial", opened=Opened("copy_again", "1:0/5"))
    again.transaction([insert(7)], position="1:0/5")
    assert [(epoch, seq) for epoch, seq, _ in read(topics)] == [(1, 1), (2, 1)]
    assert [(epoch, seq) for epoch, seq, _ in read(topics, behind(run, 1))] == [(2, 1)]


def test_a_new_copy_voids_an_accepted_gap(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/9")
    again = Run(topics, "b" * 16, epoch=2)
    gap = Gap("slot", "1:0/9", "1:0/F", (), "ann")
    again.start(copy="initial", opened=Opened("copy_again", "1:0/5"), gaps=(gap,))
    again.transaction([insert(7)], position="1:0/5")
    assert len(read(topics)) == 2


def test_an_adopted_epoch_skips_what_is_behind_us(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/3")
    adopted = Run(topics, "b" * 16, epoch=2)
    adopted.start(opened=Opened("adopt", "1:0/2"))
    adopted.transaction([insert(1)], position="1:0/3")
    adopted.heartbeat(position="1:0/3")
    adopted.transaction([insert(2)], position="1:0/4")
    assert [(epoch, seq) for epoch, seq, _ in read(topics)] == [(1, 1), (2, 2)]


def test_progress_stays_in_the_old_epoch_while_skipping(topics: Topics, run: Run) -> None:
    """Else a restart in between would apply again what the old epoch had applied."""
    run.transaction([insert(1)], position="1:0/3")
    adopted = Run(topics, "b" * 16, epoch=2)
    adopted.start(opened=Opened("adopt", "1:0/1"))
    adopted.transaction([insert(1)], position="1:0/2")
    adopted.heartbeat(position="1:0/3")
    feeder = Feeder(topics)
    list(feeder.drain())
    assert feeder.assembler.progress == behind(run, 1)


@pytest.mark.parametrize(
    ("opened", "gaps"),
    [
        (Opened("adopt", "1:0/4"), ()),
        (Opened("adopt", None), ()),
        (Opened("first", None), ()),
        (None, ()),
        (Opened("adopt", "1:0/1"), (Gap("publication", "1:0/1", "1:0/2", ("public.t",), "ann"),)),
    ],
)
def test_an_epoch_that_does_not_continue_ours_stops(
    topics: Topics, run: Run, opened: Opened | None, gaps: tuple[Gap, ...]
) -> None:
    run.transaction([insert(1)], position="1:0/3")
    Run(topics, "b" * 16, epoch=2).start(opened=opened, gaps=gaps)
    seen, code = stopped(topics)
    assert (len(seen), code) == (1, EPOCH_GAP)


def test_another_server_is_not_adopted(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/3")
    Run(topics, "b" * 16, epoch=2, identity=OTHER).start(opened=Opened("adopt", "1:0/2"))
    assert stopped(topics)[1] is EPOCH_GAP


def test_a_run_of_another_server_in_the_same_epoch_stops(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/3")
    Run(topics, "b" * 16, identity=OTHER).start()
    assert stopped(topics)[1] is EPOCH_GAP


def test_adopting_in_the_middle_of_a_run_asks_for_its_start(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/3")
    start = parse(topics.log[0][1] or b"")
    Run(topics, "c" * 16, epoch=2).start(opened=Opened("adopt", "1:0/2"))
    assert read(topics, behind(run, 1), origin=lambda: start) == []
    assert stopped(topics, behind(run, 1))[1] is EPOCH_GAP


def test_the_start_is_not_asked_for_without_need(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/3")
    Run(topics, "b" * 16, txn_seq=1, position="1:0/3").start()
    Run(topics, "c" * 16, epoch=2).start(opened=Opened("adopt", "1:0/2"))
    asked: list[bool] = []
    read(topics, behind(run, 1), origin=lambda: asked.append(True))
    assert not asked


def test_an_epoch_never_goes_back(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/3")
    Run(topics, "b" * 16, epoch=0).start(copy="initial", opened=Opened("copy_again", None))
    assert stopped(topics)[1] is EPOCH_GAP


def test_a_log_without_its_beginning_is_noticed_and_a_later_copy_mends_it() -> None:
    topics = Topics("shop")
    late = Run(topics, "b" * 16, txn_seq=5, position="1:0/5")
    late.transaction([insert(1)], position="1:0/6")
    late.start()
    late.transaction([insert(1)], position="1:0/7")
    feeder = Feeder(topics)
    assert list(feeder.drain()) == []
    assert feeder.assembler.missed_beginning
    again = Run(topics, "c" * 16, epoch=2)
    again.start(copy="initial", opened=Opened("copy_again", None))
    again.transaction([insert(1)], position="1:0/8")
    assert [(epoch, seq) for epoch, seq, _ in read(topics)] == [(2, 1)]


# -- what does not fit --
def test_a_transaction_without_room_is_handed_on_before_its_events(topics: Topics, run: Run) -> None:
    rows = "shop.public.notes", 0
    run.transaction([note("x"), note("y"), note("z")], position="1:0/1")
    feeder = Feeder(topics)
    feeder.read_log()
    feeder.feed(rows)
    assert feeder.assembler.next() is None
    transaction = feeder.assembler.next(full=True)
    assert transaction is not None
    assert transaction.streamed
    assert [e.ordinal for e in feeder.assembler.take(10)] == [1]
    assert feeder.assembler.wanted() == [rows]
    assert (feeder.assembler.take(10), feeder.assembler.streaming) == ([], True)
    feeder.feed(rows)
    feeder.feed(rows)
    assert [e.ordinal for e in feeder.assembler.take(10)] == [2, 3]
    assert (feeder.assembler.take(10), feeder.assembler.streaming) == ([], False)


def test_a_loss_in_a_streamed_transaction_is_an_error_too(topics: Topics, run: Run) -> None:
    (span,) = run.events([note("x"), note("y")])
    topics.records[span.topic, 0][1] = (None, None)
    run.end([span], position="1:0/1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sinks.assemble, "STREAMED_EVENTS", 1)
        assert stopped(topics)[1] is EVENTS_LOST


def test_a_streamed_transaction_waits_only_for_what_it_needs(topics: Topics, run: Run) -> None:
    run.transaction([note("x"), *[insert(key) for key in range(6)]], position="1:0/1")
    feeder = Feeder(topics)
    feeder.read_log()
    assert feeder.assembler.next(full=True) is not None
    for partition in [p for p in feeder.next if p[0].endswith("accounts")]:
        feeder.feed(partition)
    assert feeder.assembler.take(10) == []
    assert feeder.assembler.wanted() == [("shop.public.notes", 0)]


def test_only_new_partitions_are_asked_for(topics: Topics, run: Run) -> None:
    run.events([note("never finished")])
    topics.records["shop.public.notes", 0].insert(0, (None, b"older"))
    (span,) = run.events([note("x")])
    run.end([span], position="1:0/1")
    feeder = Feeder(topics)
    feeder.feed(feeder.log)
    feeder.feed(feeder.log)
    feeder.assembler.next()
    assert feeder.assembler.unassigned() == {("shop.public.notes", 0): 2}
    assert isinstance(feeder.assembler.head, End)
    feeder.assign()
    assert feeder.assembler.unassigned() == {}


def test_partitions_that_later_transactions_name_are_known_ahead(topics: Topics, run: Run) -> None:
    run.transaction([insert(1)], position="1:0/1")
    dead = Run(topics, run="0" * 16)
    dead.end(dead.events([note("of a dead run")]), position="1:0/2")
    run.transaction([note("x")], position="1:0/3")
    feeder = Feeder(topics)
    for _ in topics.log:
        feeder.feed(feeder.log)
        feeder.assembler.next()
    notes = "shop.public.notes", 0
    assert notes not in feeder.assembler.unassigned()
    assert feeder.assembler.ahead()[notes] == 1
    feeder.assign()
    assert feeder.assembler.ahead() == {}
