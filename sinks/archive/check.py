"""`cdc check` and `cdc status` of an archive: is it there, the right one, and does the key open it. Reads only.

In: a section and one of its sources. Out: findings. Refuses nothing: an error is a finding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from cdc.config import Config
from cdc.errors import ARCHIVE_MISSING, CdcError
from cdc.finding import Finding, fail, note, ok, warn
from cdc.status import ArchiveFacts
from sinks.archive.archive import Archive
from sinks.archive.chain import read_tail
from sinks.archive.manifest import Base
from sinks.archive.plan import shown

_LATE_ROLLS = 5
"""So many `roll_every` behind, the archive is overdue."""


def check_archive(config: Config, unit: str) -> list[Finding]:
    """Findings for `[archive.NAME]` and one source of it."""
    return list(_findings(config, unit))


def _findings(config: Config, unit: str) -> Iterator[Finding]:
    section, source = config.archive(unit)
    url = section.url_of(source)
    try:
        key = section.key()
        archive = Archive.open(url, key)
    except CdcError as error:
        if error.code is ARCHIVE_MISSING:
            yield note(f"{url} is made by the archiver's first start")
        else:
            yield fail(f"{error.code.name}: {error.text}", error.hint)
        return
    if key is None:
        yield warn(
            "the archive is not encrypted: whoever reads the store reads every row", "encryption_key, and a new url"
        )
    else:
        yield ok("encrypted by AES-256-GCM, and this key opens it")
    prefix = config.source(source).topic_prefix
    if archive.identity.source != prefix:
        yield fail(
            f"the archive belongs to source {archive.identity.source}", f"another url in [archive.{section.name}]"
        )
        return
    try:
        tail = read_tail(archive)
    except CdcError as error:
        yield fail(f"{error.code.name}: {error.text}", error.hint)
        return
    if tail is None or tail.horizon_us is None:
        yield note("nothing is archived yet")
        return
    behind = time.time() - tail.horizon_us / 1e6
    what = f"archived up to {shown(tail.horizon_us)}, transaction {tail.progress.txn_seq}"
    if behind > max(60.0, _LATE_ROLLS * section.roll_every):
        yield warn(f"{what}: {behind:.0f} s behind", f"cdc archive run {section.name}, or see its log")
    else:
        yield ok(what)


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
    at = tail.progress
    newest = max((name for name in archive.names(f"base/{at.epoch:020d}/") if name.endswith(".json")), default=None)
    base = archive.read(Base, newest) if newest else None
    return ArchiveFacts(
        at.position, at.epoch, at.txn_seq, at.commit_ts_us,
        base.txn_seq if base else None, base.finished_ms if base else None,
    )  # fmt: skip
