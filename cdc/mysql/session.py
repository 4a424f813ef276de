"""Sessions of ours on a server of MySQL or MariaDB: one list of settings, one way in, and what its errors mean.

In: a server's URL, `mysql://USER@HOST:PORT/DATABASE?ssl-mode=…&ssl-ca=…`, with its password beside it; where the URL
names no user, or nobody a password, the mysql client's own files do. Out: connections whose text does not depend on
what somebody set on the server (CORRECTNESS 12) and which truncate nothing in silence; every PyMySQL error as a
`CdcError`, whose kind tells a loop what to do.
Refuses: a server that lacks its dialect's collation, which is older than MySQL 8.0.17 or none.

The count of an UPDATE is that of the rows it found, whether they changed or not. A password never reaches a message.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT, SERVER_STATUS
from pymysql.converters import conversions, escape_string
from pymysql.cursors import SSCursor

from cdc.errors import CdcError
from cdc.mysql.dialect import MYSQL, Dialect, Setting, dialect_of
from cdc.server import Endpoint
from cdc.tls import expired

Isolation = Literal["REPEATABLE READ", "READ COMMITTED"]
SslMode = Literal["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"]
SESSION: dict[str, Setting] = {
    "time_zone": "+00:00",
    # Zero dates and a zero in an AUTO_INCREMENT column are kept, and nothing is cut to fit.
    "sql_mode": "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION",
    "sql_auto_is_null": 0,
    "sql_safe_updates": 0,
    "completion_type": "NO_CHAIN",
    "lock_wait_timeout": 30,
    "innodb_lock_wait_timeout": 30,
    "net_read_timeout": 60,
    "net_write_timeout": 600,
}
"""What decides a value's text, whether it is kept whole, and how long a session waits."""

SCHEMES = ("mysql", "mariadb")
"""Of URLs; which of the two a server is, it says itself."""
_CONNECT_S = 10.0
_PIECE = 1 << 18
_LIVENESS = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
_OPTION_FILES = ("/etc/my.cnf", "/etc/mysql/my.cnf", "~/.my.cnf")
_SSL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_QUERY = ("ssl-mode", "ssl-ca", "ssl-cert", "ssl-key")

# By number: the connection or the moment is at fault, not the statement.
_PASSING = frozenset({
    # connections: too many, the host's or the user's share is used up, shutting down, killed, offline, idle too long
    1040, 1042, 1043, 1053, 1129, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1317, 1927, 3032, 3168, 3169, 4031,
    # locks: timed out, deadlock, too many, rolled back by the group
    1205, 1206, 1213, 3101, 3572,
    # room: disk, memory
    1021, 1037, 1038, 1041, 1114,
    # read-only, as a server is while its role changes
    1290, 1836,
    # a statement that lasted too long
    3024,
    # what the client says: no connection, host unknown, gone, lost
    2002, 2003, 2005, 2006, 2013, 2055,
})  # fmt: skip
_AUTH = frozenset({1044, 1045, 1130, 1251, 1524, 1698, 1820, 1862, 2059, 3118})
_DENIED = 1045
_TLS = frozenset({2026, 3159})
_ALERT = re.compile(r"_ALERT_[A-Z_]*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE)")
_TLS_FIX = "ssl-mode, ssl-ca, ssl-cert and ssl-key in url, as with the mysql client; docs/SECURITY.md has an example"
_UNKNOWN_COLLATION = 1273
_ENCODERS_ONLY = {kind: encode for kind, encode in conversions.items() if not isinstance(kind, int)}
_NOT_THE_PROTOCOL = (struct.error, IndexError, AssertionError, UnicodeError, pymysql.InternalError)


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says. `ssl_mode` is the mysql client's: a CA alone asks for its check."""

    host: str
    port: int
    user: str
    database: str
    ssl_mode: SslMode = "PREFERRED"
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ValueError, in words."""
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"{parts.scheme}:// is no URL of a MySQL server, mysql:// is")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(query.keys() - set(_QUERY)):
            raise ValueError(f"unknown in a mysql:// URL: {', '.join(unknown)}; known there: {', '.join(_QUERY)}")
        mode = query.get("ssl-mode", "VERIFY_CA" if "ssl-ca" in query else "PREFERRED").upper()
        if mode not in _SSL_MODES:
            raise ValueError(f"ssl-mode={mode} is none of {', '.join(_SSL_MODES)}")
        database = unquote(parts.path.removeprefix("/"))
        if "/" in database:
            raise ValueError(f"{parts.path} is no name of a database")
        return cls(
            host=parts.hostname or "localhost",
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            database=database,
            ssl_mode=cast("SslMode", mode),
            ssl_ca=query.get("ssl-ca"),
            ssl_cert=query.get("ssl-cert"),
            ssl_key=query.get("ssl-key"),
        )

    def context(self) -> ssl.SSLContext | None:
        """None leaves it to the driver, which then takes TLS where the server has it."""
        if self.ssl_mode == "DISABLED" or (self.ssl_mode == "PREFERRED" and self.ssl_cert is None):
            return None
        context = ssl.create_default_context(cafile=self.ssl_ca)
        # Certificates that MySQL makes itself lack what the strict check asks for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = self.ssl_mode == "VERIFY_IDENTITY"
        if not self.ssl_mode.startswith("VERIFY"):
            context.verify_mode = ssl.CERT_NONE
        if self.ssl_cert is not None:
            context.load_cert_chain(self.ssl_cert, self.ssl_key)
        return context


@dataclass(frozen=True, slots=True)
class Server(Endpoint):
    """A MySQL server and which section of the configuration it belongs to."""

    engine: ClassVar[Literal["mysql"]] = "mysql"

    @property
    def address(self) -> Address:
        try:
            return Address.parse(self.url)
        except ValueError as error:
            raise self.refused(self.hidden(str(error))) from None

    @property
    def database(self) -> str:
        return self.address.database

    def connect(
        self,
        *,
        settings: Mapping[str, Setting] | None = None,
        isolation: Isolation = "REPEATABLE READ",
        autocommit: bool = True,
        multi_statements: bool = False,
        raw: bool = False,
    ) -> Connection:
        """An ordinary connection. `raw`: values come as the bytes that the server sent."""
        with self.errors():
            try:
                connection = Connection(**self.arguments(multi_statements=multi_statements, raw=raw))
            except _NOT_THE_PROTOCOL as error:
                raise self.refused(f"what answers there does not speak MySQL's protocol ({error!r})") from None
            try:
                self._prepare(connection, settings or {}, isolation, autocommit=autocommit)
            except BaseException:
                close(connection)
                raise
        return connection

    def arguments(self, *, multi_statements: bool = False, raw: bool = False) -> dict[str, Any]:
        """What PyMySQL needs to log in, for whoever must make the connection himself; before our settings."""
        address, from_file = self.address, _option_file()
        try:
            context = address.context()
            late = expired(address.ssl_cert) if address.ssl_cert else ""
        except (OSError, ValueError) as error:  # a file that is missing or no certificate
            raise self.untrusted(
                self.hidden(f"the files of TLS in the URL cannot be used: {error}"), _TLS_FIX
            ) from None
        if late:
            # The server would only hang up.
            raise self.untrusted(late, _TLS_FIX)
        password = self.password if self.password is not None else from_file.get("password", "")
        return {
            "host": address.host,
            "port": address.port,
            "user": address.user or from_file.get("user") or None,
            "password": password.encode(),
            "database": address.database or None,
            "charset": "utf8mb4",
            "connect_timeout": _CONNECT_S,
            "read_timeout": _CONNECT_S,
            "write_timeout": _CONNECT_S,
            "autocommit": None,
            "program_name": self.program,
            "client_flag": CLIENT.FOUND_ROWS | (CLIENT.MULTI_STATEMENTS if multi_statements else 0),
            "ssl": context,
            "ssl_disabled": address.ssl_mode == "DISABLED",
            **({"use_unicode": False, "conv": _ENCODERS_ONLY} if raw else {}),
        }

    def _prepare(
        self, connection: Connection, settings: Mapping[str, Setting], isolation: Isolation, *, autocommit: bool
    ) -> None:
        dialect = dialect_in(connection)
        every = {**SESSION, **dialect.settings, **settings}
        values = ", ".join(f"SESSION {name} = {_literal(value)}" for name, value in every.items())
        with connection.cursor() as cursor:
            cursor.execute(f"SET NAMES utf8mb4 COLLATE {dialect.collation}")
            cursor.execute(f"SET {values}")
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation}")
        connection.autocommit(autocommit)
        keep_watch(connection)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What PyMySQL raises inside comes out as a `CdcError`."""
        try:
            yield
        except pymysql.MySQLError as error:
            raise self.error(error) from None

    def error(self, error: pymysql.MySQLError) -> CdcError:
        """What a PyMySQL error means: away (try again), login refused, or the server refuses what we ask."""
        number, problem = number_of(error), self.problem(error)
        distrusted = isinstance(getattr(error, "original_exception", None), ssl.SSLCertVerificationError)
        if distrusted or number in _TLS or _ALERT.search(problem):
            return self.untrusted(problem, _TLS_FIX)
        if number in _AUTH:
            if number == _DENIED and self.address.ssl_cert is None:
                problem += (
                    "; so is an account told that has REQUIRE SSL or X509, and any by a MariaDB with "
                    "require_secure_transport, where ssl-mode or ssl-cert is missing"
                )
            return self.login_refused(self.address.user or "the default user", problem)
        if number == _UNKNOWN_COLLATION and MYSQL.collation in problem:
            return self.refused(f"MySQL 8.0.17 or later is needed: the server has no collation {MYSQL.collation}")
        if self.address.ssl_cert is not None and "EOF occurred" in problem:
            problem += "; a server that does not trust the certificate of ssl-cert hangs up like that"
        broken = number == 0 or (number is None and isinstance(error, pymysql.InternalError))
        return self.unreachable(problem) if broken or number in _PASSING else self.refused(problem)

    def problem(self, error: pymysql.MySQLError) -> str:
        """The server's words on one line, without our password."""
        number = number_of(error)
        words = str(error.args[-1]) if error.args else repr(error)
        return self.hidden(f"{words or 'the connection is closed'}{f' ({number})' if number else ''}")


def _literal(value: Setting) -> str:
    return str(value) if isinstance(value, int) else f"'{escape_string(value)}'"


def _option_file() -> dict[str, str]:
    """`user` and `password` of [client] in the mysql client's own files; the later one wins."""
    found: dict[str, str] = {}
    for name in _OPTION_FILES:
        with suppress(OSError, UnicodeDecodeError):
            section = ""
            for line in Path(name).expanduser().read_text(encoding="utf-8").splitlines():
                stripped = line.strip()
                if stripped.startswith("["):
                    section = stripped
                elif section == "[client]":
                    key, _, value = stripped.partition("=")
                    found[key.strip()] = value.strip().strip("\"'")
    return found


def dialect_in(connection: Connection) -> Dialect:
    """Of the server that a connection leads to."""
    return dialect_of(str(connection.server_version))


def number_of(error: pymysql.MySQLError) -> int | None:
    """MySQL's number of an error, 0 for a connection that is closed; None for what the driver says by itself."""
    if error.args and isinstance(error.args[0], int):
        return error.args[0]
    return 0 if error.args == ("Already closed",) else None


def keep_watch(connection: Connection) -> None:
    """Wait for answers without end, but notice a peer that has vanished."""
    connection._read_timeout = connection._write_timeout = None  # noqa: SLF001 - it has no other way
    for name, value in _LIVENESS.items():
        connection._sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)  # noqa: SLF001


def close(connection: Connection) -> None:
    """Whether it is open, broken or closed."""
    with suppress(pymysql.MySQLError):
        connection.close()


def cut(connection: Connection) -> None:
    """From another thread: whoever waits for the server finds the connection lost. It still has to be closed."""
    opened = connection._sock  # noqa: SLF001 - it has no other way
    if opened is not None:
        with suppress(OSError):
            # Closed, it resets: else a server that waits for room goes on waiting for a minute, with all it holds.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Not TLS' own way, which takes from the other thread what it is just using.
            socket.socket.shutdown(opened, socket.SHUT_RDWR)


@contextmanager
def streamed(connection: Connection, query: str) -> Iterator[SSCursor]:
    """Row after row as the server sends them. Where they are not read to the end, the connection is closed."""
    if connection.open:
        # In large pieces: each time a thread asks for more, another one takes the interpreter from it.
        connection._rfile = connection._sock.makefile("rb", _PIECE)  # noqa: SLF001
    cursor = connection.cursor(SSCursor)
    try:
        cursor.execute(query)
        yield cursor
    finally:
        result = cursor._result  # noqa: SLF001
        if result is not None and result.unbuffered_active:
            # Else the driver would read the rest of the table first, also from a connection that is lost.
            result.unbuffered_active = False
            close(connection)


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All of it or nothing; inside another one, a savepoint. No place for statements that commit by themselves."""
    inside = connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS
    begin, end, undo = _SAVEPOINT if inside else _TRANSACTION
    with connection.cursor() as cursor:
        cursor.execute(begin)
        try:
            yield
        except BaseException:
            # A broken connection, or a deadlock: the server has undone it all already.
            with suppress(pymysql.MySQLError):
                cursor.execute(undo)
            raise
        cursor.execute(end)


_TRANSACTION = ("START TRANSACTION", "COMMIT", "ROLLBACK")
_SAVEPOINT = ("SAVEPOINT cdc", "RELEASE SAVEPOINT cdc", "ROLLBACK TO SAVEPOINT cdc")
