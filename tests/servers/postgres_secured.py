"""A real Postgres that answers nobody in plain text: passwords by SCRAM over TLS, or a certificate of the client's.

In: an empty directory, programs that were built with TLS (those of the wheel were not: Debian's are), an authority that
signs. Out: a server whose URLs ask for all of it to be verified. Roles that
are members of `by_certificate` log in by a certificate of their name, and by nothing else.
"""

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from tests.servers.certificates import Authority, Certificate
from tests.servers.postgres import Postgres, as_server

_HBA = """\
hostnossl all all all reject
hostssl all +by_certificate all cert
hostssl all all all scram-sha-256
"""


class SecuredPostgres(Postgres):
    """One server; `present` gives it another certificate."""

    def __init__(self, directory: Path, authority: Authority, programs: Path) -> None:
        self.trusted = authority.file
        files = {"ssl_cert_file": "server.pem", "ssl_key_file": "server.key", "ssl_ca_file": "ca.pem"}
        super().__init__(directory, {"ssl": "on", **files}, programs=programs)
        shutil.copyfile(authority.file, self.data / "ca.pem")
        self._put(authority.server("postgres"))
        (self.data / "pg_hba.conf").write_text(_HBA)

    def url(
        self,
        dbname: str = "postgres",
        user: str = "postgres",
        *,
        port: int | None = None,
        link: Mapping[str, str] | None = None,
    ) -> str:
        """`link`: parameters of the connection, instead of those that verify the server and bind the password to it."""
        usual = {"sslmode": "verify-full", "sslrootcert": str(self.trusted), "channel_binding": "require"}
        return f"{super().url(dbname, user, port=port)}?{urlencode(usual if link is None else link)}"

    def present(self, certificate: Certificate) -> None:
        """To connections from now on, or a moment later."""
        self._put(certificate)
        self.process.send(signal.SIGHUP)

    def _put(self, certificate: Certificate) -> None:
        shutil.copyfile(certificate.cert, self.data / "server.pem")
        shutil.copyfile(certificate.key, self.data / "server.key")
        (self.data / "server.key").chmod(0o600)
        as_server(self.data / "server.key")
