"""What a sink knows of each of its tables: the rows of `cdc_table`, in whatever transaction is open.

In: a hold. Out: shape, state and DDL under way by the source table's name, and every change of them kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from sinks.mysql.names import Place
from sinks.mysql.progress import Hold

_LOAD = "SELECT source_table, schema_id, state, copy_id, intent FROM cdc_table WHERE pipeline = %s"
_SAVE = """
INSERT INTO cdc_table (pipeline, source_table, target_table, schema_id, state, copy_id, intent)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE target_table = VALUES(target_table), schema_id = VALUES(schema_id), state = VALUES(state),
  copy_id = VALUES(copy_id), intent = VALUES(intent)
"""


@dataclass(frozen=True, slots=True)
class Intent:
    """DDL under way: where, to which shape. Once the rows are there, `drop` and `defaults` are to be settled.

    A process that begins settles before it knows any shape, so all of it stands here.
    """

    place: Place
    to: str
    drop: tuple[str, ...] = ()
    defaults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What `cdc_table` says of a table."""

    schema_id: str
    state: str
    copy_id: str | None
    intent: Intent | None = None


def load(hold: Hold) -> dict[str, Known]:
    with hold.connection.cursor() as cursor:
        cursor.execute(_LOAD, [hold.pipeline])
        return {name: _known(*row) for name, *row in cursor.fetchall()}


def places(hold: Hold) -> set[str]:
    """Where the tables are, `database.table`; known before any shape is."""
    with hold.connection.cursor() as cursor:
        cursor.execute("SELECT target_table FROM cdc_table WHERE pipeline = %s", [hold.pipeline])
        return {str(name) for (name,) in cursor.fetchall()}


def keep(hold: Hold, name: str, place: Place, known: Known) -> None:
    intent = None if known.intent is None else orjson.dumps(known.intent).decode()
    row = [hold.pipeline, name, ".".join(place), known.schema_id, known.state, known.copy_id, intent]
    with hold.connection.cursor() as cursor:
        cursor.execute(_SAVE, row)


def _known(schema_id: str, state: str, copy_id: str | None, intent: str | None) -> Known:
    if intent is None:
        return Known(schema_id, state, copy_id)
    kept: dict[str, Any] = orjson.loads(intent)
    database, table = kept["place"]
    found = Intent((database, table), kept["to"], tuple(kept["drop"]), tuple(kept["defaults"]))
    return Known(schema_id, state, copy_id, found)
