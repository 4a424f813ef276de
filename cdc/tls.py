"""Why a TLS connection does not come about, in words: what clients say of it is often less. I/O, of errors alone.

In: a server's address, whom to trust, and whether TLS is meant to be spoken. Out: one sentence, "" where nothing is
wrong. Refuses nothing; it sends no certificate and no login.
"""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from pathlib import Path

_PATIENCE_S = 3.0


def fault(host: str, port: int, *, ca_file: str | None = None, check_host: bool = True, request: bytes = b"") -> str:
    """What is wrong with the server's certificate, or with its speaking TLS at all.

    `request`: what a protocol that begins in plain text asks for TLS by; the answer is one byte.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.check_hostname = check_host
        _greet(host, port, context, request)
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {host}:{port} is not trusted: {error.verify_message.rstrip('.')}"
    except (ssl.SSLError, ConnectionResetError):
        return f"{host}:{port} does not speak TLS, or breaks it off"
    except OSError as error:
        # Before a connection, it is a file that cannot be read.
        return f"{ca_file} cannot be used: {error.strerror}" if error.filename else ""
    return ""


def speaks_tls(host: str, port: int) -> bool:
    """Whether a server that was addressed in plain text would rather have TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _greet(host, port, context)
    except OSError:
        return False
    return True


def expired(certificate: str) -> str:
    """What a server, of a client's certificate in a file, would not say."""
    from cryptography import x509  # noqa: PLC0415 - who uses no certificate need not wait for it to load

    found = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
    if dt.datetime.now(dt.UTC) <= found.not_valid_after_utc:
        return ""
    return f"the certificate {certificate} expired at {found.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"


def _greet(host: str, port: int, context: ssl.SSLContext, request: bytes = b"") -> None:
    with socket.create_connection((host, port), _PATIENCE_S) as plain:
        if request:
            plain.sendall(request)
            plain.recv(1)
        context.wrap_socket(plain, server_hostname=host).close()
