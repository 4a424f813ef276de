"""A replica for tests: a real Postgres behind our target, and before it the log of one run, in memory.

In: transactions as events (`commit`). Out: the target's content after `sync`, which hands them on as a reader would.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import cdc.mysql.session
import cdc.postgres.session
from cdc.engine import Server
from cdc.errors import CdcError, Code
from cdc.event import UNAVAILABLE, Table
from cdc.log import Change, Chunk, Opened
from cdc.server import Side
from cdc.shape import schema_id
from cdc.topics import log_topic
from sinks.assemble import Assembler
from sinks.engines import hold_of, target_of
from sinks.target import ExistingRows
from sinks.transaction import ChangeTransaction
from tests.log_writer import Event, Run, Topics, column, table
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQLDatabase
from tests.servers.postgres import Database
from tests.system.pipeline import wait_until

ACCOUNTS = table("public.accounts", {"id": "int4", "v": "text", "n": "int4"}, ["id"])
NOTES = table("public.notes", {"v": "text", "f": "float8"})
WIDER = replace(ACCOUNTS, columns=(*ACCOUNTS.columns, column("x", "text", 4, missing="it's", not_null=True)))
Content = list[tuple[Any, ...]]
AnyDatabase = Database | MySQLDatabase
BOTH = pytest.mark.parametrize("target_engine", ["postgres", *FLAVOURS], indirect=True)
"""For tests that hold whatever is replicated into."""


class Replica:
    """A target with the log of one run before it; `commit` appends a transaction, `sync` applies what is new."""

    def __init__(
        self, server: Server, *shapes: Table, existing_rows: ExistingRows = "refuse", pipeline: str = "eu"
    ) -> None:
        self.server, self._pipeline = server, pipeline
        self.topics = Topics("shop", partitions=1)
        self.run = Run(self.topics, "a" * 16)
        self.run.start(copy="initial", opened=Opened("first", None))
        self.shapes = shapes_of(*shapes)
        self.assembler = Assembler("shop")
        self._read: dict[tuple[str, int], int] = {(log_topic("shop"), 0): 0}
        self._positions = itertools.count(1)
        self._existing_rows = existing_rows
        self.hold = hold_of(server, pipeline, "shop")
        self._begin()

    def open(self) -> None:
        """As a new process would: hold, progress, target."""
        self.hold.close()
        self.hold = hold_of(self.server, self._pipeline, "shop")
        self._begin()

    def _begin(self) -> None:
        # A server may take a moment to see that the session before has left.
        wait_until(self.hold.try_lock, "the lock of the sink")
        self.hold.take()
        self._reading = False
        self.target = target_of(self.hold, self._shape, self._existing_rows)
        self._reading = True

    def _shape(self, schema: str) -> Table:
        """As a reader, which knows no shapes before its first poll."""
        assert self._reading
        return self.shapes[schema]

    def commit(self, *events: Event, changes: Sequence[Change] = (), copy: Chunk | None = None) -> None:
        kind = "snapshot" if copy else "data" if events else "schema"
        position = f"1:0/{next(self._positions):X}"
        self.run.transaction(events, position=position, kind=kind, changes=changes, copy=copy)

    def copy(self, *shapes: Table, copy_id: str = "copy", close: bool = True) -> None:
        """Open the base copy of these tables and, unless told otherwise, close it without rows."""
        self.commit(changes=[Change(0, s.full_name, None, schema_id(s), "copying", copy_id) for s in shapes])
        for shape in shapes if close else ():
            self.commit(copy=Chunk(copy_id, shape.full_name, 1, None, None, "1:0/1", last=True))

    def new(self) -> list[ChangeTransaction]:
        transactions = []
        while True:
            while (transaction := self.assembler.next()) is not None:
                transactions.append(transaction)
            for partition, first in self.assembler.unassigned().items():
                self._read[partition] = first
                self.assembler.assigned(partition)
            if not self._feed():
                return transactions

    def _feed(self) -> bool:
        for partition, offset in self._read.items():
            for _, value in self.topics.records[partition][offset : offset + 1]:
                if partition[0] == log_topic("shop"):
                    self.assembler.log(offset, value)
                else:
                    self.assembler.row(partition, offset, value)
                self._read[partition] = offset + 1
                return True
        return False

    def sync(self) -> None:
        transactions = self.new()
        assert self.assembler.progress is not None
        self.target.apply(transactions, self.assembler.progress)

    def close(self) -> None:
        self.hold.close()


def account(id: int, v: str | None = "", n: int = 0) -> dict[str, Any]:  # noqa: A002 - the column's name
    return {"id": id, "v": v, "n": n}


def insert(*values: Any) -> Event:
    return Event(ACCOUNTS, "c", after=account(*values))


def update(*values: Any, unchanged: Sequence[str] = ()) -> Event:
    after = account(*values) | dict.fromkeys(unchanged, UNAVAILABLE)
    return Event(ACCOUNTS, "u", after=after, fields={"unchanged": list(unchanged)} if unchanged else {})


def delete(key: int) -> Event:
    fields = {"before_absent": ["v", "n"]}
    return Event(ACCOUNTS, "d", before={"id": key, "v": None, "n": None}, fields=fields)


def move(old: int, *values: Any, unchanged: Sequence[str] = ()) -> list[Event]:
    gone = {"before_absent": ["v", "n"], "moved_to": {"id": values[0]}}
    came = {"moved_from": {"id": old}} | ({"unchanged": list(unchanged)} if unchanged else {})
    after = account(*values) | dict.fromkeys(unchanged, UNAVAILABLE)
    return [
        Event(ACCOUNTS, "d", before={"id": old, "v": None, "n": None}, fields=gone),
        Event(ACCOUNTS, "c", after=after, fields=came),
    ]


def note(v: str | None, f: float | str | None = None) -> Event:
    return Event(NOTES, "c", after={"v": v, "f": f})


def server_of(database: AnyDatabase) -> Server:
    """As the sink `eu` has it."""
    kind = cdc.mysql.session.Server if isinstance(database, MySQLDatabase) else cdc.postgres.session.Server
    return kind(Side.TARGET, "eu", database.url(), database.server.password)


def kept(database: AnyDatabase, table: str) -> str:
    """The name of one of our own tables there."""
    return table if isinstance(database, MySQLDatabase) else f"cdc.{table}"


def make_unique(database: AnyDatabase, table: str, column: str) -> None:
    """A second unique index, on a column that is text."""
    length = "(40)" if isinstance(database, MySQLDatabase) else ""
    database.execute(f"CREATE UNIQUE INDEX another ON {table} ({column}{length})")


def accounts(database: AnyDatabase) -> Content:
    return database.execute("SELECT id, v, n FROM accounts ORDER BY id")


def progress(database: AnyDatabase) -> Content:
    return database.execute(
        f"SELECT epoch, txn_seq, position, log_offset, writer FROM {kept(database, 'cdc_progress')}"
    )


def refusal(act: Callable[[], object]) -> tuple[Code, str]:
    with pytest.raises(CdcError) as error:
        act()
    return error.value.code, str(error.value)


def shapes_of(*shapes: Table) -> dict[str, Table]:
    return {schema_id(shape): shape for shape in shapes}


def changed(replica: Replica, at: int, effect: str, before: Table, after: Table) -> Change:
    replica.shapes[schema_id(after)] = after
    return Change(at, after.full_name, schema_id(before), schema_id(after), effect)
