"""Which sections a name means, and which share a server."""

from pathlib import Path

import pytest

from cdc.commands.sections import chosen, same_server, url_of
from cdc.config import parse
from cdc.errors import CdcError

CONFIG = parse(
    """
[kafka]
bootstrap_servers = "k:1"
[source.shop]
url = "postgresql://a/shop"
tables = ["*.*"]
[sink.eu]
source = "shop"
url = "postgresql://b/shop"
[sink.shop]
source = "shop"
url = "postgresql://c/shop"
""",
    Path("cdc.toml"),
)


def test_a_name_means_every_section_called_so() -> None:
    assert chosen(CONFIG, None) == [("source", "shop"), ("sink", "eu"), ("sink", "shop")]
    assert chosen(CONFIG, "shop") == [("source", "shop"), ("sink", "shop")]
    assert chosen(CONFIG, "sink.shop") == [("sink", "shop")]
    assert [url_of(CONFIG, unit) for unit in chosen(CONFIG, "shop")] == ["postgresql://a/shop", "postgresql://c/shop"]


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(CdcError, match=r"no \[source, sink or archive.us\]") as caught:
        chosen(CONFIG, "us")
    assert caught.value.hint == "sections there: source.shop, sink.eu, sink.shop"


def test_servers_are_compared_without_the_role() -> None:
    assert same_server("postgresql://u@a/x", "postgresql://v@a/x", database=True)
    assert same_server("postgresql://u@a/x", "postgresql://v@a/y", database=False)
    assert not same_server("postgresql://u@a/x", "postgresql://u@a/y", database=True)
    assert not same_server("postgresql://u@a:5432/x", "postgresql://u@a:5433/x", database=True)
