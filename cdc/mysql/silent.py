"""Events of the binary log that stand around rows: which are passed over, and why the others stop the stream. Pure.

In: the header of an event that is neither rows nor a transaction's frame. Out: None, or what is wrong (`unreadable`).
"""

from __future__ import annotations

from cdc.mysql import mariadb, wire
from cdc.mysql.wire import Header

_SILENT = frozenset({
    wire.STOP, wire.INTVAR, wire.RAND, wire.USER_VAR, wire.HEARTBEAT, wire.IGNORABLE, wire.ROWS_QUERY,
    wire.PREVIOUS_GTIDS, wire.TRANSACTION_CONTEXT, wire.VIEW_CHANGE, wire.HEARTBEAT_V2, *mariadb.SILENT,
})  # fmt: skip
"""What stands around rows and says nothing of them. Of a statement and what it needs, the statement is refused."""
_IGNORABLE = 0x80
_UNREADABLE = {
    wire.ANONYMOUS_GTID: "a transaction without GTID: gtid_mode was not ON",
    wire.GTID_TAGGED: "a tagged GTID, which is not read yet",
    wire.INCIDENT: "the server lost changes before they came into its log",
    mariadb.START_ENCRYPTION: "the log is encrypted (encrypt_binlog), and the server did not decrypt it",
}


def unreadable(header: Header) -> str | None:
    """Why what follows cannot be told any more; None for an event that says nothing of rows."""
    if header.type in _UNREADABLE:
        return _UNREADABLE[header.type]
    if header.type in _SILENT or header.flags & _IGNORABLE:
        return None
    return "this version does not know it, and it may carry rows"
