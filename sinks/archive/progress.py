"""How far a base or a restore is, for whoever started it: a bar on a terminal, lines elsewhere.

In: the calls of `sinks.archive.base.Observer` and `sinks.archive.restore.Observer`. Out, on stderr: rows by table, the
share of all work and the time that is left. Both are guesses: the server's statistics estimate a base's rows, a
restore's are the base's and the changes since; neither ever says 100 % before the last row.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cdc.commands.terminal import tell
from cdc.errors import CdcError
from cdc.secret import redact

_EVERY_S = 10.0


class _Shown:
    """A line that is drawn anew, or now and then another line."""

    def __init__(self, console: Console | None) -> None:
        self._bar: Progress | None = None
        if console is not None and console.is_terminal:
            note = TextColumn("{task.fields[note]}", markup=False)
            self._bar = Progress(BarColumn(), note, console=console, transient=True)
            self._task = self._bar.add_task("", total=None, note="")
        self._quiet = console is None
        self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def _show(self, text: str, share: float | None = None, *, now: bool = False) -> None:
        if self._bar:
            completed, total = (None, None) if share is None else (share, 1.0)
            self._bar.update(self._task, note=redact(text), completed=completed, total=total)
        elif not self._quiet and (now or time.monotonic() - self._said_at >= _EVERY_S):
            self._said_at = time.monotonic()
            tell(text)


class _Rows:
    """Rows of tables, done and estimated."""

    def __init__(self, estimates: Mapping[str, int]) -> None:
        self._estimates = estimates
        self._rows: dict[str, int] = {}
        self._done: set[str] = set()

    def at(self, table: str, rows: int, *, done: bool) -> None:
        self._rows[table] = rows
        if done:
            self._done.add(table)

    @property
    def seen(self) -> int:
        return sum(self._rows.values())

    @property
    def total(self) -> int:
        """A table that is done, or holds more than was estimated, counts as it is."""
        return sum(
            self._rows[table] if table in self._done else max(estimate, self._rows.get(table, 0) + 1)
            for table, estimate in self._estimates.items()
        )


class BaseProgress(_Shown):
    """One per base that is taken."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._rows = _Rows({})
        self._said_at -= _EVERY_S

    def waiting(self, what: str) -> None:
        self._show(f"waiting {what}")

    def begun(self, estimates: Mapping[str, int]) -> None:
        self._rows = _Rows(estimates)

    def copying(self, table: str, rows: int, *, done: bool) -> None:
        self._rows.at(table, rows, done=done)
        share = self.share
        self._show(f"{table}: {rows:,} rows{'' if done else ' so far'}; about {share:.0%} of all", share, now=done)

    def again(self, error: CdcError) -> None:
        self._show(f"beginning again: {error.text}", now=True)

    @property
    def share(self) -> float:
        return self._rows.seen / self._rows.total if self._rows.total else 1.0


class RestoreProgress(_Shown):
    """One per restore; None as console: nothing is shown."""

    def __init__(self, console: Console | None) -> None:
        super().__init__(console)
        self._changes, self._read, self._rows = 0, 0, _Rows({})
        self._began = time.monotonic()

    def begun(self, changes: int, rows: Mapping[str, int]) -> None:
        self._changes, self._read, self._rows = changes, 0, _Rows(rows)
        self._began = time.monotonic()

    def reading(self, changes: int) -> None:
        self._read = changes
        self._show(f"changes: {changes:,} of {self._changes:,} read; {self._left}", self.share)

    def loading(self, table: str, rows: int, *, done: bool) -> None:
        self._rows.at(table, rows, done=done)
        self._show(f"{table}: {rows:,} rows{'' if done else ' so far'}; {self._left}", self.share)

    def step(self, what: str) -> None:
        self._show(what)

    @property
    def share(self) -> float:
        total = self._changes + self._rows.total
        return (self._read + self._rows.seen) / total if total else 1.0

    @property
    def _left(self) -> str:
        """Of reading and loading; how long indexes take afterwards nobody knows beforehand."""
        share, took = self.share, time.monotonic() - self._began
        left = took / share - took if share else 0.0
        return f"about {share:.0%} of all rows, {left:.0f} s left for the rest"
