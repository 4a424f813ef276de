"""As much of a value as a message shows. Pure.

In: a text of any length, a value or what a server says of one. Out: the text, or its beginning and how long it is.
"""

from __future__ import annotations

_VALUE = 100
WORDS = 2_000
"""Of a server's message, which may hold a value."""


def excerpt(text: str, limit: int = _VALUE) -> str:
    """The text where it is short enough."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
