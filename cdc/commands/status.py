"""`cdc status`: gather what each stage says, and show it once, again and again, or as JSON.

A stage that cannot be asked is shown with its problem; a host that lacks another region's secret still sees its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cdc.commands.terminal import console, say_json
from cdc.config import Config
from cdc.engine import engine_of
from cdc.errors import TOPIC_MISSING, CdcError
from cdc.kafka import Reader
from cdc.mysql import status as mysql
from cdc.postgres import status as postgres
from cdc.secret import redact
from cdc.status import (
    ArchiveFacts,
    ArchiveStatus,
    Report,
    SinkStatus,
    SourceStatus,
    archive_status,
    sink_status,
    source_status,
)
from cdc.status_tail import Tail, read_tail
from cdc.topics import log_topic

_EVERY_S = 2.0
AskArchive = Callable[[Config, str], ArchiveFacts | None]
_NOTHING = "–"
_ANY_WIDTH = 10_000
_TABLES = 2
"""So many of those being copied are named; `--json` has them all."""
_UNITS = (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10))


class Gatherer:
    """Asks Kafka, the sources and the targets of one configuration."""

    def __init__(self, config: Config, reader: Reader, archive_facts: AskArchive) -> None:
        self._config, self._reader, self._archive_facts = config, reader, archive_facts

    def report(self) -> Report:
        tails = {name: self._tail(source.topic_prefix) for name, source in self._config.sources.items()}
        return Report(
            datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            tuple(self._source(name, *tails[name]) for name in self._config.sources),
            tuple(
                self._sink(name, *tails.get(sink.source, (Tail(()), None))) for name, sink in self._config.sinks.items()
            ),
            tuple(self._archive(name, tails) for kind, name in self._config.units() if kind == "archive"),
        )

    def _tail(self, prefix: str) -> tuple[Tail, str | None]:
        try:
            return read_tail(self._reader, prefix), None
        except CdcError as error:
            if error.code is TOPIC_MISSING:
                return Tail(()), f"nothing is published: topic {log_topic(prefix)} does not exist"
            return Tail(()), _short(error)

    def _source(self, name: str, tail: Tail, problem: str | None) -> SourceStatus:
        source = self._config.source(name)
        facts: mysql.SourceFacts | postgres.SourceFacts | None = None
        try:
            server = source.server()
            if server.engine == "mysql":
                facts = mysql.source_facts(server)
            else:
                facts = postgres.source_facts(server, source.slot)
        except CdcError as error:
            problem = _both(_short(error), problem)
        return source_status(name, source.engine, tail, facts, source.max_retained_wal, problem)

    def _sink(self, name: str, tail: Tail, problem: str | None) -> SinkStatus:
        sink, facts = self._config.sink(name), None
        try:
            server = sink.server()
            facts = mysql.target_facts(server) if server.engine == "mysql" else postgres.target_facts(server)
        except CdcError as error:
            problem = _both(_short(error), problem)
        by_debezium = sink.source in self._config.debezium
        if by_debezium:
            problem = self._of_connector(self._config.debezium[sink.source].topic_prefix, problem)
        return sink_status(name, engine_of(sink.url), sink.source, tail, facts, problem, by_debezium=by_debezium)

    def _of_connector(self, prefix: str, problem: str | None) -> str | None:
        """Whether there is anything to follow."""
        try:
            self._reader.watermarks(log_topic(prefix), 0)
        except CdcError as error:
            if error.code is not TOPIC_MISSING:
                return _both(_short(error), problem)
            missing = (
                f"topic {log_topic(prefix)} is not there: the connector makes it with its first transaction, if it "
                "runs with this topic.prefix and provide.transaction.metadata = true"
            )
            return _both(missing, problem)
        return problem

    def _archive(self, name: str, tails: Mapping[str, tuple[Tail, str | None]]) -> ArchiveStatus:
        _, source = self._config.archive(name)
        (tail, problem), facts = tails[source], None
        try:
            facts = self._archive_facts(self._config, name)
        except CdcError as error:
            problem = _both(_short(error), problem)
        return archive_status(name, source, tail, facts, time.time_ns() // 1_000_000, problem)


def _short(error: CdcError) -> str:
    return redact(f"{error.code.name}: {error.text}")


def _both(one: str, other: str | None) -> str:
    return f"{one}; {other}" if other else one


@contextmanager
def gatherer(config: Config, archive_facts: AskArchive) -> Iterator[Gatherer]:
    with closing(Reader(config.kafka_options(), client="cdc-status")) as reader:
        yield Gatherer(config, reader, archive_facts)


def show_once(config: Config, archive_facts: AskArchive, *, as_json: bool) -> None:
    with gatherer(config, archive_facts) as gather:
        report = gather.report()
    if as_json:
        say_json(report.as_json())
    else:
        console().print(render(report))


def watch(config: Config, archive_facts: AskArchive, stop: Callable[[], bool]) -> None:
    """Until stopped."""
    with (
        gatherer(config, archive_facts) as gather,
        Live(render(gather.report()), console=console(), auto_refresh=False) as live,
    ):
        while not stop():
            live.update(render(gather.report()), refresh=True)
            until = time.monotonic() + _EVERY_S
            while time.monotonic() < until and not stop():
                time.sleep(0.1)


# -- tables -----------------------------------------------------------------------------------------------------
def render(report: Report) -> RenderableType:
    """For people."""
    parts: list[RenderableType] = [Text(report.at, style="dim"), _sources(report.sources)]
    if report.sinks:
        parts.append(_sinks(report.sinks))
        for promise in dict.fromkeys(sink.promise for sink in report.sinks):
            of = ", ".join(sink.name for sink in report.sinks if sink.promise == promise)
            parts.append(Text(f"{of}, transaction mode: {promise}", style="dim"))
    if report.archives:
        parts.append(_archives(report.archives))
    stages: list[SourceStatus | SinkStatus | ArchiveStatus] = [*report.sources, *report.sinks, *report.archives]
    problems = [(stage.name, stage.problem) for stage in stages]
    parts += [Text(f"{name}: {problem}", style="bold red") for name, problem in problems if problem]
    return Group(*parts)


class _Stages:
    """A row for each stage; where the terminal is too narrow for that, its facts behind each other, none cut in two."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows: list[tuple[str, ...]] = []

    def add_row(self, *facts: str) -> None:
        self._rows.append(facts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in self._columns:
            table.add_column(column, no_wrap=True)
        for row in self._rows:
            table.add_row(*row)
        if Measurement.get(console, options.update(max_width=_ANY_WIDTH), table).maximum <= options.max_width:
            yield table
        else:
            for name, state, *facts in self._rows:
                told = "\n".join(self._lines(f"{self._columns[0]} {name}: {state}", facts, options.max_width))
                yield Text.assemble((self._columns[0], "bold"), told.removeprefix(self._columns[0]))

    def _lines(self, line: str, facts: Sequence[str], width: int) -> Iterator[str]:
        for column, fact in zip(self._columns[2:], facts, strict=True):
            told = f"{column} {fact}"
            if fact == _NOTHING:
                continue
            if len(line) + len(told) + 3 > width:
                yield f"{line},"
                line = f"  {told}"
            else:
                line += f", {told}"
        yield line


def _sources(sources: tuple[SourceStatus, ...]) -> _Stages:
    table = _Stages("source", "state", "position", "txn", "lag", "log kept", "until limit")
    for s in sources:
        state = f"{s.state} {s.copying}" if s.copying and s.state == "copying" else s.state
        kept, limit = _log_kept(s)
        table.add_row(s.name, state, _place(s.position), _number(s.txn_seq), span(s.lag_seconds), kept, limit)
    return table


def _sinks(sinks: tuple[SinkStatus, ...]) -> _Stages:
    table = _Stages("sink", "state", "position", "txn", "behind", "lag", "known divergence")
    for s in sinks:
        state = s.state
        if s.copying:
            more = f" and {len(s.copying) - _TABLES} more" if len(s.copying) > _TABLES else ""
            state += f"{'' if state == 'copying' else ', copying'} {', '.join(s.copying[:_TABLES])}{more}"
        behind = _NOTHING if s.lag_transactions is None else f"{s.lag_transactions:,} txn"
        divergence = _NOTHING if s.known_divergence is None else str(s.known_divergence)
        table.add_row(s.name, state, _place(s.position), _number(s.txn_seq), behind, span(s.lag_seconds), divergence)
    return table


def _archives(archives: tuple[ArchiveStatus, ...]) -> _Stages:
    table = _Stages(
        "archive", "state", "restorable from", "archived to", "txn", "behind", "lag", "base", "next base", "anchor"
    )
    for a in archives:
        behind = _NOTHING if a.lag_transactions is None else f"{a.lag_transactions:,} txn"
        window = _moment(a.restorable_from_us), _moment(a.archived_to_us)
        base, anchor = _ago(a.base_age_seconds), _ago(a.anchor_age_seconds)
        due = (a.base_due or _NOTHING).replace("T", " ")
        if a.base_overdue or a.base_late:
            due = f"{'overdue' if a.base_overdue else 'due'} since {due}"
        table.add_row(
            a.name, a.state, *window, _number(a.txn_seq), behind, span(a.lag_seconds), base, due, anchor
        )  # fmt: skip
    return table


def _moment(micros: int | None) -> str:
    return _NOTHING if micros is None else f"{datetime.fromtimestamp(micros // 1_000_000, UTC):%F %T}Z"


def _ago(seconds: float | None) -> str:
    return "none" if seconds is None else f"{span(seconds)} ago"


def _log_kept(s: SourceStatus) -> tuple[str, str]:
    """What the server keeps of its log, and how long what we need of it is safe."""
    if s.binlog is not None:
        kept = f"{size(s.binlog.kept_bytes)} from {s.binlog.oldest_file}"
        if s.binlog.seconds_left is not None:
            return kept, f"{span(s.binlog.seconds_left)} to purging"
        return kept if s.lag_seconds is None else f"{kept}, no limit", _NOTHING
    if s.wal is None:
        return _NOTHING, _NOTHING
    kept = size(s.wal.retained_bytes)
    if s.wal.limit is None or s.wal.limit_bytes is None:
        return f"{kept}, no limit", _NOTHING
    left = "at rest" if not s.wal.bytes_per_second else span(s.wal.seconds_left)
    return kept, f"{left} to {s.wal.limit} ({size(s.wal.limit_bytes)})"


def _place(position: str | None) -> str:
    """For a column of a table: of each server's UUID in a set of GTIDs the beginning; `--json` has them whole."""
    if position is None:
        return _NOTHING
    return ", ".join(f"{part[:8]}…{part[36:]}" if part[36:37] == ":" else part for part in position.split(","))


def _number(value: int | None) -> str:
    return _NOTHING if value is None else f"{value:,}"


def size(count: int) -> str:
    """Bytes for people."""
    for unit, bits in _UNITS:
        if count >= 1 << bits:
            return f"{count / (1 << bits):.1f} {unit}"
    return f"{count} B"


def span(seconds: float | None) -> str:
    """A time for people, two units at most."""
    if seconds is None:
        return _NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
