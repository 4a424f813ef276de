"""DDL commits by itself in MySQL: a change of tables, killed between any two of its steps, is made good."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from cdc.event import Table
from cdc.log import Chunk
from sinks.transaction import ChangeTransaction
from tests.log_writer import Event
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQLDatabase
from tests.system.replica import ACCOUNTS, NOTES, WIDER, Replica, changed, insert, shapes_of

pytestmark = pytest.mark.parametrize("target_engine", FLAVOURS, indirect=True)

KEY, V, N = ACCOUNTS.columns
OTHER_V = replace(V, attnum=9, type="int4", type_expression="integer", missing="5")
REPLACED = replace(ACCOUNTS, columns=(KEY, OTHER_V, N))
EXCHANGED = replace(WIDER, columns=(KEY, N, WIDER.columns[3]))
"""Without `v`, with `x`."""


class Killed(BaseException):
    """What a kill looks like from inside."""


def in_a_transaction_with_rows(replica: Replica) -> None:
    change = changed(replica, 1, "add_column", ACCOUNTS, EXCHANGED)
    replica.commit(insert(2, "y"), Event(EXCHANGED, "c", after={"id": 3, "n": 3, "x": "own"}), changes=[change])
    replica.commit(Event(EXCHANGED, "c", after={"id": 4, "n": 4, "x": "4"}))


def alone(replica: Replica) -> None:
    replica.commit(changes=[changed(replica, 0, "add_column", ACCOUNTS, WIDER)])
    replica.commit(Event(WIDER, "c", after={"id": 4, "v": "", "n": 4, "x": "4"}))


def under_a_name_that_is_taken(replica: Replica) -> None:
    replica.commit(changes=[changed(replica, 0, "add_column", ACCOUNTS, REPLACED)])
    replica.commit(Event(REPLACED, "c", after={"id": 4, "v": 1, "n": 4}))


def by_another_copy(replica: Replica) -> None:
    replica.shapes |= shapes_of(WIDER)
    replica.copy(WIDER, NOTES, copy_id="again", close=False)
    row = Event(WIDER, "r", after={"id": 4, "v": "", "n": 4, "x": "4"})
    replica.commit(row, copy=Chunk("again", "public.accounts", 1, None, None, "1:0/1", last=True))


CASES: dict[Callable[[Replica], None], tuple[Table, list[dict[str, Any]]]] = {
    in_a_transaction_with_rows: (
        EXCHANGED,
        [{"id": 1, "n": 0, "x": "it's"}, {"id": 2, "n": 0, "x": "it's"}, {"id": 3, "n": 3, "x": "own"},
         {"id": 4, "n": 4, "x": "4"}],
    ),
    alone: (WIDER, [{"id": 1, "v": "x", "n": 0, "x": "it's"}, {"id": 4, "v": "", "n": 4, "x": "4"}]),
    under_a_name_that_is_taken: (REPLACED, [{"id": 1, "v": 5, "n": 0}, {"id": 4, "v": 1, "n": 4}]),
    by_another_copy: (WIDER, [{"id": 4, "v": "", "n": 4, "x": "4"}]),
}  # fmt: skip
POINTS = ("after_intent", "after_ddl", "after_rows", "before_commit", "after_commit", "after_settled")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("change", CASES)
def test_a_kill_between_any_two_steps_of_a_change_is_made_good(
    replica: Replica,
    target: MySQLDatabase,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    change: Callable[[Replica], None],
) -> None:
    replica.commit(insert(1, "x"))
    replica.sync()
    change(replica)
    transactions = replica.new()
    killed = 0
    for fatal in (1, 2, 3):
        with monkeypatch.context() as patch, suppress(Killed):
            dying = _dying(f"sink.{point}", fatal)
            patch.setattr("sinks.target.failpoint", dying)
            patch.setattr("sinks.mysql.tables.failpoint", dying)
            killed += 1
            _apply(replica, transactions)
            killed -= 1
        replica.open()
    _apply(replica, transactions)
    assert killed or (point, change) in NOT_REACHED
    shape, rows = CASES[change]
    names = [column.name for column in shape.columns]
    found = target.execute(f"SELECT {', '.join(names)} FROM accounts ORDER BY id")
    assert [dict(zip(names, row, strict=True)) for row in found] == rows
    there = target.execute("SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
                           " AND table_name = 'accounts'")  # fmt: skip
    assert {name for (name,) in there} == set(names)
    assert target.execute("SELECT source_table FROM cdc_table WHERE intent IS NOT NULL") == []


NOT_REACHED = {("after_intent", by_another_copy), ("after_settled", by_another_copy)}
"""A copy empties the tables; what it finds of a killed one it takes as it finds a stranger's."""


def _dying(point: str, fatal: int) -> Callable[[str], None]:
    hits = iter(range(1, 100))

    def die(name: str) -> None:
        if name == point and next(hits) == fatal:
            raise Killed

    return die


def _apply(replica: Replica, transactions: list[ChangeTransaction]) -> None:
    """Those that the target has not got; what comes after a kill reads from where it stands."""
    at, end = replica.hold.progress, replica.assembler.progress
    assert at is not None
    assert end is not None
    left = [transaction for transaction in transactions if transaction.txn_seq > at.txn_seq]
    if left:
        replica.target.apply(left, end)
