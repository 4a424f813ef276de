"""A statement of MySQL's in words: text → tokens → text that means the same in every session. Pure.

In: a statement as the log has it, the SQL mode of its session. Out: `scan` gives its tokens without comments, the words
of executable comments among them; `canonical` writes tokens with names in backticks and strings in single quotes.
Refuses: text in which a quote is left open (ValueError): no server ran it in that mode.

Format: MySQL 8.0 reference manual, 11.1 (literals), 11.2 (names), 11.7 (comments). A comment whose version the server
does not have is no longer executable in its log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

from sqlglot.dialects.mysql import MySQL

ANSI_QUOTES, NO_BACKSLASH_ESCAPES = 1 << 2, 1 << 20
"""Bits of sql_mode in a QUERY event (sql/query_options of the server: MODE_ANSI_QUOTES, MODE_NO_BACKSLASH_ESCAPES)."""

Kind = Literal["word", "name", "string", "number", "other"]
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_ESCAPE = re.compile(r"\\(.)|''|\"\"", re.DOTALL)
_WORD = r"[\w$\u0080-\U0010ffff]+"


class Grammar(MySQL):
    """The grammar of definitions: any word may be a type, MariaDB's own among them; whose type it is, others say."""

    SUPPORTS_USER_DEFINED_TYPES = True


class Token(NamedTuple):
    """`text`: a name or a string without its quotes, else as it was written. `apart`: something stood before it."""

    kind: Kind
    text: str
    apart: bool = True


def scan(text: str, sql_mode: int = 0) -> list[Token]:
    """All tokens of a statement, without the semicolon at its end."""
    pattern, escaped = _pattern(sql_mode & (ANSI_QUOTES | NO_BACKSLASH_ESCAPES)), not sql_mode & NO_BACKSLASH_ESCAPES
    tokens: list[Token] = []
    at, apart = 0, False
    while at < len(text):
        match = pattern.match(text, at)
        assert match, "any character is something"
        kind, found = match.lastgroup, match[0]
        if kind == "number" and found[0] == "." and tokens and not apart and tokens[-1].kind in ("word", "name"):
            # A name of digits, behind its schema's.
            kind, found = "other", "."
        at += len(found)
        if kind == "nothing":
            apart = True
            continue
        if kind in ("name", "string"):
            found = _unquoted(found, escaped=escaped and kind == "string")
        elif kind == "open":
            raise ValueError(f"a {found} is left open")
        tokens.append(Token(kind, found, apart))  # type: ignore[arg-type]
        apart = False
    while tokens and tokens[-1][:2] == ("other", ";"):
        tokens.pop()
    return tokens


@cache
def _pattern(sql_mode: int) -> re.Pattern[str]:
    inside = "" if sql_mode & NO_BACKSLASH_ESCAPES else r"|\\."
    escape = "" if sql_mode & NO_BACKSLASH_ESCAPES else r"\\"
    single, double = (rf"{q}(?:[^{q}{escape}]|{q}{q}{inside})*{q}(?!{q})" for q in ("'", '"'))
    backticks = r"`(?:[^`]|``)*`"
    names, strings = (f"{backticks}|{double}", single) if sql_mode & ANSI_QUOTES else (backticks, f"{single}|{double}")
    return re.compile(
        r"(?P<nothing>\s+|/\*M?!\d*|\*/|/\*.*?\*/|--(?=\s|$)[^\n]*|\#[^\n]*)"
        r"|(?P<number>[xX]'[0-9a-fA-F]*'|[bB]'[01]*'|(?:0x[0-9a-fA-F]+|0b[01]+"
        r"|(?:\d+\.\d*|\.?\d+)(?:[eE][+-]?\d+)?)(?![\w$]))"
        rf"|(?P<name>{names})|(?P<string>{strings})|(?P<word>{_WORD})|(?P<open>['\"`])|(?P<other>.)",
        re.DOTALL,
    )


def _unquoted(quoted: str, *, escaped: bool) -> str:
    inner, quote = quoted[1:-1], quoted[0]
    if not escaped:
        return inner.replace(quote * 2, quote)
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]) if match[1] else _halved(match[0], quote), inner)


def _halved(quotes: str, quote: str) -> str:
    return quote if quotes[0] == quote else quotes


def canonical(tokens: Sequence[Token]) -> str:
    """One statement, or a part of one, as a session without any SQL mode would write it."""
    return "".join((" " if token.apart else "") + _written(token) for token in tokens).strip()


def _written(token: Token) -> str:
    match token.kind:
        case "name":
            return f"`{token.text.replace('`', '``')}`"
        case "string":
            escaped = token.text.replace("\\", "\\\\").replace("'", "''")
            return f"'{escaped}'"
    return token.text
