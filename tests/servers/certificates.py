"""Certificates for the servers of tests and their clients: an authority of our own, and what it signs.

In: a directory, names. Out: PEM files: `Authority.file` to trust, `Certificate` for a server or a client. All of it is
made anew for each session and worth nothing outside it.
"""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = dt.timedelta(days=2)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key. `both` is one file of the two, as Java reads it."""

    cert: Path
    key: Path
    both: Path


class Authority:
    """Signs for servers and clients; two of them know nothing of each other."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory / name
        self._directory.mkdir(parents=True)
        self._directory.chmod(0o755)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"cdc tests, {name}")])
        builder = self._builder(self._name, self._key, expired=False)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, encipher_only=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, decipher_only=False,
        )  # fmt: skip
        self._certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @cached_property
    def file(self) -> Path:
        """Its own certificate, for those who trust it."""
        return self._write("ca.pem", self._certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str = "server", *, host: str = "127.0.0.1", expired: bool = False) -> Certificate:
        """For a server at `host`, an address or a name."""
        return self._issue(name, host=host, expired=expired)

    def client(self, name: str, *, expired: bool = False) -> Certificate:
        """For somebody who is `CN=name`."""
        return self._issue(name, host=None, expired=expired)

    def _issue(self, name: str, *, host: str | None, expired: bool) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if host else ExtendedKeyUsageOID.CLIENT_AUTH
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, expired=expired).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(host)]), critical=False)
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Certificate(
            self._write(f"{name}.pem", pem),
            self._write(f"{name}.key", secret, mode=0o600),
            self._write(f"{name}.both.pem", secret + pem, mode=0o600),
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool
    ) -> x509.CertificateBuilder:
        end = dt.datetime.now(dt.UTC) + (-_LIFE / 2 if expired else _LIFE)
        signer = self._key.public_key()
        return (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(end - 2 * _LIFE)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
        )

    def _write(self, name: str, data: bytes, *, mode: int = 0o644) -> Path:
        file = self._directory / name
        file.touch(mode=mode)
        file.write_bytes(data)
        return file


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
