"""Secrets: where they stand, when they are read, and how they are kept out of every text.

In: `"${NAME}"` (environment) or `"file:/path"`. Out: the secret, read when it is asked for.
Refuses: a secret written in plain text (`ValueError`), one that cannot be read or is empty (CONFIG_SECRET).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cdc.errors import ARCHIVE_KEY_INVALID, CONFIG_SECRET, CdcError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FILE = re.compile(r"file:(/.+)")
_resolved: set[str] = set()


def redact(text: str, known: Iterable[str] | None = None) -> str:
    """The text without these secrets; without a list, without any that this process has read."""
    for secret in sorted(_resolved if known is None else known, key=len, reverse=True):
        for form in {secret, quote(secret, safe="")} - {""}:
            text = text.replace(form, "***")
    return text


@dataclass(frozen=True, slots=True)
class Secret:
    """A reference to a secret; showing it shows where it stands, never what it is."""

    reference: str
    config: str = "cdc.toml"

    def __post_init__(self) -> None:
        if not is_reference(self.reference):
            raise ValueError('a secret is not written here: "${NAME}" names a variable, "file:/path" a file')

    def __str__(self) -> str:
        return self.reference

    def resolve(self, section: str, key: str) -> str:
        """Read it now."""
        try:
            text = self._read()
        except KeyError as error:
            raise self._missing(section, key, f"environment variable {error.args[0]} is not set") from None
        except OSError as error:
            raise self._missing(section, key, f"{self} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self._missing(section, key, f"{self} is not text in UTF-8") from None
        if not text:
            raise self._missing(section, key, f"{self} is empty")
        _resolved.add(text)
        return text

    def _read(self) -> str:
        variable = _VARIABLE.fullmatch(self.reference)
        if variable:
            return os.environ[variable[1]]
        return Path(self.reference.removeprefix("file:")).read_text(encoding="utf-8").strip("\r\n")

    def _missing(self, section: str, key: str, problem: str) -> CdcError:
        return CdcError(CONFIG_SECRET, file=self.config, section=section, key=key, problem=problem)


def new_key() -> str:
    """A key for an archive, as text: 32 random bytes in base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def parse_key(text: str) -> bytes:
    """The 32 bytes of a key's text; ARCHIVE_KEY_INVALID without a word of the text."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        problem = "it is not 32 bytes in base64 (44 characters); make one with: openssl rand -base64 32"
        raise CdcError(ARCHIVE_KEY_INVALID, problem=problem)
    _resolved.add(text.strip())
    return key


def is_reference(text: str) -> bool:
    """Whether a text names a secret's place."""
    return bool(_VARIABLE.fullmatch(text) or _FILE.fullmatch(text))
