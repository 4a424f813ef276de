"""Every object of an archive, read and compared with what vouches for it. I/O through `Archive`.

In: an archive. Out: one `Damage` for each object that is missing, altered, swapped or older than it should be, and for
each hole in a chain; how much was read. Refuses: a store that does not answer, of which nothing can be said. It goes on
behind what is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cdc.errors import ARCHIVE_CORRUPT, CHAIN_BROKEN, CdcError
from sinks.archive.archive import Archive
from sinks.archive.chain import HEAD, check, fetch, read_head
from sinks.archive.manifest import Anchor, Base, Link, RestoreRecord, Segment, Stored, sha256


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with an object, or between two."""

    name: str
    problem: str


@dataclass(slots=True)
class Verified:
    """How much was read."""

    segments: int = 0
    bases: int = 0
    objects: int = 0
    bytes: int = 0


def verify(archive: Archive, seen: Callable[[Verified], None]) -> tuple[Verified, list[Damage]]:
    """All of it; `seen` is told after each manifest."""
    done, damages = Verified(), []
    for damage in _damages(archive, done, seen):
        damages.append(damage)  # noqa: PERF402 - `done` grows with it
    return done, damages


def _damages(archive: Archive, done: Verified, seen: Callable[[Verified], None]) -> Iterator[Damage]:
    previous: tuple[Link, Segment] | None = None
    shapes: set[str] = set()
    for name in archive.names("log/"):
        try:
            ((link, segment),) = fetch(archive, [name])
        except CdcError as error:
            yield _damage(name, error)
            previous = None
            continue
        if previous and previous[1].epoch == segment.epoch:
            yield from _between([previous, (link, segment)])
        elif segment.previous and (previous is None or previous[0] != segment.previous):
            yield Damage(segment.previous.name, f"{name} vouches for it, and it is missing or altered")
        previous = link, segment
        done.segments += 1
        yield from _objects(archive, [body for body in (segment.rows, segment.transactions) if body], done)
        shapes |= {schema_id for table in segment.tables.values() for schema_id in table.schemas}
        seen(done)
    yield from _head(archive)
    for name in archive.base_names():
        try:
            base = archive.read(Base, name)
        except CdcError as error:
            yield _damage(name, error)
            continue
        done.bases += 1
        files = [file for table in base.tables.values() for file in table.files]
        yield from _objects(archive, [base.schema_file, *files], done)
        shapes |= {table.schema_id for table in base.tables.values()}
        seen(done)
    yield from _witnesses(archive, done, shapes)
    yield from _shapes(archive, shapes)


def _damage(name: str, error: CdcError) -> Damage:
    """What an error says of an object, where it does."""
    if error.code not in (ARCHIVE_CORRUPT, CHAIN_BROKEN):
        raise error
    return Damage(name, str(error.facts["problem"]))


def _head(archive: Archive) -> Iterator[Damage]:
    """It may be older than the chain, never newer."""
    try:
        head = read_head(archive)
        raw = archive.raw(head.segment) if head else b""
    except CdcError as error:
        yield _damage(str(error.facts["name"]), error)
    else:
        if head and sha256(raw) != head.sha256:
            yield Damage(head.segment, f"{HEAD} vouches for it, and it was altered or replaced")


def _witnesses(archive: Archive, done: Verified, shapes: set[str]) -> Iterator[Damage]:
    """Anchors and records of restores: nothing else vouches for them than their own seal."""
    models: dict[str, type[Anchor | RestoreRecord]] = {"anchor/": Anchor, "restore/": RestoreRecord}
    for prefix, model in models.items():
        for name in archive.names(prefix):
            done.objects += 1
            try:
                shapes |= {table.schema_id for table in archive.read(model, name).tables.values()}
            except CdcError as error:
                yield _damage(name, error)


def _between(pair: Sequence[tuple[Link, Segment]]) -> Iterator[Damage]:
    try:
        check(pair)
    except CdcError as error:
        yield _damage(pair[1][1].name, error)


def _objects(archive: Archive, stored: Sequence[Stored], done: Verified) -> Iterator[Damage]:
    for one in stored:
        try:
            archive.vouched(one)
        except CdcError as error:
            yield _damage(one.name, error)
        done.objects += 1
        done.bytes += one.size


def _shapes(archive: Archive, ids: set[str]) -> Iterator[Damage]:
    for schema_id in sorted(ids):
        try:
            archive.shape(schema_id)
        except CdcError as error:
            yield _damage(f"shape/{schema_id}.json", error)
