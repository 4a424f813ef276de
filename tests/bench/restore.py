"""`make bench-restore`: a restore to a moment beside pg_restore of the same rows and pgBackRest's recovery to a time.

In: nothing but the checkout. Out: one line per measure; a folder in `results/` with them and with what each program
printed. Seconds are those until the database can be used: rows, indexes, constraints, statistics. What came back is
compared with the source before a figure counts. Figures are reported and have no targets. `--rows` makes the load
smaller, for a look at the harness; such figures mean nothing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from tests.bench.__main__ import RESULTS, machine
from tests.bench.measure import measure_line
from tests.bench.restore_load import Load, digest
from tests.bench.restore_peers import PgBackRest, bytes_under, dump, pg_restore, pg_restore_table
from tests.servers.fetch import ROOT, postgres15_bin
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.system.pipeline import CDC, Pipeline

ONE = "t3"
PATIENCE_S = 7200.0
SETTINGS: dict[str, str | int] = {
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "30min",
    "maintenance_work_mem": "512MB",
}
RATIOS = [
    ("whole.ours.seconds", "whole.pg_restore.seconds"), ("whole.ours.seconds", "whole.pgbackrest.seconds"),
    ("one.ours.seconds", "one.pg_restore.seconds"), ("one.ours.seconds", "whole.pgbackrest.seconds"),
    ("log.ours.bytes", "log.wal_zstd.bytes"), ("log.ours.bytes", "log.pgbackrest.bytes"),
    ("base.ours.bytes", "base.pgbackrest.bytes"),
]  # fmt: skip


@dataclass
class Bench:
    """What was measured so far, and where it is kept."""

    load: Load
    directory: Path
    results: Path
    measures: dict[str, float] = field(default_factory=dict)

    def measured(self, name: str, value: float) -> None:
        self.measures[name] = value
        line = measure_line(f"restore.{name}", value)
        print(line, flush=True)
        with (self.results / "measures.txt").open("a") as file:
            file.write(line + "\n")

    def compare(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise RuntimeError(f"{what} does not hold what the source held: {found} instead of {expected}")


# -- ours -------------------------------------------------------------------------------------------------------
@contextmanager
def archived(bench: Bench, target: Postgres) -> Iterator[tuple[Pipeline, str, list[tuple[int, int]]]]:
    """The load on a source, through Kafka, in an archive; the moment behind it, and what the source held then."""
    load, directory = bench.load, bench.directory
    settings = {**SETTINGS, "wal_keep_size": "64GB", "max_wal_size": "32GB"}
    with (
        Postgres(directory / "source", settings, fsync=True) as server,
        Kafka(directory / "kafka", heap="1g") as kafka,
    ):
        source = server.create_database("shop")
        load.make_tables(source)
        options = {"roll_every": "60s", "anchor_every": "never"}
        pipeline = Pipeline(directory, source, Database(target, "shop"), kafka.bootstrap, archive_options=options)
        pipeline.publish()
        with pipeline.source_running() as running, pipeline.archive_running():
            load.make_base(source)
            pipeline.wait_archived(PATIENCE_S)
            taken = pipeline.run("archive", "backup", "main", env={"PG_DUMP": str(Postgres.pg_dump)})
            if taken.wait(PATIENCE_S) != 0:
                raise RuntimeError(taken.tail())
            bench.measured("base.ours.bytes", bytes_under(root(pipeline) / "base"))
            before, lsn = bytes_of_log(pipeline), wal_position(source)
            load.make_changes(source)
            expected, moment = digest(source), now(source)
            bench.measured("log.wal.bytes", float(wal_position(source) - lsn))
            pipeline.wait_archived(PATIENCE_S)
            bench.measured("log.ours.bytes", bytes_of_log(pipeline) - before)
            bench.measured("log.wal_zstd.bytes", wal_zstd(server, lsn, wal_position(source)))
            load.make_more(source)
            pipeline.wait_archived(PATIENCE_S)
            assert running.running
        yield pipeline, moment, expected


def root(pipeline: Pipeline) -> Path:
    return pipeline.directory / "archive" / pipeline.name


def bytes_of_log(pipeline: Pipeline) -> int:
    return sum(bytes_under(root(pipeline) / name) for name in ("log", "body"))


def now(database: Database) -> str:
    """A time with nothing on either side of it."""
    time.sleep(0.1)
    ((at,),) = database.execute(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00:00')"
    )
    time.sleep(0.1)
    return str(at)


def wal_position(database: Database) -> int:
    ((at,),) = database.execute("SELECT (pg_switch_wal() - '0/0'::pg_lsn)::bigint")
    return int(at)


def wal_zstd(server: Postgres, first: int, last: int) -> int:
    """Files of the source's log between two positions, each as zstd at level 3 makes it."""
    codec, size = pa.Codec("zstd", 3), 16 << 20
    names = [f"00000001{number >> 8:08X}{number & 255:08X}" for number in range(first // size, -(-last // size))]
    files = [server.data / "pg_wal" / name for name in names]
    return sum(len(codec.compress(file.read_bytes(), asbytes=True)) for file in files if file.exists())


def ours(bench: Bench, name: str, pipeline: Pipeline, target: Database, *arguments: str) -> None:
    """`cdc-restore`, as its user runs it."""
    program = str(CDC.with_name("cdc-restore"))
    command = [program, "--archive", pipeline.archive_url, "--into", target.url(), "--no-anchor", *arguments]
    environment = {
        **os.environ,
        "CDC_ARCHIVE_KEY": pipeline.archive_key,
        "PGPASSWORD": target.server.password,
    }
    log = bench.results / f"{name}-ours.txt"
    began = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(log.read_text())
    bench.measured(f"{name}.ours.seconds", seconds)
    bench.measured(f"{name}.ours.cpu_seconds", used.ru_utime + used.ru_stime)
    bench.measured(f"{name}.ours.peak_rss_mib", used.ru_maxrss / 1024)


# -- all of them ------------------------------------------------------------------------------------------------
def beside_pg_restore(bench: Bench) -> None:
    """Ours and pg_restore, out of an archive and out of a dump of the same rows, into one server."""
    with Postgres(bench.directory / "target", SETTINGS, fsync=True) as target:
        with archived(bench, target) as (pipeline, moment, expected):
            pass
        whole, one = target.create_database("whole"), target.create_database("one")
        ours(bench, "whole", pipeline, whole, "--to-time", moment)
        bench.compare("our restore", digest(whole), expected)
        ours(bench, "one", pipeline, one, "--to-time", moment, "--table", f"public.{ONE}")
        directory = bench.directory / "dump"
        dump(whole, directory)
        bench.measured("base.pg_dump.bytes", bytes_under(directory))
        whole.drop()
        one.drop()
        peer, peer_one = target.create_database("peer"), target.create_database("peer_one")
        bench.measured("whole.pg_restore.seconds", pg_restore(directory, peer))
        bench.compare("pg_restore", digest(peer), expected)
        bench.measured("one.pg_restore.seconds", pg_restore_table(directory, peer_one, ONE))


def beside_pgbackrest(bench: Bench) -> None:
    """The same load on a Postgres 15 of its own."""
    programs = postgres15_bin()
    if programs is None:
        print("Postgres 15 is not to be had here: no pgBackRest", file=sys.stderr)
        return
    peer = PgBackRest(bench.directory / "pgbackrest")
    settings = {**SETTINGS, **peer.settings}
    with Postgres(bench.directory / "older", settings, fsync=True, programs=programs) as server:
        peer.attach(server)
        database = server.create_database("shop")
        bench.load.make_tables(database)
        bench.load.make_base(database)
        peer.backup()
        bench.measured("base.pgbackrest.bytes", peer.backup_bytes)
        wal_position(database)
        before = peer.log_bytes
        bench.load.make_changes(database)
        expected, moment = digest(database), now(database)
        bench.load.make_more(database)
        ((last,),) = server.execute("SELECT pg_walfile_name(pg_switch_wal())")
        while server.execute("SELECT last_archived_wal FROM pg_stat_archiver")[0][0] < last:
            time.sleep(0.5)
        bench.measured("log.pgbackrest.bytes", peer.log_bytes - before)
        server.stop()
        bench.measured("whole.pgbackrest.seconds", peer.restore(moment))
        bench.compare("pgBackRest", digest(database), expected)


def main(arguments: Sequence[str]) -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.restore", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="at the base; three times as many changes follow")
    parser.add_argument("--only", choices=["pg_restore", "pgbackrest"])
    chosen = parser.parse_args(arguments)
    directory = ROOT / ".bench"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    results = RESULTS / time.strftime("%Y-%m-%dT%H-%M-%SZ-restore", time.gmtime())
    results.mkdir()
    (results / "machine.json").write_text(json.dumps(machine(vars(chosen)), indent=1))
    bench = Bench(Load(chosen.rows), directory, results)
    for each in (beside_pg_restore, beside_pgbackrest):
        if chosen.only is None or each.__name__.endswith(chosen.only):
            each(bench)
    for one, other in RATIOS:
        if one in bench.measures and other in bench.measures:
            bench.measured(f"{one}/{other}", bench.measures[one] / bench.measures[other])
    shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
