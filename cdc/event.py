"""The shape of a table and what readers are handed: pure value types.

A `Table` is what a schema record holds: enough to decode the log, to make the table elsewhere and to write its
events. Two tables of the same shape have the same `schema_id` in every run (`cdc.shape.schema_id`).
A `RowEvent` is one change as readers see it, already parsed; `ChangeTransaction` in `sinks.assemble` groups them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Engine = Literal["postgresql", "mysql", "mariadb"]
"""Whose types a table's columns have. Of a URL, `mysql` means both servers of that family: one tells which it is."""
Types = Literal["exact", "debezium"]
"""The profile of values: `exact` has a place for each that a server can hold, `debezium` is what its defaults write."""
UNAVAILABLE = "__debezium_unavailable_value"
"""Debezium's placeholder for a value the log did not carry. Our readers go by `RowEvent.unchanged` alone."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `type` names a row of the type table (`cdc.types`), `[]` behind it for an array.

    `type_expression` is the server's own words for it (`numeric(10,2)`, `public.mood`); `missing` the text that rows
    which existed before the column was added have in it, None where that is NULL. MySQL has `charset` and `collation`.
    """

    name: str
    type: str
    type_expression: str
    type_oid: int
    typmod: int
    attnum: int
    not_null: bool
    default: str | None = None
    auto_increment: bool = False
    missing: str | None = None
    enum_values: tuple[str, ...] | None = None
    charset: str | None = None
    collation: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    name: str
    columns: tuple[str, ...]
    schema: str
    table: str
    referenced: tuple[str, ...]
    on_update: str
    on_delete: str

    @property
    def parent(self) -> str:
        """Full name of the table that it refers to."""
        return f"{self.schema}.{self.table}"

    @property
    def acts(self) -> bool:
        """Whether it changes rows by itself."""
        return not {self.on_update, self.on_delete} <= {"NO ACTION", "RESTRICT"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table's shape. `replica_identity` is Postgres' letter: d(efault), f(ull), i(ndex), n(othing).

    `engine` says whose types its columns have. In MySQL and MariaDB `schema` is the database, there is no oid (0), and
    columns that are added get the table's `charset` and `collation`. `types` is the form of values in events.
    """

    schema: str
    name: str
    oid: int
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    replica_identity: str
    identity_columns: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    engine: Engine = "postgresql"
    charset: str | None = None
    collation: str | None = None
    types: Types = "exact"

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row in its events; empty for a keyless table.

        The replica identity decides (CORRECTNESS 16): under USING INDEX the log names rows by that index alone.
        """
        if self.replica_identity == "i":
            return self.identity_columns
        return self.primary_key

    @property
    def keyless(self) -> bool:
        return not self.key


class RowEvent(NamedTuple):
    """One change of one row. `before` and `after` hold JSON values as the event carries them.

    `op`: c(reate), r(ead by a base copy), u(pdate), d(elete), t(runcate). `unchanged` names the columns of `after`
    that the log did not carry, `before_absent` those of `before`.
    """

    table: str
    op: str
    ordinal: int
    schema_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    unchanged: tuple[str, ...] = ()
    before_absent: tuple[str, ...] = ()
    moved_to: Mapping[str, Any] | None = None
    moved_from: Mapping[str, Any] | None = None
