"""Records of Debezium's row topics → rows as text. Pure, but for the registry behind the decoder.

In: key and value of a record, as JSON with schema or Avro. Out: `Row`; None for a tombstone or another connector's.
Refuses, by `ValueError`: JSON without schema, a value of unknown form, a row without a key (a repeated one would be a
second row), a change outside of a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cdc.connect import Schema
from sinks.debezium.schemas import from_avro, from_json
from sinks.debezium.values import Kind, is_unavailable, kind_of
from sinks.decode import Decoder

Texts = Mapping[str, str | None]
_SNAPSHOT, _TRUNCATE = "r", "t"
_POSTGRES, _MAY_LACK = "postgresql", ("u", "c")
"""Values that were not sent: of TOAST, in an update, and in the insert that a changed key is."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as it lies in Kafka."""

    offset: int
    key: bytes | None
    value: bytes | None
    sent_ms: int
    moved: bool = False
    """Its headers say that it is a row under another key."""


@dataclass(slots=True)
class Row:
    """One change. `transaction` is "" outside of any, `columns` are all that the record describes, with their types.

    `unchanged` are those of `after` that hold what stands for a value that was not sent: in an update, and in an insert
    that is a row under another key (`moved`: its headers say so); in any other insert it is the value itself.
    `sent_ms` is when the connector sent the record, `place` where the change stands in the database's log. `done` once
    it is applied, or known to have been.
    """

    offset: int
    sent_ms: int
    place: tuple[int, ...]
    transaction: str
    order: int
    table: str
    op: str
    key: Texts
    after: Texts | None
    columns: Mapping[str, str]
    unchanged: tuple[str, ...]
    moved: bool
    bytes: int
    done: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """Of a change that was sent twice. Several may share a place: rows of one COPY, the halves of a moved key."""
        return self.table, self.op, self.place, tuple(self.key.items())


@dataclass(frozen=True, slots=True)
class _Image:
    """What the values of `before` and `after` are."""

    kinds: Mapping[str, Kind]
    types: Mapping[str, str]


class Rows:
    """Of the connector that has this prefix."""

    def __init__(self, prefix: str, decoder: Decoder) -> None:
        self._prefix, self._decoder = prefix, decoder
        self._images: dict[bytes | int, _Image] = {}

    def row(self, topic: str, partitions: int, record: Incoming) -> Row | None:
        """The next one; `partitions` is how many the topic has."""
        key, value = record.key, record.value
        if value is None:
            return None
        event = self._decoder.value(value, topic)
        source = event["source"]
        if source["name"] != self._prefix:
            return None
        op, table = event["op"], f"{source['schema'] if 'schema' in source else source['db']}.{source['table']}"
        transaction, order = _place(event["transaction"], source["connector"])
        if not transaction and op != _SNAPSHOT and (op != _TRUNCATE or partitions > 1):
            raise ValueError(_no_transaction(op, partitions))
        image = self._image(value, source["connector"], table)
        found = None if op == _TRUNCATE else self._key(topic, key, image, table)
        after = event["after"]
        unchanged: tuple[str, ...] = ()
        if after is not None and source["connector"] == _POSTGRES and op in _MAY_LACK:
            unchanged = tuple(name for name, sent in after.items() if sent is not None and is_unavailable(sent))
        texts = None if after is None else _texts(after, image, unchanged if op == "u" else ())
        return Row(
            record.offset, record.sent_ms, _log_place(source), transaction, order, table, op, found or {}, texts,
            image.types, unchanged, record.moved, len(value),
        )  # fmt: skip

    def _image(self, value: bytes, connector: str, table: str) -> _Image:
        described = self._decoder.schema(value)
        if described is None:
            raise ValueError("it is JSON without a schema: set value.converter.schemas.enable=true, or write Avro")
        mark, form = described
        image = self._images.get(mark)
        if image is None:
            schema = from_avro(form) if isinstance(mark, int) else from_json(form)
            image = self._images[mark] = _image(dict(schema.fields)["after"], connector, table)
        return image

    def _key(self, topic: str, key: bytes | None, image: _Image, table: str) -> Texts:
        if key is None:
            raise ValueError(
                f"{table} has no key, and a row that came twice would be two: name columns in message.key.columns"
            )
        found = self._decoder.value(key, topic)
        for name, value in found.items():
            if name not in image.kinds or value is None:
                raise ValueError(f"{name} of its key is no column with a value")
        return _texts(found, image, ())


def _place(block: Mapping[str, Any] | None, connector: str) -> tuple[str, int]:
    return ("", 0) if block is None else (transaction_key(block["id"], connector), block["total_order"])


def _log_place(source: Mapping[str, Any]) -> tuple[int, ...]:
    """Within one transaction, of the order of its changes."""
    return (source["lsn"] or 0,) if "lsn" in source else (source["pos"], source["row"])


def transaction_key(id_: str, connector: str | None = None) -> str:
    """What the records of one transaction have in common. On Postgres a place in its log follows the number."""
    number, colon, place = id_.partition(":")
    if connector == "postgresql" or (connector is None and colon and number.isdigit() and place.isdigit()):
        return number
    return id_


def _no_transaction(op: str, partitions: int) -> str:
    if op == _TRUNCATE:
        return (
            f"a TRUNCATE is in no transaction here, and among {partitions} partitions it has no place: give the topic "
            "one partition, or take the operation out (skipped.operations)"
        )
    return "it belongs to no transaction: set provide.transaction.metadata=true at the connector"


def _image(value: Schema, connector: str, table: str) -> _Image:
    kinds: dict[str, Kind] = {}
    for name, schema in value.fields:
        try:
            kinds[name] = kind_of(schema, connector)
        except ValueError as error:
            raise ValueError(f"column {name} of {table}: {error}") from None
    return _Image(kinds, {name: kind.type for name, kind in kinds.items()})


def _texts(values: Mapping[str, Any], image: _Image, unchanged: tuple[str, ...]) -> Texts:
    kinds = image.kinds
    return {
        name: None if value is None or name in unchanged else kinds[name].text(value) for name, value in values.items()
    }
