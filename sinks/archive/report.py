"""What a restore reports: windows, the cut, what was restored, the verdict as the last line.

In: the values of `window`, `plan`, `restore` and `judge`. Out: text for people on stdout, or one JSON document.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cdc.commands.terminal import say, say_json
from sinks.archive.judge import Judged
from sinks.archive.plan import Plan, TablePlan, Txn, shown
from sinks.archive.proof import Compared
from sinks.archive.restore import Outcome
from sinks.archive.window import Window

_COLOURS = {"PROVEN": "bold green", "VERIFIED": "bold yellow", "FAILED": "bold red"}


def show_windows(windows: list[Window], *, as_json: bool) -> None:
    if as_json:
        say_json({"v": 1, "windows": [
            {"epoch": w.epoch, "first_txn": w.first_seq, "last_txn": w.last_seq, "from": _iso(w.from_us),
             "to": _iso(w.to_us), "base": w.base} for w in windows
        ]})  # fmt: skip
        return
    epochs = {window.epoch for window in windows}
    for window in windows:
        if len(epochs) > 1:
            say(f"epoch {window.epoch}")
        say(f"from  {_both(window.from_us)}  transaction {window.first_seq}  ({window.base})")
        say(f"to    {_both(window.to_us)}  transaction {window.last_seq}")
    if not windows:
        say("nothing can be restored yet: there is no base with a segment behind it")


def _iso(time_us: int | None) -> str | None:
    return None if time_us is None else shown(time_us)


def _both(time_us: int | None) -> str:
    """In UTC, to copy, and as the clock here shows it."""
    if time_us is None:
        return shown(None)
    here = datetime.fromtimestamp(time_us / 1e6, UTC).astimezone()
    return f"{shown(time_us)}  ({here:%H:%M:%S %Z} here)"


def plan_record(plan: Plan, tables: Sequence[TablePlan]) -> dict[str, Any]:
    last, out = plan.cut.last, plan.cut.first_out
    return {
        "v": 1,
        "epoch": plan.cut.epoch,
        "last_in": None
        if last is None
        else {"txn": last.txn_seq, "commit": _iso(last.commit_us), "position": last.position},
        "first_out": None
        if out is None
        else {"txn": out.txn_seq, "commit": _iso(out.commit_us), "position": out.position},
        "strays": plan.cut.strays,
        "base": plan.base.name if plan.base else None,
        "segments": len(plan.segments),
        "rows_in_segments": sum(segment.events for segment in plan.segments),
        "tables": [table.name for table in tables],
    }


def show_plan(plan: Plan, tables: Sequence[TablePlan]) -> None:
    last, out = plan.cut.last, plan.cut.first_out
    say(f"last transaction in    {_txn(last)}")
    say(f"first transaction out  {_txn(out)}")
    if plan.cut.strays:
        say(
            f"{plan.cut.strays} transactions behind the cut have an earlier time: the source's clock stepped back",
            "yellow",
        )
    rows = sum(segment.events for segment in plan.segments)
    base = plan.base.name if plan.base else "the log's own copy"
    say(f"from {base}, {len(plan.segments)} segments with {rows:,} changes, {counted(len(tables), 'table')}")


def _txn(txn: Txn | None) -> str:
    return "none" if txn is None else f"{txn.txn_seq}  {_both(txn.commit_us)}  {txn.position}"


# -- the verdict ------------------------------------------------------------------------------------------------
def show_restored(outcome: Outcome) -> None:
    """As soon as it is committed: nobody waits for the proof to go to work."""
    for table in outcome.tables:
        say(f"restored  {table.place}  {table.rows:,} rows")
    for note in outcome.notes:
        say(f"note: {note}", "yellow")
    say("committed: it can be used from now on; what follows is the proof")


def show_judged(judged: Judged, outcome: Outcome | None, plan: Plan | None, *, as_json: bool) -> None:
    """`outcome` and `plan`: of a restore that was just carried out."""
    record, proof = judged.record, judged.proof
    if as_json:
        say_json({
            **(plan_record(plan, [plan.tables[name] for name in record.tables]) if plan else {"v": 1}),
            "restore": record.id,
            "verdict": proof.verdict,
            "proof": {"before": _compared(proof.before), "after": _compared(proof.after),
                      "lacking": [] if proof.verdict == "PROVEN" else list(proof.lacking),
                      "differences": [{"witness": d.witness, "table": d.table, "buckets": list(d.buckets)}
                                      for d in proof.differences]},
            "notes": [*(outcome.notes if outcome else ()), *judged.notes],
            "restored": [{"table": name, "as": t.place, "rows": t.rows} for name, t in record.tables.items()],
        })  # fmt: skip
        return
    for note in judged.notes:
        say(f"note: {note}", "yellow")
    for lacking in proof.lacking if proof.verdict == "VERIFIED" else ():
        say(f"not proven: {lacking}", "yellow")
    for difference in proof.differences:
        buckets = ", ".join(difference.buckets[:5])
        say(f"different: {difference.table}, in buckets {buckets}, from {difference.witness}", "red")
    say(verdict_line(judged), _COLOURS[proof.verdict])


def verdict_line(judged: Judged) -> str:
    """The last line."""
    record, proof = judged.record, judged.proof
    rows = sum(table.rows for table in record.tables.values())
    what = f"{counted(len(record.tables), 'table')}, {counted(rows, 'row')}"
    what += f" at transaction {record.txn_seq} of epoch {record.epoch}"
    if proof.verdict == "PROVEN" and proof.before and proof.after:
        return (
            f"PROVEN: {what}; the archive equals the source at transaction {proof.before.txn_seq} "
            f"({proof.before.witness.name}) and at {proof.after.txn_seq} ({proof.after.witness.name}), and the chain "
            "between them is unbroken"
        )
    if proof.verdict == "FAILED":
        return f"FAILED: {what}; the archive does not give what the source held: do not trust the tables named above"
    later = f"; to prove it later: cdc archive prove {record.id}" if judged.recorded else ""
    return f"VERIFIED: {what}; the chain is unbroken and the target holds what the archive gave{later}"


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _compared(side: Compared | None) -> dict[str, Any] | None:
    return None if side is None else {"witness": side.witness.name, "txn": side.txn_seq}
