"""Events as Avro in Confluent's wire format: a zero byte, the schema's id in the registry, the value. Pure.

In: a table, its columns' rules; `register`, which gives a schema's id. Out: a `TableFormat`. Refuses: what `register`
refuses, and two columns whose names are one in Avro (COLUMN_NAMES_COLLIDE).

The schema of a value says the id of the shape that it is of: a registry that lost its schemas and gives their ids to
others is noticed by the first event. Names are adjusted as Debezium does in mode `avro`; a value's field that had to be
has its own name in `cdc.name`. A key's schema has nothing of ours: its id stands in the key, so it decides partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cdc.avro import NULL, THERE, branches, integer, long, sized, writer
from cdc.connect import SCHEMA_ID, Schema, as_avro, avro_name
from cdc.envelope import (
    NAMES,
    OURS,
    TIMES,
    TRANSACTION,
    Carried,
    Described,
    Encoder,
    Open,
    Part,
    Place,
    TableFormat,
    as_it_is,
    envelope_schema,
    escaped,
    key_schema,
)
from cdc.errors import COLUMN_NAMES_COLLIDE, CdcError

Register = Callable[[str, Part, Any], int]
"""Topic, what it is the schema of, the schema → its id."""
_ONE_CHARACTER = b"\x02"


class AvroFormat:
    """See the module."""

    def __init__(self, register: Register) -> None:
        self._register = register

    def table(self, table: Described) -> TableFormat:
        columns = table.columns
        refuse_alike(table.full_name, [column.name for column in columns])
        head = self._head(table.topic, "value", envelope_schema(table), {SCHEMA_ID: table.schema_id})
        key_head = self._head(table.topic, "key", key_schema(table)) if table.key_at else b""
        return TableFormat(
            columns=columns,
            key_at=table.key_at,
            members=(b"",) * len(columns),
            encoders=tuple(_encoder(column) for column in columns),
            writers=tuple(writer(column.schema) for column in columns),
            nulls=tuple(NULL if column.schema.optional else None for column in columns),
            unavailable=tuple(_value(column.schema, column.unavailable) for column in columns),
            invented=tuple(_value(column.schema, column.invented) for column in columns),
            separator=b"",
            image=(THERE, b""),
            key=(escaped(key_head), b""),
            inner_key=(THERE, b""),
            json=False,
            no_image=NULL,
            no_tail=NULL * (len(OURS) if table.key_at else 2),
            tail=lambda fields: _tail(fields, keyed=bool(table.key_at)),
            frame=lambda snapshot: _frame(table.source(snapshot), head, transaction=snapshot == "false"),
        )

    def record(self, topic: str, part: Part, schema: Schema) -> Callable[[Any], bytes]:
        head, write = self._head(topic, part, schema), writer(schema)
        return lambda value: head + write(value)

    def _head(self, topic: str, part: Part, schema: Schema, more: Mapping[str, str] | None = None) -> bytes:
        form = as_avro(schema, own_names=part == "value") | dict(more or {})
        return b"\x00" + self._register(topic, part, form).to_bytes(4, "big")


def refuse_alike(table: str, names: Sequence[str]) -> None:
    """Two columns of one name in Avro."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(avro_name(name), name)
        if other != name:
            raise CdcError(COLUMN_NAMES_COLLIDE, table=table, first=other, second=name, name=avro_name(name))


def _value(schema: Schema, value: Any) -> bytes:
    """Of a column; nothing where there is none and none can be."""
    return b"" if value is None and not schema.optional else writer(schema)(value)


def _tail(fields: Mapping[str, Sequence[str] | bytes], *, keyed: bool) -> bytes:
    names = writer(NAMES)
    return b"".join(
        value if isinstance(value, bytes) else names([name.encode() for name in value])
        for value in (fields.get(name, NULL) for name in (OURS if keyed else OURS[:2]))
    )


# -- columns ----------------------------------------------------------------------------------------------------
def _encoder(column: Carried) -> Encoder:
    """The rule for a column's text. Texts and integers, which are nearly all, in one step."""
    schema, native = column.schema, column.native
    there = branches(schema)[1] if schema.optional else b""
    if native is as_it_is:
        return _text(there)
    if native is int:
        whole = long if schema.type == "int64" else integer
        return (lambda text: there + whole(int(text))) if there else (lambda text: whole(int(text)))
    write = writer(schema)
    return lambda text: write(native(text))


def _text(there: bytes) -> Encoder:
    lengths = tuple(there + long(n) for n in range(256))

    def text(value: bytes) -> bytes:
        size = len(value)
        if not value.isascii():
            value.decode()
        return (lengths[size] if size < 256 else there + long(size)) + value

    return text


# -- the rest of an event ---------------------------------------------------------------------------------------
def _frame(source: Sequence[Place], head: bytes, *, transaction: bool) -> Open:
    """Written out: the bytes between two places of the event are joined once a transaction."""
    code = _Code(head)
    code.event("{}")
    code.event("{}")
    code.places(source)
    if transaction:
        code.constant(THERE)
        code.places(TRANSACTION)
    else:
        code.constant(NULL)
    code.constant(_ONE_CHARACTER)
    code.event("{}")
    code.places(TIMES)
    code.event("{}")
    return code.compiled()


class _Code:
    """Of an `Open`: pieces that the transaction joins, and between them those of the event."""

    def __init__(self, head: bytes) -> None:
        self._scope: dict[str, Any] = {"long": long, "sized": sized, "NULL": NULL, "THERE": THERE}
        self._scope["join"] = b"".join
        self._transaction = self._events = 0
        self._pieces: list[list[str]] = [[]]
        self._between: list[str] = []
        self._last = b""
        self.constant(head)

    def constant(self, value: bytes) -> None:
        name = f"c{len(self._scope)}"
        self._scope[name] = value
        self._pieces[-1].append(name)

    def event(self, expression: str) -> None:
        self._between.append(expression.format(f"e{self._events}"))
        self._events += 1
        self._pieces.append([])

    def places(self, places: Sequence[Place]) -> None:
        for place in places:
            there = branches(place.schema)[1] if place.schema.optional else b""
            if place.when == "table":
                value = place.value.encode() if isinstance(place.value, str) else place.value
                self.constant(writer(place.schema)(value))
            elif place.text:
                name = f"text{self._transaction}"
                self._scope[name] = place.text.encode()
                self.constant(there)
                self.event(f"sized({name} % (t{self._transaction}, {{}}))")
                self._transaction += 1
            elif place.when == "event":
                self.constant(there)
                self.event("long({})")
            else:
                self._given(place)

    def _given(self, place: Place) -> None:
        name = f"t{self._transaction}"
        self._transaction += 1
        value = f"sized({name}.encode())" if place.schema.type == "string" else f"long({name})"
        if place.nullable:
            value = f"(NULL if {name} is None else THERE + {value})"
        elif place.schema.optional:
            value = f"THERE + {value}"
        self._pieces[-1].append(value)

    def compiled(self) -> Open:
        given = "".join(f"t{at}," for at in range(self._transaction))
        events = "".join(f"e{at}," for at in range(self._events))
        lines = [f"s{at} = {' + '.join(piece) or repr(b'')}" for at, piece in enumerate(self._pieces)]
        joined = "".join(f"s{at}, {between}, " for at, between in enumerate(self._between)) + f"s{len(self._between)}"
        body = (
            f"def open({given}):\n " + "\n ".join(lines) + "\n"
            f" def fill(given):\n  ({events}) = given\n  return join(({joined}))\n return fill"
        )
        exec(compile(body, "<event frame>", "exec"), self._scope)  # noqa: S102 - the text is made of numbers and constants
        opened: Open = self._scope["open"]
        return opened
