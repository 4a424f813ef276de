"""One archive of one source: a store, how its objects are sealed, and whose it is.

In: a URL and the archive's key (None: not encrypted). Out: objects as plain bytes, checked against what vouches for
them. Refuses: an archive of another source, a key where none was used and none where one was (ARCHIVE_KEY_…), an
object that is missing, altered or swapped (ARCHIVE_CORRUPT), a store that does not fence (STORE_UNFENCED).

Encryption fails closed: before anything else is written, an object is sealed, stored, read back raw and opened.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Iterator
from typing import Self, TypeVar

from pydantic import ValidationError

from cdc.errors import (
    ARCHIVE_CORRUPT,
    ARCHIVE_KEY_MISSING,
    ARCHIVE_KEY_UNUSED,
    ARCHIVE_MISSING,
    ARCHIVE_OF_ANOTHER,
    ARCHIVE_UNENCRYPTED,
    STORE_UNFENCED,
    CdcError,
)
from cdc.event import Engine, Table
from cdc.shape import parse_table, schema_id, table_bytes
from sinks.archive.crypt import Plain, Seal, Sealed, WrappedKey, unwrap, wrap
from sinks.archive.manifest import Encryption, Identity, Object, Placed, Stored, sha256
from sinks.archive.store import Store, open_store

IDENTITY = "archive.json"
Model = TypeVar("Model", bound=Object)
AtHome = TypeVar("AtHome", bound=Placed)


class Archive:
    """See the module. `identity` and the seal are fixed for its life."""

    def __init__(self, store: Store, identity: Identity, seal: Seal) -> None:
        self.store, self.identity, self._seal = store, identity, seal
        self._shapes: dict[str, Table] = {}

    @classmethod
    def open(cls, url: str, key: bytes | None) -> Self:
        """An archive that is there."""
        store = open_store(url)
        try:
            identity = _parsed(Identity, IDENTITY, store.get(IDENTITY))
        except FileNotFoundError:
            raise CdcError(ARCHIVE_MISSING, url=url) from None
        if identity.encryption == "none":
            if key is not None:
                raise CdcError(ARCHIVE_KEY_UNUSED, url=url)
            return cls(store, identity, Plain())
        if key is None:
            raise CdcError(ARCHIVE_KEY_MISSING, url=url)
        wrapped = [_parsed_key(name, store.get(name)) for name in store.names("keys/")]
        if not wrapped:
            raise CdcError(ARCHIVE_CORRUPT, name="keys/", problem="the archive's data keys are missing")
        wrapped.sort(key=lambda one: one.created_ms)
        data_keys = unwrap(identity.archive, key, wrapped)
        return cls(store, identity, Sealed(identity.archive, data_keys, next(reversed(data_keys))))

    @classmethod
    def open_or_make(cls, url: str, key: bytes | None, source: str, engine: Engine = "postgresql") -> Self:
        """For a writer: the archive of this source, made if it is not there; proves its fence and its seal."""
        store = open_store(url)
        try:
            store.get(IDENTITY)
        except FileNotFoundError:
            _make(store, key, source, engine)
        archive = cls.open(url, key)
        if archive.identity.source != source:
            raise CdcError(ARCHIVE_OF_ANOTHER, url=url, found=archive.identity.source, source=source)
        if archive.identity.engine != engine:
            found = f"{source} ({archive.identity.engine})"
            raise CdcError(ARCHIVE_OF_ANOTHER, url=url, found=found, source=f"{source} ({engine})")
        archive.prove()
        return archive

    def prove(self) -> None:
        """The store refuses to write over an object, and what is written as encrypted is."""
        self.store.put("fence", io.BytesIO(b"this"))
        if self.store.put_new("fence", b"not this"):
            raise CdcError(STORE_UNFENCED, url=self.store.url)
        if self.identity.encryption == "none":
            return
        name, plain = "probe", b"\0" * 64
        self.put(name, plain)
        stored = self.store.get(name)
        if plain in stored or self._seal.open(name, stored) != plain:
            raise CdcError(ARCHIVE_UNENCRYPTED, url=self.store.url)

    # -- writing --
    def put(self, name: str, data: bytes) -> Stored:
        """Write or replace."""
        stored = self._seal.seal(name, data)
        self.store.put(name, io.BytesIO(stored))
        return Stored(name=name, size=len(stored), sha256=sha256(stored))

    def put_new(self, name: str, data: bytes) -> Stored | None:
        """Write if nothing is there; None: something else is."""
        stored = self._seal.seal(name, data)
        if not self.store.put_new(name, stored):
            return None
        return Stored(name=name, size=len(stored), sha256=sha256(stored))

    def put_shape(self, table: Table) -> str:
        """Once per shape and process; whoever wrote it first wrote the same."""
        found = schema_id(table)
        if found not in self._shapes:
            self.put(_shape_name(found), table_bytes(table))
            self._shapes[found] = table
        return found

    @property
    def seal(self) -> Seal:
        return self._seal

    # -- reading --
    def get(self, name: str) -> bytes:
        """An object's plain bytes; nothing but its seal vouches for it."""
        return self._seal.open(name, self.raw(name))

    def raw(self, name: str) -> bytes:
        """As it is stored."""
        try:
            return self.store.get(name)
        except FileNotFoundError:
            raise CdcError(ARCHIVE_CORRUPT, name=name, problem="it is missing") from None

    def vouched(self, stored: Stored) -> bytes:
        """An object's plain bytes, which are those that a manifest names."""
        raw = self.raw(stored.name)
        if not stored.holds(raw):
            problem = f"it is not what its manifest names: {_sizes(stored, raw)}"
            raise CdcError(ARCHIVE_CORRUPT, name=stored.name, problem=problem)
        return self._seal.open(stored.name, raw)

    def vouched_as(self, model: type[Model], stored: Stored) -> Model:
        """The same, as what it says."""
        return _parsed(model, stored.name, self.vouched(stored))

    def read(self, model: type[AtHome], name: str) -> AtHome:
        """An object that says what the archive holds; it is not another, put in its place."""
        return self.placed(model, name, self.raw(name))

    def placed(self, model: type[AtHome], name: str, raw: bytes) -> AtHome:
        """The same, of its stored bytes."""
        found = self.parsed(model, name, raw)
        if (found.archive, found.name) != (self.identity.archive, name):
            problem = f"it is {found.name} of archive {found.archive}, put in another's place"
            raise CdcError(ARCHIVE_CORRUPT, name=name, problem=problem)
        return found

    def parsed(self, model: type[Model], name: str, raw: bytes) -> Model:
        """Of its stored bytes."""
        return _parsed(model, name, self._seal.open(name, raw))

    def shape(self, wanted: str) -> Table:
        if wanted not in self._shapes:
            name = _shape_name(wanted)
            try:
                table = parse_table(self.get(name))
            except ValueError as error:
                raise CdcError(ARCHIVE_CORRUPT, name=name, problem=error) from None
            if schema_id(table) != wanted:
                raise CdcError(ARCHIVE_CORRUPT, name=name, problem="it does not match its own hash")
            self._shapes[wanted] = table
        return self._shapes[wanted]

    def names(self, prefix: str, *, after: str = "") -> Iterator[str]:
        return self.store.names(prefix, after=after)

    def base_names(self, epoch: int | None = None) -> list[str]:
        """Of the bases' manifests, oldest first; of one epoch or of all. Their files lie beside them."""
        names = self.names("base/" if epoch is None else f"base/{epoch:020d}/")
        return [name for name in names if name.endswith(".json") and not name.startswith("base/files/")]


def _make(store: Store, key: bytes | None, source: str, engine: Engine) -> None:
    """Identity last: an archive that has one is complete. Of two that make it, one stands; the other reads it."""
    encryption: Encryption = "none" if key is None else "aes-256-gcm"
    identity = Identity(
        archive=secrets.token_hex(8), source=source, engine=engine, encryption=encryption,
        created_ms=time.time_ns() // 1_000_000,
    )  # fmt: skip
    if key is not None:
        wrapped = wrap(identity.archive, key, secrets.token_bytes(32), identity.created_ms)
        store.put(f"keys/{wrapped.key}.json", io.BytesIO(wrapped.model_dump_json().encode()))
    store.put_new(IDENTITY, identity.to_bytes())


def _shape_name(wanted: str) -> str:
    return f"shape/{wanted}.json"


def _parsed(model: type[Model], name: str, data: bytes) -> Model:
    try:
        return model.parse(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CdcError(ARCHIVE_CORRUPT, name=name, problem=f"{where or 'it'}: {first['msg']}") from None
    except ValueError as error:
        raise CdcError(ARCHIVE_CORRUPT, name=name, problem=error) from None


def _parsed_key(name: str, data: bytes) -> WrappedKey:
    try:
        return WrappedKey.model_validate_json(data)
    except ValidationError:
        raise CdcError(ARCHIVE_CORRUPT, name=name, problem="it is not a wrapped key") from None


def _sizes(stored: Stored, raw: bytes) -> str:
    if len(raw) != stored.size:
        return f"{len(raw)} bytes instead of {stored.size}"
    return "its bytes were altered or replaced"
