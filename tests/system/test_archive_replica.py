"""Bases out of a replica on real servers: what the source held at the sink's position, or a word why not."""

import os
import threading
import time
from pathlib import Path

import pytest

from cdc.position import PgPosition
from sinks.archive.manifest import Base
from sinks.archive.plan import Moment
from sinks.archive.verify import verify
from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.system.pipeline import Pipeline, wait_until
from tests.system.test_archive_restore import at_source, restored, work


@pytest.fixture
def pipeline(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> Pipeline:
    monkeypatch.setenv("PATH", f"{Postgres.pg_dump.parent}:{os.environ['PATH']}")
    database.execute(SHOP + "CREATE SEQUENCE numbers; SELECT nextval('numbers') FROM generate_series(1, 9);")
    made = Pipeline(tmp_path, database, target_database, kafka.bootstrap, archive_options={"base_from": "eu"})
    made.publish()
    return made


def bases(pipeline: Pipeline) -> list[Base]:
    archive = pipeline.archive()
    return [archive.read(Base, name) for name in archive.names("base/0") if name.endswith(".json")]


def refused(pipeline: Pipeline) -> str:
    process = pipeline.run("archive", "backup", "main")
    assert process.wait(60) == 5, process.log.read_text()
    text = process.log.read_text()
    assert "REPLICA_UNFIT" in text
    assert "Traceback" not in text
    return text


def writing(pipeline: Pipeline, until: threading.Event) -> threading.Thread:
    def write() -> None:
        while not until.is_set():
            work(pipeline)
            time.sleep(0.02)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


@pytest.mark.matrix
def test_a_base_of_a_replica_serves_as_one_of_the_source(pipeline: Pipeline) -> None:
    """Taken while it applies, and while its table changes its shape; the source gives schema and sequences alone."""
    done = threading.Event()
    with pipeline.source_running(), pipeline.archive_running(), pipeline.sink_running():
        wait_until(lambda: pipeline.progress() is not None and not pipeline.copying(), "the copy")
        thread = writing(pipeline, done)
        try:
            for number in range(3):
                process = pipeline.run("archive", "backup", "main")
                assert process.wait(60) == 0, process.log.read_text()
                if number == 0:
                    pipeline.source.execute("ALTER TABLE accounts ADD COLUMN tier int NOT NULL DEFAULT 3")
        finally:
            done.set()
            thread.join()
        lsn, expected = at_source(pipeline)
        pipeline.wait_archived()
        pipeline.wait_caught_up()
    taken = bases(pipeline)
    assert [base.taken_from for base in taken] == ["eu"] * 3
    assert taken[0].txn_seq < taken[1].txn_seq < taken[2].txn_seq
    assert taken[0].tables["public.accounts"].schema_id != taken[1].tables["public.accounts"].schema_id
    assert {base.sequences["public.numbers"] for base in taken} == {(9, True)}
    assert verify(pipeline.archive(), lambda _: None)[1] == []
    for base in reversed(taken):
        pipeline.target.execute("DROP TABLE IF EXISTS accounts, visits; DROP SCHEMA IF EXISTS cdc CASCADE")
        pipeline.target.execute("DROP SEQUENCE IF EXISTS numbers")
        outcome = restored(pipeline, Moment(position=PgPosition(1, lsn)))
        assert {table.table: table.digests for table in outcome.tables} == expected
        # The one before it serves the next time.
        pipeline.archive().store.delete(base.name)


@pytest.mark.matrix
def test_what_is_no_true_replica_is_refused_by_name(pipeline: Pipeline) -> None:
    with pipeline.source_running(), pipeline.archive_running():
        with pipeline.sink_running():
            wait_until(lambda: pipeline.progress() is not None and not pipeline.copying(), "the copy")
            pipeline.wait_caught_up()
        table = "UPDATE cdc.cdc_table SET state = '{}' WHERE source_table = 'public.visits'"
        pipeline.target.execute(table.format("copying"))
        assert "public.visits is being copied" in refused(pipeline)
        pipeline.target.execute(table.format("ready"))
        pipeline.target.execute("ALTER TABLE accounts ALTER owner TYPE varchar(500)")
        assert "column owner of public.accounts is character varying(500) there, text at the source" in refused(
            pipeline
        )
        pipeline.target.execute("ALTER TABLE accounts ALTER owner TYPE text")
        pipeline.target.execute("UPDATE cdc.cdc_progress SET epoch = epoch - 1")
        assert "it stands in epoch" in refused(pipeline)
        pipeline.target.execute("UPDATE cdc.cdc_progress SET epoch = epoch + 1, pipeline = 'us'")
        assert "it has applied nothing of" in refused(pipeline)
        pipeline.target.execute("UPDATE cdc.cdc_progress SET pipeline = 'eu'")
        pipeline.target.execute("DELETE FROM cdc.cdc_table WHERE source_table = 'public.visits'")
        assert "it does not hold public.visits" in refused(pipeline)
        assert bases(pipeline) == []
