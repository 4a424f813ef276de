"""The command line as a whole: documented, and never showing a secret, whatever goes wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from cdc import cli, secret
from cdc.errors import EXIT_CODES, SOURCE_HELD, CdcError
from cdc.sections import Archive, Debezium, Kafka, Metrics, Registry, Section, Sink, Source

OPERATIONS = (Path(__file__).parents[3] / "docs" / "OPERATIONS.md").read_text()


def commands() -> dict[str, click.Command]:
    """Every command by its words."""
    found: dict[str, click.Command] = {}
    group: Any = typer.main.get_command(cli.app)
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        nested = getattr(command, "commands", None)
        found |= {f"{name} {sub}": leaf for sub, leaf in nested.items()} if nested else {name: command}
    return found


def test_every_command_and_option_is_in_the_handbook_and_has_help() -> None:
    assert len(commands()) == 18
    for name, command in commands().items():
        assert f"`cdc {name} " in OPERATIONS or f"`cdc {name}`" in OPERATIONS, name
        assert command.help, name
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    assert option in OPERATIONS, f"{name} {option}"


@pytest.mark.parametrize("section", [Kafka, Registry, Source, Debezium, Sink, Archive, Metrics])
def test_every_key_is_in_the_handbook(section: type[Section]) -> None:
    for key in section.model_fields:
        assert key == "name" or f"`{key}`" in OPERATIONS, key


def test_every_exit_code_is_in_the_handbook() -> None:
    for code in {0, *EXIT_CODES.values()}:
        assert f"\n| {code} | " in OPERATIONS


def ended(monkeypatch: pytest.MonkeyPatch, error: Exception) -> int:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(str(caught.value.code))


def test_an_error_of_the_catalogue_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, CdcError(SOURCE_HELD, source="shop", holder="backend 7")) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "error SOURCE_HELD (source shop): another process holds source shop: backend 7\n"
        "  what to do: stop that one; source run and up stand by without --no-wait\n"
    )


def test_a_bug_is_told_without_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(secret, "_resolved", {"hunter2"})
    assert ended(monkeypatch, RuntimeError("login with hunter2 failed")) == 1
    shown = capsys.readouterr().err
    assert "RuntimeError: login with *** failed" in shown
    assert "this is a bug of cdc" in shown


HEAVY = ("pyarrow", "duckdb", "boto3", "psycopg", "pymysql", "sqlglot", "urllib3", "cryptography", "confluent_kafka")


@pytest.mark.parametrize(
    ("modules", "clients"),
    [
        ("cdc.cli", ["confluent_kafka"]),
        ("cdc.cli, cdc.source, cdc.postgres.upstream", ["psycopg", "confluent_kafka"]),
        ("cdc.cli, cdc.source, cdc.mysql.upstream", ["pymysql", "sqlglot", "cryptography", "confluent_kafka"]),
        ("cdc.cli, sinks.consumer, sinks.postgres", ["psycopg", "confluent_kafka"]),
        ("cdc.cli, sinks.consumer, sinks.mysql", ["pymysql", "cryptography", "confluent_kafka"]),
    ],
)
def test_a_process_loads_what_it_uses(modules: str, clients: list[str]) -> None:
    """Arrow, DuckDB and S3 take as much memory as a source does; each client takes time at every start."""
    seen = f"import sys, {modules}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(clients)
