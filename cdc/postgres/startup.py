"""What a start does: go on, copy, or refuse. One pure decision from the log, the slot and the here.

In: the log's state, the slot as the catalog shows it, the server's identity, what the operator allowed (`--reopen`).
Out: a `Plan`. Refuses: every sign that changes may be missing, by name, with the ways out (CORRECTNESS 4–6, 15).

The invariant behind it: the slot is never acknowledged beyond the last END. So a confirmed position beyond it means
that somebody else moved or re-created the slot, or that the log lost its tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdc.errors import (
    LOG_WITHOUT_SLOT,
    NOTHING_TO_CAPTURE,
    PUBLICATION_CHANGED,
    SLOT_AHEAD,
    SLOT_FOREIGN,
    SLOT_LOST,
    SLOT_WITHOUT_LOG,
    SOURCE_FORK,
    SOURCE_IDENTITY,
    SOURCE_PREREQUISITE,
    TABLE_NARROWED,
    TABLE_PARTITIONED,
    TABLE_WITHOUT_IDENTITY,
    CdcError,
)
from cdc.event import Table
from cdc.log import End, Gap, Identity, Opened
from cdc.logtail import LogState
from cdc.position import Lsn, PgPosition
from cdc.postgres.catalog import Publication, Slot
from cdc.upstream import Plan


@dataclass(frozen=True, slots=True)
class Here:
    """The server as it is now, and the log's topic. `switches`: earlier timelines and where each was left."""

    identity: Identity
    switches: Sequence[tuple[int, Lsn]]
    publication: str
    now_ms: int
    topic: str
    takes_over: bool = False
    """The configuration says to begin where the slot stands, which somebody else has used (`snapshot = "never"`)."""


def decide(source: str, state: LogState, slot: Slot | None, here: Here, reopen: str | None) -> Plan:
    """The plan of a run that holds the source."""
    if slot is not None:
        _usable(source, slot, here)
    if reopen is not None:
        return _reopened(source, state, slot, here, reopen)
    if state.start is None and here.takes_over:
        return _taken_over(source, slot, here)
    if state.start is None:
        if slot is not None:
            raise CdcError(
                SLOT_WITHOUT_LOG,
                source=source,
                slot=slot.name,
                confirmed=slot.confirmed,
                topic=here.topic,
            )
        return Plan(True, here.now_ms, 0, None, None, Opened("first", None))
    checkpoint = state.checkpoint
    if checkpoint is None or state.start.epoch > checkpoint.epoch:
        return _unfinished_epoch(source, state, slot, here)
    if checkpoint.copying:
        return Plan(True, checkpoint.epoch, checkpoint.txn_seq, None, PgPosition.parse(checkpoint.position))
    return _continued(source, state, checkpoint, slot, here)


def _taken_over(source: str, slot: Slot | None, here: Here) -> Plan:
    """What the slot's last user has acknowledged is in the topics; what it had not comes again."""
    if slot is None:
        raise CdcError(
            SOURCE_PREREQUISITE, source=source,
            problem=f'snapshot = "never" begins where replication slot {here.identity.slot} stands, and there is none',
            fix="name the connector's with slot = …, or let the source copy: snapshot = \"initial\"",
        )  # fmt: skip
    if slot.lost:
        raise CdcError(SLOT_LOST, source=source, slot=slot.name, reason=slot.lost)
    at = PgPosition(here.identity.timeline, slot.confirmed)
    return Plan(False, here.now_ms, 0, at, None, Opened("first", str(at)))


def _continued(source: str, state: LogState, checkpoint: End, slot: Slot | None, here: Here) -> Plan:
    """The ordinary start: everything must fit together."""
    assert state.checkpoint_start is not None
    last = PgPosition.parse(checkpoint.position)
    _same_server(source, state.checkpoint_start.source, here)
    _on_history(source, last, here)
    if slot is None:
        raise CdcError(LOG_WITHOUT_SLOT, source=source, last=last, slot=here.identity.slot)
    if slot.lost:
        raise CdcError(SLOT_LOST, source=source, slot=slot.name, reason=slot.lost)
    if slot.confirmed > last.lsn:
        raise CdcError(
            SLOT_AHEAD,
            source=source,
            slot=slot.name,
            confirmed=slot.confirmed,
            last=last,
            topic=here.topic,
        )
    if state.checkpoint_start.publication != here.publication:
        raise CdcError(
            PUBLICATION_CHANGED,
            source=source,
            publication=here.identity.slot,
            last=last,
            change="its fingerprint differs from the log's",
        )
    return Plan(False, checkpoint.epoch, checkpoint.txn_seq, PgPosition(here.identity.timeline, last.lsn), last)


def _unfinished_epoch(source: str, state: LogState, slot: Slot | None, here: Here) -> Plan:
    """An epoch that was opened and has no END yet: our own start, cut short."""
    start = state.start
    assert start is not None
    if start.copy == "initial":
        return Plan(True, start.epoch, 0, None, None)
    if slot is None:
        raise CdcError(LOG_WITHOUT_SLOT, source=source, last="its opening", slot=here.identity.slot)
    return Plan(False, start.epoch, 0, PgPosition(here.identity.timeline, slot.confirmed), None)


def _reopened(source: str, state: LogState, slot: Slot | None, here: Here, reopen: str) -> Plan:
    """The operator broke continuity: a new epoch, above every one that the log knows."""
    epoch = max(here.now_ms, (state.start.epoch if state.start else 0) + 1)
    last = state.checkpoint.position if state.checkpoint else None
    if reopen == "copy-again":
        return Plan(True, epoch, 0, None, None, Opened("copy_again", None))
    if slot is None:
        raise CdcError(LOG_WITHOUT_SLOT, source=source, last=last or "nothing", slot=here.identity.slot)
    if slot.lost:
        raise CdcError(SLOT_LOST, source=source, slot=slot.name, reason=slot.lost)
    at = PgPosition(here.identity.timeline, slot.confirmed)
    gap = Gap("adopted", last, str(at), (), "operator")
    return Plan(False, epoch, 0, at, None, Opened("adopt", str(at)), (gap,))


def _usable(source: str, slot: Slot, here: Here) -> None:
    problem = None
    if slot.plugin != "pgoutput":
        problem = f"uses plugin {slot.plugin}, pgoutput is needed"
    elif slot.database != here.identity.database:
        problem = f"belongs to database {slot.database}, this is {here.identity.database}"
    elif slot.two_phase:
        problem = "decodes two-phase commits, which loses transactions once a PREPARE is acknowledged"
    if problem:
        raise CdcError(SLOT_FOREIGN, source=source, slot=slot.name, problem=problem)


def _same_server(source: str, before: Identity, here: Here) -> None:
    was = f"system {before.system_id}, database {before.database}"
    now = f"system {here.identity.system_id}, database {here.identity.database}"
    if was != now:
        raise CdcError(SOURCE_IDENTITY, source=source, before=was, now=now)


def _on_history(source: str, last: PgPosition, here: Here) -> None:
    """The log must not reach beyond the point at which the server left the log's timeline."""
    for timeline, switch in here.switches:
        if timeline == last.timeline and last.lsn > switch:
            raise CdcError(SOURCE_FORK, source=source, last=last, timeline=timeline, switch=switch)


def refuse_uncapturable(
    source: str, patterns: Sequence[str], publication: Publication, shapes: Sequence[Table]
) -> None:
    """What the publication holds must be what the stream can carry whole."""
    if not publication.tables:
        raise CdcError(NOTHING_TO_CAPTURE, source=source, publication=publication.name, patterns=", ".join(patterns))
    for table in publication.tables:
        if table.partitioned:
            raise CdcError(TABLE_PARTITIONED, source=source, table=table.full_name)
        if table.narrowed:
            raise CdcError(TABLE_NARROWED, source=source, table=table.full_name, publication=publication.name)
    refuse_shapes(source, shapes)


def refuse_shapes(source: str, shapes: Sequence[Table]) -> None:
    """Tables whose updates and deletes the log cannot name."""
    for shape in shapes:
        if shape.replica_identity == "n" or (shape.keyless and shape.replica_identity != "f"):
            identity = {"d": "DEFAULT", "n": "NOTHING", "i": "USING INDEX"}[shape.replica_identity]
            raise CdcError(TABLE_WITHOUT_IDENTITY, source=source, table=shape.full_name, identity=identity)
