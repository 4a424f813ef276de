"""The shape of a table as the catalog tells it: one query and the way from its JSON to a `Table`. Pure.

In: JSON of `SHAPE`, from a session of ours or from the event trigger, which runs the same query inside the DDL's own
transaction. Out: a `Table`. Refuses: a column type that is not carried, by TYPE_UNSUPPORTED.
Left out are generated columns, which the log does not carry as rows do; `cdc check` names them.
"""

from __future__ import annotations

from typing import Any

from cdc.errors import TYPE_UNSUPPORTED, CdcError
from cdc.event import Column, ForeignKey, Table
from cdc.types import TYPES

SHAPE = """
SELECT pg_catalog.jsonb_build_object(
  'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, 'replica_identity', c.relreplident,
  'columns', (
    SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', a.attname, 'attnum', a.attnum, 'type_oid', a.atttypid::bigint, 'typmod', a.atttypmod,
      'type', CASE WHEN t.typtype = 'e' THEN 'enum' WHEN e.typtype = 'e' THEN 'enum[]'
                   WHEN e.oid IS NOT NULL THEN e.typname || '[]' ELSE t.typname::text END,
      'type_expression', pg_catalog.format_type(a.atttypid, a.atttypmod), 'not_null', a.attnotnull,
      'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid), 'identity', a.attidentity <> '',
      'missing', (a.attmissingval::text::text[])[1],
      'enum_values', (SELECT pg_catalog.jsonb_agg(v.enumlabel ORDER BY v.enumsortorder) FROM pg_catalog.pg_enum v
                      WHERE v.enumtypid = CASE WHEN t.typtype = 'e' THEN t.oid ELSE e.oid END)
    ) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
  'indexes', (
    SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'primary', i.indisprimary, 'identity', i.indisreplident,
      'columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.at)
                  FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY k(attnum, at)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  WHERE k.at <= i.indnkeyatts)
    ) ORDER BY i.indexrelid)
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indislive AND i.indpred IS NULL AND i.indexprs IS NULL),
  'foreign_keys', (
    SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', f.conname, 'schema', fn.nspname, 'table', fc.relname,
      'columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.at)
                  FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY k(attnum, at)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
      'referenced', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.at)
                  FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY k(attnum, at)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum),
      'on_update', f.confupdtype, 'on_delete', f.confdeltype
    ) ORDER BY f.conname)
    FROM pg_catalog.pg_constraint f
    JOIN pg_catalog.pg_class fc ON fc.oid = f.confrelid
    JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
    WHERE f.conrelid = c.oid AND f.contype = 'f')
)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = """
"""The shape of one table; its oid follows. Every name is qualified: it also runs with an empty search_path."""

_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def table_from_catalog(record: dict[str, Any], *, source: str | None = None) -> Table:
    """The `Table` of one result of `SHAPE`."""
    indexes = record["indexes"] or []
    identity = record["replica_identity"]
    primary = next((tuple(i["columns"]) for i in indexes if i["primary"]), ())
    columns = tuple(_column(column) for column in record["columns"] or [])
    by_identity = {
        "d": primary,
        "i": next((tuple(i["columns"]) for i in indexes if i["identity"]), ()),
        "f": tuple(column.name for column in columns),
    }
    table = Table(
        schema=record["schema"],
        name=record["name"],
        oid=record["oid"],
        columns=columns,
        primary_key=primary,
        replica_identity=identity,
        identity_columns=by_identity.get(identity, ()),
        unique=tuple(tuple(i["columns"]) for i in indexes if not i["primary"]),
        foreign_keys=tuple(_foreign_key(key) for key in record["foreign_keys"] or []),
    )
    for column in columns:
        if column.type.removesuffix("[]") not in TYPES["postgresql"]:
            raise CdcError(
                TYPE_UNSUPPORTED,
                source=source,
                table=table.full_name,
                column=column.name,
                type=column.type_expression,
            )
    return table


def _column(record: dict[str, Any]) -> Column:
    default = record["default"]
    enum = record["enum_values"]
    return Column(
        name=record["name"],
        type=record["type"],
        type_expression=record["type_expression"],
        type_oid=record["type_oid"],
        typmod=record["typmod"],
        attnum=record["attnum"],
        not_null=record["not_null"],
        default=default,
        auto_increment=record["identity"] or bool(default and default.startswith("nextval(")),
        missing=record["missing"],
        enum_values=None if enum is None else tuple(enum),
    )


def _foreign_key(record: dict[str, Any]) -> ForeignKey:
    return ForeignKey(
        record["name"],
        tuple(record["columns"]),
        record["schema"],
        record["table"],
        tuple(record["referenced"]),
        _ACTIONS[record["on_update"]],
        _ACTIONS[record["on_delete"]],
    )
