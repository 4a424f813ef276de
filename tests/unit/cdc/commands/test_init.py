"""`cdc init` writes a file that the service reads, and no secret into it."""

from pathlib import Path

import pytest

from cdc.commands.init import write_config
from cdc.config import load
from cdc.errors import CdcError


def written(tmp_path: Path, url: str = "postgresql://db1.internal/shop", *sinks: str) -> tuple[Path, list[str]]:
    file = tmp_path / "cdc.toml"
    return file, write_config(file, url, "kafka1:9092", sinks)


def test_the_file_is_read_back_as_it_was_meant(tmp_path: Path) -> None:
    file, variables = written(
        tmp_path, "postgresql://db1/shop?sslmode=verify-full", "eu=postgresql://pg-eu/shop", "us-1=postgresql://me@pg/x"
    )
    config = load(file)
    assert config.kafka.bootstrap_servers == "kafka1:9092"
    assert config.source("shop").url == "postgresql://cdc_reader@db1/shop?sslmode=verify-full"
    assert config.source("shop").tables == ("public.*",)
    assert config.sink("eu").url == "postgresql://cdc_writer@pg-eu/shop"
    assert config.sink("us-1").url == "postgresql://me@pg/x"
    assert {sink.source for sink in config.sinks.values()} == {"shop"}
    assert variables == ["SHOP_PASSWORD", "EU_PASSWORD", "US_1_PASSWORD"]


def test_every_commented_line_is_a_valid_one(tmp_path: Path) -> None:
    """Whoever takes the # away gets a file that works."""
    file, _ = written(tmp_path, "postgresql://db1/shop", "eu=postgresql://pg-eu/shop")
    lines = file.read_text().splitlines()
    settings = [line.removeprefix("# ") for line in lines[2:]]
    file.write_text("\n".join(settings))
    config = load(file)
    assert config.kafka.replication_factor == 3
    assert "sasl.password" in config.kafka.options
    assert config.source("shop").exclude == ("public.sessions",)
    assert config.source("shop").max_retained_wal == 20 * 2**30
    assert config.metrics is not None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://db1/My%20Shop", "my-20shop"),
        ("postgresql://db1/shop_2", "shop_2"),
        ("postgresql://db1/2shop", "main"),
        ("postgresql:///?service=x", "main"),
    ],
)
def test_a_section_is_called_after_its_database(tmp_path: Path, url: str, name: str) -> None:
    file, _ = written(tmp_path, url)
    assert list(load(file).sources) == [name]


@pytest.mark.parametrize(
    ("url", "sinks", "code"),
    [
        ("postgresql://u:hunter2@db1/shop", [], "PASSWORD_IN_URL"),
        ("postgresql://db1/shop", ["eu=postgresql://u:hunter2@pg/shop"], "PASSWORD_IN_URL"),
        ("mysql://db1/shop", [], "ARGUMENT_INVALID"),
        ("postgresql://db1/shop", ["postgresql://u:hunter2@pg/shop"], "ARGUMENT_INVALID"),
        ("postgresql://db1/shop", ["EU=postgresql://pg/shop"], "ARGUMENT_INVALID"),
        ("postgresql://db1/shop", ["eu=postgresql://pg/a", "eu=postgresql://pg/b"], "ARGUMENT_INVALID"),
        ('postgresql://db1/shop"\n[x]', [], "CONFIG_INVALID"),
    ],
)
def test_what_is_refused_is_not_written(tmp_path: Path, url: str, sinks: list[str], code: str) -> None:
    with pytest.raises(CdcError) as caught:
        written(tmp_path, url, *sinks)
    assert caught.value.code.name == code
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "cdc.toml").exists()


def test_an_existing_file_is_left_as_it_is(tmp_path: Path) -> None:
    file, _ = written(tmp_path)
    file.write_text("mine")
    with pytest.raises(CdcError) as caught:
        written(tmp_path)
    assert caught.value.code.name == "FILE_EXISTS"
    assert file.read_text() == "mine"
