"""SIGKILL at every edge between two durable steps: afterwards the replica equals the source, the log has no hole."""

import pytest

from tests.system.pipeline import Pipeline, wait_until

WORK = [
    "UPDATE accounts SET balance = balance - 1 WHERE id = 1; UPDATE accounts SET balance = balance + 1 WHERE id = 2",
    "UPDATE accounts SET id = id + 1000 WHERE id BETWEEN 3 AND 5; DELETE FROM accounts WHERE id = 6",
    "INSERT INTO visits VALUES (now(), 'a'), (now(), 'a'); UPDATE visits SET page = 'b' WHERE page = 'start'",
    "INSERT INTO accounts SELECT i, 'new', 0, NULL FROM generate_series(2000, 2200) i",
    "DELETE FROM visits WHERE ctid = (SELECT min(ctid) FROM visits)",
    "ALTER TABLE accounts ADD COLUMN tier int NOT NULL DEFAULT 3",
    "UPDATE accounts SET tier = 4, owner = 'é' WHERE id % 7 = 0",
    "TRUNCATE visits",
    "INSERT INTO visits VALUES (now(), 'after')",
]


def work(pipeline: Pipeline) -> None:
    """Each line one transaction."""
    for statements in WORK:
        with pipeline.source.connect(autocommit=False) as connection:
            connection.execute(statements)


SOURCE_EDGES = [
    "source.after_start",
    pytest.param("source.in_copy", marks=pytest.mark.matrix),
    "source.in_copy:2",
    "source.before_end",
    pytest.param("source.before_end:4", marks=pytest.mark.matrix),
    "source.before_end:5",
    pytest.param("source.before_end:6", marks=pytest.mark.matrix),
    pytest.param("source.before_end:9", marks=pytest.mark.matrix),
    pytest.param("source.after_end", marks=pytest.mark.matrix),
    "source.after_end:6",
    pytest.param("source.before_acknowledge", marks=pytest.mark.matrix),
    "source.before_acknowledge:3",
    pytest.param("source.before_acknowledge:5", marks=pytest.mark.matrix),
]


@pytest.mark.parametrize("edge", SOURCE_EDGES)
def test_the_source_killed(pipeline: Pipeline, edge: str) -> None:
    with pipeline.sink_running(), pipeline.source_running(failpoint=edge) as doomed:
        wait_until(lambda: not doomed.running or bool(pipeline.progress() and not pipeline.copying()), "a first pass")
        work(pipeline)
        wait_until(lambda: not doomed.running, f"death at {edge}")
        assert doomed.returncode == -9
        if pipeline.valid_ends():
            pipeline.assert_not_acknowledged_beyond_the_log()
        with pipeline.source_running():
            pipeline.wait_caught_up()
            pipeline.assert_equal()


SINK_EDGES = ["sink.before_commit", "sink.before_commit:3", "sink.after_rows", "sink.after_rows:2", "sink.after_commit",
              "sink.after_commit:2"]  # fmt: skip


@pytest.mark.parametrize("edge", SINK_EDGES)
def test_the_sink_killed(pipeline: Pipeline, edge: str) -> None:
    with pipeline.source_running(), pipeline.sink_running(failpoint=edge) as doomed:
        work(pipeline)
        wait_until(lambda: not doomed.running, f"death at {edge}")
        assert doomed.returncode == -9
        with pipeline.sink_running():
            pipeline.wait_caught_up()
            pipeline.assert_equal()


def test_both_killed_again_and_again_under_load(pipeline: Pipeline) -> None:
    for number in range(4):
        with pipeline.source_running() as source, pipeline.sink_running() as sink:
            pipeline.source.execute(
                "INSERT INTO accounts SELECT i, 'round', 1, NULL FROM generate_series(%s::int, %s::int) i",
                [10_000 + number * 1000, 10_000 + number * 1000 + 499],
            )
            pipeline.source.execute("UPDATE accounts SET balance = balance + 1 WHERE id % 3 = 0")
            if number:
                wait_until(lambda: pipeline.progress() is not None, "some progress")
            source.kill9()
            sink.kill9()
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
        pipeline.assert_equal()
