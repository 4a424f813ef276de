"""The command line: arguments in, exit code out. The composition root; only this file joins the sinks to the rest.

Exit codes: 0 done; 1 failed (also a check that found a FAIL, a verification that found a difference); 2 usage or
configuration; 4 somebody else holds the name; 5 stopped, wants a decision.
Refuses: by the errors of the catalogue, printed to stderr without a traceback; secrets are cut out of everything.

A command loads what it needs when it runs: it starts sooner, and in less memory.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import closing
from enum import Enum
from fnmatch import fnmatchcase
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
import typer.core
import typer.main

from cdc import config as configuration
from cdc import logs
from cdc.commands.stopping import stop_on_signals
from cdc.commands.terminal import say, tell, tell_error
from cdc.config import DEFAULT_FILE, Config
from cdc.errors import ARGUMENT_INVALID, CdcError

if TYPE_CHECKING:
    from cdc.finding import Finding
    from cdc.metrics import Unit
    from cdc.position import Position
    from cdc.sections import Kind
    from cdc.status import ArchiveFacts


class Commands(typer.core.TyperGroup):
    """The commands, those of the archive loaded when they are asked for: Arrow, DuckDB and S3 take as much memory as a
    source does, which has no use for them."""

    LATER: ClassVar = {"archive": "sinks.archive.commands", "restore": "sinks.archive.restore_command"}

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *self.LATER]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.LATER:
            return super().get_command(ctx, cmd_name)
        command = typer.main.get_command(import_module(self.LATER[cmd_name]).app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=Commands,
    help="Replicates a database's committed transactions through Kafka: whole, in order, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
source_app = typer.Typer(help="The source: one database's log to Kafka.", no_args_is_help=True)
sink_app = typer.Typer(help="The sinks: transactions from Kafka into a replica.", no_args_is_help=True)
app.add_typer(source_app, name="source")
app.add_typer(sink_app, name="sink")

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="default: $CDC_CONFIG, ./cdc.toml, /etc/cdc/cdc.toml", show_default=False),
]
Section = Annotated[str | None, typer.Argument(metavar="[NAME]", help="a section; default: all", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="one JSON document")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the SQL, do nothing")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="exit 4 where another process holds the name, no standby")]
AdminUrl = Annotated[
    str | None,
    typer.Option(
        help="an administrator's URL, without password (PGPASSWORD, ~/.pgpass; MYSQL_PWD, ~/.my.cnf); default: the "
        "section's URL with PGUSER, the user of ~/.my.cnf or the system user",
        show_default=False,
    ),
]


class Reopen(Enum):
    """What to do where the log and the slot do not continue each other."""

    COPY_AGAIN = "copy-again"
    ADOPT = "adopt"


@app.command()
def init(
    source_url: Annotated[str, typer.Argument(metavar="SOURCE-URL", help="postgresql:// or mysql://HOST/DATABASE")],
    kafka: Annotated[str, typer.Option(metavar="HOST:PORT", help="Kafka's bootstrap servers")],
    sink: Annotated[list[str] | None, typer.Option(metavar="NAME=URL", help="a replica; may be repeated")] = None,
    archive: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]URL", help="s3://BUCKET/PREFIX or file:///DIRECTORY; may be repeated"),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Write a commented cdc.toml, and a key for each archive."""
    from cdc.commands.init import write_config

    file = config or DEFAULT_FILE
    written = write_config(file, source_url, kafka, sink or [], archive or [])
    say(f"{file} is written. Its passwords are read from {', '.join(written.variables)}.")
    for key in written.keys:
        say(f"{key} is a new key. Keep a copy of it elsewhere: without it nothing can be restored.")
    say("next: cdc setup --dry-run, cdc setup, cdc check, cdc up")


@app.command()
def check(name: Section = None, *, as_json: Json = False, config: ConfigFile = None) -> None:
    """Everything that is missing, each with the statement that mends it. Exit 1 where something fails."""
    from cdc.commands import check as checking

    sections = checking.check(configuration.load(config), name, _check_archive)
    (checking.show_json if as_json else checking.show)(sections)
    if checking.failed(sections):
        raise typer.Exit(1)


@app.command()
def setup(
    name: Section = None, *, dry_run: DryRun = False, admin_url: AdminUrl = None, config: ConfigFile = None
) -> None:
    """Make roles, publication, event trigger, progress tables."""
    import sinks.mysql.progress
    import sinks.postgres.progress
    from cdc.commands import setup as setting_up

    tables = setting_up.ProgressTables(sinks.postgres.progress.PROGRESS_TABLES, sinks.mysql.progress.PROGRESS_TABLES)
    setting_up.run_setup(configuration.load(config), name, tables, admin_url, dry_run=dry_run)


@app.command()
def teardown(
    name: Annotated[str, typer.Argument(help="a section")],
    *,
    dry_run: DryRun = False,
    admin_url: AdminUrl = None,
    config: ConfigFile = None,
) -> None:
    """Remove what setup made, the slot too, and say what is left."""
    from cdc.commands import setup as setting_up

    setting_up.run_teardown(configuration.load(config), name, admin_url, dry_run=dry_run)


@app.command()
def up(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="sections; default: all")] = None,
    config: ConfigFile = None,
) -> None:
    """Run every section as a process of its own, and keep it running."""
    from cdc.commands import up as supervising
    from cdc.commands.sections import chosen

    loaded = configuration.load(config)
    wanted: list[str | None] = [*names] if names else [None]
    units = dict.fromkeys(unit for name in wanted for unit in chosen(loaded, name))
    code = supervising.run(list(units), loaded.file, stop_on_signals())
    if code:
        raise typer.Exit(code)


@app.command()
def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="again every 2 s")] = False,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Position and lag of each stage, log kept on production, tables being copied."""
    from cdc.commands import status as reporting

    loaded = configuration.load(config)
    if watch:
        reporting.watch(loaded, _archive_facts, stop_on_signals())
    else:
        reporting.show_once(loaded, _archive_facts, as_json=as_json)


@app.command()
def tail(
    source: Annotated[str, typer.Argument(help="[source.NAME]")],
    *,
    table: Annotated[list[str] | None, typer.Option(metavar="SCHEMA.TABLE", help="only these; * and ? hold")] = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Events as they come from now on, whole transactions in commit order. Reads Kafka alone."""
    from cdc.commands import tail as tailing
    from cdc.kafka import Reader
    from cdc.registry import schemas_of
    from cdc.status_tail import read_tail
    from sinks import Progress, TransactionReader

    logs.configure()
    loaded = configuration.load(config)
    kafka, prefix, stop = loaded.kafka_options(), loaded.source(source).topic_prefix, stop_on_signals()
    with closing(Reader(kafka, client="cdc-tail")) as reader:
        last, offset = (end_of_log := read_tail(reader, prefix)).last, end_of_log.offset
    after = Progress.behind(last, offset) if last and offset is not None else None
    schema_of = schemas_of(loaded.registry_server())
    with TransactionReader(kafka, source=prefix, after=after, client="cdc-tail", schema_of=schema_of) as transactions:
        while not stop():
            transaction = transactions.poll(0.5)
            if transaction is None:
                continue
            for event in transaction.events:
                if not table or any(fnmatchcase(event.table, glob) for glob in table):
                    tailing.show(transaction.position, transaction.txn_seq, event, as_json=as_json)


@app.command()
def verify(
    source: Annotated[str, typer.Argument(help="[source.NAME]")],
    *,
    sink: Annotated[str, typer.Option(metavar="NAME", help="[sink.NAME]")],
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="for the sink to come up to the source")] = 60.0,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Compare every captured table at source and replica, at one position. Exit 1 unless all are equal."""
    from cdc.commands import verify as verifying
    from cdc.kafka import Reader
    from cdc.status_tail import read_tail
    from sinks.engines import reading_of
    from sinks.verify import verify as compare

    loaded = configuration.load(config)
    captured_from, replica = loaded.source(source), loaded.sink(sink)
    if replica.source != source:
        problem = f"[sink.{sink}] holds source {replica.source}, not {source}"
        raise CdcError(ARGUMENT_INVALID, problem=problem, fix=f"cdc verify {replica.source} --sink {sink}")
    prefix = captured_from.topic_prefix
    with closing(Reader(loaded.kafka_options(), client="cdc-verify")) as reader:
        tables, lacking = verifying.captured_tables(captured_from, reader)

        def last_up_to(position: Position) -> tuple[int, int] | None:
            return read_tail(reader, prefix).up_to(position)

        sides = partial(reading_of, captured_from.server()), partial(reading_of, replica.server())
        verdict = verifying.settle(partial(compare, *sides, sink, tables, last_up_to, wait))
    (verifying.show_json if as_json else verifying.show)(verdict, lacking)
    if not verdict.equal:
        raise typer.Exit(1)


@source_app.command("run")
def source_run(
    name: Annotated[str, typer.Argument(help="[source.NAME]")],
    *,
    no_wait: NoWait = False,
    reopen: Annotated[Reopen | None, typer.Option(help="over a gap: copy again, or adopt the slot's position")] = None,
    config: ConfigFile = None,
) -> None:
    """Publish one source until stopped."""
    from cdc.metrics import SourceMetrics
    from cdc.observe import SourceObserver
    from cdc.source import Source

    loaded = configuration.load(config)
    settings = loaded.source(name)
    numbers = SourceMetrics(name)
    _serve(loaded, numbers, "source", name)
    Source(
        settings,
        loaded.kafka_options(),
        loaded.kafka,
        SourceObserver(name, numbers, settings.max_retained_wal),
        registry=loaded.registry_server() if settings.format == "avro" else None,
        no_wait=no_wait,
        reopen=reopen.value if reopen else None,
    ).run(stop_on_signals())


@sink_app.command("run")
def sink_run(
    name: Annotated[str, typer.Argument(help="[sink.NAME]")],
    *,
    no_wait: NoWait = False,
    config: ConfigFile = None,
) -> None:
    """Apply one source's transactions to one replica until stopped."""
    from cdc.metrics import SinkMetrics
    from cdc.registry import schemas_of
    from sinks.consumer import Sink, SinkSettings
    from sinks.observe import SinkObserver

    loaded = configuration.load(config)
    settings = loaded.sink(name)
    numbers = SinkMetrics(name)
    _serve(loaded, numbers, "sink", name)
    Sink(
        SinkSettings(
            name=name,
            source=loaded.written(settings.source).topic_prefix,
            written_by="debezium" if settings.source in loaded.debezium else "cdc",
            server=settings.server(),
            kafka=loaded.kafka_options(),
            existing_rows="truncate" if settings.existing_rows == "truncate" else "refuse",
            no_wait=no_wait,
            schema_of=schemas_of(loaded.registry_server()),
        ),
        SinkObserver(name, numbers),
    ).run(stop_on_signals())


def _serve(loaded: Config, numbers: Unit, kind: Kind, name: str) -> None:
    """Logs and metrics of a process that runs a section."""
    from cdc import metrics

    logs.configure()
    address = loaded.metrics_address(kind, name)
    if address:
        metrics.serve(numbers, address)


def _check_archive(config: Config, name: str) -> list[Finding]:
    from sinks.archive.check import check_archive

    return check_archive(config, name)


def _archive_facts(config: Config, name: str) -> ArchiveFacts | None:
    from sinks.archive.check import archive_facts

    return archive_facts(config, name)


def main() -> None:
    """The command `cdc`."""
    _run(app)


def restore_main() -> None:
    """The command `cdc-restore`."""
    _run(import_module(Commands.LATER["restore"]).app)


def _run(commands: typer.Typer) -> None:
    logs.quiet()
    try:
        commands()
    except CdcError as error:
        tell_error(error)
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001 - the outermost frame: a traceback may hold a secret
        tell(f"error: this is a bug of cdc\n{traceback.format_exc()}")
        sys.exit(1)


if __name__ == "__main__":
    main()
