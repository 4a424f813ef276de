"""The type table: which column types are carried, and in which form a value stands in an event. Pure.

One row for each type of each engine; snapshot, stream, encoders, sinks and docs go by it, so that a new type is one row
here and one text rule in the dialect's `values`. Arrays are not rows: `int4[]` is an array of the row `int4`, of one
dimension from 1.
A type that has no row is refused at start, by table, column and type.

Forms are those of Debezium set to its lossless modes (`types = "exact"`): decimals as strings, temporals as ISO
strings, bytes as base64.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cdc.event import Engine


class Form(Enum):
    """How a value is written in JSON."""

    INTEGER = "number"
    FLOAT = 'number, or "NaN", "Infinity", "-Infinity"'
    BOOLEAN = "true or false"
    TEXT = "string"
    DECIMAL = "string, the server's digits"
    BYTES = "string, base64"
    UNSIGNED = "string, base64 of the number's bytes, the highest first"
    BITS = "true or false for one bit; more: string, base64, the lowest byte first"
    DATE = "string, ISO date with Z; infinity and BC in the server's text"
    TIME = "string, ISO time with Z"
    TIMESTAMP = "string, ISO timestamp with Z; infinity and BC in the server's text"
    TIMESTAMPTZ = "string, ISO timestamp in UTC; infinity and BC in the server's text"


@dataclass(frozen=True, slots=True)
class Type:
    """A row of the table. `jdbc` is the java.sql.Types number that Debezium's schema records carry."""

    name: str
    form: Form
    jdbc: int


def _table(*rows: Type) -> dict[str, Type]:
    return {row.name: row for row in rows}


TYPES: dict[Engine, dict[str, Type]] = {
    "postgresql": _table(
        Type("int2", Form.INTEGER, 5),
        Type("int4", Form.INTEGER, 4),
        Type("int8", Form.INTEGER, -5),
        Type("oid", Form.INTEGER, -5),
        Type("float4", Form.FLOAT, 7),
        Type("float8", Form.FLOAT, 8),
        Type("numeric", Form.DECIMAL, 2),
        Type("text", Form.TEXT, 12),
        Type("varchar", Form.TEXT, 12),
        Type("bpchar", Form.TEXT, 1),
        Type("bool", Form.BOOLEAN, -7),
        Type("bytea", Form.BYTES, -2),
        Type("uuid", Form.TEXT, 1111),
        Type("date", Form.DATE, 91),
        Type("time", Form.TIME, 92),
        Type("timestamp", Form.TIMESTAMP, 93),
        Type("timestamptz", Form.TIMESTAMPTZ, 93),
        Type("json", Form.TEXT, 1111),
        Type("jsonb", Form.TEXT, 1111),
        Type("enum", Form.TEXT, 12),
    ),
    "mysql": _table(
        Type("tinyint", Form.INTEGER, 5),
        Type("tinyint unsigned", Form.INTEGER, 5),
        Type("smallint", Form.INTEGER, 5),
        Type("smallint unsigned", Form.INTEGER, 4),
        Type("mediumint", Form.INTEGER, 4),
        Type("mediumint unsigned", Form.INTEGER, 4),
        Type("int", Form.INTEGER, 4),
        Type("int unsigned", Form.INTEGER, -5),
        Type("bigint", Form.INTEGER, -5),
        Type("bigint unsigned", Form.UNSIGNED, 3),
        Type("decimal", Form.DECIMAL, 3),
        Type("float", Form.FLOAT, 7),
        Type("double", Form.FLOAT, 8),
        Type("bit", Form.BITS, -7),
        Type("year", Form.INTEGER, 4),
        Type("date", Form.DATE, 91),
        Type("time", Form.TIME, 92),
        Type("datetime", Form.TIMESTAMP, 93),
        Type("timestamp", Form.TIMESTAMPTZ, 2014),
        Type("char", Form.TEXT, 1),
        Type("varchar", Form.TEXT, 12),
        Type("tinytext", Form.TEXT, 12),
        Type("text", Form.TEXT, 12),
        Type("mediumtext", Form.TEXT, 12),
        Type("longtext", Form.TEXT, 12),
        Type("binary", Form.BYTES, -2),
        Type("varbinary", Form.BYTES, -3),
        Type("tinyblob", Form.BYTES, 2004),
        Type("blob", Form.BYTES, 2004),
        Type("mediumblob", Form.BYTES, 2004),
        Type("longblob", Form.BYTES, 2004),
        Type("enum", Form.TEXT, 1),
        Type("set", Form.TEXT, 1),
        Type("json", Form.TEXT, 1111),
        # MariaDB's, whose json is a longtext.
        Type("uuid", Form.TEXT, 1111),
        Type("inet4", Form.TEXT, 1111),
        Type("inet6", Form.TEXT, 1111),
    ),
}
TYPES["mariadb"] = TYPES["mysql"]
ARRAY_JDBC = 2003


def is_array(type_name: str) -> bool:
    return type_name.endswith("[]")


def element(type_name: str, engine: Engine = "postgresql") -> Type:
    """The row of a type, of its elements for an array."""
    return TYPES[engine][type_name.removesuffix("[]")]


def jdbc_type(type_name: str, engine: Engine) -> int:
    return ARRAY_JDBC if is_array(type_name) else TYPES[engine][type_name].jdbc
