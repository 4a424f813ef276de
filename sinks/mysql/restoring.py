"""A MySQL server that a restore fills: in scratch databases first, so that nothing half done is ever seen.

In: schema as SHOW CREATE wrote it, or shapes of either engine; lines of rows; numbers to go on from. Out: tables,
counted and compared. Refuses: tables that are there already (RESTORE_EXISTS), a statement that the server refuses
(RESTORE_REFUSED, with the object's name), a value that has no place in MySQL, another number of rows than was sent
(RESTORE_FAILED).

DDL commits by itself, so everything is made, loaded and compared in databases `cdc_restore_<id>_<n>`, one for each
database of the target, and moved by one RENAME TABLE, which is atomic. Routines, views, triggers and events cannot be
moved: they are tried out in the scratch databases, written down there before the move, and made behind it. A restore
that is killed before the move leaves scratch databases, which the next one removes; one that is killed behind it leaves
what it had written down, which the next one carries out. A lock says which of them live.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

import pymysql
from pymysql.converters import escape_string

from cdc.errors import RESTORE_EXISTS, RESTORE_FAILED, RESTORE_REFUSED, RESTORE_UNDECIDED, CdcError
from cdc.event import Engine, ForeignKey, Table
from cdc.failpoint import failpoint
from cdc.mysql.dialect import Setting
from cdc.mysql.names import quoted
from cdc.mysql.session import Server, close, dialect_in, number_of
from sinks.across import UnfitError, target_columns
from sinks.archive.dump import Entry
from sinks.archive.place import Place
from sinks.archive.table_files import parse_csv
from sinks.digest import Digests, digests
from sinks.mysql.digest import digest_query, rows_query
from sinks.mysql.leftovers import SCRATCH, TODO, Todo, carry_out, clear, lock_of
from sinks.mysql.names import database_of, listed
from sinks.mysql.progress import PROGRESS_TABLES
from sinks.mysql.statements import literal_of
from sinks.mysql.tables import defined
from sinks.relatives import collation_on
from sinks.transaction import Progress

_SETTINGS: dict[str, Setting] = {
    # Children may come before their parents; the source has checked, and every row is compared.
    "foreign_key_checks": 0,
    "unique_checks": 1,
    "wait_timeout": 86_400,
}
_STATEMENT_BYTES = 1 << 20
_GENERATED = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = %s AND table_name = %s AND generation_expression <> ''
"""
_COUNTING = """
SELECT 1 FROM information_schema.columns WHERE table_schema = %s AND table_name = %s AND extra LIKE '%%auto_increment%%'
"""
_PROGRESS = "pipeline, source, epoch, txn_seq, position, run, log_offset, commit_ts_us, writer, updated_at"
_ROUTINES = "SELECT 1 FROM information_schema.routines WHERE routine_schema = %s AND routine_name = %s"
_OBJECTS = {
    "function": f"{_ROUTINES} AND routine_type = 'FUNCTION'",
    "procedure": f"{_ROUTINES} AND routine_type = 'PROCEDURE'",
    "trigger": "SELECT 1 FROM information_schema.triggers WHERE trigger_schema = %s AND trigger_name = %s",
    "event": "SELECT 1 FROM information_schema.events WHERE event_schema = %s AND event_name = %s",
}
_NOT_HERE_YET = (1049, 1146, 1356)
"""What a view of several databases meets in a scratch database: no such database, no such table, an invalid view."""


class RestoreTarget:
    """One restore. `commit` is the only thing that makes it visible; `notes` tells what was found."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = server.connect(settings=_SETTINGS, isolation="READ COMMITTED")
        self._dialect = dialect_in(self._connection)
        self.engine: Engine = self._dialect.engine
        self._id = secrets.token_hex(6)
        self._scratch: dict[str, str] = {}
        self._places: list[Place] = []
        self._databases: dict[str, str] = {}
        self._todo: list[Todo] = []
        self.notes: list[str] = []
        with server.errors():
            self.notes += clear(self._connection)
            self._rows("SELECT GET_LOCK(%s, 0)", lock_of(self._id))
            self._packet = int(str(self._rows("SELECT @@max_allowed_packet")[0][0]))

    # -- places -------------------------------------------------------------------------------------------------
    def place(self, table: Table, schema: str | None, name: str | None) -> Place:
        """`schema` is a database. Tables of Postgres' `public` go to the one that the URL names."""
        database = schema or database_of(table, self._server.database)
        if not database:
            raise self._server.refused("the URL names no database: mysql://USER@HOST/DATABASE")
        return Place(database, name or table.name)

    def refuse_existing(self, places: Sequence[Place]) -> None:
        """Nothing is written over."""
        query = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
        with self._server.errors():
            there = [str(place) for place in places if self._rows(query, place.schema, place.name)]
        if there:
            raise self._exists(there)

    def refuse_existing_objects(self, entries: Sequence[Entry]) -> None:
        """The same for routines, triggers and events."""
        with self._server.errors():
            there = [f"{kind} {entry.schema}.{entry.name}" for entry in entries
                     if (kind := entry.type.lower()) in _OBJECTS
                     and self._rows(_OBJECTS[kind], entry.schema, entry.name)]  # fmt: skip
        if there:
            raise self._exists(there)

    def _exists(self, there: Sequence[str]) -> CdcError:
        found, empty = ", ".join(there[:10]), "a server that has none of them, or databases of other names"
        return CdcError(RESTORE_EXISTS, tables=found, database="the server", empty=empty)

    def _at(self, place: Place) -> str:
        """Where it is until the move."""
        return f"{quoted(self._scratch_of(place.schema))}.{quoted(place.name)}"

    def _scratch_of(self, database: str) -> str:
        if database not in self._scratch:
            name = f"{SCRATCH}{self._id}_{len(self._scratch) + 1}"
            self._execute(f"CREATE DATABASE {quoted(name)}", "database", name)
            if not self._scratch:
                self._execute(TODO.format(quoted(name)), "table", "cdc_todo")
            self._scratch[database] = name
        return self._scratch[database]

    # -- schema -------------------------------------------------------------------------------------------------
    def create(self, table: Table, place: Place) -> None:
        """A table out of its shape alone; unique constraints come with `add_keys`."""
        columns = target_columns(table, self.engine)
        parts = [
            defined(column, there)
            + (" AUTO_INCREMENT" if column.auto_increment and _counts(table, column.name) else "")
            for column, there in zip(table.columns, columns, strict=True)
        ]
        if table.primary_key:
            parts.append(f"PRIMARY KEY ({listed(table.primary_key)})")
        charset, collation = table.charset or "utf8mb4", table.collation or self._dialect.collation
        if table.engine != self.engine:
            collation = collation_on(charset, collation, self.engine)
        ends = f" CHARACTER SET {charset} COLLATE {collation}"
        self._execute(f"CREATE TABLE {self._at(place)} ({', '.join(parts)}) ENGINE=InnoDB{ends}", "table", str(place))
        self._places.append(place)

    def add_keys(self, table: Table, place: Place) -> list[str]:
        """What this server cannot have, in words: an index on long text."""
        return [
            f"unique constraint ({', '.join(columns)}) of {place}: {problem}"
            for columns in table.unique
            if (problem := self._try(f"ALTER TABLE {self._at(place)} ADD UNIQUE ({listed(columns)})"))
        ]

    def add_foreign_key(self, place: Place, key: ForeignKey, to: Place) -> str | None:
        """Why not, in words."""
        return self._try(
            f"ALTER TABLE {self._at(place)} ADD CONSTRAINT {quoted(key.name)} FOREIGN KEY ({listed(key.columns)}) "
            f"REFERENCES {self._at(to)} ({listed(key.referenced)}) ON UPDATE {key.on_update} ON DELETE {key.on_delete}"
        )

    def run(self, entry: Entry) -> None:
        """A database or a table of the schema, in its scratch database."""
        if entry.type == "DATABASE":
            self._databases[entry.name] = entry.sql
            return
        self._use(self._scratch_of(entry.schema))
        self._execute(entry.sql, entry.type.lower(), f"{entry.schema}.{entry.name}")
        self._places.append(Place(entry.schema, entry.name))

    def alter(self, place: Place, changes: Sequence[str]) -> None:
        self._execute(f"ALTER TABLE {self._at(place)} {', '.join(changes)}", "table", str(place))

    def write_down(self, entries: Sequence[Entry]) -> None:
        """What is made behind the move; first whether the server will take it."""
        for entry in entries:
            name = f"{entry.schema}.{entry.name}"
            self._use(self._scratch_of(entry.schema))
            try:
                carry_out(self._connection, entry.sql, entry.settings)
                if entry.type == "TRIGGER":
                    self._rows(f"DROP TRIGGER {quoted(entry.name)}")
            except pymysql.MySQLError as error:
                if number_of(error) not in _NOT_HERE_YET:
                    raise self._refused(error, entry.type.lower(), name) from None
            self._todo.append(Todo(entry.schema, entry.type.lower(), name, entry.settings, entry.sql))

    # -- rows ---------------------------------------------------------------------------------------------------
    def load(self, table: Table, place: Place, blocks: Generator[tuple[int, bytes], None, None]) -> int:
        """INSERT lines, many in a statement; every row that was sent must have arrived (CORRECTNESS 35)."""
        schema, at = self._scratch_of(place.schema), self._at(place)
        generated = {str(row[0]) for row in self._rows(_GENERATED, schema, place.name)}
        columns = {c.name: c for c in target_columns(table, self.engine) if c.name not in generated}
        rules = {name: (literal_of(column), column.from_source) for name, column in columns.items()}
        names = [column.name for column in table.columns]
        head = f"INSERT INTO {at} ({listed(columns)}) VALUES ".encode()
        sent = arrived = 0
        with closing(blocks):
            for rows, block in blocks:
                texts = parse_csv(block, names)
                try:
                    cells = [
                        ["NULL" if text is None else literal(convert(text)) for text in texts.column(name).to_pylist()]
                        for name, (literal, convert) in rules.items()
                    ]
                except UnfitError as error:
                    raise CdcError(RESTORE_REFUSED, kind="a row of", object=place, problem=error) from None
                self._execute("START TRANSACTION", "table", str(place))
                for piece in _pieces((f"({','.join(row)})" for row in zip(*cells, strict=True)), self._packet):
                    arrived += self._execute(head + piece, "rows of", str(place))
                self._execute("COMMIT", "table", str(place))
                sent += rows
                failpoint("restore.in_load")
        if arrived != sent:
            raise CdcError(RESTORE_FAILED, table=str(place), problem=f"{sent} rows were sent, {arrived} arrived")
        return arrived

    def set_next(self, place: Place, number: int) -> None:
        """Where its numbers go on; InnoDB goes behind the column's greatest value by itself (CORRECTNESS 36)."""
        if self._rows(_COUNTING, self._scratch_of(place.schema), place.name):
            self._execute(f"ALTER TABLE {self._at(place)} AUTO_INCREMENT = {number}", "table", str(place))

    def analyze(self, places: Sequence[Place]) -> None:
        for place in places:
            self._execute(f"ANALYZE NO_WRITE_TO_BINLOG TABLE {self._at(place)}", "table", str(place))

    # -- proof --------------------------------------------------------------------------------------------------
    def digests(self, table: Table, place: Place) -> Digests:
        """By SQL, of what is there now."""
        return digests(
            self._rows(digest_query(table, self._dialect, only=True, at=self._at(place))), str(place), self._server.name
        )

    def rows_of(self, table: Table, place: Place, bucket: str) -> list[tuple[str, str]]:
        """Key's line and row's hash of every row in a bucket."""
        query = rows_query(table, bucket, self._dialect, only=True, at=self._at(place))
        return [(str(key), str(of)) for key, of in self._rows(query)]

    def write_progress(
        self, pipeline: str, source: str, progress: Progress, tables: Mapping[str, tuple[str, Place]]
    ) -> None:
        """A sink that is named later goes on from here; `tables`: shape's id and place by name."""
        home = self._server.database or next(iter(tables.values()))[1].schema
        at = progress
        values = ", ".join(
            map(
                _sql,
                (
                    pipeline,
                    source,
                    at.epoch,
                    at.txn_seq,
                    at.position,
                    at.run,
                    at.log_offset,
                    at.commit_ts_us,
                    "restore",
                ),
            )
        )
        rows = [f"INSERT INTO cdc_progress ({_PROGRESS}) VALUES ({values}, NOW(6))"]
        rows += [
            f"INSERT INTO cdc_table VALUES ({_sql(pipeline)}, {_sql(name)}, {_sql(str(place))}, {_sql(schema_id)}, "
            "'ready', NULL, NULL)"
            for name, (schema_id, place) in tables.items()
        ]
        self._todo += [Todo(home, "table", "cdc_progress", {}, statement) for statement in [*PROGRESS_TABLES, *rows]]

    # -- the move -----------------------------------------------------------------------------------------------
    def commit(self) -> None:
        """All tables at once; then what could not be there before them."""
        first = next(iter(self._scratch.values()), None)
        if first is None:
            return
        for todo in self._todo:
            self._execute(todo.insert(first), todo.kind, todo.name)
        for database in self._scratch:
            if not self._rows("SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", database):
                self._execute(
                    self._databases.get(database, f"CREATE DATABASE {quoted(database)}"), "database", database
                )
        self.refuse_existing(self._places)
        failpoint("restore.before_commit")
        moves = ", ".join(f"{self._at(p)} TO {quoted(p.schema)}.{quoted(p.name)}" for p in self._places)
        try:
            self._rows(f"RENAME TABLE {moves}")
            failpoint("restore.after_move")
            self.notes += clear(self._connection, self._id)
        except pymysql.MySQLError as error:
            if not self._connection.open:
                problem = self._server.problem(error)
                raise CdcError(RESTORE_UNDECIDED, database=self._server.database, problem=problem) from None
            raise self._refused(error, "the move of", "all tables") from None
        failpoint("restore.after_commit")

    # -- the rest -----------------------------------------------------------------------------------------------
    def _use(self, database: str) -> None:
        with self._server.errors():
            self._connection.select_db(database)

    def _try(self, statement: str) -> str | None:
        try:
            self._rows(statement)
        except pymysql.MySQLError as error:
            if not self._connection.open:
                raise
            return self._server.problem(error)
        return None

    def _execute(self, statement: str | bytes, kind: str, name: str) -> int:
        try:
            with self._connection.cursor() as cursor:
                return int(cursor.execute(statement))
        except pymysql.MySQLError as error:
            raise self._refused(error, kind, name) from None

    def _refused(self, error: pymysql.MySQLError, kind: str, name: str) -> CdcError:
        """Where nobody is there any more, not the statement is at fault."""
        if not self._connection.open:
            return self._server.error(error)
        return CdcError(RESTORE_REFUSED, kind=kind, object=name, problem=self._server.problem(error))

    def _rows(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return list(cursor.fetchall())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._connection.open:
                # What was moved is gone from there by now.
                for name in self._scratch.values():
                    self._rows(f"DROP DATABASE IF EXISTS {quoted(name)}")
        except pymysql.MySQLError:
            if error is None:
                raise
        finally:
            close(self._connection)
        if isinstance(error, pymysql.MySQLError):
            raise self._server.error(error) from None


def _counts(table: Table, column: str) -> bool:
    """Whether an index begins with it, as InnoDB wants for AUTO_INCREMENT, when the table is made."""
    return table.primary_key[:1] == (column,)


def _sql(value: str | int | None) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else f"'{escape_string(value)}'"


def _pieces(rows: Iterable[str], packet: int) -> Iterable[bytes]:
    """Joined up to a statement's size; one that is larger stands alone."""
    most = min(_STATEMENT_BYTES, packet // 2)
    held: list[bytes] = []
    size = 0
    for row in map(str.encode, rows):
        if held and size + len(row) > most:
            yield b",".join(held)
            held, size = [], 0
        held.append(row)
        size += len(row) + 1
    if held:
        yield b",".join(held)
