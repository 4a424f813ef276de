"""`check`, `setup` and `teardown` on real servers: what is missing is named, what is made is enough and no more."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from cdc.secret import new_key
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.servers.process import Process
from tests.system.pipeline import CDC, wait_until

pytestmark = pytest.mark.postgres_versions("source")

READER_PASSWORD = "reader's s3cret"
WRITER_PASSWORD = "writer's/s3cret"
SHOP = """
CREATE TABLE accounts (id int PRIMARY KEY, balance numeric(12,2) NOT NULL,
  twice numeric GENERATED ALWAYS AS (balance * 2) STORED);
CREATE TABLE "Odd Name" (id int PRIMARY KEY, "select" text);
CREATE TABLE visits (at timestamptz, page text);
ALTER TABLE visits REPLICA IDENTITY FULL;
CREATE TABLE events (at date, id int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE sessions (id int PRIMARY KEY);
INSERT INTO accounts SELECT i, 100 FROM generate_series(1, 10) i;
"""
TROUBLE = """
CREATE TABLE keyless (a int);
CREATE TABLE places (id int PRIMARY KEY, at point, span int4range);
CREATE UNLOGGED TABLE cache (id int PRIMARY KEY);
CREATE TABLE later (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE logs (at date) PARTITION BY RANGE (at);
CREATE TABLE logs_2026 PARTITION OF logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE SEQUENCE numbers;
SELECT lo_create(0);
"""


class Site:
    """A source and a replica with roles of their own, and the commands as a user runs them."""

    def __init__(self, directory: Path, source: Database, target: Database, bootstrap: str) -> None:
        self.source, self.target, self.name = source, target, source.name
        self.reader, self.writer = f"{source.name}_reader", f"{source.name}_writer"
        self.config = directory / "cdc.toml"
        self.printed: list[str] = []
        self.write(bootstrap)

    def write(self, bootstrap: str, lines: str = 'exclude = ["public.sessions", "public.events"]') -> None:
        self.bootstrap = bootstrap
        self.config.write_text(f"""
[kafka]
bootstrap_servers = "{bootstrap}"
[source.{self.name}]
url = "{self.source.url(self.reader)}"
password = "${{READER_PASSWORD}}"
tables = ["public.*"]
{lines}
[sink.eu]
source = "{self.name}"
url = "{self.target.url(self.writer)}"
password = "${{WRITER_PASSWORD}}"
""")

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "CDC_CONFIG": str(self.config),
            "READER_PASSWORD": READER_PASSWORD,
            "WRITER_PASSWORD": WRITER_PASSWORD,
        }

    def background(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        environment = self.environment() | dict(env or {})
        return Process([CDC, *arguments], self.config.with_name("background.log"), env=environment)

    def cdc(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        environment = self.environment() | dict(env or {})
        done = subprocess.run(
            [CDC, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        self.printed += [done.stdout, done.stderr]
        return done

    def as_admin(self, *arguments: str, side: str = "source") -> subprocess.CompletedProcess[str]:
        database = self.source if side == "source" else self.target
        name = self.name if side == "source" else "eu"
        verb, *rest = arguments
        return self.cdc(verb, name, *rest, "--admin-url", database.url(), env={"PGPASSWORD": database.server.password})

    def set_up(self) -> None:
        for side in ("source", "target"):
            done = self.as_admin("setup", side=side)
            assert done.returncode == 0, done.stderr

    def findings(self, *arguments: str) -> dict[str, list[tuple[str, str, str]]]:
        report = json.loads(self.cdc("check", *arguments, "--json").stdout)
        return {
            section["section"]: [(f["level"], f["what"], f["fix"]) for f in section["findings"]]
            for section in report["sections"]
        }

    def as_reader(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.source.url(self.reader), password=READER_PASSWORD, autocommit=True)

    def as_writer(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.target.url(self.writer), password=WRITER_PASSWORD, autocommit=True)

    def drop_roles(self) -> None:
        for database, role in ((self.source, self.reader), (self.target, self.writer)):
            if database.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]):
                database.execute(sql.SQL("DROP OWNED BY {0}").format(sql.Identifier(role)))
                database.execute(sql.SQL("DROP ROLE {0}").format(sql.Identifier(role)))


@pytest.fixture
def site(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka) -> Iterator[Site]:
    database.execute(SHOP)
    made = Site(tmp_path, database, target_database, kafka.bootstrap)
    yield made
    made.drop_roles()
    printed = "\n".join(made.printed)
    for secret in (READER_PASSWORD, WRITER_PASSWORD, database.server.password, target_database.server.password):
        assert secret not in printed
        assert psycopg.pq.Escaping().escape_string(secret.encode()).decode() not in printed


def lines(findings: list[tuple[str, str, str]], level: str) -> str:
    return "\n".join(f"{what} -> {fix}" for found, what, fix in findings if found == level)


def test_before_setup_check_names_the_missing_login(site: Site) -> None:
    done = site.cdc("check")
    assert done.returncode == 1
    assert "SOURCE_AUTH" in done.stdout
    assert "TARGET_AUTH" in done.stdout


def test_a_dry_run_prints_and_does_nothing(site: Site) -> None:
    printed = site.as_admin("setup", "--dry-run")
    assert printed.returncode == 0, printed.stderr
    for statement in (
        f'CREATE ROLE "{site.reader}" LOGIN REPLICATION;',
        f"PASSWORD '(password of [source.{site.name}])';",
        'GRANT SELECT ON "public"."Odd Name", "public"."accounts", "public"."events_2026", "public"."visits" TO',
        f'CREATE PUBLICATION "cdc_{site.name}" FOR TABLE ONLY "public"."Odd Name"',
        "CREATE EVENT TRIGGER cdc_ddl",
    ):
        assert statement in printed.stdout
    assert site.source.execute("SELECT 1 FROM pg_publication") == []
    assert site.source.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [site.reader]) == []


def test_after_setup_check_finds_nothing_missing(site: Site) -> None:
    site.set_up()
    done = site.cdc("check", "--json")
    assert done.returncode == 0, done.stdout
    found = site.findings()
    source = found[f"source.{site.name}"]
    assert lines(source, "FAIL") == ""
    assert "4 tables to capture: public.Odd Name, public.accounts, public.events_2026, public.visits" in lines(
        source, "OK"
    )
    assert "do not name them: public.events, public.sessions" in lines(source, "NOTE")
    assert "public.accounts: generated columns are not carried: twice" in lines(source, "NOTE")
    assert "event trigger cdc_ddl carries schema changes" in lines(source, "OK")
    assert lines(source, "WARN").startswith("neither max_slot_wal_keep_size nor max_retained_wal is set")
    assert lines(found["sink.eu"], "FAIL") == ""
    assert "one broker: a lost disk then takes transactions that readers were promised" in lines(found["kafka"], "WARN")
    assert lines(found["kafka"], "FAIL") == ""


def test_setup_again_as_the_user_of_the_environment_changes_nothing(site: Site) -> None:
    site.set_up()
    before = site.source.execute("SELECT oid, pg_get_publication_tables(pubname) FROM pg_publication ORDER BY 2")
    secret = site.source.execute("SELECT value FROM cdc.secret")
    administrator = {"PGUSER": "postgres", "PGPASSWORD": site.source.server.password}
    done = site.cdc("setup", site.name, env=administrator)
    assert done.returncode == 0, done.stderr
    assert (
        site.source.execute("SELECT oid, pg_get_publication_tables(pubname) FROM pg_publication ORDER BY 2") == before
    )
    assert site.source.execute("SELECT value FROM cdc.secret") == secret


def test_the_reader_can_do_its_work_and_nothing_else(site: Site) -> None:
    site.set_up()
    with site.as_reader() as connection:
        assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (10,)
        assert connection.execute("SELECT length(value) FROM cdc.secret").fetchone() == (32,)
        connection.execute("SELECT pg_logical_emit_message(true, 'cdc.heartbeat', 'x')")
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [site.name])
        connection.execute("SELECT pg_drop_replication_slot(%s)", [site.name])
        for refused in (
            "SELECT 1 FROM sessions",
            "INSERT INTO accounts VALUES (11, 1)",
            "UPDATE cdc.secret SET value = ''",
            "SELECT cdc.emit_ddl('{}')",
            "CREATE TABLE public.mine (a int)",
            "CREATE ROLE another",
            "DROP PUBLICATION " + f"cdc_{site.name}",
            "COPY accounts TO PROGRAM 'true'",
            "CREATE DATABASE another",
            "CREATE SCHEMA another",
            "ALTER TABLE accounts ADD COLUMN mine int",
            "TRUNCATE accounts",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)


def test_the_writer_can_do_its_work_and_nothing_else(site: Site) -> None:
    site.target.execute(
        "CREATE TABLE visits (at timestamptz, page text); CREATE SCHEMA hr; CREATE TABLE hr.pay (a int)"
    )
    site.set_up()
    with site.as_writer() as connection:
        connection.execute("CREATE TABLE accounts (id int PRIMARY KEY); INSERT INTO accounts VALUES (1)")
        connection.execute("ALTER TABLE accounts ADD COLUMN b text; DROP TABLE accounts")
        connection.execute("INSERT INTO visits VALUES (now(), 'a'); DELETE FROM visits; TRUNCATE visits")
        connection.execute("CREATE TEMP TABLE stage (a int)")
        connection.execute(
            "INSERT INTO cdc.cdc_progress (pipeline) VALUES ('eu'); UPDATE cdc.cdc_progress SET epoch = 1"
        )
        connection.execute("INSERT INTO cdc.cdc_table (pipeline, source_table) VALUES ('eu', 'public.visits')")
        for refused in (
            "SELECT 1 FROM hr.pay",
            "CREATE TABLE hr.mine (a int)",
            "CREATE SCHEMA mine",
            "DROP TABLE visits",
            "DROP TABLE cdc.cdc_progress",
            "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')",
            "CREATE ROLE another",
            "CREATE DATABASE another",
            "INSERT INTO hr.pay VALUES (1)",
            "CREATE PUBLICATION mine FOR ALL TABLES",
            "COPY visits TO PROGRAM 'true'",
            "SELECT pg_read_file('postgresql.conf')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)
        with pytest.raises(psycopg.OperationalError, match="REPLICATION"):
            psycopg.connect(site.target.url(site.writer), password=WRITER_PASSWORD, replication="database")


def test_a_whole_pipeline_runs_under_the_roles_that_setup_makes(site: Site) -> None:
    site.set_up()
    running = site.background("up")
    try:
        wait_until(lambda: "table copied" in running.log.read_text(), "the copy")
        site.source.execute("ALTER TABLE accounts ADD COLUMN tier int NOT NULL DEFAULT 3")
        site.source.execute("INSERT INTO accounts (id, balance) VALUES (11, 1); UPDATE visits SET page = 'x'")
        site.source.execute("INSERT INTO events VALUES ('2026-05-05', 1); TRUNCATE visits")
        done = site.cdc("verify", site.name, "--sink", "eu")
        assert "EQUAL: 4 tables" in done.stdout, done.stdout + done.stderr + running.log.read_text()
        assert site.cdc("check").returncode == 0
        for side in ("source", "target"):
            refused = site.as_admin("teardown", side=side)
            assert refused.returncode == 4, refused.stdout
    finally:
        running.stop()
    assert running.returncode == 0, running.log.read_text()
    for side in ("source", "target"):
        assert site.as_admin("teardown", side=side).returncode == 0
    assert site.source.execute("SELECT 1 FROM pg_replication_slots WHERE database = current_database()") == []
    assert site.target.execute("SELECT count(*) FROM accounts") == [(11,)]
    site.printed.append(running.log.read_text())


def test_an_archive_is_kept_by_the_reader_and_restored_by_a_role_that_may_make_tables(
    site: Site, tmp_path: Path, unique_name: str
) -> None:
    key, archive = new_key(), f"file://{tmp_path}/archive"
    section = [
        "[archive.main]",
        f'sources = ["{site.name}"]',
        f'url = "{archive}"',
        'encryption_key = "${ARCHIVE_KEY}"',
    ]
    site.config.write_text(
        "\n".join([site.config.read_text(), *section, 'roll_every = "1s"', 'base_every = "never"', ""])
    )
    given = {"ARCHIVE_KEY": key, "CDC_ARCHIVE_KEY": key, "PG_DUMP": str(site.source.server.pg_dump)}
    site.set_up()
    running = [site.background("source", "run", site.name), site.background("archive", "run", "main", env=given)]
    try:
        wait_until(lambda: bool(windows(site, given)), "an archive")
        for job in ("backup", "anchor"):
            done = site.cdc("archive", job, "main", env=given)
            assert done.returncode == 0, done.stderr
    finally:
        for process in running:
            process.stop()
    with site.as_reader() as reader:
        assert reader.execute("SELECT count(*) FROM sessions").fetchone() == (0,), "pg_dump reads every definition"
        for refused in ("INSERT INTO sessions VALUES (1)", "CREATE TABLE public.mine (a int)", "CREATE ROLE another"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(refused)
    restore_as(site, f"{unique_name}_restorer", archive, given)


def windows(site: Site, env: Mapping[str, str]) -> list[dict[str, Any]]:
    report = json.loads(site.cdc("archive", "list", "main", "--json", env=env).stdout or "{}")
    return list(report.get("windows", ()))


def restore_as(site: Site, role: str, archive: str, env: Mapping[str, str]) -> None:
    server = site.target.server
    server.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    into = server.create_database(role)
    try:
        into.execute(f"GRANT CREATE ON DATABASE {role} TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
        last = str(windows(site, env)[-1]["last_txn"])
        done = site.cdc(
            "restore", "--archive", f"{archive}/{site.name}", "--to-txn", last, "--into", into.url(role), "--no-anchor",
            env={**env, "PGPASSWORD": "x"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert into.execute("SELECT count(*) FROM accounts") == [(10,)]
    finally:
        into.drop()
        server.execute(f"DROP ROLE {role}")


def test_the_server_never_sees_the_password_in_plain_text(site: Site) -> None:
    site.source.server.execute("ALTER SYSTEM SET log_statement = 'all'; ")
    site.source.server.execute("SELECT pg_reload_conf()")
    try:
        site.set_up()
    finally:
        site.source.server.execute("ALTER SYSTEM RESET log_statement")
        site.source.server.execute("SELECT pg_reload_conf()")
    log = site.source.server.log.read_text()
    assert "SCRAM-SHA-256$" in log
    assert "s3cret" not in log


def test_every_table_that_stays_out_is_named_with_its_reason(site: Site) -> None:
    site.source.execute(TROUBLE)
    site.set_up()
    done = site.cdc("check", site.name)
    assert done.returncode == 1
    found = site.findings(site.name)[f"source.{site.name}"]
    failures = lines(found, "FAIL")
    assert "public.keyless stays out: no usable primary key" in failures
    assert "ALTER TABLE public.keyless REPLICA IDENTITY FULL;" in failures
    assert f'exclude = ["public.keyless"] in [source.{site.name}]' in failures
    assert "public.later stays out: no usable primary key" in failures
    assert "public.places stays out: at has type point, span has type int4range, which is not carried yet" in failures
    assert "public.logs stays out: partitioned" in failures
    assert "public.cache stays out: unlogged" in lines(found, "WARN")
    assert "ALTER TABLE public.cache SET LOGGED;" in lines(found, "WARN")
    lost = "roles and grants, 1 sequences (a restore sets them, replicas do not), 1 large objects"
    assert f"not covered, the log does not carry them: {lost}" in lines(found, "WARN")
    published = {row[0] for row in site.source.execute("SELECT tablename FROM pg_publication_tables")}
    assert published == {"accounts", "Odd Name", "visits", "events_2026"}
    site.source.execute("INSERT INTO keyless VALUES (1); UPDATE keyless SET a = 2; DELETE FROM keyless")


def test_what_is_wrong_with_the_publication_is_named(site: Site) -> None:
    site.set_up()
    site.source.execute("CREATE TABLE fresh (id int PRIMARY KEY)")
    site.source.execute(f"ALTER PUBLICATION cdc_{site.name} SET (publish = 'insert')")
    site.source.execute(
        f"ALTER PUBLICATION cdc_{site.name} SET TABLE accounts WHERE (id > 5), visits, sessions, events_2026"
    )
    failures = lines(site.findings(site.name)[f"source.{site.name}"], "FAIL")
    assert f"lacks public.Odd Name, public.fresh -> cdc setup {site.name}" in failures
    assert "narrows public.accounts by a row filter or column list" in failures
    assert "does not publish every operation" in failures
    site.source.execute(f"DROP PUBLICATION cdc_{site.name}")
    assert f"publication cdc_{site.name} does not exist -> cdc setup {site.name}" in lines(
        site.findings(site.name)[f"source.{site.name}"], "FAIL"
    )


def test_what_setup_changes_under_a_slot_is_said(site: Site) -> None:
    site.set_up()
    with site.as_reader() as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [f"cdc_{site.name}"])
    site.source.execute("CREATE TABLE fresh (id int PRIMARY KEY)")
    said = site.as_admin("setup").stdout
    assert "changes under a slot: the source stops at it" in said
    assert f"cdc source run {site.name} --reopen copy-again" in said
    site.write(site.bootstrap, 'snapshot = "never"')
    site.source.execute("DROP TABLE events; CREATE TABLE fresher (id int PRIMARY KEY)")
    said = site.as_admin("setup").stdout
    assert "changes under a slot: the source stops at it, where it has published anything yet. Then copy again" in said


def test_setup_says_why_there_is_nothing_to_capture(site: Site) -> None:
    site.source.execute(TROUBLE + "CREATE TABLE of_days (days daterange);")
    shop = ("accounts", "Odd Name", "visits", "events", "events_2026", "sessions")
    site.write(site.bootstrap, f"exclude = {json.dumps([f'public.{name}' for name in shop])}")
    done = site.as_admin("setup")
    assert done.returncode == 5
    for why in ("public.of_days: days has type daterange", "public.keyless: no usable", "and 1 more, which cdc c"):
        assert why in done.stderr
    site.write(site.bootstrap, 'exclude = ["public.*"]')
    assert "matches tables = public.* (no table is named so)" in site.as_admin("setup").stderr


def test_setup_names_the_way_to_a_database_that_is_not_there(site: Site) -> None:
    server = site.target.server
    done = site.cdc("setup", "eu", "--admin-url", server.url("nowhere"), env={"PGPASSWORD": server.password})
    assert done.returncode == 5
    assert 'database "nowhere" does not exist' in done.stderr
    assert "createdb" in done.stderr


def test_missing_rights_are_named_with_the_grant(site: Site) -> None:
    site.set_up()
    site.source.execute(sql.SQL("ALTER ROLE {} NOREPLICATION").format(sql.Identifier(site.reader)))
    site.source.execute(sql.SQL("REVOKE SELECT ON accounts FROM {}").format(sql.Identifier(site.reader)))
    site.source.execute("ALTER TABLE visits ENABLE ROW LEVEL SECURITY")
    site.source.execute("DROP EVENT TRIGGER cdc_ddl")
    flush = ", boolean" if site.source.server.version >= 17 else ""
    function = f"pg_logical_emit_message(boolean, text, text{flush})"
    site.source.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    found = site.findings(site.name)[f"source.{site.name}"]
    failures = lines(found, "FAIL")
    assert f"may not replicate -> ALTER ROLE {site.reader} REPLICATION;" in failures
    assert f"GRANT SELECT ON public.accounts TO {site.reader};" in failures
    assert f"hides rows of public.visits from role {site.reader} -> ALTER ROLE {site.reader} BYPASSRLS;" in failures
    assert f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO" in failures
    assert "no event trigger: a schema change of a captured table stops the source" in lines(found, "WARN")
    site.set_up()
    assert lines(site.findings(site.name)[f"source.{site.name}"], "FAIL") == ""


def test_the_target_s_gaps_are_named(site: Site) -> None:
    site.set_up()
    writer = sql.Identifier(site.writer)
    site.target.execute(sql.SQL("REVOKE CREATE ON SCHEMA public FROM {}").format(writer))
    site.target.execute("CREATE TABLE visits (at timestamptz)")
    site.target.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    site.target.execute("CREATE TRIGGER audit AFTER INSERT ON visits FOR EACH ROW EXECUTE FUNCTION f()")
    site.target.execute(sql.SQL("REVOKE UPDATE ON cdc.cdc_progress FROM {}").format(writer))
    found = site.findings("eu")["sink.eu"]
    assert f"may not make tables in schema public -> GRANT CREATE ON SCHEMA public TO {site.writer};" in lines(
        found, "FAIL"
    )
    assert f"role {site.writer} may not write cdc.cdc_progress -> cdc setup eu" in lines(found, "FAIL")
    assert "audit on public.visits" in lines(found, "WARN")


def test_without_a_superuser_setup_does_the_rest_and_says_what_is_lost(site: Site) -> None:
    owner = f"{site.name}_owner"
    server = site.source.server
    server.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE REPLICATION PASSWORD 'x'").format(sql.Identifier(owner)))
    site.source.execute(
        sql.SQL("ALTER DATABASE {0} OWNER TO {1}").format(sql.Identifier(site.name), sql.Identifier(owner))
    )
    for table in ("accounts", '"Odd Name"', "visits", "events", "events_2026", "sessions"):
        site.source.execute(f"ALTER TABLE {table} OWNER TO {owner}")
    try:
        done = site.cdc("setup", site.name, "--admin-url", site.source.url(owner), env={"PGPASSWORD": "x"})
        if site.source.server.version < 16:  # there, only a superuser makes a role that replicates
            assert (done.returncode, "must be superuser to create replication users" in done.stderr) == (5, True)
            return
        assert done.returncode == 0, done.stdout + done.stderr
        assert "refused (event trigger: schema changes travel in the log; needs a superuser)" in done.stdout
        assert "a schema change of a captured table stops the source" in done.stdout
        found = site.findings(site.name)[f"source.{site.name}"]
        assert lines(found, "FAIL") == ""
        assert "no event trigger" in lines(found, "WARN")
    finally:
        site.source.execute(sql.SQL("REASSIGN OWNED BY {} TO postgres").format(sql.Identifier(owner)))
        site.drop_roles()
        site.source.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(owner)))
        server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(owner)))


def test_setup_by_somebody_who_may_not_is_refused_with_the_way_out(site: Site) -> None:
    site.set_up()
    done = site.cdc(
        "setup", site.name, "--admin-url", site.source.url(site.reader), env={"PGPASSWORD": READER_PASSWORD}
    )
    assert done.returncode == 5
    assert "SETUP_REFUSED" in done.stderr
    assert "--admin-url" in done.stderr
    wrong = site.cdc("setup", site.name, "--admin-url", site.source.url(), env={"PGPASSWORD": "wrong"})
    assert wrong.returncode == 5
    assert "password authentication failed" in wrong.stderr


def test_a_server_that_is_not_prepared(site: Site, tmp_path: Path) -> None:
    settings: dict[str, str | int] = {
        "wal_level": "replica",
        "max_replication_slots": 1,
        "max_wal_senders": 1,
        "max_slot_wal_keep_size": "100MB",
        "wal_sender_timeout": "5s",
    }
    with Postgres(tmp_path / "plain", settings) as server:
        server.execute("CREATE TABLE accounts (id int PRIMARY KEY)")
        server.execute("SELECT pg_create_physical_replication_slot('taken')")
        failures, warnings = unprepared(site, Database(server, "postgres"))
        restart = "ALTER SYSTEM SET wal_level = 'logical'; SELECT pg_reload_conf();  then restart the server"
        assert f"wal_level = replica, logical is needed -> {restart}" in failures
        assert "max_replication_slots: all 1 are in use -> ALTER SYSTEM SET max_replication_slots = '6'" in failures
        assert "wal_sender_timeout = 5000 ms" in warnings
        assert "max_retained_wal is not below max_slot_wal_keep_size (100 MB)" in warnings
        server.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
        failures, _ = unprepared(site, Database(server, "bytes"))
        assert "the database has encoding SQL_ASCII: its bytes have no defined characters" in failures


def unprepared(site: Site, database: Database) -> tuple[str, str]:
    """What fails and what is weak there."""
    other = Site(site.config.parent, database, site.target, site.bootstrap)
    other.reader = "postgres"
    other.write(site.bootstrap, 'max_retained_wal = "1GiB"')
    done = other.cdc("check", database.name, "--json", env={"READER_PASSWORD": database.server.password})
    assert done.returncode == 1
    site.printed += other.printed
    section = json.loads(done.stdout)["sections"][0]
    findings = [(f["level"], f["what"], f["fix"]) for f in section["findings"]]
    return lines(findings, "FAIL"), lines(findings, "WARN")


def test_kafka_that_is_away_is_a_finding(site: Site) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        site.write(f"127.0.0.1:{nobody.getsockname()[1]}")
        site.set_up()
        found = site.findings("eu")
    assert "KAFKA_UNREACHABLE" in lines(found["kafka"], "FAIL")


def test_a_server_that_is_away_is_named_as_such(site: Site) -> None:
    done = site.cdc("setup", site.name, "--admin-url", "postgresql://postgres@127.0.0.1:1/shop")
    assert done.returncode == 1
    assert "SOURCE_UNREACHABLE" in done.stderr


def test_a_role_that_is_there_gets_a_new_password_not_without_a_word(site: Site) -> None:
    assert "was there: its password" not in site.as_admin("setup", "--dry-run").stdout
    site.set_up()
    said = f"role {site.reader} was there: its password is that of [source.{site.name}] from now on"
    assert said in site.as_admin("setup").stdout


def test_two_tables_of_one_topic(site: Site) -> None:
    site.source.execute('CREATE TABLE "a b" (id int PRIMARY KEY); CREATE TABLE a_b (id int PRIMARY KEY)')
    site.set_up()
    found = lines(site.findings(site.name)["kafka"], "FAIL")
    assert f"would share topic {site.name}.public.a_b -> leave one out by exclude" in found


def test_teardown_removes_everything_and_says_what_is_left(site: Site) -> None:
    site.set_up()
    with site.as_reader() as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [f"cdc_{site.name}"])
    with site.as_writer() as connection:
        connection.execute("CREATE TABLE accounts (id int PRIMARY KEY); INSERT INTO accounts VALUES (1)")
        connection.execute("INSERT INTO cdc.cdc_progress (pipeline) VALUES ('eu')")
    dry = site.as_admin("teardown", "--dry-run")
    assert f"pg_drop_replication_slot('cdc_{site.name}');" in dry.stdout
    assert len(site.source.execute("SELECT 1 FROM pg_publication")) == 1

    done = site.as_admin("teardown")
    assert done.returncode == 0, done.stderr
    assert "note:" not in done.stdout, done.stdout
    assert "left: topics none" in done.stdout
    for leftover in (
        "SELECT 1 FROM pg_replication_slots WHERE database = current_database()",
        "SELECT 1 FROM pg_publication",
        "SELECT 1 FROM pg_event_trigger",
        "SELECT 1 FROM pg_namespace WHERE nspname = 'cdc'",
        f"SELECT 1 FROM pg_roles WHERE rolname = '{site.reader}'",
    ):
        assert site.source.execute(leftover) == []

    done = site.as_admin("teardown", side="target")
    assert done.returncode == 0, done.stderr
    assert "left: the replica's tables" in done.stdout
    assert site.target.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [site.writer]) == []
    assert site.target.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'cdc'") == []
    assert site.target.execute("SELECT id FROM accounts") == [(1,)]
    assert site.as_admin("teardown").returncode == 0


def test_a_pattern_for_schemas_grants_those_that_are_there(site: Site) -> None:
    """Schema public is there in every database, and nobody but its owner may make tables in it."""
    site.config.write_text(site.config.read_text().replace('"public.*"', '"*.*"'))
    site.set_up()
    found = site.cdc("check", "eu")
    assert "may make tables in schema public" in found.stdout
    with psycopg.connect(site.target.url(site.writer), password=WRITER_PASSWORD) as connection:
        connection.execute("CREATE TABLE public.made (id int)")


def test_an_administrator_s_url_is_of_one_section(site: Site) -> None:
    done = site.cdc("setup", "--admin-url", site.source.url())
    assert done.returncode == 2
    assert "ARGUMENT_INVALID" in done.stderr


def test_teardown_leaves_what_other_sections_use(site: Site) -> None:
    site.config.write_text(
        site.config.read_text()
        + f"""
[source.second]
url = "{site.source.url(site.reader)}"
password = "${{READER_PASSWORD}}"
tables = ["public.visits"]
"""
    )
    assert (
        site.cdc(
            "setup", "second", "--admin-url", site.source.url(), env={"PGPASSWORD": site.source.server.password}
        ).returncode
        == 0
    )
    site.set_up()
    assert site.as_admin("teardown").returncode == 0
    assert site.source.execute("SELECT pubname FROM pg_publication") == [("cdc_second",)]
    assert len(site.source.execute("SELECT 1 FROM pg_event_trigger WHERE evtname LIKE 'cdc_%'")) == 3
    with site.as_reader() as connection:
        connection.execute("SELECT value FROM cdc.secret")


def test_teardown_of_a_running_source_is_refused(site: Site) -> None:
    site.set_up()
    with closing(
        psycopg.connect(site.source.url(site.reader), password=READER_PASSWORD, autocommit=True, replication="database")
    ) as held:
        held.execute(f"CREATE_REPLICATION_SLOT cdc_{site.name} LOGICAL pgoutput")
        # A streaming walsender keeps the slot; psycopg has no COPY BOTH, so libpq is asked directly.
        name = f"cdc_{site.name}"
        start = f"START_REPLICATION SLOT {name} LOGICAL 0/0 (proto_version '1', publication_names '{name}')"
        held.pgconn.send_query(start.encode())
        held.pgconn.get_result()
        done = site.as_admin("teardown")
    assert done.returncode == 4
    assert "SOURCE_HELD" in done.stderr
    assert len(site.source.execute("SELECT 1 FROM pg_publication")) == 1
