"""`check`, `setup`, `teardown` and `status` of MySQL at both ends: what is missing is named with what mends it, what is
made is enough for the pipeline and no more."""

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pymysql
import pytest

import cdc.mysql.snapshot
from cdc import cli
from cdc.errors import COPY_LOCKED, CdcError
from cdc.mysql.catalog import Catalog, FoundTable
from cdc.mysql.session import Server
from cdc.mysql.snapshot import BaseCopy
from cdc.server import Side
from sinks.archive.show_create import lacking_rights
from tests.servers.kafka import Kafka
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQLDatabase
from tests.servers.process import Process
from tests.system.pipeline import CDC, wait_until

BOTH = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)

READER_PASSWORD = "reader's %s3cret"
WRITER_PASSWORD = "writer\\'s/s3cret"
BILLING = """
CREATE TABLE accounts (id int PRIMARY KEY, balance decimal(12,2) NOT NULL, twice decimal(13,2) AS (balance * 2));
CREATE TABLE `Odd ``Name` (id int PRIMARY KEY, `select` text);
CREATE TABLE visits (at datetime(6), page text);
CREATE TABLE sessions (id int PRIMARY KEY);
INSERT INTO accounts (id, balance) VALUES (1, 100), (2, 100), (3, 100);
INSERT INTO visits VALUES (NOW(6), 'a'), (NOW(6), 'b');
"""
TROUBLE = """
CREATE TABLE old (id int PRIMARY KEY) ENGINE = MyISAM;
CREATE TABLE places (id int PRIMARY KEY, at point, word varchar(9) CHARACTER SET gbk);
CREATE TABLE parts (id int PRIMARY KEY, account int, CONSTRAINT of_account FOREIGN KEY (account)
  REFERENCES accounts (id) ON DELETE CASCADE ON UPDATE SET NULL);
CREATE VIEW rich AS SELECT * FROM accounts;
"""
Findings = list[tuple[str, str, str]]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Site:
    """A source and a replica with roles of their own, and the commands as a user runs them."""

    def __init__(self, directory: Path, source: MySQLDatabase, target: MySQLDatabase, bootstrap: str) -> None:
        self.source, self.target, self.name = source, target, source.name
        self.reader, self.writer = f"{source.name}_reader", f"{source.name}_writer"
        self.config = directory / "cdc.toml"
        self.printed: list[str] = []
        self.config.write_text(f"""
[kafka]
bootstrap_servers = "{bootstrap}"
[source.{self.name}]
url = "{source.url(self.reader)}"
password = "${{READER_PASSWORD}}"
tables = ["{self.name}.*"]
exclude = ["{self.name}.sessions"]
heartbeat_every = "1s"
[sink.us]
source = "{self.name}"
url = "{target.url(self.writer)}"
password = "${{WRITER_PASSWORD}}"
""")

    def environment(self) -> dict[str, str]:
        secrets = {"READER_PASSWORD": READER_PASSWORD, "WRITER_PASSWORD": WRITER_PASSWORD}
        return {"CDC_CONFIG": str(self.config), "COLUMNS": "250", **secrets}

    def background(self, *arguments: str) -> Process:
        log = self.config.with_name("background.log")
        return Process([CDC, *arguments], log, env={**os.environ, **self.environment()})

    def cdc(self, *arguments: str, env: Mapping[str, str] | None = None) -> Done:
        """In this process: most of a command's time is the interpreter's start."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in (self.environment() | dict(env or {})).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["cdc", *arguments])
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        self.printed += [out.getvalue(), err.getvalue()]
        return Done(code, out.getvalue(), err.getvalue())

    def as_admin(self, *arguments: str, side: str = "source") -> Done:
        server = (self.source if side == "source" else self.target).server
        verb, *rest = arguments
        name = self.name if side == "source" else "us"
        return self.cdc(verb, name, *rest, "--admin-url", server.url(), env={"MYSQL_PWD": server.password})

    def set_up(self) -> None:
        for side in ("source", "target"):
            done = self.as_admin("setup", side=side)
            assert done.returncode == 0, done.stderr

    def findings(self, name: str) -> Findings:
        sections = json.loads(self.cdc("check", name, "--json").stdout)["sections"]
        return [(f["level"], f["what"], f["fix"]) for f in sections[0]["findings"]]

    def status(self) -> tuple[dict[str, Any], dict[str, Any]]:
        report = json.loads(self.cdc("status", "--json").stdout)
        return report["sources"][0], report["sinks"][0]

    def users(self) -> list[str]:
        found = []
        for database, role in ((self.source, self.reader), (self.target, self.writer)):
            found += [row[0] for row in database.execute("SELECT user FROM mysql.user WHERE user = %s", [role])]
        return found


@pytest.fixture
def site(
    tmp_path: Path, mysql_database: MySQLDatabase, mysql_target_database: MySQLDatabase, kafka: Kafka
) -> Iterator[Site]:
    mysql_database.execute(BILLING)
    made = Site(tmp_path, mysql_database, mysql_target_database, kafka.bootstrap)
    yield made
    mysql_database.execute(f"DROP USER IF EXISTS `{made.reader}`")
    mysql_target_database.execute(f"DROP USER IF EXISTS `{made.writer}`")
    printed = "\n".join(made.printed)
    servers = mysql_database.server, mysql_target_database.server
    for secret in (READER_PASSWORD, WRITER_PASSWORD, *(server.password for server in servers)):
        assert secret not in printed
        assert pymysql.converters.escape_string(secret) not in printed


def lines(findings: Findings, level: str) -> str:
    return "\n".join(f"{what} -> {fix}" for found, what, fix in findings if found == level)


def refusals(connection: Any, *statements: str) -> list[int]:
    numbers = []
    for statement in statements:
        with pytest.raises(pymysql.MySQLError) as caught, connection.cursor() as cursor:
            cursor.execute(statement)
        numbers.append(caught.value.args[0])
    return numbers


DENIED = {1044, 1142, 1227, 1370}


@BOTH
def test_a_whole_pipeline_runs_under_the_roles_that_setup_makes(site: Site, flavour: str) -> None:
    for side in ("source", "target"):
        assert "(password of [" in site.as_admin("setup", "--dry-run", side=side).stdout
    assert site.users() == []
    site.set_up()
    source, sink = site.status()
    assert (source["state"], sink["state"]) == ("never started", "stopped, nothing applied")
    running = site.background("up")
    try:
        wait_until(lambda: "table copied" in running.log.read_text(), "the copy")
        site.source.execute("ALTER TABLE accounts ADD COLUMN tier int NOT NULL DEFAULT 3")
        site.source.execute("INSERT INTO accounts (id, balance) VALUES (4, 1); UPDATE visits SET page = 'x'")
        done = site.cdc("verify", site.name, "--sink", "us")
        assert "EQUAL: 3 tables" in done.stdout, done.stdout + done.stderr + running.log.read_text()
        for name in (site.name, "us"):
            assert lines(site.findings(name), "FAIL") == ""
        source, sink = site.status()
        assert (source["engine"], source["state"], source["problem"]) == ("mysql", "streaming", None)
        assert (sink["engine"], sink["state"], sink["problem"]) == ("mysql", "applying", None)
        assert source["wal"] is None
        assert source["binlog"]["kept_bytes"] > 0
        assert source["binlog"]["oldest_file"].startswith("binlog.")
        # MariaDB keeps its log for ever, unless it is told otherwise.
        assert source["binlog"]["seconds_left"] is None or 0 < source["binlog"]["seconds_left"] <= 30 * 86400
        assert source["lag_seconds"] < 10
        assert flavour == "mariadb" or "purging" in site.cdc("status").stdout
        for side, code in (("source", "SOURCE_HELD"), ("target", "SINK_HELD")):
            refused = site.as_admin("teardown", side=side)
            assert (refused.returncode, code in refused.stderr) == (4, True), refused.stdout + refused.stderr
    finally:
        running.stop()
    assert running.returncode == 0, running.log.read_text()
    site.printed.append(running.log.read_text())
    source, sink = site.status()
    assert (source["state"], sink["state"]) == ("stopped", "stopped")
    torn_down(site)


def torn_down(site: Site) -> None:
    """Everything goes but the replica's rows; and once more, it changes nothing."""
    heartbeats = "SELECT 1 FROM information_schema.tables WHERE table_schema = 'cdc' AND table_name = 'heartbeat'"
    if site.source.execute(heartbeats):  # those of other tests' sources
        site.source.execute("DELETE FROM cdc.heartbeat WHERE source NOT LIKE %s", [f"{site.name}%"])
    assert "left: topics" in site.as_admin("teardown").stdout
    assert "left: the replica's tables" in site.as_admin("teardown", side="target").stdout
    assert site.users() == []
    tables = [row[0] for row in site.target.execute("SHOW TABLES")]
    assert sorted(tables) == ["Odd `Name", "accounts", "visits"]
    assert site.target.execute("SELECT COUNT(*) FROM accounts") == [(4,)]
    if site.source.execute(heartbeats):
        assert site.source.execute("SELECT 1 FROM cdc.heartbeat WHERE source LIKE %s", [f"{site.name}%"]) == []
    for side in ("source", "target"):
        assert site.as_admin("teardown", side=side).returncode == 0


@BOTH
def test_roles_can_do_their_work_and_nothing_else(site: Site, flavour: str) -> None:
    site.set_up()
    server = site.source.server
    with server.connect(site.name, site.reader, READER_PASSWORD) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM accounts")
        cursor.execute("REPLACE INTO cdc.heartbeat VALUES ('a test', 'x', NOW(6))")
        cursor.execute("DELETE FROM cdc.heartbeat")
        if flavour == "mysql":
            cursor.execute("FLUSH TABLES WITH READ LOCK")
        cursor.execute("UNLOCK TABLES")
        cursor.execute("SELECT COUNT(*) FROM information_schema.columns WHERE table_name = 'sessions'")
        assert cursor.fetchone() == (1,)
        assert set(
            refusals(
                reader, "SELECT 1 FROM sessions", "INSERT INTO accounts (id, balance) VALUES (9, 1)",
                "SELECT 1 FROM cdc.heartbeat", "CREATE TABLE mine (a int)", "CREATE USER another", "DROP TABLE visits",
                "SET GLOBAL binlog_row_image = MINIMAL", "SELECT 1 FROM mysql.user", "PURGE BINARY LOGS TO 'binlog.1'",
            )
        ) <= DENIED  # fmt: skip
    with site.target.server.connect(site.name, site.writer, WRITER_PASSWORD) as writer, writer.cursor() as cursor:
        cursor.execute("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1); TRUNCATE TABLE a")
        cursor.execute("ALTER TABLE a ADD COLUMN b text, DROP PRIMARY KEY, ADD PRIMARY KEY (id); DROP TABLE a")
        cursor.execute("CREATE TEMPORARY TABLE stage (a int); INSERT INTO stage VALUES (1)")
        cursor.execute("INSERT INTO cdc_progress (pipeline) VALUES ('us')")
        other = site.name.replace("_", "x")
        site.target.server.execute(f"CREATE DATABASE {other}; CREATE TABLE {other}.pay (a int)")
        try:
            assert set(
                refusals(
                    writer, f"CREATE DATABASE {other}2", "SHOW BINARY LOGS", "CREATE USER another",
                    "SELECT 1 FROM mysql.user", f"SELECT 1 FROM {other}.pay", f"INSERT INTO {other}.pay VALUES (1)",
                    f"CREATE TABLE {other}.mine (a int)", f"DROP TABLE {other}.pay", "FLUSH TABLES WITH READ LOCK",
                    "SET GLOBAL read_only = ON", f"GRANT SELECT ON {site.name}.* TO root",
                )
            ) <= DENIED  # fmt: skip
        finally:
            site.target.server.execute(f"DROP DATABASE {other}")


@BOTH
def test_setup_again_changes_nothing_and_the_server_logs_no_password(site: Site) -> None:
    server = site.source.server
    server.execute("SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON")
    try:
        site.set_up()
        before = server.execute(f"SHOW GRANTS FOR `{site.reader}`")
        home = site.config.parent
        (home / ".my.cnf").write_text(f"[client]\nuser = root\npassword = {server.password}\n")
        done = site.cdc("setup", site.name, env={"HOME": str(home)})
        assert done.returncode == 0, done.stderr
        logged = "\n".join(
            row[0].decode() if isinstance(row[0], bytes) else row[0]
            for row in server.execute("SELECT argument FROM mysql.general_log")
        )
    finally:
        server.execute("SET GLOBAL general_log = OFF; SET GLOBAL log_output = 'FILE'; TRUNCATE mysql.general_log")
    assert server.execute(f"SHOW GRANTS FOR `{site.reader}`") == before
    assert "CREATE USER" in logged
    assert "s3cret" not in logged


@BOTH
def test_setup_by_somebody_who_may_not_is_refused_with_the_way_out(site: Site) -> None:
    site.set_up()
    reader = site.source.server.url(user=site.reader)
    for password, words in ((READER_PASSWORD, "denied to user"), ("wrong", "Access denied")):
        done = site.cdc("setup", site.name, "--admin-url", reader, env={"MYSQL_PWD": password})
        assert done.returncode == 5
        assert "SETUP_REFUSED" in done.stderr
        assert words in done.stderr
        assert "--admin-url" in done.stderr


@BOTH
def test_setup_says_why_there_is_nothing_to_capture(site: Site) -> None:
    site.source.execute(TROUBLE)
    shop = [f"{site.name}.{name}" for name in ("accounts", "Odd `Name", "visits", "sessions")]
    site.config.write_text(site.config.read_text().replace(f'["{site.name}.sessions"]', json.dumps(shop)))
    done = site.as_admin("setup")
    assert done.returncode == 5
    assert f"{site.name}.old: engine MyISAM has no transactions" in done.stderr


@BOTH
def test_every_table_that_stays_out_is_named_with_its_reason(site: Site) -> None:
    site.source.execute(TROUBLE)
    site.set_up()
    found = site.findings(site.name)
    failures, notes = lines(found, "FAIL"), lines(found, "NOTE")
    assert f"{site.name}.old stays out: engine MyISAM has no transactions" in failures
    assert f"ALTER TABLE `{site.name}`.`old` ENGINE = InnoDB;" in failures
    assert f"{site.name}.places stays out: at has type point, word has type varchar(9) character set gbk" in failures
    assert f"{site.name}.parts stays out: foreign key of_account is ON DELETE CASCADE, UPDATE SET NULL" in failures
    assert f'exclude = ["{site.name}.parts"] in [source.{site.name}]' in failures
    assert f"{site.name}.accounts: generated columns are carried as plain ones: twice" in notes
    assert f"{site.name}.visits has no primary key" in notes
    assert f"do not name them: {site.name}.sessions" in notes
    assert "users and grants, 1 views" in notes
    captured = lines(found, "OK").partition("3 tables to capture: ")[2].partition(" ->")[0].split(", ")
    assert sorted(captured) == [f"{site.name}.{name}" for name in ("Odd `Name", "accounts", "visits")]
    text = site.config.read_text()
    site.config.write_text(text.replace("heartbeat_every", 'cascades = "derive"\nheartbeat_every'))
    found = site.findings(site.name)
    assert f"{site.name}.parts stays out" not in lines(found, "FAIL")
    assert f"may not read {site.name}.parts -> GRANT SELECT ON `{site.name}`.`parts` TO" in lines(found, "FAIL")


@BOTH
def test_missing_rights_are_named_with_the_statement_that_gives_them(site: Site, flavour: str) -> None:
    site.set_up()
    server = site.source.server
    server.execute(f"DROP USER `{site.reader}`")
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE USER `{site.reader}` IDENTIFIED BY %s", [READER_PASSWORD])
        cursor.execute(f"GRANT INSERT, REFERENCES ON `{site.name}`.* TO `{site.reader}`")
        cursor.execute(f"GRANT SELECT ON cdc.heartbeat TO `{site.reader}`")
        found = site.findings(site.name)
        fixes = [fix for level, _, fix in found if level == "FAIL"]
        statements = [statement for fix in fixes for statement in fix.split("; ") if statement.startswith("GRANT")]
        # MariaDB's copies lock nothing.
        assert len(statements) == (5 if flavour == "mysql" else 4), fixes
        assert "REPLICATION SLAVE and REPLICATION CLIENT missing" in lines(found, "FAIL")
        for statement in statements:
            cursor.execute(statement)
    failures = lines(site.findings(site.name), "FAIL")
    assert "may not write cdc.heartbeat, and stops at its first heartbeat" in failures
    assert len(failures.splitlines()) == 1
    site.set_up()
    if flavour == "mariadb":
        return
    server.execute(f"REVOKE FLUSH_TABLES ON *.* FROM `{site.reader}`")
    found = site.findings(site.name)
    assert lines(found, "FAIL") == ""
    assert "may lock neither the server nor its tables" in lines(found, "NOTE")


@BOTH
def test_the_target_s_gaps_are_named_with_the_statement_that_mends_them(site: Site) -> None:
    site.set_up()
    site.target.execute("CREATE TABLE visits (page text)")
    site.target.execute("CREATE TRIGGER audit AFTER INSERT ON visits FOR EACH ROW SET @a = 1")
    server = site.target.server
    server.execute(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM `{site.writer}`")
    server.execute(f"GRANT SELECT, TRIGGER ON `{site.name}`.* TO `{site.writer}`")
    found = site.findings("us")
    failures = lines(found, "FAIL")
    assert f"may not write {site.name}.cdc_progress -> cdc setup us" in failures
    assert "may not make temporary tables" in failures
    assert "INSERT, UPDATE, DELETE, CREATE, ALTER, DROP missing" in failures
    assert f"audit on {site.name}.visits -> DROP TRIGGER `{site.name}`.`audit`;" in failures
    for _, _, fix in found:
        if fix.startswith(("GRANT", "DROP")):
            server.execute(fix)
    assert lines(site.findings("us"), "FAIL") == ""


def test_a_server_that_is_not_prepared(site: Site) -> None:
    site.set_up()
    server = site.source.server
    settings = {
        "binlog_format": "STATEMENT", "binlog_row_metadata": "MINIMAL", "binlog_row_image": "MINIMAL",
        "binlog_row_value_options": "PARTIAL_JSON", "binlog_expire_logs_seconds": 3600, "gtid_mode": "ON_PERMISSIVE",
    }  # fmt: skip
    (before,) = server.execute(f"SELECT {', '.join(f'@@GLOBAL.{name}' for name in settings)}")
    change = ", ".join(f"GLOBAL {name} = %s" for name in settings)
    server.execute(f"SET {change}", list(settings.values()))
    try:
        found = site.findings(site.name)
        started = site.background("source", "run", site.name)
        assert started.wait(60) == 5
    finally:
        server.execute(f"SET {change}", before)
    failures, warnings = lines(found, "FAIL"), lines(found, "WARN")
    assert "binlog_format = STATEMENT, ROW is needed -> SET PERSIST binlog_format = 'ROW';" in failures
    assert "binlog_row_metadata = MINIMAL, FULL is needed: the log names no columns" in failures
    assert "gtid_mode = ON_PERMISSIVE, ON is needed" in failures
    assert "updates of JSON are not in the log whole -> SET PERSIST binlog_row_value_options = '';" in failures
    assert "binlog_row_image = MINIMAL" in warnings
    assert "binlog_expire_logs_seconds = 3600: a source that is stopped for longer must copy again" in warnings
    assert "sync_binlog = 0" in warnings
    assert "SOURCE_PREREQUISITE" in started.log.read_text()
    assert "SET PERSIST binlog_format = 'ROW';" in started.log.read_text()


@BOTH
def test_a_copy_does_not_wait_for_ever_for_its_lock(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdc.mysql.snapshot, "_PATIENCE_S", 1)
    server = Server(Side.SOURCE, site.name, site.source.url(), site.source.server.password)
    with site.source.connect() as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES visits WRITE")
        with pytest.raises(CdcError) as caught:
            BaseCopy(server, [FoundTable(site.name, "visits", "InnoDB")])
    assert caught.value.code is COPY_LOCKED
    assert caught.value.transient


@BOTH
def test_an_archived_source_may_read_every_definition(site: Site) -> None:
    archive = f'[archive.main]\nsources = ["{site.name}"]\nurl = "file:///nowhere"\nencryption_key = "none"\n'
    site.config.write_text(f"{site.config.read_text()}\n{archive}")
    site.set_up()
    reader = Server(Side.SOURCE, site.name, site.source.url(site.reader), READER_PASSWORD)
    with closing(Catalog(reader)) as catalog:
        assert lacking_rights(catalog, [site.name]) == []


def test_rights_to_read_definitions_count_through_roles_that_are_active(site: Site) -> None:
    site.set_up()
    reader = Server(Side.SOURCE, site.name, site.source.url(site.reader), READER_PASSWORD)
    role, server = f"{site.name}_role", site.source.server

    def lacking() -> list[tuple[str, str]]:
        with closing(Catalog(reader)) as catalog:
            return lacking_rights(catalog, [site.name, "other`db"])

    (*within, routines) = lacking()
    assert [what.split()[0] for what, _ in within] == ["views", "triggers", "events"] * 2
    assert routines[0] == "bodies of routines that are not the account's own, without SHOW_ROUTINE"
    server.execute(f"CREATE ROLE `{role}`")
    try:
        for _, grant in (*within, routines):
            server.execute(grant.replace(site.reader, role))
        server.execute(f"GRANT `{role}` TO `{site.reader}`")
        assert len(lacking()) == 7
        server.execute(f"SET DEFAULT ROLE `{role}` TO `{site.reader}`")
        assert lacking() == []
        server.execute(f"SET DEFAULT ROLE NONE TO `{site.reader}`; REVOKE `{role}` FROM `{site.reader}`")
        for _, grant in (*within, routines):
            server.execute(grant)
        assert lacking() == []
    finally:
        server.execute(f"DROP ROLE `{role}`")


@pytest.mark.parametrize("setting", ["activate_all_roles_on_login = ON", "mandatory_roles = '{0}'"])
def test_roles_that_are_active_by_a_setting_of_the_server(site: Site, setting: str) -> None:
    site.set_up()
    reader = Server(Side.SOURCE, site.name, site.source.url(site.reader), READER_PASSWORD)
    role, server = f"{site.name}_role", site.source.server
    server.execute(f"CREATE ROLE `{role}`; GRANT SHOW VIEW, TRIGGER, EVENT, SHOW_ROUTINE ON *.* TO `{role}`")
    server.execute(f"GRANT `{role}` TO `{site.reader}`; SET GLOBAL activate_all_roles_on_login = ON")
    server.execute(f"SET GLOBAL {setting.format(role)}")
    try:
        with closing(Catalog(reader)) as catalog:
            assert lacking_rights(catalog, [site.name]) == []
    finally:
        server.execute("SET GLOBAL activate_all_roles_on_login = OFF; SET GLOBAL mandatory_roles = ''")
        server.execute(f"DROP ROLE `{role}`")


@BOTH
def test_check_gives_statements_that_let_a_base_read_every_definition(site: Site) -> None:
    site.set_up()
    archive = f'[archive.main]\nsources = ["{site.name}"]\nurl = "file:///nowhere"\nencryption_key = "none"\n'
    site.config.write_text(f"{site.config.read_text()}\n{archive}")
    found = [fix for _, what, fix in site.findings("main") if what.startswith("bases would lack")]
    assert len(found) == 4
    for fix in found:
        site.source.server.execute(fix)
    assert "may read what bases read" in lines(site.findings("main"), "OK")


@BOTH
def test_what_other_sections_use_is_left(site: Site) -> None:
    site.config.write_text(
        f'{site.config.read_text()}\n[source.second]\nurl = "{site.source.server.url("", site.reader)}"\n'
        f'password = "${{READER_PASSWORD}}"\ntables = ["{site.name}.visits"]\n'
    )
    site.set_up()
    site.source.execute("DELETE FROM cdc.heartbeat")
    done = site.as_admin("teardown")
    assert done.returncode == 0, done.stderr
    assert "DROP" not in done.stdout
    assert site.reader in site.users()
    dropped = site.cdc(
        "teardown", "second", "--dry-run", "--admin-url", site.source.server.url(),
        env={"MYSQL_PWD": site.source.server.password},
    )  # fmt: skip
    assert dropped.returncode == 0, dropped.stderr
    several = site.cdc("setup", "--admin-url", site.source.server.url())
    assert (several.returncode, "ARGUMENT_INVALID" in several.stderr) == (2, True)


@BOTH
def test_a_role_that_another_configuration_may_use_is_left(site: Site) -> None:
    """Of it there are heartbeats, and progress."""
    site.set_up()
    site.source.execute("DELETE FROM cdc.heartbeat")
    site.source.execute("INSERT INTO cdc.heartbeat VALUES ('theirs', '-', NOW(6))")
    site.target.execute("INSERT INTO cdc_progress (pipeline) VALUES ('their sink')")
    for side, role, other in (("source", site.reader, "theirs"), ("target", site.writer, "their sink")):
        done = site.as_admin("teardown", side=side)
        assert (done.returncode, "DROP" in done.stdout.replace("else DROP USER", "")) == (0, False)
        assert f"role {role} stays: {other} of another configuration may log in as it" in done.stdout
        assert role in site.users()
    site.source.execute("DELETE FROM cdc.heartbeat")
    site.target.execute("DELETE FROM cdc_progress")
    for side in ("source", "target"):
        assert site.as_admin("teardown", side=side).returncode == 0
    assert site.users() == []
