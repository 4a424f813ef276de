"""A row of the log → its key and image as JSON, in one pass over the message's bytes. Pure, compiled per table.

In: a change and the offset of a tuple in it (format: `wire`). Out: the offset behind the tuple, the key's JSON object
(None for a keyless table) and the row's. Refuses: whatever is not simply a row of this table, every value there or
NULL and with a form, by any of `NOT_PLAIN` and without a word of why: the message is then read by `wire` and
`TableStream`, step by step, which carry the rest and say what is wrong.

The code is written out column by column (docs/adr/0003). Only positions and the expressions below enter it; names and
rules are bound as values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct calls its exception like a module
from typing import Any

import orjson

from cdc.envelope import NULL, object_template
from cdc.postgres.values import Encoder, encode_integer, encode_text

Plan = Callable[[bytes, int], tuple[int, bytes | None, bytes]]


class NotPlainError(Exception):
    """Another number of columns, or a value that the log did not carry."""


NOT_PLAIN = (NotPlainError, IndexError, StructError, ValueError, TypeError, KeyError)

_INLINE: dict[Encoder, str] = {encode_integer: "data[start:at]", encode_text: "dumps(data[start:at].decode())"}
"""Rules short enough to stand in the code itself instead of a call."""

_COLUMN = """
 if data[at] == 116:
  start = at + 5
  at = start + length(data, at + 1)[0]
  v{n} = {value}
 elif data[at] == 110:
  at += 1
  v{n} = null
 else:
  raise not_plain"""


def compile_plan(names: Sequence[str], key_at: Sequence[int], encoders: Sequence[Encoder]) -> Plan:
    """For a table with these columns, those at `key_at` being its key."""
    scope: dict[str, Any] = {f"e{n}": encode for n, encode in enumerate(encoders)}
    scope |= {
        "length": Struct(">I").unpack_from,
        "dumps": orjson.dumps,
        "null": NULL,
        "not_plain": NotPlainError,
        "width": len(names).to_bytes(2, "big"),
        "key": object_template([names[n] for n in key_at]),
        "image": object_template(names),
    }
    columns = "".join(
        _COLUMN.format(n=n, value=_INLINE.get(encode, f"e{n}(data[start:at])")) for n, encode in enumerate(encoders)
    )
    key = f"key % ({''.join(f'v{n},' for n in key_at)})" if key_at else "None"
    image = f"image % ({''.join(f'v{n},' for n in range(len(names)))})"
    body = (
        "def plan(data, at):\n if data[at : at + 2] != width:\n  raise not_plain\n"
        f" at += 2{columns}\n return at, {key}, {image}"
    )
    exec(compile(body, "<row plan>", "exec"), scope)  # noqa: S102 - the text is made of numbers and constants
    plan: Plan = scope["plan"]
    return plan
