"""Where sequences stood at a cut: never behind what was committed there."""

import random
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from sinks.archive.manifest import Segment, Stored
from sinks.archive.sequences import Reached, reached

BODY = Stored(name="x", size=0, sha256="0" * 64)


def segment(first: int, last: int, samples: Mapping[str, int]) -> Segment:
    return Segment(
        archive="0" * 16, epoch=1, first_seq=first, last_seq=last, run="a" * 16, prev_position=None, position="1:0/1",
        log_offset=1, events=1, min_commit_us=None, max_commit_us=None, running_max_us=None, commit_us=None, tables={},
        sequences=dict(samples), rows=None, transactions=BODY, previous=None,
    )  # fmt: skip


def test_the_first_samples_behind_the_cut_count_and_no_later_ones() -> None:
    base = {"s": (10, True), "fresh": (7, False)}
    chain = [segment(1, 3, {"s": 12}), segment(4, 6, {}), segment(7, 9, {"s": 15}), segment(10, 12, {"s": 99})]
    found, later = reached(base, chain, {}, cut=5)
    assert found == {"s": Reached((10, True), (15, True)), "fresh": Reached((7, False), (7, False))}
    assert later == []
    assert reached(base, chain, {}, cut=9)[0]["s"].highest == (99, True)


def test_the_head_is_behind_the_last_segment() -> None:
    base = {"s": (10, True)}
    chain = [segment(1, 3, {"s": 12})]
    assert reached(base, chain, {"s": 20}, cut=2)[0]["s"].highest == (20, True)
    assert reached(base, chain, {"s": 20}, cut=3)[0]["s"].highest == (20, True)
    assert reached(base, [*chain, segment(4, 4, {"t": 1})], {"s": 20}, cut=3)[0]["s"].highest == (12, True)


def test_a_value_that_was_given_out_counts_more_than_the_same_that_was_not() -> None:
    found, _ = reached({"s": (1, False)}, [], {"s": 1}, cut=0)
    assert found["s"] == Reached((1, True), (1, True))


def test_what_the_base_does_not_hold_is_named() -> None:
    found, later = reached({"s": (1, True)}, [segment(1, 2, {"made later": 3})], {"and": 1}, cut=1)
    assert (list(found), later) == (["s"], ["and", "made later"])


@given(st.integers(0, 2**32), st.sampled_from([1, -1]))
def test_it_never_falls_behind(seed: int, step: int) -> None:
    """A source that commits, samples what moved and rolls as chance has it; then every cut behind the base."""
    chance = random.Random(seed)
    value, known, samples = 0, 0, dict[str, int]()
    stood, chain, first = [0], [], 1
    for seq in range(1, 30):
        value += step * chance.randint(0, 2)
        stood.append(value)
        if chance.random() < 0.3 and value != known:
            known, samples = value, {"s": value}
        if chance.random() < 0.4:
            chain.append(segment(first, seq, samples))
            first, samples = seq + 1, {}
    archived = first - 1
    # Between two heartbeats a later one always follows before the archive can be asked for that moment.
    samples = {"s": value} if value != known else samples
    for cut in range(archived + 1):
        found, _ = reached({"s": (0, True)}, chain, samples, cut)
        assert found["s"].highest[0] >= stood[cut]
        assert found["s"].lowest[0] <= stood[cut]
