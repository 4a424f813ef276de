"""The objects that say what an archive holds: pure values, their JSON, their names.

In: JSON of an object of the archive. Out: `Identity`, `Segment`, `Head`, `Base`, `Anchor`, `RestoreRecord`. Refuses:
what is not of that form, and an unknown version, by `ValueError`. Unknown fields are skipped. docs/ARCHIVE_FORMAT.md
tells the same for people.

    archive.json                                   whose archive this is, and whether it is encrypted
    keys/<id>.json                                 data keys, sealed by the archive's key
    shape/<schema id>.json                         a table's shape; its id is its hash
    log/<epoch>/<first seq>.json                   a segment's manifest: the one object that two writers fight over
    body/<epoch>/<first seq>-<id>.rows.parquet     its rows
    body/<epoch>/<first seq>-<id>.txns.parquet     its transactions
    head.json                                      the newest segment, and up to when nothing came after it; replaced
    base/<epoch>/<seq>-<id>.json                   a base's manifest, written when all its files are there
    base/files/<id>/<n>.parquet                    its tables' rows; <n> counts from 000001 through the whole base
    base/files/<id>/schema.json                    the database's schema, in entries (dump.py)
    anchor/<timeline>/<number>-<id>.json           digests taken on the source; its position's LSN, or count of GTIDs
    restore/<id>.json                              what a restore gave, to be proven later
    fence, probe                                   what a writer tries the store with when it starts

Numbers in names have 20 digits, so that names sort as numbers do. `<id>` is random, a base's
behind the time it was begun: a name is never written twice, and the last base by name is the newest.
"""

from __future__ import annotations

import hashlib
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from cdc.event import Engine
from cdc.position import parse_position

Encryption = Literal["aes-256-gcm", "none"]
Verdict = Literal["PROVEN", "VERIFIED", "FAILED"]
Digests = dict[str, tuple[int, int, int]]
"""By bucket, two hex digits: rows, and two sums of hashes (sinks/digest.py)."""


class Object(BaseModel):
    """What the objects have in common."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    v: Literal[1] = 1

    def to_bytes(self) -> bytes:
        """JSON, its last field the hash of what it is without it: nothing else vouches for some objects."""
        text = self.model_dump_json(exclude_defaults=False).encode()
        return text[:-1] + b',"sum":"' + sha256(text).encode() + b'"}'

    @classmethod
    def parse(cls, data: bytes) -> Self:
        found, (text, mark, sum_) = cls.model_validate_json(data), data.rpartition(b',"sum":"')
        if mark and sum_ != sha256(text + b"}").encode() + b'"}':
            raise ValueError("it was altered: its sum is another")
        return found


class Placed(Object):
    """What says itself where it belongs."""

    archive: str

    @property
    def name(self) -> str:
        raise NotImplementedError


class Identity(Object):
    """`archive.json`. It is not encrypted; `archive` is part of every other object's seal."""

    archive: str = Field(pattern=r"^[0-9a-f]{16}$")
    source: str
    engine: Engine
    encryption: Encryption
    created_ms: int


class Stored(BaseModel):
    """An object that a manifest vouches for. `size` and `sha256` are those of what is stored."""

    model_config = ConfigDict(frozen=True)
    name: str
    size: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    def holds(self, stored: bytes) -> bool:
        return len(stored) == self.size and sha256(stored) == self.sha256


class Link(BaseModel):
    """The manifest before this one."""

    model_config = ConfigDict(frozen=True)
    name: str
    sha256: str


class TableRows(BaseModel):
    """A table in a segment. `first` and `last` are the numbers of transactions that changed it."""

    model_config = ConfigDict(frozen=True)
    rows: int
    first: int
    last: int
    schemas: tuple[str, ...]


class SchemaChange(BaseModel):
    """A change of shape or state, of transaction `seq`, that holds after its row `at`.

    `effect` is that of `cdc.log.Change`; `truncate` for TRUNCATE, `copied` where a table's base copy closes.
    """

    model_config = ConfigDict(frozen=True)
    seq: int
    at: int
    table: str
    effect: str
    old: str | None = None
    new: str | None = None
    copy_id: str | None = None


class Segment(Placed):
    """Whole transactions `first_seq` to `last_seq` of one epoch. Times are µs since 1970, by the source's clock."""

    kind: Literal["segment"] = "segment"
    epoch: int
    first_seq: int
    last_seq: int
    run: str
    prev_position: str | None
    position: str
    log_offset: int
    events: int
    min_commit_us: int | None
    max_commit_us: int | None
    running_max_us: int | None
    """The latest commit time of this segment and all before it in its epoch."""
    commit_us: int | None
    """Of its last transaction that has one."""
    system_id: str | None = None
    database: str | None = None
    """Of the source, where the archiver saw the run begin."""
    opened: str | None = None
    """Why its epoch began, in the first segment of an epoch: first, copy_again, adopt."""
    tables: dict[str, TableRows]
    changes: tuple[SchemaChange, ...] = ()
    sequences: dict[str, int] = {}
    """Sampled since the segment before it: the last value of those that moved."""
    rows: Stored | None
    transactions: Stored
    previous: Link | None

    @property
    def name(self) -> str:
        return segment_name(self.epoch, self.first_seq)


class Head(Object):
    """Up to where the log is archived. Between its last segment and `position` the source committed nothing."""

    segment: str
    sha256: str
    epoch: int
    txn_seq: int
    run: str
    position: str
    log_offset: int
    commit_us: int | None
    written_ms: int
    sequences: dict[str, int] = {}
    """Sampled since its segment."""
    writer: str = ""
    """The process that wrote it; so two that find nothing to write notice each other."""


class BaseTable(BaseModel):
    """A table in a base."""

    model_config = ConfigDict(frozen=True)
    schema_id: str
    rows: int
    digests: Digests
    files: tuple[Stored, ...]


class Base(Placed):
    """All rows as they stood behind transaction `txn_seq`, and the database's schema."""

    kind: Literal["base"] = "base"
    id: str
    taken_from: str
    """`source`, or the sink's name."""
    server_version: int
    """Its parts as two digits each, 80031; Postgres' as it numbers itself."""
    epoch: int
    txn_seq: int
    position: str
    commit_us: int | None
    started_ms: int
    finished_ms: int
    tables: dict[str, BaseTable]
    schema_file: Stored
    sequences: dict[str, tuple[int, bool]]
    """`last_value` and `is_called`; of MySQL's tables the next number, which is not given yet."""
    not_covered: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"base/{self.epoch:020d}/{self.txn_seq:020d}-{self.id}.json"


class AnchorTable(BaseModel):
    """A table in an anchor."""

    model_config = ConfigDict(frozen=True)
    schema_id: str
    digests: Digests


class Anchor(Placed):
    """What the source itself held at `position`, by SQL under that position's snapshot: digests, no rows.

    It carries no transaction's number: the archive tells which one its position follows. Positions of two systems
    cannot be compared, and two databases of one system hold different rows, so it names its own.
    """

    kind: Literal["anchor"] = "anchor"
    id: str
    system_id: str
    database: str
    position: str
    taken_ms: int
    tables: dict[str, AnchorTable]

    @property
    def name(self) -> str:
        at = parse_position(self.position)
        return f"anchor/{at.timeline:020d}/{at.number:020d}-{self.id}.json"


class RestoredTable(BaseModel):
    """A table that was restored. `place` is where on the target."""

    model_config = ConfigDict(frozen=True)
    place: str
    schema_id: str
    rows: int
    digests: Digests


class RestoreRecord(Placed):
    """A restore that was carried out: what it gave, so that it can be proven later. `base`: the manifest's name."""

    kind: Literal["restore"] = "restore"
    id: str
    epoch: int
    txn_seq: int
    base: str | None
    finished_ms: int
    verdict: Verdict
    tables: dict[str, RestoredTable]

    @property
    def name(self) -> str:
        return f"restore/{self.id}.json"


def segment_name(epoch: int, first_seq: int) -> str:
    return f"log/{epoch:020d}/{first_seq:020d}.json"


def body_name(epoch: int, first_seq: int, body_id: str, what: str) -> str:
    return f"body/{epoch:020d}/{first_seq:020d}-{body_id}.{what}.parquet"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
