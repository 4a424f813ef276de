"""`cdc archive …`: arguments in, reports out. The part of the command line that belongs to the archive.

Refuses: by the errors of the catalogue.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cdc import config as configuration
from cdc import logs, metrics
from cdc.commands.stopping import end_with_supervisor, stop_on_signals
from cdc.commands.terminal import console, say, say_json
from cdc.config import Config
from cdc.engine import engine_of
from cdc.errors import ARCHIVE_MISSING, RESTORE_UNRECORDED, CdcError
from cdc.registry import schemas_of
from cdc.sections import FROM_SOURCE
from sinks.archive.anchor import take_anchor
from sinks.archive.archive import Archive
from sinks.archive.base import BaseSettings, take_base
from sinks.archive.history import History, Span
from sinks.archive.jobs import Jobs, JobSettings
from sinks.archive.judge import judge_again
from sinks.archive.manifest import RestoreRecord
from sinks.archive.observe import ArchiveObserver
from sinks.archive.progress import BaseProgress, RestoreProgress
from sinks.archive.report import show_judged, show_windows
from sinks.archive.restore_command import leave
from sinks.archive.schedule import schedule_of
from sinks.archive.verify import verify as verify_all
from sinks.archive.window import Windows
from sinks.archive.writer import Archiver, ArchiveSettings

app = typer.Typer(help="The archive: the log and base snapshots in object storage.", no_args_is_help=True)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="default: $CDC_CONFIG, ./cdc.toml, /etc/cdc/cdc.toml", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON document")]
TIMES = ["%Y-%m-%d %H:%M:%S%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S.%f%z"]
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
    url, key = archive.url_of(source), archive.key()
    observer = ArchiveObserver(unit, numbers)
    Archiver(
        ArchiveSettings(
            name=unit,
            source=loaded.source(source).topic_prefix,
            url=url,
            kafka=loaded.kafka_options(),
            key=key,
            roll_every=archive.roll_every,
            accept_gap=accept_gap,
            engine=engine_of(loaded.source(source).url),
            schema_of=schemas_of(loaded.registry_server()),
        ),
        observer,
        Jobs(JobSettings(unit, loaded.file.resolve(), url, key, schedule_of(archive)), observer),
    ).run(stop_on_signals())


@app.command("backup")
def backup(name: Name, *, config: ConfigFile = None) -> None:
    """Take a base now: every captured table at one position, with the schema, for restores from then on."""
    end_with_supervisor()
    loaded = configuration.load(config)
    archive, source = loaded.archive(name)
    settings = BaseSettings(
        name=f"{archive.name}.{source}",
        source=loaded.source(source),
        url=archive.url_of(source),
        kafka=loaded.kafka_options(),
        key=archive.key(),
        sink=None if archive.base_from == FROM_SOURCE else loaded.sink(archive.base_from),
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


@app.command()
def anchor(name: Name, *, config: ConfigFile = None) -> None:
    """Take digests of every archived table on the source now, at one exact position, to prove restores by."""
    end_with_supervisor()
    loaded = configuration.load(config)
    section, source = loaded.archive(name)
    archive = Archive.open(section.url_of(source), section.key())
    with RestoreProgress(console(stderr=True)) as progress:
        taken = take_anchor(archive, loaded.source(source).server(), Windows(archive).tables(), progress.step)
    say(f"{taken.name}: {len(taken.tables)} tables at {taken.position}")


@app.command()
def prove(
    restore: Annotated[str, typer.Argument(metavar="ID")], *, as_json: Json = False, config: ConfigFile = None
) -> None:
    """Judge a restore again, by what archive and source say today. Exit 0 PROVEN, 1 FAILED, 3 not yet."""
    loaded = configuration.load(config)
    archive, source = _that_holds(loaded, restore)
    record = archive.read(RestoreRecord, f"restore/{restore}.json")
    with RestoreProgress(None if as_json else console(stderr=True)) as progress:
        judged = judge_again(archive, record, lambda: loaded.source(source).server(), progress)
    show_judged(judged, None, None, as_json=as_json)
    leave(judged.proof.verdict, require_proof=True)


def _that_holds(loaded: Config, restore: str) -> tuple[Archive, str]:
    """The archive of the configuration that a restore was made from, and its source."""
    for section in loaded.archives.values():
        for source in section.sources:
            try:
                archive = Archive.open(section.url_of(source), section.key())
            except CdcError as error:
                if error.code is not ARCHIVE_MISSING:
                    raise
                continue
            if f"restore/{restore}.json" in archive.names("restore/"):
                return archive, source
    raise CdcError(RESTORE_UNRECORDED, id=restore, file=loaded.file)


@app.command("sql")
def history_sql(
    name: Name,
    *,
    table: Annotated[list[str] | None, typer.Option(metavar="SCHEMA.TABLE", help="only this; may be repeated")] = None,
    begin: Annotated[datetime | None, typer.Option("--from", formats=TIMES, help="commits from then on")] = None,
    end: Annotated[datetime | None, typer.Option("--to", formats=TIMES, help="commits up to then")] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="write the rows there, decrypted, and views over those")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Print views that show every change by column name, for DuckDB: … > history.sql; duckdb -init history.sql."""
    span = Span(*(None if time is None else round(time.timestamp() * 1e6) for time in (begin, end)))
    history = History(_opened(name, config), table or (), span)
    for statement in history.sql(history.export(export) if export else history.place(), os.environ):
        say(statement)


def _opened(name: str, config: Path | None) -> Archive:
    archive, source = configuration.load(config).archive(name)
    return Archive.open(archive.url_of(source), archive.key())
