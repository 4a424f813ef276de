"""The chain of segments in the store: where it ends, and its manifests in order, links checked.

In: an archive. Out: `Tail`, where a writer goes on; `Segment`s between two numbers. Refuses: manifests whose links do
not match, or with a hole between them (CHAIN_BROKEN). The head is a hint: one that is missing, old, or names what is
not there costs a longer listing and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cdc.errors import ARCHIVE_CORRUPT, CHAIN_BROKEN, CdcError
from cdc.position import parse_position
from sinks.archive.archive import Archive
from sinks.archive.manifest import Head, Link, Segment, sha256
from sinks.transaction import Progress

HEAD = "head.json"
_AT_ONCE = 16
"""Manifests fetched at a time: each is small and far away."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest segment, and behind what the archive is complete: that segment, or a heartbeat after it."""

    segment: Segment
    link: Link
    progress: Progress
    sequences: Mapping[str, int]
    """Sampled since that segment."""

    @property
    def horizon_us(self) -> int | None:
        """What was committed up to this time is archived."""
        return self.progress.commit_ts_us


def read_tail(archive: Archive) -> Tail | None:
    """The end of the chain; None for an archive without a segment."""
    head = _head(archive)
    newest = head.segment if head else ""
    for name in archive.names("log/", after=newest):
        newest = name
    if not newest:
        return None
    link, segment = _fetched(archive, newest)
    if head and (head.segment, head.sha256) == (link.name, link.sha256):
        at = Progress(head.epoch, head.txn_seq, head.run, head.position, head.log_offset, head.commit_us)
        return Tail(segment, link, at, head.sequences)
    at = Progress(segment.epoch, segment.last_seq, segment.run, segment.position, segment.log_offset, segment.commit_us)
    return Tail(segment, link, at, {})


def read_head(archive: Archive) -> Head | None:
    """As it was written last, whether or not it is true."""
    try:
        return archive.parsed(Head, HEAD, archive.store.get(HEAD))
    except FileNotFoundError:
        return None


def _head(archive: Archive) -> Head | None:
    head = read_head(archive)
    try:
        raw = archive.store.get(head.segment) if head else b""
    except FileNotFoundError:
        return None
    return head if head and sha256(raw) == head.sha256 else None


def fetch(archive: Archive, names: Sequence[str]) -> list[tuple[Link, Segment]]:
    """These manifests, in the order of their names."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda name: _fetched(archive, name), names))


def fetch_unbroken(
    archive: Archive, names: Sequence[str]
) -> Iterator[tuple[list[tuple[Link, Segment]], CdcError | None]]:
    """The same as runs that hang together, each with what ended it; nothing is believed that its successor denies."""
    run: list[tuple[Link, Segment]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(lambda name: _fetched_or_damage(archive, name), names):
            if isinstance(found, CdcError):
                yield run, found
                run = []
                continue
            if run and (problem := break_between(run[-1], found)):
                if found[1].first_seq == run[-1][1].last_seq + 1:
                    run.pop()
                yield run, problem
                run = []
            run.append(found)
    yield run, None


def _fetched_or_damage(archive: Archive, name: str) -> tuple[Link, Segment] | CdcError:
    try:
        return _fetched(archive, name)
    except CdcError as error:
        if error.code is not ARCHIVE_CORRUPT:
            raise
        return error


def break_between(before: tuple[Link, Segment], after: tuple[Link, Segment]) -> CdcError | None:
    """Why the second does not go on where the first ended; None if it does."""
    try:
        check([before, after])
    except CdcError as error:
        return error
    return None


def _fetched(archive: Archive, name: str) -> tuple[Link, Segment]:
    raw = archive.raw(name)
    return Link(name=name, sha256=sha256(raw)), archive.placed(Segment, name, raw)


def check(chain: Sequence[tuple[Link, Segment]]) -> None:
    """Each goes on where the one before it ended, and vouches for it."""
    for (link, before), (_, after) in itertools.pairwise(chain):
        problem = _break(link, before, after)
        if problem:
            raise CdcError(CHAIN_BROKEN, before=link.name, after=after.name, problem=problem)


def _break(link: Link, before: Segment, after: Segment) -> str | None:
    if after.epoch != before.epoch:
        return f"epoch {before.epoch} ended and {after.epoch} began"
    if after.first_seq != before.last_seq + 1:
        return f"one ends with transaction {before.last_seq}, the other begins with {after.first_seq}"
    if after.previous != link:
        return "the second does not vouch for the first: it was altered, or replaced by an older one"
    # Heartbeats between the two have moved the position on; they have no number.
    if after.prev_position is None or parse_position(after.prev_position) < parse_position(before.position):
        return f"one ends at {before.position}, the other goes on at {after.prev_position}"
    return None
