"""Types between engines: limits of tables, refused values, and the document that is written from the code.

That values arrive is shown on real servers, in tests/types/test_across.py.
"""

from typing import Any

import pytest

from cdc.event import Column, Engine, Table
from cdc.types import TYPES
from sinks.across import INDEX_BYTES, UnfitError, on_target, problems, target_columns
from sinks.relatives import collation_on
from tests.types.document import DECLARED, FILE, OTHER, document


def column(name: str, type_name: str, declared: str = "", **facts: Any) -> Column:
    return Column(name, type_name, declared or type_name, 0, -1, 1, not_null=False, **facts)


def shape(*columns: Column, key: tuple[str, ...] = (), engine: Engine = "postgresql", name: str = "t") -> Table:
    return Table("s", name, 0, columns, key, "d" if key else "f", (), engine=engine)


def types(table: Table, target: Engine) -> dict[str, str]:
    return {there.name: there.type_sql.partition(" CHARACTER")[0] for there in target_columns(table, target)}


def test_the_document_is_current() -> None:
    assert FILE.read_text() == document(), "write it anew: python -m tests.types.document"


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_every_type_has_one_on_the_other_engine(engine: Engine) -> None:
    for name in TYPES[engine]:
        declared = DECLARED[engine].get(name, [name])[0]
        (there,) = target_columns(shape(column("v", name, declared, enum_values=("a",)), engine=engine), OTHER[engine])
        assert there.type_sql


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_every_type_has_one_on_the_relative(engine: Engine) -> None:
    relative: Engine = "mariadb" if engine == "mysql" else "mysql"
    for name in TYPES[engine]:
        declared = DECLARED["mysql"].get(name, [name])[0]
        of = column("v", name, declared, enum_values=("a",))
        ((here,), (there,)) = (target_columns(shape(of, engine=engine), target) for target in (engine, relative))
        only = name in ("uuid", "inet4", "inet6") if engine == "mariadb" else name == "json"
        assert (here.type_sql == there.type_sql) is not only


@pytest.mark.parametrize(
    ("engine", "collation", "there"),
    [
        ("mysql", "utf8mb4_0900_ai_ci", "utf8mb4_uca1400_nopad_ai_ci"),
        ("mysql", "utf8mb4_0900_bin", "utf8mb4_nopad_bin"),
        ("mysql", "utf8mb4_de_pb_0900_ai_ci", "utf8mb4_nopad_bin"),
        ("mysql", "latin1_swedish_ci", "latin1_swedish_ci"),
        ("mysql", "utf8mb3_tolower_ci", "utf8mb3_nopad_bin"),
        ("mariadb", "utf8mb4_uca1400_nopad_as_cs", "utf8mb4_0900_as_cs"),
        ("mariadb", "utf8mb4_uca1400_ai_ci", "utf8mb4_0900_ai_ci"),
        ("mariadb", "utf8mb4_uca1400_ai_cs", "utf8mb4_0900_bin"),
        ("mariadb", "utf8mb4_uca1400_turkish_nopad_ai_ci", "utf8mb4_0900_bin"),
        ("mariadb", "latin1_swedish_nopad_ci", "latin1_bin"),
        ("mariadb", "utf8mb4_general_ci", "utf8mb4_general_ci"),
    ],
)
def test_a_collation_that_the_relative_lacks_becomes_no_coarser_one(engine: Engine, collation: str, there: str) -> None:
    relative: Engine = "mariadb" if engine == "mysql" else "mysql"
    assert collation_on(collation.partition("_")[0], collation, relative) == there


def test_the_same_engine_keeps_every_declaration() -> None:
    columns = (column("a", "varchar", "varchar(20)", charset="latin1", collation="latin1_german1_ci"),)
    (there,) = target_columns(shape(*columns, engine="mysql"), "mysql")
    assert there.type_sql == "varchar(20) CHARACTER SET latin1 COLLATE latin1_german1_ci"
    table = shape(column("a", "numeric", "numeric(10,2)"))
    assert types(table, "postgresql") == {"a": "numeric(10,2)"}
    assert on_target(table, "postgresql") is table


def test_key_columns_share_the_room_of_an_index_entry() -> None:
    columns = (column("a", "int8"), column("b", "text"), column("c", "bytea"), column("d", "varchar", "varchar(1000)"),
               column("e", "varchar", "character varying(20)"))  # fmt: skip
    alone = {name: types(shape(*columns, key=(name,)), "mysql")[name] for name in "abcde"}
    assert alone == {
        "a": "bigint", "b": "varchar(768)", "c": f"varbinary({INDEX_BYTES})", "d": "varchar(768)", "e": "varchar(20)",
    }  # fmt: skip
    together = types(shape(*columns, key=tuple("abcde")), "mysql")
    assert together == {"a": "bigint", "b": "varchar(248)", "c": "varbinary(995)", "d": "varchar(248)",
                        "e": "varchar(20)"}  # fmt: skip
    names = [column(f"k{at}", "varchar", "character varying(190)") for at in range(5)]
    room = INDEX_BYTES // 5 // 4
    bounded = types(shape(*names, key=tuple(c.name for c in names)), "mysql")
    assert set(bounded.values()) == {f"varchar({room})"}


def test_the_longest_columns_give_way_where_a_row_is_too_long() -> None:
    columns = [column(f"c{at}", "varchar", f"character varying({4000 + at})") for at in range(6)]
    assert list(types(shape(*columns), "mysql").values()) == [
        "varchar(4000)", "varchar(4001)", "varchar(4002)", "varchar(4003)", "longtext", "longtext",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "wanted"),
    [
        ("numeric(65,30)", "decimal(65,30)"),
        ("numeric(5)", "decimal(5,0)"),
        ("numeric(66,2)", "longtext"),
        ("numeric(40,31)", "longtext"),
        ("numeric(3,-2)", "longtext"),
        ("numeric(2,4)", "longtext"),
        ("numeric", "longtext"),
    ],
)
def test_numerics(declared: str, wanted: str) -> None:
    assert types(shape(column("v", "numeric", declared)), "mysql") == {"v": wanted}


@pytest.mark.parametrize(
    ("engine", "type_name", "declared", "value"),
    [
        ("postgresql", "float4", "", "NaN"),
        ("postgresql", "float8", "", "-Infinity"),
        ("postgresql", "numeric", "numeric(10,2)", "NAN"),
        ("postgresql", "date", "", "infinity"),
        ("postgresql", "date", "", "0044-03-15 BC"),
        ("postgresql", "timestamp", "timestamp without time zone", "+10000-01-01T00:00:00Z"),
        ("postgresql", "timestamptz", "timestamp with time zone", "-infinity"),
        ("mysql", "date", "", "0000-00-00"),
        ("mysql", "datetime", "datetime(3)", "2024-00-10 00:00:00.000"),
        ("mysql", "timestamp", "timestamp", "0000-00-00 00:00:00"),
        ("mysql", "varchar", "varchar(5)", "a\0"),
        ("mysql", "set", "set('a')", "\0"),
    ],
)
def test_a_value_without_a_place_is_refused_by_name(engine: Engine, type_name: str, declared: str, value: str) -> None:
    (there,) = target_columns(shape(column("v", type_name, declared), engine=engine), OTHER[engine])
    with pytest.raises(UnfitError, match=r"column v: .* has no place for"):
        there.text(value)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"a": [1, -2.5, 1.0, 1e300, "1.50", "\\"1.50"], "1.50": 18446744073709551615}', True),
        ("[1.50]", False),
        ('{"a": 12345678901234567890123}', False),
        ("0.12345678901234567890", False),
        ("-0.10", False),
    ],
)
def test_decimals_inside_json_of_mysql(text: str, *, kept: bool) -> None:
    (there,) = target_columns(shape(column("v", "json"), engine="mysql"), "mysql")
    if kept:
        assert there.text(text) == text
    else:
        with pytest.raises(UnfitError, match="MySQL reads the number"):
            there.text(text)


def test_names_that_postgres_would_cut() -> None:
    long = "n" * 64
    assert problems(shape(column("v", "int"), engine="mysql", name=long), "postgresql") == [
        f"s.{long}: the name {long} is longer than Postgres' 63 bytes"
    ]
    assert problems(shape(column("v", "int4"), name=long), "mysql") == []
