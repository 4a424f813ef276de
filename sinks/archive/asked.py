"""Which moment somebody asks for: the words of the command line. Pure, but for the clock's local zone.

In: arguments. Out: `Moment`, a table and a key. Refuses: none or several moments, a time without an offset (with the
instants that it could mean), what is no time, position or key.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime

from cdc.errors import ARGUMENT_INVALID, CdcError
from cdc.event import Engine
from cdc.position import Gtid, Lsn, PgPosition
from sinks.archive.plan import Choice, Moment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = (1970, 9000)
"""Beyond these no archive has a moment, and arithmetic with offsets has no room."""


def choice(text: str | None) -> Choice | None:
    known: dict[str | None, Choice | None] = {None: None, "first-after": "first-after", "last-before": "last-before"}
    if text not in known:
        raise _invalid(f"--cut {text}", "--cut first-after or --cut last-before")
    return known[text]


def one_of(*given: object) -> None:
    """Just one way of naming the moment."""
    if sum(value is not None for value in given) != 1:
        fix = "one of --to-time, --to-lsn, --to-gtid, --to-txn, --before-delete; --list shows what can be restored"
        raise _invalid("which moment is meant?", fix)


def of_its_engine(engine: Engine, to_lsn: str | None, to_gtid: str | None) -> None:
    """Each engine's log has positions of its own."""
    if engine == "mysql" and to_lsn is not None:
        fix = "--to-gtid UUID:N (MariaDB: D-S-N), --to-txn or --to-time"
        raise _invalid("--to-lsn: the archive is of a MySQL source, whose log has GTIDs", fix)
    if engine == "postgresql" and to_gtid is not None:
        fix = "--to-lsn X/X, --to-txn or --to-time"
        raise _invalid("--to-gtid: the archive is of a Postgres source, whose log has LSNs", fix)


def moment(
    to_time: str | None,
    to_lsn: str | None,
    to_txn: int | None,
    to_gtid: str | None = None,
    *,
    exclusive: bool,
    epoch: int | None,
) -> Moment:
    """By the one that is given."""
    try:
        if to_lsn is not None:
            # The order of positions does not ask for the timeline.
            return Moment(position=PgPosition(1, Lsn.parse(to_lsn)), exclusive=exclusive, epoch=epoch)
    except ValueError:
        raise _invalid(f"--to-lsn {to_lsn} is no position", "--to-lsn 0/1A2B3C") from None
    try:
        if to_gtid is not None:
            return Moment(gtid=Gtid.parse(to_gtid), exclusive=exclusive, epoch=epoch)
    except ValueError:
        fix = "--to-gtid UUID:N, of MariaDB D-S-N, one transaction"
        raise _invalid(f"--to-gtid {to_gtid} is no GTID", fix) from None
    if to_txn is not None:
        return Moment(txn_seq=to_txn, exclusive=exclusive, epoch=epoch)
    return Moment(time_us=time_us(to_time or ""), exclusive=exclusive, epoch=epoch)


def row(text: str) -> tuple[str, list[str]]:
    """A table and a key: `public.lines:42,1`."""
    table, _, key = text.partition(":")
    try:
        (cells,) = csv.reader([key], strict=True)
    except (csv.Error, ValueError):
        cells = []
    if not table or not cells:
        fix = "--before-delete SCHEMA.TABLE:KEY, the key's columns in key order, joined by commas"
        raise _invalid(f"--before-delete {text!r} names no row", fix)
    return table, cells


def time_us(text: str) -> int:
    """Microseconds since 1970. Without an offset nobody knows which hour is meant, least of all at night."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or not _YEARS[0] <= at.year <= _YEARS[1]:
        raise _invalid(f"--to-time {text!r} is no time", "--to-time '2026-11-22 03:10:00+01:00'")
    if at.tzinfo is None:
        here = " (here)".join(f", or --to-time '{local.isoformat(' ')}'" for local in _readings(at)) + " (here)"
        gap = "" if _exists(at) else "; that hour does not exist here"
        fix = f"--to-time '{at.replace(tzinfo=UTC).isoformat(' ')}' (UTC){here}"
        raise _invalid(f"--to-time {text!r} has no offset from UTC{gap}", fix)
    return (at - _EPOCH) // datetime.resolution


def _readings(at: datetime) -> list[datetime]:
    """What clocks here could mean: two instants in the hour that comes twice."""
    first, second = (at.replace(fold=fold).astimezone() for fold in (0, 1))
    return [first] if first == second else [first, second]


def _exists(at: datetime) -> bool:
    return at.astimezone().replace(tzinfo=None) == at


def _invalid(problem: str, fix: str) -> CdcError:
    return CdcError(ARGUMENT_INVALID, problem=problem, fix=fix)
