"""The type table: which column types are carried, and in which form a value stands in an event. Pure.

One row a type; snapshot, stream, encoders, sinks and docs go by it, so that a new type is one row here and one text
rule in the dialect's `values`. Arrays are not rows: `int4[]` is an array of the row `int4`, of one dimension from 1.
A type that has no row is refused at start, by table, column and type.

Forms are those of Debezium set to its lossless modes (`types = "exact"`): decimals as strings, temporals as ISO
strings, bytes as base64.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Form(Enum):
    """How a value is written in JSON."""

    INTEGER = "number"
    FLOAT = 'number, or "NaN", "Infinity", "-Infinity"'
    BOOLEAN = "true or false"
    TEXT = "string"
    DECIMAL = "string, the server's digits"
    BYTES = "string, base64"
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


TYPES: dict[str, Type] = {
    row.name: row
    for row in (
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
    )
}
ARRAY_JDBC = 2003


def is_array(type_name: str) -> bool:
    return type_name.endswith("[]")


def element(type_name: str) -> Type:
    """The row of a type, of its elements for an array."""
    return TYPES[type_name.removesuffix("[]")]


def jdbc_type(type_name: str) -> int:
    return ARRAY_JDBC if is_array(type_name) else TYPES[type_name].jdbc
