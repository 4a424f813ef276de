"""A start that cannot be right is refused at once, by its code, with the way out; exit 5."""

from pathlib import Path

import pytest
from psycopg import sql

from cdc.kafka_admin import Admin
from cdc.topics import log_topic
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.servers.process import free_port
from tests.system.pipeline import Pipeline, wait_until

pytestmark = pytest.mark.postgres_versions("source")

STOPPED = 5


@pytest.fixture
def pipeline(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka) -> Pipeline:
    """One good table; nothing is published yet."""
    database.execute("CREATE TABLE good (id int PRIMARY KEY)")
    return Pipeline(tmp_path, database, target_database, kafka.bootstrap)


def refusal(pipeline: Pipeline) -> str:
    process = pipeline.run("source", "run", pipeline.name)
    assert process.wait(60) == STOPPED, process.tail()
    output = process.log.read_text()
    assert "Traceback" not in output
    assert "what to do: " in output
    return output


@pytest.mark.parametrize(
    ("ddl", "publication", "code", "words"),
    [
        (
            "CREATE TABLE keyless (a int)",
            "FOR TABLE good, keyless",
            "TABLE_WITHOUT_IDENTITY",
            ["ALTER TABLE public.keyless REPLICA IDENTITY FULL", 'exclude = ["public.keyless"]'],
        ),
        (
            "CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING",
            "FOR TABLE good, nothing",
            "TABLE_WITHOUT_IDENTITY",
            ["replica identity NOTHING"],
        ),
        (
            "CREATE TABLE places (id int PRIMARY KEY, at point)",
            "FOR TABLE good, places",
            "TYPE_UNSUPPORTED",
            ["column at of public.places has type point", 'exclude = ["public.places"]'],
        ),
        (
            "CREATE TABLE logs (at date PRIMARY KEY) PARTITION BY RANGE (at)",
            "FOR TABLE good, logs WITH (publish_via_partition_root = true)",
            "TABLE_PARTITIONED",
            ["public.logs is partitioned", 'exclude = ["public.logs"]'],
        ),
        (
            "CREATE TABLE part (id int PRIMARY KEY)",
            "FOR TABLE good, part WHERE (id > 1)",
            "TABLE_NARROWED",
            ["public.part"],
        ),
        (
            "CREATE SCHEMA other; CREATE TABLE other.a (id int PRIMARY KEY)",
            "FOR TABLE other.a",
            "NOTHING_TO_CAPTURE",
            ["public.*", "cdc setup"],
        ),
    ],
)
def test_what_the_publication_must_not_hold(
    pipeline: Pipeline, ddl: str, publication: str, code: str, words: list[str]
) -> None:
    pipeline.source.execute(ddl)
    pipeline.publish(publication)
    output = refusal(pipeline)
    for expected in (code, *words):
        assert expected in output


def test_a_role_that_may_not_replicate(pipeline: Pipeline) -> None:
    pipeline.publish()
    role = f"{pipeline.name}_nobody"
    pipeline.source.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(sql.Identifier(role)))
    try:
        text = pipeline.config.read_text().replace(pipeline.source.url(), pipeline.source.url(role))
        pipeline.config.write_text(text)
        process = pipeline.run("source", "run", pipeline.name, env={"SOURCE_PASSWORD": "x"})
        assert process.wait(60) == STOPPED, process.tail()
        output = process.log.read_text()
        assert "SOURCE_PREREQUISITE" in output
        assert f"cdc check {pipeline.name}" in output
    finally:
        pipeline.source.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_copy_that_could_not_take_everything_is_refused_before_it_begins(pipeline: Pipeline) -> None:
    """Or the epoch would be another, and readers would wait for a copy that does not come."""
    pipeline.publish()
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
    before = pipeline.valid_ends()
    pipeline.source.execute("CREATE TABLE places (id int PRIMARY KEY, at point)")
    process = pipeline.run("source", "run", pipeline.name, "--reopen", "copy-again")
    assert process.wait(60) == STOPPED, process.tail()
    output = process.log.read_text()
    assert "TYPE_UNSUPPORTED" in output
    assert "column at of public.places has type point" in output
    assert "run started" not in output
    pipeline.source.execute("DROP TABLE places")
    section = f"[source.{pipeline.name}]"
    pipeline.config.write_text(pipeline.config.read_text().replace(section, f"{section}\npartitions = 3"))
    with pipeline.source_running() as source:
        wait_until(lambda: len(pipeline.valid_ends()) > len(before), "it goes on")
        said = source.log.read_text()
    assert f"partitions = 3 is for topics that are made: {pipeline.name}.public.good has 1 and keeps them" in said


def test_another_form_of_values_begins_with_a_copy(pipeline: Pipeline) -> None:
    pipeline.publish()
    pipeline.source.execute("INSERT INTO good VALUES (1)")
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
    section = f"[source.{pipeline.name}]"
    pipeline.config.write_text(pipeline.config.read_text().replace(section, f'{section}\ntypes = "debezium"'))
    output = refusal(pipeline)
    assert "TYPES_CHANGED" in output
    assert 'public.good was written with types = "exact", the configuration says "debezium"' in output
    pipeline.source.execute(
        "ALTER TABLE good ADD COLUMN at timestamp; INSERT INTO good VALUES (2, '2024-02-29 12:00:00')"
    )
    with pipeline.source_running("--reopen", "copy-again"), pipeline.sink_running():
        pipeline.wait_caught_up()
        assert pipeline.rows_at_target("good") == ["(1,)", '(2,"2024-02-29 12:00:00")']


def test_a_log_topic_of_two_partitions(pipeline: Pipeline) -> None:
    pipeline.publish()
    admin = Admin({"bootstrap.servers": pipeline.bootstrap})
    admin.create(log_topic(pipeline.name), partitions=2, replicas=1, config={})
    assert "TOPIC_PARTITIONS" in refusal(pipeline)


def test_more_replicas_than_brokers(pipeline: Pipeline) -> None:
    pipeline.publish()
    text = pipeline.config.read_text().replace("[kafka]\n", "[kafka]\nreplication_factor = 3\n", 1)
    pipeline.config.write_text(text)
    assert "KAFKA_REFUSED" in refusal(pipeline)


def test_a_target_that_is_away_is_waited_for(pipeline: Pipeline) -> None:
    text = pipeline.config.read_text().replace(f":{pipeline.target.server.port}/", f":{free_port()}/")
    pipeline.config.write_text(text)
    sink = pipeline.run("sink", "run", "eu")
    wait_until(lambda: "code=TARGET_UNREACHABLE" in sink.log.read_text(), "the sink's word")
    assert sink.running
    sink.stop()
    assert sink.returncode == 0
