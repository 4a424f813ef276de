"""What an ALTER TABLE does to a shape and to the rows that are there. Pure.

In: the shape that the log holds, the statement as it was read. Out: the steps that readers carry out, each with the
shape that holds after it (`effects`). Refuses: what cannot be followed, by `UnfollowableError` with a word for it; of
defaults, whatever the server would have to convert, but for the plainest forms of each type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from sqlglot import expressions as exp

from cdc.event import Column, Table
from cdc.mysql.cells import inet4_text, inet6_text, uuid_text
from cdc.mysql.statements import Altered
from cdc.mysql.tables import Definition, UnknownTypeError, column_of, default_collation
from cdc.mysql.values import double_text, to_single

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
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FIXED = {"uuid": uuid_text, "inet4": inet4_text, "inet6": inet6_text}
_NEVER = re.compile(r"(?!)")
_INTEGER, _NATURAL, _YEAR = re.compile(r"-?\d+"), re.compile(r"0|[1-9]\d*"), re.compile(r"19\d\d|2[01]\d\d")
_DECIMAL, _FLOAT = re.compile(r"-?\d+(\.\d*)?"), re.compile(r"-?\d+(\.\d*)?([eE][+-]?\d+)?")


class UnfollowableError(Exception):
    """A change that the stream cannot carry yet; the text says which."""


# -- what an ALTER does to a shape ----------------------------------------------------------------------------------
def effects(old: Table, altered: Altered, first_attnum: int) -> list[tuple[str, Table]]:
    """The steps, `drop_column` then `add_column`; added columns get numbers from `first_attnum` on."""
    steps: list[tuple[str, Table]] = []
    shape = old
    for key in old.foreign_keys:
        if key.acts and key.name.lower() in map(str.lower, altered.keys):
            raise UnfollowableError(f"foreign key {key.name}, which changed rows by itself, was dropped")
    dropped, added = _there(old, altered)
    if dropped:
        shape = _without(old, dropped)
        steps.append(("drop_column", shape))
    if added:
        for number, definition in enumerate(added, first_attnum):
            shape = _with(shape, definition, number)
        steps.append(("add_column", shape))
    return steps


def _there(old: Table, altered: Altered) -> tuple[Sequence[str], Sequence[exp.ColumnDef]]:
    """What MariaDB does of it: IF EXISTS and IF NOT EXISTS let it name a column that is gone, or there already."""
    if old.engine != "mariadb":
        return altered.dropped, altered.added
    known = {column.name.lower() for column in old.columns}
    dropped = [name for name in altered.dropped if name.lower() in known]
    known -= {name.lower() for name in dropped}
    return dropped, [definition for definition in altered.added if definition.name.lower() not in known]


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
    told = not_null = False
    default, charset, collation = None, None, None
    for constraint in definition.args.get("constraints") or ():
        match constraint.kind:
            case exp.NotNullColumnConstraint():
                told, not_null = True, not constraint.kind.args.get("allow_null")
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
    if column_type.startswith("timestamp") and default is None and not told:
        raise UnfollowableError(f"column {name}, a timestamp without NULL or DEFAULT, is what a server's setting says")
    if column_type == "json" and table.engine == "mariadb":
        column_type, charset, collation = "longtext", "utf8mb4", "utf8mb4_bin"
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
        # The server keeps labels without blanks behind.
        labels = (part.name.rstrip(" ").replace("\\", "\\\\").replace("'", "''") for part in kind.expressions)
        return base + "(" + ",".join(f"'{label}'" for label in labels) + ")"
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
    return charset, collation or default_collation(charset, table.engine)


# -- the value that rows which are there get --------------------------------------------------------------------------
def _written(default: exp.Expression) -> str:
    return default.name if isinstance(default, exp.Literal) else default.sql("mysql")


def _value(column: Column, missing: _Missing) -> str:
    """As source text; only what is the same for every row, whatever the session's settings were."""
    found = _implicit(column) if isinstance(missing, str) else _converted(column, missing)
    if found is None:
        raise UnfollowableError(f"column {column.name} was added with a value that the statement does not tell")
    return found


def _implicit(column: Column) -> str | None:
    """What NOT NULL without a default gives."""
    match column.type.split()[0]:
        case "date" | "datetime" | "timestamp":
            given = None
        case "uuid" | "inet4" | "inet6" as fixed:
            given = _FIXED[fixed](b"").decode()
        case "time":
            given = _temporal(column, "00:00:00")
        case "year":
            given = "0000"
        case "decimal":
            given = _decimal(column, "0")
        case "float" | "double":
            given = double_text(0.0)
        case "json":
            given = "null"
        case "enum":
            given = column.enum_values[0] if column.enum_values else None
        case "binary":
            given = "00" * column.typmod
        case name:
            given = "" if name in _CHARACTERS or name in _BYTES else "0"
    return given


def _converted(column: Column, written: exp.Expression) -> str | None:
    """In the form that its type takes as it is; None for any other."""
    name = column.type.split()[0]
    number, string = _number(written), written.name if isinstance(written, exp.Literal) and written.is_string else None
    plain = string if number is None else number
    match name:
        case _ if name in _INTEGERS:
            return str(int(plain)) if plain is not None and _INTEGER.fullmatch(plain) else None
        case "bit":
            return str(int(written.name, 2)) if isinstance(written, exp.BitString) else _natural(number)
        case "year":
            return "0000" if number == "0" else plain if plain is not None and _YEAR.fullmatch(plain) else None
        case "decimal":
            return _decimal(column, plain) if plain is not None and _DECIMAL.fullmatch(plain) else None
        case "float" | "double":
            return _floating(column, name, plain) if plain is not None and _FLOAT.fullmatch(plain) else None
        case _ if name in _CHARACTERS:
            # To an enum and a set, a number is a place in the list.
            digits = _natural(number) if column.enum_values is None else None
            return _characters(column, name, digits if string is None else string)
        case _ if name in _BYTES:
            return _hex(column, name, written, string)
    rule = _fixed if name in _FIXED else _temporal
    return rule(column, string) if string is not None else None


def _number(written: exp.Expression) -> str | None:
    match written:
        case exp.Literal(is_string=False):
            return written.name
        case exp.Neg(this=exp.Literal(is_string=False) as number):
            return f"-{number.name}"
        case exp.Boolean():
            return str(int(written.this))
    return None


def _natural(number: str | None) -> str | None:
    """Whose text in any other type is its digits."""
    return number if number is not None and _NATURAL.fullmatch(number) else None


def _decimal(column: Column, given: str) -> str | None:
    try:
        digits = Decimal(given).quantize(Decimal(1).scaleb(-(column.typmod >> 8)), ROUND_HALF_UP)
    except InvalidOperation:
        return None
    return f"{digits.copy_abs() if digits == 0 else digits:f}"


def _floating(column: Column, name: str, given: str) -> str | None:
    if "(" in column.type_expression:
        return None  # It rounds.
    if given.startswith("-") and float(given) == 0:
        return None  # A decimal loses the sign, a string keeps it.
    return double_text(to_single(float(given)) if name == "float" else float(given))


def _characters(column: Column, name: str, given: str | None) -> str | None:
    if given is None:
        return None
    if column.enum_values is None:
        return given.rstrip(" ") if name == "char" else given
    if name == "enum":
        return given if given in column.enum_values else None
    members = given.split(",") if given else []
    return given if members == [value for value in column.enum_values if value in members] else None


def _hex(column: Column, name: str, written: exp.Expression, string: str | None) -> str | None:
    if isinstance(written, exp.HexString) and len(written.name) % 2 == 0:
        found = written.name.lower()
    elif string is not None and string.isascii():
        found = string.encode().hex()
    else:
        return None
    return found.ljust(column.typmod * 2, "0") if name == "binary" else found


def _fixed(column: Column, given: str) -> str | None:
    """In the form that everybody writes; the server has its own."""
    try:
        match column.type:
            case "uuid":
                raw = UUID(given).bytes if _UUID.fullmatch(given) else None
            case "inet4":
                raw = IPv4Address(given).packed
            case _:
                raw = IPv6Address(given).packed if "%" not in given else None
    except ValueError:
        return None
    return _FIXED[column.type](raw).decode() if raw is not None else None


def _temporal(column: Column, given: str) -> str | None:
    """A timestamp's text depends on the session's time zone, which is not known."""
    if column.type == "date":
        return given if _DATE.fullmatch(given) else None
    match = {"datetime": _DATETIME, "time": _TIME}.get(column.type, _NEVER).fullmatch(given)
    if not match or len(match[2] or "") > column.typmod:
        return None
    return f"{match[1]}.{(match[2] or '').ljust(column.typmod, '0')}" if column.typmod else match[1]
