"""A whole pipeline for tests: a source database, Kafka, a replica, and the two commands as their users run them.

In: databases and a broker that exist. Out: processes of `cdc source run` and `cdc sink run`, the log as records, and
the comparison that every fault test ends with: replica = source, log dense, nothing acknowledged beyond it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cdc.errors import CdcError
from cdc.kafka import Producer, Reader
from cdc.kafka_admin import Admin
from cdc.log import End, Start, Validity
from cdc.logparse import parse
from cdc.position import Lsn, PgPosition, Position, parse_position
from cdc.secret import new_key, parse_key
from cdc.topics import log_topic
from sinks.archive.archive import Archive
from sinks.archive.chain import read_tail
from tests.servers.mysql import MySQLDatabase
from tests.servers.postgres import Database, Postgres
from tests.servers.process import Process
from tests.system.ends import AnyDatabase, end_of

CDC = Path(sys.executable).with_name("cdc")
TIMEOUT_S = 60.0


def wait_until(met: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Ask again and again; an error that names what never came."""
    deadline = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.05)


class AnyPipeline:
    """Source section `name`, sink section `eu`. Options are lines of the sections, as TOML values."""

    def __init__(
        self,
        directory: Path,
        source: AnyDatabase,
        target: AnyDatabase,
        bootstrap: str,
        *,
        source_options: Mapping[str, Any] | None = None,
        sink_options: Mapping[str, Any] | None = None,
        kafka_options: Mapping[str, str] | None = None,
        target_port: int | None = None,
        source_port: int | None = None,
        archive_options: Mapping[str, Any] | None = None,
        name: str | None = None,
        registry: str | None = None,
    ) -> None:
        self.directory = directory
        self.source: AnyDatabase = source
        self.target: AnyDatabase = target
        self.from_, self.into = end_of(source), end_of(target)
        self.name = name or source.name
        self.bootstrap = bootstrap
        self.config = directory / "cdc.toml"
        self._started = 0
        sections = {
            "kafka": {"bootstrap_servers": bootstrap},
            "kafka.options": dict(kafka_options or {}),
            **({"registry": {"url": registry}} if registry else {}),
            f"source.{self.name}": {
                "url": source.url(port=source_port),
                "password": "${SOURCE_PASSWORD}",
                "tables": [self.from_.tables],
                "heartbeat_every": "1s",
                **(source_options or {}),
            },
            "sink.eu": {
                "source": self.name,
                "url": target.url(port=target_port),
                "password": "${TARGET_PASSWORD}",
                **(sink_options or {}),
            },
            "archive.main": {
                "sources": [self.name],
                "url": f"file://{directory}/archive",
                "encryption_key": "${ARCHIVE_KEY}",
                "roll_every": "1s",
                "base_every": "never",
                "anchor_every": "never",
                **(archive_options or {}),
            },
        }
        self.archive_url, self.archive_key = f"file://{directory}/archive/{self.name}", new_key()
        self.config.write_text(
            "\n".join(
                f"[{section}]\n" + "\n".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in keys.items())
                for section, keys in sections.items()
            )
        )

    def publish(self, tables: str = "FOR TABLES IN SCHEMA public") -> None:
        """What `cdc setup` makes, made by the superuser."""
        self.from_.publish(self.name, tables)

    # -- processes ----------------------------------------------------------------------------------------------
    def done(self, *arguments: str) -> None:
        """`cdc …` to its end, which is a good one."""
        process = self.run(*arguments)
        assert process.wait(60) == 0, process.tail()

    def run(self, *arguments: str, failpoint: str | None = None, env: Mapping[str, str] | None = None) -> Process:
        """`cdc …` in the background, its output in a log of its own."""
        self._started += 1
        environment = {**self.environment, **({"CDC_FAILPOINT": failpoint} if failpoint else {}), **(env or {})}
        log = self.directory / f"{self._started:02}-{'-'.join(arguments[:2])}.log"
        return Process([str(CDC), *arguments], log, env=environment)

    @property
    def environment(self) -> dict[str, str]:
        """What every command is given: the configuration, and the secrets that it names."""
        return {
            **os.environ,
            "CDC_CONFIG": str(self.config),
            "SOURCE_PASSWORD": self.source.server.password,
            "TARGET_PASSWORD": self.target.server.password,
            "ARCHIVE_KEY": self.archive_key,
            "PG_DUMP": str(Postgres.pg_dump),
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`cdc …` to its end."""
        return subprocess.run(
            [CDC, *arguments], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    @contextmanager
    def source_running(self, *arguments: str, failpoint: str | None = None) -> Iterator[Process]:
        with self._running("source", "run", self.name, *arguments, failpoint=failpoint) as process:
            yield process

    @contextmanager
    def sink_running(self, *arguments: str, failpoint: str | None = None) -> Iterator[Process]:
        with self._running("sink", "run", "eu", *arguments, failpoint=failpoint) as process:
            yield process

    @contextmanager
    def archive_running(self, *arguments: str, failpoint: str | None = None) -> Iterator[Process]:
        with self._running("archive", "run", "main", *arguments, failpoint=failpoint) as process:
            yield process

    def archive(self) -> Archive:
        """What the archiver writes to."""
        return Archive.open(self.archive_url, parse_key(self.archive_key))

    def wait_archived(self, timeout_s: float = TIMEOUT_S) -> None:
        """Until everything that is committed now is durable in the archive."""
        now = self.from_.now()

        def archived() -> bool:
            with suppress(CdcError):
                tail = read_tail(self.archive())
                return tail is not None and now <= parse_position(tail.progress.position)
            return False

        wait_until(archived, f"archive at {now}", timeout_s)

    @contextmanager
    def _running(self, *arguments: str, failpoint: str | None) -> Iterator[Process]:
        process = self.run(*arguments, failpoint=failpoint)
        try:
            yield process
        except AssertionError as error:
            error.add_note(f"--- {process.log.name}\n{process.tail()}")
            raise
        finally:
            if process.running:
                process.kill9()

    # -- what it came to ----------------------------------------------------------------------------------------
    def progress(self) -> Position | None:
        """The replica's position; None before there is one."""
        return self.into.progress()

    def wait_caught_up(self, timeout_s: float = TIMEOUT_S) -> None:
        """Until the replica is beyond everything that the source has committed by now; a heartbeat takes it there."""
        now = self.from_.now()
        wait_until(
            lambda: (position := self.progress()) is not None and now <= position and not self.copying(),
            f"replica at {now} (it is at {self.progress()})",
            timeout_s,
        )

    def copying(self) -> list[str]:
        return self.into.copying()

    def tables(self) -> list[str]:
        return self.from_.published(self.name)

    def rows_at_source(self, table: str) -> list[Any]:
        return self.from_.rows(table)

    def rows_at_target(self, table: str) -> list[Any]:
        return self.into.rows(table)

    def assert_equal(self) -> None:
        """Replica = source, the log dense, the slot not beyond it."""
        for table in self.tables():
            assert self.rows_at_target(table) == self.rows_at_source(table), table
        ends = self.valid_ends()
        numbered = [end.txn_seq for end in ends if end.numbered and end.epoch == ends[-1].epoch]
        assert numbered == list(range(1, len(numbered) + 1))
        self.assert_not_acknowledged_beyond_the_log()

    def assert_not_acknowledged_beyond_the_log(self) -> None:
        """Of a server that keeps its log for us."""
        if isinstance(self.source, MySQLDatabase):
            return
        rows = self.source.execute(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", [f"cdc_{self.name}"]
        )
        last = PgPosition.parse(self.valid_ends()[-1].position)
        assert all(Lsn.parse(row[0]) <= last.lsn for row in rows)

    def log(self) -> list[Start | End]:
        """Every record of the log topic."""
        reader = Reader({"bootstrap.servers": self.bootstrap})
        try:
            first, end = reader.watermarks(log_topic(self.name), 0)
            records = (
                parse(record.value() or b"") for record in reader.read_range(log_topic(self.name), 0, first, end)
            )
            return [record for record in records if record]
        finally:
            reader.close()

    def rewrite_log(self, records: Sequence[Start | End]) -> None:
        """Make the log topic anew with these records: a cluster that lost the rest."""
        Admin({"bootstrap.servers": self.bootstrap}).create(log_topic(self.name), partitions=1, replicas=1, config={})
        self.append(*records)

    def append(self, *records: Start | End) -> None:
        """Write to the log behind the source's back."""
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for record in records:
            producer.produce_raw(log_topic(self.name), record.to_bytes(), b"", 0)
        while producer.pending():
            producer.poll(0.1)

    def valid_ends(self) -> list[End]:
        validity = Validity()
        return [record for record in self.log() if validity.admit(record) and isinstance(record, End)]


class Pipeline(AnyPipeline):
    """From Postgres to Postgres."""

    source: Database
    target: Database

    def rows_at_source(self, table: str) -> list[Any]:
        return self.rows(self.source, table)

    def rows_at_target(self, table: str) -> list[Any]:
        """As the server's text, which has every value."""
        return self.rows(self.target, table)

    def rows(self, database: Database, table: str) -> list[str]:
        return [row[0] for row in database.execute(f"SELECT t::text FROM {table} t ORDER BY 1")]
