"""What a start does: go on, copy, or refuse. One pure decision from the log and the server.

In: the log's state, the server's executed and purged transactions, what the operator allowed (`--reopen`). Out: a
`Plan`. Refuses: every sign that changes may be missing, by name, with the ways out (CORRECTNESS 4-6, 14, 17).

The invariant behind it: the last END's transactions are executed here, and what the server has purged is among them.
Then whatever the server sends behind them continues the log, whichever server it is: a replica that took over has the
same history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cdc.errors import (
    HISTORY_FORKED,
    LOG_PURGED,
    NOT_ADOPTABLE,
    NOTHING_TO_CAPTURE,
    PUBLICATION_CHANGED,
    SOURCE_IDENTITY,
    SOURCE_PREREQUISITE,
    TABLE_CASCADES,
    TABLE_NOT_TRANSACTIONAL,
    TABLE_VERSIONED,
    CdcError,
)
from cdc.event import ForeignKey, Table
from cdc.log import End, Identity, Opened
from cdc.logtail import LogState
from cdc.mysql.catalog import VERSIONED, FoundTable, History, Publication
from cdc.position import BinlogState, DomainPosition, GtidPosition, GtidSet, parse_gtids
from cdc.upstream import Plan

_KEEPS_CHILDREN = ("NO ACTION", "RESTRICT")


@dataclass(frozen=True, slots=True)
class Here:
    """The server as it is now."""

    identity: Identity
    history: History
    purged: GtidPosition
    publication: str
    now_ms: int
    begin_after: GtidPosition | None = None
    """What somebody else has brought already, by the configuration (`snapshot = "never"`)."""


def identity_of(state: LogState, here: Identity) -> Identity:
    """As the log has named the server's history from its epoch's beginning: GTIDs tell whether it is the same."""
    before = state.checkpoint_start or state.start
    if before is None or before.source.connector != here.connector:
        return here
    return Identity(here.connector, before.source.system_id, 0, here.database, here.slot)


def decide(source: str, state: LogState, here: Here, reopen: str | None) -> Plan:
    """The plan of a run that holds the source."""
    if reopen == "adopt":
        raise CdcError(NOT_ADOPTABLE, source=source)
    if reopen is not None:
        epoch = max(here.now_ms, (state.start.epoch if state.start else 0) + 1)
        return Plan(True, epoch, 0, None, None, Opened("copy_again", None))
    copies = state.start is not None and state.start.copy == "initial"
    if here.begin_after is not None and state.checkpoint is None and not copies:
        return _taken_over(source, state, here, here.begin_after)
    if state.start is None:
        return Plan(True, here.now_ms, 0, None, None, Opened("first", None))
    checkpoint = state.checkpoint
    if checkpoint is None or state.start.epoch > checkpoint.epoch:
        return Plan(True, state.start.epoch, 0, None, None)
    if checkpoint.copying:
        return Plan(True, checkpoint.epoch, checkpoint.txn_seq, None, parse_gtids(checkpoint.position))
    return _continued(source, state, checkpoint, here)


def _taken_over(source: str, state: LogState, here: Here, at: GtidPosition) -> Plan:
    """The server must still have everything behind that place, and know all before it."""
    if missing := lacking(here.history, at):
        raise CdcError(
            SOURCE_PREREQUISITE, source=source,
            problem=f"begin_after names transactions that this server has never executed: {missing}",
            fix=f"correct begin_after in [source.{source}], or its url: it is where the connector stood",
        )  # fmt: skip
    if gone := here.purged - at:
        raise CdcError(LOG_PURGED, source=source, problem=f"transactions {gone}")
    if state.start is not None:
        return Plan(False, state.start.epoch, 0, at, None)
    return Plan(False, here.now_ms, 0, at, None, Opened("first", str(at)))


def _continued(source: str, state: LogState, checkpoint: End, here: Here) -> Plan:
    """The ordinary start: everything must fit together."""
    assert state.checkpoint_start is not None
    _same_source(source, state.checkpoint_start.source, here.identity)
    last = parse_gtids(checkpoint.position)
    if missing := lacking(here.history, last):
        raise CdcError(HISTORY_FORKED, source=source, missing=missing)
    if gone := here.purged - last:
        raise CdcError(LOG_PURGED, source=source, problem=f"transactions {gone}")
    if state.checkpoint_start.publication != here.publication:
        raise CdcError(
            PUBLICATION_CHANGED, source=source, publication="tables = …", last=last,
            change="tables or exclude in the configuration are others than the log's",
        )  # fmt: skip
    return Plan(False, checkpoint.epoch, checkpoint.txn_seq, last, last)


def lacking(history: History, last: GtidPosition) -> GtidPosition:
    """What the log holds and the server has never executed."""
    if isinstance(history, BinlogState):
        return history.lacking(last) if isinstance(last, DomainPosition) else last
    return history.lacking(last) if isinstance(last, GtidSet) else last


def _same_source(source: str, before: Identity, now: Identity) -> None:
    """MySQL's GTIDs say whose they are; servers of MariaDB count alike, so theirs need the mark of their history."""
    same = (before.connector, before.database) == (now.connector, now.database)
    if same and now.connector == "mariadb" and before.system_id and now.system_id:
        same = before.system_id == now.system_id
    if not same:
        raise CdcError(SOURCE_IDENTITY, source=source, before=_named(before), now=_named(now))


def _named(identity: Identity) -> str:
    history = f", history {identity.system_id}" if identity.connector == "mariadb" and identity.system_id else ""
    return f"{identity.connector}, database {identity.database}{history}"


def refuse_nothing(source: str, publication: Publication) -> None:
    """A copy needs a table."""
    if not publication.tables:
        patterns = ", ".join(publication.patterns[0])
        raise CdcError(NOTHING_TO_CAPTURE, source=source, publication=publication.name, patterns=patterns)


def refuse_uncapturable(source: str, publication: Publication) -> None:
    """Tables whose changes the log cannot carry whole."""
    for table in publication.tables:
        if table.engine == VERSIONED:
            raise CdcError(TABLE_VERSIONED, source=source, table=table.full_name)
        if not transactional(table):
            raise CdcError(TABLE_NOT_TRANSACTIONAL, source=source, table=table.full_name, engine=table.engine)


def transactional(table: FoundTable) -> bool:
    return table.engine.lower() == "innodb"


def refuse_cascades(source: str, shapes: Sequence[Table], *, derive: bool) -> None:
    """Keys that change rows below the log; with `derive` those alone whose effect readers cannot carry out."""
    for table, key, actions in underivable(shapes) if derive else cascades(shapes):
        raise CdcError(TABLE_CASCADES, source=source, table=table, key=key, actions=actions)


def cascades(shapes: Sequence[Table]) -> list[tuple[str, str, str]]:
    """Table, foreign key and what it does by itself, of every key that changes rows below the log."""
    return [(table.full_name, key.name, _actions(key)) for table in shapes for key in table.foreign_keys
            if key.acts]  # fmt: skip


def cascading_parents(shapes: Sequence[Table]) -> frozenset[str]:
    """Tables whose updates and deletes change rows of others below the log."""
    return frozenset(key.parent for table in shapes for key in table.foreign_keys if key.acts)


def _actions(key: ForeignKey) -> str:
    found = (("DELETE", key.on_delete), ("UPDATE", key.on_update))
    return ", ".join(f"{event} {action}" for event, action in found if action not in _KEEPS_CHILDREN)


def underivable(shapes: Sequence[Table]) -> list[tuple[str, str, str]]:
    """Of these keys: those whose effect cannot be told from what the log holds, and why. `shapes`: all captured."""
    acting = [(table, key) for table in shapes for key in table.foreign_keys if key.acts]
    children: dict[str, set[str]] = {}
    for table, key in acting:
        children.setdefault(key.parent, set()).add(table.full_name)
    parents = {table.full_name: table for table in shapes}
    found = []
    for table, key in acting:
        changes = key.on_update not in _KEEPS_CHILDREN or key.on_delete == "SET NULL"
        passed_on = changes and any(
            other.parent == table.full_name and set(other.referenced) & set(key.columns) for _, other in acting
        )
        shared = any(of is table and other is not key and set(other.columns) & set(key.columns) for of, other in acting)
        if passed_on:
            why: str | None = "another key refers to its columns"
        elif shared:
            why = "another such key has some of its columns"
        elif table.full_name in _below(table.full_name, children):
            why = "leads back to its own table"
        else:
            why = _incomparable(table, key, parents.get(key.parent))
        if why:
            found.append((table.full_name, key.name, f"{_actions(key)}, and {why}"))
    return found


def _incomparable(table: Table, key: ForeignKey, parent: Table | None) -> str | None:
    """Why it cannot be told which rows hang on which by their values alone."""
    if parent is None:
        return f"its parent {key.parent} is not captured"
    by_name = [{column.name: column for column in of.columns} for of in (table, parent)]
    pairs = [(by_name[0][own], by_name[1][of]) for own, of in zip(key.columns, key.referenced, strict=True)]
    for own, of in pairs:
        if own.type.split()[0] in ("float", "double"):
            return f"column {own.name} is a {own.type}"
        if own.collation and own.type != of.type:
            return f"column {own.name} is a {own.type}, the parent's a {of.type}"
    in_other_case = any(own.collation and not own.collation.endswith("_bin") for own, _ in pairs)
    if len(pairs) > 1 and in_other_case and key.on_update not in _KEEPS_CHILDREN:
        return "it sets several columns, one of them text that may be written in several ways"
    return None


def _below(parent: str, children: Mapping[str, set[str]]) -> set[str]:
    """Every table that a delete can reach."""
    reached: set[str] = set()
    waiting = [parent]
    while waiting:
        for child in children.get(waiting.pop(), set()) - reached:
            reached.add(child)
            waiting.append(child)
    return reached
