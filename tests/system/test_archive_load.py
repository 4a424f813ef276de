"""Restores to random moments of one load equal what the source held at them, by its own digests taken as it ran.

Each moment is an exact position: the snapshot of a temporary slot. `make soak-restore` takes fifty.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cdc.position import Lsn, PgPosition
from cdc.postgres.catalog import Catalog
from cdc.postgres.session import Server, Side
from sinks.archive.plan import Moment
from sinks.archive.snapshot import exact_snapshot
from sinks.digest import Digests, digests
from sinks.postgres.digest import digest_query
from tests.demo.shop import SHOP, Load
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.system.pipeline import Pipeline, wait_until
from tests.system.test_archive_restore import restored
from tests.system.test_archive_writer import logged

MOMENTS = int(os.environ.get("CDC_SOAK_RESTORES", "5"))
SECONDS = max(6.0, MOMENTS * 0.8)


@contextmanager
def trading(database: Database) -> Iterator[Load]:
    """The shop, without the bank; a column is added soon."""
    load = Load(database.url(), database.server.password, 0, alters=True)
    load.shop_transactions = 850
    load._shop.start()
    yield load
    load._stop.set()
    load._shop.join()
    assert load.failure is None


def at_exactly(pipeline: Pipeline) -> tuple[Lsn, dict[str, Digests]]:
    """A position of the source and its digests there, while others write."""
    server = Server(Side.SOURCE, "test", pipeline.source.url(), pipeline.source.server.password, "moment")
    with closing(Catalog(server)) as now:
        publication = now.publication(f"cdc_{pipeline.name}", lambda *_: True)
        assert publication is not None
        with exact_snapshot(server, now, lambda _: None) as exact:
            shapes = exact.shapes(publication.tables)
            return exact.position.lsn, {
                t.full_name: digests(exact.copy.rows(digest_query(t, only=True))) for t in shapes
            }


@pytest.mark.timeout(900)
def test_random_moments_of_a_load(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka) -> None:
    database.execute(SHOP.replace("ALTER TABLE pgbench_history REPLICA IDENTITY FULL;", ""))
    pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    pipeline.publish()
    moments, bases = [], []
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: len(logged(pipeline)) >= 4, "the copy")
        with trading(database) as load:
            for number in range(MOMENTS):
                time.sleep(random.uniform(0.2, 1.8) * SECONDS / MOMENTS)
                moments.append(at_exactly(pipeline))
                if number in (MOMENTS // 3, 2 * MOMENTS // 3):
                    backup = pipeline.run("archive", "backup", "main", env={"PG_DUMP": str(Postgres.pg_dump)})
                    bases.append(backup)
            for backup in bases:
                assert backup.wait(60) == 0, backup.tail()
            traded = load.shop_transactions
        pipeline.wait_archived()
    random.shuffle(moments)
    for lsn, expected in moments:
        target_database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS cdc CASCADE")
        outcome = restored(pipeline, Moment(position=PgPosition(1, lsn)))
        assert {table.table: table.digests for table in outcome.tables} == expected, f"at {lsn}"
    assert len({str(sorted(expected.items())) for _, expected in moments}) == MOMENTS
    print(f"{MOMENTS} restores to random moments of {traded - 850:,} transactions equal the source's own digests")
