"""Who drains MySQL's binary log: our source, Debezium's MySQL connector, pymysqlreplication's decoder.

In: a database whose changes are still to come (`prepare`), then those changes (`drain`). Out: a `Drain` each; raises if
what arrived is not what was made. All of them read without TLS, as one reads on one machine.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bench import connect, topics
from tests.bench.contender import expect
from tests.bench.measure import Drain, watch
from tests.bench.mysql_workload import TABLE, Span
from tests.bench.peer_debezium import LOSSLESS, NO_CONTEXT_HEADERS
from tests.bench.program import run_to_end, running
from tests.bench.workload import Workload
from tests.servers.connect import Connect
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQLDatabase
from tests.servers.process import Process

SAMPLE = 50_000
"""So many changes pymysqlreplication decodes."""
_STREAMS = "Keepalive thread is running"


@dataclass(frozen=True)
class Task:
    """One workload, one of its runs, the database that holds it, and a folder for what the contenders write."""

    directory: Path
    kafka: Kafka
    database: MySQLDatabase
    workload: Workload
    run: int

    def name(self, contender: str) -> str:
        """For topic prefixes, sources and folders."""
        return f"{contender}_{self.workload.name}_{self.run}"


class Contender(Protocol):
    """A program that is measured."""

    @property
    def name(self) -> str:
        """As it stands in the measures."""
        ...

    def prepare(self, task: Task) -> None:
        """Let it remember where the log ends now."""
        ...

    def drain(self, task: Task, span: Span) -> Drain:
        """Carry over what came since, measured."""
        ...


class Ours:
    """`cdc source run`: log → Kafka, with an END for every transaction. Its first start copies the empty table."""

    name = "ours"

    def prepare(self, task: Task) -> None:
        """See `Contender`."""
        source = task.name(self.name)
        config = task.directory / f"{source}.toml"
        config.write_text(
            f'[kafka]\nbootstrap_servers = "{task.kafka.bootstrap}"\n\n'
            f'[source.{source}]\nurl = "{task.database.url()}?ssl-mode=DISABLED"\n'
            'password = "${BENCH_SOURCE_PASSWORD}"\n'
            f'tables = ["{task.database.name}.{TABLE}"]\n'
        )
        run_to_end(
            config, _environment(task), "setup", source, "--admin-url", f"{task.database.url()}?ssl-mode=DISABLED"
        )
        ends = topics.counter(task.kafka.bootstrap, f"{source}.transaction")
        with running(config, _environment(task), "source", source) as program:
            # START, the END of the copy, the END of a heartbeat
            expect(f"log of {source}", lambda: min(ends(), 3), 3, program.tail)

    def drain(self, task: Task, span: Span) -> Drain:
        """See `Contender`."""
        del span
        source, transactions = task.name(self.name), task.workload.transactions
        ends = topics.counter(task.kafka.bootstrap, f"{source}.transaction")
        before = ends()
        with running(task.directory / f"{source}.toml", _environment(task), "source", source) as program:
            drain, rows = _into_kafka(self.name, task, program)
            expect(
                f"records and transactions of {source}",
                lambda: (rows(), min(ends() - before, transactions)),
                (task.workload.records, transactions),
                program.tail,
            )
        return drain


class Debezium:
    """Its MySQL connector, set like the Postgres one in `peer_debezium`, with transaction metadata on `single`."""

    name = "debezium"

    def prepare(self, task: Task) -> None:
        """See `Contender`."""
        prefix = task.name(self.name)
        topics.create(task.kafka.bootstrap, _topic(task, prefix), f"{prefix}.transaction", prefix)
        with _connector(task, prefix) as worker:
            worker.wait_for(_STREAMS)
            worker.stop()

    def drain(self, task: Task, span: Span) -> Drain:
        """See `Contender`."""
        del span
        prefix = task.name(self.name)
        ends = topics.counter(task.kafka.bootstrap, f"{prefix}.transaction")
        transactions = 2 * task.workload.transactions if _with_transactions(task) else 0
        with _connector(task, prefix) as worker:
            drain, rows = _into_kafka(self.name, task, worker.process)
            expect(
                f"records and transactions of {prefix}",
                lambda: (rows(), min(ends(), transactions)),
                (task.workload.records, transactions),
                worker.explain,
            )
        return drain


class Pymysqlreplication:
    """Its own decoding, event by event as it gives them, and nothing done with them; over a sample of the changes.

    `frozen`: it reads a table's description once, which halves its work, and follows no ALTER TABLE.
    """

    def __init__(self, *, frozen: bool) -> None:
        self._frozen = frozen
        self.name = "pymysqlreplication_frozen" if frozen else "pymysqlreplication"

    def prepare(self, task: Task) -> None:
        """See `Contender`; the server knows its place by the set of transactions."""

    def drain(self, task: Task, span: Span) -> Drain:
        """See `Contender`."""
        events = min(SAMPLE, task.workload.events)
        log = task.directory / f"{task.name(self.name)}.log"
        server = task.database.server
        where = [str(server.port), span.before, task.database.name, TABLE, str(events), *["frozen"] * self._frozen]
        environment = os.environ | {"BENCH_SOURCE_PASSWORD": server.password}
        program = Process([sys.executable, "-m", "tests.bench.peer_pymysqlreplication", *where], log, env=environment)
        try:
            return watch(
                self.name,
                task.workload.name,
                task.run,
                events=events,
                arrived=lambda: int(log.read_text().rpartition("\n")[0].rpartition("\n")[2] or 0),
                pids=program.family,
                explain=program.tail,
            )
        finally:
            program.kill9()


def _into_kafka(contender: str, task: Task, program: Process) -> tuple[Drain, topics.Count]:
    rows = topics.counter(task.kafka.bootstrap, _topic(task, task.name(contender)))
    drain = watch(
        contender,
        task.workload.name,
        task.run,
        events=task.workload.events,
        arrived=lambda: task.workload.events_of_records(rows()),
        pids=program.family,
        explain=program.tail,
    )
    return drain, rows


def _topic(task: Task, prefix: str) -> str:
    return f"{prefix}.{task.database.name}.{TABLE}"


def _environment(task: Task) -> dict[str, str]:
    password = task.database.server.password
    return os.environ | {"MYSQL_PWD": password, "BENCH_SOURCE_PASSWORD": password}


def _with_transactions(task: Task) -> bool:
    return task.workload.transactions_per_round == task.workload.events_per_round


@contextmanager
def _connector(task: Task, prefix: str) -> Iterator[Connect]:
    """Where it stands it keeps in its folder, so that a second start goes on there."""
    directory = task.directory / prefix
    server = task.database.server
    connector: dict[str, str | int] = {
        "name": prefix,
        "connector.class": "io.debezium.connector.mysql.MySqlConnector",
        "tasks.max": 1,
        "database.hostname": "127.0.0.1",
        "database.port": server.port,
        "database.user": "root",
        "database.password": server.password,
        "database.server.id": 100_000 + task.run,
        "database.ssl.mode": "disabled",
        "driver.allowPublicKeyRetrieval": "true",
        "topic.prefix": prefix,
        "database.include.list": task.database.name,
        "table.include.list": f"{task.database.name}.{TABLE}",
        "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
        "schema.history.internal.file.filename": str(directory / "history"),
        "snapshot.mode": "no_data",
        "max.batch.size": 8192,
        "max.queue.size": 32768,
        "provide.transaction.metadata": str(_with_transactions(task)).lower(),
        **LOSSLESS,
        **NO_CONTEXT_HEADERS,
    }
    with connect.running(directory, task.kafka.bootstrap, connector) as worker:
        yield worker
