"""What a sink tells of itself."""

import time

from prometheus_client import generate_latest

from cdc.metrics import SinkMetrics
from sinks.debezium.assemble import RUN
from sinks.observe import SinkObserver
from sinks.transaction import Progress


def shown(progress: Progress | None) -> dict[str, float]:
    """Its numbers when it has started there and applied nothing yet."""
    metrics = SinkMetrics("eu")
    SinkObserver("eu", metrics).started(progress)
    lines = (line.split() for line in generate_latest(metrics.registry).decode().splitlines() if line[0] != "#")
    return {name.partition("{")[0]: float(value) for name, value in lines}


def test_a_sink_that_starts_tells_at_once_where_it_stands() -> None:
    """One that then cannot go on is behind by more and more, and not by nothing that is known."""
    numbers = shown(Progress(7, 42, "a" * 16, "1:0/100", 9, int((time.time() - 500) * 1e6)))
    assert (numbers["cdc_sink_txn_seq"], numbers["cdc_sink_position_bytes"]) == (42, 256)
    assert 500 <= numbers["cdc_sink_lag_seconds"] < 510


def test_one_that_never_applied_anything_has_no_lag() -> None:
    assert shown(None)["cdc_sink_lag_seconds"] != shown(None)["cdc_sink_lag_seconds"]


def test_a_place_in_debeziums_topics_is_no_number() -> None:
    assert shown(Progress(7, 42, RUN, "[[0,9]]", 9))["cdc_sink_position_bytes"] == 0
