"""Restores into targets of other versions, and into targets that will not have them: one line says what to do."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdc.errors import RESTORE_REFUSED, RESTORE_UNDECIDED, TARGET_TOO_OLD, CdcError
from cdc.position import PgPosition
from cdc.postgres.session import Server, Side
from sinks.archive.place import Place
from sinks.archive.plan import Moment
from sinks.archive.restore import Wanted, restore
from sinks.archive.window import Windows
from sinks.postgres import restoring
from sinks.postgres.restoring import RestoreTarget
from tests.crash.conftest import SHOP
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.servers.process import Process, free_port
from tests.servers.proxy import Proxy
from tests.system.conftest import Lived
from tests.system.pipeline import Pipeline, wait_until
from tests.system.test_archive_restore import Quiet, at_source, at_target, cdc_restore, work
from tests.system.test_archive_writer import logged

pytestmark = pytest.mark.postgres_versions("target")

STOPPED, PASSING = 5, 1
SLOW = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END';
CREATE FUNCTION on_create() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  IF to_regclass('public.accounts') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 't') THEN
    EXECUTE 'CREATE TRIGGER t BEFORE INSERT ON public.accounts FOR EACH ROW EXECUTE FUNCTION public.wait()';
  END IF; END $$;
CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION on_create();
"""
"""Every row of `accounts` takes a while."""


def whole(past: Lived, moment: str = "second") -> list[str]:
    return ["--to-lsn", str(past.moments[moment][0])]


def restoring_into(past: Lived, *arguments: str, url: str | None = None, failpoint: str | None = None) -> Process:
    """The command in the background."""
    pipeline = past.pipeline
    env = {"CDC_ARCHIVE_KEY": pipeline.archive_key, "PGPASSWORD": pipeline.target.server.password}
    into = ["--no-anchor", "--into", url or pipeline.target.url()]
    given = arguments or whole(past)
    return pipeline.run("restore", "--archive", pipeline.archive_url, *given, *into, failpoint=failpoint, env=env)


def refused(process: Process, code: int, *words: str) -> str:
    """What is said: what is wrong, where, what to do; no secret, no traceback."""
    found, said = process.wait(60), process.log.read_text()
    assert found == code, said
    assert "Traceback" not in said
    assert said.count("what to do: ") == 1
    assert [word for word in words if word not in said] == [], said
    return said


def refuses(past: Lived, code: int, *words: str, url: str | None = None, table: str = "") -> None:
    """The same without a process."""
    pipeline = past.pipeline
    archive = pipeline.archive()
    plan = Windows(archive).plan(Moment(position=PgPosition(1, past.moments["second"][0])))
    server = Server(Side.TARGET, "restore", url or pipeline.target.url(), pipeline.target.server.password)
    wanted = Wanted((table,) if table else ())
    with pytest.raises(CdcError) as caught, RestoreTarget(server) as target:
        restore(archive, plan, wanted, target, Quiet())
    assert caught.value.exit_code == code
    assert [word for word in words if word not in str(caught.value)] == [], caught.value


def sessions(database: Database) -> list[str]:
    """What restores are at there."""
    rows = database.execute(
        "SELECT concat(query, wait_event) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name ~ 'restore'"
    )
    return [row[0] for row in rows]


def assert_nothing(database: Database) -> None:
    """The server has rolled back what was begun; a killed client's session may take a moment."""
    wait_until(lambda: not sessions(database), "the end of its session")
    assert database.execute(
        "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace), "
        "(SELECT count(*) FROM pg_type WHERE typname = 'mood'), to_regnamespace('cdc')"
    ) == [(0, 0, None)]


def assert_restored(past: Lived, moment: str = "second") -> None:
    done = cdc_restore(past.pipeline, *whole(past, moment), "--into", past.pipeline.target.url())
    assert done.returncode == 0, done.stderr
    assert at_target(past.pipeline)[1] == past.moments[moment][1]


# -- other versions ---------------------------------------------------------------------------------------------
@pytest.fixture
def older(past: Lived, postgres15: Postgres, unique_name: str) -> Iterator[Lived]:
    """Its target is an empty database of the older server."""
    past.pipeline.target = postgres15.create_database(unique_name)
    yield past
    past.pipeline.target.drop()


@pytest.mark.matrix
def test_a_whole_database_into_an_older_server(older: Lived) -> None:
    assert_restored(older)
    older.pipeline.target.execute("INSERT INTO orders (customer, note) VALUES (5, 'the application goes on')")


@pytest.mark.matrix
def test_one_table_into_an_older_server(older: Lived) -> None:
    done = cdc_restore(
        older.pipeline, *whole(older), "--table", "public.accounts", "--as", "Then", "--into",
        older.pipeline.target.url(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert older.pipeline.target.execute('SELECT count(*) FROM "Then"')[0][0] == sum(
        count for count, _, _ in older.moments["second"][1]["public.accounts"].values()
    )


def test_what_an_older_server_does_not_know_is_named(postgres15: Postgres) -> None:
    server = Server(Side.TARGET, "restore", postgres15.url(), postgres15.password)
    with RestoreTarget(server) as target, pytest.raises(CdcError) as caught:
        target.run("CREATE TABLE public.t (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)", "table", "t")
    assert caught.value.code is RESTORE_REFUSED
    assert "refuses table t: " in caught.value.text
    assert "a server of its version or later" in caught.value.hint


def test_a_server_that_is_too_old(postgres_target: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none that old here: this one is taken for it."""
    monkeypatch.setattr(restoring, "OLDEST", 190000)
    with pytest.raises(CdcError) as caught:
        RestoreTarget(Server(Side.TARGET, "restore", postgres_target.url(), postgres_target.password))
    assert caught.value.code is TARGET_TOO_OLD
    assert f"the target is Postgres {postgres_target.version}" in caught.value.text


@pytest.mark.matrix
def test_an_older_source_into_a_newer_server(
    tmp_path: Path, postgres15: Postgres, target_database: Database, kafka: Kafka, unique_name: str
) -> None:
    source = postgres15.create_database(unique_name)
    source.execute(SHOP)
    pipeline = Pipeline(tmp_path, source, target_database, kafka.bootstrap)
    pipeline.publish()
    with pipeline.source_running(), pipeline.archive_running():
        wait_until(lambda: len(logged(pipeline)) >= 2, "the copy")
        backup = pipeline.run("archive", "backup", "main", env={"PG_DUMP": str(Postgres.pg_dump)})
        assert backup.wait(60) == 0, backup.tail()
        work(pipeline)
        past = Lived(pipeline, {"now": at_source(pipeline)})
        pipeline.wait_archived()
    assert_restored(past, "now")
    source.drop()


# -- a target that is in the way --------------------------------------------------------------------------------
def test_a_target_that_is_not_empty(past: Lived) -> None:
    target = past.pipeline.target
    for statement, words in [
        ("CREATE TABLE visits (at int)", ["RESTORE_EXISTS", "public.visits", target.name, "--as NAME"]),
        ("CREATE VIEW orders AS SELECT 1 AS one", ["RESTORE_EXISTS", "public.orders"]),
        ("CREATE TYPE mood AS ENUM ()", ["RESTORE_REFUSED", 'type mood: type "mood" already exists']),
        ("CREATE SEQUENCE orders_id_seq", ["RESTORE_REFUSED", "sequence orders_id_seq"]),
    ]:
        target.execute(statement)
        refuses(past, STOPPED, *words)
        what = " ".join(statement.split()[1:3])
        target.execute(f"DROP {what}")
    assert_restored(past)
    refused(restoring_into(past), STOPPED, "RESTORE_EXISTS", "public.accounts, public.customers")


@pytest.fixture
def nobody(past: Lived, unique_name: str) -> Iterator[str]:
    """A role that may do nothing, with the superuser's password."""
    server = past.pipeline.target.server
    server.execute(f"CREATE ROLE {unique_name}_no LOGIN PASSWORD '{server.password}'")
    yield f"{unique_name}_no"
    past.pipeline.target.execute(f"DROP OWNED BY {unique_name}_no")
    server.execute(f"DROP ROLE {unique_name}_no")


def test_a_role_that_may_not(past: Lived, nobody: str) -> None:
    target = past.pipeline.target
    url = target.url(nobody)
    denied = "permission denied for schema public"
    refuses(past, STOPPED, "RESTORE_REFUSED", denied, url=url, table="public.visits")
    refuses(past, STOPPED, "RESTORE_REFUSED", denied, url=url)
    target.execute(f"GRANT CREATE ON SCHEMA public TO {nobody}")
    # It may make tables, but no schema for the progress of a sink that would go on.
    refused(restoring_into(past, url=url), STOPPED, "permission denied for database")
    assert_nothing(target)
    done = restoring_into(past, "--table", "public.visits", *whole(past), url=url)
    assert done.wait(60) == 0, done.tail()


def test_a_target_that_cannot_be_entered(past: Lived, nobody: str, unique_name: str) -> None:
    target, server = past.pipeline.target, past.pipeline.target.server
    refuses(past, STOPPED, 'database "no such" does not exist', "createdb", url=server.url("no such"))
    refuses(past, STOPPED, "TARGET_AUTH", "PGPASSWORD", url=target.url("no role"))
    refused(restoring_into(past, url=target.url(port=free_port())), PASSING, "TARGET_UNREACHABLE", "is run again")
    url = target.url().replace("@", f":{server.password}@")
    assert server.password not in refused(restoring_into(past, url=url), 2, "PASSWORD_IN_URL")
    env = {"CDC_ARCHIVE_KEY": past.pipeline.archive_key, "PGPASSWORD": "hunter2-hunter2"}
    command = ["restore", "--archive", past.pipeline.archive_url, *whole(past), "--into", target.url()]
    wrong = past.pipeline.run(*command, env=env)
    assert "hunter2" not in refused(wrong, STOPPED, "TARGET_AUTH", "password authentication failed")
    server.execute(f"ALTER ROLE {nobody} CONNECTION LIMIT 0")
    refuses(past, STOPPED, "too many connections for role", url=target.url(nobody))
    server.execute(f"ALTER DATABASE {unique_name} CONNECTION LIMIT 0; ALTER ROLE {nobody} CONNECTION LIMIT -1")
    refuses(past, STOPPED, "too many connections for database", url=target.url(nobody))


def test_a_server_that_ends_long_transactions(past: Lived) -> None:
    """A restore is one; what an administrator has set for others does not end it."""
    target = past.pipeline.target
    of_17 = ["transaction_timeout"] if target.server.version >= 17 else []
    for what in ("statement_timeout", "idle_in_transaction_session_timeout", *of_17):
        target.server.execute(f"ALTER DATABASE {target.name} SET {what} = '50ms'")
    process = restoring_into(past)
    assert process.wait(60) == 0, process.tail()


# -- a target that goes away ------------------------------------------------------------------------------------
@contextmanager
def in_load(past: Lived, *, url: str | None = None) -> Iterator[Process]:
    """A restore that is copying rows of `accounts`."""
    target = past.pipeline.target
    target.execute(SLOW)
    process = restoring_into(past, url=url)
    wait_until(lambda: any(what.startswith("COPY") for what in sessions(target)), "rows on their way")
    yield process
    if target.server.running:
        target.execute("DROP EVENT TRIGGER slow; DROP FUNCTION wait, on_create")


def test_a_server_that_dies_meanwhile(past: Lived) -> None:
    server = past.pipeline.target.server
    with in_load(past) as process:
        server.kill9()
        refused(process, PASSING, "TARGET_UNREACHABLE")
        server.start()
    assert_nothing(past.pipeline.target)
    assert_restored(past)


def test_a_session_that_is_ended_meanwhile(past: Lived) -> None:
    target = past.pipeline.target
    with in_load(past) as process:
        target.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'restore'")
        refused(process, PASSING, "TARGET_UNREACHABLE")
    assert_nothing(target)


def test_a_connection_that_is_cut_meanwhile(past: Lived) -> None:
    target = past.pipeline.target
    with Proxy(target.server.port) as proxy, in_load(past, url=target.url(port=proxy.port)) as process:
        proxy.cut()
        refused(process, PASSING, "TARGET_UNREACHABLE")
        target.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'restore'")
    assert_nothing(target)


def test_a_connection_that_is_cut_at_the_commit(past: Lived) -> None:
    """Nobody knows what became of it, and that is what is said."""
    pipeline = past.pipeline
    plan = Windows(pipeline.archive()).plan(Moment(position=PgPosition(1, past.moments["second"][0])))
    with Proxy(pipeline.target.server.port) as proxy:
        server = Server(Side.TARGET, "restore", pipeline.target.url(port=proxy.port), pipeline.target.server.password)
        with RestoreTarget(server) as target:
            target.create(plan.tables["public.visits"].shape, Place("public", "visits"))
            proxy.cut()
            with pytest.raises(CdcError) as caught:
                target.commit()
    assert caught.value.code is RESTORE_UNDECIDED
    assert pipeline.target.name in caught.value.hint
    assert_nothing(pipeline.target)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.matrix
def test_a_full_disk(past: Lived, unique_name: str, tmp_path: Path) -> None:
    """The target's database is in a small file system of its own."""
    target, small = past.pipeline.target, tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m,mode=777", "tmpfs", small], check=True)
    try:
        (small / "space").mkdir()
        subprocess.run(["chown", "--reference", target.server.data, small / "space"], check=True)
        for parent in (tmp_path, *tmp_path.parents[:3]):
            parent.chmod(0o755)
        target.server.execute(f"CREATE TABLESPACE {unique_name} LOCATION '{small / 'space'}'")
        target.server.execute(f"ALTER DATABASE {target.name} SET TABLESPACE {unique_name}")
        (small / "rest").write_bytes(bytes(room(small)))
        refused(restoring_into(past), STOPPED, "RESTORE_REFUSED", "No space left on device", "room on its disk")
        assert_nothing(target)
        (small / "rest").unlink()
        assert_restored(past)
        target.server.execute(f"ALTER DATABASE {target.name} SET TABLESPACE pg_default")
        target.server.execute(f"DROP TABLESPACE {unique_name}")
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def room(path: Path) -> int:
    """What is left there but for 200 KiB."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_bsize - (200 << 10)


# -- a restore that is killed -----------------------------------------------------------------------------------
@pytest.mark.parametrize("stage", ["restore.in_load", "restore.before_commit"])
def test_a_kill_in_each_stage(past: Lived, stage: str) -> None:
    assert restoring_into(past, failpoint=stage).wait(60) == -9
    assert_nothing(past.pipeline.target)
    assert_restored(past)


def test_a_kill_behind_the_commit(past: Lived) -> None:
    """It is there, compared and whole; only the last line is missing."""
    assert restoring_into(past, failpoint="restore.after_commit").wait(60) == -9
    assert at_target(past.pipeline)[1] == past.moments["second"][1]
    refused(restoring_into(past), STOPPED, "RESTORE_EXISTS")


def test_a_kill_at_any_moment(past: Lived) -> None:
    """In the middle of whatever it is at; the scratch that it leaves says nothing to anybody."""
    began = time.monotonic()
    dry = restoring_into(past, *whole(past), "--dry-run")
    assert dry.wait(60) == 0
    lasts = time.monotonic() - began
    for _ in range(3):
        process = restoring_into(past)
        time.sleep(lasts * random.uniform(0.5, 1.1))
        process.kill9()
        if process.returncode == 0 or past.pipeline.target.execute("SELECT to_regclass('accounts')") != [(None,)]:
            past.pipeline.target.execute("DROP SCHEMA public, cdc CASCADE; CREATE SCHEMA public")
        assert_nothing(past.pipeline.target)
    assert_restored(past)
