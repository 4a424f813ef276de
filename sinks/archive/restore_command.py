"""`cdc-restore` (= `cdc restore`): at three in the morning, with nothing but the archive's address and its key.

In: arguments, $CDC_ARCHIVE_KEY; a cdc.toml, if there is one, only to ask the source. Out: tables in a database, and a
verdict as the last line. Exit codes: 0 PROVEN or VERIFIED; 1 FAILED; 2 usage; 3 not PROVEN under --require-proof;
5 stopped, wants a decision. Refuses: a time without an offset, with the instants it could mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cdc import config as configuration
from cdc import logs
from cdc.commands.terminal import console, say_json, tell
from cdc.engine import Server, database_url, engine_of, server_of
from cdc.errors import ARGUMENT_INVALID, CONFIG_MISSING, CdcError
from cdc.secret import parse_key
from cdc.sections import refuse_password
from cdc.server import Side
from sinks.archive import asked
from sinks.archive.archive import Archive
from sinks.archive.judge import judge
from sinks.archive.manifest import Verdict
from sinks.archive.progress import RestoreProgress
from sinks.archive.report import plan_record, show_judged, show_plan, show_restored, show_windows
from sinks.archive.restore import Wanted, chosen, restore
from sinks.archive.schema import Target
from sinks.archive.window import Windows

KEY_VARIABLE = "CDC_ARCHIVE_KEY"
PASSWORD_VARIABLES = {"postgresql": "PGPASSWORD", "mysql": "MYSQL_PWD"}
_URLS = "{0} postgresql://HOST/DATABASE or {0} mysql://HOST/DATABASE"
SOURCE_VARIABLE = "CDC_SOURCE_PASSWORD"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def command(
    *,
    archive: Annotated[str, typer.Option(metavar="URL", help="s3://BUCKET/PREFIX/SOURCE or file:///DIRECTORY/SOURCE")],
    key_file: Annotated[Path | None, typer.Option(help=f"the archive's key; default: ${KEY_VARIABLE}")] = None,
    windows: Annotated[bool, typer.Option("--list", help="the moments that can be restored")] = False,
    to_time: Annotated[str | None, typer.Option(metavar="TIME", help="2026-11-22 03:10:00+01:00")] = None,
    to_lsn: Annotated[str | None, typer.Option(metavar="LSN", help="0/1A2B3C")] = None,
    to_gtid: Annotated[str | None, typer.Option(metavar="UUID:N", help="one transaction of a MySQL source")] = None,
    to_txn: Annotated[int | None, typer.Option(metavar="NUMBER", help="a transaction's number in its epoch")] = None,
    before_delete: Annotated[
        str | None, typer.Option(metavar="TABLE:KEY", help="just before the last transaction that removed this row")
    ] = None,
    exclusive: Annotated[bool, typer.Option("--exclusive", help="without what is exactly there")] = False,
    epoch: Annotated[int | None, typer.Option(help="of several that --list shows, this one")] = None,
    cut: Annotated[
        str | None, typer.Option(help="first-after or last-before, where the source's clock stepped back")
    ] = None,
    table: Annotated[list[str] | None, typer.Option(metavar="SCHEMA.TABLE", help="only this; may be repeated")] = None,
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="under another name")] = None,
    schema: Annotated[str | None, typer.Option(metavar="NAME", help="in another schema (MySQL: database)")] = None,
    into: Annotated[
        str | None, typer.Option(metavar="URL", help="the target, without password (PGPASSWORD, MYSQL_PWD, …)")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="URL", help="the source, to prove it; default: by cdc.toml, if it has this archive"),
    ] = None,
    no_anchor: Annotated[bool, typer.Option("--no-anchor", help="do not ask the source")] = False,
    require_proof: Annotated[bool, typer.Option("--require-proof", help="exit 3 unless it is PROVEN")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the cut and what would be done")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document")] = False,
) -> None:
    """Rebuild a database, or single tables, as they stood at a moment."""
    logs.quiet()
    for what, url in (("--into", into), ("--source", source)):
        if url:
            _checked(what, url)
    opened = Archive.open(archive, _key(key_file))
    found = Windows(opened)
    if windows:
        show_windows(found.windows(), as_json=as_json)
        return
    asked.one_of(to_time, to_lsn, to_gtid, to_txn, before_delete)
    asked.of_its_engine(opened.identity.engine, to_lsn, to_gtid)
    if before_delete is not None:
        moment = found.before_delete(*asked.row(before_delete))
    else:
        moment = asked.moment(to_time, to_lsn, to_txn, to_gtid, exclusive=exclusive, epoch=epoch)
    plan = found.plan(moment, asked.choice(cut))
    wanted = Wanted(tuple(table or ()), name, schema)
    if name and len(wanted.tables) != 1:
        raise CdcError(ARGUMENT_INVALID, problem="--as names one table", fix="--table SCHEMA.TABLE --as NAME")
    tables = chosen(plan, wanted)
    if not as_json:
        show_plan(plan, tables)
    if dry_run:
        if as_json:
            say_json(plan_record(plan, tables))
        return
    if into is None:
        fix = "--into postgresql://HOST/DATABASE or mysql://HOST/DATABASE, or --dry-run"
        raise CdcError(ARGUMENT_INVALID, problem="--into is missing", fix=fix)
    server = server_of(Side.TARGET, "restore", into, os.environ.get(PASSWORD_VARIABLES[engine_of(into)]))
    ask = None if no_anchor else source_of(archive, source)
    with RestoreProgress(None if as_json else console(stderr=True)) as progress:
        with target_of(server) as target:
            try:
                outcome = restore(opened, plan, wanted, target, progress)
            except CdcError:
                for note in target.notes:
                    tell(f"note: {note}", "yellow")
                raise
        if not as_json:
            show_restored(outcome)
        judged = judge(opened, plan, outcome, ask, progress)
    show_judged(judged, outcome, plan, as_json=as_json)
    leave(judged.proof.verdict, require_proof=require_proof)


def target_of(server: Server) -> Target:
    if server.engine == "mysql":
        import sinks.mysql.restoring

        return sinks.mysql.restoring.RestoreTarget(server)
    import sinks.postgres.restoring

    return sinks.postgres.restoring.RestoreTarget(server)


def leave(verdict: Verdict, *, require_proof: bool) -> None:
    """With the verdict's exit code."""
    if verdict == "FAILED":
        raise typer.Exit(1)
    if require_proof and verdict != "PROVEN":
        raise typer.Exit(3)


def source_of(archive: str, url: str | None) -> Callable[[], Server] | None:
    """How to reach the source: as it is named here, or by a configuration that has this archive; None: unknown."""
    if url is not None:
        server = server_of(Side.SOURCE, "source", url, os.environ.get(SOURCE_VARIABLE))
        return lambda: server
    try:
        config = configuration.load()
    except CdcError as error:
        if error.code is not CONFIG_MISSING:
            tell(f"the source is not asked: {error.text}", "yellow")
        return None
    for section in config.archives.values():
        for name in section.sources:
            if _place(section.url_of(name)) == _place(archive):
                return lambda: config.source(name).server()
    return None


def _place(url: str) -> str:
    return url.partition("?")[0].rstrip("/")


def _checked(what: str, url: str) -> None:
    refuse_password(url, what)
    try:
        database_url(url)
    except ValueError as error:
        raise CdcError(ARGUMENT_INVALID, problem=f"{what}: {error}", fix=_URLS.format(what)) from None


def _key(file: Path | None) -> bytes | None:
    if file is not None:
        try:
            return parse_key(file.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            problem = f"{file} cannot be read: {error.strerror}"
            raise CdcError(ARGUMENT_INVALID, problem=problem, fix="--key-file FILE") from None
    text = os.environ.get(KEY_VARIABLE)
    return parse_key(text) if text else None
