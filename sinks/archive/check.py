"""`cdc check` and `cdc status` of an archive: does its store hold what it should, and can bases be taken. I/O.

In: a section and one of its sources. Out: findings. Refuses nothing: an error is a finding. Nothing is changed but
the two objects that a writer tries a store with.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace

from cdc.config import Config
from cdc.errors import ARCHIVE_MISSING, CdcError
from cdc.finding import Finding, fail, note, ok, warn
from cdc.sections import Archive as Section
from cdc.sections import Source
from cdc.status import ArchiveFacts, why_no_base
from sinks.archive.archive import Archive
from sinks.archive.chain import read_tail
from sinks.archive.newest import Newest, newest
from sinks.archive.origin import findings
from sinks.archive.plan import shown
from sinks.archive.schedule import base_due, base_late, base_overdue, schedule_of
from sinks.archive.store import Store, open_store

_LATE_ROLLS = 5
"""So many `roll_every` behind, the archive is overdue."""


def check_archive(config: Config, unit: str) -> list[Finding]:
    """Findings for `[archive.NAME]` and one source of it."""
    section, source = config.archive(unit)
    return [*_store(config, section, source, unit), *_bases(config.source(source), section)]


# -- the store --------------------------------------------------------------------------------------------------
def _store(config: Config, section: Section, source: str, unit: str) -> Iterator[Finding]:
    url, prefix = section.url_of(source), config.source(source).topic_prefix
    try:
        key = section.key()
        archive = Archive.open(url, key)
        if archive.identity.source != prefix:
            yield fail(
                f"the archive belongs to source {archive.identity.source}",
                f"another url in [archive.{section.name}]",
            )
            return
        archive.prove()
        tail = read_tail(archive)
        known = newest(archive, tail.progress.epoch) if tail else None
    except CdcError as error:
        if error.code is ARCHIVE_MISSING:
            yield from _empty(url)
        else:
            yield _failed(error)
        return
    yield from _link(archive.store)
    if key is None:
        yield warn(
            "the archive is not encrypted: whoever reads the store reads every row", "encryption_key, and a new url"
        )
    else:
        yield ok("encrypted by AES-256-GCM, and this key opens it")
    yield ok("the store can be written, and refuses to write over an object")
    if tail is None or known is None or tail.horizon_us is None:
        yield note("nothing is archived yet")
        return
    behind = time.time() - tail.horizon_us / 1e6
    what = f"archived up to {shown(tail.horizon_us)}, transaction {tail.progress.txn_seq}"
    if behind > late_after(section):
        yield warn(f"{what}: {behind:.0f} s behind", f"cdc archive run {section.name}, or see its log")
    else:
        yield ok(what)
    yield _newest_base(section, unit, known)


def _empty(url: str) -> Iterator[Finding]:
    try:
        store = open_store(url)
        store.put("probe", io.BytesIO(b"probe"))
        store.delete("probe")
    except CdcError as error:
        yield _failed(error)
    else:
        yield from _link(store)
        yield note(f"{url} can be written; the archive is made by the archiver's first start")


def _link(store: Store) -> Iterator[Finding]:
    if store.in_the_clear:
        yield warn(
            f"the connection to {store.in_the_clear} is not encrypted: whoever listens sees what encryption_key does "
            "not hide",
            "https:// in AWS_ENDPOINT_URL_S3",
        )


def _newest_base(section: Section, unit: str, known: Newest) -> Finding:
    schedule, taken, now = schedule_of(section), known.taken, time.time()
    what = f"newest base: {known.base.name}" if known.base else "no base yet"
    due = base_due(schedule, taken)
    late, overdue = base_late(schedule, taken, now), base_overdue(schedule, taken, now)
    if due is not None and (late or overdue):
        when = f"{'is overdue, it ' if overdue else ''}was due at {shown(int(due) * 1_000_000)}"
        return warn(f"{what}; {'the next one' if known.base else 'one'} {when}", why_no_base(unit))
    return ok(what) if known.base else note(what)


# -- bases ------------------------------------------------------------------------------------------------------
def _bases(source: Source, section: Section) -> Iterator[Finding]:
    """What a base's own sessions need."""
    server = replace(source.server(), purpose="check") if _readable(source) else None
    if server is None:
        yield note(f"whether bases can be taken is not known: the password of [source.{source.name}] is not here")
        return
    try:
        yield from findings(server, source)
    except CdcError as error:
        yield _failed(error)
        return
    if section.base_every is None:
        yield note("no base is taken by itself: base_every = never", f"cdc archive backup {section.name}")


def _readable(source: Source) -> bool:
    try:
        source.server()
    except CdcError:
        return False
    return True


def _failed(error: CdcError) -> Finding:
    return fail(f"{error.code.name}: {error.text}", error.hint)


# -- status -----------------------------------------------------------------------------------------------------
def late_after(section: Section) -> float:
    """So many seconds behind, the archive is overdue."""
    return max(60.0, _LATE_ROLLS * section.roll_every)


def archive_facts(config: Config, unit: str) -> ArchiveFacts | None:
    """For `cdc status`; None while nothing is archived."""
    section, source = config.archive(unit)
    try:
        archive = Archive.open(section.url_of(source), section.key())
    except CdcError as error:
        if error.code is ARCHIVE_MISSING:
            return None
        raise
    tail = read_tail(archive)
    if tail is None:
        return None
    at, schedule = tail.progress, schedule_of(section)
    known = newest(archive, at.epoch)
    due, now = base_due(schedule, known.taken), time.time()
    return ArchiveFacts(
        at.position,
        at.epoch,
        at.txn_seq,
        at.commit_ts_us,
        late_after(section),
        base_txn_seq=known.base.txn_seq if known.base else None,
        base_begun_ms=known.base.started_ms if known.base else None,
        base_due_ms=None if due is None else int(due * 1000),
        base_late=base_late(schedule, known.taken, now),
        base_overdue=base_overdue(schedule, known.taken, now),
        anchor_ms=known.anchor_ms,
        restorable_from_us=known.oldest_us,
    )
