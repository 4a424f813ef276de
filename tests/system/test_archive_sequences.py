"""Sequences on real servers: sampled with heartbeats, kept in the archive, never behind the moment of a restore."""

import os
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from cdc.errors import CdcError
from cdc.postgres.catalog import Catalog
from cdc.postgres.sequences import SequenceSamples
from cdc.postgres.session import Server, Side
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.system.pipeline import Pipeline, wait_until
from tests.system.test_archive_restore import at_source, cdc_restore
from tests.system.test_archive_writer import chain

pytestmark = pytest.mark.postgres_versions("source")

SEQUENCES = """
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number bigint);
CREATE SEQUENCE "Order numbers"; CREATE SEQUENCE down INCREMENT BY -3; CREATE SEQUENCE fresh START 7;
CREATE TABLE falling (id int PRIMARY KEY);
CREATE SEQUENCE falling_id INCREMENT BY -1 OWNED BY falling.id;
"""


@pytest.fixture
def pipeline(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> Pipeline:
    monkeypatch.setenv("PATH", f"{Postgres.pg_dump.parent}:{os.environ['PATH']}")
    database.execute(SEQUENCES)
    made = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    made.publish()
    return made


def advance(pipeline: Pipeline, times: int) -> None:
    pipeline.source.execute(
        "INSERT INTO orders (number) SELECT nextval('\"Order numbers\"') FROM generate_series(1, %s)", [times]
    )
    pipeline.source.execute("SELECT nextval('down') FROM generate_series(1, %s)", [times])
    pipeline.source.execute("INSERT INTO falling SELECT nextval('falling_id') FROM generate_series(1, %s)", [times])


def values(database: Database) -> dict[str, int | None]:
    rows = database.execute("SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'")
    return dict(rows)


def archived(pipeline: Pipeline) -> bool:
    with suppress(CdcError):
        return len(chain(pipeline.archive())) > 0
    return False


def test_no_sequence_is_behind_the_moment(pipeline: Pipeline) -> None:
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(partial(archived, pipeline), "the archive")
        advance(pipeline, 3)
        backup = pipeline.run("archive", "backup", "main")
        assert backup.wait(60) == 0, backup.log.read_text()
        advance(pipeline, 40)
        lsn, _ = at_source(pipeline)
        there = values(pipeline.source)
        advance(pipeline, 2)
        pipeline.source.execute("CREATE SEQUENCE late")
        pipeline.source.execute("SELECT nextval('late')")
        # Nothing is committed any more: what is sampled now is kept in the head.
        pipeline.wait_archived()
        wait_until(lambda: "late" in str(samples(pipeline)), "the samples")
    done = cdc_restore(pipeline, "--to-lsn", str(lsn), "--into", pipeline.target.url())
    assert done.returncode == 0, done.stderr
    assert "public.late was made after the base" in done.stdout
    restored = values(pipeline.target)
    assert (there["Order numbers"], there["down"]) == (43, -127)
    assert 43 <= (restored["Order numbers"] or 0) <= 45
    assert -133 <= (restored["down"] or 0) <= -127
    assert -45 <= (restored["falling_id"] or 0) <= -43
    assert restored["orders_id_seq"] in (43, 44, 45)
    assert (restored["fresh"], "late" in restored) == (None, False)
    assert pipeline.target.execute("SELECT nextval('fresh')") == [(7,)]
    pipeline.target.execute("INSERT INTO orders (number) VALUES (1)")


def samples(pipeline: Pipeline) -> list[object]:
    archive = pipeline.archive()
    return [archive.get("head.json"), *(segment.sequences for segment in chain(archive))]


def test_only_what_moved_is_told_and_all_once_a_run(pipeline: Pipeline) -> None:
    with pipeline.source_running():
        advance_until_sampled(pipeline, 1)
    with pipeline.source_running():
        pipeline.source.execute("SELECT nextval('down')")
        advance_until_sampled(pipeline, 2)
    by_run: dict[str, list[dict[str, int]]] = {}
    for end in pipeline.valid_ends():
        if end.sequences:
            assert (end.kind, end.event_count) == ("heartbeat", 0)
            by_run.setdefault(end.run, []).append(dict(end.sequences))
    first, second = by_run.values()
    assert first[-1] == {"public.Order numbers": 1}
    assert second[0] == {"public.Order numbers": 1, "public.down": -1}
    assert second[-1] == {"public.Order numbers": 2}


def advance_until_sampled(pipeline: Pipeline, value: int) -> None:
    def told() -> list[dict[str, int]]:
        return [dict(end.sequences) for end in pipeline.valid_ends() if end.sequences]

    before = len([end for end in pipeline.log() if end.id.startswith("heartbeat")]) if value > 1 else 0
    wait_until(lambda: bool(slot(pipeline)), "the slot")
    wait_until(lambda: sum(end.id.startswith("heartbeat") for end in pipeline.log()) >= before + 2, "heartbeats")
    pipeline.source.execute("SELECT nextval('\"Order numbers\"')")
    wait_until(lambda: {"public.Order numbers": value} in told(), "the sample")


def slot(pipeline: Pipeline) -> list[tuple[object, ...]]:
    return pipeline.source.execute("SELECT 1 FROM pg_replication_slots WHERE database = %s", [pipeline.source.name])


def test_what_cannot_be_read_is_told_once(pipeline: Pipeline) -> None:
    pipeline.source.execute("""
        SELECT nextval('down'), nextval('"Order numbers"');
        DROP ROLE IF EXISTS sampler; CREATE ROLE sampler LOGIN PASSWORD 'x'; GRANT USAGE ON SEQUENCE down TO sampler;
    """)
    server = Server(Side.SOURCE, "test", pipeline.source.url("sampler"), "x")
    told: list[str] = []
    with closing(Catalog(server)) as catalog:
        sampling = SequenceSamples(catalog, told.append)
        for _ in range(2):
            sampling.look()
        assert sampling.take() == (("public.down", -1),)
        assert sampling.take() == ()
        (hidden,) = told
        assert "public.Order numbers" in hidden
        assert "public.down" not in hidden
        with pipeline.source.connect(autocommit=False) as other:
            other.execute("ALTER SEQUENCE down INCREMENT BY -5")
            for _ in range(2):
                sampling.look()
        assert "could not be sampled" in told[1]
        assert len(told) == 2
        pipeline.source.execute("SELECT nextval('down')")
        sampling.look()
        assert sampling.take() == (("public.down", -6),)
    pipeline.source.execute("REVOKE ALL ON SEQUENCE down FROM sampler; DROP ROLE sampler")
