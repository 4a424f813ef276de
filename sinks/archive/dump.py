"""A database's schema as its own tool writes it: pg_dump's text, cut into entries that a restore may choose from.

In: a server, an exported snapshot. Out: `Dump`, the entries of pre-data and post-data in the order they are created in.
Refuses: no pg_dump, or one older than the server (PG_DUMP_MISSING); one that fails (PG_DUMP_FAILED).
What is ours is left out: schema `cdc`, the source's publication, our event triggers.

The text is cut at the comments that pg_dump writes before each object. A function's body or a default may hold a line
that looks the same, so only a comment counts that stands outside of every quotation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from itertools import pairwise

from cdc.errors import PG_DUMP_FAILED, PG_DUMP_MISSING, CdcError
from cdc.event import Engine
from cdc.postgres.messages import TRIGGERS
from cdc.postgres.session import Server
from cdc.secret import redact
from sinks.archive.manifest import Object

_LETTER = r"[A-Za-z_\u0080-\U0010ffff]"
_NO_LETTER = r"(?<![\w$\u0080-\U0010ffff])"
_DOLLAR = rf"{_NO_LETTER}\$(?:{_LETTER}[\w\u0080-\U0010ffff]*)?\$"
_TOKEN = re.compile(
    rf"""
      (?P<comment> --[^\n]* )
    | (?P<nested> /\* )
    | {_NO_LETTER}[eE] ' (?: [^'\\] | \\. | '' )* '
    | ' [^']* '
    | " [^"]* "
    | (?P<dollar> {_DOLLAR} )
    | (?P<open> ['"] )
    """,
    re.VERBOSE | re.DOTALL,
)
_HEADER = re.compile(r"-- Name: (?P<name>.*); Type: (?P<type>[A-Z ]+); Schema: (?P<schema>.*); Owner: .*")
_RULE = "--\n"
_END = "-- PostgreSQL database dump complete"
_AHEAD = re.compile(r"\n*^SET default_(?P<what>\w+) = (?P<value>.*);\n*\Z", re.MULTILINE)
"""What pg_dump sets for the entries that follow it; it stands behind the one before."""
_NAMED = re.compile(
    r"(?:CREATE|ALTER|COMMENT ON|SECURITY LABEL FOR \S+ ON) (?P<what>PUBLICATION|EVENT TRIGGER) "
    r'(?P<name>"(?:[^"]|"")*"|[^\s;]+)'
)
_SETTINGS = {"standard_conforming_strings": "on"}
"""Else a backslash escapes in every literal of the text, and what reads it would have to know."""
_VERSION = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)\S*)")


# -- what is kept -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Entry:
    """What makes one object, or a property of one. `schema` is empty for what stands outside of schemas.

    Of MySQL: what the session is set to while it is made, and whose rights the object has.
    """

    name: str
    type: str
    schema: str
    sql: str
    settings: dict[str, str] = field(default_factory=dict)
    definer: str = ""


class Dump(Object):
    """`schema.json` of a base. `pre` makes what rows need, `post` what is made behind them.

    `pg_dump`: its version; a MySQL server writes its schema itself (`show_create`).
    """

    engine: Engine = "postgresql"
    pg_dump: str = ""
    pre: tuple[Entry, ...]
    post: tuple[Entry, ...]


# -- cutting, pure ----------------------------------------------------------------------------------------------
def split(text: str) -> list[Entry]:
    """The entries of a plain dump; what stands before the first one sets up pg_dump's own session."""
    marks: list[tuple[int, re.Match[str] | None]] = []
    for start, line in _comments(text):
        header = _HEADER.fullmatch(line)
        if header and text.endswith(_RULE, 0, start):
            marks.append((start, header))
        elif line == _END:
            marks.append((start, None))
    entries = []
    _, method = _ahead(text[: marks[0][0]] if marks else "", "heap")
    for (start, header), (following, _) in pairwise(marks):
        if header is None:
            break
        own_method = method
        body, method = _ahead(text[start + len(header[0]) : following].removeprefix("\n--\n"), method)
        schema = "" if header["schema"] == "-" else header["schema"]
        entries.append(Entry(header["name"], header["type"], schema, _by_method(body.strip("\n"), own_method)))
    if not marks or marks[-1][1] is not None:
        raise ValueError("it does not end as a dump does")
    return entries


def _comments(text: str) -> list[tuple[int, str]]:
    """Every line comment outside of quotations, and where it begins."""
    found, at = [], 0
    while token := _TOKEN.search(text, at):
        at = token.end()
        if token["comment"]:
            found.append((token.start(), token["comment"]))
        elif token["nested"]:
            at = _behind_comment(text, at)
        elif token["dollar"]:
            at = text.find(token["dollar"], at) + len(token["dollar"])
            if at < token.end():
                raise ValueError(f"a quotation that begins at {token.start()} does not end")
        elif token["open"]:
            raise ValueError(f"a quotation that begins at {token.start()} does not end")
    return found


def _behind_comment(text: str, at: int) -> int:
    depth = 1
    for token in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if token[0] == "/*" else -1
        if depth == 0:
            return token.end()
    raise ValueError("a comment does not end")


def _ahead(body: str, method: str) -> tuple[str, str]:
    """A body without the settings behind it, and the table access method that they leave in force."""
    body, settings = body.removesuffix(_RULE), []
    while setting := _AHEAD.search(body):
        settings.append(setting)
        body = body[: setting.start()]
    for setting in reversed(settings):
        if setting["what"] == "table_access_method":
            method = setting["value"]
    return body, method


def _by_method(sql: str, method: str) -> str:
    """An entry stands alone: it brings the setting that stood before it, where it is not the usual one."""
    if method == "heap":
        return sql
    return f"SET default_table_access_method = {method};\n{sql}\nRESET default_table_access_method;"


def is_ours(entry: Entry, publication: str) -> bool:
    """What the source was set up with; nothing of it belongs into a restored database."""
    found = _NAMED.match(entry.sql)
    if not found:
        return False
    name = found["name"]
    name = name[1:-1].replace('""', '"') if name.startswith('"') else name
    return name == publication if found["what"] == "PUBLICATION" else name in TRIGGERS


# -- running ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Program:
    """A pg_dump."""

    path: str
    version: str


def find_program(server: Server, server_version: int) -> Program:
    """`$PG_DUMP`, or the one on PATH; it must be of the server's version or later."""
    wanted, named = server_version // 10000, os.environ.get("PG_DUMP")
    path = shutil.which(named or "pg_dump")
    if path is None:
        problem = f"PG_DUMP={named} is no program" if named else "there is no pg_dump on PATH"
        raise CdcError(PG_DUMP_MISSING, problem=problem, version=wanted)
    found = _VERSION.search(_output([path, "--version"], server))
    if found is None:
        raise CdcError(PG_DUMP_MISSING, problem=f"{path} does not tell its version", version=wanted)
    if int(found["major"]) < wanted:
        problem = f"{path} is version {found['version']}, older than the server"
        raise CdcError(PG_DUMP_MISSING, problem=problem, version=wanted)
    return Program(path, found["version"])


def dump(program: Program, server: Server, snapshot: str, publication: str) -> Dump:
    """The schema that the snapshot shows."""
    pre, post = (
        tuple(entry for entry in _section(program, server, snapshot, section) if not is_ours(entry, publication))
        for section in ("pre-data", "post-data")
    )
    return Dump(pg_dump=program.version, pre=pre, post=post)


def _section(program: Program, server: Server, snapshot: str, section: str) -> list[Entry]:
    command = [
        program.path, "--schema-only", f"--section={section}", f"--snapshot={snapshot}", "--exclude-schema=cdc",
        "--no-owner", "--no-privileges", "--no-subscriptions", "--no-tablespaces", "--encoding=UTF8", "--no-password",
        # Command lines can be seen by everybody: the password goes another way.
        f"--dbname={replace(server, password=None).conninfo(settings=_SETTINGS)}",
    ]  # fmt: skip
    try:
        return split(_output(command, server))
    except ValueError as error:
        raise CdcError(PG_DUMP_FAILED, source=server.name, program=program.path, problem=error) from None


def _output(command: list[str], server: Server) -> str:
    secret = server.password or ""
    environment = os.environ | ({"PGPASSWORD": secret} if secret else {}) | {"LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603
    except OSError as error:
        problem = error.strerror or str(error)
    else:
        if done.returncode == 0:
            return done.stdout.decode()
        problem = done.stderr.decode(errors="replace") or f"it ended with {done.returncode}"
    problem = redact(" ".join(problem.split()), [secret])
    raise CdcError(PG_DUMP_FAILED, source=server.name, program=command[0], problem=redact(problem))
