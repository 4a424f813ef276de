"""What the commands print: plain text, colour on a terminal only, never a secret.

Reports go to stdout, everything else to stderr. `[kafka]` is text here, not markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from rich.console import Console

from cdc.errors import CdcError
from cdc.secret import redact

_out = Console(markup=False, highlight=False, soft_wrap=True)
_err = Console(markup=False, highlight=False, soft_wrap=True, stderr=True)


def say(text: str = "", style: str | None = None, *, end: str = "\n") -> None:
    """A line of a report."""
    _out.print(redact(text), style=style, end=end)


def tell(text: str, style: str | None = None) -> None:
    """A line beside a report."""
    _err.print(redact(text), style=style)


def say_json(value: Any) -> None:
    """A report for programs: one JSON document."""
    _out.print(orjson.dumps(_redacted(value), default=str, option=orjson.OPT_INDENT_2).decode())


def _redacted(value: Any) -> Any:
    """Value by value: a short secret must not change the document's form."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _redacted(item) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, list | tuple) else value


def tell_error(error: CdcError) -> None:
    """An error of the catalogue, without a traceback: what, where, what to do."""
    head, _, hint = str(error).partition("\n  what to do: ")
    _err.print(redact(f"error {head}"), style="bold red")
    if hint:
        _err.print(redact(f"  what to do: {hint}"))


def console(*, stderr: bool = False) -> Console:
    """For what draws itself anew."""
    return _err if stderr else _out
