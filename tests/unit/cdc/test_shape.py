"""A shape has one id wherever it is seen, and its record reads back."""

from dataclasses import replace

import orjson
import pytest

from cdc.event import Column, ForeignKey, Table
from cdc.shape import SchemaRecord, holds_no_shape, parse_shape, schema_id, shape_key, table_object

TABLE = Table(
    "public",
    "orders",
    16400,
    (
        Column("id", "int8", "bigint", 20, -1, 1, not_null=True, auto_increment=True),
        Column("price", "numeric", "numeric(10,2)", 1700, (10 << 16 | 2) + 4, 2, not_null=False, missing="0"),
        Column("mood", "enum", "public.mood", 16500, -1, 4, not_null=False, enum_values=("sad", "ok")),
        Column("code", "varchar", "character varying(20)", 1043, 24, 5, not_null=True, default="'x'"),
    ),
    ("id",),
    "d",
    ("id",),
    (("code",),),
    (ForeignKey("fk", ("code",), "public", "codes", ("id",), "NO ACTION", "CASCADE"),),
)


def record() -> SchemaRecord:
    return SchemaRecord(schema_id(TABLE), TABLE, "a" * 16, 5, 7, "shop.public.orders", "topic-id")


def value() -> bytes:
    return record().to_bytes(source={"name": "shop"}, ts_ms=1, database="shop")


def test_a_record_reads_back() -> None:
    assert parse_shape(value()) == record()


def test_debezium_s_fields() -> None:
    fields = orjson.loads(value())
    assert list(fields)[:6] == ["source", "ts_ms", "databaseName", "schemaName", "ddl", "tableChanges"]
    assert fields["tableChanges"][0]["id"] == '"public"."orders"'
    price, code = table_object(TABLE)["columns"][1], table_object(TABLE)["columns"][3]
    assert (price["length"], price["scale"], price["optional"]) == (10, 2, True)
    assert (code["length"], code["scale"]) == (20, None)
    assert shape_key("shop") == b'{"databaseName":"shop"}'


@pytest.mark.parametrize(
    "other",
    [
        replace(TABLE, oid=1),
        replace(TABLE, replica_identity="f"),
        replace(TABLE, columns=TABLE.columns[:-1]),
        replace(TABLE, unique=()),
        replace(TABLE, columns=(replace(TABLE.columns[0], typmod=5), *TABLE.columns[1:])),
    ],
)
def test_another_shape_has_another_id(other: Table) -> None:
    assert schema_id(other) != schema_id(TABLE)


def test_a_record_that_does_not_hash_to_its_id_is_refused() -> None:
    with pytest.raises(ValueError, match="does not match its own hash"):
        parse_shape(value().replace(b'"oid":16400', b'"oid":16401'))


@pytest.mark.parametrize("bad", [b"", b"[]", b"{}", b'{"v":2}', b'{"v":1}'])
def test_other_bytes_are_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"not|unknown"):
        parse_shape(bad)


def test_what_debezium_wrote_of_shapes_holds_none_of_ours() -> None:
    assert holds_no_shape(b'{"source":{},"ts_ms":1,"ddl":"a","tableChanges":[{"type":"CREATE"}]}')
    assert holds_no_shape(b'{"schema":{},"payload":{"tableChanges":[{}]}}')
    assert holds_no_shape(b"\0\0\0\0\1")
    assert not holds_no_shape(b'{"source":{},"tableChanges":[{}],"v":1}')
