"""Schema records of topic `<prefix>`: a table's shape in Debezium's schema-change form, and back. Pure.

In: a `Table`. Out: its `schema_id` and record bytes, or the `Table` and record of such bytes.
Refuses: a record that is not of this form, or whose table does not hash to its id, by `ValueError`. Because the id is
the hash of the shape, a record is right whoever wrote it; which id holds for a table when, only ENDs say.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, get_args

import orjson

from cdc.event import Column, Engine, ForeignKey, Table, Types
from cdc.log import VERSION
from cdc.types import is_array, jdbc_type

_NUMERIC = "numeric"
_WITH_LENGTH = frozenset({"varchar", "bpchar"})


@dataclass(frozen=True, slots=True)
class SchemaRecord:
    """A shape with the place where it was first seen, and the topic of its rows (`topic_id` tells a re-created one)."""

    schema_id: str
    table: Table
    run: str
    epoch: int
    txn_seq: int
    topic: str
    topic_id: str

    def to_bytes(self, *, source: dict[str, Any], ts_ms: int, database: str, ddl: str | None = None) -> bytes:
        change = {
            "type": "CREATE" if ddl is None else "ALTER",
            "id": _debezium_id(self.table),
            "table": table_object(self.table),
        }
        return orjson.dumps(
            {
                "source": source,
                "ts_ms": ts_ms,
                "databaseName": database,
                "schemaName": self.table.schema,
                "ddl": ddl,
                "tableChanges": [change],
                "v": VERSION,
                "schema_id": self.schema_id,
                "run": self.run,
                "epoch": self.epoch,
                "txn_seq": self.txn_seq,
                "topic": self.topic,
                "topic_id": self.topic_id,
            }
        )


def shape_key(database: str) -> bytes:
    return orjson.dumps({"databaseName": database})


def schema_id(table: Table) -> str:
    """The first 16 hex digits of the sha256 of the canonical shape."""
    canonical = orjson.dumps({"id": _debezium_id(table), "table": table_object(table)}, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()[:16]


def table_bytes(table: Table) -> bytes:
    """A shape by itself, outside a record."""
    return orjson.dumps({"v": VERSION, "schema": table.schema, "table": table_object(table)})


def parse_table(value: bytes) -> Table:
    """The shape of `table_bytes`; `ValueError` says what is wrong with it."""
    try:
        record = orjson.loads(value)
        if record.get("v") != VERSION:
            raise ValueError(f"unknown version v = {record.get('v')!r}, this process reads {VERSION}")
        return _table(record["schema"], record)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a shape: {error!r}") from None


def statement_record(source: dict[str, Any], ts_ms: int, database: str, ddl: str) -> bytes:
    """A record that only tells of a statement, with no shape in it: for people, and for Debezium's readers."""
    return orjson.dumps(
        {"source": source, "ts_ms": ts_ms, "databaseName": database, "schemaName": None, "ddl": ddl, "tableChanges": [],
         "v": VERSION}
    )  # fmt: skip


def holds_no_shape(value: bytes) -> bool:
    """Of a record of the shape topic: it tells a statement, or Debezium wrote it before the topic was taken over.

    Inside a text the quotes would be escaped.
    """
    return value[:1] != b"{" or b',"tableChanges":[],' in value or b',"v":' not in value


def parse_shape(value: bytes) -> SchemaRecord:
    """A record of the shape topic; `ValueError` says what is wrong with it."""
    try:
        record = orjson.loads(value)
        if record.get("v") != VERSION:
            raise ValueError(f"unknown version v = {record.get('v')!r}, this process reads {VERSION}")
        table = _table(record["schemaName"], record["tableChanges"][0])
        parsed = SchemaRecord(
            record["schema_id"],
            table,
            record["run"],
            record["epoch"],
            record["txn_seq"],
            record["topic"],
            record["topic_id"],
        )
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not a schema record: {error!r}") from None
    if schema_id(table) != parsed.schema_id:
        raise ValueError(f"schema {parsed.schema_id} of {table.full_name} does not match its own hash")
    return parsed


def _debezium_id(table: Table) -> str:
    return f'"{table.schema}"."{table.name}"'


def table_object(table: Table) -> dict[str, Any]:
    """Debezium's `table`, its columns' and its own fields followed by ours."""
    return {
        "defaultCharsetName": table.charset,
        "primaryKeyColumnNames": list(table.primary_key),
        "columns": [_column_object(table.engine, column, at) for at, column in enumerate(table.columns, 1)],
        "comment": None,
        "name": table.name,
        # Postgres' are the older records: they name no engine.
        **({} if table.engine == "postgresql" else {"engine": table.engine, "collation": table.collation}),
        **({} if table.types == "exact" else {"types": table.types}),
        "oid": table.oid,
        "replica_identity": table.replica_identity,
        "identity_columns": list(table.identity_columns),
        "unique": [list(columns) for columns in table.unique],
        "foreign_keys": [
            {
                "name": k.name,
                "columns": list(k.columns),
                "schema": k.schema,
                "table": k.table,
                "referenced": list(k.referenced),
                "on_update": k.on_update,
                "on_delete": k.on_delete,
            }
            for k in table.foreign_keys
        ],
    }


def _column_object(engine: Engine, column: Column, position: int) -> dict[str, Any]:
    length, scale = _length_and_scale(column) if engine == "postgresql" else (None, None)
    return {
        "name": column.name,
        "jdbcType": jdbc_type(column.type, engine),
        "nativeType": column.type_oid,
        "typeName": column.type,
        "typeExpression": column.type_expression,
        "charsetName": column.charset,
        "length": length,
        "scale": scale,
        "position": position,
        "optional": not column.not_null,
        "autoIncremented": column.auto_increment,
        "generated": False,
        "comment": None,
        "defaultValueExpression": column.default,
        "enumValues": None if column.enum_values is None else list(column.enum_values),
        "attnum": column.attnum,
        "type_oid": column.type_oid,
        "typmod": column.typmod,
        "not_null": column.not_null,
        "missing": column.missing,
        **({"collation": column.collation} if column.collation else {}),
    }


def _length_and_scale(column: Column) -> tuple[int | None, int | None]:
    """From the type modifier, which Postgres stores with its own header of 4 added."""
    modifier = column.typmod - 4
    if is_array(column.type) or modifier < 0:
        return None, None
    if column.type == _NUMERIC:
        return modifier >> 16 & 0xFFFF, ((modifier & 0x7FF) ^ 1024) - 1024
    return (modifier, None) if column.type in _WITH_LENGTH else (None, None)


def _table(schema: str, change: dict[str, Any]) -> Table:
    record = change["table"]
    if record.get("types", "exact") not in get_args(Types):
        raise ValueError(f"unknown types {record['types']!r}, this process reads {' and '.join(get_args(Types))}")
    return Table(
        schema=schema,
        name=record["name"],
        oid=record["oid"],
        columns=tuple(_column(column) for column in record["columns"]),
        primary_key=tuple(record["primaryKeyColumnNames"]),
        replica_identity=record["replica_identity"],
        identity_columns=tuple(record["identity_columns"]),
        unique=tuple(tuple(columns) for columns in record["unique"]),
        foreign_keys=tuple(
            ForeignKey(
                k["name"],
                tuple(k["columns"]),
                k["schema"],
                k["table"],
                tuple(k["referenced"]),
                k["on_update"],
                k["on_delete"],
            )
            for k in record["foreign_keys"]
        ),
        engine=record.get("engine", "postgresql"),
        charset=record.get("defaultCharsetName"),
        collation=record.get("collation"),
        types=record.get("types", "exact"),
    )


def _column(record: dict[str, Any]) -> Column:
    enum = record["enumValues"]
    return Column(
        name=record["name"],
        type=record["typeName"],
        type_expression=record["typeExpression"],
        type_oid=record["type_oid"],
        typmod=record["typmod"],
        attnum=record["attnum"],
        not_null=record["not_null"],
        default=record["defaultValueExpression"],
        auto_increment=record["autoIncremented"],
        missing=record["missing"],
        enum_values=None if enum is None else tuple(enum),
        charset=record["charsetName"],
        collation=record.get("collation"),
    )
