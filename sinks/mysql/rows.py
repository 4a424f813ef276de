"""The net effect on a table, written in few statements, each with an exact row count.

In: a `Net`. Out: rows on the target. Refuses: a statement that changed more or fewer rows than it named
(`Mismatch`), unless the table is being copied, where a row may be missing (CORRECTNESS 22); a row that the server
refuses, or whose statement is larger than the server takes (`RefusedRow`).

Order: deletes, moves of keys, updates, inserts. A few updates go as one statement each, all in one round trip; more
go through a temporary staging table and one statement for all. INSERT is strict: never ON DUPLICATE KEY UPDATE or
REPLACE, which would alter another row by way of a second unique index (CORRECTNESS 25).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pymysql
from pymysql.connections import Connection

from cdc.event import Table
from cdc.mysql.session import dialect_in, number_of
from sinks.cascades import Derived
from sinks.fold import Group, Key, Net, Values
from sinks.mysql.cascade import cascade
from sinks.mysql.statements import Statements, tuples
from sinks.replay import RefusedRow
from sinks.target import Mismatch

FEW = 32
"""Up to so many updates go as single statements."""
_STATEMENT_BYTES = 1 << 20
_KEYS = 1000
"""In one list: far beyond, MySQL no longer looks them up one by one."""
_ROW_REFUSED = frozenset({
    1048, 1062, 1169, 1216, 1217, 1451, 1452, 1557, 1586, 1761, 1762,  # NULL, unique, foreign keys
    1263, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1411, 1416, 1425, 1439, 1441, 1690,  # not a value of the type
    1118, 1526, 1644, 1748, 3140, 3141, 3156, 3819, 3854, 4025,  # too large, partition, trigger, JSON, CHECK, charset
})  # fmt: skip


class Rows:
    """Writes rows on one connection, in whatever transaction is open there."""

    def __init__(self, connection: Connection, home: str) -> None:
        self._cursor, self._home, self._dialect = connection.cursor(), home, dialect_in(connection)
        self._statements: dict[str, Statements] = {}
        self._staged: set[str] = set()
        self._cursor.execute("SELECT @@max_allowed_packet")
        self._packet = int(self._cursor.fetchone()[0])

    def of(self, table: Table, schema_id: str) -> Statements:
        """The statements of this shape."""
        statements = self._statements.get(schema_id)
        if statements is None:
            statements = self._statements[schema_id] = Statements(table, schema_id, self._home, self._dialect)
        return statements

    def write(self, net: Net, *, exact: bool) -> None:
        """Carry out the net effect. Not `exact`: the table is being copied, and a row may be missing."""
        sql = self.of(net.table, net.schema_id)
        wanted = len(net.deletes) + sum(n for _, n in net.removed)
        found = self._deletes(sql, net.deletes) + self.removes(sql, net.removed)
        for groups, moved in ((net.moves, True), (net.updates, False)):
            for columns, group in groups.items():
                found += self._updates(sql, columns if moved else sql.without_key(columns), group)
                wanted += len(group)
        if found != wanted and exact:
            raise Mismatch
        if self.inserts(sql, net.inserts) != len(net.inserts):
            raise Mismatch

    def inserts(self, sql: Statements, rows: Iterable[Values]) -> int:
        """Whole new rows."""
        return self._insert(sql.insert, tuples(sql.row(sql.columns, values) for values in rows))

    def removes(self, sql: Statements, copies: Sequence[tuple[Values, int]]) -> int:
        """Remove so many copies of each of these rows of a keyless table."""
        return sum(self.run(sql.remove(values, n)) for values, n in copies)

    def insert_one(self, sql: Statements, values: Values) -> int:
        return self.inserts(sql, [values])

    def replace_one(self, sql: Statements, key: Key, values: Values) -> int:
        self.delete_one(sql, key)
        return self.insert_one(sql, values)

    def update_one(self, sql: Statements, columns: tuple[str, ...], values: Values, key: Key) -> int:
        return self.run(sql.update_one(columns, values, key))

    def delete_one(self, sql: Statements, key: Key) -> int:
        return self.run(sql.delete_one(key))

    def derive(self, derived: Derived) -> int:
        """What a foreign key of the source did below its log."""
        return self.run(cascade(derived, self._home, self._dialect))

    def run(self, statement: str | bytes) -> int:
        """One statement; how many rows it met."""
        encoded = statement if isinstance(statement, bytes) else statement.encode()
        if len(encoded) >= self._packet:
            raise RefusedRow(
                f"a statement of {len(encoded)} bytes is too large for the target: max_allowed_packet = {self._packet}"
            )
        try:
            found = int(self._cursor.execute(encoded))
            while self._cursor.nextset():
                found += int(self._cursor.rowcount)
        except pymysql.MySQLError as error:
            if number_of(error) in _ROW_REFUSED:
                raise RefusedRow(f"{error.args[1]} ({error.args[0]})") from None
            raise
        return found

    def _deletes(self, sql: Statements, keys: Sequence[Key]) -> int:
        found = 0
        for at in range(0, len(keys), _KEYS):
            some = (sql.key_tuple(key) for key in keys[at : at + _KEYS])
            found += sum(self.run(b"".join((sql.delete.encode(), b"(", part, b")"))) for part in self._pieces(some))
        return found

    def _updates(self, sql: Statements, columns: tuple[str, ...], group: Group) -> int:
        if not columns:
            return len(group)
        if len(group) <= FEW:
            single = (sql.update_one(columns, values, base) for base, values in group)
            return sum(self.run(part) for part in self._pieces(single, b";"))
        stage = sql.stage(columns)
        if stage not in self._staged:
            self._cursor.execute(sql.create_stage(columns))
            self._staged.add(stage)
        rows = ([*sql.key(base), *sql.row(columns, values)] for base, values in group)
        self._insert(f"INSERT INTO {stage} VALUES ", tuples(rows))
        found = self.run(sql.update_staged(columns))
        self.run(f"DELETE FROM {stage}")
        return found

    def _insert(self, head: str, rows: Iterable[str]) -> int:
        return sum(self.run(head.encode() + part) for part in self._pieces(rows))

    def _pieces(self, parts: Iterable[str], between: bytes = b",") -> Iterator[bytes]:
        """Joined up to a statement's size; one that is larger stands alone."""
        most = min(_STATEMENT_BYTES, self._packet // 2)
        held: list[bytes] = []
        size = 0
        for part in map(str.encode, parts):
            if held and size + len(part) > most:
                yield between.join(held)
                held, size = [], 0
            held.append(part)
            size += len(part) + len(between)
        if held:
            yield between.join(held)
