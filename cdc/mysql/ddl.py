"""What a statement in the log means for captured tables: its text → what it does → shapes, or a reason to stop. Pure.

In: the text of a QUERY event and the database it ran in; the shape that the log holds. Out: what kind of statement it
is (`read_statement`); for an ALTER TABLE the steps that readers carry out, each with the shape that holds after it
(`effects`). Refuses: every other change of a captured table, by `UnfollowableError` with a word for it.

Rows are never decoded by what is read here: TABLE_MAP must agree with the shape before the next row (`tables`). So a
statement that cannot be read stops nothing unless the log then looks different.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import sqlglot
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from cdc.event import Column, Table
from cdc.mysql.tables import DEFAULT_COLLATION, Definition, UnknownTypeError, column_of
from cdc.mysql.values import double_text, to_single

_NAME = r"(?:`(?:[^`]|``)+`|[\w$]+)"
_TABLE = re.compile(rf"({_NAME})(?:\s*\.\s*({_NAME}))?")
_RENAMED = re.compile(rf"({_NAME}(?:\s*\.\s*{_NAME})?)\s+TO\s+", re.IGNORECASE)
_ALTERED = re.compile(
    rf"\s*ALTER\s+(?:ONLINE\s+|IGNORE\s+)?TABLE\s+({_NAME}(?:\s*\.\s*{_NAME})?)(.*)", re.IGNORECASE | re.DOTALL
)
_ROWS_GO = re.compile(
    r"\b(?:(?:DROP|TRUNCATE|EXCHANGE|COALESCE|IMPORT|DISCARD)\s+(?:PARTITION|TABLESPACE)|CONVERT\s+TO)\b",
    re.IGNORECASE,
)
_ROWS = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|LOAD|WITH|CALL|DO|IMPORT)\b", re.IGNORECASE)
_EXECUTABLE = re.compile(r"/\*M?!\d*(.*?)\*/", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/|^\s*(?:--\s|#)[^\n]*\n", re.DOTALL | re.MULTILINE)
_SYNONYMS = {"boolean": "tinyint(1)", "bool": "tinyint(1)", "bit": "bit(1)", "char": "char(1)", "binary": "binary(1)",
             "decimal": "decimal(10,0)", "tinyint unsigned(1)": "tinyint unsigned"}  # fmt: skip
_DISPLAY_WIDTH = re.compile(r"^(tinyint|smallint|mediumint|int|bigint|year)\(\d+\)")
_ONE_DIGIT = re.compile(r"^decimal\((\d+)\)")
_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")
_CHARACTERS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")
_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d{1,6}))?")
_TIME = re.compile(r"(-?\d{2,3}:\d\d:\d\d)(?:\.(\d{1,6}))?")


_TOLD = re.compile(r"\s*(?:CREATE|ALTER|DROP|TRUNCATE|RENAME)\s+(?!USER\b|ROLE\b|SERVER\b)", re.IGNORECASE)


class UnfollowableError(Exception):
    """A change that the stream cannot carry yet; the text says which."""


# -- what a statement is --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Altered:
    """ALTER TABLE, read. `dropped` and `added` columns; neither for what does not concern rows."""

    table: str
    dropped: tuple[str, ...] = ()
    added: tuple[exp.ColumnDef, ...] = ()


@dataclass(frozen=True, slots=True)
class Truncated:
    table: str


@dataclass(frozen=True, slots=True)
class Stopping:
    """Changes these tables, or all of a database (`name.*`), in a way that is not followed."""

    tables: tuple[str, ...]
    change: str


@dataclass(frozen=True, slots=True)
class RowsChanged:
    """Rows changed by a statement whose rows are not in the log. `tables`: None if they cannot be told."""

    tables: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Unread:
    """DDL that concerns no rows, or that cannot be read."""


def is_told(text: str) -> bool:
    """Whether a statement is published as it was written: what defines data, no account, whose text holds secrets."""
    return _TOLD.match(_COMMENT.sub(" ", text)) is not None


Meaning = Altered | Truncated | Stopping | RowsChanged | Unread


def read_statement(text: str, database: str) -> Meaning:
    """`database`: where names without one belong."""
    plain = _COMMENT.sub(" ", _EXECUTABLE.sub(r"\1", text)).strip().rstrip(";")
    if _ROWS.match(plain):
        return RowsChanged(_changed_tables(plain, database))
    words = plain.split(None, 2)
    first = [word.upper() for word in words[:2]]
    if first == ["RENAME", "TABLE"]:
        renamed = tuple(_full(name, database) for name in _RENAMED.findall(plain))
        return Stopping(renamed, "it was renamed")
    altered = _ALTERED.match(plain)
    if altered and _ROWS_GO.search(altered[2]):
        return Stopping((_full(altered[1], database),), "its rows were changed by DDL")
    if first[:1] not in (["ALTER"], ["TRUNCATE"], ["DROP"]):
        return Unread()
    try:
        parsed = sqlglot.parse_one(plain, dialect="mysql")
    except (SqlglotError, RecursionError):
        return Unread()
    return _meaning(parsed, database)


def _meaning(parsed: exp.Expr, database: str) -> Meaning:
    if isinstance(parsed, exp.TruncateTable):
        (table,) = parsed.expressions
        return Truncated(_name(table, database))
    if isinstance(parsed, exp.Drop):
        kind, tables = parsed.args.get("kind"), parsed.args.get("tables") or []
        if kind in ("DATABASE", "SCHEMA"):
            return Stopping(tuple(f"{table.name}.*" for table in tables), "its database was dropped")
        if kind == "TABLE" and not parsed.args.get("temporary"):
            return Stopping(tuple(_name(table, database) for table in tables), "it was dropped")
        return Unread()
    if isinstance(parsed, exp.Alter) and parsed.args.get("kind") == "TABLE":
        return _altered(parsed, database)
    return Unread()


def _altered(parsed: exp.Alter, database: str) -> Meaning:
    table = _name(parsed.this, database)
    dropped: list[str] = []
    added: list[exp.ColumnDef] = []
    for action in parsed.args.get("actions") or ():
        match action:
            case exp.ColumnDef():
                added.append(action)
            case exp.Drop() if action.args.get("kind") == "COLUMN":
                dropped += [column.name for column in action.args["tables"]]
            case exp.ModifyColumn() | exp.RenameColumn():
                return Stopping((table,), f"column {action.this.name} was changed")
            case exp.AlterRename():
                return Stopping((table,), f"it was renamed to {action.this.name}")
    return Altered(table, tuple(dropped), tuple(added))


def _changed_tables(plain: str, database: str) -> tuple[str, ...] | None:
    """Every table that is named: which of them lost or got rows does not matter to whoever must not miss one."""
    try:
        parsed = sqlglot.parse_one(re.sub(r"^\s*REPLACE\b", "INSERT", plain, flags=re.IGNORECASE), dialect="mysql")
    except (SqlglotError, RecursionError):
        return None
    if not isinstance(parsed, exp.Insert | exp.Update | exp.Delete):
        return None
    return tuple(_name(table, database) for table in parsed.find_all(exp.Table))


def _name(table: Any, database: str) -> str:
    return f"{table.db or database}.{table.name}"


def _full(written: str, database: str) -> str:
    match = _TABLE.match(written)
    assert match
    one, two = (part and (part[1:-1].replace("``", "`") if part[0] == "`" else part) for part in match.groups())
    return f"{one}.{two}" if two else f"{database}.{one}"


# -- what an ALTER does to a shape ----------------------------------------------------------------------------------
def effects(old: Table, altered: Altered, first_attnum: int) -> list[tuple[str, Table]]:
    """The steps, `drop_column` then `add_column`; added columns get numbers from `first_attnum` on."""
    steps: list[tuple[str, Table]] = []
    shape = old
    if altered.dropped:
        shape = _without(old, altered.dropped)
        steps.append(("drop_column", shape))
    if altered.added:
        for number, definition in enumerate(altered.added, first_attnum):
            shape = _with(shape, definition, number)
        steps.append(("add_column", shape))
    return steps


def _without(table: Table, names: Iterable[str]) -> Table:
    gone = {_column(table, name).name for name in names}
    if gone & set(table.primary_key):
        raise UnfollowableError(f"column {', '.join(sorted(gone & set(table.primary_key)))} of its key was dropped")
    columns = tuple(column for column in table.columns if column.name not in gone)
    return _identified(
        replace(table, columns=columns, unique=tuple(index for index in table.unique if not gone & set(index)))
    )


def _column(table: Table, name: str) -> Column:
    """Names of columns know no case."""
    for column in table.columns:
        if column.name.lower() == name.lower():
            return column
    raise UnfollowableError(f"column {name}, which is not known, was changed")


def _with(table: Table, definition: exp.ColumnDef, attnum: int) -> Table:
    defined, missing = _definition(table, definition)
    try:
        column = column_of(defined, attnum)
        column = replace(column, missing=None if missing is None else _value(column, missing))
    except UnknownTypeError as error:
        raise UnfollowableError(f"column {defined.name} of a type that is not carried was added ({error})") from None
    columns = list(table.columns)
    position = definition.args.get("position")
    if position is None:
        columns.append(column)
    elif position.this is None:
        columns.insert(0, column)
    else:
        columns.insert(columns.index(_column(table, position.this.name)) + 1, column)
    return _identified(replace(table, columns=tuple(columns)))


def _identified(table: Table) -> Table:
    """A table without a key is identified by all of its columns."""
    if table.primary_key:
        return table
    return replace(table, identity_columns=tuple(column.name for column in table.columns))


_Missing = exp.Expression | str
"""A default as it was written, or what the type gives where NULL is not allowed."""


def _definition(table: Table, definition: exp.ColumnDef) -> tuple[Definition, _Missing | None]:
    """The column and what rows that are there get."""
    name = definition.name
    if definition.args.get("kind") is None:
        raise UnfollowableError(f"column {name} was added in words that are not understood")
    not_null, default, charset, collation = False, None, None, None
    for constraint in definition.args.get("constraints") or ():
        match constraint.kind:
            case exp.NotNullColumnConstraint():
                not_null = not constraint.kind.args.get("allow_null")
            case exp.DefaultColumnConstraint():
                default = constraint.kind.this
            case exp.CharacterSetColumnConstraint():
                charset = constraint.kind.this.name.lower().replace("utf8mb3", "utf8").replace("utf8", "utf8mb3")
                charset = "utf8mb4" if charset == "utf8mb3mb4" else charset
            case exp.CollateColumnConstraint():
                collation = constraint.kind.this.name
            case exp.CommentColumnConstraint() | exp.InlineLengthColumnConstraint() | exp.ZeroFillColumnConstraint():
                pass
            case exp.UniqueColumnConstraint() | exp.CheckColumnConstraint() | exp.InvisibleColumnConstraint():
                pass
            case exp.OnUpdateColumnConstraint():
                pass
            case kind:
                raise UnfollowableError(f"column {name} was added with {kind.sql('mysql')}")
    column_type = _type(definition.args["kind"])
    charset, collation = _character_set(table, column_type, charset, collation)
    defined = Definition(name, column_type, not_null, charset=charset, collation=collation)
    if default is None or isinstance(default, exp.Null):
        return defined, "" if not_null else None
    return replace(defined, default=_written(default)), default


def _type(kind: exp.Expression) -> str:
    """As COLUMN_TYPE of the catalog would write it."""
    text = kind.sql("mysql")
    base = text.split("(", 1)[0].strip().lower()
    if base in ("enum", "set"):
        return f"{base}({','.join(part.sql('mysql') for part in kind.expressions)})"
    text = re.sub(r"\s*,\s*", ",", text).lower().replace(" zerofill", "")
    text = text if text == "tinyint(1)" else _DISPLAY_WIDTH.sub(r"\1", text)
    return _ONE_DIGIT.sub(r"decimal(\1,0)", _SYNONYMS.get(text, text))


def _character_set(
    table: Table, column_type: str, charset: str | None, collation: str | None
) -> tuple[str | None, str | None]:
    if column_type.split("(", 1)[0] not in _CHARACTERS:
        return None, None
    if collation is not None and charset is None:
        charset = collation.split("_", 1)[0]
        charset = "utf8mb3" if charset == "utf8" else charset
    if charset is None:
        return table.charset, table.collation
    return charset, collation or DEFAULT_COLLATION.get(charset)


# -- the value that rows which are there get --------------------------------------------------------------------------
def _written(default: exp.Expression) -> str:
    return default.name if isinstance(default, exp.Literal) else default.sql("mysql")


def _value(column: Column, missing: _Missing) -> str:
    """As source text; only what is the same for every row, whatever the session's settings were."""
    given = _implicit(column) if missing == "" else _literal(missing)
    found = None if given is None else _converted(column, given)
    if found is None:
        raise UnfollowableError(f"column {column.name} was added with a value that the statement does not tell")
    return found


def _literal(written: _Missing) -> str | None:
    match written:
        case exp.Literal():
            return written.name
        case exp.Neg(this=exp.Literal() as number):
            return f"-{number.name}"
        case exp.Boolean():
            return str(int(written.this))
        case exp.BitString():
            return str(int(written.name, 2))
        case exp.HexString():
            return f"0x{written.name}"
        case exp.Paren(this=inner):
            return _literal(inner)
    return None


def _implicit(column: Column) -> str | None:
    """What NOT NULL without a default gives."""
    match column.type.split()[0]:
        case "date" | "datetime" | "timestamp":
            return None
        case "time":
            return "00:00:00"
        case "json":
            return "null"
        case "enum":
            return column.enum_values[0] if column.enum_values else None
        case name if name in _CHARACTERS or name in _BYTES:
            return ""
    return "0"


def _converted(column: Column, given: str) -> str | None:
    name = column.type.split()[0]
    try:
        if name in (*_INTEGERS, "year", "bit"):
            number = int(Decimal(given).quantize(Decimal(1), ROUND_HALF_UP))
            return f"{number:04d}" if name == "year" else str(number)
        if name == "decimal":
            digits = Decimal(given).quantize(Decimal(1).scaleb(-(column.typmod >> 8)), ROUND_HALF_UP)
            return f"{digits.copy_abs() if digits == 0 else digits:f}"
        if name in ("float", "double"):
            return double_text(to_single(float(given)) if name == "float" else float(given))
    except (InvalidOperation, ValueError, OverflowError):
        return None
    if name in _CHARACTERS or name == "json":
        return given if column.enum_values is None or name == "set" or given in column.enum_values else None
    if name in _BYTES:
        return _hex(column, given)
    return _temporal(column, name, given)


def _hex(column: Column, given: str) -> str | None:
    if given.startswith("0x"):
        found = given[2:].lower()
    elif given.isascii():
        found = given.encode().hex()
    else:
        return None
    return found.ljust(column.typmod * 2, "0") if column.type == "binary" else found


def _temporal(column: Column, name: str, given: str) -> str | None:
    """A timestamp's text depends on the session's time zone, which is not known."""
    if name == "date":
        return given if _DATE.fullmatch(given) else None
    match = {"datetime": _DATETIME, "time": _TIME}.get(name, re.compile(r"(?!)")).fullmatch(given)
    if not match or len(match[2] or "") > column.typmod:
        return None
    return f"{match[1]}.{(match[2] or '').ljust(column.typmod, '0')}" if column.typmod else match[1]
