"""The settings that docs/DEBEZIUM.md shows are such."""

import re
from pathlib import Path

import pytest

from cdc.config import parse
from tests.servers.connect import debezium_postgres

PAGE = (Path(__file__).parents[3] / "docs/DEBEZIUM.md").read_text()
KAFKA = '[kafka]\nbootstrap_servers = "k:9092"\n'


def shown(name: str) -> str:
    match = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.mark.parametrize("name", ["sink", "takeover"])
def test_a_configuration_is_accepted(name: str) -> None:
    config = parse(KAFKA + shown(name), Path("cdc.toml"))
    if name == "sink":
        assert config.written(config.sink("eu").source).topic_prefix == "shop"
    else:
        source = config.source("shop")
        assert (source.slot, source.publication, source.snapshot) == ("debezium", "dbz_publication", "never")


def test_the_connectors_settings_are_those_of_the_tests() -> None:
    lines = [line.partition("=") for line in shown("connector").splitlines()]
    used = connector_settings()
    assert {name: value for name, _, value in lines} == {name: used[name] for name, _, _ in lines}


def connector_settings() -> dict[str, str]:
    """As a properties file has them, in which a backslash is doubled."""

    class Anything:
        port, password, name = 1, "", ""

    made = debezium_postgres("x", Anything(), Anything())  # type: ignore[arg-type]
    return {name: str(value).replace("\\", "\\\\") for name, value in made.items()}
