"""Postgres behind TLS: every connection of ours is as private as its URL asks for; what is in the way is named."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from cdc.errors import SOURCE_TLS, SOURCE_UNREACHABLE, TARGET_TLS, CdcError
from cdc.postgres.session import Server, Side
from tests.servers.certificates import Authority, Certificate
from tests.servers.fetch import postgres15_bin
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database, Postgres
from tests.servers.postgres_secured import SecuredPostgres
from tests.system.pipeline import Pipeline, wait_until

ROLE = "cdc_by_certificate"


@dataclass(frozen=True)
class Site:
    server: SecuredPostgres
    authority: Authority
    stranger: Authority


@dataclass(frozen=True)
class ByCertificate(Database):
    """A database whose URL logs in by a certificate."""

    cert: Path
    key: Path

    def url(self, user: str = ROLE, *, port: int | None = None) -> str:
        assert isinstance(self.server, SecuredPostgres)
        link = {"sslmode": "verify-full", "sslrootcert": str(self.server.trusted), "sslcert": str(self.cert),
                "sslkey": str(self.key)}  # fmt: skip
        return self.server.url(self.name, user, port=port, link=link)


class Secured(Pipeline):
    """With a pg_dump that speaks TLS."""

    @property
    def environment(self) -> dict[str, str]:
        programs, libraries = self.source.server.programs, self.source.server.env().get("LD_LIBRARY_PATH")
        found = {"LD_LIBRARY_PATH": libraries} if libraries else {}
        return super().environment | {"PG_DUMP": str(programs / "pg_dump")} | found


@pytest.fixture(scope="module")
def site(module_directory: Path) -> Iterator[Site]:
    programs = postgres15_bin()
    if programs is None:
        pytest.skip("this system has no package postgresql-15, and the wheel's server speaks no TLS")
    authority = Authority(module_directory / "postgres-links", "authority")
    with SecuredPostgres(module_directory / "postgres-secured", authority, programs) as server:
        server.execute("CREATE ROLE by_certificate")
        server.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER IN ROLE by_certificate")
        yield Site(server, authority, Authority(module_directory / "postgres-links", "stranger"))


def test_every_command_s_connections_are_verified(tmp_path: Path, site: Site, kafka: Kafka, unique_name: str) -> None:
    """The source by a certificate, the replica by SCRAM bound to the channel; the server lets nothing else in."""
    made = site.server.create_database(unique_name)
    client = site.authority.client(ROLE)
    source = ByCertificate(site.server, made.name, client.cert, client.key)
    target, restored = (site.server.create_database(f"{unique_name}_{what}") for what in ("target", "restored"))
    made.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'copied')")
    pipeline = Secured(tmp_path, source, target, kafka.bootstrap)
    pipeline.publish()
    assert "FAIL" not in pipeline.command("check").stdout
    with pipeline.source_running(), pipeline.sink_running(), pipeline.archive_running():
        made.execute("INSERT INTO t VALUES (2, 'streamed')")
        pipeline.wait_caught_up()
        for command in ("backup", "anchor"):
            pipeline.done("archive", command, "main")
        verified = pipeline.command("verify", pipeline.name, "--sink", "eu")
        assert "EQUAL: 1 tables" in verified.stdout, verified.stdout + verified.stderr
        status = json.loads(pipeline.command("status", "--json").stdout)
        assert status["sources"][0]["state"] == "streaming", status
        pipeline.wait_archived()
        assert encrypted(site.server) == {True}
    env = {"CDC_ARCHIVE_KEY": pipeline.archive_key, "PGPASSWORD": site.server.password}
    into = ["--to-txn", str(pipeline.valid_ends()[-1].txn_seq), "--into", restored.url()]
    done = pipeline.run("restore", "--archive", pipeline.archive_url, *into, env=env)
    assert done.wait(60) == 0, done.tail()
    assert restored.execute("SELECT * FROM t ORDER BY id") == [(1, "copied"), (2, "streamed")]
    assert site.server.password not in "".join(path.read_text() for path in tmp_path.glob("*.log"))


def encrypted(server: Postgres) -> set[bool]:
    """Of sessions by now, those of the walsender among them."""
    query = "SELECT s.ssl, a.backend_type FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename <> ''"
    sessions = server.execute(query)
    assert "walsender" in [kind for _, kind in sessions]
    return {ssl for ssl, _ in sessions}


def refused(site: Site, link: Mapping[str, str], *, user: str = "postgres", side: Side = Side.SOURCE) -> CdcError:
    server = Server(side, "shop", site.server.url(user=user, link=link), site.server.password)
    with pytest.raises(CdcError) as caught:
        server.connect()
    assert site.server.password not in str(caught.value)
    assert caught.value.hint
    return caught.value


def test_a_fault_of_the_client_is_named(site: Site) -> None:
    verified = {"sslmode": "verify-full", "sslrootcert": str(site.authority.file)}
    expired = site.authority.client("late", expired=True)
    strange = site.stranger.client(ROLE)
    other = site.authority.client("somebody-else")

    def by(certificate: Certificate) -> dict[str, str]:
        return verified | {"sslcert": str(certificate.cert), "sslkey": str(certificate.key)}

    for link, user, words in (
        (
            verified | {"sslrootcert": str(site.stranger.file)},
            "postgres",
            "self-signed certificate in certificate chain",
        ),
        (verified | {"sslrootcert": "/nowhere.pem"}, "postgres", '"/nowhere.pem" does not exist'),
        ({"sslmode": "disable"}, "postgres", "no encryption"),
        (verified, ROLE, "requires a valid client certificate"),
        (by(expired), ROLE, "expired"),
        (by(strange), ROLE, "unknown ca"),
        (by(other), ROLE, f'certificate authentication failed for user "{ROLE}"'),
    ):
        error = refused(site, link, user=user)
        assert error.code is SOURCE_TLS, (link, error)
        assert words in error.text
        assert "sslrootcert" in error.hint


def test_a_fault_of_the_server_is_named(site: Site) -> None:
    verified = {"sslmode": "verify-full", "sslrootcert": str(site.authority.file)}
    good = site.authority.server("postgres-again")
    for certificate, words in (
        (site.authority.server("postgres-expired", expired=True), "certificate has expired"),
        (site.authority.server("elsewhere", host="db.elsewhere.test"), 'does not match host name "127.0.0.1"'),
    ):
        site.server.present(certificate)
        wait_until(partial(told, site, verified, words), words)
        error = refused(site, verified, side=Side.TARGET)
        assert error.code is TARGET_TLS
        assert words in error.text
    site.server.present(good)
    wait_until(lambda: not trouble(site, verified), "a good certificate")


def told(site: Site, link: Mapping[str, str], words: str) -> bool:
    return words in trouble(site, link)


def trouble(site: Site, link: Mapping[str, str]) -> str:
    try:
        Server(Side.SOURCE, "shop", site.server.url(link=link), site.server.password).connect().close()
    except CdcError as error:
        return error.text
    return ""


@pytest.mark.parametrize(
    ("link", "words"), [("sslmode=require", "does not support SSL"), ("channel_binding=require", "SSL not in use")]
)
def test_a_server_without_tls_is_not_talked_to_in_the_clear(postgres_target: Postgres, link: str, words: str) -> None:
    server = Server(Side.SOURCE, "shop", f"{postgres_target.url()}?{link}", postgres_target.password)
    with pytest.raises(CdcError, match=words) as caught:
        server.connect()
    assert caught.value.code is SOURCE_TLS


def test_a_connection_that_breaks_is_tried_again(site: Site, tmp_path: Path) -> None:
    """What libpq says of it has the word SSL in it, and is no fault of anybody's certificate."""
    with SecuredPostgres(tmp_path / "passing", site.authority, site.server.programs) as passing:
        server = Server(Side.SOURCE, "shop", passing.url(), passing.password)
        connection = server.connect()
        passing.kill9()
        with pytest.raises(CdcError) as caught, server.errors():
            connection.execute("SELECT 1")
        assert caught.value.code is SOURCE_UNREACHABLE, caught.value
        assert caught.value.transient
