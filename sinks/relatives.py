"""Columns between MySQL and MariaDB: nearly the same types, but for collations and a few that one alone has. Pure.

In: a column of the one, the engine that is the other. Out: its type there as CREATE TABLE has it, and a note where it
is not the same. Refuses: nothing. Values keep their text.

MySQL's json to MySQL's has one exception: numbers that it would alter (`altered_number`).
A collation that the other lacks is replaced by one that holds no two texts equal which the source holds different:
else a key of the source would not fit.
"""

from __future__ import annotations

import re

from cdc.event import Column, Engine
from cdc.mysql.dialect import of_engine
from cdc.mysql.values import double_text

_ASCII = "CHARACTER SET ascii COLLATE ascii_bin"
_ONLY_ON_MARIADB = {"uuid": "char(36)", "inet4": "varchar(15)", "inet6": "varchar(45)"}
_OF_MYSQL = re.compile(r"utf8mb4_0900_(ai_ci|as_ci|as_cs)")
_OF_MARIADB = re.compile(r"utf8mb4_uca1400_(?:nopad_)?(ai_ci|as_ci|as_cs)")
_ONLY_ONE = re.compile(r".*_(0900|uca1400|nopad|tolower)_.*")


def type_on(column: Column, target: Engine) -> tuple[str, str, str]:
    """Its name, its declaration, what is to be said of it."""
    if column.type in _ONLY_ON_MARIADB and target == "mysql":
        sql = _ONLY_ON_MARIADB[column.type]
        return sql.partition("(")[0], f"{sql} {_ASCII}", "its text"
    if column.type == "json" and target == "mariadb":
        return "longtext", "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "the very text"
    if column.charset is None or column.collation is None:
        return column.type, column.type_expression, ""
    collation = collation_on(column.charset, column.collation, target)
    note = "" if collation == column.collation else f"{collation} for {column.collation}"
    return column.type, f"{column.type_expression} CHARACTER SET {column.charset} COLLATE {collation}", note


def collation_on(charset: str, collation: str, target: Engine) -> str:
    """The next one that the target has."""
    if _ONLY_ONE.fullmatch(collation) is None:
        return collation
    if found := (_OF_MYSQL if target == "mariadb" else _OF_MARIADB).fullmatch(collation):
        return f"utf8mb4_uca1400_nopad_{found[1]}" if target == "mariadb" else f"utf8mb4_0900_{found[1]}"
    if charset == "utf8mb4":
        return of_engine(target).collation
    return f"{charset}_nopad_bin" if target == "mariadb" else f"{charset}_bin"


_JSON_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|(-?\d+(?:\.\d+)?(?:e-?\d+)?)')


def altered_number(text: str) -> tuple[str, str] | None:
    """The first number of a JSON text that MySQL reads as another, and that one.

    A DECIMAL that SQL put into it is printed like a DOUBLE, and read as one.
    """
    for match in _JSON_NUMBER.finditer(text):
        number = match[1]
        if number and number != (read := _read_back(number)):
            return number, read
    return None


def _read_back(number: str) -> str:
    if number.lstrip("-").isdigit() and -(2**63) <= int(number) < 2**64:
        return number
    text = double_text(float(number))
    return text if "." in text or "e" in text else f"{text}.0"
