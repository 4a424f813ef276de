"""`cdc tail`: events as lines, or as one JSON object a line."""

from __future__ import annotations

from typing import Any

import orjson

from cdc.commands.terminal import say
from cdc.event import RowEvent

_OPS = {"c": "insert", "r": "read", "u": "update", "d": "delete", "t": "truncate"}


def show(position: str, txn_seq: int, event: RowEvent, *, as_json: bool) -> None:
    """One event."""
    if as_json:
        say(orjson.dumps(event_record(position, txn_seq, event)).decode())
    else:
        say(event_line(position, txn_seq, event))


def event_line(position: str, txn_seq: int, event: RowEvent) -> str:
    """`#17 1:0/1A2B3C  update public.accounts {"id":1,…}`; columns that the log did not carry are left out."""
    row = event.after if event.after is not None else event.before
    unknown = event.unchanged if event.after is not None else event.before_absent
    shown = {name: value for name, value in (row or {}).items() if name not in unknown}
    text = f" {orjson.dumps(shown).decode()}" if row is not None else ""
    return f"#{txn_seq} {position}  {_OPS.get(event.op, event.op)} {event.table}{text}"


def event_record(position: str, txn_seq: int, event: RowEvent) -> dict[str, Any]:
    """The same for programs."""
    return {
        "position": position,
        "txn_seq": txn_seq,
        "ordinal": event.ordinal,
        "op": event.op,
        "table": event.table,
        "before": event.before,
        "after": event.after,
        "unchanged": event.unchanged,
        "before_absent": event.before_absent,
    }
