"""A real S3 store that is also reached by TLS, and encrypts what it is asked to.

In: an empty directory, an authority that signs. Out: a store with an `https` endpoint beside the tests' own; keys of
its own for SSE-S3.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path

from tests.servers.certificates import Authority
from tests.servers.process import free_port
from tests.servers.s3 import S3


class SecuredS3(S3):
    """One store."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        super().__init__(directory)
        self._certificate = authority.server("s3")
        self._sse_key = secrets.token_hex(32)
        self.trusted = authority.file
        self.https = free_port()

    def env(self, *, port: int | None = None) -> Mapping[str, str]:
        """What an AWS client needs, by TLS and nothing else."""
        endpoint = {"AWS_ENDPOINT_URL_S3": f"https://127.0.0.1:{port or self.https}"}
        return {**super().env(), **endpoint, "AWS_CA_BUNDLE": str(self.trusted)}

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"WEED_S3_SSE_KEY": self._sse_key}

    def _command(self) -> list[str]:
        certificate = self._certificate
        options = {"s3.port.https": self.https, "s3.cert.file": certificate.cert, "s3.key.file": certificate.key}
        return [*super()._command(), *(f"-{name}={value}" for name, value in options.items())]
