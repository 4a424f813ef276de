"""Sessions of ours on a Postgres server: one list of settings, one way in, and what its errors mean.

In: a server's URL with its password beside it. Out: connections whose text does not depend on what somebody
set on the database or the role (CORRECTNESS 12); every psycopg error as a `CdcError`, whose kind tells a loop
what to do.
Refuses: a database whose encoding is SQL_ASCII, where the server cannot say what its bytes mean.

The settings travel in the startup packet, so they also hold for the walsender. A password never reaches a
message: it is cut out of whatever libpq says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc.errors import CdcError
from cdc.server import Endpoint, Side
from cdc.tls import fault

__all__ = ["SESSION", "Server", "Side", "options_string"]

SESSION: dict[str, str] = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "array_nulls": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "xmloption": "content",
    "search_path": "",
    "row_security": "off",
}
"""What decides a value's text, or which rows are seen; `client_encoding` is a connection parameter."""

_LIVENESS = {
    # A vanished peer must not hold a slot or a lock until the kernel's two hours are over.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_CLIENT = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

# By class or code: the connection or the moment is at fault, not the statement.
_PASSING = ("08", "40", "53", "57014", "57P01", "57P02", "57P03", "57P05", "55P03", "25P03", "25P04")
_AUTH = ("28",)
# A refused login has no SQLSTATE in libpq's answer, only the server's words.
_AUTH_WORDS = ("authentication failed", "no password supplied", "pg_hba.conf", 'role "', "SASL")
_REFUSED_WORDS = ('database "', "permission denied", "replication role", "invalid connection option")
# Not "SSL" alone: that word is also in what libpq says of a TLS connection that broke, which passes.
_TLS_WORDS = ("certificate", "private key", "does not support SSL", "no encryption", " alert ", "channel binding")
_TLS_FIX = "sslmode, sslrootcert, sslcert and sslkey in url, as with psql; docs/SECURITY.md has an example"
_TLS_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
_QUOTED = re.compile('"[^"]*"')


def options_string(extra: Mapping[str, str] | None = None) -> str:
    """The `options` of a startup packet: `SESSION` and `extra` as `-c name=value`."""
    settings = {**SESSION, **_LIVENESS, **(extra or {})}
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in settings.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


@dataclass(frozen=True, slots=True)
class Server(Endpoint):
    """A Postgres server and which section of the configuration it belongs to."""

    engine: ClassVar[Literal["postgresql"]] = "postgresql"

    def conninfo(self, *, settings: Mapping[str, str] | None = None, **parameters: str) -> str:
        """Everything libpq needs, the session's settings included; the URL's `options` come before ours."""
        with self.errors():
            given = {key: str(value) for key, value in conninfo_to_dict(self.url).items() if value is not None}
        if self.password is not None:
            given["password"] = self.password
        options = " ".join(filter(None, (given.pop("options", ""), options_string(settings))))
        fixed = {
            "options": options,
            "client_encoding": "UTF8",
            "application_name": self.program,
        }
        return make_conninfo("", **{**_CLIENT, **given, **fixed, **parameters})

    def connect(self, *, settings: Mapping[str, str] | None = None, autocommit: bool = True) -> psycopg.Connection:
        """An ordinary connection."""
        conninfo = self.conninfo(settings=settings)
        with self.errors():
            connection = psycopg.connect(conninfo, autocommit=autocommit)
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            connection.close()
            raise self.refused("the database has encoding SQL_ASCII: its bytes have no defined characters")
        return connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What psycopg raises inside comes out as a `CdcError`."""
        try:
            yield
        except psycopg.Error as error:
            raise self.error(error) from None

    def error(self, error: psycopg.Error) -> CdcError:
        """What a psycopg error means: away (try again), login refused, or the server refuses what we ask."""
        problem = self.problem(error)
        state = error.sqlstate
        if state is None:
            if any(word in _QUOTED.sub("", problem) for word in _TLS_WORDS):
                return self.untrusted(self._distrust(problem), _TLS_FIX)
            if _needs_password(error) or any(word in problem for word in _AUTH_WORDS):
                return self.login_refused(self._user, problem)
            if any(word in problem for word in _REFUSED_WORDS) or isinstance(error, psycopg.ProgrammingError):
                return self.refused(problem)
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                return self.unreachable(problem)
            return self.refused(problem)
        if state.startswith(_AUTH):
            return self.login_refused(self._user, problem)
        return self.unreachable(problem) if state.startswith(_PASSING) else self.refused(problem)

    def problem(self, error: psycopg.Error) -> str:
        """The server's words on one line, with its detail, without our password."""
        detail = error.diag.message_detail
        return self.hidden("; ".join(filter(None, ((error.diag.message_primary or str(error)), detail))))

    def _distrust(self, problem: str) -> str:
        """libpq does not tell why it trusts a certificate too little."""
        given = conninfo_to_dict(self.url)
        host, port = str(given.get("host", "")), str(given.get("port", "5432"))
        if "verify failed" not in problem or not host or host.startswith("/") or not port.isdigit():
            return problem
        root = given.get("sslrootcert")
        ca_file = None if root in (None, "system") else str(root)
        return fault(host, int(port), ca_file=ca_file, check_host=False, request=_TLS_REQUEST) or problem

    @property
    def _user(self) -> str:
        return str(conninfo_to_dict(self.url).get("user") or "the default user")


def _needs_password(error: psycopg.Error) -> bool:
    return error.pgconn is not None and error.pgconn.needs_password
