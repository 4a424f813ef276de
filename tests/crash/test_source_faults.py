"""What somebody does to the source's slot, publication or topics is named at once, with the command that mends it."""

import contextlib
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from cdc.errors import COPY_TORN, CdcError
from cdc.kafka_admin import Admin
from cdc.log import Start
from cdc.postgres.catalog import Catalog
from cdc.postgres.messages import TRIGGERS
from cdc.postgres.session import Server, Side
from cdc.postgres.snapshot import BaseCopy
from cdc.postgres.stream import ReplicationStream
from cdc.topics import log_topic, row_topic, shape_topic
from tests.crash.conftest import died, ends, refusal
from tests.system.pipeline import Pipeline, wait_until

pytestmark = pytest.mark.postgres_versions("source")


def slot(pipeline: Pipeline) -> str:
    return f"cdc_{pipeline.name}"


def streamed(pipeline: Pipeline) -> None:
    """Run the source until it streams, then stop it in order."""
    with pipeline.source_running() as source:
        wait_until(lambda: bool(ends(pipeline)) and ends(pipeline)[-1] == "heartbeat", "the stream")
        source.stop()


def drop_slot(pipeline: Pipeline) -> None:
    pipeline.source.execute("SELECT pg_drop_replication_slot(%s)", [slot(pipeline)])


def recreate_slot(pipeline: Pipeline) -> None:
    drop_slot(pipeline)
    pipeline.source.execute("INSERT INTO visits VALUES (now(), 'lost')")
    pipeline.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot(pipeline)])


def advance_slot(pipeline: Pipeline) -> None:
    pipeline.source.execute("INSERT INTO visits VALUES (now(), 'lost')")
    pipeline.source.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [slot(pipeline)])


def foreign_slot(pipeline: Pipeline) -> None:
    drop_slot(pipeline)
    pipeline.source.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", [slot(pipeline)])


def disable_trigger(pipeline: Pipeline) -> None:
    """Nobody tells of schema changes any more."""
    pipeline.source.execute("ALTER EVENT TRIGGER cdc_ddl DISABLE")


def alter_publication(pipeline: Pipeline) -> None:
    pipeline.source.execute(f"ALTER PUBLICATION cdc_{pipeline.name} SET (publish = 'insert')")


def renew_publication(pipeline: Pipeline) -> None:
    """The same tables and options: only the server knows that changes were left out meanwhile (CORRECTNESS 15)."""
    pipeline.source.execute(f"DROP PUBLICATION cdc_{pipeline.name}")
    pipeline.source.execute("INSERT INTO visits VALUES (now(), 'lost')")
    pipeline.source.execute(f"CREATE PUBLICATION cdc_{pipeline.name} FOR TABLES IN SCHEMA public")


def recreate_publication(pipeline: Pipeline) -> None:
    pipeline.source.execute(f"DROP PUBLICATION cdc_{pipeline.name}")
    pipeline.source.execute(f"CREATE PUBLICATION cdc_{pipeline.name} FOR TABLE accounts")


def drop_publication(pipeline: Pipeline) -> None:
    pipeline.source.execute(f"DROP PUBLICATION cdc_{pipeline.name}")


def delete_topic(name: Callable[[str], str]) -> Callable[[Pipeline], None]:
    def delete(pipeline: Pipeline) -> None:
        admin = Admin({"bootstrap.servers": pipeline.bootstrap})
        topic = name(pipeline.name)
        admin.delete([topic])
        wait_until(lambda: topic not in admin.names(), f"{topic} deleted")

    return delete


def accounts_topic(prefix: str) -> str:
    return row_topic(prefix, "public", "accounts")


def replace_topic(pipeline: Pipeline) -> None:
    delete_topic(accounts_topic)(pipeline)
    admin = Admin({"bootstrap.servers": pipeline.bootstrap})
    admin.create(accounts_topic(pipeline.name), partitions=1, replicas=1, config={})


def compact_topic(pipeline: Pipeline) -> None:
    Admin({"bootstrap.servers": pipeline.bootstrap}).configure(
        accounts_topic(pipeline.name), {"cleanup.policy": "compact"}
    )


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (drop_slot, "LOG_WITHOUT_SLOT"),
        (recreate_slot, "SLOT_AHEAD"),
        (advance_slot, "SLOT_AHEAD"),
        (foreign_slot, "SLOT_FOREIGN"),
        (alter_publication, "PUBLICATION_CHANGED"),
        (recreate_publication, "PUBLICATION_CHANGED"),
        (renew_publication, "PUBLICATION_CHANGED"),
        (drop_publication, "PUBLICATION_MISSING"),
        (delete_topic(log_topic), "SLOT_WITHOUT_LOG"),
        (delete_topic(shape_topic), "SCHEMA_UNKNOWN"),
        (delete_topic(accounts_topic), "TOPIC_MISSING"),
        (replace_topic, "TOPIC_REPLACED"),
        (compact_topic, "TOPIC_COMPACTED"),
    ],
)
def test_a_fault_between_two_runs(pipeline: Pipeline, fault: Callable[[Pipeline], None], code: str) -> None:
    streamed(pipeline)
    fault(pipeline)
    said = refusal(pipeline)
    assert code in said
    assert "what to do" in said


@pytest.mark.parametrize("fault", [drop_slot, advance_slot, delete_topic(log_topic), delete_topic(accounts_topic)])
def test_copying_again_mends_it_and_a_sink_follows(pipeline: Pipeline, fault: Callable[[Pipeline], None]) -> None:
    with pipeline.source_running() as source, pipeline.sink_running() as sink:
        pipeline.wait_caught_up()
        source.stop()
        sink.stop()
    pipeline.source.execute("DELETE FROM accounts WHERE id < 10; INSERT INTO visits VALUES (now(), 'gap')")
    fault(pipeline)
    assert "--reopen copy-again" in refusal(pipeline)
    if fault.__name__ == "delete":
        # What the replica has read is gone with the topic: the sink starts from nothing too.
        pipeline.target.execute("DROP SCHEMA cdc CASCADE; DROP TABLE accounts, visits")
    with pipeline.source_running("--reopen", "copy-again") as source:
        # A sink that comes before the topics are there again stops at their loss, and says so.
        wait_until(lambda: "table copied" in source.log.read_text(), "the copy")
        with pipeline.sink_running():
            pipeline.wait_caught_up()
            pipeline.assert_equal()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (alter_publication, "PUBLICATION_CHANGED"),
        (drop_publication, "PUBLICATION_MISSING"),
        (disable_trigger, "PUBLICATION_CHANGED"),
    ],
)
def test_a_fault_while_it_runs(pipeline: Pipeline, fault: Callable[[Pipeline], None], code: str) -> None:
    with pipeline.source_running() as source:
        wait_until(lambda: "heartbeat" in ends(pipeline), "the stream")
        fault(pipeline)
        assert code in died(source)


def test_the_tail_of_the_log_lost(pipeline: Pipeline) -> None:
    """An END that was acknowledged is gone: the slot is beyond what the log holds."""
    streamed(pipeline)
    pipeline.source.execute("UPDATE accounts SET balance = 0 WHERE id = 1")
    records = pipeline.log()
    streamed_until = len(records)
    with pipeline.source_running() as source:
        wait_until(lambda: "data" in ends(pipeline), "the update")
        source.stop()
    pipeline.assert_not_acknowledged_beyond_the_log()
    delete_topic(log_topic)(pipeline)
    pipeline.rewrite_log(records[:streamed_until])
    assert "SLOT_AHEAD" in refusal(pipeline)


def test_a_second_source_stands_by_and_takes_over(pipeline: Pipeline) -> None:
    with pipeline.source_running() as first, pipeline.sink_running():
        pipeline.wait_caught_up()
        assert pipeline.run("source", "run", pipeline.name, "--no-wait").wait(30) == 4
        with pipeline.source_running() as second:
            wait_until(lambda: "SOURCE_HELD" in second.log.read_text(), "the standby's word")
            first.kill9()
            pipeline.source.execute("INSERT INTO visits VALUES (now(), 'second')")
            pipeline.wait_caught_up()
            pipeline.assert_equal()


def test_a_frozen_source_that_wakes_up_changes_nothing(pipeline: Pipeline) -> None:
    """CORRECTNESS 1, on real servers: what the dead run still delivers is ignored."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(pipeline.sink_running())
        frozen = stack.enter_context(pipeline.source_running())
        pipeline.wait_caught_up()
        frozen.send(signal.SIGSTOP)
        pipeline.source.execute("UPDATE accounts SET balance = balance + 5 WHERE id < 20")
        pipeline.source.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> "
            "pg_backend_pid()", [f"cdc source {pipeline.name}"],
        )  # fmt: skip
        stack.enter_context(pipeline.source_running())
        pipeline.wait_caught_up()
        frozen.send(signal.SIGCONT)
        pipeline.source.execute("DELETE FROM accounts WHERE id > 40")
        pipeline.wait_caught_up()
        pipeline.assert_equal()


def test_a_source_that_meets_a_later_start_stops(pipeline: Pipeline) -> None:
    """CORRECTNESS 1: its ENDs count no more."""
    with pipeline.source_running() as source:
        wait_until(lambda: "heartbeat" in ends(pipeline), "the stream")
        (start,) = (record for record in pipeline.log() if isinstance(record, Start))
        pipeline.append(replace(start, run="f" * 16, opened=None))
        assert source.wait(30) == 4
        assert "SUPERSEDED" in source.log.read_text()
        assert pipeline.valid_ends()[-1].run == start.run


def test_a_filter_changed_between_crash_and_restart_mixes_nothing(pipeline: Pipeline) -> None:
    with pipeline.sink_running(), pipeline.source_running(failpoint="source.before_end:6") as doomed:
        wait_until(lambda: not doomed.running or bool(pipeline.progress()), "the copy")
        pipeline.source.execute("UPDATE accounts SET balance = 1; INSERT INTO visits VALUES (now(), 'x')")
        wait_until(lambda: not doomed.running, "death")
        config = pipeline.config.read_text()
        pipeline.config.write_text(config.replace('"tables" =', '"exclude" = ["public.visits"]\n"tables" ='))
        assert "PUBLICATION_CHANGED" in refusal(pipeline)
        pipeline.config.write_text(config)
        with pipeline.source_running():
            pipeline.wait_caught_up()
            pipeline.assert_equal()


def test_a_value_over_the_topic_s_limit_stops_by_name(pipeline: Pipeline) -> None:
    pipeline.config.write_text(pipeline.config.read_text().replace('"tables" =', '"max_record" = "100KiB"\n"tables" ='))
    with pipeline.source_running() as source:
        wait_until(lambda: "heartbeat" in ends(pipeline), "the stream")
        pipeline.source.execute("UPDATE accounts SET notes = repeat(md5('x'), 10000) WHERE id = 1")
        said = died(source)
        assert "VALUE_TOO_LARGE" in said
        assert "public.accounts" in said


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("ALTER TABLE accounts RENAME COLUMN owner TO holder", "renamed"),
        ("ALTER TABLE accounts ALTER COLUMN id TYPE bigint", "bigint"),
        ("ALTER TABLE accounts ADD COLUMN r float8 DEFAULT random()", "value of its own"),
        ("ALTER TABLE accounts ADD COLUMN r float8 DEFAULT nullif(random(), 2)", "value of its own"),
        ("ALTER TABLE accounts ALTER COLUMN owner TYPE text USING owner || '!'", "rewritten with new values"),
        (
            "SET session_replication_role = replica; ALTER TABLE accounts ALTER owner TYPE text USING owner || '!'",
            "rewritten with new values",
        ),
        ("ALTER TABLE accounts REPLICA IDENTITY FULL", "replica identity"),
        ("DROP TABLE visits", "visits"),  # whichever says it first, the stream or the publication
    ],
)
def test_a_schema_change_that_is_not_followed_stops_by_name(pipeline: Pipeline, statement: str, word: str) -> None:
    with pipeline.source_running() as source:
        wait_until(lambda: "heartbeat" in ends(pipeline), "the stream")
        pipeline.source.execute(statement)
        pipeline.source.execute("UPDATE accounts SET balance = 2 WHERE id = 1")
        assert word in died(source)


def test_rewrites_that_leave_the_values_alone_are_followed(pipeline: Pipeline) -> None:
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
        # In one transaction: a heartbeat in between would see that no publication holds an unlogged table.
        pipeline.source.execute("ALTER TABLE accounts SET UNLOGGED; ALTER TABLE accounts SET LOGGED")
        pipeline.source.execute("ALTER TABLE accounts ADD COLUMN g text GENERATED ALWAYS AS (owner || '!') STORED")
        pipeline.source.execute("VACUUM FULL accounts")
        pipeline.source.execute("UPDATE accounts SET balance = 2 WHERE id = 1")
        pipeline.wait_caught_up()
    columns = "id, owner, balance, notes"
    rows = [db.execute(f"SELECT {columns} FROM accounts ORDER BY id") for db in (pipeline.source, pipeline.target)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("running", [True, False])
def test_without_the_event_trigger_a_rewrite_is_noticed_all_the_same(pipeline: Pipeline, *, running: bool) -> None:
    """CORRECTNESS 13: the Relation message after it looks as before."""
    for trigger in TRIGGERS:
        pipeline.source.execute(f"DROP EVENT TRIGGER IF EXISTS {trigger}")
    rewrite = "ALTER TABLE accounts ALTER COLUMN owner TYPE text USING owner || '!'"
    if not running:
        streamed(pipeline)
        pipeline.source.execute(rewrite)
        assert "PUBLICATION_CHANGED" in refusal(pipeline)
        return
    with pipeline.source_running() as source:
        wait_until(lambda: "heartbeat" in ends(pipeline), "the stream")
        pipeline.source.execute("VACUUM FULL accounts")
        wait_until(lambda: ends(pipeline).count("heartbeat") > 2, "heartbeats after a rewrite that changed nothing")
        pipeline.source.execute(rewrite)
        assert "PUBLICATION_CHANGED" in died(source)


def test_a_wrong_password_is_named_and_not_shown(pipeline: Pipeline) -> None:
    process = pipeline.run("source", "run", pipeline.name, env={"SOURCE_PASSWORD": "wrong-secret"})
    said = died(process)
    assert "SOURCE_AUTH" in said
    assert "wrong-secret" not in said


def test_a_table_taken_out_of_the_publication_and_put_back_is_noticed(pipeline: Pipeline) -> None:
    """CORRECTNESS 15: Postgres 18 loses its rows without an error."""
    name = f"cdc_{pipeline.name}"
    pipeline.source.execute(f"DROP PUBLICATION {name}; CREATE PUBLICATION {name} FOR TABLE accounts, visits")
    streamed(pipeline)
    pipeline.source.execute(f"ALTER PUBLICATION {name} DROP TABLE visits")
    pipeline.source.execute("INSERT INTO visits VALUES (now(), 'lost')")
    pipeline.source.execute(f"ALTER PUBLICATION {name} ADD TABLE visits")
    assert "PUBLICATION_CHANGED" in refusal(pipeline)


def test_a_partitioned_table_is_refused(pipeline: Pipeline) -> None:
    """CORRECTNESS 13: its partitions' DDL changes rows without row events."""
    name = f"cdc_{pipeline.name}"
    pipeline.source.execute("CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    pipeline.source.execute("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)")
    pipeline.source.execute(f"DROP PUBLICATION {name}")
    pipeline.source.execute(f"CREATE PUBLICATION {name} FOR TABLE parts WITH (publish_via_partition_root)")
    assert "public.parts is partitioned" in refusal(pipeline)


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ("CREATE TABLE later (id int PRIMARY KEY)", "TABLE_NOT_PUBLISHED"),
        ("CREATE TABLE later (id int)", "TABLE_WITHOUT_IDENTITY"),
        ("CREATE TABLE later (id int PRIMARY KEY, spent interval)", "TYPE_UNSUPPORTED"),
    ],
)
def test_a_wanted_table_that_the_publication_lacks_is_refused(pipeline: Pipeline, table: str, code: str) -> None:
    name = f"cdc_{pipeline.name}"
    pipeline.source.execute(f"DROP PUBLICATION {name}; CREATE PUBLICATION {name} FOR TABLE accounts, visits")
    pipeline.source.execute(table)
    said = refusal(pipeline)
    assert code in said
    assert 'exclude = ["public.later"]' in said


def test_a_table_rewritten_while_the_copy_begins_is_copied_anew(pipeline: Pipeline) -> None:
    """CORRECTNESS 20: under the older snapshot a rewritten table reads as empty."""
    server = Server(Side.SOURCE, "copy", pipeline.source.url(), pipeline.source.server.password)
    stream = ReplicationStream(server)
    made = stream.create_slot("torn", lambda: None)
    pipeline.source.execute("ALTER TABLE accounts ALTER COLUMN id TYPE bigint")
    catalog = Catalog(server)
    publication = catalog.publication(f"cdc_{pipeline.name}", lambda _, table: table == "accounts")
    assert publication is not None
    with BaseCopy(server, made.snapshot) as copy, pytest.raises(CdcError) as caught:
        copy.shape(publication.tables[0])
    assert caught.value.code is COPY_TORN
    stream.close()
    catalog.drop_slot("torn")
    catalog.close()


def test_a_slot_that_waits_for_open_transactions_says_for_whose(pipeline: Pipeline) -> None:
    with pipeline.source.connect(autocommit=False) as busy:
        busy.execute("INSERT INTO visits VALUES (now(), 'open')")
        with pipeline.source_running() as source, pipeline.sink_running():
            wait_until(lambda: f"backend {busy.info.backend_pid} " in source.log.read_text(), "the blocker's name")
            busy.commit()
            pipeline.wait_caught_up()
            pipeline.assert_equal()


def test_a_table_that_somebody_locks_keeps_the_heartbeats_waiting_and_nothing_else(pipeline: Pipeline) -> None:
    """However long: an ALTER behind a long reader, VACUUM FULL, TRUNCATE behind a comparison."""
    waits = pipeline.source.server.version >= 16  # before, the publication's catalog asks for no lock
    with pipeline.source_running() as source:
        wait_until(lambda: bool(ends(pipeline)) and ends(pipeline)[-1] == "heartbeat", "the stream")
        with pipeline.source.connect() as other, other.transaction():
            other.execute("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE")
            if waits:
                wait_until(lambda: "for a lock that somebody has" in source.log.read_text(), "it is said")
            before = len(ends(pipeline))
            pipeline.source.execute("INSERT INTO visits VALUES (now(), 'meanwhile')")
            wait_until(lambda: "data" in ends(pipeline)[before:], "what others write")
            assert not waits or "heartbeat" not in ends(pipeline)[before:]
        wait_until(lambda: ends(pipeline)[-1] == "heartbeat", "a heartbeat")
        said = source.log.read_text()
    assert said.count("run started") == 1
    assert said.count("for a lock that somebody has") == waits
