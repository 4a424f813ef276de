"""Sessions on a real MySQL: who gets in, what they are told, and that nobody's settings change a text."""

import socket
import threading
from functools import partial
from pathlib import Path

import pymysql
import pytest
from pymysql.cursors import Cursor

import cdc.mysql.session
from cdc.errors import (
    SOURCE_AUTH,
    SOURCE_PREREQUISITE,
    SOURCE_UNREACHABLE,
    TARGET_AUTH,
    TARGET_REFUSED,
    TARGET_TLS,
    TARGET_UNREACHABLE,
    Code,
)
from cdc.mysql.session import Address, Server, close, transaction
from cdc.server import Side
from tests.servers.mysql import MySQL, MySQLDatabase
from tests.servers.process import free_port
from tests.servers.proxy import Proxy
from tests.system.replica import refusal


@pytest.fixture
def session(mysql_database: MySQLDatabase) -> Server:
    return Server(Side.TARGET, "eu", mysql_database.url(), mysql_database.server.password)


@pytest.mark.usefixtures("opposite_settings")
def test_a_value_has_the_same_text_whatever_the_server_is_set_to(session: Server) -> None:
    connection = session.connect(raw=True)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (at timestamp(3), v varchar(9), c char(4), d date, id int AUTO_INCREMENT KEY)")
        cursor.execute("INSERT INTO t VALUES ('2024-02-29 23:00:00.5', 'ä\\\\', 'c', '0000-00-00', 0)")
        cursor.execute("SELECT * FROM t")
        found = cursor.fetchall()
        with pytest.raises(pymysql.DataError, match="too long"):
            cursor.execute("INSERT INTO t (v) VALUES ('0123456789')")
        assert cursor.execute("UPDATE t SET v = v") == 1
    assert found == ((b"2024-02-29 23:00:00.500", "ä\\".encode(), b"c", b"0000-00-00", b"0"),)
    close(connection)
    close(connection)


@pytest.mark.parametrize(
    ("side", "codes"),
    [
        (Side.TARGET, (TARGET_AUTH, TARGET_REFUSED, TARGET_UNREACHABLE)),
        (Side.SOURCE, (SOURCE_AUTH, SOURCE_PREREQUISITE, SOURCE_UNREACHABLE)),
    ],
)
def test_who_is_not_let_in_is_told_why(mysql_server: MySQL, side: Side, codes: tuple[Code, ...]) -> None:
    auth, refused, away = codes
    code, text = refusal(Server(side, "eu", mysql_server.url(), "wr0ng").connect)
    assert code is auth
    assert "root" in text
    assert "wr0ng" not in text
    code, text = refusal(Server(side, "eu", mysql_server.url("nowhere"), mysql_server.password).connect)
    assert code is refused
    assert "nowhere" in text
    assert refusal(Server(side, "eu", mysql_server.url(port=free_port()), "x").connect)[0] is away
    with mysql_server.connect() as other, Proxy(mysql_server.port) as proxy:
        session = Server(side, "eu", mysql_server.url(port=proxy.port), mysql_server.password)
        connections = [session.connect(), session.connect()]
        other.kill(connections[0].thread_id())
        proxy.cut()
        for connection in connections:
            for _ in range(2):
                code, _ = refusal(partial(_run, session, connection))
                assert code is away


def _run(session: Server, connection: pymysql.Connection) -> None:
    with session.errors(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("ssl-mode=REQUIRED", None),
        ("ssl-mode=VERIFY_CA&ssl-ca={ca}", None),
        ("ssl-ca={ca}", None),
        ("ssl-mode=VERIFY_CA", "certificate verify failed"),
        ("ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}", "certificate verify failed"),
        ("ssl-ca=/nowhere.pem", "No such file"),
        ("ssl-mode=MAYBE", "ssl-mode=MAYBE is none of"),
        ("sslmode=require", "unknown in a mysql:// URL: sslmode"),
    ],
)
def test_tls_is_as_the_url_asks_for_it(mysql_server: MySQL, options: str, problem: str | None) -> None:
    url = f"{mysql_server.url()}?{options.format(ca=mysql_server.data / 'ca.pem')}"
    session = Server(Side.TARGET, "eu", url, mysql_server.password)
    if problem is not None:
        code, text = refusal(session.connect)
        assert code is (TARGET_REFUSED if "URL" in problem or "MAYBE" in problem else TARGET_TLS)
        assert problem in text
        return
    with session.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchone()[1]


@pytest.mark.parametrize("plugin", ["caching_sha2_password", "mysql_native_password", "sha256_password"])
@pytest.mark.parametrize("mode", ["DISABLED", "PREFERRED"])
def test_every_way_to_log_in_works_with_and_without_tls(
    mysql_server: MySQL, unique_name: str, plugin: str, mode: str
) -> None:
    mysql_server.execute(f"CREATE USER {unique_name} IDENTIFIED WITH {plugin} BY 'pä''ss'")
    url = f"{mysql_server.url(user=unique_name)}?ssl-mode={mode}"
    with Server(Side.SOURCE, "shop", url, "pä'ss", "copy").connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT attr_value FROM performance_schema.session_account_connect_attrs"
            " WHERE attr_name = 'program_name' AND processlist_id = connection_id()"
        )
        assert cursor.fetchall() == (("cdc source shop copy",),)
    mysql_server.execute(f"DROP USER {unique_name}")


def test_the_clients_own_file_has_what_the_url_has_not(
    mysql_server: MySQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "my.cnf"
    file.write_text(f"[mysqld]\nuser=x\n!include nothing\n[client]\nuser = root\npassword='{mysql_server.password}'\n")
    monkeypatch.setattr(cdc.mysql.session, "_OPTION_FILES", (str(file),))
    bare = f"mysql://127.0.0.1:{mysql_server.port}/"
    Server(Side.TARGET, "eu", bare).connect().close()
    assert refusal(Server(Side.TARGET, "eu", bare, "other").connect)[0] is TARGET_AUTH
    assert refusal(Server(Side.TARGET, "eu", bare.replace("//", "//nobody@", 1)).connect)[0] is TARGET_AUTH


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x02\0\0\0\x0ax", b"\x03\0\0\0abc"])
def test_whoever_does_not_speak_mysql_is_named(greeting: bytes) -> None:
    def greet() -> None:
        client, _ = listener.accept()
        client.sendall(greeting)
        client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        url = f"mysql://root@127.0.0.1:{listener.getsockname()[1]}/"
        code, text = refusal(Server(Side.TARGET, "eu", url).connect)
        thread.join()
    assert code in (TARGET_REFUSED, TARGET_UNREACHABLE)
    assert "MySQL" in text


def test_a_transaction_within_one_is_a_savepoint(session: Server, mysql_database: MySQLDatabase) -> None:
    mysql_database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with session.connect(multi_statements=True) as connection, connection.cursor() as cursor:
        with transaction(connection):
            cursor.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(pymysql.IntegrityError), transaction(connection):
                cursor.execute("INSERT INTO t VALUES (2), (1)")
            with transaction(connection):
                cursor.execute("INSERT INTO t VALUES (3)")
        with pytest.raises(pymysql.IntegrityError), transaction(connection):
            _twice(cursor, "INSERT INTO t VALUES (4)")
    assert mysql_database.execute("SELECT id FROM t") == [(1,), (3,)]


def _twice(cursor: Cursor, statement: str) -> None:
    cursor.execute(f"{statement}; {statement}")
    cursor.nextset()


def test_an_address_is_what_the_url_says() -> None:
    address = Address.parse("mysql://a%40b@[::1]:3307/my%20shop?ssl-mode=verify_ca&ssl-ca=/ca.pem")
    assert address == Address("::1", 3307, "a@b", "my shop", "VERIFY_CA", "/ca.pem")
    assert Address.parse("mysql://host") == Address("host", 3306, "", "")
    for wrong in ("postgresql://host", "mysql://h/a/b", "mysql://h/?x=1"):
        with pytest.raises(ValueError, match=r"mysql://|no name"):
            Address.parse(wrong)
