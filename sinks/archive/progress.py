"""How far a base is, for whoever started it: a bar on a terminal, lines elsewhere.

In: the calls of `sinks.archive.base.Observer`. Out: rows by table, and the share of all rows as the server's statistics
estimate them: a guess, which never says 100 % before the last row.
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


class BaseProgress:
    """One per base that is taken."""

    def __init__(self, console: Console) -> None:
        self._bar: Progress | None = None
        if console.is_terminal:
            note = TextColumn("{task.fields[note]}", markup=False)
            self._bar = Progress(BarColumn(), note, console=console, transient=True)
            self._task = self._bar.add_task("", total=None, note="")
        self._said_at = -_EVERY_S
        self._estimates: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._done: set[str] = set()

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    # -- what a base tells --------------------------------------------------------------------------------------
    def waiting(self, what: str) -> None:
        self._show(f"waiting {what}")

    def begun(self, estimates: Mapping[str, int]) -> None:
        self._estimates, self._rows, self._done = dict(estimates), {}, set()

    def copying(self, table: str, rows: int, *, done: bool) -> None:
        self._rows[table] = rows
        if done:
            self._done.add(table)
        share = self.share
        self._show(f"{table}: {rows:,} rows{'' if done else ' so far'}; about {share:.0%} of all", share, now=done)

    def again(self, error: CdcError) -> None:
        self._show(f"beginning again: {error.text}", now=True)

    @property
    def share(self) -> float:
        """Of all rows, by the estimates; a table that is done, or holds more than was estimated, counts as it is."""
        total = sum(
            self._rows[table] if table in self._done else max(estimate, self._rows.get(table, 0) + 1)
            for table, estimate in self._estimates.items()
        )
        return sum(self._rows.values()) / total if total else 1.0

    def _show(self, text: str, share: float | None = None, *, now: bool = False) -> None:
        if self._bar:
            completed, total = (None, None) if share is None else (share, 1.0)
            self._bar.update(self._task, note=redact(text), completed=completed, total=total)
        elif now or time.monotonic() - self._said_at >= _EVERY_S:
            self._said_at = time.monotonic()
            tell(text)
