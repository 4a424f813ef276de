"""What a message shows of long values."""

import pytest

from cdc.event import Column
from cdc.excerpt import excerpt
from cdc.postgres.carried import encode
from cdc.postgres.session import Server
from cdc.postgres.values import UnrepresentableError
from cdc.server import Side


def test_a_short_text_is_shown_whole() -> None:
    assert excerpt("x" * 100) == "x" * 100


def test_of_a_long_one_its_beginning_and_length() -> None:
    assert excerpt("x" * 101) == "x" * 100 + "… (101 characters)"
    assert excerpt("é" * 5000, 3) == "ééé… (5,000 characters)"


def test_a_value_that_has_no_form() -> None:
    column = Column("n", "numeric", "numeric", 1700, -1, 1, not_null=False)
    with pytest.raises(UnrepresentableError) as refused:
        encode(column, "debezium", keyed=False).native(b"1" * 5000 + b"x")
    assert "… (5,001 characters) is no decimal number" in str(refused.value)
    assert len(str(refused.value)) < 250


def test_what_a_server_says_of_a_value() -> None:
    server = Server(Side.TARGET, "eu", "postgresql://h/d", "pw")
    said = server.hidden(f'invalid input syntax for type uuid: "{"pw" * 5000}"')
    assert "pw" not in said
    assert len(said) < 2100
    assert said.endswith("characters)")
