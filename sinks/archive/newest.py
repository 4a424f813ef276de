"""The newest base and the newest anchor of an archive: what its schedule and its alarms go by. Reads only.

In: an archive and an epoch. Out: `Newest`. Refuses: a manifest that cannot be read (ARCHIVE_CORRUPT).
"""

from __future__ import annotations

from dataclasses import dataclass

from sinks.archive.archive import Archive
from sinks.archive.manifest import Anchor, Base
from sinks.archive.schedule import Taken


@dataclass(frozen=True, slots=True)
class Newest:
    """`oldest_us` is the commit time that the oldest base of the epoch stands at, where restores can begin."""

    epoch: int
    since: float
    base: Base | None
    anchor_ms: int | None
    oldest_us: int | None

    @property
    def taken(self) -> Taken:
        return Taken(
            self.since,
            None if self.base is None else self.base.started_ms / 1e3,
            None if self.anchor_ms is None else self.anchor_ms / 1e3,
        )


def newest(archive: Archive, epoch: int, known: Newest | None = None) -> Newest:
    """`known`: an earlier answer, whose base need not be read again."""
    names = [name for name in archive.names(f"base/{epoch:020d}/") if name.endswith(".json")]
    base, oldest_us = (known.base, known.oldest_us) if known else (None, None)
    if not (base is not None and names and base.name == names[-1]):
        base = archive.read(Base, names[-1]) if names else None
        oldest_us = archive.read(Base, names[0]).commit_us if names else None
    anchors = list(archive.names("anchor/"))
    taken = [archive.read(Anchor, anchors[-1]).taken_ms] if anchors else []
    if base is not None and base.taken_from == "source":
        taken.append(base.started_ms)
    since = max(epoch, archive.identity.created_ms) / 1e3
    return Newest(epoch, since, base, max(taken, default=None), oldest_us)
