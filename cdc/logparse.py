"""The records of the commit log, from their bytes. Pure; the twin of `cdc.log`, which writes them.

In: values of topic `<prefix>.transaction`. Out: `Start`, `End`; None for what a Debezium wrote there. Refuses: JSON
that is not such a record, and an unknown `v`, `status`, `kind` or `effect`, by `ValueError` that names it. Unknown
fields are skipped.
"""

from __future__ import annotations

from typing import Any

import orjson

from cdc.log import VERSION, Change, Chunk, End, Gap, Identity, Opened, Span, Start

_NOT_OURS = b"\x00", b'{"schema":'
"""So begin Avro, and Connect's JSON with its schema: the log is plain JSON."""
KINDS = frozenset({"data", "schema", "snapshot", "heartbeat"})
EFFECTS = frozenset({"create", "add_column", "drop_column", "recreate", "drop", "copying"})


def parse(value: bytes) -> Start | End | None:
    """A record of the log topic. None for what Debezium wrote there; `ValueError` names what is wrong.

    A topic that was taken over from it begins with its BEGINs and ENDs, which have no version.
    """
    if value.startswith(_NOT_OURS):
        return None
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - bytes of a peer, not an argument of the wrong type
    status = record.get("status")
    if status == "BEGIN" or (status == "END" and not {"v", "run"} & record.keys()):
        return None
    if status not in ("START", "END"):
        raise ValueError(f"unknown status {status!r}")
    if record.get("v") != VERSION:
        raise ValueError(f"unknown version v = {record.get('v')!r}, this process reads {VERSION}")
    try:
        return _parse_end(record) if status == "END" else _parse_start(record)
    except KeyError as missing:
        raise ValueError(f"field {missing} is missing from {status} {record.get('id')!r}") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a field of {status} {record.get('id')!r} has the wrong type: {error}") from None


def _parse_start(record: dict[str, Any]) -> Start:
    source, opened = record["source"], record.get("opened")
    return Start(
        run=_text(record, "run"),
        epoch=_number(record, "epoch"),
        source=Identity(
            _text(source, "connector"),
            _text(source, "system_id"),
            _number(source, "timeline"),
            _text(source, "database"),
            _text(source, "slot"),
        ),
        publication=_text(record, "publication"),
        copy=_text(record, "copy"),
        cluster_id=_text(record, "cluster_id"),
        ts_ms=_number(record, "ts_ms"),
        opened=Opened(_text(opened, "reason"), opened["from"]) if opened else None,
        gaps=tuple(
            Gap(_text(g, "kind"), g["from"], g["to"], tuple(g["tables"]), _text(g, "accepted_by"))
            for g in record.get("gaps", ())
        ),
    )


def _parse_end(record: dict[str, Any]) -> End:
    kind, copy = record["kind"], record.get("copy")
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}")
    return End(
        id=_text(record, "id"),
        event_count=_number(record, "event_count"),
        data_collections=tuple((d["data_collection"], d["event_count"]) for d in record["data_collections"]),
        ts_ms=_number(record, "ts_ms"),
        kind=kind,
        run=_text(record, "run"),
        epoch=_number(record, "epoch"),
        txn_seq=_number(record, "txn_seq"),
        position=_text(record, "position"),
        prev_position=record["prev_position"],
        commit_ts_us=record.get("commit_ts_us"),
        xid=record.get("xid"),
        origin=record.get("origin"),
        offsets=tuple(Span(*span) for span in record.get("offsets", ())),
        schemas=tuple((schema_id, offset) for schema_id, offset in record.get("schemas", ())),
        changes=tuple(_parse_change(change) for change in record.get("changes", ())),
        copy=_parse_chunk(copy) if copy else None,
        publication=record.get("publication"),
        sequences=tuple(record.get("sequences", {}).items()),
    )


def _parse_change(record: dict[str, Any]) -> Change:
    if record["effect"] not in EFFECTS:
        raise ValueError(f"unknown effect {record['effect']!r}")
    return Change(
        _number(record, "at"),
        _text(record, "table"),
        record["old"],
        record["new"],
        record["effect"],
        record.get("copy_id"),
    )


def _parse_chunk(record: dict[str, Any]) -> Chunk:
    return Chunk(
        id=_text(record, "id"),
        table=_text(record, "table"),
        chunk=_number(record, "chunk"),
        from_=None if record["from"] is None else tuple(record["from"]),
        to=None if record["to"] is None else tuple(record["to"]),
        snapshot_position=_text(record, "snapshot_position"),
        last=bool(record["last"]),
    )


def _text(record: dict[str, Any], name: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a text: {value!r}")
    return value


def _number(record: dict[str, Any], name: str) -> int:
    value = record[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is not a whole number: {value!r}")
    return value
