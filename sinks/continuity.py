"""Which END of the log comes next: validity by run, no hole, and when to cross into a new epoch. Pure.

In: the log's records in order, from its beginning or behind a `Progress`. Out: the ENDs that count, in order.
Refuses: a hole (LOG_GAP), an epoch that does not continue where we stand (EPOCH_GAP). ENDs of dead runs,
repeated ENDs and those that an adopted epoch repeats from before our position are passed over.

An epoch is crossed into when its first START plans a copy, which voids every table, or when it adopted the
stream at or before our position on the same server. A reader from the beginning starts at the first START of
an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cdc.errors import EPOCH_GAP, LOG_GAP, CdcError
from cdc.log import End, Start, Validity
from cdc.position import Position, parse_position
from sinks.transaction import Progress


class _At(NamedTuple):
    """What the next END must follow. `position` is None before an epoch's first END."""

    epoch: int
    txn_seq: int
    position: str | None


class Continuity:
    """Fed with every record of the log. `last` is the END at `after`; `origin` finds the START of its run.

    `missed_beginning` says that a START was met which opens no epoch while nothing was read before it.
    """

    def __init__(
        self,
        source: str,
        after: Progress | None,
        last: End | None,
        origin: Callable[[], Start | None],
    ) -> None:
        self._source = source
        self._validity = Validity(in_force=(after.epoch, after.run) if after else None)
        self._at = _At(after.epoch, after.txn_seq, after.position) if after else None
        self._last, self._origin = last, origin
        self._skip_to: Position | None = None
        self.missed_beginning = False

    @property
    def start(self) -> Start | None:
        return self._validity.start

    @property
    def epoch(self) -> int | None:
        return self._at.epoch if self._at else None

    @property
    def ignored(self) -> int:
        """ENDs of dead runs so far."""
        return self._validity.ignored

    def accept(self, record: Start | End) -> End | None:
        """Take the next record into account. An END comes back if it counts."""
        if isinstance(record, Start):
            self._cross(record)
            return None
        if not self._validity.admit(record) or self._at is None or not self._follows(record, self._at):
            return None
        if self._skip_to is not None:
            if parse_position(record.position) <= self._skip_to:
                return None
            self._skip_to = None
        return record

    def _follows(self, end: End, at: _At) -> bool:
        """Whether this END is the next one; a repeated one is not, anything else is a hole."""
        if end.txn_seq == at.txn_seq + end.numbered and end.prev_position == at.position:
            self._at, self._last = _At(end.epoch, end.txn_seq, end.position), end
            return True
        if end == self._last:
            return False
        raise CdcError(
            LOG_GAP,
            source=self._source,
            position=end.position,
            epoch=at.epoch,
            last=at.txn_seq,
            found=end.txn_seq,
            found_prev=end.prev_position,
        )

    def _cross(self, start: Start) -> None:
        before, at, opened = self._validity.start, self._at, start.opened
        self._validity.admit(start)
        if at is None:
            if opened is not None and (start.copy == "initial" or opened.reason == "first"):
                self._at = _At(start.epoch, 0, None)
            else:
                self.missed_beginning = True
        elif start.epoch < at.epoch:
            raise self._gap(start, f"after epoch {at.epoch}")
        elif start.epoch > at.epoch and opened is not None and start.copy == "initial":
            self._at, self._skip_to = _At(start.epoch, 0, None), None
        elif start.gaps:
            gaps = "; ".join(f"{gap.kind} of {', '.join(gap.tables) or 'every table'}" for gap in start.gaps)
            raise self._gap(start, f"a gap was accepted: {gaps}")
        elif start.epoch > at.epoch:
            self._adopt(start, before or self._origin(), at)
        elif before is not None and before.source.system_id != start.source.system_id:
            raise self._gap(start, "by another server")

    def _adopt(self, start: Start, before: Start | None, at: _At) -> None:
        """Go on in an epoch that opened at or before our position; what it repeats is skipped."""
        opened = start.opened
        if opened is None or opened.reason != "adopt":
            raise self._gap(start, opened.reason if opened else "its first START is not there")
        if before is None or before.source.system_id != start.source.system_id:
            raise self._gap(start, "by another server")
        if at.position is None or opened.from_ is None:
            raise self._gap(start, opened.reason)
        own = parse_position(at.position)
        if not parse_position(opened.from_) <= own:
            raise self._gap(start, opened.reason)
        self._at = _At(start.epoch, 0, None)
        self._skip_to = own if self._skip_to is None else max(own, self._skip_to)

    def _gap(self, start: Start, reason: str) -> CdcError:
        at, opened = self._at, start.opened
        return CdcError(
            EPOCH_GAP,
            source=self._source,
            epoch=start.epoch,
            opened=(opened.from_ if opened else None) or "an unknown position",
            reason=reason,
            position=(at.position if at else None) or "the beginning",
        )
