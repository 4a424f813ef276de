"""What targets are handed between reading an archive and writing rows."""

from collections.abc import Generator

import pytest

from cdc.errors import RESTORE_REFUSED, CdcError
from cdc.event import Table
from cdc.mysql.tables import Definition, table_of
from sinks.archive.place import Place
from sinks.mysql.restoring import _pieces
from sinks.postgres.restoring import _across

PLACE = Place("shop", "t")


def shop(**types: str) -> Table:
    columns = [Definition(name, kind, not_null=False, charset="utf8mb4" if "char" in kind else None)
               for name, kind in types.items()]  # fmt: skip
    return table_of("shop", "t", columns, {"PRIMARY": [columns[0].name]})


def blocks(*lines: bytes) -> Generator[tuple[int, bytes], None, None]:
    yield len(lines), b"".join(lines)


def test_lines_of_mysql_for_postgres() -> None:
    table = shop(id="int", b="bit(5)", raw="varbinary(9)", text="varchar(20)", at="timestamp(3)", flag="bit(1)")
    given = blocks(
        b'"1","21","00ff","a ""quoted"", \xc3\xa9","2024-02-29 01:02:03.450","1"\n', b'"2",,"","",,\n',
        b'"3","0","0a","two\nlines",,"0"\n',
    )  # fmt: skip
    ((rows, lines),) = _across(table, PLACE, given)
    assert rows == 3
    assert lines.decode() == (
        '"1","10101","\\x00ff","a ""quoted"", é","2024-02-29 01:02:03.450+00","t"\n'
        '"2",,"\\x","",,\n'
        '"3","00000","\\x0a","two\nlines",,"f"\n'
    )


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [("date", b"0000-00-00", "0000-00-00"), ("datetime", b"2024-00-10 00:00:00", "2024-00-10"),
     ("varchar(9)", b"a\0b", "the character NUL")],
)  # fmt: skip
def test_what_has_no_place_is_named(kind: str, text: bytes, problem: str) -> None:
    with pytest.raises(CdcError, match=problem) as caught:
        list(_across(shop(id="int", v=kind), PLACE, blocks(b'"1","' + text + b'"\n')))
    assert caught.value.code is RESTORE_REFUSED
    assert "column v" in caught.value.text


def test_statements_stay_below_the_packet() -> None:
    rows = [f"({n:04})" for n in range(1000)]
    pieces = list(_pieces(rows, 200))
    assert b",".join(pieces).decode() == ",".join(rows)
    assert max(map(len, pieces)) <= 100
    assert list(_pieces(["x" * 500, "y"], 200)) == [b"x" * 500, b"y"]
    assert list(_pieces([], 200)) == []
