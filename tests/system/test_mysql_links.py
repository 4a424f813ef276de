"""MySQL and MariaDB behind TLS: every connection is as private as its URL asks for; what is in the way is named."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdc.errors import SOURCE_AUTH, SOURCE_TLS, SOURCE_UNREACHABLE, TARGET_TLS, CdcError, Code
from cdc.mysql.session import Server
from cdc.server import Side
from tests.servers.certificates import Authority
from tests.servers.fetch import mariadbd
from tests.servers.kafka import Kafka
from tests.servers.mariadb import FLAVOURS, MariaDB
from tests.servers.mysql import MySQL, MySQLDatabase
from tests.servers.mysql_secured import SecuredMariaDB, SecuredMySQL
from tests.system.pipeline import AnyPipeline

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)

PASSWORD = "wonder/l@nd"


@dataclass(frozen=True)
class Site:
    server: SecuredMySQL
    authority: Authority
    stranger: Authority

    @property
    def verified(self) -> dict[str, str]:
        return {"ssl-mode": "VERIFY_IDENTITY", "ssl-ca": str(self.authority.file)}

    def by(self, authority: Authority, name: str, *, expired: bool = False) -> dict[str, str]:
        made = authority.client(name, expired=expired)
        return self.verified | {"ssl-cert": str(made.cert), "ssl-key": str(made.key)}


@dataclass(frozen=True)
class ByCertificate(MySQLDatabase):
    """A database whose URL logs in by a certificate besides."""

    link: Mapping[str, str]

    def url(self, user: str = "by_certificate", *, port: int | None = None) -> str:
        assert isinstance(self.server, SecuredMySQL)
        return self.server.url(self.name, user, port=port, link=self.link)


@pytest.fixture(scope="module")
def site(module_directory: Path, flavour: str) -> Iterator[Site]:
    if flavour == "mariadb" and mariadbd() is None:
        pytest.skip("this system has no package mariadb-server-core")
    authorities = module_directory / f"{flavour}-links"
    authority = Authority(authorities, "authority")
    kind = SecuredMySQL if flavour == "mysql" else SecuredMariaDB
    with kind(module_directory / f"{flavour}-secured", authority) as server:
        for user, wanted in (("by_certificate", "X509"), ("by_password", "SSL"), ("by_any", "NONE")):
            server.execute(f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}' REQUIRE {wanted}")
            server.execute(f"GRANT ALL ON *.* TO {user}")
        # The root's password is what a pipeline is given for either side.
        server.execute(f"ALTER USER by_certificate IDENTIFIED BY '{server.password}'")
        yield Site(server, authority, Authority(authorities, "stranger"))


def test_every_command_s_connections_are_verified(tmp_path: Path, site: Site, kafka: Kafka, unique_name: str) -> None:
    """The dump of the log, the copy, the replica, digests, a base and a restore; the servers let nothing else in."""
    made = site.server.create_database(unique_name)
    made.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'copied')")
    source = ByCertificate(site.server, made.name, site.by(site.authority, "client"))
    with type(site.server)(tmp_path / "target", site.authority) as server:
        target = server.create_database(unique_name)
        pipeline = AnyPipeline(tmp_path, source, target, kafka.bootstrap)
        pipeline.publish()
        assert "FAIL" not in pipeline.command("check").stdout
        with pipeline.source_running(), pipeline.sink_running(), pipeline.archive_running():
            made.execute("INSERT INTO t VALUES (2, 'streamed')")
            pipeline.wait_caught_up()
            for command in ("backup", "anchor"):
                pipeline.done("archive", command, "main")
            verified = pipeline.command("verify", pipeline.name, "--sink", "eu")
            assert "EQUAL: 1 tables" in verified.stdout, verified.stdout + verified.stderr
            pipeline.wait_archived()
        env = {"CDC_ARCHIVE_KEY": pipeline.archive_key, "MYSQL_PWD": server.password}
        what = ["--to-txn", str(pipeline.valid_ends()[-1].txn_seq), "--table", f"{unique_name}.t", "--as", "again"]
        done = pipeline.run("restore", "--archive", pipeline.archive_url, *what, "--into", target.url(), env=env)
        assert done.wait(60) == 0, done.tail()
        assert target.execute("SELECT * FROM again ORDER BY id") == [(1, "copied"), (2, "streamed")]
        printed = "".join(path.read_text() for path in tmp_path.glob("*.log"))
        assert not any(password in printed for password in (PASSWORD, site.server.password, server.password))


def connect(site: Site, link: Mapping[str, str], user: str, password: str, side: Side = Side.SOURCE) -> str:
    """The cipher of a connection."""
    server = Server(side, "shop", site.server.url(user=user, link=link), password)
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        row = cursor.fetchone()
        assert row is not None
        return str(row[1])


def refused(site: Site, link: Mapping[str, str], user: str, side: Side = Side.SOURCE) -> CdcError:
    with pytest.raises(CdcError) as caught:
        connect(site, link, user, PASSWORD, side)
    assert PASSWORD not in str(caught.value)
    assert caught.value.hint
    return caught.value


def test_passwords_go_over_tls(site: Site) -> None:
    site.server.execute("FLUSH PRIVILEGES")  # the server forgets whom it knows, and wants the whole password
    for link in (site.verified, {}, {"ssl-mode": "REQUIRED"}, {"ssl-ca": str(site.authority.file)}):
        assert connect(site, link, "by_password", PASSWORD).startswith("TLS")


def test_a_fault_of_the_client_is_named(site: Site, tmp_path: Path, flavour: str) -> None:
    denied = "require_secure_transport, where ssl-mode or ssl-cert is missing"
    in_the_clear = (SOURCE_TLS, "insecure transport are prohibited") if flavour == "mysql" else (SOURCE_AUTH, denied)
    for link, user, code, words in (
        (site.verified | {"ssl-ca": str(site.stranger.file)}, "by_password", SOURCE_TLS, "certificate verify failed"),
        (site.verified | {"ssl-ca": str(tmp_path / "none.pem")}, "by_password", SOURCE_TLS, "cannot be used"),
        ({"ssl-mode": "VERIFY_CA"}, "by_password", SOURCE_TLS, "certificate verify failed"),
        ({"ssl-mode": "DISABLED"}, "by_any", *in_the_clear),
        ({"ssl-mode": "DISABLED"}, "by_password", SOURCE_AUTH, denied),
        (site.verified, "by_certificate", SOURCE_AUTH, denied),
        (site.by(site.authority, "late", expired=True), "by_certificate", SOURCE_TLS, "late.pem expired at"),
    ):
        named(refused(site, link, user), code, words)


def test_a_stranger_s_certificate_is_named(site: Site) -> None:
    """The server's word on it may come too late to be read before it hangs up."""
    error = refused(site, site.by(site.stranger, "stranger"), "by_certificate")
    assert error.code in (SOURCE_TLS, SOURCE_UNREACHABLE)
    assert "unknown ca" in error.text or "does not trust the certificate of ssl-cert" in error.text


def named(error: CdcError, code: Code, words: str) -> None:
    assert error.code is code, error
    assert words in error.text


def test_a_fault_of_the_server_is_named(site: Site) -> None:
    good = site.authority.server("mysql-again")
    try:
        site.server.present(site.authority.server("mysql-expired", expired=True))
        named(refused(site, site.verified, "by_password", Side.TARGET), TARGET_TLS, "certificate has expired")
        site.server.present(site.authority.server("elsewhere", host="db.elsewhere.test"))
        named(refused(site, site.verified, "by_password"), SOURCE_TLS, "not valid for '127.0.0.1'")
        assert connect(site, site.verified | {"ssl-mode": "VERIFY_CA"}, "by_password", PASSWORD).startswith("TLS")
    finally:
        site.server.present(good)


def test_a_server_without_tls_is_not_talked_to_in_the_clear(tmp_path: Path, flavour: str) -> None:
    with (
        MySQL(tmp_path / "plain", {"tls_version": "''"}) if flavour == "mysql" else MariaDB(tmp_path / "plain") as plain
    ):
        for link in ("ssl-mode=REQUIRED", "ssl-mode=VERIFY_CA"):
            with pytest.raises(CdcError, match="the server doesn't support it") as caught:
                Server(Side.SOURCE, "shop", f"{plain.url()}?{link}", plain.password).connect()
            assert caught.value.code is SOURCE_TLS
        Server(Side.SOURCE, "shop", plain.url(), plain.password).connect().close()
