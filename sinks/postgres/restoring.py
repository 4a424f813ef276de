"""A database that a restore fills: all of it in one transaction, so that nothing half done is ever seen.

In: schema as pg_dump wrote it, or shapes; lines of rows; sequences. Out: tables, counted and compared. Refuses: tables
that are there already (RESTORE_EXISTS), a server that is too old (TARGET_TOO_OLD), a statement that it refuses
(RESTORE_REFUSED, with the object's name), another number of rows than was sent (RESTORE_FAILED).

A killed restore leaves nothing: the server rolls it back. Run again, it begins from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from cdc.errors import RESTORE_EXISTS, RESTORE_FAILED, RESTORE_REFUSED, RESTORE_UNDECIDED, TARGET_TOO_OLD, CdcError
from cdc.event import Column, Engine, ForeignKey, Table
from cdc.failpoint import failpoint
from cdc.postgres.session import Server
from sinks.across import UnfitError, on_target, target_columns
from sinks.archive.place import Place
from sinks.archive.table_files import parse_csv
from sinks.digest import Digests, digests
from sinks.postgres.digest import digest_query, rows_query
from sinks.postgres.progress import PROGRESS_TABLES
from sinks.postgres.rehearsal import Gone, rehearse
from sinks.transaction import Progress

OLDEST = 140000
"""The oldest version that a restore knows, as the server numbers it."""
_SETTINGS = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": "30s",
             "check_function_bodies": "off"}  # fmt: skip


_SEQUENCE = """
SELECT s.seqrelid::bigint, s.seqincrement, s.seqmin, s.seqmax FROM pg_catalog.pg_sequence s
JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = %s
"""
_OWNED = """
SELECT d.objid::regclass::text, n.nspname, c.relname, a.attname, s.seqincrement < 0, s.seqmin, s.seqmax
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid
JOIN pg_catalog.pg_class c ON c.oid = d.refobjid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
  AND d.deptype IN ('a', 'i') AND a.atttypid = ANY ('{int2,int4,int8}'::regtype[])
"""


class RestoreTarget:
    """One open transaction on the target; `commit` is the only thing that makes it visible."""

    engine: Engine = "postgresql"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = server.connect(settings=_SETTINGS)
        version = self._connection.info.server_version
        if version < OLDEST:
            shown = self._connection.info.parameter_status("server_version")
            self._connection.close()
            raise CdcError(TARGET_TOO_OLD, version=shown, oldest=OLDEST // 10000)
        self.notes: list[str] = []
        with self._server.errors():
            if version >= 170000:
                self._connection.execute("SET transaction_timeout = 0")
            self._connection.autocommit = False

    def place(self, table: Table, schema: str | None, name: str | None) -> Place:
        """A database of MySQL is a schema here."""
        return Place(schema or table.schema, name or table.name)

    def refuse_existing(self, places: Sequence[Place]) -> None:
        """Nothing is written over."""
        query = "SELECT pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s::text, %s::text)) IS NOT NULL"
        there = [str(place) for place in places if self._one(query, place.schema, place.name)[0]]
        if there:
            raise CdcError(
                RESTORE_EXISTS, tables=", ".join(there[:10]), database=f"database {self._connection.info.dbname}",
                empty="an empty database (createdb)",
            )  # fmt: skip

    # -- schema -------------------------------------------------------------------------------------------------
    def run(self, statement: str, kind: str, name: str) -> None:
        """What makes one object of the dump."""
        self._execute(statement.encode(), kind, name)

    def try_to_run(self, statement: str) -> None:
        """What the target may lack."""
        self._connection.execute("SAVEPOINT trial")
        try:
            self._connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            self._connection.execute("ROLLBACK TO trial")
        self._connection.execute("RELEASE trial")

    def create(self, table: Table, place: Place) -> None:
        """A table out of its shape alone; primary key and unique constraints come with `add_keys`."""
        if table.engine != self.engine:
            make = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(place.schema))
            self._execute(make, "schema", place.schema)
        columns = [self._column(column) for column in on_target(table, self.engine).columns]
        create = sql.SQL("CREATE TABLE {} ({})").format(_sql(place), sql.SQL(", ").join(columns))
        self._execute(create, "table", str(place))

    def add_keys(self, table: Table, place: Place) -> list[str]:
        """What this server cannot have, in words: there is no such key."""
        constraints = [("PRIMARY KEY", table.primary_key)] if table.primary_key else []
        constraints += [("UNIQUE", columns) for columns in table.unique]
        for kind, columns in constraints:
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            self._execute(sql.SQL("ALTER TABLE {} ADD {} ({})").format(_sql(place), sql.SQL(kind), names), kind.lower(),
                          str(place))  # fmt: skip
        return []

    def add_foreign_key(self, place: Place, key: ForeignKey, to: Place) -> str | None:
        """Why not, in words."""
        statement = sql.SQL(
            f"ALTER TABLE {{}} ADD CONSTRAINT {{}} FOREIGN KEY ({{}}) REFERENCES {{}} ({{}}) "
            f"ON UPDATE {key.on_update} ON DELETE {key.on_delete}"
        ).format(
            _sql(place), sql.Identifier(key.name), _listed(key.columns), _sql(to), _listed(key.referenced)
        )  # fmt: skip
        self._connection.execute("SAVEPOINT trial")
        try:
            self._connection.execute(statement)
        except psycopg.Error as error:
            if self._connection.broken:
                raise
            self._connection.execute("ROLLBACK TO trial")
            return self._server.problem(error)
        self._connection.execute("RELEASE trial")
        return None

    def rehearse(self, statements: Sequence[int], run: Callable[[int], None], drop: Callable[[], None]) -> Gone:
        """What of these statements of the dump goes with what `drop` drops; nothing of it stays."""
        with self._server.errors():
            return rehearse(self._connection, statements, run, drop)

    def reshape(self, before: Table, after: Table) -> None:
        """What changed between the dump and the cut."""
        place = Place(before.schema, before.name)
        kept = {c.attnum for c in before.columns} & {c.attnum for c in after.columns}
        for column in before.columns:
            if column.attnum not in kept:
                drop = sql.SQL("ALTER TABLE {} DROP COLUMN {} CASCADE").format(_sql(place), sql.Identifier(column.name))
                self._execute(drop, "column", f"{place}.{column.name}")
        for column in after.columns:
            if column.attnum not in kept:
                add = sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(_sql(place), self._column(column))
                default = sql.SQL("") if column.default is None else sql.SQL(" DEFAULT " + column.default)
                self._execute(add + default, "column", f"{place}.{column.name}")

    def _column(self, column: Column) -> sql.Composed:
        found = self._one("SELECT pg_catalog.to_regtype(%s)::oid", column.type_expression)[0]
        if found is None:
            problem = f"the target has no type {column.type_expression}"
            raise CdcError(RESTORE_REFUSED, kind="column", object=column.name, problem=problem)
        null = " NOT NULL" if column.not_null else ""
        return sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type_expression + null))

    # -- rows ---------------------------------------------------------------------------------------------------
    def load(self, table: Table, place: Place, blocks: Generator[tuple[int, bytes], None, None]) -> int:
        """COPY lines; every row that was sent must have arrived (CORRECTNESS 35).

        Frozen: the transaction made the table, and whoever reads it next need not write its pages again.
        """
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        copy_in = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, FREEZE)").format(_sql(place), names)
        sent = 0
        if table.engine != self.engine:
            blocks = _across(table, place, blocks)
        try:
            # What feeds them ends here whatever happens, while it still can.
            with closing(blocks), self._connection.cursor() as cursor:
                with cursor.copy(copy_in) as copy:
                    for rows, block in blocks:
                        copy.write(block)
                        sent += rows
                        failpoint("restore.in_load")
                arrived = cursor.rowcount
        except psycopg.Error as error:
            raise self._gone(error) or self._failed(place, self._server.problem(error)) from None
        if arrived != sent:
            raise self._failed(place, f"{sent} rows were sent, {arrived} arrived")
        return arrived

    def set_sequence(self, name: str, lowest: tuple[int, bool], highest: tuple[int, bool]) -> str | None:
        """To the end that it goes towards, with whether that value was given out; what could not be, in words."""
        with self._server.errors():
            found = self._connection.execute(_SEQUENCE, [name]).fetchone()
        if found is None:
            return f"sequence {name} went with what owned it"
        sequence, increment, least, most = found
        wanted, called = highest if increment > 0 else lowest
        value = min(max(wanted, least), most)
        self._execute(sql.SQL("SELECT pg_catalog.setval({}, {}, {})").format(sequence, value, called), "sequence", name)
        return None if value == wanted else f"sequence {name} was at {wanted}, beyond its bounds here: set to {value}"

    def advance_sequences(self) -> None:
        """A sequence that a column owns is at least at the column's greatest value, or least (CORRECTNESS 36)."""
        owned = self._connection.execute(_OWNED).fetchall()
        for sequence, schema, table, column, descends, least, most in owned:
            statement = sql.SQL(
                "SELECT pg_catalog.setval({sequence}::regclass, m.value, true) "
                "FROM (SELECT {end}({column})::bigint AS value FROM {table}) m, {quoted} s "
                "WHERE (m.value {beyond} s.last_value OR (m.value = s.last_value AND NOT s.is_called)) "
                "AND m.value BETWEEN {least} AND {most}"
            ).format(
                sequence=sql.Literal(sequence), quoted=sql.SQL(sequence), column=sql.Identifier(column),
                table=sql.Identifier(schema, table), end=sql.SQL("min" if descends else "max"),
                beyond=sql.SQL("<" if descends else ">"), least=least, most=most,
            )  # fmt: skip
            self._execute(statement, "sequence", sequence)

    def analyze(self, places: Sequence[Place]) -> None:
        for place in places:
            self._execute(sql.SQL("ANALYZE {}").format(_sql(place)), "table", str(place))

    # -- proof --------------------------------------------------------------------------------------------------
    def digests(self, table: Table, place: Place) -> Digests:
        """By SQL, of what is there now."""
        return digests(self._connection.execute(digest_query(table, only=True, at=_sql(place))))

    def rows_of(self, table: Table, place: Place, bucket: str) -> list[tuple[str, str]]:
        """Key's line and row's hash of every row in a bucket."""
        return list(self._connection.execute(rows_query(table, bucket, only=True, at=_sql(place))))

    def write_progress(
        self, pipeline: str, source: str, progress: Progress, tables: Mapping[str, tuple[str, Place]]
    ) -> None:
        """A sink that is named later goes on from here; `tables`: shape's id and place by name."""
        execute = self._connection.execute
        execute("CREATE SCHEMA IF NOT EXISTS cdc")
        execute(PROGRESS_TABLES)
        execute(
            "INSERT INTO cdc.cdc_progress (pipeline, source, epoch, txn_seq, position, run, log_offset, commit_ts_us, "
            "writer, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'restore', clock_timestamp())",
            [pipeline, source, progress.epoch, progress.txn_seq, progress.position, progress.run, progress.log_offset,
             progress.commit_ts_us],
        )  # fmt: skip
        for name, (schema_id, place) in tables.items():
            execute(
                "INSERT INTO cdc.cdc_table VALUES (%s, %s, %s, %s, 'ready', NULL)",
                [pipeline, name, str(place), schema_id],
            )

    def commit(self) -> None:
        failpoint("restore.before_commit")
        try:
            self._connection.commit()
        except psycopg.Error as error:
            problem, database = self._server.problem(error), self._connection.info.dbname
            if self._connection.broken:
                raise CdcError(RESTORE_UNDECIDED, database=database, problem=problem) from None
            raise self._server.error(error) from None
        failpoint("restore.after_commit")

    def _execute(self, statement: sql.Composed | bytes, kind: str, name: str) -> None:
        try:
            self._connection.execute(statement)
        except psycopg.Error as error:
            problem = self._server.problem(error)
            raise self._gone(error) or CdcError(RESTORE_REFUSED, kind=kind, object=name, problem=problem) from None

    def _gone(self, error: psycopg.Error) -> CdcError | None:
        """Not the statement is at fault, but that nobody is there any more."""
        return self._server.error(error) if self._connection.broken else None

    def _failed(self, place: Place, problem: str) -> CdcError:
        return CdcError(RESTORE_FAILED, table=str(place), problem=problem)

    def _one(self, query: str, *parameters: object) -> tuple[Any, ...]:
        with self._server.errors():
            row = self._connection.execute(query.encode(), parameters or None).fetchone()
        assert row is not None
        return row

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        if isinstance(error, psycopg.Error):
            raise self._server.error(error) from None


def _sql(place: Place) -> sql.Identifier:
    return sql.Identifier(place.schema, place.name)


def _listed(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _across(
    table: Table, place: Place, blocks: Generator[tuple[int, bytes], None, None]
) -> Generator[tuple[int, bytes], None, None]:
    """Lines of the source's text as lines of ours."""
    names, rules = [c.name for c in table.columns], [c.from_source for c in target_columns(table, "postgresql")]
    with closing(blocks):
        for rows, block in blocks:
            texts = parse_csv(block, names)
            try:
                cells = [
                    [_cell(None if text is None else convert(text)) for text in texts.column(at).to_pylist()]
                    for at, convert in enumerate(rules)
                ]
            except UnfitError as error:
                raise CdcError(RESTORE_REFUSED, kind="a row of", object=place, problem=error) from None
            yield rows, "".join([f"{','.join(row)}\n" for row in zip(*cells, strict=True)]).encode()


def _cell(text: str | None) -> str:
    return "" if text is None else '"' + text.replace('"', '""') + '"'
