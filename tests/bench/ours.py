"""Our source and our sink, by commands: a cdc.toml, `cdc setup`, `cdc source run`, `cdc sink run`.

The source makes its slot at its first start, under whose snapshot it copies the still empty table; so it is
started once before the changes exist, until it heartbeats, and then again to drain them.
"""

import os
from pathlib import Path

from tests.bench import topics
from tests.bench.contender import Task, expect
from tests.bench.measure import Drain, watch
from tests.bench.program import run_to_end, running
from tests.bench.workload import TABLE, Milestones, create_table, digest, parse_lsn


class OurSource:
    """Source log → Kafka, with an END for every transaction."""

    name = "ours"

    def prepare(self, task: Task) -> None:
        """See `Contender`."""
        source = task.name(self.name)
        config = _write_config(task, source)
        run_to_end(config, _environment(task), "setup", source, "--admin-url", task.database.url())
        ends = topics.counter(task.bench.kafka.bootstrap, f"{source}.transaction")
        with running(config, _environment(task), "source", source) as program:
            # START, the END of the copy, the END of a heartbeat
            expect(f"log of {source}", lambda: min(ends(), 3), 3, program.tail)

    def drain(self, task: Task, milestones: Milestones) -> Drain:
        """See `Contender`."""
        del milestones
        workload, source, bootstrap = task.workload, task.name(self.name), task.bench.kafka.bootstrap
        rows = topics.counter(bootstrap, f"{source}.public.{TABLE}")
        ends = topics.counter(bootstrap, f"{source}.transaction")
        before = ends()
        with running(_config_path(task, source), _environment(task), "source", source) as program:
            drain = watch(
                self.name,
                workload.name,
                task.run,
                events=workload.events,
                arrived=lambda: workload.events_of_records(rows()),
                pids=program.family,
                explain=program.tail,
            )
            sent = workload.records, workload.transactions
            expect(
                f"records and transactions of {source}",
                lambda: (rows(), min(ends() - before, workload.transactions)),
                sent,
                program.tail,
            )
        return drain


class OurSink:
    """Kafka → target table, from the topics that our source's first run has filled."""

    name = "our_sink"

    def prepare(self, task: Task) -> None:
        """See `Contender`; it needs no slot."""

    def drain(self, task: Task, milestones: Milestones) -> Drain:
        """See `Contender`."""
        source = f"{OurSource.name}_{task.workload.name}_1"
        name = task.name(self.name)
        target = task.bench.target.create_database(name)
        create_table(target)
        config = _write_config(task, source, sink=name)
        with running(config, _environment(task), "sink", name) as program, target.connect() as connection:

            def arrived() -> float:
                made = connection.execute("SELECT to_regclass('cdc.cdc_progress')").fetchall()[0][0]
                found = made and connection.execute("SELECT position FROM cdc.cdc_progress").fetchone()
                return milestones.events_at(parse_lsn(found[0].partition(":")[2])) if found and found[0] else 0.0

            drain = watch(
                self.name,
                task.workload.name,
                task.run,
                events=task.workload.events,
                arrived=arrived,
                pids=program.family,
                explain=program.tail,
            )
            expect(f"rows of {name}", lambda: digest(target), digest(task.database), program.tail)
        target.drop()
        return drain


def _config_path(task: Task, source: str) -> Path:
    return task.bench.directory / f"{source}.toml"


def _write_config(task: Task, source: str, sink: str | None = None) -> Path:
    bench = task.bench
    text = (
        f'[kafka]\nbootstrap_servers = "{bench.kafka.bootstrap}"\n\n'
        f'[source.{source}]\nurl = "{task.database.url()}"\npassword = "${{BENCH_SOURCE_PASSWORD}}"\n'
        f'tables = ["public.{TABLE}"]\n'
    )
    path = _config_path(task, sink or source)
    if sink:
        text += (
            f'\n[sink.{sink}]\nsource = "{source}"\nurl = "{bench.target.url(sink)}"\n'
            'password = "${BENCH_TARGET_PASSWORD}"\n'
        )
    path.write_text(text)
    return path


def _environment(task: Task) -> dict[str, str]:
    passwords = {
        "PGPASSWORD": task.bench.source.password,
        "BENCH_SOURCE_PASSWORD": task.bench.source.password,
        "BENCH_TARGET_PASSWORD": task.bench.target.password,
    }
    return os.environ | passwords
