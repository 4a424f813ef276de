"""What a role may do: the lines of SHOW GRANTS → answers. Pure.

In: lines as the server writes them, roles that are active merged into them. Out: whether a privilege holds for the
server, a database or a table. A right on single columns is none here, nor is one on a routine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

_NAME = r"\*|`(?:[^`]|``)+`"
_LINE = re.compile(rf"(?P<verb>GRANT|REVOKE) (?P<what>.+?) ON (?P<database>{_NAME})\.(?P<table>{_NAME}) (?:TO|FROM) ")
_COLUMNS = re.compile(r"[^,(]+\([^)]*\),?")
_EVERY = "*"
_SAME = {"BINLOG MONITOR": "REPLICATION CLIENT"}
"""What MariaDB calls a right, and what MySQL does."""


@dataclass(frozen=True, slots=True)
class _Right:
    privilege: str
    database: str
    table: str


@dataclass(frozen=True, slots=True)
class Grants:
    """Rights given, and those taken away again for a database (`partial_revokes`)."""

    given: frozenset[_Right]
    taken: frozenset[_Right]
    wildcards: bool
    """Whether % and _ in a database's name stand for others."""

    @classmethod
    def parse(cls, lines: Iterable[str], *, wildcards: bool) -> Self:
        found: dict[str, set[_Right]] = {"GRANT": set(), "REVOKE": set()}
        for line in lines:
            if match := _LINE.match(line):
                place = _unquoted(match["database"]), _unquoted(match["table"])
                whole = _COLUMNS.sub("", match["what"])
                named = (_SAME.get(privilege.strip(), privilege.strip()) for privilege in whole.split(","))
                rights = {_Right(privilege, *place) for privilege in named if privilege}
                found[match["verb"]] |= rights
        return cls(frozenset(found["GRANT"]), frozenset(found["REVOKE"]), wildcards)

    def everywhere(self, privilege: str) -> bool:
        return self._given(privilege, _EVERY, _EVERY) and not any(right.privilege == privilege for right in self.taken)

    def on(self, privilege: str, database: str, table: str = _EVERY) -> bool:
        """On a table, or on every table that a database has or will have."""
        taken = {right.database for right in self.taken if right.privilege == privilege}
        if self._given(privilege, _EVERY, _EVERY) and database not in taken:
            return True
        databases = {right.database for right in self.given if right.table == _EVERY and right.database != _EVERY}
        if any(self._given(privilege, name, _EVERY) for name in databases if self._means(name, database)):
            return True
        return self._given(privilege, database, table)

    def _given(self, privilege: str, database: str, table: str) -> bool:
        return any(_Right(name, database, table) in self.given for name in (privilege, "ALL PRIVILEGES"))

    def _means(self, granted: str, database: str) -> bool:
        if not self.wildcards:
            return granted == database
        parts = re.findall(r"\\.|.", granted, re.DOTALL)
        pattern = "".join({"%": ".*", "_": "."}.get(part, re.escape(part.removeprefix("\\"))) for part in parts)
        return bool(re.fullmatch(pattern, database, re.DOTALL))


def _unquoted(name: str) -> str:
    return name if name == _EVERY else name[1:-1].replace("``", "`")
