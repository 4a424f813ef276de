"""Events as JSON: Debezium's envelope as the JSON converter of Kafka Connect writes it, plain or with its schema. Pure.

In: a table, its columns' rules. Out: a `TableFormat`. Refuses: nothing.

Numbers are written from the server's own digits where the source text has them, never through a float. With a schema
every message is `{"schema":…,"payload":…}`; fields of ours that say nothing are left out of both forms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any

import orjson

from cdc.connect import Schema, as_json, optional, to_json
from cdc.envelope import (
    TIMES,
    TRANSACTION,
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

NULL = b"null"


class JsonFormat:
    """See the module."""

    def __init__(self, *, with_schema: bool = False) -> None:
        self._with_schema = with_schema

    def table(self, table: Described) -> TableFormat:
        columns = table.columns
        before, behind = self._around(envelope_schema(table))
        key_before, key_behind = self._around(key_schema(table)) if table.key_at else (b"", b"")
        return TableFormat(
            columns=columns,
            key_at=table.key_at,
            members=tuple(escaped(orjson.dumps(column.name)) + b":" for column in columns),
            encoders=tuple(
                _as_connect(column.json) if at in table.key_at and column.native is as_it_is else column.json
                for at, column in enumerate(columns)
            ),
            writers=tuple(to_json(column.schema) for column in columns),
            nulls=(NULL,) * len(columns),
            unavailable=tuple(to_json(optional(c.schema))(c.unavailable) for c in columns),
            invented=tuple(to_json(optional(c.schema))(c.invented) for c in columns),
            separator=b",",
            image=(b"{", b"}"),
            key=(escaped(key_before) + b"{", b"}" + key_behind),
            inner_key=(b"{", b"}"),
            json=True,
            no_image=NULL,
            no_tail=b"",
            tail=_tail,
            frame=lambda snapshot: _frame(table.source(snapshot), before, behind, transaction=snapshot == "false"),
        )

    def record(self, topic: str, part: Part, schema: Schema) -> Callable[[Any], bytes]:  # noqa: ARG002 - Avro's
        (before, behind), write = self._around(schema), to_json(schema)
        return lambda value: before + write(value) + behind

    def _around(self, schema: Schema) -> tuple[bytes, bytes]:
        if not self._with_schema:
            return b"", b""
        return b'{"schema":' + orjson.dumps(as_json(schema)) + b',"payload":', b"}"


_ODD = re.compile(rb"\\(?:u00[0-9a-f]{2}|.)|[\xf0-\xf4][\x80-\xbf]{3}")
"""An escape, or a character beyond U+FFFF."""
_SURROGATES = Struct(">HH")


def _as_connect(encode: Encoder) -> Encoder:
    """In a key every byte counts, for it gives the partition: Connect escapes in capitals, and surrogates each."""

    def again(found: re.Match[bytes]) -> bytes:
        text = found[0]
        if text[:1] != b"\\":
            return b"\\u%04X\\u%04X" % _SURROGATES.unpack(text.decode().encode("utf-16-be"))
        return b"\\u" + text[2:].upper() if text[1:2] == b"u" else text

    def encoder(text: bytes) -> bytes:
        json = encode(text)
        return _ODD.sub(again, json) if _ODD.search(json) else json

    return encoder


def _tail(fields: Mapping[str, Sequence[str] | bytes]) -> bytes:
    return b"".join(
        b',"%b":%b' % (name.encode(), value if isinstance(value, bytes) else orjson.dumps(list(value)))
        for name, value in fields.items()
    )


# -- the rest of an event ---------------------------------------------------------------------------------------
def _frame(source: Sequence[Place], before: bytes, behind: bytes, *, transaction: bool) -> Open:
    """A template that is filled twice: places with one % are the transaction's, with two the event's."""
    of_transaction = TRANSACTION if transaction else ()
    places = (*source, *of_transaction, *TIMES)
    template = b"".join(
        (
            escaped(escaped(before)),
            b'{"before":%%b,"after":%%b,"source":',
            _block(source),
            b',"transaction":',
            _block(of_transaction) if transaction else NULL,
            b',"op":"%%b",',
            _members(TIMES),
            b"%%b}",
            behind,
        )
    )
    given = [place for place in places if place.when == "transaction" or place.text]
    names = "".join(f"t{at}," for at in range(len(given)))
    values = "".join(f"{_expression(place, f't{at}')}," for at, place in enumerate(given))
    scope: dict[str, Any] = {"template": template, "dumps": orjson.dumps}
    body = f"def open({names}):\n return (template % ({values})).__mod__"
    exec(compile(body, "<event frame>", "exec"), scope)  # noqa: S102 - the text is made of numbers and constants
    opened: Open = scope["open"]
    return opened


def _block(places: Sequence[Place]) -> bytes:
    return b"{" + _members(places) + b"}"


def _members(places: Sequence[Place]) -> bytes:
    return b",".join(escaped(escaped(orjson.dumps(place.name))) + b":" + _place(place) for place in places)


def _place(place: Place) -> bytes:
    if place.when == "table":
        return escaped(escaped(orjson.dumps(place.value)))
    if place.text:
        return orjson.dumps(place.text).replace(b"%d", b"%%d")
    if place.when == "event":
        return b"%%d"
    return b"%d" if _number(place) else b"%b"


def _number(place: Place) -> bool:
    return place.schema.type != "string" and not place.nullable


def _expression(place: Place, given: str) -> str:
    if place.text:
        return f"{given}.replace(b'\"', b'\\\\\"')"
    if _number(place):
        return given
    return f"dumps({given}).replace(b'%', b'%%')"


JSON = JsonFormat()
