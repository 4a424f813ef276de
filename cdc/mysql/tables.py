"""The shape of a table as the server's catalog and its log tell it: column definitions → a `Table`. Pure.

In: rows of information_schema, or a column's definition out of a statement. Out: a `Table`, whose columns say how
TABLE_MAP describes them (`type_oid`: the type's byte, `typmod`: its metadata, lowest byte first). Refuses: a type or a
character set that is not carried, by TYPE_UNSUPPORTED.

`difference` compares a shape with what the log says of the table before its rows. The log knows columns by their place
alone. `attnum` is theirs for good: 1 … at the copy, for a column that came later
a number that no other had.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cdc.errors import TYPE_UNSUPPORTED, CdcError
from cdc.event import Column, Engine, ForeignKey, Table
from cdc.mysql.dialect import of_engine
from cdc.mysql.tablemap import INET4, INET6, UUID, TableMap, utf8_labels
from cdc.types import TYPES

_COLUMN_TYPE = re.compile(
    r"(?P<name>[a-z]+[46]?)(?:\((?P<size>.*)\))?(?P<unsigned> unsigned)?(?: zerofill)?", re.DOTALL
)
_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPED = {"\\0": "\0", "\\n": "\n", "\\r": "\r", "\\\\": "\\", "\\'": "'", "''": "'"}
_SIMPLE = {"tinyint": 1, "smallint": 2, "mediumint": 9, "int": 3, "bigint": 8, "year": 13, "date": 10}
_TEMPORAL = {"timestamp": 17, "datetime": 18, "time": 19}
_BLOBS = {"tiny": 1, "": 2, "medium": 3, "long": 4}
_DECIMAL, _ENUM, _SET, _BLOB, _STRING, _VARCHAR, _BIT, _FLOAT, _DOUBLE, _JSON = (
    246, 247, 248, 252, 254, 15, 16, 4, 5, 245)  # fmt: skip
WIDEST = {"ascii": 1, "latin1": 1, "binary": 1, "ucs2": 2, "utf8mb3": 3, "utf8mb4": 4, "utf16": 4, "utf16le": 4,
          "utf32": 4}  # fmt: skip
"""Bytes of a set's longest character; a text in another set is not carried."""
_FIXED = {"uuid": (16, UUID), "inet6": (16, INET6), "inet4": (4, INET4)}
"""To the log of MariaDB they are bytes of this length."""
_DEFAULT_COLLATION = {
    "ascii": "ascii_general_ci", "latin1": "latin1_swedish_ci", "binary": "binary", "ucs2": "ucs2_general_ci",
    "utf8mb3": "utf8mb3_general_ci", "utf16": "utf16_general_ci",
    "utf16le": "utf16le_general_ci", "utf32": "utf32_general_ci",
}  # fmt: skip
LABELLED = ("enum", "set")
_LAST_OF_BMP = "\uffff"
_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")


@dataclass(frozen=True, slots=True)
class Definition:
    """A column as a statement or the catalog defines it. `type` is the server's COLUMN_TYPE."""

    name: str
    type: str
    not_null: bool
    default: str | None = None
    auto_increment: bool = False
    charset: str | None = None
    collation: str | None = None


_DISPLAY_WIDTH = re.compile(r"(tinyint|smallint|mediumint|int|bigint|year)\(\d+\)((?: unsigned)?)")


def plain_type(column_type: str) -> str:
    """A COLUMN_TYPE as MySQL has it: MariaDB writes how wide an integer is shown, which says nothing of its values."""
    match = _DISPLAY_WIDTH.fullmatch(column_type)
    return match[1] + match[2] if match and column_type != "tinyint(1)" else column_type


def default_collation(charset: str, engine: Engine) -> str | None:
    """Of a column that names its character set alone."""
    return of_engine(engine).default_collation if charset == "utf8mb4" else _DEFAULT_COLLATION.get(charset)


class UnknownTypeError(ValueError):
    """A type or character set that is not carried; the text names it."""


def column_of(defined: Definition, attnum: int, missing: str | None = None) -> Column:
    """The column, and what TABLE_MAP says of it."""
    match = _COLUMN_TYPE.fullmatch(defined.type)
    if not match:
        raise UnknownTypeError(defined.type)
    unsigned = match["unsigned"] and match["name"] not in ("decimal", "float", "double")
    name = match["name"] + (" unsigned" if unsigned else "")
    if name not in TYPES["mysql"]:
        raise UnknownTypeError(defined.type)
    if name in _TEXTS and defined.charset not in WIDEST:
        raise UnknownTypeError(f"{defined.type} character set {defined.charset}")
    labels = labels_of(match["size"] or "") if name in LABELLED else None
    if any(max(label, default="") > _LAST_OF_BMP for label in labels or ()):
        raise UnknownTypeError(f"{defined.type} with a label beyond U+FFFF, for which MySQL's own catalog says ?")
    code, meta = _on_the_wire(match["name"], match["size"], defined.charset, labels)
    return Column(
        name=defined.name,
        type=name,
        type_expression=defined.type,
        type_oid=code,
        typmod=meta,
        attnum=attnum,
        not_null=defined.not_null,
        default=defined.default,
        auto_increment=defined.auto_increment,
        missing=missing,
        enum_values=labels,
        charset=defined.charset,
        collation=defined.collation,
    )


def labels_within(column_type: str) -> tuple[str, ...]:
    """Of an enum or a set; none of another type."""
    match = _COLUMN_TYPE.fullmatch(column_type)
    return labels_of(match["size"] or "") if match and match["name"] in LABELLED else ()


def labels_of(quoted: str) -> tuple[str, ...]:
    """`'a','it''s'` as labels."""
    return tuple(
        re.sub(r"\\.|''", lambda found: _ESCAPED.get(found[0], found[0][1:]), match[1], flags=re.DOTALL)
        for match in _LABEL.finditer(quoted)
    )


def _on_the_wire(name: str, size: str | None, charset: str | None, labels: Sequence[str] | None) -> tuple[int, int]:
    """Type byte and metadata of TABLE_MAP, as `tablemap` has them; -1 where the type has none."""
    if name in _SIMPLE:
        return _SIMPLE[name], -1
    if name in _TEMPORAL:
        return _TEMPORAL[name], int(size or 0)
    if name in _FIXED:
        return _STRING, _FIXED[name][0]
    if labels is not None:
        return (_SET, _set_width(len(labels))) if name == "set" else (_ENUM, 1 if len(labels) < 256 else 2)
    if name.endswith(("text", "blob")):
        return _BLOB, _BLOBS[name.removesuffix("text").removesuffix("blob")]
    if name in _TEXTS or name.endswith("binary"):
        longest = int(size or 1) * (1 if name.endswith("binary") else WIDEST[charset or "binary"])
        return (_VARCHAR if name.startswith("var") else _STRING), longest
    return _number(name, size)


def _number(name: str, size: str | None) -> tuple[int, int]:
    if name == "decimal":
        precision, _, scale = (size or "10").partition(",")
        return _DECIMAL, int(precision) | int(scale or 0) << 8
    if name == "bit":
        whole, rest = divmod(int(size or 1), 8)
        return _BIT, rest | whole << 8
    return {"float": (_FLOAT, 4), "double": (_DOUBLE, 8), "json": (_JSON, 4)}[name]


def _set_width(labels: int) -> int:
    width = (labels + 7) // 8
    return 8 if width > 4 else width


def table_of(
    schema: str,
    name: str,
    columns: Sequence[Definition],
    indexes: Mapping[str, Sequence[str]],
    foreign_keys: Sequence[ForeignKey] = (),
    *,
    charset: tuple[str | None, str | None] = (None, None),
    source: str | None = None,
    engine: Engine = "mysql",
) -> Table:
    """`indexes`: columns of the unique ones by name, `PRIMARY` among them; `charset` and collation: the table's own."""
    made = []
    for attnum, defined in enumerate(columns, 1):
        try:
            made.append(column_of(defined, attnum))
        except UnknownTypeError as error:
            raise CdcError(
                TYPE_UNSUPPORTED, source=source, table=f"{schema}.{name}", column=defined.name, type=str(error)
            ) from None
    primary = tuple(indexes.get("PRIMARY", ()))
    return Table(
        schema=schema,
        name=name,
        oid=0,
        columns=tuple(made),
        primary_key=primary,
        replica_identity="d" if primary else "f",
        identity_columns=primary or tuple(column.name for column in made),
        unique=tuple(tuple(of) for index, of in sorted(indexes.items()) if index != "PRIMARY"),
        foreign_keys=tuple(foreign_keys),
        engine=engine,
        charset=charset[0],
        collation=charset[1],
    )


def foreign_key(row: Mapping[str, Any], columns: Sequence[str], referenced: Sequence[str]) -> ForeignKey:
    """Of a row of REFERENTIAL_CONSTRAINTS."""
    return ForeignKey(
        row["name"], tuple(columns), row["schema"], row["table"], tuple(referenced), row["on_update"], row["on_delete"]
    )


def difference(table: Table, mapped: TableMap) -> str | None:
    """Where the log's description of a table differs from its shape; None if it does not."""
    names = [column.name for column in mapped.columns]
    if None in names:
        return "the log does not name its columns (binlog_row_metadata was not FULL)"
    expected = [column.name for column in table.columns]
    if names != expected:
        return f"its columns are ({', '.join(map(str, names))}), were ({', '.join(expected)})"
    for column, now in zip(table.columns, mapped.columns, strict=True):
        if (now.type, now.metadata) != (column.type_oid, column.typmod) or now.unsigned != _unsigned(column):
            return f"the type of {column.name} changed, was {column.type_expression}"
        if column.charset is not None and now.charset != column.charset:
            return f"the character set of {column.name} is {now.charset}, was {column.charset}"
        if column.enum_values is not None and now.labels is not None:
            labels = tuple(label.decode(errors="replace") for label in utf8_labels(now))
            if labels != column.enum_values:
                return f"the labels of {column.name} changed, were {column.type_expression}"
    key = tuple(names[at] for at, _ in mapped.primary_key)
    if key != table.primary_key and not _serves_as_key(table, key):
        return f"its primary key is ({', '.join(map(str, key))}), was ({', '.join(table.primary_key)})"
    return None


def told_apart(table: Table, mapped: TableMap) -> TableMap:
    """With the types that the log itself cannot tell from others."""
    columns = (
        replace(now, type=_FIXED[column.type][1]) if column.type in _FIXED else now
        for column, now in zip(table.columns, mapped.columns, strict=True)
    )
    return replace(mapped, columns=tuple(columns))


def _serves_as_key(table: Table, columns: tuple[str | None, ...]) -> bool:
    """Where a table has no primary key, the log tells its first unique one of columns that are never NULL."""
    never_null = {column.name for column in table.columns if column.not_null}
    return not table.primary_key and columns in table.unique and never_null.issuperset(columns)


def _unsigned(column: Column) -> bool:
    """To the log a year is unsigned too."""
    return column.type == "year" or " unsigned" in column.type_expression
