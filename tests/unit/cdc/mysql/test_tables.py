"""A table as the catalog tells it beside what the log says of it before its rows."""

import pytest

from cdc.mysql.tablemap import LONG, YEAR, MappedColumn, TableMap
from cdc.mysql.tables import Definition, UnknownTypeError, column_of, difference, table_of


def mapped(*columns: MappedColumn) -> TableMap:
    return TableMap("d", "t", columns, ())


@pytest.mark.parametrize(
    ("type_name", "code", "unsigned", "equal"),
    [
        ("int", LONG, False, True),
        ("int", LONG, True, False),
        ("int unsigned", LONG, True, True),
        ("year", YEAR, True, True),
    ],
)
def test_signs(type_name: str, code: int, unsigned: bool, equal: bool) -> None:  # noqa: FBT001
    table = table_of("d", "t", [Definition("n", type_name, not_null=False)], {})
    described = mapped(MappedColumn(code, -1, nullable=True, name="n", unsigned=unsigned))
    assert (difference(table, described) is None) == equal


@pytest.mark.parametrize("kind", ["enum", "set"])
def test_a_label_that_no_catalog_of_mysql_can_hold_is_not_carried(kind: str) -> None:
    """A statement tells it; a base or a copy could not."""
    for label, carried in (("\uffff", True), ("\U0001f600", False), ("", True)):
        defined = Definition("n", f"{kind}('a','{label}')", not_null=False, charset="utf8mb4")
        if carried:
            assert column_of(defined, 1).enum_values == ("a", label)
        else:
            with pytest.raises(UnknownTypeError, match="beyond U"):
                column_of(defined, 1)
