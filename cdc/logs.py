"""Log lines: one per change of state, `time level event key=value …`, to stderr, without secrets.

In: structlog's calls of our own modules, the standard library's of our clients. Out: lines. Modules say
`structlog.get_logger()`; only commands call what is here, and observers `Seldom`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any

import structlog

from cdc.secret import redact

_EVERY_S = 60.0


def quiet() -> None:
    """For commands that report by themselves: what a client says of its troubles comes back as their error."""
    logging.getLogger().addHandler(logging.NullHandler())


def configure() -> None:
    """Once, by a command that runs on."""
    common: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # It warns of a pipeline that an error ended; the error itself is raised, and handled or told.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # It says at each start where it found credentials.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    # It quotes statements, and in them what nobody may see; what it cannot read is refused by name.
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    # What it prints when a line cannot be written is the line's raw parts, secrets included.
    logging.raiseExceptions = False


def render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """`2026-11-22T03:10:00.000001Z info run started source=shop position=1:0/1A2B3C`."""
    head = f"{event.pop('timestamp')} {event.pop('level')} {event.pop('event')}"
    pairs = (f"{key}={_value(value)}" for key, value in event.items() if value is not None)
    return redact(" ".join([head, *pairs]))


def _value(value: object) -> str:
    text = " ".join(str(value).split())
    return f'"{text}"' if not text or " " in text or "=" in text else text


class Seldom:
    """A trouble that goes on is said again, but not each time."""

    def __init__(self) -> None:
        self._said: tuple[object, float] = (None, 0.0)

    def due(self, what: object) -> bool:
        """Whether to say it now: it is another one, or was last said a minute ago."""
        known, said_at = self._said
        now = time.monotonic()
        if known == what and now - said_at < _EVERY_S:
            return False
        self._said = (what, now)
        return True
