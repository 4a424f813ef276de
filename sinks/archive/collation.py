"""When MySQL holds two texts of a column equal, as SQL of DuckDB. Pure.

In: columns and expressions of their text. Out: a `Likeness`: expressions that are equal where the values are. Refuses:
nothing; where nobody but the server can say it, two values are near and not the same, and one of them is in doubt.

A collation is known for printable ASCII where it is one that treats it as everybody expects; beyond that, and for the
collations of single languages, only texts of the same characters are the same. Near is what differs in case, accents,
ligatures, width and kana. Types other than texts have one text for a value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cdc.event import Column
from sinks.archive.lines import line, literal

_TEXTS = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext")
_KNOWN = re.compile(
    r"[a-z0-9]+_(?P<rule>0900_ai_ci|0900_as_ci|0900_as_cs|general_ci|unicode_ci|unicode_520_ci)|latin1_swedish_ci"
)
_PLAIN = "'[ -~]*'"
_LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe"}
_CHARACTERS = {
    **dict(zip("øđðłı", "oddli", strict=True)),
    **{chr(wide): chr(wide - 0xFEE0).lower() for wide in range(0xFF01, 0xFF5F)},
    **{chr(katakana): chr(katakana - 0x60) for katakana in range(0x30A1, 0x30F7)},
}


@dataclass(frozen=True, slots=True)
class Likeness:
    """Of several columns together; NULL where one of them is. `doubt`: whether only `same` tells equal from near."""

    same: str
    near: str
    doubt: str


def likeness(columns: Sequence[Column], cells: Sequence[str]) -> Likeness:
    """`cells`: an expression for the text of each column."""
    pairs = list(zip(columns, cells, strict=True))
    there = " AND ".join(f"{cell} IS NOT NULL" for cell in cells)
    same, near = (line([form(column, cell) for column, cell in pairs]) for form in (_same, _near))
    return Likeness(
        f"CASE WHEN {there} THEN {same} END",
        f"CASE WHEN {there} THEN {near} END",
        " OR ".join(f"({_doubt(column, cell)})" for column, cell in pairs),
    )


def _same(column: Column, cell: str) -> str:
    cell = _unpadded(column, cell)
    known = _known(column)
    if known is None or known == "0900_as_cs":
        return cell
    return f"CASE WHEN regexp_full_match({cell}, {_PLAIN}) THEN lower({cell}) ELSE {cell} END"


def _near(column: Column, cell: str) -> str:
    cell = _unpadded(column, cell)
    if column.type not in _TEXTS or _binary(column):
        return cell
    replaced, by = literal("".join(_CHARACTERS)), literal("".join(_CHARACTERS.values()))
    found = f"translate(lower(strip_accents({cell})), {replaced}, {by})"
    for character, letters in _LETTERS.items():
        found = f"replace({found}, {literal(character)}, {literal(letters)})"
    return f"CASE WHEN regexp_full_match({cell}, {_PLAIN}) THEN lower({cell}) ELSE {found} END"


def _doubt(column: Column, cell: str) -> str:
    if column.type not in _TEXTS or _binary(column):
        return "false"
    return "true" if _known(column) is None else f"NOT regexp_full_match({cell}, {_PLAIN})"


def _unpadded(column: Column, cell: str) -> str:
    """Blanks at the end count in the newer collations alone, and a char has none."""
    counts = column.type not in _TEXTS or (column.type != "char" and "_0900_" in (column.collation or ""))
    return cell if counts else f"rtrim({cell}, ' ')"


def _binary(column: Column) -> bool:
    return (column.collation or "").endswith("_bin")


def _known(column: Column) -> str | None:
    """The rule that a text's collation follows on ASCII; None if it is not known, or another than those."""
    if column.type not in _TEXTS or _binary(column):
        return None
    match = _KNOWN.fullmatch(column.collation or "")
    return (match["rule"] or match[0]) if match else None
