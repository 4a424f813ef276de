"""DuckDB on an encrypted scratch file: the only home of duckdb. I/O.

In: Arrow batches, SQL. Out: rows and Arrow batches. Refuses: to run without encryption of what it spills
(SCRATCH_UNENCRYPTED): an archive's rows are never plain on a disk.

The key is random and dies with the process; the file has no rows that anybody can read afterwards, also after a kill.
What a killed one left, the next one removes.
"""

from __future__ import annotations

import fcntl
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import duckdb_extension_httpfs
import pyarrow as pa

from cdc.closing import Closing
from cdc.errors import SCRATCH_UNENCRYPTED, CdcError

_PREFIX, _LOCK = "cdc-restore-", "lock"
MEMORY = "384MB"
BATCH_ROWS = 50_000
BATCH_BYTES = 16 << 20
_STEP_ROWS = 2048


class Scratch(Closing):
    """One restore's working memory."""

    def __init__(self, directory: Path | None = None, memory: str = MEMORY) -> None:
        _clear(Path(directory or tempfile.gettempdir()))
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
        self._lock = (self._folder / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._connection, self._aside = duckdb.connect(), duckdb.connect()
        execute = self._connection.execute
        try:
            # Its cryptography is OpenSSL's; DuckDB's own may only read.
            (extension,) = Path(duckdb_extension_httpfs.__path__[0]).glob("extensions/*/httpfs.duckdb_extension")
            execute(f"LOAD '{extension}'")
            execute("SET temp_file_encryption = true")
            execute(f"SET temp_directory = '{self._folder / 'spill'}'")
            execute(f"SET memory_limit = '{memory}'")
            execute("SET preserve_insertion_order = false")
            execute("SET enable_progress_bar = false")
            execute(f"ATTACH '{self._folder / 'scratch.db'}' AS scratch (ENCRYPTION_KEY '{secrets.token_hex(32)}')")
            execute("USE scratch")
            # It sees one batch at a time and has nothing to spill.
            self._aside.execute("SET temp_directory = ''")
        except (duckdb.Error, ValueError) as error:
            self.close()
            raise CdcError(SCRATCH_UNENCRYPTED, problem=str(error).splitlines()[0]) from None

    def run(self, statement: str, *parameters: object) -> None:
        self._connection.execute(statement, parameters)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters).fetchall()

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The result, a batch of so many rows or bytes at a time; nothing else may run meanwhile."""
        held: list[pa.RecordBatch] = []
        rows = size = 0
        for step in self._connection.execute(query).to_arrow_reader(_STEP_ROWS):
            held.append(step)
            rows, size = rows + step.num_rows, size + step.nbytes
            if rows >= BATCH_ROWS or size >= BATCH_BYTES:
                yield pa.concat_batches(held)
                held, rows, size = [], 0, 0
        if held:
            yield pa.concat_batches(held)

    def over(self, data: pa.RecordBatch | pa.Table) -> Over:
        """Make Arrow data readable as `incoming` within a `with`."""
        return Over(self._connection, data)

    def aside(self, data: pa.RecordBatch, query: str) -> list[tuple[Any, ...]]:
        """A query over `incoming` on a connection of its own, while `batches` is being read on the other."""
        self._aside.register("incoming", data)
        return self._aside.execute(query).fetchall()

    def close(self) -> None:
        self._aside.close()
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()


def _clear(directory: Path) -> None:
    """Remove what killed restores left: a living one holds its lock, and nobody else has its key."""
    for lock in directory.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError), lock.open("w") as file:  # somebody else's, or gone by now
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


class Over:
    """Arrow data under the name `incoming`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, data: pa.RecordBatch | pa.Table) -> None:
        self._connection, self._data = connection, data

    def __enter__(self) -> None:
        self._connection.register("incoming", self._data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.unregister("incoming")
