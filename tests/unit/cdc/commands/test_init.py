"""`cdc init` writes a file that the service reads, and no secret into it."""

import re
from pathlib import Path

import pytest

from cdc.commands.init import write_config
from cdc.config import load
from cdc.errors import CdcError
from cdc.sections import Archive, Kafka, Metrics, Registry, Sink, Source


def written(tmp_path: Path, url: str = "postgresql://db1.internal/shop", *sinks: str) -> tuple[Path, list[str]]:
    file = tmp_path / "cdc.toml"
    return file, write_config(file, url, "kafka1:9092", sinks).variables


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
    file = tmp_path / "cdc.toml"
    write_config(file, "postgresql://db1/shop", "k:1", ["eu=postgresql://pg-eu/shop"], ["s3://acme/prod"])
    lines = file.read_text().splitlines()
    settings = [line.removeprefix("# ") for line in lines[2:]]
    file.write_text("\n".join(settings))
    config = load(file)
    assert config.kafka.replication_factor == 3
    assert "sasl.password" in config.kafka.options
    assert config.source("shop").exclude == ("public.sessions",)
    assert config.source("shop").max_retained_wal == 20 * 2**30
    assert config.metrics is not None
    archive, _ = config.archive("main")
    assert str(archive.base_at and archive.base_at.zone) == "Europe/Berlin"


@pytest.mark.parametrize(
    ("url", "others"),
    [
        ("postgresql://db1/shop", {"begin_after", "cascades"}),
        ("mysql://db1/shop", {"slot", "publication", "max_retained_wal"}),
    ],
)
def test_every_key_stands_in_it(tmp_path: Path, url: str, others: set[str]) -> None:
    file = tmp_path / "cdc.toml"
    write_config(file, url, "k:1", ["eu=postgresql://pg-eu/shop"], ["s3://acme/prod"])
    text = file.read_text()
    for section in (Kafka, Registry, Source, Sink, Archive, Metrics):
        begin = re.search(rf"^(# )?\[{section.__name__.lower()}\b", text, re.MULTILINE)
        assert begin is not None
        keys = set(section.model_fields) - {"name", "options"} - (others if section is Source else set())
        assert {key for key in keys if not re.search(rf"\b{key} = ", text[begin.start() :])} == set()


@pytest.mark.parametrize(
    ("scheme", "glob", "after"),
    [
        ("postgresql", "schema.table", None),
        ("mysql", "database.table", "UUID:1-5"),
        ("mariadb", "database.table", "0-1-42"),
    ],
)
def test_hints_have_the_form_of_the_engine(tmp_path: Path, scheme: str, glob: str, after: str | None) -> None:
    file, _ = written(tmp_path, f"{scheme}://db1/shop")
    text = file.read_text()
    assert f"# globs {glob};" in text
    assert re.findall('begin_after = "(.*)"', text) == ([] if after is None else [after])


def test_an_archive_gets_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "cdc.toml"
    made = write_config(file, "postgresql://db1/shop", "k:1", [], ["s3://acme/prod", "near=file:///backup/a=b"])
    assert made.keys == [tmp_path / "archive-main.key", tmp_path / "archive-near.key"]
    config = load(file)
    near, source = config.archive("near")
    assert (near.url_of(source), source) == ("file:///backup/a=b/shop", "shop")
    keys = {config.archive(name)[0].key() for name in ("main", "near")}
    assert {len(key or b"") for key in keys} == {32}
    assert len(keys) == 2
    for key in made.keys:
        assert key.stat().st_mode & 0o777 == 0o600
        assert key.read_text().strip() not in file.read_text()


def test_a_key_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "archive-main.key").write_text("the only key to a year of history")
    with pytest.raises(CdcError) as caught:
        write_config(tmp_path / "cdc.toml", "postgresql://db1/shop", "k:1", [], ["s3://acme/prod"])
    assert caught.value.code.name == "FILE_EXISTS"
    assert (tmp_path / "archive-main.key").read_text() == "the only key to a year of history"
    assert not (tmp_path / "cdc.toml").exists()


@pytest.mark.parametrize(
    ("archives", "code"),
    [
        (["s3://key:hunter2@acme/prod"], "PASSWORD_IN_URL"),
        (["s3://hunter2@acme/prod"], "ARGUMENT_INVALID"),
        (["gs://acme/prod"], "ARGUMENT_INVALID"),
        (["Main=s3://acme/prod"], "ARGUMENT_INVALID"),
        (["main=file://relative"], "ARGUMENT_INVALID"),
        (["s3://a/b", "main=s3://a/c"], "ARGUMENT_INVALID"),
    ],
)
def test_no_key_is_made_for_what_is_refused(tmp_path: Path, archives: list[str], code: str) -> None:
    with pytest.raises(CdcError) as caught:
        write_config(tmp_path / "cdc.toml", "postgresql://db1/shop", "k:1", [], archives)
    assert caught.value.code.name == code
    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://db1/My%20Shop", "my-shop"),
        ("mysql://db1/Laden%20%C3%9C%25", "laden"),
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
        ("oracle://db1/shop", [], "ARGUMENT_INVALID"),
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


def test_a_mysql_source_is_captured_by_its_database(tmp_path: Path) -> None:
    file, variables = written(tmp_path, "mysql://db1/billing?ssl-mode=VERIFY_CA", "us=mysql://my-us/billing")
    config = load(file)
    assert config.source("billing").url == "mysql://cdc_reader@db1/billing?ssl-mode=VERIFY_CA"
    assert config.source("billing").tables == ("billing.*",)
    assert config.sink("us").url == "mysql://cdc_writer@my-us/billing"
    assert variables == ["BILLING_PASSWORD", "US_PASSWORD"]
    text = file.read_text()
    assert "# topics billing.billing.orders, …" in text
    assert "max_retained_wal" not in text
    assert "# cascades = " in text


def test_a_mysql_server_without_a_database_is_captured_whole(tmp_path: Path) -> None:
    file, _ = written(tmp_path, "mysql://db1")
    assert load(file).source("main").tables == ("*.*",)
