"""An object while it is written: sealed as it grows, in a file without a name, put to the store when it is complete.

In: an archive, the object's name, plain bytes by `stream`. Out: the object in the store, and what vouches for it.
Refuses: nothing of its own. The file holds what would be stored, nothing plainer; a kill leaves nothing of it.
"""

from __future__ import annotations

import hashlib
import io
from tempfile import TemporaryFile
from typing import IO, Any, cast

from sinks.archive.archive import Archive
from sinks.archive.manifest import Stored


class Body:
    """One object. Write to `stream`, then `put`."""

    def __init__(self, archive: Archive, name: str) -> None:
        self._archive, self._name = archive, name
        self._file = cast("IO[bytes]", TemporaryFile())  # noqa: SIM115 - it lives as long as this
        self._hashing = _Hashing(self._file)
        self.stream = archive.seal.writer(name, self._hashing)

    def put(self) -> Stored:
        self.stream.close()
        self._file.seek(0)
        self._archive.store.put(self._name, self._file)
        self._file.close()
        return Stored(name=self._name, size=self._hashing.size, sha256=self._hashing.hash.hexdigest())


class _Hashing(io.RawIOBase):
    """Writes through, and knows what went through."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.hash, self.size = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._file.write(data)
