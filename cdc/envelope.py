"""Debezium's envelope: what an event holds, and how a table's rows become its bytes. Pure, compiled per table.

In: a table's columns with their rules, the `source` block as places, a format (`json_format`, `avro_format`). Out: a
`TableFormat`: rows of source text → key and value bytes, fields in Debezium's order, ours behind them (docs/EVENTS.md).
Refuses: nothing; a rule that cannot write a value raises, and the decoder says where.

Three stages, so that the row path only joins bytes: per table (names, facts that never change), per transaction and
table, per event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson

from cdc.connect import INT64, STRING, Schema, array, optional, struct

Encoder = Callable[[bytes], bytes]
Native = Callable[[bytes], Any]
RowEncoder = Callable[[Sequence[Any]], bytes]
Fill = Callable[[tuple[Any, ...]], bytes]
"""before, after, the event's places of `source`, total order and collection order (not for a base copy), op, tail →
an event."""
Part = Literal["key", "value"]
Open = Callable[..., Fill]
"""The transaction's places of `source`, its id (not for a base copy, which is none to Debezium), its time in ms, µs and
ns → what fills its events."""

VERSION = "0.1.0"
"""What `source.version` says: the version of this service."""


# -- what an event holds ----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Carried:
    """How a column's values are carried.

    `json` makes JSON of the source's text, `native` the value that `connect` has for `schema`. `unavailable` stands for
    a value that the log did not carry, `invented` for one that a `before` lacks although the column is NOT NULL: in
    both cases what Debezium writes, and our readers go by `unchanged` and `before_absent`.
    """

    name: str
    schema: Schema
    json: Encoder
    native: Native
    unavailable: Any = None
    invented: Any = None


def as_it_is(text: bytes) -> bytes:
    """`native` of a type whose text is the value."""
    return text


@dataclass(frozen=True, slots=True)
class Place:
    """A field of the `source` block, and when its value is known.

    A `text` is made of bytes that the transaction gives and a number of the event. Values are texts and numbers.
    """

    name: str
    schema: Schema
    when: Literal["table", "transaction", "event"]
    value: str | int | None = None
    text: str = ""
    nullable: bool = False


def fixed(name: str, value: str | int | None, schema: Schema = STRING) -> Place:
    """Known for the whole table."""
    return Place(name, schema, "table", value)


def per_transaction(name: str, schema: Schema = INT64, *, nullable: bool = False) -> Place:
    return Place(name, schema, "transaction", nullable=nullable)


def per_event(name: str, schema: Schema = INT64, text: str = "") -> Place:
    return Place(name, schema, "event", text=text)


OPTIONAL_INT64, OPTIONAL_STRING = optional(INT64), optional(STRING)
_MARKS = "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"
SNAPSHOT = Schema("string", "io.debezium.data.Enum", (("allowed", _MARKS),), optional=True, default="false", version=1)
"""Of `source.snapshot`: the place of a row in a base copy, `false` in the stream."""
TRANSACTION = (per_transaction("id", STRING), per_event("total_order"), per_event("data_collection_order"))
TIMES = tuple(per_transaction(name, OPTIONAL_INT64) for name in ("ts_ms", "ts_us", "ts_ns"))
NAMES = optional(array(STRING))
OURS = ("unchanged", "before_absent", "moved_to", "moved_from")
"""Our fields behind `ts_ns`, there when they say something."""


@dataclass(frozen=True, slots=True)
class Described:
    """A table as a format is told of it. `name`, which is `<prefix>.<schema>.<table>`, begins its schemas' names."""

    name: str
    full_name: str
    schema_id: str
    topic: str
    columns: tuple[Carried, ...]
    key_at: tuple[int, ...]
    source_name: str
    source: Callable[[str], Sequence[Place]]
    """The block's places, for events whose `snapshot` says this."""


def block(name: str, places: Sequence[Place], version: int | None = None) -> Schema:
    return struct(name, *((place.name, place.schema) for place in places), version=version)


def key_schema(table: Described) -> Schema:
    return struct(f"{table.name}.Key", *((table.columns[at].name, table.columns[at].schema) for at in table.key_at))


def envelope_schema(table: Described) -> Schema:
    """Of the value of an event. Ours are optional: readers of Debezium's skip them."""
    image = optional(struct(f"{table.name}.Value", *((column.name, column.schema) for column in table.columns)))
    moved = optional(key_schema(table)) if table.key_at else NAMES
    return struct(
        f"{table.name}.Envelope",
        ("before", image),
        ("after", image),
        ("source", block(table.source_name, table.source("false"), version=1)),
        ("transaction", optional(block("event.block", TRANSACTION, version=1))),
        ("op", STRING),
        *((place.name, place.schema) for place in TIMES),
        ("unchanged", NAMES),
        ("before_absent", NAMES),
        *((("moved_to", moved), ("moved_from", moved)) if table.key_at else ()),
        version=2,
    )


# -- how it is written ------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TableFormat:
    """How the rows of one table are written, as parts of %-templates and rules for the values between them.

    Of each column: `members` stand before its value, `encoders` write its text, `writers` the value that `connect` has,
    `nulls` stand for NULL (None where there can be none), `unavailable` and `invented` as in `Carried`. Around the
    values stand `image`, `key`, and for a key inside an event `inner_key`. `json`: all of it is JSON.
    """

    columns: tuple[Carried, ...]
    key_at: tuple[int, ...]
    members: tuple[bytes, ...]
    encoders: tuple[Encoder, ...]
    writers: tuple[Callable[[Any], bytes], ...]
    nulls: tuple[bytes | None, ...]
    unavailable: tuple[bytes, ...]
    invented: tuple[bytes, ...]
    separator: bytes
    image: tuple[bytes, bytes]
    key: tuple[bytes, bytes]
    inner_key: tuple[bytes, bytes]
    json: bool
    no_image: bytes
    no_tail: bytes
    tail: Callable[[Mapping[str, Sequence[str] | bytes]], bytes]
    """Our optional fields: lists of names, and keys as `inner_key` writes them."""
    frame: Callable[[str], Open]
    """The rest of an event whose `snapshot` says this."""

    def template(self, around: tuple[bytes, bytes], columns: Sequence[int], places: Sequence[bytes] = ()) -> bytes:
        """Of these columns' values, `%b` unless told."""
        written = places or [b"%b"] * len(columns)
        members = (self.members[at] + place for at, place in zip(columns, written, strict=True))
        return around[0] + self.separator.join(members) + around[1]

    def row(self, nulls: Sequence[bytes | None] | None = None) -> RowEncoder:
        """A function from a whole row of texts (None = NULL) to its image."""
        everything = range(len(self.columns))
        return compile_row(self.encoders, nulls or self.nulls, self.template(self.image, everything))

    def key_of(self, around: tuple[bytes, bytes]) -> RowEncoder:
        """A function from a whole row to its key."""
        at = self.key_at
        encode = compile_row([self.encoders[n] for n in at], [None] * len(at), self.template(around, at))
        if len(at) == 1:
            (only,) = at
            return lambda values: encode((values[only],))
        return lambda values: encode([values[n] for n in at])

    def key_as_json(self) -> RowEncoder:
        """A function from a whole row to its key in a header: JSON in every format."""
        names = [escaped(orjson.dumps(self.columns[at].name)) + b":%b" for at in self.key_at]
        encode = compile_row(
            [self.columns[at].json for at in self.key_at], [None] * len(names), b"{" + b",".join(names) + b"}"
        )
        return lambda values: encode([values[at] for at in self.key_at])

    @property
    def key_image_nulls(self) -> tuple[bytes | None, ...]:
        """`nulls` of an image before the change that has the key alone."""
        return tuple(
            null if column.invented is None else invented
            for column, null, invented in zip(self.columns, self.nulls, self.invented, strict=True)
        )


class Format(Protocol):
    """How events are written."""

    def table(self, table: Described) -> TableFormat: ...
    def record(self, topic: str, part: Part, schema: Schema) -> Callable[[Any], bytes]:
        """The rule for keys or values of any other topic."""
        ...


def compile_row(encoders: Sequence[Encoder], nulls: Sequence[bytes | None], template: bytes) -> RowEncoder:
    """A function from texts to the template filled with their values.

    Written out column by column as one expression: half the time of a loop over the columns (docs/adr/0003). Only
    positions enter the code; rules are bound as values.
    """
    scope: dict[str, Any] = {f"e{at}": encode for at, encode in enumerate(encoders)}
    scope |= {f"n{at}": null for at, null in enumerate(nulls)}
    scope["template"] = template
    columns = "".join(f"v{at}," for at in range(len(encoders)))
    values = "".join(
        f"e{at}(v{at})," if null is None else f"n{at} if v{at} is None else e{at}(v{at}),"
        for at, null in enumerate(nulls)
    )
    body = f"def row(values):\n ({columns}) = values\n return template % ({values})"
    exec(compile(body, "<row encoder>", "exec"), scope)  # noqa: S102 - the text is made of numbers alone
    encode_row: RowEncoder = scope["row"]
    return encode_row


def escaped(text: bytes) -> bytes:
    """Text inside a %-template."""
    return text.replace(b"%", b"%%")
