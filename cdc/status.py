"""`cdc status`: where each stage stands, how far behind, how long production's disk holds. A pure report of facts.

In: the end of the commit log, what source and targets say. Out: `Report`, with one stable JSON form.
Refuses: nothing; a stage that cannot be asked is reported with its problem, the others as they are.

A source lags behind its server's clock; a sink behind the last END of the log. Heartbeats end up in the log every few
seconds, so both lags stay small when nothing is written, and a lag that grows means that something stands still.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cdc.errors import CATALOGUE
from cdc.event import Engine
from cdc.facts import TargetFacts
from cdc.log import End
from cdc.mysql.startup import lacking
from cdc.mysql.status import SourceFacts as MySqlFacts
from cdc.position import GtidPosition, PgPosition, parse_position
from cdc.postgres.status import SourceFacts as PostgresFacts
from cdc.status_tail import Tail

VERSION = 1
PROMISE = "every committed transaction once, whole, in commit order"
PROMISE_OF_DEBEZIUM = "whole transactions in commit order, as often as the connector writes them; no gap is detected"
_RATE_WINDOW_US = 600_000_000


# -- stages -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Wal:
    """What the slot keeps on the server. `limit` names what ends that, None where nothing does.

    `seconds_left` is how long until the limit if the source stopped now, at the rate of the last minutes.
    """

    retained_bytes: int
    bytes_per_second: float | None
    limit: str | None
    limit_bytes: int | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Binlog:
    """MySQL's log, which it keeps by its own settings: nothing holds it for us.

    `purged` are the transactions that are in it no more, `transactions_behind` those that the server has executed and
    no END covers. `seconds_left` is how long until the server may remove what is not published, if the source stopped
    now; None where it keeps its log for ever.
    """

    oldest_file: str
    kept_bytes: int
    purged: str
    transactions_behind: int | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class SourceStatus:
    name: str
    engine: Engine
    state: str
    position: str | None = None
    epoch: int | None = None
    txn_seq: int | None = None
    run: str | None = None
    lag_seconds: float | None = None
    copying: str | None = None
    wal: Wal | None = None
    binlog: Binlog | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class SinkStatus:
    name: str
    engine: Engine
    source: str
    state: str
    mode: str = "transaction"
    promise: str = PROMISE
    position: str | None = None
    epoch: int | None = None
    txn_seq: int | None = None
    lag_seconds: float | None = None
    lag_transactions: int | None = None
    copying: tuple[str, ...] = ()
    known_divergence: int | None = None
    """None where it is not known; else 0, since a sink in transaction mode stops at the first row that differs."""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ArchiveFacts:
    """What an archive's store says: up to where it is complete, its bases and anchors, when the next base is due.

    `late_s`: so far behind the log is too far. `base_late`: the next one's time is past by more than it should take.
    `restorable_from_us`: where the oldest base of the epoch stands.
    """

    position: str
    epoch: int
    txn_seq: int
    commit_ts_us: int | None
    late_s: float
    base_txn_seq: int | None = None
    base_begun_ms: int | None = None
    base_due_ms: int | None = None
    base_late: bool = False
    base_overdue: bool = False
    anchor_ms: int | None = None
    restorable_from_us: int | None = None


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """`archived_to` is the commit time up to which the archive is complete, in µs since 1970.

    `unarchived_age_seconds`: how old the oldest commit may be that is in the log and not in the archive; 0 for none.
    Moments from `restorable_from` to `archived_to` can be restored, if the chain between them is whole.
    """

    name: str
    source: str
    state: str
    position: str | None = None
    epoch: int | None = None
    txn_seq: int | None = None
    archived_to_us: int | None = None
    lag_seconds: float | None = None
    lag_transactions: int | None = None
    unarchived_age_seconds: float | None = None
    base_txn_seq: int | None = None
    base_age_seconds: float | None = None
    base_due: str | None = None
    base_late: bool = False
    base_overdue: bool = False
    anchor_age_seconds: float | None = None
    restorable_from_us: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    at: str
    sources: tuple[SourceStatus, ...]
    sinks: tuple[SinkStatus, ...]
    archives: tuple[ArchiveStatus, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"v": VERSION, **asdict(self)}


def source_status(
    name: str,
    engine: Engine,
    tail: Tail,
    facts: PostgresFacts | MySqlFacts | None,
    max_retained_wal: int | None,
    problem: str | None,
) -> SourceStatus:
    """`facts` is None where the source's server could not be asked; `problem` says why."""
    last = tail.last
    status = SourceStatus(
        name,
        engine,
        "unknown",
        position=last.position if last else None,
        epoch=last.epoch if last else None,
        txn_seq=last.txn_seq if last else None,
        run=last.run if last else None,
        lag_seconds=_seconds(facts.now_us, _commit_us(last)) if facts and last else None,
        copying=tail.copying,
        problem=problem,
    )
    if isinstance(facts, MySqlFacts):
        return _on_mysql(status, tail, facts)
    return status if facts is None else _on_postgres(status, tail, facts, max_retained_wal)


def _on_postgres(status: SourceStatus, tail: Tail, facts: PostgresFacts, max_retained_wal: int | None) -> SourceStatus:
    slot, wal, problem = facts.slot, None, status.problem
    if slot is not None:
        wal = _wal(facts, tail, max_retained_wal)
    if slot is not None and slot.lost:
        problem = f"the server gave up the slot ({slot.lost}): cdc source run {status.name} --reopen copy-again"
    elif wal is not None and max_retained_wal is not None and wal.retained_bytes > max_retained_wal:
        problem = f"WAL kept on the server is above max_retained_wal ({max_retained_wal} bytes)"
    if facts.waiting is not None:
        state, problem = "waiting", _why(facts.waiting, problem)
    elif not facts.connected:
        state = "never started" if tail.last is None and slot is None else "stopped"
    else:
        state = _state(tail, reads=slot is not None and slot.active)
    return replace(status, state=state, wal=wal, problem=problem)


def _on_mysql(status: SourceStatus, tail: Tail, facts: MySqlFacts) -> SourceStatus:
    """A set of transactions tells by itself what it lacks."""
    binlog, problem = facts.binlog, status.problem
    last = parse_position(status.position) if status.position is not None else None
    behind, left = None, None
    if isinstance(last, GtidPosition):
        behind = binlog.executed.ahead_of(last)
        if lost := binlog.purged.ahead_of(last):
            problem = f"the server has removed {lost} transactions from its log that were not read"
        elif missing := lacking(binlog.history, last):
            problem = f"the log holds transactions that this server has never executed: {missing}"
        if problem != status.problem:
            problem = f"{problem}: cdc source run {status.name} --reopen copy-again"
        if binlog.keeps_s is not None and status.lag_seconds is not None:
            left = max(0.0, round(binlog.keeps_s - status.lag_seconds, 1))
    if facts.waiting is not None:
        state, problem = "waiting", _why(facts.waiting, problem)
    elif facts.holder is None:
        state = "never started" if tail.last is None else "stopped"
    else:
        state = _state(tail, reads=facts.reads)
    kept = Binlog(binlog.oldest_file, binlog.kept_bytes, str(binlog.purged), behind, left)
    return replace(status, state=state, binlog=kept, problem=problem)


def _why(code: str, problem: str | None) -> str:
    """What a process waits for; if we meet the same ourselves, in its words."""
    if problem is not None and problem.startswith(f"{code}: "):
        return f"it runs and waits, {problem}"
    told = f"it runs and waits, {code}: {CATALOGUE[code].hint}"
    return f"{told}; {problem}" if problem else told


def _state(tail: Tail, *, reads: bool) -> str:
    """Of a source that runs."""
    if tail.copying is not None:
        return "copying"
    return "streaming" if reads else "starting"


def sink_status(
    name: str,
    engine: Engine,
    source: str,
    tail: Tail,
    facts: TargetFacts | None,
    problem: str | None,
    *,
    by_debezium: bool = False,
) -> SinkStatus:
    """As `source_status`."""
    if by_debezium:
        return _of_debezium(name, engine, source, facts, problem)
    applied, last = (facts.applied if facts else None), tail.last
    if facts is None:
        state = "unknown"
    elif facts.waiting is not None:
        state, problem = "waiting", _why(facts.waiting, problem)
    elif not facts.connected:
        state = "stopped, nothing applied" if applied is None else "stopped"
    else:
        state = "copying" if facts.copying else "applying"
    if applied is None or facts is None:
        return SinkStatus(name, engine, source, state, problem=problem)
    same = last is not None and last.epoch == applied.epoch
    return SinkStatus(
        name,
        engine,
        source,
        state,
        position=applied.position,
        epoch=applied.epoch,
        txn_seq=applied.txn_seq,
        lag_seconds=_seconds(_commit_us(last), applied.commit_ts_us) if last else None,
        lag_transactions=max(0, last.txn_seq - applied.txn_seq) if last and same else None,
        copying=facts.copying,
        known_divergence=0,
        problem=problem,
    )


def _of_debezium(name: str, engine: Engine, source: str, facts: TargetFacts | None, problem: str | None) -> SinkStatus:
    """Its log has no numbers of ours to be behind of; its tables are never counted, so all count as being copied."""
    applied = facts.applied if facts else None
    state = "unknown" if facts is None else "applying" if facts.connected else "stopped"
    if facts is not None and facts.waiting is not None:
        state, problem = "waiting", _why(facts.waiting, problem)
    return SinkStatus(
        name,
        engine,
        source,
        state,
        promise=PROMISE_OF_DEBEZIUM,
        txn_seq=applied.txn_seq if applied else None,
        lag_seconds=None,
        problem=problem,
    )


def archive_status(
    name: str, source: str, tail: Tail, facts: ArchiveFacts | None, now_ms: int, problem: str | None
) -> ArchiveStatus:
    """As `source_status`. The store does not know whether an archiver runs: what stands still shows by its lag."""
    if facts is None:
        return ArchiveStatus(name, source, "unknown" if problem else "nothing archived", problem=problem)
    last = tail.last
    same = last is not None and last.epoch == facts.epoch
    lag = _seconds(_commit_us(last), facts.commit_ts_us) if last else None
    behind = max(0, last.txn_seq - facts.txn_seq) if last and same else None
    age = 0.0 if behind == 0 else _age(facts.commit_ts_us and facts.commit_ts_us // 1000, now_ms)
    late = lag is not None and lag > facts.late_s
    alarms = [problem] if problem else []
    if late:
        alarms.append(f"the last {lag:.0f} s of the log are not archived: cdc archive run {name}, or see its log")
    if facts.base_overdue or facts.base_late:
        what = "a base is overdue, it" if facts.base_overdue else "no new base is there, and one"
        alarms.append(f"{what} was due at {_moment(facts.base_due_ms)}: {why_no_base(name)}")
    return ArchiveStatus(
        name,
        source,
        "behind" if late else "archiving",
        position=facts.position,
        epoch=facts.epoch,
        txn_seq=facts.txn_seq,
        archived_to_us=facts.commit_ts_us,
        lag_seconds=lag,
        lag_transactions=behind,
        unarchived_age_seconds=age,
        base_txn_seq=facts.base_txn_seq,
        base_age_seconds=_age(facts.base_begun_ms, now_ms),
        base_due=_moment(facts.base_due_ms),
        base_late=facts.base_late,
        base_overdue=facts.base_overdue,
        anchor_age_seconds=_age(facts.anchor_ms, now_ms),
        restorable_from_us=facts.restorable_from_us,
        problem="; ".join(alarms) or None,
    )


def why_no_base(archive: str) -> str:
    """What is known of it without the archiver, and where it says more."""
    return (
        f"it takes long, or fails again and again (backup failed, in the archiver's log); cdc archive backup {archive} "
        "shows why"
    )


def _age(begun_ms: int | None, now_ms: int) -> float | None:
    return None if begun_ms is None else round((now_ms - begun_ms) / 1e3, 1)


def _moment(ms: int | None) -> str | None:
    return None if ms is None else f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _commit_us(end: End | None) -> int | None:
    if end is None:
        return None
    return end.ts_ms * 1000 if end.commit_ts_us is None else end.commit_ts_us


def _seconds(later_us: int | None, earlier_us: int | None) -> float | None:
    if later_us is None or earlier_us is None:
        return None
    return round(max(0, later_us - earlier_us) / 1e6, 3)


def _wal(facts: PostgresFacts, tail: Tail, max_retained_wal: int | None) -> Wal:
    """The nearer of the operator's alarm and the server's own limit."""
    slot = facts.slot
    assert slot is not None
    limits = []
    if max_retained_wal is not None:
        limits.append((max_retained_wal - slot.retained_bytes, max_retained_wal, "max_retained_wal"))
    if slot.safe_bytes is not None:
        limits.append((slot.safe_bytes, slot.retained_bytes + slot.safe_bytes, "max_slot_wal_keep_size"))
    rate = _rate(facts, tail)
    if not limits:
        return Wal(slot.retained_bytes, rate, None, None, None)
    left, limit_bytes, limit = min(limits)
    seconds = max(0.0, round(left / rate, 1)) if rate else None
    return Wal(slot.retained_bytes, rate, limit, limit_bytes, seconds)


def _rate(facts: PostgresFacts, tail: Tail) -> float | None:
    """Bytes of WAL a second, since the oldest END of the last ten minutes, or the last END there is."""
    timed = [(end.commit_ts_us, end.position) for end in tail.ends if end.commit_ts_us is not None]
    recent = [entry for entry in timed if entry[0] >= facts.now_us - _RATE_WINDOW_US] or timed[-1:]
    if not recent:
        return None
    since_us, position = recent[0]
    seconds = (facts.now_us - since_us) / 1e6
    written = int(facts.wal_end) - int(PgPosition.parse(position).lsn)
    return round(written / seconds, 1) if seconds >= 1 and written >= 0 else None
