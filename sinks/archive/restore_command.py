"""`cdc-restore` (= `cdc restore`): at three in the morning, with nothing but the archive's address and its key.

In: arguments, $CDC_ARCHIVE_KEY. Out: tables in a database, and a verdict as the last line. Exit codes: 0 PROVEN or
VERIFIED; 1 failed; 2 usage; 5 stopped, wants a decision. Refuses: a time without an offset, with the instants it could
mean.
"""

from __future__ import annotations

import csv
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cdc import logs
from cdc.commands.terminal import say, say_json
from cdc.config import refuse_password
from cdc.errors import ARGUMENT_INVALID, CdcError
from cdc.position import Lsn
from cdc.postgres.session import Server, Side
from cdc.secret import parse_key
from sinks.archive.archive import Archive
from sinks.archive.plan import Choice, Moment, Plan, shown
from sinks.archive.restore import Outcome, Wanted, restore
from sinks.archive.window import Window, Windows
from sinks.postgres.restoring import RestoreTarget

KEY_VARIABLE = "CDC_ARCHIVE_KEY"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def command(
    *,
    archive: Annotated[str, typer.Option(metavar="URL", help="s3://BUCKET/PREFIX/SOURCE or file:///DIRECTORY/SOURCE")],
    key_file: Annotated[Path | None, typer.Option(help=f"the archive's key; default: ${KEY_VARIABLE}")] = None,
    windows: Annotated[bool, typer.Option("--list", help="the moments that can be restored")] = False,
    to_time: Annotated[str | None, typer.Option(metavar="TIME", help="2026-11-22 03:10:00+01:00")] = None,
    to_lsn: Annotated[str | None, typer.Option(metavar="LSN", help="0/1A2B3C")] = None,
    to_txn: Annotated[int | None, typer.Option(metavar="NUMBER", help="a transaction's number in its epoch")] = None,
    before_delete: Annotated[
        str | None, typer.Option(metavar="TABLE:KEY", help="just before the last transaction that removed this row")
    ] = None,
    exclusive: Annotated[bool, typer.Option("--exclusive", help="without what is exactly there")] = False,
    cut: Annotated[
        str | None, typer.Option(help="first-after or last-before, where the source's clock stepped back")
    ] = None,
    table: Annotated[list[str] | None, typer.Option(metavar="SCHEMA.TABLE", help="only this; may be repeated")] = None,
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="under another name")] = None,
    schema: Annotated[str | None, typer.Option(metavar="NAME", help="in another schema")] = None,
    into: Annotated[
        str | None, typer.Option(metavar="URL", help="the target, without password (PGPASSWORD, ~/.pgpass)")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the cut and what would be done")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document")] = False,
) -> None:
    """Rebuild a database, or single tables, as they stood at a moment."""
    logs.quiet()
    if into:
        refuse_password(into, "--into")
    opened = Archive.open(archive, _key(key_file))
    found = Windows(opened)
    if windows:
        show_windows(found.windows(), as_json=as_json)
        return
    if before_delete is not None and (to_time, to_lsn, to_txn) == (None, None, None):
        removed_from, _, key = before_delete.partition(":")
        moment = found.before_delete(removed_from, next(csv.reader([key])))
    else:
        moment = _moment(to_time, to_lsn, to_txn, before_delete, exclusive=exclusive)
    plan = found.plan(moment, _choice(cut))
    wanted = Wanted(tuple(table or ()), name, schema)
    if name and len(wanted.tables) != 1:
        raise CdcError(ARGUMENT_INVALID, problem="--as names one table", fix="--table SCHEMA.TABLE --as NAME")
    if not as_json:
        _show_plan(plan)
    if dry_run:
        if as_json:
            say_json(_plan_record(plan))
        return
    if into is None:
        raise CdcError(
            ARGUMENT_INVALID, problem="--into is missing", fix="--into postgresql://HOST/DATABASE, or --dry-run"
        )
    server = Server(Side.TARGET, "restore", into, os.environ.get("PGPASSWORD"))
    with RestoreTarget(server) as target, _Shown(quiet=as_json) as observer:
        outcome = restore(opened, plan, wanted, target, observer)
    _show_outcome(outcome, plan, as_json=as_json)


def _key(file: Path | None) -> bytes | None:
    if file is not None:
        try:
            return parse_key(file.read_text(encoding="utf-8"))
        except OSError as error:
            problem = f"{file} cannot be read: {error.strerror}"
            raise CdcError(ARGUMENT_INVALID, problem=problem, fix="--key-file FILE") from None
    text = os.environ.get(KEY_VARIABLE)
    return parse_key(text) if text else None


def _choice(text: str | None) -> Choice | None:
    known: dict[str | None, Choice | None] = {None: None, "first-after": "first-after", "last-before": "last-before"}
    if text not in known:
        raise CdcError(ARGUMENT_INVALID, problem=f"--cut {text}", fix="--cut first-after or --cut last-before")
    return known[text]


def _moment(
    to_time: str | None, to_lsn: str | None, to_txn: int | None, before_delete: str | None, *, exclusive: bool
) -> Moment:
    given = [value for value in (to_time, to_lsn, to_txn, before_delete) if value is not None]
    if len(given) != 1:
        fix = "one of --to-time, --to-lsn, --to-txn, --before-delete; --list shows the moments that can be restored"
        raise CdcError(ARGUMENT_INVALID, problem="which moment is meant?", fix=fix)
    try:
        if to_lsn is not None:
            return Moment(lsn=Lsn.parse(to_lsn), exclusive=exclusive)
    except ValueError:
        raise CdcError(ARGUMENT_INVALID, problem=f"--to-lsn {to_lsn} is no position", fix="--to-lsn 0/1A2B3C") from None
    if to_txn is not None:
        return Moment(txn_seq=to_txn, exclusive=exclusive)
    return Moment(time_us=_time_us(to_time or ""), exclusive=exclusive)


def _time_us(text: str) -> int:
    """Microseconds since 1970. Without an offset nobody knows which hour is meant, least of all at night."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        fix = "--to-time '2026-11-22 03:10:00+01:00'"
        raise CdcError(ARGUMENT_INVALID, problem=f"--to-time {text!r} is no time", fix=fix) from None
    if at.tzinfo is None:
        local = at.astimezone()
        fix = f"--to-time '{at.replace(tzinfo=UTC).isoformat(' ')}' (UTC), or --to-time '{local.isoformat(' ')}' (here)"
        raise CdcError(ARGUMENT_INVALID, problem=f"--to-time {text!r} has no offset from UTC", fix=fix)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return (at - epoch) // (datetime.resolution)


# -- what is shown ----------------------------------------------------------------------------------------------
def show_windows(windows: list[Window], *, as_json: bool) -> None:
    if as_json:
        say_json({"v": 1, "windows": [
            {"epoch": w.epoch, "first_txn": w.first_seq, "last_txn": w.last_seq, "from": _iso(w.from_us),
             "to": _iso(w.to_us), "base": w.base} for w in windows
        ]})  # fmt: skip
        return
    for window in windows:
        say(f"from  {_both(window.from_us)}  transaction {window.first_seq}  ({window.base})")
        say(f"to    {_both(window.to_us)}  transaction {window.last_seq}")
    if not windows:
        say("nothing can be restored yet: there is no base with a segment behind it")


def _iso(time_us: int | None) -> str | None:
    return None if time_us is None else shown(time_us)


def _both(time_us: int | None) -> str:
    """In UTC, to copy, and as the clock here shows it."""
    if time_us is None:
        return shown(None)
    here = datetime.fromtimestamp(time_us / 1e6, UTC).astimezone()
    return f"{shown(time_us)}  ({here:%H:%M:%S %Z} here)"


def _plan_record(plan: Plan) -> dict[str, Any]:
    last, out = plan.cut.last, plan.cut.first_out
    return {
        "v": 1,
        "epoch": plan.cut.epoch,
        "last_in": None
        if last is None
        else {"txn": last.txn_seq, "commit": _iso(last.commit_us), "position": last.position},
        "first_out": None
        if out is None
        else {"txn": out.txn_seq, "commit": _iso(out.commit_us), "position": out.position},
        "strays": plan.cut.strays,
        "base": plan.base.name if plan.base else None,
        "segments": len(plan.segments),
        "rows_in_segments": sum(segment.events for segment in plan.segments),
        "tables": sorted(plan.tables),
    }


def _show_plan(plan: Plan) -> None:
    last, out = plan.cut.last, plan.cut.first_out
    say(f"last transaction in    {_txn(last)}")
    say(f"first transaction out  {_txn(out)}")
    if plan.cut.strays:
        say(
            f"{plan.cut.strays} transactions behind the cut have an earlier time: the source's clock stepped back",
            "yellow",
        )
    rows = sum(segment.events for segment in plan.segments)
    base = plan.base.name if plan.base else "the log's own copy"
    say(f"from {base}, {len(plan.segments)} segments with {rows:,} changes, {len(plan.tables)} tables")


def _txn(txn: Any) -> str:
    return "none" if txn is None else f"{txn.txn_seq}  {_both(txn.commit_us)}  {txn.position}"


def _show_outcome(outcome: Outcome, plan: Plan, *, as_json: bool) -> None:
    rows = sum(table.rows for table in outcome.tables)
    place = f"transaction {plan.cut.txn_seq} of epoch {plan.cut.epoch}"
    if as_json:
        say_json({**_plan_record(plan), "verdict": "VERIFIED", "notes": list(outcome.notes), "restored": [
            {"table": t.table, "as": t.place, "rows": t.rows} for t in outcome.tables
        ]})  # fmt: skip
        return
    for table in outcome.tables:
        say(f"restored  {table.place}  {table.rows:,} rows")
    for note in outcome.notes:
        say(f"note: {note}", "yellow")
    say(
        f"VERIFIED: {len(outcome.tables)} tables, {rows:,} rows at {place}; the chain is unbroken and the target holds "
        "what the archive gave"
    )


class _Shown:
    """Progress on a terminal; nothing where there is none or JSON is asked for."""

    def __init__(self, *, quiet: bool) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, disable=quiet, transient=True)
        self._task = self._progress.add_task("reading segments", total=None)

    def reading(self, done: int, segments: int) -> None:
        self._progress.update(self._task, description="reading segments", completed=done, total=segments)

    def loading(self, table: str, rows: int, *, done: bool) -> None:
        self._progress.update(self._task, description=f"{table}", completed=rows, total=rows if done else None)

    def step(self, what: str) -> None:
        self._progress.update(self._task, description=what, completed=0, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()
