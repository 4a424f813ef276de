"""A row image of the binary log → its key and itself, in one pass over the bytes. Pure, compiled per table.

In: the offset of a whole image in the body of a rows event (format: `rows`), behind its bitmap of NULLs. Out: the
offset behind it, the key's bytes (None for a keyless table) and the row's, as the table's format has them. Refuses:
bytes that are no such image, by any of `NOT_PLAIN` or by an offset beyond the end, without a word of why: the event is
then read by `rows` and `values` column by column, which write the same bytes and say what is wrong.

The code is written out for each bitmap of NULLs that is met, column by column (docs/adr/0003): columns of fixed size
that stand together are cut out at once, those that are NULL are part of the text around. Only positions, sizes and the
expressions below enter it; names and rules are bound as values. Of bitmaps beyond `MAX_COMPILED` the images are read by
a loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct calls its exception like a module
from typing import Any

import orjson

from cdc.envelope import TableFormat
from cdc.mysql.kinds import Kind, Rule, by_text, kind
from cdc.mysql.tablemap import MappedColumn

ReadImage = Callable[[bytes, int], tuple[int, bytes | None, bytes]]

NOT_PLAIN = (IndexError, StructError, ValueError, TypeError, KeyError, OverflowError)
MAX_COMPILED = 64
_dumps = orjson.dumps


# -- code -----------------------------------------------------------------------------------------------------------
_LENGTHS = {
    1: "data[at]",
    2: "data[at] | data[at + 1] << 8",
    3: "data[at] | data[at + 1] << 8 | data[at + 2] << 16",
    4: "length(data, at)[0]",
}


class Plan:
    """The plan of one table: `functions` by bitmap of NULLs, those that were met."""

    def __init__(self, table: TableFormat, columns: Sequence[MappedColumn], *, exact: bool) -> None:
        self._table = table
        self._kinds = [
            kind(column)
            if exact and table.json and encode is carried.json
            else by_text(column, carried.native, encode, write)
            for column, carried, encode, write in zip(
                columns, table.columns, table.encoders, table.writers, strict=True
            )
        ]
        self.functions: dict[bytes, ReadImage] = {}

    def function(self, nulls: bytes) -> ReadImage:
        """For images with these NULLs, met for the first time."""
        bits = int.from_bytes(nulls, "little")
        there = [at for at in range(len(self._kinds)) if not bits >> at & 1]
        if len(self.functions) >= MAX_COMPILED:
            return self._loop(there)
        self.functions[nulls] = function = self._compile(there)
        return function

    def _template(self, around: tuple[bytes, bytes], columns: Sequence[int], there: frozenset[int]) -> bytes:
        return self._table.template(
            around, columns, [self._kinds[at].place if at in there else self._null(at) for at in columns]
        )

    def _null(self, at: int) -> bytes:
        null = self._table.nulls[at]
        if null is None:
            raise ValueError("NULL in a column that is NOT NULL")
        return null

    def _templates(self, there: Sequence[int]) -> tuple[bytes | None, bytes, list[int]]:
        """Of key and image, and which of the values the key has."""
        known, key_at = frozenset(there), self._table.key_at
        key = self._template(self._table.key, key_at, known) if key_at else None
        image = self._template(self._table.image, range(len(self._kinds)), known)
        return key, image, [at for at in key_at if at in known]

    def _compile(self, there: list[int]) -> ReadImage:
        key, image, key_there = self._templates(there)
        scope: dict[str, Any] = {f"e{at}": self._kinds[at].rule for at in there}
        scope |= {"dumps": _dumps, "length": Struct("<I").unpack_from, "key": key, "image": image}
        lines: list[str] = []
        run: list[int] = []
        for at in there:
            if self._kinds[at].code:
                run.append(at)
            else:
                _cut_fixed(lines, scope, run, self._kinds)
                run = []
                prefix = self._kinds[at].prefix
                lines.append(f"start = at + {prefix}; at = start + ({_LENGTHS[prefix]}); v{at} = data[start:at]")
        _cut_fixed(lines, scope, run, self._kinds)
        for at in there:
            expression = self._kinds[at].expression
            if expression != "v":
                lines.append(f"v{at} = {_of_column(expression, at)}")
        of_key = f"key % ({''.join(f'v{at},' for at in key_there)})" if key is not None else "None"
        of_image = f"image % ({''.join(f'v{at},' for at in there)})"
        body = "def read(data, at):\n " + "\n ".join([*lines, f"return at, {of_key}, {of_image}"])
        exec(compile(body, "<row plan>", "exec"), scope)  # noqa: S102 - the text is made of numbers and constants
        read: ReadImage = scope["read"]
        return read

    def _loop(self, there: list[int]) -> ReadImage:
        key, image, key_there = self._templates(there)
        steps = [(self._kinds[at], Struct(f"<{self._kinds[at].code}"), _evaluator(self._kinds[at])) for at in there]
        key_places = [there.index(at) for at in key_there]

        def read(data: bytes, at: int) -> tuple[int, bytes | None, bytes]:
            values: list[Any] = []
            for column, struct, evaluate in steps:
                if column.code:
                    (value,) = struct.unpack_from(data, at)
                    at += struct.size
                else:
                    start = at + column.prefix
                    at = start + int.from_bytes(data[at:start], "little")
                    value = data[start:at]
                values.append(evaluate(value))
            of_key = None if key is None else key % tuple([values[place] for place in key_places])
            return at, of_key, image % tuple(values)

        return read


def _of_column(expression: str, at: int) -> str:
    """The expressions above name the value `v` and the rule `e`."""
    return _NAMES.sub(lambda name: f"{name[0]}{at}", expression)


_NAMES = re.compile(r"\b[ve]\b")


def _evaluator(column: Kind) -> Rule:
    scope = {"e": column.rule, "dumps": _dumps}
    evaluate: Rule = eval(f"lambda v: {column.expression}", scope)  # noqa: S307 - a constant
    return evaluate


def _cut_fixed(lines: list[str], scope: dict[str, Any], run: Sequence[int], kinds: Sequence[Kind]) -> None:
    """One struct for columns of fixed size that stand together."""
    if not run:
        return
    struct = Struct("<" + "".join(kinds[at].code for at in run))
    scope[f"cut{run[0]}"] = struct.unpack_from
    lines.append(f"({''.join(f'v{at},' for at in run)}) = cut{run[0]}(data, at); at += {struct.size}")
