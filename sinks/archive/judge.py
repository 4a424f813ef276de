"""The verdict on a restore that is done: recorded, proven as far as the source and the archive allow. I/O.

In: an archive, what was restored and by which plan, the source if it can be asked. Out: `Judged`; the restore's record,
which holds the verdict. Refuses: nothing; what keeps it from PROVEN is told in words.

    record → prove by what the archive has → anchor on the source → archive passes it → prove again → record

The record is written first, so that a restore whose proof was cut short can be proven later.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from cdc.engine import Server
from cdc.errors import CdcError
from cdc.position import parse_position
from sinks.archive.anchor import take_anchor
from sinks.archive.archive import Archive
from sinks.archive.chain import read_tail
from sinks.archive.manifest import Anchor, Base, RestoredTable, RestoreRecord
from sinks.archive.plan import Moment, Plan
from sinks.archive.proof import Difference, Proof, prove
from sinks.archive.restore import Observer, Outcome, fold_digests
from sinks.archive.window import Windows
from sinks.digest import differing

_PATIENCE_S = 120.0
"""An archiver that works moves on within `roll_every` and a heartbeat."""
_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Judged:
    """`notes`: what else happened, in words."""

    record: RestoreRecord
    proof: Proof
    recorded: bool
    notes: tuple[str, ...]


def judge(
    archive: Archive, plan: Plan, outcome: Outcome, source: Callable[[], Server] | None, observer: Observer
) -> Judged:
    """Of a restore that has just been carried out."""
    record = RestoreRecord(
        archive=archive.identity.archive,
        id=secrets.token_hex(8),
        epoch=plan.cut.epoch,
        txn_seq=plan.cut.txn_seq,
        base=plan.base.name if plan.base else None,
        finished_ms=time.time_ns() // 1_000_000,
        verdict="VERIFIED",
        tables={
            table.table: RestoredTable(
                place=table.place, schema_id=plan.tables[table.table].schema_id, rows=table.rows, digests=table.digests
            )
            for table in outcome.tables
        },
    )
    return _Judge(archive, record, plan, observer).judge(source)


def judge_again(
    archive: Archive, record: RestoreRecord, source: Callable[[], Server] | None, observer: Observer
) -> Judged:
    """Of one that was carried out some time ago; the archive must still give what it gave then."""
    base = archive.read(Base, record.base) if record.base else None
    plan = Windows(archive).carried(base, record.epoch, Moment(txn_seq=record.txn_seq))
    observer.step("proof: what the archive gives today")
    found = fold_digests(archive, plan, list(record.tables), observer)
    differences = tuple(
        Difference("what was restored", name, tuple(buckets))
        for name, table in sorted(record.tables.items())
        if (buckets := differing(found[name], table.digests))
    )
    judging = _Judge(archive, record, plan, observer)
    if differences:
        return judging.judged(Proof(None, None, (), differences))
    return judging.judge(source)


class _Judge:
    """One restore's."""

    def __init__(self, archive: Archive, record: RestoreRecord, plan: Plan, observer: Observer) -> None:
        self._archive, self._record, self._plan, self._observer = archive, record, plan, observer
        self._notes: list[str] = []
        self._recorded = False

    def judge(self, source: Callable[[], Server] | None) -> Judged:
        self._write()
        proof = self._prove()
        if proof.verdict == "VERIFIED" and proof.after is None and source is not None and self._anchored(source):
            proof = self._prove()
        return self.judged(proof)

    def judged(self, proof: Proof) -> Judged:
        if self._record.verdict != proof.verdict:
            self._record = self._record.model_copy(update={"verdict": proof.verdict})
            self._write()
        return Judged(self._record, proof, self._recorded, tuple(self._notes))

    def _prove(self) -> Proof:
        restored = {name: table.digests for name, table in self._record.tables.items()}
        return prove(self._archive, Windows(self._archive), self._plan, restored, self._observer)

    def _write(self) -> None:
        """A key that may only read the store is enough to restore, not to prove later."""
        try:
            self._archive.put(self._record.name, self._record.to_bytes())
            self._recorded = True
        except CdcError as error:
            self._notes.append(f"the restore is not recorded in the archive: {error.text}")

    # -- the source ---------------------------------------------------------------------------------------------
    def _anchored(self, source: Callable[[], Server]) -> bool:
        """Whether the source gave an anchor, and the archive has come to it."""
        self._observer.step("proof: asking the source")
        try:
            anchor = take_anchor(self._archive, source(), self._record.tables, self._tell)
        except CdcError as error:
            self._notes.append(f"the source gave no anchor: {error.text}")
            return False
        return self._passed(anchor)

    def _tell(self, what: str) -> None:
        self._observer.step(f"proof: {what}")

    def _passed(self, anchor: Anchor) -> bool:
        wanted, seen, until = parse_position(anchor.position), "", 0.0
        while True:
            tail = read_tail(self._archive)
            stands = tail.progress.position if tail else "its beginning"
            if tail and wanted <= parse_position(tail.progress.position):
                return True
            if stands != seen:
                seen, until = stands, time.monotonic() + _PATIENCE_S
            elif time.monotonic() > until:
                self._notes.append(f"the archive stands at {stands} and does not go on: is the archiver running?")
                return False
            self._tell(f"waiting for the archive to pass {anchor.position}; it is at {stands}")
            time.sleep(_EVERY_S)
