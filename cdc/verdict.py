"""What a comparison of source and replica came to: pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Compared:
    """One table. `keys` are some of the rows that differ."""

    table: str
    equal: bool
    source_rows: int
    target_rows: int
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`position` is the replica's. `moved`: source and replica did not show the same transactions."""

    position: str
    epoch: int
    txn_seq: int
    tables: tuple[Compared, ...]
    moved: bool
    copying: tuple[str, ...] = ()

    @property
    def result(self) -> str:
        if self.equal:
            return "EQUAL"
        return "DIFFERENT" if self.conclusive else "NOT COMPARABLE"

    @property
    def equal(self) -> bool:
        return all(table.equal for table in self.tables)

    @property
    def conclusive(self) -> bool:
        return self.equal or not (self.moved or self.copying)
