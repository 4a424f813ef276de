"""The report: states, lags, how long the disk holds; and its JSON, which does not change."""

import io
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.console import Console

from cdc.commands.status import render, size, span
from cdc.facts import Applied, TargetFacts
from cdc.log import Change, Chunk, End, Identity, Start
from cdc.mysql.status import BinlogFacts
from cdc.mysql.status import SourceFacts as MySqlFacts
from cdc.position import GtidSet, Lsn
from cdc.postgres.status import SlotFacts, SourceFacts
from cdc.status import (
    ArchiveFacts,
    ArchiveStatus,
    Binlog,
    Report,
    SourceStatus,
    archive_status,
    sink_status,
    source_status,
)
from cdc.status_tail import Tail, _tail

NOW_US = 1_800_000_000_000_000
GIB = 2**30


def end(seq: int, *, lsn: int = 0x1000, ago_s: float = 1.0, epoch: int = 7, run: str = "a" * 16, kind: str = "data",
        copy: Chunk | None = None, changes: tuple[Change, ...] = ()) -> End:  # fmt: skip
    commit_us = NOW_US - int(ago_s * 1e6)
    return End(
        id=str(seq), event_count=1, data_collections=(), ts_ms=commit_us // 1000, kind=kind, run=run, epoch=epoch,
        txn_seq=seq, position=f"1:{Lsn(lsn)}", prev_position=None, commit_ts_us=commit_us, copy=copy, changes=changes,
    )  # fmt: skip


def start(run: str, epoch: int = 7) -> Start:
    return Start(run, epoch, Identity("postgresql", "1", 1, "shop", "cdc_shop"), "f", "none", "c", 0)


def source(*, wal_end: int = 0x1000, connected: bool = True, slot: SlotFacts | None = None) -> SourceFacts:
    return SourceFacts(NOW_US, Lsn(wal_end), connected, slot or held())


def held(*, active: bool = True, lost: str | None = None, retained: int = 100, safe: int | None = None) -> SlotFacts:
    return SlotFacts(active, lost, Lsn(0), retained, safe)


def target(seq: int = 5, *, epoch: int = 7, ago_s: float = 3.0, copying: tuple[str, ...] = ()) -> TargetFacts:
    return TargetFacts(True, Applied(epoch, seq, "1:0/1000", NOW_US - int(ago_s * 1e6)), copying)


def test_a_source_that_streams() -> None:
    status = source_status("shop", "postgresql", Tail((end(8, ago_s=2.5),), 3), source(), None, None)
    assert (status.state, status.position, status.epoch, status.txn_seq) == ("streaming", "1:0/1000", 7, 8)
    assert status.lag_seconds == 2.5
    assert status.wal is not None
    assert (status.wal.retained_bytes, status.wal.limit, status.wal.seconds_left) == (100, None, None)
    assert status.problem is None


def test_the_states_of_a_source() -> None:
    tail = Tail((end(1),), 0)
    chunk = Chunk("c", "public.a", 1, None, None, "1:0/1", last=False)
    copying = Tail((end(2, kind="snapshot", copy=chunk),), 0)
    opening = Tail((end(1, kind="schema", changes=(Change(0, "public.b", None, "x", "copying", "c"),)),), 0)

    def state(tail: Tail, facts: SourceFacts | None) -> str:
        return source_status("shop", "postgresql", tail, facts, None, None).state

    assert state(tail, None) == "unknown"
    assert state(tail, source(connected=False)) == "stopped"
    assert state(Tail(()), SourceFacts(NOW_US, Lsn(0), connected=False, slot=None)) == "never started"
    assert state(tail, source(slot=held(active=False))) == "starting"
    assert state(copying, source()) == state(opening, source()) == "copying"
    assert (copying.copying, opening.copying, tail.copying) == ("public.a", "public.b", None)


def test_what_runs_and_gets_nowhere_says_what_it_waits_for() -> None:
    """Whether it is connected at the moment, and whatever else is wrong."""
    tail, why = Tail((end(1),), 0), "it runs and waits, KAFKA_UNREACHABLE: check bootstrap_servers in [kafka]"
    binlog = BinlogFacts("binlog.000001", 1, None, GtidSet(), GtidSet(), GtidSet())
    for connected in (True, False):
        postgres = replace(source(connected=connected), waiting="KAFKA_UNREACHABLE")
        mysql = MySqlFacts(NOW_US, "1" if connected else None, connected, binlog, "KAFKA_UNREACHABLE")
        there = replace(target(), connected=connected, waiting="KAFKA_UNREACHABLE")
        for status in (
            source_status("shop", "postgresql", tail, postgres, None, None),
            source_status("shop", "mysql", tail, mysql, None, None),
            sink_status("eu", "postgresql", "shop", tail, there, None),
            sink_status("eu", "postgresql", "shop", tail, there, None, by_debezium=True),
        ):
            assert status.state == "waiting"
            assert str(status.problem).startswith(why)
    away = replace(source(), waiting="KAFKA_UNREACHABLE")
    for problem, told in (
        ("KAFKA_UNREACHABLE: no", "it runs and waits, KAFKA_UNREACHABLE: no"),
        ("CORRUPT_LOG: no", "keeps trying; CORRUPT_LOG: no"),
    ):
        assert str(source_status("shop", "postgresql", tail, away, None, problem).problem).endswith(told)


def test_the_nearer_limit_is_told_and_when_it_is_reached() -> None:
    """100 bytes/s: from 0x1000 to 0x1000 + 1000 in ten seconds."""
    tail = Tail((end(1, lsn=0x1000, ago_s=10),), 0)
    facts = source(wal_end=0x1000 + 1000, slot=held(retained=5000, safe=20_000))
    by_server = source_status("shop", "postgresql", tail, facts, None, None).wal
    assert by_server is not None
    assert by_server.bytes_per_second == 100
    assert (by_server.limit, by_server.limit_bytes, by_server.seconds_left) == ("max_slot_wal_keep_size", 25_000, 200)
    by_alarm = source_status("shop", "postgresql", tail, facts, 6000, None).wal
    assert by_alarm is not None
    assert (by_alarm.limit, by_alarm.limit_bytes, by_alarm.seconds_left) == ("max_retained_wal", 6000, 10)


def test_the_rate_is_that_of_the_last_minutes() -> None:
    old, recent = end(1, lsn=0x1000, ago_s=5000), end(2, lsn=0x1000 + 4000, ago_s=100)
    wal = source_status("shop", "postgresql", Tail((old, recent), 1), source(wal_end=0x1000 + 14_000), None, None).wal
    assert wal is not None
    assert wal.bytes_per_second == 100
    only_old = source_status("shop", "postgresql", Tail((old,), 0), source(wal_end=0x1000 + 5000), None, None).wal
    assert only_old is not None
    assert only_old.bytes_per_second == 1
    unknown = source_status("shop", "postgresql", Tail(()), source(), None, None).wal
    assert unknown is not None
    assert unknown.bytes_per_second is None


def test_trouble_on_the_server_is_the_problem() -> None:
    lost = source_status("shop", "postgresql", Tail(()), source(slot=held(lost="wal_removed")), None, None)
    assert lost.problem == "the server gave up the slot (wal_removed): cdc source run shop --reopen copy-again"
    above = source_status("shop", "postgresql", Tail((end(1),), 0), source(slot=held(retained=2 * GIB)), GIB, None)
    assert above.problem == f"WAL kept on the server is above max_retained_wal ({GIB} bytes)"
    assert source_status("shop", "postgresql", Tail(()), None, None, "SOURCE_AUTH: no").problem == "SOURCE_AUTH: no"


UUID = "11111111-1111-1111-1111-111111111111"


def on_mysql(
    last: str, *, executed: str = "1-20", purged: str = "1-3", keeps_s: int | None = 86_400, reads: bool = True
) -> SourceStatus:
    """A source whose log ended with `last` 2.5 s ago."""
    sets = [GtidSet.parse(f"{UUID}:{text}") for text in (purged, executed, executed)]
    facts = MySqlFacts(NOW_US, "connection 7", reads, BinlogFacts("binlog.000004", 5 * GIB, keeps_s, *sets))
    tail = Tail((replace(end(8, ago_s=2.5), position=f"{UUID}:{last}"),), 3)
    return source_status("billing", "mysql", tail, facts, None, None)


def test_a_mysql_source_and_the_log_that_its_server_keeps() -> None:
    status = on_mysql("1-12")
    assert (status.engine, status.state, status.lag_seconds, status.problem) == ("mysql", "streaming", 2.5, None)
    assert (status.wal, status.binlog) == (None, Binlog("binlog.000004", 5 * GIB, f"{UUID}:1-3", 8, 86_397.5))
    kept_for_ever = on_mysql("1-12", keeps_s=None, reads=False)
    assert kept_for_ever.state == "starting"
    assert kept_for_ever.binlog is not None
    assert kept_for_ever.binlog.seconds_left is None


def test_a_mysql_server_that_lost_what_is_needed() -> None:
    again = "cdc source run billing --reopen copy-again"
    assert on_mysql("1-12", purged="1-14").problem == (
        f"the server has removed 2 transactions from its log that were not read: {again}"
    )
    assert on_mysql("1-21").problem == (
        f"the log holds transactions that this server has never executed: {UUID}:21: {again}"
    )


def test_the_states_of_a_mysql_source() -> None:
    facts = MySqlFacts(NOW_US, None, False, BinlogFacts("binlog.000001", 1, None, GtidSet(), GtidSet(), GtidSet()))
    assert source_status("billing", "mysql", Tail(()), facts, None, None).state == "never started"
    moved_here = source_status("billing", "mysql", Tail((end(1),), 0), facts, None, None)
    assert (moved_here.state, moved_here.problem) == ("stopped", None)
    assert source_status("billing", "mysql", Tail(()), None, None, "SOURCE_AUTH: no").state == "unknown"


def test_a_sink_is_measured_against_the_last_end() -> None:
    status = sink_status("eu", "postgresql", "shop", Tail((end(8, ago_s=1),), 0), target(5, ago_s=3), None)
    assert (status.state, status.lag_transactions, status.lag_seconds) == ("applying", 3, 2.0)
    assert (status.mode, status.known_divergence) == ("transaction", 0)
    assert status.promise == "every committed transaction once, whole, in commit order"


def test_the_states_of_a_sink() -> None:
    tail = Tail((end(8),), 0)
    assert sink_status("eu", "postgresql", "shop", tail, None, "TARGET_AUTH: no").state == "unknown"
    assert sink_status("eu", "postgresql", "shop", tail, None, "TARGET_AUTH: no").known_divergence is None
    assert (
        sink_status("eu", "postgresql", "shop", tail, TargetFacts(False, None, ()), None).state
        == "stopped, nothing applied"
    )
    assert (
        sink_status("eu", "postgresql", "shop", tail, TargetFacts(False, target().applied, ()), None).state == "stopped"
    )
    copying = sink_status("eu", "postgresql", "shop", tail, target(copying=("public.a",)), None)
    assert (copying.state, copying.copying) == ("copying", ("public.a",))
    assert "  copying public.a  " in shown(sinks=(copying,))
    many = sink_status("eu", "postgresql", "shop", tail, target(copying=("p.a", "p.b", "p.c", "p.d")), None)
    assert "  copying p.a, p.b and 2 more  " in shown(sinks=(many,))
    away = replace(target(copying=("public.a",)), connected=False)
    assert "  stopped, copying public.a  " in shown(sinks=(sink_status("eu", "postgresql", "shop", tail, away, None),))
    earlier_epoch = sink_status("eu", "postgresql", "shop", tail, target(epoch=6), None)
    assert earlier_epoch.lag_transactions is None


def test_only_valid_ends_count() -> None:
    old, new, dead = "a" * 16, "b" * 16, "d" * 16
    records: list[tuple[int, Start | End]] = [
        (0, end(1, run=old)), (1, end(2, run=old)), (2, end(2, run=dead)),
        (3, start(new)), (4, end(2, run=old)), (5, end(3, run=new)), (6, end(4, run=dead)),
    ]  # fmt: skip
    tail = _tail(records)
    assert [(e.txn_seq, e.run) for e in tail.ends] == [(1, old), (2, old), (3, new)]
    assert tail.offset == 5
    assert _tail([]) == Tail(())


def report() -> Report:
    tail = Tail((end(8),), 0)
    return Report(
        "2026-11-22T03:10:00.000Z",
        (source_status("shop", "postgresql", tail, source(slot=held(safe=GIB)), None, None), on_mysql("1-12")),
        (sink_status("eu", "postgresql", "shop", tail, target(), None),),
        (archived(base_overdue=True, base_due_ms=0),),
    )


def archived(*, seq: int = 8, ago_s: float = 3.0, **facts: Any) -> ArchiveStatus:
    """Of an archive that is complete up to so long ago, beside a log that ends with 8 a second ago."""
    at = NOW_US - int(ago_s * 1e6)
    given = ArchiveFacts("1:0/1000", 7, seq, at, 300.0, **facts)
    return archive_status("main.shop", "shop", Tail((end(8),), 0), given, NOW_US // 1000, None)


def test_an_archive_tells_its_window_and_what_is_overdue() -> None:
    begun = NOW_US // 1000 - 7_200_000
    fine = archived(base_txn_seq=3, base_begun_ms=begun, base_due_ms=begun + 86_400_000, anchor_ms=begun,
                    restorable_from_us=5)  # fmt: skip
    assert (fine.state, fine.problem, fine.lag_seconds, fine.lag_transactions) == ("archiving", None, 2.0, 0)
    assert (fine.base_age_seconds, fine.anchor_age_seconds, fine.unarchived_age_seconds) == (7200.0, 7200.0, 0.0)
    assert (fine.base_due, fine.restorable_from_us, fine.archived_to_us) == (
        "2027-01-16T06:00:00Z", 5, NOW_US - 3_000_000,
    )  # fmt: skip
    late = archived(seq=7, ago_s=400)
    assert (late.state, late.unarchived_age_seconds, late.base_age_seconds) == ("behind", 400.0, None)
    assert "the last 399 s of the log are not archived: cdc archive run main.shop" in str(late.problem)
    overdue = archived(base_due_ms=begun, base_overdue=True)
    assert (overdue.state, overdue.base_overdue) == ("archiving", True)
    assert "a base is overdue, it was due at 2027-01-15T06:00:00Z" in str(overdue.problem)
    assert archived(base_due_ms=begun).problem is None
    missing = archived(base_due_ms=begun, base_late=True)
    assert (missing.base_late, missing.base_overdue) == (True, False)
    assert str(missing.problem).startswith("no new base is there, and one was due at 2027-01-15T06:00:00Z: it takes ")
    assert "backup failed, in the archiver's log" in str(missing.problem)
    assert "cdc archive backup main.shop" in str(missing.problem)
    assert "due since 2027-01-15 06:00:00Z" in shown(archives=(missing,))


def shown(**stages: Any) -> str:
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(render(Report("2026-11-22T03:10:00.000Z", **{"sources": (), "sinks": (), **stages})))
    return console.export_text()


def test_what_nothing_limits_is_said_once() -> None:
    tail = Tail((end(8),), 0)
    unlimited = source_status("shop", "postgresql", tail, source(), None, None), on_mysql("1-12", keeps_s=None)
    text = shown(sources=unlimited)
    assert [line.split()[-1] for line in text.splitlines()[2:4]] == ["–", "–"]
    assert "100 B, no limit" in text
    assert "from binlog.000004, no limit" in text
    assert "no limit" not in shown(sources=(source_status("shop", "postgresql", tail, None, None, None),))


def test_a_source_of_mysql_that_has_published_nothing_has_a_limit_nobody_knows() -> None:
    facts = MySqlFacts(NOW_US, None, False, BinlogFacts("binlog.000001", 1, 60, GtidSet(), GtidSet(), GtidSet()))
    assert "no limit" not in shown(sources=(source_status("billing", "mysql", Tail(()), facts, None, None),))


def test_the_json_form_is_stable() -> None:
    value = json.loads(json.dumps(report().as_json()))
    assert value["v"] == 1
    assert set(value) == {"v", "at", "sources", "sinks", "archives"}
    assert set(value["sources"][0]) == {
        "name", "engine", "state", "position", "epoch", "txn_seq", "run", "lag_seconds", "copying", "wal", "binlog",
        "problem",
    }  # fmt: skip
    assert set(value["sources"][0]["wal"]) == {
        "retained_bytes", "bytes_per_second", "limit", "limit_bytes", "seconds_left",
    }  # fmt: skip
    binlog = json.loads(json.dumps(asdict(on_mysql("1-12"))))["binlog"]
    assert set(binlog) == {"oldest_file", "kept_bytes", "purged", "transactions_behind", "seconds_left"}
    assert set(value["sinks"][0]) == {
        "name", "engine", "source", "state", "mode", "promise", "position", "epoch", "txn_seq", "lag_seconds",
        "lag_transactions", "copying", "known_divergence", "problem",
    }  # fmt: skip
    assert set(value["archives"][0]) == {
        "name", "source", "state", "position", "epoch", "txn_seq", "archived_to_us", "lag_seconds", "lag_transactions",
        "unarchived_age_seconds", "base_txn_seq", "base_age_seconds", "base_due", "base_late", "base_overdue",
        "anchor_age_seconds", "restorable_from_us", "problem",
    }  # fmt: skip


def test_people_see_it_all() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(report()))
    text = console.export_text()
    for shown in ("shop", "streaming", "5.0 GiB from binlog.000004", "23 h 59 min to purging", "1:0/1000", "3 txn",
                  "transaction mode: every committed transaction once",
                  "main.shop: a base is overdue"):  # fmt: skip
        assert shown in text


def test_a_narrow_terminal_cuts_nothing_in_two() -> None:
    console = Console(width=80, record=True, file=io.StringIO(), soft_wrap=True)
    console.print(render(report()))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    for line in (
        "source shop: streaming, position 1:0/1000, txn 8, lag 1.0 s, log kept 100 B,",
        "  until limit at rest to max_slot_wal_keep_size (1.0 GiB)",
        "  log kept 5.0 GiB from binlog.000004, until limit 23 h 59 min to purging",
        "sink  state     position  txn  behind  lag    known divergence",
        "archive main.shop: archiving, archived to 2027-01-15 07:59:57Z, txn 8,",
        "  behind 0 txn, lag 2.0 s, base none,",
        "  next base overdue since 1970-01-01 00:00:00Z, anchor none",
    ):
        assert line in lines
    assert all(len(line) <= 80 for line in lines if not line.startswith("main.shop: a base"))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 * GIB, "20.0 GiB"), (2**41, "2.0 TiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.25, "0.2 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (200_000, "2 d 7 h")],
)
def test_spans(seconds: float | None, text: str) -> None:
    assert span(seconds) == text
