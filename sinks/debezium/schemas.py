"""What describes a record of Debezium's → Connect's schema, from its JSON form or from Avro. Pure.

In: the schema beside a payload of Connect's JSON converter, or that of an Avro record as its converter registered it.
Out: a `cdc.connect.Schema`. Refuses: a form that Connect does not have, by `ValueError`. Defaults are left out: a value
is there in every record.
"""

from __future__ import annotations

from typing import Any

from cdc.connect import Schema

_AVRO: dict[str, Any] = {
    "int": "int32",
    "long": "int64",
    **{name: name for name in ("float", "double", "boolean", "string", "bytes", "array")},
}
_PLAIN = frozenset({"int16", "int32", "int64", "float", "double", "boolean", "string", "bytes", "array", "struct"})


def from_json(form: Any) -> Schema:
    """Of Connect's JSON converter."""
    kind: Any = "int16" if form["type"] == "int8" else form["type"]
    if kind not in _PLAIN:
        raise ValueError(f"a value of Connect's type {kind!r}")
    return Schema(
        kind,
        form.get("name"),
        tuple(form.get("parameters", {}).items()),
        optional=bool(form.get("optional")),
        items=from_json(form["items"]) if "items" in form else None,
        fields=tuple((field["field"], from_json(field)) for field in form.get("fields", ())),
    )


def from_avro(form: Any) -> Schema:
    """Of Connect's Avro converter."""
    return _from_avro(form, {}, "")


def _from_avro(form: Any, known: dict[str, Schema], space: str) -> Schema:
    if isinstance(form, list):
        (of,) = [branch for branch in form if branch != "null"]
        schema = _from_avro(of, known, space)
        return Schema(schema.type, schema.name, schema.parameters, True, None, schema.items, schema.fields)
    if isinstance(form, str):
        form = {"type": form}
    kind = form["type"]
    if kind == "record":
        return _record(form, known, space)
    for name in (kind, f"{space}.{kind}"):
        if name in known:
            return known[name]
    connect: Any = form.get("connect.type") or _AVRO.get(kind)
    connect = "int16" if connect == "int8" else connect
    if connect not in _PLAIN:
        raise ValueError(f"a value of Avro's type {kind!r}")
    return Schema(
        connect,
        form.get("connect.name"),
        tuple(form.get("connect.parameters", {}).items()),
        items=_from_avro(form["items"], known, space) if "items" in form else None,
    )


def _record(form: dict[str, Any], known: dict[str, Schema], space: str) -> Schema:
    space = form.get("namespace", space)
    full = f"{space}.{form['name']}" if space else form["name"]
    fields = tuple((field["name"], _from_avro(field["type"], known, space)) for field in form["fields"])
    known[full] = schema = Schema("struct", form.get("connect.name", full), fields=fields)
    return schema
