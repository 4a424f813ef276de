"""The operating commands on a pipeline that runs: up, status, tail, metrics; and no password in anything printed."""

import json
import os
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.servers.process import Process
from tests.system.pipeline import CDC, Pipeline, wait_until

pytestmark = pytest.mark.postgres_versions("source")

SHOP = """
CREATE TABLE orders (id int PRIMARY KEY, what text);
INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 5) i;
"""


def free_ports() -> int:
    """The first of two ports in a row that are free by now."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


class Site(Pipeline):
    """A pipeline whose commands' output is kept."""

    port = 0

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "CDC_CONFIG": str(self.config),
            "SOURCE_PASSWORD": self.source.server.password,
            "TARGET_PASSWORD": self.target.server.password,
        }
        done = subprocess.run(
            [CDC, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        (self.directory / f"printed-{len(list(self.directory.iterdir()))}.log").write_text(done.stdout + done.stderr)
        return done

    def status(self) -> tuple[dict[str, Any], dict[str, Any]]:
        report = json.loads(self.call("status", "--json").stdout)
        return report["sources"][0], report["sinks"][0]

    def metrics(self, unit: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + unit}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text


@pytest.fixture
def site(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka) -> Iterator[Site]:
    database.execute(SHOP)
    made = Site(tmp_path, database, target_database, kafka.bootstrap, source_options={"max_retained_wal": "100GiB"})
    made.port = free_ports()
    made.config.write_text(made.config.read_text() + f'\n[metrics]\nlisten = "127.0.0.1:{made.port}"\n')
    made.publish()
    yield made
    printed = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert printed
    for server in (database.server, target_database.server):
        assert server.password not in printed


def up(site: Site) -> Process:
    return site.run("up")


def behind_bytes(site: Site) -> float:
    (line,) = [line for line in site.metrics(0).splitlines() if line.startswith("cdc_source_behind_bytes{")]
    return float(line.split()[1])


def test_an_open_transaction_keeps_log_and_the_metrics_say_so(site: Site) -> None:
    """All that was sent is durable: what the server keeps is another number, and the one that fills its disk."""
    supervisor = up(site)
    try:
        site.wait_caught_up()
        with site.source.connect(autocommit=False) as open_transaction:
            open_transaction.execute("INSERT INTO orders VALUES (100, 'not yet')")
            site.source.execute("CREATE SCHEMA beside; CREATE TABLE beside.t (t text)")
            site.source.execute("INSERT INTO beside.t SELECT repeat(i::text, 50) FROM generate_series(1, 200000) i")
            site.wait_caught_up()
            wait_until(lambda: behind_bytes(site) > 20e6, "the metric")
    finally:
        supervisor.stop()


def test_up_status_tail_and_metrics_of_a_whole_pipeline(site: Site) -> None:
    source, sink = site.status()
    assert (source["state"], sink["state"]) == ("never started", "stopped, nothing applied")
    supervisor = up(site)
    try:
        site.wait_caught_up()
        source, sink = site.status()
        assert (source["state"], sink["state"]) == ("streaming", "applying")
        assert (source["problem"], sink["problem"]) == (None, None)
        assert source["epoch"] == sink["epoch"]
        assert source["lag_seconds"] < 10
        assert sink["lag_transactions"] == 0
        assert source["wal"]["limit"] == "max_retained_wal"
        assert source["wal"]["retained_bytes"] > 0
        assert "transaction mode" in site.call("status").stdout

        tail = site.run("tail", site.name, "--json", "--table", "public.ord*")
        lines = tail_lines(site, tail, "UPDATE orders SET what = 'changed' WHERE id = 1")
        assert lines[-1]["op"] == "u"
        assert lines[-1]["after"] == {"id": 1, "what": "changed"}
        assert lines[-1]["table"] == "public.orders"
        tail.stop()
        assert tail.returncode == 0

        wait_until(lambda: 'cdc_sink_txn_seq{sink="eu"}' in site.metrics(1), "the sink's metrics")
        assert f'cdc_source_runs_total{{source="{site.name}"}} 1.0' in site.metrics(0)
        assert f'cdc_source_copied_rows{{source="{site.name}",table="public.orders"}} 5.0' in site.metrics(0)
        wait_until(lambda: 'cdc_sink_events_total{sink="eu"} 0.0' not in site.metrics(1), "events counted")
    finally:
        supervisor.stop()
    assert supervisor.returncode == 0, supervisor.tail()
    source, sink = site.status()
    assert (source["state"], sink["state"]) == ("stopped", "stopped")
    site.assert_equal()


def tail_lines(site: Site, tail: Process, statement: str) -> list[dict[str, Any]]:
    """It shows what comes after it looked; so the change is repeated until it is shown."""

    def shown() -> list[dict[str, Any]]:
        return [json.loads(line) for line in tail.log.read_text().splitlines()]

    def changed() -> bool:
        site.source.execute(statement)
        return bool(shown())

    wait_until(changed, "a line of tail")
    return shown()


def test_up_restarts_what_dies_and_names_what_wants_a_decision(site: Site) -> None:
    supervisor = up(site)
    try:
        site.wait_caught_up()
        (first,) = pids(supervisor, f"source.{site.name}")
        os.kill(first, 9)
        wait_until(lambda: len(pids(supervisor, f"source.{site.name}")) == 2, "a second start")
        site.source.execute("INSERT INTO orders VALUES (100, 'after')")
        site.wait_caught_up()
        site.target.execute("DELETE FROM orders WHERE id = 100")
        site.source.execute("UPDATE orders SET what = 'x' WHERE id = 100")
        wait_until(lambda: "sink.eu | stopped with exit code 5" in supervisor.log.read_text(), "the sink's stop")
        log = supervisor.log.read_text()
        assert "ROW_DIVERGED" in log
        assert "ended with exit code -9, again in 1 s" in log
    finally:
        supervisor.stop()
    assert supervisor.returncode == 5
    assert "sink.eu wants a decision (exit code 5)" in supervisor.log.read_text()


def pids(supervisor: Process, unit: str) -> list[int]:
    lines = supervisor.log.read_text().splitlines()
    return [int(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{unit} | started, pid")]


def test_units_end_with_a_supervisor_that_is_killed(site: Site) -> None:
    supervisor = up(site)
    site.wait_caught_up()
    units = pids(supervisor, f"source.{site.name}") + pids(supervisor, "sink.eu")
    assert len(units) == 2
    supervisor.kill9()

    def gone(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
        except FileNotFoundError:
            return True

    wait_until(lambda: all(gone(pid) for pid in units), "their end")


def test_sigterm_ends_source_and_sink_in_order(site: Site) -> None:
    with site.source_running() as source, site.sink_running() as sink:
        site.wait_caught_up()
        for process in (source, sink):
            process.stop()
            assert process.returncode == 0, process.tail()


def test_a_second_process_is_told_with_no_wait(site: Site) -> None:
    with site.source_running(), site.sink_running():
        site.wait_caught_up()
        for arguments, code in ((("source", "run", site.name), "SOURCE_HELD"), (("sink", "run", "eu"), "SINK_HELD")):
            done = site.call(*arguments, "--no-wait")
            assert done.returncode == 4, done.stderr
            assert code in done.stderr
            assert "Traceback" not in done.stderr


def test_errors_go_to_stderr_with_their_exit_codes(site: Site) -> None:
    for arguments, exit_code, words in (
        (["source", "run", "nobody"], 2, "SECTION_UNKNOWN"),
        (["sink", "run", site.name], 2, "sections there: eu"),
        (["check", "nobody"], 2, "no [source, sink or archive.nobody]"),
        (["source", "run", site.name, "--reopen", "maybe"], 2, "copy-again"),
        (["status", "--config", "/gone.toml"], 2, "CONFIG_MISSING"),
        (["init", "postgresql://u:pw@h/d", "--kafka", "k:1", "--config", "/gone/x.toml"], 2, "PASSWORD_IN_URL"),
    ):
        done = site.call(*arguments)
        assert (done.returncode, words in done.stderr) == (exit_code, True), done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


def test_a_wrong_password_is_named_and_not_shown(site: Site) -> None:
    for arguments, variable, code in (
        (("source", "run", site.name), "SOURCE_PASSWORD", "SOURCE_AUTH"),
        (("sink", "run", "eu"), "TARGET_PASSWORD", "TARGET_AUTH"),
    ):
        process = site.run(*arguments, env={variable: "wrong-password"})
        assert process.wait(60) == 5
        assert code in process.log.read_text()
        assert "wrong-password" not in process.log.read_text()


MORE = """
CREATE TABLE "Odd, Name" (a int, b text, "hash" bytea, PRIMARY KEY (b, a));
INSERT INTO "Odd, Name" SELECT i, 'é' || i, sha256(i::text::bytea) FROM generate_series(1, 1000) i;
CREATE TABLE visits (page text, at timestamptz, f float8);
ALTER TABLE visits REPLICA IDENTITY FULL;
INSERT INTO visits SELECT NULL, now(), 'NaN' FROM generate_series(1, 3);
CREATE TABLE empty (id int PRIMARY KEY);
"""


def verified(site: Site, *arguments: str) -> dict[str, Any]:
    done = site.call("verify", site.name, "--sink", "eu", "--json", *arguments)
    report: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == (report["result"] == "EQUAL")
    return report


def test_verify_compares_every_table_and_names_rows_that_differ(site: Site) -> None:
    site.source.execute(MORE)
    with site.source_running(), site.sink_running():
        site.wait_caught_up()
        report = verified(site)
        assert report["result"] == "EQUAL"
        assert {table["table"]: table["source_rows"] for table in report["tables"]} == {
            "public.Odd, Name": 1000,
            "public.empty": 0,
            "public.orders": 5,
            "public.visits": 3,
        }
        assert "EQUAL: 4 tables at 1:" in site.call("verify", site.name, "--sink", "eu").stdout

        site.target.execute('UPDATE "Odd, Name" SET hash = NULL WHERE a = 500; DELETE FROM orders WHERE id = 3')
        site.target.execute("DELETE FROM visits WHERE ctid = (SELECT min(ctid) FROM visits)")
        report = verified(site)
        assert report["result"] == "DIFFERENT"
        different = {table["table"]: table for table in report["tables"] if not table["equal"]}
        assert different.keys() == {"public.Odd, Name", "public.orders", "public.visits"}
        assert different["public.Odd, Name"]["keys"] == ['"é500","500"']
        assert different["public.orders"]["keys"] == ['"3"']
        assert (different["public.visits"]["source_rows"], different["public.visits"]["target_rows"]) == (3, 2)
        shown = site.call("verify", site.name, "--sink", "eu").stdout
        assert 'different  public.orders  source 5 rows, replica 4; such as "3"' in shown
        assert "DIFFERENT: 4 tables at" in shown


def test_verify_says_that_a_sink_is_behind_or_beyond(site: Site) -> None:
    with site.source_running(), site.sink_running() as sink:
        site.wait_caught_up()
        sink.stop()
        site.source.execute("INSERT INTO orders VALUES (50, 'late')")
        done = site.call("verify", site.name, "--sink", "eu", "--wait", "2")
        assert done.returncode == 1
        assert "VERIFY_BEHIND" in done.stderr
    done = site.call("verify", "nobody", "--sink", "eu")
    assert (done.returncode, "SECTION_UNKNOWN" in done.stderr) == (2, True)


@pytest.mark.matrix
def test_verify_of_a_busy_source_does_not_cry_wolf(site: Site) -> None:
    stop = threading.Event()

    def write() -> None:
        with site.source.connect() as connection:
            number = 1000
            while not stop.is_set():
                number += 1
                connection.execute("INSERT INTO orders VALUES (%s, 'busy')", [number])

    with site.source_running(), site.sink_running():
        site.wait_caught_up()
        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert verified(site)["result"] in ("EQUAL", "NOT COMPARABLE")
        finally:
            stop.set()
            writer.join()
        site.wait_caught_up()
        assert verified(site)["result"] == "EQUAL"
