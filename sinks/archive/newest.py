"""The newest base and the newest anchor of an archive: what its schedule and its alarms go by. Reads only.

In: an archive and an epoch. Out: `Newest`. Refuses: a manifest that cannot be read (ARCHIVE_CORRUPT).
"""

from __future__ import annotations

from dataclasses import dataclass

from cdc.sections import FROM_SOURCE
from sinks.archive.archive import Archive
from sinks.archive.manifest import Anchor, Base
from sinks.archive.schedule import Taken


@dataclass(frozen=True, slots=True)
class Newest:
    """`oldest_us` is the commit time that the oldest base of the epoch stands at, where restores can begin."""

    epoch: int
    since: float
    base: Base | None
    anchor: Anchor | None
    oldest_us: int | None

    @property
    def anchor_ms(self) -> int | None:
        """When the source was last asked; a base from the source is an anchor too."""
        taken = [] if self.anchor is None else [self.anchor.taken_ms]
        if self.base is not None and self.base.taken_from == FROM_SOURCE:
            taken.append(self.base.started_ms)
        return max(taken, default=None)

    @property
    def taken(self) -> Taken:
        base, anchor = self.base, None if self.anchor_ms is None else self.anchor_ms / 1e3
        if base is None:
            return Taken(self.since, None, anchor)
        return Taken(self.since, base.started_ms / 1e3, anchor, (base.finished_ms - base.started_ms) / 1e3)


def newest(archive: Archive, epoch: int, known: Newest | None = None) -> Newest:
    """`known`: an earlier answer, whose objects need not be read again."""
    bases = archive.base_names(epoch)
    base, oldest_us = (known.base, known.oldest_us) if known else (None, None)
    if not (base is not None and bases and base.name == bases[-1]):
        base = archive.read(Base, bases[-1]) if bases else None
        oldest_us = archive.read(Base, bases[0]).commit_us if bases else None
    anchors = list(archive.names("anchor/"))
    anchor = known.anchor if known else None
    if not (anchor is not None and anchors and anchor.name == anchors[-1]):
        anchor = archive.read(Anchor, anchors[-1]) if anchors else None
    return Newest(epoch, max(epoch, archive.identity.created_ms) / 1e3, base, anchor, oldest_us)
