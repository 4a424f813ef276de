"""Metrics: their names, the server that shows them, and the observer that sets them."""

import socket
import time
import urllib.error
import urllib.request
from http.client import HTTPResponse
from pathlib import Path

import pytest
import structlog
from prometheus_client import generate_latest

from cdc.errors import SOURCE_UNREACHABLE, CdcError
from cdc.log import Identity, Opened, Start
from cdc.metrics import ArchiveMetrics, SinkMetrics, SourceMetrics, Unit, serve
from cdc.observe import SourceObserver
from cdc.position import Lsn, PgPosition
from cdc.source import Progress

OPERATIONS = Path(__file__).parents[3] / "docs" / "OPERATIONS.md"


def text(unit: Unit) -> str:
    return generate_latest(unit.registry).decode()


def free_address() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1", probe.getsockname()[1]


def get(address: tuple[str, int], path: str) -> tuple[int, str]:
    try:
        answer: HTTPResponse = urllib.request.urlopen(f"http://{address[0]}:{address[1]}{path}", timeout=5)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    with answer:
        return answer.status, answer.read().decode()


@pytest.mark.parametrize("unit", [SourceMetrics("shop"), SinkMetrics("eu"), ArchiveMetrics("main.shop")])
def test_every_metric_is_in_the_handbook(unit: Unit) -> None:
    handbook = OPERATIONS.read_text()
    for family in unit.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in handbook, name


def test_it_answers_over_http() -> None:
    address, numbers = free_address(), SourceMetrics("shop")
    numbers.events.inc(3)
    serve(numbers, address)
    status, body = get(address, "/metrics")
    assert status == 200
    assert 'cdc_source_events_total{source="shop"} 3.0' in body
    assert get(address, "/healthz") == (200, "ok\n")
    numbers.alive_at = time.monotonic() - 61
    assert get(address, "/healthz") == (503, "stuck\n")
    assert get(address, "/")[0] == 404


def test_a_taken_port_is_said_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    address = free_address()
    serve(SourceMetrics("shop"), address)
    serve(SourceMetrics("shop"), address)
    assert "no metrics: 127.0.0.1" in caplog.text


def test_a_lag_grows_while_nothing_is_said() -> None:
    numbers = SinkMetrics("eu")
    assert 'cdc_sink_lag_seconds{sink="eu"} NaN' in text(numbers)
    numbers.committed_at(time.time() - 100)
    (line,) = [line for line in text(numbers).splitlines() if line.startswith("cdc_sink_lag_seconds{")]
    assert 100 <= float(line.split()[1]) < 110


def progress(events: int, lsn: int = 0x100) -> Progress:
    position = PgPosition(1, Lsn(lsn))
    return Progress(
        run="a" * 16, epoch=7, txn_seq=events, events=events, ends=events, in_flight=2, durable=position,
        durable_commit_us=1_000_000, foreign_messages=1,
    )  # fmt: skip


def start(**changes: object) -> Start:
    identity = Identity("postgresql", "1", 1, "shop", "cdc_shop")
    opened = Opened("first", None)
    return Start("a" * 16, 7, identity, "f", "initial", "c", 0, opened, **changes)  # type: ignore[arg-type]


def test_the_observer_counts_over_runs_and_speaks_when_something_changes() -> None:
    numbers = SourceMetrics("shop")
    with structlog.testing.capture_logs() as lines:
        observer = SourceObserver("shop", numbers, max_retained_wal=40)
        observer.run_started(start())
        observer.progress(progress(10))
        observer.run_started(start())
        observer.progress(progress(4))
        observer.copying("public.a", 1000, done=False)
        observer.copying("public.a", 1500, done=True)
        away = CdcError(SOURCE_UNREACHABLE, source="shop", problem="refused")
        observer.retry(away, 0.5)
        observer.retry(away, 1.0)
        observer._said_at -= 100
        observer.progress(progress(5))
        observer.behind(50)
        observer.behind(30)
        observer.behind(50)
    shown = text(numbers)
    for line in (
        'cdc_source_events_total{source="shop"} 15.0', 'cdc_source_runs_total{source="shop"} 2.0',
        'cdc_source_retries_total{code="SOURCE_UNREACHABLE",source="shop"} 2.0',
        'cdc_source_copied_rows{source="shop",table="public.a"} 1500.0',
        'cdc_source_position_bytes{source="shop"} 256.0', 'cdc_source_behind_bytes{source="shop"} 50.0',
        'cdc_source_transactions_in_flight{source="shop"} 2.0', 'cdc_source_txn_seq{source="shop"} 5.0',
    ):  # fmt: skip
        assert line in shown
    assert 'cdc_source_lag_seconds{source="shop"} NaN' not in shown
    assert [line["event"] for line in lines] == [
        "run started", "run started", "table copied", "trying again", "streaming",
        "WAL above max_retained_wal is kept on the server",
    ]  # fmt: skip
    assert all("position" in line for line in lines)
    assert lines[-1]["position"] == "1:0/100"
