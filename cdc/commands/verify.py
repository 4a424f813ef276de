"""`cdc verify`: which tables are compared, how often, and what it came to, in words and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing

from cdc.commands.terminal import say, say_json
from cdc.errors import PUBLICATION_MISSING, TOPIC_MISSING, CdcError
from cdc.event import Table
from cdc.excerpt import excerpt
from cdc.kafka import Reader
from cdc.logtail import read_log
from cdc.mysql.catalog import Catalog as MySqlCatalog
from cdc.postgres.catalog import Catalog
from cdc.sections import Source
from cdc.shapes import ShapeTopic
from cdc.verdict import Verdict

_COMPARISONS = 3
"""A transaction that commits in the very moment of a comparison looks like a difference, but not three times."""


def captured_tables(source: Source, reader: Reader) -> tuple[list[Table], list[str]]:
    """What is captured of the wanted tables, and the names of the others."""
    server = source.server()
    if server.engine == "mysql":
        # Every row change is in its log: what is wanted is captured, but for what came after the last copy.
        known = _copied(source, reader)
        with closing(MySqlCatalog(server)) as mysql:
            wanted = mysql.publication(source.topic_prefix, (source.tables, source.exclude), source.wanted)
            shapes = mysql.shapes(wanted.tables)
        later = [table.full_name for table in shapes if known and table.full_name not in known]
        return [table for table in shapes if table.full_name not in later], later
    with closing(Catalog(server)) as catalog:
        publication = catalog.publication(source.publication, source.wanted)
        if publication is None:
            raise CdcError(PUBLICATION_MISSING, source=source.name, publication=source.publication)
        lacking = [f"{schema}.{name}" for schema, name, _ in catalog.unpublished(publication, source.wanted)]
        return catalog.shapes([table.oid for table in publication.tables]), lacking


def _copied(source: Source, reader: Reader) -> Collection[str]:
    """The tables that the log has; none before the first copy."""
    topic = ShapeTopic(source.name, source.topic_prefix)
    try:
        # A shape is there before an END names it, so what the log names now is there behind it.
        state = read_log(reader, source.topic_prefix)
        topic.load(reader, lambda: None)
        return topic.in_force(state)
    except CdcError as error:
        if error.code is TOPIC_MISSING:
            return ()
        raise


def settle(compare: Callable[[], Verdict]) -> Verdict:
    """Compare until equal, a few times."""
    verdict = compare()
    for _ in range(_COMPARISONS - 1):
        if verdict.equal:
            break
        verdict = compare()
    return verdict


def show(verdict: Verdict, lacking: Sequence[str]) -> None:
    """For people; the last line is the result."""
    for name in lacking:
        say(f"left out   {name}  wanted by tables = …, but not captured; cdc source run says why", "yellow")
    for table in verdict.tables:
        if table.equal:
            say(f"equal      {table.table}  {table.source_rows:,} rows")
        else:
            keys = f"; such as {', '.join(map(excerpt, table.keys))}" if table.keys else ""
            rows = f"source {table.source_rows:,} rows, replica {table.target_rows:,}"
            say(f"different  {table.table}  {rows}{keys}", "red")
    place = f"at {verdict.position} (transaction {verdict.txn_seq})"
    left_out = f"; {len(lacking)} wanted tables are not captured" if lacking else ""
    say(f"{verdict.result}: {len(verdict.tables)} tables {place}{_why(verdict)}{left_out}")


def _why(verdict: Verdict) -> str:
    if verdict.conclusive:
        return ""
    if verdict.copying:
        return f": still being copied: {', '.join(verdict.copying)}"
    return ": the sink has moved beyond what was read at the source; compare again while the source is quiet"


def show_json(verdict: Verdict, lacking: Sequence[str]) -> None:
    """For programs."""
    tables = [
        {"table": t.table, "equal": t.equal, "source_rows": t.source_rows, "target_rows": t.target_rows, "keys": t.keys}
        for t in verdict.tables
    ]
    say_json(
        {
            "v": 1,
            "result": verdict.result,
            "position": verdict.position,
            "epoch": verdict.epoch,
            "txn_seq": verdict.txn_seq,
            "copying": verdict.copying,
            "not_captured": list(lacking),
            "tables": tables,
        }
    )
