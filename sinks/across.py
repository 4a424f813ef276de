"""Types between engines: which type a column has on a target, and what its values are there. Pure.

In: a table's shape, of any engine, and the target's engine. Out: for each column the target's type, how faithful it
is, and two functions to the text that the target reads as the value: from a parsed JSON value of an event (`text`), and
from the source's own text (`from_source`), as an archive has it.
Refuses: a value that the target has no place for (NaN in a float of MySQL, a zero date in Postgres), by `UnfitError` in
words. No type is refused: each that is carried has one on the other side that holds its values.

The target's text is Postgres' text output there, and MySQL's source text here: bytes are lower-case hex without a
prefix, bits a number (`cdc.mysql.values`); whoever writes them says so in SQL.
A table of MySQL has limits that Postgres' has not, an index entry of 3072 bytes and a row of 65535, so a type may
depend on the columns beside it. docs/TYPES.md is written from this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cdc.mysql.carried
import cdc.postgres.carried
from cdc.event import Column, Engine, Table
from cdc.mysql.dialect import MARIADB, MYSQL
from cdc.types import is_array
from sinks.relatives import altered_number, type_on

Text = Callable[[str], str]
Fidelity = Literal["exact", "widened"]

NAMES: Mapping[Engine, str] = {"postgresql": "Postgres", "mysql": "MySQL", "mariadb": "MariaDB"}
INDEX_BYTES = 3072
"""Of an index entry in InnoDB, all its columns together."""
_ROW_BYTES = 65535 - 512
"""What a row may count for, less a bit for each column that may be NULL."""
_VARCHAR_CHARACTERS = 16383
_POINTER_BYTES = 12
"""What a row of MySQL counts for a value that is stored apart."""
_UTF8 = f"CHARACTER SET utf8mb4 COLLATE {MYSQL.collation}"
"""Binary, and trailing blanks count: `a`, `A` and `a ` are three keys, as on Postgres (CORRECTNESS 27)."""
_ASCII = "CHARACTER SET ascii COLLATE ascii_bin"
_POSTGRES_NAME_BYTES = 63


class UnfitError(ValueError):
    """The target has no place for the value."""


@dataclass(frozen=True, slots=True)
class TargetType:
    """A type on the target: its name there, its whole declaration, how faithful it is, what it takes in a row."""

    type: str
    sql: str
    fidelity: Fidelity = "exact"
    note: str = ""
    from_source: Text | None = None
    """None: the same text."""
    row_bytes: int = 8


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column as it is on the target. `type_sql` is what stands in CREATE TABLE, without NOT NULL."""

    name: str
    type: str
    type_sql: str
    fidelity: Fidelity
    note: str
    text: Callable[[Any], str]
    from_source: Text


def target_columns(table: Table, target: Engine) -> tuple[TargetColumn, ...]:
    """All columns of a table, in its order."""
    if table.engine == target:
        return tuple(_same(table, column) for column in table.columns)
    if target == "postgresql":
        return tuple(_across(table, column, _on_postgres(column)) for column in table.columns)
    if table.engine == "postgresql":
        found = _on_mysql(table) if target == "mysql" else [*map(_on_mariadb, _on_mysql(table))]
        return tuple(_across(table, column, of) for column, of in zip(table.columns, found, strict=True))
    return tuple(_across(table, column, _on_relative(column, target)) for column in table.columns)


def on_target(table: Table, target: Engine) -> Table:
    """The shape as the target has it: its types, and the same names, numbers and keys."""
    if table.engine == target:
        return table
    columns = [
        replace(column, type=there.type, type_expression=there.type_sql, enum_values=None, charset=None, collation=None)
        for column, there in zip(table.columns, target_columns(table, target), strict=True)
    ]
    return replace(table, columns=tuple(columns), engine=target)


def problems(table: Table, target: Engine) -> list[str]:
    """What the target would not refuse by itself and yet not keep."""
    if target != "postgresql":
        return []
    names = [table.schema, table.name, *(column.name for column in table.columns)]
    return [
        f"{table.full_name}: the name {name} is longer than Postgres' {_POSTGRES_NAME_BYTES} bytes"
        for name in names
        if len(name.encode()) > _POSTGRES_NAME_BYTES
    ]


def source_text(table: Table, column: Column) -> Callable[[Any], str]:
    """A parsed JSON value of a table's event to the source's own text."""
    if table.engine == "postgresql":
        return cdc.postgres.carried.to_text(column, table.types)
    return cdc.mysql.carried.to_text(column, table.types)


def _same(table: Table, column: Column) -> TargetColumn:
    charset = f" CHARACTER SET {column.charset}" if column.charset else ""
    collation = f" COLLATE {column.collation}" if column.collation else ""
    type_sql = f"{column.type_expression}{charset}{collation}"
    keep, note = (_keeping_numbers, _NO_DECIMALS) if (table.engine, column.type) == ("mysql", "json") else (None, "")
    return _across(table, column, TargetType(column.type, type_sql, "exact", note, keep))


def _across(table: Table, column: Column, found: TargetType) -> TargetColumn:
    back, convert = source_text(table, column), found.from_source
    if convert is None:
        return TargetColumn(column.name, found.type, found.sql, found.fidelity, found.note, back, _same_text)

    def from_source(text: str) -> str:
        try:
            return convert(text)
        except UnfitError as error:
            raise UnfitError(f"column {column.name}: {error}") from None

    def text(value: Any) -> str:
        return from_source(back(value))

    return TargetColumn(column.name, found.type, found.sql, found.fidelity, found.note, text, from_source)


def _same_text(text: str) -> str:
    return text


_NO_DECIMALS = "numbers that are DECIMAL inside, and would become another as DOUBLE, are refused: 1.50"


def _keeping_numbers(text: str) -> str:
    """JSON that MySQL reads as it was."""
    if altered := altered_number(text):
        raise UnfitError("MySQL reads the number {} of a JSON text as {}".format(*altered))
    return text


def _on_relative(column: Column, target: Engine) -> TargetType:
    name, sql, note = type_on(column, target)
    of = TargetType(name, sql, "widened" if note else "exact", note)
    return _on_mariadb(of) if target == "mariadb" else of


def numbers(column: Column) -> tuple[int, ...]:
    """What stands in parentheses behind a type's name: length, or precision and scale."""
    match = re.search(r"\((-?\d+)(?:,(-?\d+))?\)", column.type_expression)
    return tuple(int(n) for n in match.groups() if n is not None) if match else ()


# -- Postgres → MySQL, MariaDB ----------------------------------------------------------------------------------
def _on_mysql(table: Table) -> list[TargetType]:
    """The columns' types, within the limits of a table."""
    key = _key_types([column for column in table.columns if column.name in table.key])
    found = [key.get(column.name) or _mysql(column) for column in table.columns]
    widest = sorted(range(len(found)), key=lambda at: -found[at].row_bytes)
    for at in widest:
        if sum(one.row_bytes for one in found) <= _ROW_BYTES:
            break
        if found[at].type == "varchar" and table.columns[at].name not in table.key:
            found[at] = _LONG_TEXT
    return found


def _characters(n: int, **more: Any) -> TargetType:
    return TargetType("varchar", f"varchar({n}) {_UTF8}", row_bytes=4 * n + 2, **more)


_LONG_TEXT = TargetType("longtext", f"longtext {_UTF8}", row_bytes=_POINTER_BYTES)


def _mysql(column: Column) -> TargetType:
    """The type of a column that is in no key."""
    if is_array(column.type):
        return _text_of('the array as Postgres writes it: {1,NULL,"a b"}')
    if column.type in ("varchar", "bpchar"):
        length = numbers(column)
        return _characters(length[0]) if length and length[0] <= _VARCHAR_CHARACTERS else _LONG_TEXT
    if column.type == "numeric":
        return _decimal(column)
    if column.type == "enum":
        return _enum(column)
    if column.type in ("time", "timestamp", "timestamptz"):
        return _temporal(column)
    return _MYSQL[column.type]


def _text_of(note: str) -> TargetType:
    return TargetType("longtext", f"longtext {_UTF8}", "widened", note, row_bytes=_POINTER_BYTES)


def _decimal(column: Column) -> TargetType:
    declared = numbers(column)
    if declared:
        precision, scale = (*declared, 0)[:2]
        if precision <= 65 and 0 <= scale <= min(30, precision):
            return TargetType("decimal", f"decimal({precision},{scale})", note="NaN is refused",
                              from_source=_refusing(_NOT_FINITE), row_bytes=30)  # fmt: skip
    note = "its digits: MySQL has no decimal of this precision and scale"
    return TargetType("longtext", f"longtext {_ASCII}", "widened", note, row_bytes=_POINTER_BYTES)


def _enum(column: Column) -> TargetType:
    labels = column.enum_values or ()
    # MySQL cuts the blanks off a label's end, and has '' for what is none of them.
    if any(label == "" or label.endswith(" ") for label in labels) or not labels:
        return _characters(_POSTGRES_NAME_BYTES, fidelity="widened",
                           note="the label: MySQL's enum holds none that is empty or ends with a blank")  # fmt: skip
    quoted = ",".join("'" + label.replace("\\", "\\\\").replace("'", "''") + "'" for label in labels)
    return TargetType("enum", f"enum({quoted}) {_UTF8}")


def _temporal(column: Column) -> TargetType:
    declared = numbers(column)
    digits = declared[0] if declared else 6
    # As the server shows it again.
    fraction = f"({digits})" if digits else ""
    if column.type == "time":
        return TargetType("time", f"time{fraction}")
    note = "infinity, BC and years above 9999 are refused"
    if column.type == "timestamp":
        return TargetType("datetime", f"datetime{fraction}", note=note, from_source=_refusing(_FAR))
    return TargetType("datetime", f"datetime{fraction}", "widened", f"in UTC, which the type does not say; {note}",
                      from_source=_without_zone)  # fmt: skip


def _on_mariadb(of: TargetType) -> TargetType:
    if of.type in ("float", "double"):
        of = replace(of, from_source=_no_negative_zero, note="; ".join(filter(None, (of.note, "-0 is refused"))))
    return replace(of, sql=of.sql.replace(MYSQL.collation, MARIADB.collation))


def _refusing(unfit: re.Pattern[str], engine: Engine = "mysql") -> Text:
    def check(text: str) -> str:
        if unfit.search(text):
            raise UnfitError(f"{NAMES[engine]} has no place for {text}")
        return text

    return check


_no_negative_zero = _refusing(re.compile(r"[yN]|\A-0\Z"), "mariadb")


_NOT_FINITE = re.compile(r"[yN]")
"""Infinity and NaN."""
_FAR = re.compile(r"[yC]\Z|\A\d{5}")
"""infinity, BC, a year of more than four digits."""
_checked_date = _refusing(_FAR)
_checked_float = _refusing(_NOT_FINITE)


def _without_zone(text: str) -> str:
    return _checked_date(text).removesuffix("+00")


_MYSQL: dict[str, TargetType] = {
    "int2": TargetType("smallint", "smallint"),
    "int4": TargetType("int", "int"),
    "int8": TargetType("bigint", "bigint"),
    "oid": TargetType("int unsigned", "int unsigned"),
    # As a float, 0.1 would be 0.10000000149011612 there: found by no text that the source has for it.
    "float4": TargetType("double", "double", "widened", "the digits that Postgres shows; NaN and infinity are refused",
                         _checked_float),
    "float8": TargetType("double", "double", note="NaN and infinity are refused", from_source=_checked_float),
    "text": _LONG_TEXT,
    "bool": TargetType("tinyint", "tinyint(1)", from_source={"t": "1", "f": "0"}.__getitem__),
    "bytea": TargetType("longblob", "longblob", from_source=lambda text: text[2:], row_bytes=_POINTER_BYTES),
    "uuid": TargetType("char", f"char(36) {_ASCII}", row_bytes=36),
    "date": TargetType("date", "date", note="infinity, BC and years above 9999 are refused",
                       from_source=_checked_date),
    "json": _text_of("the very text; MySQL's json would alter numbers and the order of keys"),
    "jsonb": _text_of("the very text; MySQL's json would alter numbers and the order of keys"),
}  # fmt: skip


def _key_types(columns: Sequence[Column]) -> dict[str, TargetType]:
    """Of a key's columns. What room an index entry has goes to those first that need little; MySQL refuses by name a
    value for which there is none.
    """
    found = {column.name: _mysql(column) for column in columns}
    texts = [name for name, of in found.items() if of.type in ("varchar", "longtext", "longblob")]
    room = INDEX_BYTES - sum(of.row_bytes for name, of in found.items() if name not in texts)
    wanted = {name: found[name].row_bytes - 2 if found[name].type == "varchar" else INDEX_BYTES + 1 for name in texts}
    texts.sort(key=wanted.__getitem__)
    for at, name in enumerate(texts):
        share = max(room // (len(texts) - at), 4)
        if wanted[name] > share:
            found[name] = _bounded(found[name], share)
        room -= min(wanted[name], share)
    return found


def _bounded(of: TargetType, size: int) -> TargetType:
    """A text or bytes of at most this size."""
    if of.type == "longblob":
        note = f"up to {size} bytes"
        return replace(of, type="varbinary", sql=f"varbinary({size})", note=note, row_bytes=size + 2)
    charset, length = (_ASCII, size) if _ASCII in of.sql else (_UTF8, size // 4)
    note = "; ".join(filter(None, (of.note, f"up to {length} characters")))
    return replace(of, type="varchar", sql=f"varchar({length}) {charset}", note=note, row_bytes=size + 2)


# -- MySQL → Postgres -------------------------------------------------------------------------------------------
def _on_postgres(column: Column) -> TargetType:
    declared = numbers(column)
    length = declared[0] if declared else 0
    match column.type:
        case "decimal":
            precision, scale = (*declared, 0)[:2] if declared else (10, 0)
            return TargetType("numeric", f"numeric({precision},{scale})")
        case "bit":
            if length == 1:
                return TargetType("bool", "boolean", from_source={"1": "t", "0": "f"}.__getitem__)
            return TargetType("bit", f"bit({length})", from_source=lambda text: format(int(text), f"0{length}b"))
        case "datetime":
            return TargetType("timestamp", f"timestamp({length}) without time zone", note=_NO_ZERO,
                              from_source=_calendar_date)  # fmt: skip
        case "timestamp":
            return TargetType("timestamptz", f"timestamp({length}) with time zone", note=_NO_ZERO,
                              from_source=lambda text: f"{_calendar_date(text)}+00")  # fmt: skip
        case "char" | "varchar" if length:
            return TargetType("varchar", f"character varying({length})", note=_NO_NUL, from_source=_without_nul)
    return _POSTGRES[column.type]


_NO_ZERO = "zero dates, dates with a month or day of zero and the year 0000 are refused"
_NO_NUL = "the character NUL is refused"


def _calendar_date(text: str) -> str:
    if text[:4] == "0000" or text[5:7] == "00" or text[8:10] == "00":
        raise UnfitError(f"Postgres has no place for {text}")
    return text


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise UnfitError("Postgres has no place for the character NUL in a text")
    return text


def _postgres_text(fidelity: Fidelity = "exact", note: str = "") -> TargetType:
    return TargetType("text", "text", fidelity, "; ".join(filter(None, (note, _NO_NUL))), _without_nul)


_BYTES = TargetType("bytea", "bytea", "widened", "its length is not limited", lambda text: f"\\x{text}")
_POSTGRES: dict[str, TargetType] = {
    "tinyint": TargetType("int2", "smallint", "widened"),
    "tinyint unsigned": TargetType("int2", "smallint", "widened"),
    "smallint": TargetType("int2", "smallint"),
    "smallint unsigned": TargetType("int4", "integer", "widened"),
    "mediumint": TargetType("int4", "integer", "widened"),
    "mediumint unsigned": TargetType("int4", "integer", "widened"),
    "int": TargetType("int4", "integer"),
    "int unsigned": TargetType("int8", "bigint", "widened"),
    "bigint": TargetType("int8", "bigint"),
    "bigint unsigned": TargetType("numeric", "numeric(20,0)", "widened"),
    "float": TargetType("float4", "real"),
    "double": TargetType("float8", "double precision"),
    "year": TargetType("int2", "smallint", "widened", "0000 is 0", lambda text: str(int(text))),
    "date": TargetType("date", "date", note=_NO_ZERO, from_source=_calendar_date),
    "time": TargetType("interval", "interval", "widened", "a time of MySQL may be 838 hours, or negative"),
    "char": _postgres_text(),
    "varchar": _postgres_text(),
    "tinytext": _postgres_text("widened"),
    "text": _postgres_text("widened"),
    "mediumtext": _postgres_text("widened"),
    "longtext": _postgres_text(),
    "enum": _postgres_text("widened", "the label; '' for MySQL's error value"),
    "set": _postgres_text("widened", "the labels, joined by commas"),
    "binary": _BYTES,
    "varbinary": _BYTES,
    "tinyblob": _BYTES,
    "blob": _BYTES,
    "mediumblob": _BYTES,
    "longblob": TargetType("bytea", "bytea", from_source=lambda text: f"\\x{text}"),
    "json": TargetType("json", "json", note="the very text"),
    "uuid": TargetType("uuid", "uuid"),
    "inet4": TargetType("text", "text", "widened", "its text"),
    "inet6": TargetType("text", "text", "widened", "its text"),
}
