"""Literals: what stands bare in a statement has been read as what it is, and nothing else ends a string."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.mysql.dialect import MYSQL
from sinks.mysql.statements import Statements
from tests.log_writer import column, table

SHAPE = table("public.t", {"id": "int4", "v": "text", "n": "numeric", "b": "bytea", "f": "float8"}, ["id"])
SHAPE = replace(SHAPE, columns=(*SHAPE.columns, column("d", "numeric", 6, type_expression="numeric(9,2)")))
SQL = Statements(SHAPE, "0123456789abcdef", "home", MYSQL)


def test_each_kind_has_its_literal() -> None:
    row = {"id": -5, "v": "it's \\ %s", "n": "1.50", "b": "AP8=", "f": -0.0, "d": "-0.50"}
    assert SQL.row(SQL.columns, row) == ["-5", r"'it\'s \\ %s'", "'1.50'", "X'00ff'", "'-0'", "-0.50"]
    assert SQL.row(["v", "id"], {"v": None, "id": None}) == ["NULL", "NULL"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "1 OR 1=1"),
        ("id", "1e9"),
        ("id", ""),
        ("d", "1.5)"),
        ("d", "1\n"),
        ("d", "NaN"),
        ("b", "not base64!"),
    ],
)
def test_what_is_not_of_its_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        SQL.row([name], {name: value})


@given(st.text())
def test_a_string_ends_where_it_ends(text: str) -> None:
    (literal,) = SQL.row(["v"], {"v": text})
    assert literal[0] == literal[-1] == "'"
    inside = literal[1:-1]
    at, found = 0, []
    names = {"0": "\0", "n": "\n", "r": "\r", "Z": "\x1a"}
    while at < len(inside):
        assert inside[at] != "'"
        if inside[at] == "\\":
            at += 1
            found.append(names.get(inside[at], inside[at]))
        else:
            found.append(inside[at])
        at += 1
    assert "".join(found) == text


def test_names_are_quoted() -> None:
    odd = replace(table("far`away.t`%s", {"i`d": "int4"}, ["i`d"]))
    assert Statements(odd, "0" * 16, "home", MYSQL).delete_one(1) == "DELETE FROM `far``away`.`t``%s` WHERE `i``d` = 1"
    assert SQL.delete_one(1) == "DELETE FROM `home`.`t` WHERE `id` = 1"
