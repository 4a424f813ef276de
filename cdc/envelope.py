"""Rows → event bytes in Debezium's envelope, by code compiled once per table. Pure.

In: a table's columns with the dialect's text rules, rows as lists of text, the facts of a transaction. Out: JSON
bytes, fields in Debezium's order, ours behind them (docs/EVENTS.md).
Refuses: nothing; a rule that cannot write a value raises, and the decoder says where.

Three stages, so that the row path only joins bytes: per table (names, facts that never change), per transaction and
table, per event. Each stage fills the %-template of the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

Encoder = Callable[[bytes], bytes]
RowEncoder = Callable[[Sequence[Any]], bytes]

NULL = b"null"
VERSION = "0.1.0"
"""What `source.version` says: the version of this service."""


def compile_row(names: Sequence[str], encoders: Sequence[Encoder]) -> RowEncoder:
    """A function from a whole row of texts (None = NULL) to its JSON object.

    Written out column by column as one expression: half the time of a loop over the columns (docs/adr/0003). Only
    positions enter the code; names and rules are bound as values.
    """
    scope: dict[str, Any] = {f"e{at}": encode for at, encode in enumerate(encoders)}
    scope["template"] = object_template(names)
    scope["null"] = NULL
    columns = "".join(f"v{at}," for at in range(len(names)))
    values = "".join(f"null if v{at} is None else e{at}(v{at})," for at in range(len(names)))
    body = f"def row(values):\n ({columns}) = values\n return template % ({values})"
    exec(compile(body, "<row encoder>", "exec"), scope)  # noqa: S102 - the text is made of numbers alone
    encode_row: RowEncoder = scope["row"]
    return encode_row


def compile_key(names: Sequence[str], at: Sequence[int], encoders: Sequence[Encoder]) -> RowEncoder:
    """A function from a whole row to the JSON object of its key columns, which stand at positions `at`."""
    encode_row = compile_row(names, encoders)
    if len(at) == 1:
        (only,) = at
        return lambda values: encode_row((values[only],))
    return lambda values: encode_row([values[position] for position in at])


def object_template(names: Sequence[str]) -> bytes:
    """A JSON object with a place for each value."""
    return b"{" + b",".join(_escape(orjson.dumps(name)) + b":%b" for name in names) + b"}"


def name_list(names: Sequence[str]) -> bytes:
    return orjson.dumps(list(names))


def _escape(text: bytes) -> bytes:
    """Text inside a %-template."""
    return text.replace(b"%", b"%%")


def quoted(text: str) -> bytes:
    """A JSON string for use inside a %-template."""
    return _escape(orjson.dumps(text))


def quoted_twice(text: str) -> bytes:
    """A JSON string for use inside a template that is filled twice."""
    return _escape(quoted(text))


def frame(source: bytes, *, transaction: bool) -> bytes:
    """The template of a table's events, filled twice: places with one % are the transaction's, with two the event's.

    `source` is the dialect's block, such a template too. A transaction fills the places of `source`, its id as JSON
    (not for a base copy, which is none to Debezium) and its time in ms, µs and ns; an event: before, after, the places
    of `source`, total order and collection order (not for a base copy), op, and its tail.
    """
    block = b'{"id":%b,"total_order":%%d,"data_collection_order":%%d}' if transaction else NULL
    return b"".join(
        (
            b'{"before":%%b,"after":%%b,"source":',
            source,
            b',"transaction":',
            block,
            b',"op":"%%b","ts_ms":%d,"ts_us":%d,"ts_ns":%d%%b}',
        )
    )


def tail(fields: Mapping[str, bytes]) -> bytes:
    """Our optional fields behind `ts_ns`, given as JSON."""
    return b"".join(b',"%b":%b' % (name.encode(), value) for name, value in fields.items())
