"""Moments: at a commit, before it, in a gap between two epochs, on both sides of a table that was made anew."""

import time
from pathlib import Path

import pytest

from cdc.errors import BEFORE_ARCHIVE, BEYOND_ARCHIVE, CdcError, Code
from cdc.position import PgPosition
from sinks.archive.plan import Moment, Plan
from sinks.archive.restore import Wanted
from sinks.archive.window import Windows
from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.system.conftest import Lived
from tests.system.pipeline import Pipeline, wait_until
from tests.system.test_archive_restore import at_source, restored, work
from tests.system.test_archive_writer import logged


def planned(pipeline: Pipeline, **moment: object) -> Plan:
    return Windows(pipeline.archive()).plan(Moment(**moment))  # type: ignore[arg-type]


def refused(pipeline: Pipeline, code: Code, **moment: object) -> str:
    with pytest.raises(CdcError) as caught:
        planned(pipeline, **moment)
    assert caught.value.code is code
    return caught.value.text


def test_exactly_at_a_commit_and_just_before(lived: Lived) -> None:
    """By time, position and number alike; from a base or from the log's own copy."""
    pipeline = lived.pipeline
    for name, (lsn, _) in lived.moments.items():
        plan = planned(pipeline, position=PgPosition(1, lsn))
        last = plan.cut.last
        assert last
        assert last.commit_us
        assert (plan.base is None) == (name == "copy")
        number = last.txn_seq
        ways = ({"time_us": last.commit_us}, {"txn_seq": number}, {"position": PgPosition(1, lsn)})
        assert [planned(pipeline, **way).cut.txn_seq for way in ways] == [number] * 3
        assert planned(pipeline, txn_seq=number, exclusive=True).cut.first_out == last
        if plan.base:
            before = [
                planned(pipeline, time_us=last.commit_us, exclusive=True),
                planned(pipeline, time_us=last.commit_us - 1),
            ]
            assert [(plan.cut.txn_seq, plan.cut.first_out) for plan in before] == [(number - 1, last)] * 2


def test_before_the_copy_is_complete_and_past_the_end(lived: Lived) -> None:
    pipeline = lived.pipeline
    (window,) = Windows(pipeline.archive()).windows()
    assert window.from_us
    assert window.to_us
    assert "the log's own copy serves from" in refused(pipeline, BEFORE_ARCHIVE, time_us=window.from_us - 60_000_000)
    assert "lies beyond the archive's end" in refused(pipeline, BEYOND_ARCHIVE, time_us=window.to_us + 1)
    assert planned(pipeline, time_us=window.to_us).cut.txn_seq == window.last_seq
    last = planned(pipeline, txn_seq=window.last_seq).cut.last
    assert last
    lsn = PgPosition.parse(last.position).lsn
    assert planned(pipeline, position=PgPosition(1, lsn)).cut.txn_seq == window.last_seq
    assert planned(pipeline, position=PgPosition(1, lsn), exclusive=True).cut.txn_seq == window.last_seq - 1
    refused(pipeline, BEYOND_ARCHIVE, txn_seq=window.last_seq + 1)


def test_a_table_that_was_made_anew(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka
) -> None:
    """The source stops, copies again, and another epoch begins; both sides can be restored, the gap is named."""
    database.execute(SHOP)
    pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    pipeline.publish()
    with pipeline.archive_running():
        with pipeline.source_running() as source:
            wait_until(lambda: len(logged(pipeline)) >= 2, "the copy")
            work(pipeline)
            before = at_source(pipeline)
            database.execute("UPDATE accounts SET balance = 7")
            pipeline.wait_archived()
            database.execute("DROP TABLE visits; CREATE TABLE visits (id int PRIMARY KEY, page_text text)")
            wait_until(lambda: not source.running, "the stop of the source")
        database.execute("INSERT INTO visits VALUES (1, 'new'); UPDATE accounts SET balance = 8")
        lost_us = time.time_ns() // 1_000
        time.sleep(0.1)
        with pipeline.source_running("--reopen", "copy-again"):
            wait_until(lambda: len({end.epoch for end in pipeline.valid_ends()}) == 2, "another epoch")
            pipeline.wait_archived()
            work_anew(database)
            after = at_source(pipeline)
            pipeline.wait_archived()
    for lsn, expected in (before, after):
        target_database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP SCHEMA IF EXISTS cdc CASCADE")
        outcome = restored(pipeline, Moment(position=PgPosition(1, lsn)), Wanted())
        assert {table.table: table.digests for table in outcome.tables} == expected
    one, other = Windows(pipeline.archive()).windows()
    assert one.to_us
    assert other.from_us
    assert one.to_us < lost_us < other.from_us
    assert "the log's own copy serves from" in refused(pipeline, BEFORE_ARCHIVE, time_us=lost_us)
    for window in (one, other):
        assert window.from_us
        assert window.to_us
        for time_us in (window.from_us, window.to_us):
            assert planned(pipeline, time_us=time_us).cut.epoch == window.epoch


def work_anew(database: Database) -> None:
    database.execute("INSERT INTO visits VALUES (2, 'newer'); DELETE FROM accounts WHERE id % 2 = 0")
