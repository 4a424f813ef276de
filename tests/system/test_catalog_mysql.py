"""What MySQL's catalog does not tell: labels with characters beyond U+FFFF, which it shows as question marks."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from cdc.errors import TYPE_UNSUPPORTED, CdcError
from cdc.mysql.catalog import Catalog
from cdc.mysql.inventory import _tables
from cdc.mysql.session import Server
from cdc.server import Side
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQLDatabase

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)


@pytest.fixture
def catalog(mysql_database: MySQLDatabase) -> Iterator[Catalog]:
    server = Server(Side.SOURCE, "shop", mysql_database.url(), mysql_database.server.password)
    with closing(Catalog(server)) as made:
        yield made


def test_a_label_may_be_a_question_mark(catalog: Catalog, mysql_database: MySQLDatabase) -> None:
    many = ",".join(f"'{number}?'" for number in range(3000))
    mysql_database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a enum('yes','it''s?','\\\\?'), `b``%s` set('?','ü','x') CHARACTER SET "
        f"utf16, c enum({many}) NOT NULL, d enum('?') CHARACTER SET latin1)"
    )
    shape = catalog.shape(mysql_database.name, "t")
    assert shape is not None
    labels = {column.name: column.enum_values for column in shape.columns}
    assert (labels["a"], labels["b`%s"], labels["d"]) == (("yes", "it's?", "\\?"), ("?", "ü", "x"), ("?",))
    assert labels["c"] == tuple(f"{number}?" for number in range(3000))
    assert not [table for table in _tables(catalog) if table.schema == mysql_database.name and table.unsupported]


@pytest.mark.parametrize("kind", ["enum('x','🙂''','?')", "set('?','a🙂') CHARACTER SET utf16"])
def test_a_label_that_the_catalog_cannot_tell_is_refused_by_name(
    catalog: Catalog, mysql_database: MySQLDatabase, kind: str
) -> None:
    mysql_database.execute(f"CREATE TABLE t (id int PRIMARY KEY, mood {kind} NOT NULL)")
    with pytest.raises(CdcError) as caught:
        catalog.shape(mysql_database.name, "t")
    assert caught.value.code is TYPE_UNSUPPORTED
    written = kind.partition(" ")[0]
    said = f"{written} with a label beyond U+FFFF, for which MySQL's own catalog says ?"
    assert f"column mood of {mysql_database.name}.t has type {said}" in str(caught.value)
    (table,) = (table for table in _tables(catalog) if table.schema == mysql_database.name)
    assert table.unsupported == (("mood", said),)
