"""`cdc archive sql`: an archive's history as views of DuckDB, every change by the columns' own names.

In: an archive, names of tables, times. Out: SQL that makes for each table `SCHEMA.TABLE_history` (a row per change:
when, by which transaction, what it was before and after) and `SCHEMA.TABLE_base` (the rows of each base), and for all
of them `transactions`; with `export`, the rows they read, in plain files of their own. Refuses: a table that the
archive does not know (TABLE_UNKNOWN), a directory that holds something (FILE_EXISTS), an encrypted archive without
`export`.

Values are text, as in the archive. A column keeps its name over shapes; one that was dropped is NULL from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from cdc.errors import ARGUMENT_INVALID, FILE_EXISTS, TABLE_UNKNOWN, CdcError
from cdc.event import Table
from sinks.archive.archive import Archive
from sinks.archive.chain import fetch
from sinks.archive.lines import literal, name
from sinks.archive.manifest import Base, Segment, Stored
from sinks.archive.reading import segment_rows
from sinks.archive.segment import ROWS

_EPOCH = "regexp_extract(filename, 'body/0*([0-9]+)/', 1)::BIGINT AS epoch"
_AND_THEN, _AND_THE_NEXT = ",\n    ", "\n  UNION ALL BY NAME "


@dataclass(slots=True)
class _Known:
    """What there is of one table. `shapes` by id, in the order of their first use."""

    shapes: dict[str, Table] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    bases: list[Base] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Span:
    """Commit times in µs since 1970; what may lie between them is taken."""

    from_us: int | None = None
    to_us: int | None = None

    def takes(self, first_us: int | None, last_us: int | None) -> bool:
        begins = self.to_us is None or first_us is None or first_us <= self.to_us
        return begins and (self.from_us is None or last_us is None or last_us >= self.from_us)


class History:
    """The part of an archive that is asked for: these tables, or all; within a span."""

    def __init__(self, archive: Archive, tables: Sequence[str], span: Span) -> None:
        self._archive = archive
        manifests = fetch(archive, list(archive.names("log/")))
        self._segments = [s for _, s in manifests if span.takes(s.min_commit_us, s.max_commit_us)]
        bases = [archive.read(Base, found) for found in archive.base_names()]
        self._bases = [base for base in bases if span.takes(base.commit_us, base.commit_us)]
        self._tables: dict[str, _Known] = {}
        for segment in self._segments:
            for table, rows in segment.tables.items():
                self._known(table, rows.schemas).segments.append(segment)
        for base in self._bases:
            for table, taken in base.tables.items():
                self._known(table, [taken.schema_id]).bases.append(base)
        unknown = [table for table in tables if table not in self._tables]
        if unknown:
            raise CdcError(TABLE_UNKNOWN, table=unknown[0], known=", ".join(sorted(self._tables)) or "none")
        self._tables = {table: known for table, known in sorted(self._tables.items()) if not tables or table in tables}

    def _known(self, table: str, schemas: Iterable[str]) -> _Known:
        known = self._tables.setdefault(table, _Known())
        for schema_id in schemas:
            known.shapes.setdefault(schema_id, self._archive.shape(schema_id))
        return known

    # -- plain copies -------------------------------------------------------------------------------------------
    def export(self, directory: Path) -> str:
        """Decrypt what the views read into a new directory that only its owner may enter; returns it as their place."""
        if directory.exists() and any(directory.iterdir()):
            raise CdcError(FILE_EXISTS, file=directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        for segment in self._segments:
            self._copy(segment.transactions, directory)
            if segment.rows and not self._tables.keys().isdisjoint(segment.tables):
                with pq.ParquetWriter(_under(directory, segment.rows), ROWS, compression="zstd") as writer:
                    for _, batch in segment_rows(self._archive, segment, self._tables):
                        writer.write_batch(batch)
        for table, known in self._tables.items():
            for stored in (stored for base in known.bases for stored in base.tables[table].files):
                self._copy(stored, directory)
        return str(directory.absolute())

    def _copy(self, stored: Stored, directory: Path) -> None:
        _under(directory, stored).write_bytes(self._archive.vouched(stored))

    # -- views --------------------------------------------------------------------------------------------------
    def place(self) -> str:
        """Where DuckDB finds the archive itself."""
        if self._archive.identity.encryption != "none":
            problem = "the archive is encrypted, in a way that DuckDB does not read"
            fix = "--export DIRECTORY writes what is asked for there, decrypted; --table, --from and --to make it less"
            raise CdcError(ARGUMENT_INVALID, problem=problem, fix=fix)
        return self._archive.store.url.removeprefix("file://")

    def sql(self, place: str, environment: Mapping[str, str]) -> Iterator[str]:
        """Statements over the files at `place`, told apart by S3's endpoint in the environment."""
        if place.startswith("s3://"):
            yield _secret(environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"))
        schemas = {shape.schema for known in self._tables.values() for shape in known.shapes.values()}
        yield from (f"CREATE SCHEMA IF NOT EXISTS {name(schema)};" for schema in sorted(schemas))
        bodies = [segment.transactions.name for segment in self._segments]
        if bodies:
            yield (
                f"CREATE VIEW transactions AS\n  SELECT {_EPOCH}, txn_seq, make_timestamptz(commit_us) AS committed, "
                f"kind, position, xid, events\n  FROM read_parquet({_files(place, bodies)}, filename = true);"
            )
        for table, known in self._tables.items():
            if known.segments:
                yield _history(table, known, place)
            if any(base.tables[table].files for base in known.bases):
                yield _rows_of_bases(table, known, place)


def _history(table: str, known: _Known, place: str) -> str:
    """A row per change, with two columns for each that the table has or had."""
    *_, shape = known.shapes.values()
    columns = dict.fromkeys(column.name for each in reversed(known.shapes.values()) for column in each.columns)
    cells = [
        f"{_cell(known.shapes, image, column)} AS {name(f'{image}_{column}')}"
        for column in columns
        for image in ("before", "after")
    ]
    bodies = [segment.rows.name for segment in known.segments if segment.rows]
    return (
        f"CREATE VIEW {name(shape.schema)}.{name(f'{shape.name}_history')} AS\n"
        f"  SELECT committed, epoch, txn_seq, ordinal, op,\n    {_AND_THEN.join(cells)},\n"
        f"    {_unchanged(known.shapes)} AS unchanged, moved_from, moved_to\n"
        f"  FROM (SELECT *, {_EPOCH} FROM read_parquet({_files(place, bodies)}, filename = true))\n"
        f'    JOIN transactions USING (epoch, txn_seq) WHERE "table" = {literal(table)};'
    )


def _rows_of_bases(table: str, known: _Known, place: str) -> str:
    *_, shape = known.shapes.values()
    bases = [
        f"SELECT make_timestamptz({base.commit_us or 'NULL'}) AS base_committed, {base.epoch} AS base_epoch, "
        f"{base.txn_seq} AS base_txn_seq, * FROM read_parquet({_files(place, [f.name for f in files])})"
        for base in known.bases
        if (files := base.tables[table].files)
    ]
    view = f"{name(shape.schema)}.{name(f'{shape.name}_base')}"
    return f"CREATE VIEW {view} AS\n  {_AND_THE_NEXT.join(bases)};"


def _cell(shapes: Mapping[str, Table], image: str, column: str) -> str:
    """The column's value: where it stands depends on the shape that the change was written under."""
    found = []
    for schema_id, shape in shapes.items():
        names = [each.name for each in shape.columns]
        if column in names:
            found.append(f"WHEN {literal(schema_id)} THEN {image}[{names.index(column) + 1}]")
    return f"CASE schema_id {' '.join(found)} END"


def _unchanged(shapes: Mapping[str, Table]) -> str:
    """Columns of `after` that the log did not carry: they are NULL here, and as they were before."""
    found = [
        f"WHEN {literal(schema_id)} THEN list_transform(unchanged, lambda place: {_names(shape)}[place])"
        for schema_id, shape in shapes.items()
    ]
    return f"CASE schema_id {' '.join(found)} END"


def _names(shape: Table) -> str:
    return f"[{', '.join(literal(column.name) for column in shape.columns)}]"


def _files(place: str, names: Sequence[str]) -> str:
    """Named one by one: what lies beside them, no manifest vouches for."""
    return f"[{', '.join(literal(f'{place}/{each}') for each in names)}]"


def _under(directory: Path, stored: Stored) -> Path:
    path = directory / stored.name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _secret(endpoint: str | None) -> str:
    """Credentials from where every AWS program takes them."""
    options = ["TYPE s3", "PROVIDER credential_chain"]
    if endpoint:
        parts = urlsplit(endpoint)
        options += [f"ENDPOINT {literal(parts.netloc)}", "URL_STYLE 'path'", f"USE_SSL {parts.scheme == 'https'}"]
    return f"CREATE SECRET ({', '.join(options)});"
