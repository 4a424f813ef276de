"""`cdc archive …`: arguments in, reports out. The part of the command line that belongs to the archive.

Refuses: by the errors of the catalogue.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cdc import config as configuration
from cdc import logs, metrics
from cdc.commands.stopping import stop_on_signals
from cdc.commands.terminal import console, say, say_json
from sinks.archive.archive import Archive
from sinks.archive.base import BaseSettings, take_base
from sinks.archive.observe import ArchiveObserver
from sinks.archive.progress import BaseProgress
from sinks.archive.restore_command import show_windows
from sinks.archive.verify import verify as verify_all
from sinks.archive.window import Windows
from sinks.archive.writer import Archiver, ArchiveSettings

app = typer.Typer(help="The archive: the log and base snapshots in object storage.", no_args_is_help=True)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="default: $CDC_CONFIG, ./cdc.toml, /etc/cdc/cdc.toml", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON document")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="[archive.NAME], or NAME.SOURCE where it has several")]


@app.command("run")
def run(
    name: Name,
    *,
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="go on at the log's present end; what lies before it is lost")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Archive one source until stopped."""
    loaded = configuration.load(config)
    archive, source = loaded.archive(name)
    unit = f"{archive.name}.{source}"
    numbers = metrics.ArchiveMetrics(unit)
    logs.configure()
    address = loaded.metrics_address("archive", unit)
    if address:
        metrics.serve(numbers, address)
    Archiver(
        ArchiveSettings(
            name=unit,
            source=loaded.source(source).topic_prefix,
            url=archive.url_of(source),
            kafka=loaded.kafka_options(),
            key=archive.key(),
            roll_every=archive.roll_every,
            accept_gap=accept_gap,
        ),
        ArchiveObserver(unit, numbers),
    ).run(stop_on_signals())


@app.command("backup")
def backup(name: Name, *, config: ConfigFile = None) -> None:
    """Take a base now: every captured table at one position, with the schema, for restores from then on."""
    loaded = configuration.load(config)
    archive, source = loaded.archive(name)
    settings = BaseSettings(
        name=f"{archive.name}.{source}",
        source=loaded.source(source),
        url=archive.url_of(source),
        kafka=loaded.kafka_options(),
        key=archive.key(),
    )
    with BaseProgress(console()) as progress:
        base = take_base(settings, progress)
    rows = sum(table.rows for table in base.tables.values())
    for what in base.not_covered:
        say(f"not in it  {what}")
    say(f"{base.name}: {len(base.tables)} tables, {rows:,} rows, behind transaction {base.txn_seq} at {base.position}")


@app.command("list")
def list_windows(name: Name, *, as_json: Json = False, config: ConfigFile = None) -> None:
    """The moments that can be restored."""
    show_windows(Windows(_opened(name, config)).windows(), as_json=as_json)


@app.command()
def verify(name: Name, *, as_json: Json = False, config: ConfigFile = None) -> None:
    """Read every object and compare it with what vouches for it. Exit 1 where one is damaged."""
    archive = _opened(name, config)
    with console().status("reading") as status:
        done, damages = verify_all(
            archive, lambda so_far: status.update(f"{so_far.segments} segments, {so_far.bases} bases")
        )
    if as_json:
        say_json({"v": 1, "intact": not damages, **asdict(done), "damages": [asdict(damage) for damage in damages]})
    else:
        for damage in damages:
            say(f"damaged  {damage.name}: {damage.problem}", "red")
        what = f"{done.segments} segments, {done.bases} bases, {done.objects} objects, {done.bytes:,} bytes"
        say(f"{'DAMAGED' if damages else 'INTACT'}: {what}")
    if damages:
        raise typer.Exit(1)


def _opened(name: str, config: Path | None) -> Archive:
    archive, source = configuration.load(config).archive(name)
    return Archive.open(archive.url_of(source), archive.key())
