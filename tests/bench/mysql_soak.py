"""`make soak-mysql`: a transaction of a million rows, and a thousand tables.

In: nothing but the checkout. Out: one line per measure and a folder in `results/`. The transaction comes twice, plain
and compressed; what is measured is the peak memory of `cdc source run`, and its time with its start. A thousand tables
of ten rows are copied; then each of them has a change.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cdc.errors import CdcError
from cdc.kafka import Reader
from cdc.log import End
from cdc.logparse import parse
from cdc.topics import log_topic
from tests.bench import topics
from tests.bench.__main__ import conclude, new_results, say
from tests.bench.contender import expect
from tests.bench.measure import peak_rss_mib
from tests.bench.mysql import SETTINGS, servers
from tests.bench.program import run_to_end, running
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL, MySQLDatabase

ROWS = 1_000_000
TABLES = 1_000
RSS = "<= 300"
Line = tuple[str, float, str]

_BIG = """
CREATE TABLE big (id int PRIMARY KEY, code varchar(20) NOT NULL, note text, amount decimal(12,2), details json,
  changed datetime(6));
CREATE TABLE number (n int PRIMARY KEY);
INSERT INTO number WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 1000)
  SELECT n FROM counted
"""
_INSERT = """
INSERT INTO big SELECT @first + (a.n - 1) * 1000 + b.n, CONCAT('code ', b.n), REPEAT('lorem ipsum ', 8), a.n / 100,
  JSON_OBJECT('a', a.n, 'b', b.n), '2024-01-01 00:00:00.5' FROM number AS a JOIN number AS b WHERE a.n <= %s
"""


class Source:
    """One source over a whole database."""

    def __init__(self, directory: Path, database: MySQLDatabase, kafka: Kafka, tables: str = "*") -> None:
        self.name, self.kafka = database.name, kafka
        password = database.server.password
        self.environment = os.environ | {"MYSQL_PWD": password, "SOAK_SOURCE_PASSWORD": password}
        self.config = directory / f"{self.name}.toml"
        url = f"{database.url()}?ssl-mode=DISABLED"
        self.config.write_text(
            f'[kafka]\nbootstrap_servers = "{kafka.bootstrap}"\n\n[source.{self.name}]\nurl = "{url}"\n'
            f'password = "${{SOAK_SOURCE_PASSWORD}}"\ntables = ["{self.name}.{tables}"]\n'
        )
        run_to_end(self.config, self.environment, "setup", self.name, "--admin-url", url)
        self._reader = Reader({"bootstrap.servers": kafka.bootstrap}, client="soak")

    def ends(self) -> Counter[str]:
        """The log's ENDs by kind, of the copy's chunks the last of each table; nothing before there is a log."""
        topic = log_topic(self.name)
        with suppress(CdcError):
            begins, ends = self._reader.watermarks(topic, 0)
            found = [parse(record.value() or b"") for record in self._reader.read_range(topic, 0, begins, ends)]
            return Counter(end.kind for end in found if isinstance(end, End) and (end.copy is None or end.copy.last))
        return Counter()


def transactions(directory: Path, server: MySQL, kafka: Kafka, rows: int) -> Iterator[Line]:
    """Each is in the log before the source that reads it starts."""
    database = server.create_database("soak")
    database.execute(_BIG)
    source = Source(directory, database, kafka, "big")
    with running(source.config, source.environment, "source", source.name) as program:
        expect("the copy", lambda: source.ends()["snapshot"], 1, program.tail)
    arrived = topics.counter(kafka.bootstrap, "soak.soak.big")
    for number, (kind, compression) in enumerate({"plain": "OFF", "compressed": "ON"}.items()):
        with database.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SET SESSION binlog_transaction_compression = {compression}, @first = {number * rows}")
            cursor.execute(_INSERT, [rows // 1000])
        started = time.monotonic()
        with running(source.config, source.environment, "source", source.name) as program:
            wanted = (number + 1) * rows
            expect(f"a {kind} transaction", arrived, wanted, program.tail, timeout=300)
            seconds = time.monotonic() - started
            expect("its END", lambda: source.ends()["data"], number + 1, program.tail)
            peak = max(map(peak_rss_mib, program.family()))
        say(f"{kind}: {rows} rows in {seconds:.1f} s, {peak:.0f} MiB")
        yield f"soak.{kind}_transaction.rows", rows, ""
        yield f"soak.{kind}_transaction.seconds", seconds, ""
        yield f"soak.{kind}_transaction.peak_rss_mib", peak, RSS
    database.drop()


def many_tables(directory: Path, server: MySQL, kafka: Kafka, tables: int) -> Iterator[Line]:
    """Copied, then a change in each."""
    database = server.create_database("many")
    with database.connect() as connection, connection.cursor() as cursor:
        for number in range(tables):
            cursor.execute(f"CREATE TABLE t{number} (id int PRIMARY KEY, v varchar(20), at timestamp(6))")
            values = ", ".join(f"({row}, 'row {row}', NOW(6))" for row in range(10))
            cursor.execute(f"INSERT INTO t{number} VALUES {values}")
    source = Source(directory, database, kafka)
    started = time.monotonic()
    with running(source.config, source.environment, "source", source.name) as program:
        expect("the copy", lambda: source.ends()["snapshot"], tables, program.tail, timeout=600)
        copied = time.monotonic() - started
        started = time.monotonic()
        with database.connect() as connection, connection.cursor() as cursor:
            for number in range(tables):
                cursor.execute(f"UPDATE t{number} SET v = 'changed' WHERE id = 3")
        expect("a change of each", lambda: source.ends()["data"], tables, program.tail, timeout=300)
        changed = time.monotonic() - started
        peak = max(map(peak_rss_mib, program.family()))
    say(f"{tables} tables: copied in {copied:.1f} s, changed in {changed:.1f} s, {peak:.0f} MiB")
    yield "soak.tables", tables, ""
    yield "soak.tables.copy_seconds", copied, ""
    yield "soak.tables.change_seconds", changed, ""
    yield "soak.tables.peak_rss_mib", peak, ""


def main(scale: float) -> int:
    """Run, print, keep."""
    results = new_results("-mysql-soak", {"scale": scale})
    with servers(SETTINGS) as (server, kafka, directory):
        lines = [
            *transactions(directory, server, kafka, int(ROWS * scale)),
            *many_tables(directory, server, kafka, int(TABLES * scale)),
        ]
    return conclude(results, lines)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
