"""A row of the log → its key and image, in one pass over the message's bytes. Pure, compiled per table.

In: a change and the offset of a tuple in it (format: `wire`). Out: the offset behind the tuple, the key's bytes (None
for a keyless table) and the row's, as the table's format has them. Refuses: whatever is not simply a row of this table,
every value there or NULL and with a form, by any of `NOT_PLAIN` and without a word of why: the message is then read by
`wire` and `TableStream`, step by step, which carry the rest and say what is wrong.

The code is written out column by column (docs/adr/0003). Only positions and the expressions below enter it; names and
rules are bound as values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct calls its exception like a module
from typing import Any

import orjson

from cdc.envelope import TableFormat
from cdc.postgres.values import Encoder, encode_integer, encode_text

Plan = Callable[[bytes, int], tuple[int, bytes | None, bytes]]


class NotPlainError(Exception):
    """Another number of columns, or a value that the log did not carry."""


def _refuse() -> None:
    raise NotPlainError


NOT_PLAIN = (NotPlainError, IndexError, StructError, ValueError, TypeError, KeyError)

_INLINE: dict[Encoder, str] = {encode_integer: "data[start:at]", encode_text: "dumps(data[start:at].decode())"}
"""Rules short enough to stand in the code itself instead of a call."""

_NO_NULL = "refuse()"
_COLUMN = """
 if data[at] == 116:
  start = at + 5
  at = start + length(data, at + 1)[0]
  v{n} = {value}
 elif data[at] == 110:
  at += 1
  v{n} = {null}
 else:
  raise not_plain"""


def compile_plan(table: TableFormat, nulls: Sequence[bytes | None]) -> Plan:
    """For a table of this format; `nulls` stand for NULL, None where there can be none."""
    encoders, key_at = table.encoders, table.key_at
    everything = range(len(encoders))
    scope: dict[str, Any] = {f"e{n}": encode for n, encode in enumerate(encoders)}
    scope |= {f"n{n}": null for n, null in enumerate(nulls)}
    scope |= {
        "length": Struct(">I").unpack_from,
        "dumps": orjson.dumps,
        "not_plain": NotPlainError,
        "refuse": _refuse,
        "width": len(encoders).to_bytes(2, "big"),
        "key": table.template(table.key, key_at),
        "image": table.template(table.image, everything),
    }
    columns = "".join(
        _COLUMN.format(
            n=n,
            value=_INLINE.get(encoders[n], f"e{n}(data[start:at])"),
            null=_NO_NULL if nulls[n] is None else f"n{n}",
        )
        for n in everything
    )
    key = f"key % ({''.join(f'v{n},' for n in key_at)})" if key_at else "None"
    image = f"image % ({''.join(f'v{n},' for n in everything)})"
    body = (
        "def plan(data, at):\n if data[at : at + 2] != width:\n  raise not_plain\n"
        f" at += 2{columns}\n return at, {key}, {image}"
    )
    exec(compile(body, "<row plan>", "exec"), scope)  # noqa: S102 - the text is made of numbers and constants
    plan: Plan = scope["plan"]
    return plan
