"""A real MySQL or MariaDB that answers nobody in plain text: passwords over TLS, or a certificate of the client's.

In: an empty directory, an authority that signs. Out: a server whose URLs ask for all of it to be verified.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT

from tests.servers.certificates import Authority, Certificate
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL


class SecuredMySQL(MySQL):
    """One server; `present` gives it another certificate."""

    reads_anew = "ALTER INSTANCE RELOAD TLS"

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.trusted = authority.file
        self._cert, self._key = directory / "server.pem", directory / "server.key"
        files = {"ssl-ca": str(authority.file), "ssl-cert": str(self._cert), "ssl-key": str(self._key)}
        super().__init__(directory, {"require-secure-transport": "ON", **files})
        self._place(authority.server(self.kind))

    def url(
        self, dbname: str = "", user: str = "root", *, port: int | None = None, link: Mapping[str, str] | None = None
    ) -> str:
        """`link`: parameters of the connection, instead of those that verify the server."""
        usual = {"ssl-mode": "VERIFY_IDENTITY", "ssl-ca": str(self.trusted)}
        return f"{super().url(dbname, user, port=port)}?{urlencode(usual if link is None else link)}"

    def connect(
        self, dbname: str = "", user: str = "root", password: str | None = None, *, autocommit: bool = True
    ) -> Connection:
        """As `MySQL.connect`, over TLS and without a look at the certificate, which may be a wrong one."""
        options: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "user": user, "database": dbname or None}
        return pymysql.connect(
            password=self.password if password is None else password,
            autocommit=autocommit,
            client_flag=CLIENT.MULTI_STATEMENTS,
            ssl_ca=str(self.trusted),
            ssl_verify_cert=False,
            **options,
        )

    def present(self, certificate: Certificate) -> None:
        """To connections from now on."""
        self._place(certificate)
        self.execute(self.reads_anew)

    def _place(self, certificate: Certificate) -> None:
        shutil.copy(certificate.cert, self._cert)
        shutil.copy(certificate.key, self._key)


class SecuredMariaDB(SecuredMySQL, MariaDB):
    """The other one."""

    reads_anew = "FLUSH SSL"
