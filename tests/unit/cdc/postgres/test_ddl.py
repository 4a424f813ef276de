"""Schema changes that readers can follow become effects; every other one stops with a word for it."""

from dataclasses import replace
from typing import Any

import pytest

from cdc.event import Column, Table
from cdc.postgres.ddl import UnfollowableError, effects, relation_difference
from cdc.postgres.wire import Relation, RelationColumn


def column(name: str, attnum: int, **more: Any) -> Column:
    given = {"type": "int4", "type_expression": "integer", "type_oid": 23, "typmod": -1, "not_null": False, **more}
    return Column(name=name, attnum=attnum, **given)


ID = column("id", 1, not_null=True)
TABLE = Table("public", "t", 7, (ID, column("a", 2), column("b", 3, not_null=True)), ("id",), "d", ("id",))


def with_columns(*columns: Column) -> Table:
    return replace(TABLE, columns=columns)


def test_nothing_that_concerns_readers() -> None:
    later = replace(TABLE, unique=(("a",),))
    assert effects(TABLE, later) == []
    assert effects(TABLE, with_columns(ID, replace(TABLE.columns[1], default="5"), TABLE.columns[2])) == []
    assert effects(TABLE, with_columns(ID, replace(TABLE.columns[1], not_null=True), TABLE.columns[2])) == []


@pytest.mark.parametrize("more", [{}, {"default": "5", "missing": "5"}, {"default": "NULL::integer"}])
def test_a_column_with_one_value_for_all_rows_is_added(more: dict[str, Any]) -> None:
    later = with_columns(*TABLE.columns, column("z", 4, **more))
    assert effects(TABLE, later) == [("add_column", later)]


def test_a_column_is_dropped() -> None:
    later = with_columns(*TABLE.columns[:2])
    assert effects(TABLE, later) == [("drop_column", later)]


def test_under_full_identity_every_column_identifies() -> None:
    full = replace(TABLE, replica_identity="f", identity_columns=("id", "a", "b"), primary_key=())
    later = replace(full, columns=(ID, TABLE.columns[2], column("z", 4)), identity_columns=("id", "b", "z"))
    (_, kept), (_, added) = effects(full, later)
    assert (kept.identity_columns, added) == (("id", "b"), later)
    with pytest.raises(UnfollowableError, match="replica identity changed"):
        effects(full, replace(full, replica_identity="d"))


def test_drop_and_add_of_one_name_are_two_columns() -> None:
    later = with_columns(ID, TABLE.columns[2], column("a", 4))
    steps = effects(TABLE, later)
    assert [(effect, [c.attnum for c in table.columns]) for effect, table in steps] == [
        ("drop_column", [1, 3]),
        ("add_column", [1, 3, 4]),
    ]


@pytest.mark.parametrize(
    ("later", "says"),
    [
        (replace(TABLE, oid=8), "dropped and made again"),
        (replace(TABLE, name="u"), "renamed to public.u"),
        (replace(TABLE, primary_key=("id", "a")), "primary key"),
        (replace(TABLE, replica_identity="f"), "replica identity"),
        (with_columns(ID, replace(TABLE.columns[1], name="c"), TABLE.columns[2]), "column a was renamed to c"),
        (with_columns(ID, replace(TABLE.columns[1], type_oid=20, type_expression="bigint"), TABLE.columns[2]),
         "column a is bigint, was integer"),
        (with_columns(ID, TABLE.columns[1], replace(TABLE.columns[2], not_null=False)), "b is no longer NOT NULL"),
        (with_columns(*TABLE.columns, column("z", 4, default="random()")), "value of its own in every row"),
        (with_columns(*TABLE.columns, column("z", 4, auto_increment=True)), "value of its own in every row"),
    ],
)  # fmt: skip
def test_other_changes_stop_with_a_word(later: Table, says: str) -> None:
    with pytest.raises(UnfollowableError, match=says):
        effects(TABLE, later)


def test_new_labels_of_an_enum_stop() -> None:
    mood = column("m", 4, type="enum", type_expression="public.mood", enum_values=("ok",))
    with pytest.raises(UnfollowableError, match="labels of public"):
        effects(with_columns(ID, mood), with_columns(ID, replace(mood, enum_values=("ok", "sad"))))


RELATION = Relation(
    7, "public", "t", "d", tuple(RelationColumn(c.name == "id", c.name, c.type_oid, c.typmod) for c in TABLE.columns)
)


def test_a_relation_of_the_same_shape_does_not_differ() -> None:
    assert relation_difference(TABLE, RELATION) is None


@pytest.mark.parametrize(
    ("relation", "says"),
    [
        (replace(RELATION, oid=9), "oid is 9"),
        (replace(RELATION, replica_identity="f"), "replica identity is f"),
        (replace(RELATION, columns=RELATION.columns[:2]), "columns are (id, a), were (id, a, b)"),
        (replace(RELATION, columns=(*RELATION.columns[:2], replace(RELATION.columns[2], type_oid=20))),
         "the type of b changed"),
    ],
)  # fmt: skip
def test_a_relation_of_another_shape_is_described(relation: Relation, says: str) -> None:
    assert says in (relation_difference(TABLE, relation) or "")


@pytest.mark.parametrize("default", [None, "5", "NULL::integer", "NULLIF(random(), 2.0)", "nullif((1), (2))"])
def test_a_column_whose_rows_got_a_value_each_is_refused(default: str | None) -> None:
    """The default may be gone again by the end of the command, or begin like NULL."""
    later = with_columns(*TABLE.columns, column("z", 4, default=default))
    with pytest.raises(UnfollowableError, match="a value of its own in every row"):
        effects(TABLE, later, rewritten=True)


def test_a_default_that_begins_like_null_is_not_null() -> None:
    with pytest.raises(UnfollowableError, match="a value of its own in every row"):
        effects(TABLE, with_columns(*TABLE.columns, column("z", 4, default="NULLIF(random(), (2)::double precision)")))


def test_a_rewrite_for_a_generated_column_alone_is_nothing() -> None:
    assert effects(TABLE, TABLE, rewritten=True) == []
