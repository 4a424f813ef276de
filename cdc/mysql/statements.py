"""What a statement in the log means for captured tables: its text → what it does. Pure.

In: the text of a QUERY event, the database it ran in, the SQL mode of its session. Out: what kind of statement it is
(`read_statement`), and whether it is published (`is_told`). Refuses: nothing; a statement about tables that is not
understood stops every table (`Stopping`), and one that is not known at all counts as changed rows (`RowsChanged`):
what passes in silence is only what cannot change a table's rows.

Rows are never decoded by what is read here: TABLE_MAP must agree with the shape before the next row (`tables`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from cdc.mysql.tokens import Grammar, Token, canonical, scan

EVERY = "*"
"""In `Stopping`: any table."""
_NO_ROWS = frozenset({
    "GRANT", "REVOKE", "SET", "FLUSH", "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK", "INSTALL", "UNINSTALL",
    "SAVEPOINT", "RELEASE", "ROLLBACK", "COMMIT", "BEGIN", "START", "XA", "KILL", "RESET", "CACHE", "CHANGE", "STOP",
    "LOCK", "UNLOCK",
})  # fmt: skip
_TOLD = frozenset({"CREATE", "ALTER", "DROP", "TRUNCATE", "RENAME"})
_ACCOUNTS = frozenset({"USER", "ROLE", "SERVER"})
_INDEXES = frozenset({"INDEX", "KEY", "FULLTEXT", "SPATIAL", "UNIQUE", "CONSTRAINT", "PRIMARY", "FOREIGN", "CHECK"})
_ROWS_STAY = frozenset({
    "ALGORITHM", "ANALYZE", "AUTOEXTEND_SIZE", "AUTO_INCREMENT", "AVG_ROW_LENGTH", "CHARACTER", "CHARSET", "CHECK",
    "CHECKSUM", "COLLATE", "COMMENT", "COMPRESSION", "CONNECTION", "DATA", "DEFAULT", "DELAY_KEY_WRITE", "DISABLE",
    "ENABLE", "ENCRYPTION", "ENGINE", "ENGINE_ATTRIBUTE", "FORCE", "INDEX", "INSERT_METHOD", "KEY_BLOCK_SIZE", "LOCK",
    "MAX_ROWS", "MIN_ROWS", "OPTIMIZE", "ORDER", "PACK_KEYS", "PARTITION", "PASSWORD", "REBUILD", "REMOVE",
    "REORGANIZE", "ROW_FORMAT", "SECONDARY_ENGINE", "SECONDARY_ENGINE_ATTRIBUTE", "SECONDARY_LOAD",
    "SECONDARY_UNLOAD", "STATS_AUTO_RECALC", "STATS_PERSISTENT", "STATS_SAMPLE_PAGES", "STORAGE", "TABLESPACE",
    "UNION", "UPGRADE", "WITH", "WITHOUT",
})  # fmt: skip
"""What an action of ALTER TABLE may begin with that leaves rows and columns as they are."""
_ROWS_GO = frozenset({"COALESCE", "CONVERT", "DISCARD", "DROP", "EXCHANGE", "IMPORT", "TRUNCATE"})
_REPLACE = re.compile(r"^REPLACE\b", re.IGNORECASE)
_ROWS_CHANGED = "its rows were changed by DDL"
_NOT_UNDERSTOOD = "it was changed in words that are not understood"


@dataclass(frozen=True, slots=True)
class Altered:
    """ALTER TABLE, read. `dropped` and `added` columns; neither for what does not concern rows.

    `keys`: constraints that were dropped, foreign keys among them.
    """

    table: str
    dropped: tuple[str, ...] = ()
    added: tuple[exp.ColumnDef, ...] = ()
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Truncated:
    table: str


@dataclass(frozen=True, slots=True)
class Stopping:
    """Changes these tables, or all of a database (`name.*`), or any (`EVERY`), in a way that is not followed."""

    tables: tuple[str, ...]
    change: str

    def concerns(self, name: str) -> bool:
        return any(one in (EVERY, name) or (one.endswith(".*") and name.startswith(one[:-1])) for one in self.tables)


@dataclass(frozen=True, slots=True)
class RowsChanged:
    """Rows changed by a statement whose rows are not in the log. `tables`: None if they cannot be told."""

    tables: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Created:
    """A table that has no triggers yet; None for what else was made, a view or a trigger perhaps."""

    table: str | None


@dataclass(frozen=True, slots=True)
class NoRows:
    """What changes no rows of any table."""


Meaning = Altered | Created | Truncated | Stopping | RowsChanged | NoRows


class _NotUnderstood(Exception):  # noqa: N818 - it becomes a `Stopping`
    """Other words than those that stand here."""


def is_told(text: str, sql_mode: int = 0) -> bool:
    """Whether a statement is published as it was written: what defines data, no account, whose text holds secrets."""
    try:
        words = _alone(_Words(scan(text, sql_mode)))
    except (ValueError, _NotUnderstood):
        return False
    return words.upper(0) in _TOLD and words.upper(1) not in _ACCOUNTS


def read_statement(text: str, database: str, sql_mode: int = 0, *, lower: bool = False) -> Meaning:
    """`database`: where names without one belong. `lower`: the server writes names of tables so."""
    try:
        words = _Words(scan(text, sql_mode), database, lower=lower)
    except ValueError:
        return RowsChanged(None)
    try:
        return _meaning(_alone(words))
    except _NotUnderstood:
        return Stopping((EVERY,), _NOT_UNDERSTOOD)


def _alone(words: _Words) -> _Words:
    """Without MariaDB's settings for this statement alone."""
    return words.behind("FOR") if words.take("SET", "STATEMENT") else words


def _meaning(words: _Words) -> Meaning:
    match words.upper(0), words.upper(1):
        case "CREATE", _:
            return _created(words.rest(1))
        case "DROP", _:
            return _gone(words.rest(1))
        case "RENAME", "TABLE" | "TABLES":
            return Stopping(tuple(_renamed(words.rest(2))), "it was renamed")
        case "TRUNCATE", second:
            return Truncated(words.rest(2 if second == "TABLE" else 1).table())
        case "ALTER", "TABLE" | "ONLINE" | "OFFLINE" | "IGNORE":
            return _altered(words.rest(1))
        case "ALTER" | "RENAME", _:
            return NoRows()
        case first, _ if first in _NO_ROWS:
            return NoRows()
    return RowsChanged(_changed_tables(words))


def _created(words: _Words) -> Meaning:
    replaces = words.take("OR", "REPLACE")
    if words.take("TEMPORARY", "TABLE"):
        # Logged in a session of statements alone, where what follows may mean this one.
        words.take("IF", "NOT", "EXISTS")
        return Stopping((words.table(),), "a temporary table took its name in a session with binlog_format = STATEMENT")
    if not words.take("TABLE"):
        return Created(None)
    words.take("IF", "NOT", "EXISTS")
    if replaces:
        # MariaDB's: the one that was there is gone.
        return Stopping((words.table(),), "another table took its place")
    return Created(words.table())


def _gone(words: _Words) -> Meaning:
    match words.upper(0):
        case "DATABASE" | "SCHEMA":
            words = words.rest(1)
            words.take("IF", "EXISTS")
            return Stopping((f"{words.database_name()}.*",), "its database was dropped")
        case "TABLE" | "TABLES":
            words = words.rest(1)
            words.take("IF", "EXISTS")
            return Stopping(tuple(one.table() for one in words.items()), "it was dropped")
    return NoRows()


def _renamed(words: _Words) -> Iterator[str]:
    words.take("IF", "EXISTS")
    for one in words.items():
        yield one.table()
        one.take("WAIT") or one.take("NOWAIT")
        if not one.take("TO"):
            raise _NotUnderstood
        yield one.table()


def _altered(words: _Words) -> Meaning:
    while words.upper(0) in ("ONLINE", "OFFLINE", "IGNORE"):
        words = words.rest(1)
    if not words.take("TABLE"):
        raise _NotUnderstood
    words.take("IF", "EXISTS")
    table = words.table()
    read = _Actions()
    try:
        for action in words.items():
            stopping = read.take(action, table)
            if stopping:
                return stopping
    except _NotUnderstood:
        return Stopping((table,), _NOT_UNDERSTOOD)
    return Altered(table, tuple(read.dropped), tuple(read.added), tuple(read.keys))


class _Actions:
    """Those of an ALTER TABLE, one after the other."""

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.added: list[exp.ColumnDef] = []
        self.keys: list[str] = []

    def take(self, words: _Words, table: str) -> Stopping | None:
        first, second = words.upper(0), words.upper(1)
        if first == "ADD" and second in _INDEXES:
            return _key_added(words, table)
        if first == "DROP" and second in _INDEXES:
            self.keys += _key_dropped(words.rest(1))
        elif first == "ADD" and second != "PARTITION":
            self.added += _definitions(words.rest(1))
        elif first == "DROP" and second != "PARTITION":
            self.dropped.append(_dropped(words.rest(1)))
        elif not _rows_stay(words):
            return _stopping(words, table)
        return None


def _key_added(words: _Words, table: str) -> Stopping | None:
    """From here on it changes rows below the log."""
    written = [words.upper(at) for at in range(len(words.tokens))]
    acts = any(word == "ON" and {"CASCADE", "SET"} & set(written[at + 2 : at + 3]) for at, word in enumerate(written))
    return Stopping((table,), "a foreign key that changes rows by itself was added") if acts else None


def _key_dropped(words: _Words) -> list[str]:
    if words.take("FOREIGN", "KEY") or words.take("CONSTRAINT"):
        words.take("IF", "EXISTS")
        return [words.name()]
    return []


def _dropped(words: _Words) -> str:
    words.take("COLUMN")
    words.take("IF", "EXISTS")
    name = words.name()
    if words.upper(0) not in ("", "RESTRICT", "CASCADE"):
        raise _NotUnderstood
    return name


def _rows_stay(words: _Words) -> bool:
    match words.upper(0), words.upper(1):
        case "RENAME", "INDEX" | "KEY":
            return True
        case "ALTER", second:
            return second in _INDEXES or second == "COLUMN" or words.is_name(1)
        case "ADD", "PARTITION":
            return True
        case first, _:
            return first in _ROWS_STAY


def _stopping(words: _Words, table: str) -> Stopping:
    match words.upper(0), words.upper(1):
        case "MODIFY" | "CHANGE", second:
            return Stopping((table,), f"column {words.rest(2 if second == 'COLUMN' else 1).name()} was changed")
        case "RENAME", "COLUMN":
            return Stopping((table,), f"column {words.rest(2).name()} was changed")
        case "RENAME", _:
            return _renamed_to(words.rest(1), table)
        case "CONVERT", "PARTITION" | "TABLE":
            return Stopping((table, words.behind("TABLE").table()), _ROWS_CHANGED)
        case "EXCHANGE", _:
            return Stopping((table, words.behind("WITH", "TABLE").table()), _ROWS_CHANGED)
        case first, _ if first in _ROWS_GO:
            return Stopping((table,), _ROWS_CHANGED)
    raise _NotUnderstood


def _renamed_to(words: _Words, table: str) -> Stopping:
    words.take("TO") or words.take("AS") or words.take("=")
    return Stopping((table,), f"it was renamed to {words.table()}")


def _definitions(words: _Words) -> Iterator[exp.ColumnDef]:
    """Columns that are added, one or a list in parentheses, which may define indexes too."""
    words.take("COLUMN")
    words.take("IF", "NOT", "EXISTS")
    for one in words.inside().items() if words.upper(0) == "(" else [words]:
        if one.upper(0) not in _INDEXES:
            yield _definition(one)


def _definition(words: _Words) -> exp.ColumnDef:
    try:
        parsed = sqlglot.parse_one(f"ALTER TABLE t ADD COLUMN {canonical(words.tokens)}", dialect=Grammar)
    except (SqlglotError, RecursionError):
        raise _NotUnderstood from None
    actions = parsed.args.get("actions") or [] if isinstance(parsed, exp.Alter) else []
    if len(actions) != 1 or not isinstance(actions[0], exp.ColumnDef) or actions[0].name != words.name():
        raise _NotUnderstood
    return actions[0]


def _changed_tables(words: _Words) -> tuple[str, ...] | None:
    """Every table that is named: which of them lost or got rows does not matter to whoever must not miss one.

    A function may be the user's, whatever it is called, and have changed any.
    """
    try:
        parsed = sqlglot.parse_one(_REPLACE.sub("INSERT", canonical(words.tokens)), dialect="mysql")
    except (SqlglotError, RecursionError):
        return None
    if not isinstance(parsed, exp.Insert | exp.Update | exp.Delete):
        return None
    if any(not isinstance(function, exp.And | exp.Or) for function in parsed.find_all(exp.Func)):
        return None
    tables = (f"{table.db or words.database}.{table.name}" for table in parsed.find_all(exp.Table))
    return tuple(name.lower() if words.lower else name for name in tables)


class _Words:
    """Tokens that are read from the front."""

    def __init__(self, tokens: Sequence[Token], database: str = "", *, lower: bool = False) -> None:
        self.tokens, self.database, self.lower = list(tokens), database, lower

    def upper(self, at: int) -> str:
        """A word or a sign as it may be compared; of a quoted name or a string, nothing."""
        if at >= len(self.tokens) or self.tokens[at].kind in ("name", "string"):
            return ""
        return self.tokens[at].text.upper()

    def is_name(self, at: int) -> bool:
        return at < len(self.tokens) and self.tokens[at].kind in ("word", "name")

    def _of(self, tokens: Sequence[Token]) -> _Words:
        return _Words(tokens, self.database, lower=self.lower)

    def rest(self, behind: int) -> _Words:
        return self._of(self.tokens[behind:])

    def take(self, *words: str) -> bool:
        """If these are next."""
        if any(self.upper(at) != word for at, word in enumerate(words)):
            return False
        del self.tokens[: len(words)]
        return True

    def behind(self, *words: str) -> _Words:
        for at in range(len(self.tokens)):
            rest = self.rest(at)
            if rest.take(*words):
                return rest
        raise _NotUnderstood

    def name(self) -> str:
        """Taken; a name may be made of digits, or have a number's form."""
        if not self.tokens or self.tokens[0].kind not in ("word", "name", "number"):
            raise _NotUnderstood
        return self.tokens.pop(0).text

    def table(self) -> str:
        """Taken, with its database."""
        self.take(".")  # of the database that is in use
        first = self.name()
        full = f"{first}.{self.name()}" if self.take(".") else f"{self.database}.{first}"
        return full.lower() if self.lower else full

    def database_name(self) -> str:
        """Taken."""
        name = self.name()
        return name.lower() if self.lower else name

    def inside(self) -> _Words:
        """What stands in the parentheses that are next."""
        depth = 0
        for at in range(len(self.tokens)):
            depth += {"(": 1, ")": -1}.get(self.upper(at), 0)
            if depth == 0:
                return self._of(self.tokens[1:at])
        raise _NotUnderstood

    def items(self) -> Iterator[_Words]:
        """What commas separate outside of parentheses; none of nothing."""
        held: list[Token] = []
        depth = 0
        for at, token in enumerate(self.tokens):
            sign = self.upper(at)
            depth += {"(": 1, ")": -1}.get(sign, 0)
            if sign == "," and depth == 0:
                yield self._of(held)
                held = []
            else:
                held.append(token)
        if held:
            yield self._of(held)
