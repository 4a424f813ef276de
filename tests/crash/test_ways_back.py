"""What an error tells the operator to do mends it, and what was committed before the error is not held back."""

import threading
from contextlib import suppress

import pytest

from cdc.kafka_admin import Admin
from cdc.topics import row_topic
from tests.crash.conftest import died, ends
from tests.system.pipeline import Pipeline, wait_until

pytestmark = pytest.mark.postgres_versions("source")

RSS_MAX = 300 << 20


def copy_again(pipeline: Pipeline) -> None:
    epoch = pipeline.valid_ends()[-1].epoch

    def copied() -> bool:
        last = pipeline.valid_ends()[-1]
        return last.epoch > epoch and last.kind == "heartbeat"

    with pipeline.source_running("--reopen", "copy-again") as source:
        wait_until(copied, "the copy, closed")
        source.stop()


def test_a_row_that_somebody_removed_from_the_replica(pipeline: Pipeline) -> None:
    with pipeline.source_running(), pipeline.sink_running() as sink:
        pipeline.wait_caught_up()
        pipeline.target.execute("DELETE FROM accounts WHERE id = 1")
        pipeline.source.execute("UPDATE accounts SET balance = 5 WHERE id = 1")
        assert "ROW_DIVERGED" in died(sink)
    copy_again(pipeline)
    with pipeline.source_running(), pipeline.sink_running() as sink:
        pipeline.wait_caught_up()
        assert "going on at the copy" in sink.log.read_text()
        pipeline.assert_equal()


def test_labels_of_an_enum_that_changed(pipeline: Pipeline) -> None:
    """The sink's own type is made anew at the copy; a new sink begins there."""
    pipeline.source.execute("CREATE TYPE mood AS ENUM ('x', 'y')")
    with pipeline.source_running() as source, pipeline.sink_running():
        pipeline.wait_caught_up()
        pipeline.source.execute("ALTER TABLE accounts ADD COLUMN m mood DEFAULT 'x'")
        pipeline.source.execute("UPDATE accounts SET m = 'y' WHERE id < 5")
        pipeline.wait_caught_up()
        pipeline.source.execute("ALTER TYPE mood RENAME VALUE 'x' TO 'z'")
        assert "labels" in died(source)
    copy_again(pipeline)
    with pipeline.source_running(), pipeline.sink_running() as sink:
        pipeline.wait_caught_up()
        pipeline.assert_equal()
        sink.stop()
        pipeline.target.execute("DROP SCHEMA cdc CASCADE; DROP TABLE accounts, visits; DROP TYPE mood")
        with pipeline.sink_running():
            pipeline.wait_caught_up()
            pipeline.assert_equal()


def test_a_column_that_goes_with_its_type(pipeline: Pipeline) -> None:
    pipeline.source.execute("CREATE TYPE mood AS ENUM ('x', 'y')")
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
        pipeline.source.execute("ALTER TABLE accounts ADD COLUMN m mood DEFAULT 'x'")
        pipeline.source.execute("DROP TYPE mood CASCADE")
        pipeline.source.execute("UPDATE accounts SET balance = 7 WHERE id = 7")
        pipeline.wait_caught_up()
        pipeline.assert_equal()


def test_what_was_committed_before_the_source_stops_has_arrived(pipeline: Pipeline) -> None:
    with pipeline.source_running() as source:
        wait_until(lambda: "heartbeat" in ends(pipeline), "the stream")
        with pipeline.source.connect() as connection:
            for number in range(200):
                connection.execute("INSERT INTO visits VALUES (now(), %s)", [str(number)])
            connection.execute("ALTER TABLE accounts RENAME COLUMN owner TO holder")
        assert "renamed" in died(source)
    assert ends(pipeline).count("data") == 200


def test_a_topic_deleted_under_a_running_source(pipeline: Pipeline) -> None:
    with pipeline.source_running() as source:
        wait_until(lambda: "heartbeat" in ends(pipeline), "the stream")
        Admin({"bootstrap.servers": pipeline.bootstrap}).delete([row_topic(pipeline.name, "public", "accounts")])
        pipeline.source.execute("UPDATE accounts SET balance = 1")
        said = died(source)
        assert "TOPIC_MISSING" in said
        assert "KAFKA_STALLED" not in said


@pytest.mark.matrix
def test_a_transaction_of_large_rows_takes_little_memory(pipeline: Pipeline) -> None:
    pipeline.source.execute("CREATE TABLE large (id int PRIMARY KEY, v text)")
    with pipeline.source_running() as source, pipeline.sink_running() as sink:
        pipeline.wait_caught_up()
        peak, done = {source: 0, sink: 0}, threading.Event()

        def sample() -> None:
            while not done.wait(0.2):
                for process, before in peak.items():
                    with suppress(OSError):
                        peak[process] = max(before, process.rss())

        sampler = threading.Thread(target=sample)
        sampler.start()
        pipeline.source.execute(
            "INSERT INTO large SELECT i, repeat(md5(i::text), 230000) FROM generate_series(1, 60) i"
        )
        pipeline.wait_caught_up()
        done.set()
        sampler.join()
        pipeline.assert_equal()
    assert 0 < min(peak.values()) <= max(peak.values()) <= RSS_MAX, peak.values()
