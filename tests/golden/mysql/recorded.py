"""What `record` wrote, for tests without a server."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdc.event import Column, Table
from cdc.mysql import wire
from cdc.mysql.tables import Definition, column_of
from cdc.mysql.wire import Header, parse_event

_WRITTEN: dict[str, Any] = json.loads((Path(__file__).parent / "mysql-8.0.31.json").read_text())


@dataclass(frozen=True)
class RecordedType:
    """A type's column, the source texts of its values in order, and the events that carry them."""

    declared: str
    column: Column
    texts: list[bytes | None]
    table_map: bytes
    rows: bytes

    def table(self) -> Table:
        number = column_of(Definition("id", "int", not_null=True), 1)
        return Table("golden", "t", 0, (number, self.column), ("id",), "d", (), engine="mysql")

    def bodies(self) -> tuple[bytes, Header, bytes]:
        header, rows = parse_event(self.rows, checksum=True)
        return parse_event(self.table_map, checksum=True)[1], header, rows


def _type(declared: str, written: dict[str, Any]) -> RecordedType:
    expression, charset, collation = written["column"]
    column = column_of(Definition("v", expression, not_null=False, charset=charset, collation=collation), 2)
    texts = [None if text is None else text.encode() for text in written["text"]]
    return RecordedType(declared, column, texts, *map(bytes.fromhex, written["events"]))


TYPES = [_type(declared, written) for declared, written in _WRITTEN["types"].items()]
STREAM = [bytes.fromhex(data) for data in _WRITTEN["stream"]]


def stream() -> list[tuple[Header, bytes]]:
    """All events of the stream but the first, the compressed ones too, header and body."""
    events = []
    for data in STREAM[1:]:
        header, body = parse_event(data, checksum=True)
        events.append((header, body))
        if header.type == wire.TRANSACTION_PAYLOAD:
            events += wire.parse_payload(body)
    return events
