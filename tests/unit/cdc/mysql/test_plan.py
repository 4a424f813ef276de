"""One pass over the bytes writes what the way by source text writes, and accepts nothing that it would refuse."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.avro_format import AvroFormat
from cdc.envelope import Described, Format, TableFormat
from cdc.event import Column, Types
from cdc.json_format import JSON
from cdc.mysql import plan, tablemap
from cdc.mysql.carried import encode
from cdc.mysql.plan import NOT_PLAIN, Plan
from cdc.mysql.rows import parse_rows, whole_heads
from cdc.mysql.tablemap import MappedColumn, cell
from cdc.mysql.tables import Definition, column_of
from cdc.mysql.wire import WRITE_ROWS
from tests.golden.mysql.recorded import TYPES, RecordedType

Bytes = st.SearchStrategy[bytes]


def number(size: int) -> Bytes:
    return st.binary(min_size=size, max_size=size)


def finite(code: str) -> Bytes:
    return st.floats(allow_nan=False, allow_infinity=False, width=32 if code == "f" else 64).map(
        lambda value: struct.pack(f"<{code}", value)
    )


def decimals(precision: int, scale: int) -> Bytes:
    """Digits → the server's bytes, written here once more: groups of nine, sign bit flipped, negatives inverted."""

    def pack(value: int) -> bytes:
        digits = f"{abs(value):0{precision}d}"
        whole, fraction = digits[: precision - scale], digits[precision - scale :]
        sizes = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
        head = len(whole) % 9
        groups = [whole[:head], *(whole[at : at + 9] for at in range(head, len(whole), 9))]
        groups += [fraction[at : at + 9] for at in range(0, scale, 9)]
        packed = b"".join(int(group).to_bytes(sizes[len(group)], "big") for group in groups if group)
        packed = bytes([packed[0] ^ 0x80]) + packed[1:]
        return bytes(byte ^ 0xFF for byte in packed) if value < 0 else packed

    return st.integers(-(10**precision) + 1, 10**precision - 1).map(pack)


def clocks(digits: int) -> st.SearchStrategy[tuple[int, bytes]]:
    """Packed time of day and bytes of its fraction."""
    size = (digits + 1) // 2
    fraction = st.integers(0, 10**digits - 1).map(lambda f: (f * 10 ** (2 * size - digits)).to_bytes(size, "big"))
    clock = st.builds(lambda h, m, s: h << 12 | m << 6 | s, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
    return st.tuples(clock, fraction)


def datetimes(digits: int) -> Bytes:
    days = st.builds(
        lambda y, m, d: (y * 13 + m) << 5 | d, st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31)
    )
    return st.builds(
        lambda day, clock: ((day << 17 | clock[0]) + 0x8000000000).to_bytes(5, "big") + clock[1], days, clocks(digits)
    )


def timestamps(digits: int) -> Bytes:
    seconds = st.one_of(st.just(0), st.integers(0, 2**31 - 1)).map(lambda s: s.to_bytes(4, "big"))
    return st.builds(lambda second, clock: second + clock[1], seconds, clocks(digits))


def times(digits: int) -> Bytes:
    size = (digits + 1) // 2
    hours = st.integers(0, 838)

    def pack(hour: int, clock: tuple[int, bytes], negative: bool) -> bytes:  # noqa: FBT001 - drawn
        packed = int.from_bytes(((hour << 12) | clock[0] & 0xFFF).to_bytes(3, "big") + clock[1], "big")
        zero = 0x800000 << 8 * size
        return (zero - packed if negative else zero + packed).to_bytes(3 + size, "big")

    return st.builds(pack, hours, clocks(digits), st.booleans())


def dates() -> Bytes:
    return st.builds(
        lambda y, m, d: (y << 9 | m << 5 | d).to_bytes(3, "little"),
        st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31),
    )  # fmt: skip


def counted(prefix: int, values: Bytes) -> Bytes:
    return values.map(lambda value: len(value).to_bytes(prefix, "little") + value)


def texts(codec: str, longest: int = 60) -> Bytes:
    characters = st.characters(exclude_categories=["Cs"], max_codepoint={"ascii": 127, "latin-1": 127}.get(codec))
    return st.text(characters, max_size=longest // 4).map(lambda text: text.encode(codec))


LABELS = ("a", 'b"', "é")
KINDS: dict[str, Bytes] = {
    "tinyint": number(1),
    "tinyint unsigned": number(1),
    "smallint": number(2),
    "smallint unsigned": number(2),
    "mediumint": number(3),
    "mediumint unsigned": number(3),
    "int": number(4),
    "int unsigned": number(4),
    "bigint": number(8),
    "bigint unsigned": number(8),
    "float": finite("f"),
    "double": finite("d"),
    **{f"decimal({p},{s})": decimals(p, s) for p, s in [(1, 0), (1, 1), (10, 2), (9, 9), (18, 9), (20, 0), (65, 30)]},
    "bit(1)": st.sampled_from([b"\0", b"\1"]),
    "bit(8)": number(1),
    "bit(64)": number(8),
    "year": number(1),
    "date": dates(),
    **{f"datetime({digits})": datetimes(digits) for digits in range(7)},
    **{f"timestamp({digits})": timestamps(digits) for digits in range(7)},
    **{f"time({digits})": times(digits) for digits in range(7)},
    "char(15)": counted(1, texts("utf-8")),
    "varchar(300)": counted(2, texts("utf-8")),
    "varchar(16)|latin1": counted(1, st.binary(max_size=16)),
    "varchar(15)|ascii": counted(1, texts("ascii")),
    "varchar(15)|utf16": counted(1, texts("utf-16-be")),
    "varchar(15)|utf32": counted(1, texts("utf-32-be")),
    "tinytext": counted(1, texts("utf-8")),
    "text|utf16le": counted(2, texts("utf-16-le")),
    "mediumtext": counted(3, texts("utf-8")),
    "longtext": counted(4, texts("utf-8")),
    "binary(9)": counted(1, st.binary(max_size=9)),
    "varbinary(300)": counted(2, st.binary(max_size=300)),
    "blob": counted(2, st.binary(max_size=300)),
    "enum('a','b\"','é')": st.integers(0, 3).map(lambda at: bytes([at])),
    "set('a','b\"','é')": st.integers(0, 7).map(lambda bits: bytes([bits])),
}
COLLATIONS = {"latin1": 8, "ascii": 11, "utf16": 54, "utf16le": 56, "utf32": 60}


def shapes(kind: str, at: int) -> tuple[Column, MappedColumn]:
    """A column by its type, with its character set behind a bar, as the shape and as TABLE_MAP have it."""
    expression, _, charset = kind.partition("|")
    column = column_of(Definition(f'c%"{at}', expression, not_null=False, charset=charset or "utf8mb4"), at + 1)
    binary = "binary" in expression or "blob" in expression
    labels = tuple(label.encode() for label in column.enum_values) if column.enum_values else None
    mapped = MappedColumn(
        column.type_oid, column.typmod, nullable=True, unsigned="unsigned" in expression,
        collation=63 if binary else COLLATIONS.get(charset, 255), labels=labels,
    )  # fmt: skip
    return column, mapped


def body(images: Sequence[tuple[bytes, bytes]], columns: int) -> bytes:
    """A WRITE_ROWS of whole images: NULLs and values."""
    return bytes(8) + b"\2\0" + whole_heads(WRITE_ROWS, columns)[0] + b"".join(n + v for n, v in images)


AVRO = AvroFormat(lambda *_: 7)
Way = tuple[Format, Types]
WAYS: dict[str, Way] = {
    "JSON": (JSON, "exact"),
    "JSON, Debezium's types": (JSON, "debezium"),
    "Avro": (AVRO, "exact"),
    "Avro, Debezium's types": (AVRO, "debezium"),
}
of_each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
EXACT = WAYS["JSON"]


def form_of(columns: Sequence[Column], key: Sequence[int], way: Way) -> TableFormat:
    carried = tuple(encode(column, way[1]) for column in columns)
    return way[0].table(Described("s.d.t", "d.t", "5" * 16, "t", carried, tuple(key), "Source", lambda _: ()))


def by_text(
    columns: Sequence[Column], mapped: Sequence[MappedColumn], key: Sequence[int], data: bytes, way: Way = EXACT
) -> list[Any]:
    form = form_of(columns, key, way)
    row_of, key_of = form.row(), form.key_of(form.key) if key else lambda _: None
    rows = [after for _, after in parse_rows(WRITE_ROWS, data, [cell(column) for column in mapped])]
    return [(key_of(row), row_of(row)) for row in rows if row is not None]


def plan_of(columns: Sequence[Column], mapped: Sequence[MappedColumn], key: Sequence[int], way: Way = EXACT) -> Plan:
    return Plan(form_of(columns, key, way), mapped, exact=way[1] == "exact")


def by_plan(
    columns: Sequence[Column], mapped: Sequence[MappedColumn], key: Sequence[int], data: bytes, way: Way = EXACT
) -> list[Any]:
    planned = plan_of(columns, mapped, key, way)
    size = (len(columns) + 7) // 8
    at, written = 11 + size, []
    while at < len(data):
        nulls = data[at : at + size]
        at, of_key, image = (planned.functions.get(nulls) or planned.function(nulls))(data, at + size)
        written.append((of_key, image))
    assert at == len(data)
    return written


def both(columns: Sequence[Column], mapped: Sequence[MappedColumn], key: Sequence[int], data: bytes, way: Way) -> Any:
    """What both ways write, which is the same; None where both refuse a value that the profile cannot hold."""
    try:
        expected = by_text(columns, mapped, key, data, way)
    except ValueError:
        if way[1] == "exact":
            raise
        with pytest.raises(ValueError, match=r"\w"):
            by_plan(columns, mapped, key, data, way)
        return None
    assert by_plan(columns, mapped, key, data, way) == expected
    return expected


@of_each_way
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_random_tables_and_rows(way: Way, data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=12))
    columns, mapped = zip(*(shapes(kind, at) for at, kind in enumerate(kinds)), strict=True)
    key = data.draw(st.lists(st.sampled_from(range(len(kinds))), unique=True, max_size=3))
    images = []
    for _ in range(data.draw(st.integers(1, 4))):
        bits = sum(1 << at for at in range(len(kinds)) if at not in key and data.draw(st.booleans()))
        values = [data.draw(KINDS[kind]) for at, kind in enumerate(kinds) if not bits >> at & 1]
        images.append((bits.to_bytes((len(kinds) + 7) // 8, "little"), b"".join(values)))
    event = body(images, len(kinds))
    for _, image in both(columns, mapped, key, event, way) or ():
        if way[0] is JSON:
            assert list(orjson.loads(image)) == [column.name for column in columns]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_random_values_of_each_type(kind: str, data: st.DataObject) -> None:
    column, mapped = shapes(kind, 0)
    images = [(b"\0", value) for value in data.draw(st.lists(KINDS[kind], min_size=1))]
    for way in WAYS.values():
        both([column], [mapped], [0], body(images, 1), way)


@pytest.mark.parametrize("recorded", TYPES, ids=lambda r: r.declared)
def test_what_a_server_wrote(recorded: RecordedType) -> None:
    table_map, _, event = recorded.bodies()
    mapped = tablemap.parse_table_map(table_map).columns
    columns = recorded.table().columns
    for way in WAYS.values():
        both(columns, mapped, [0], event, way)


def test_beyond_the_limit_images_are_read_by_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_COMPILED", 1)
    kinds = ["int", "varchar(300)", "double", "bigint unsigned", "decimal(10,2)"]
    columns, mapped = zip(*(shapes(kind, at) for at, kind in enumerate(kinds)), strict=True)
    value = [b"\1\0\0\0", b"\1\0x", struct.pack("<d", 0.5), bytes(8), bytes.fromhex("8000000000")]
    images = []
    for bits in range(0, 32, 2):
        nulls = bytes([bits])
        images.append((nulls, b"".join(v for at, v in enumerate(value) if not bits >> at & 1)))
    event = body(images, 5)
    assert by_plan(columns, mapped, [0], event) == by_text(columns, mapped, [0], event)
    planned = plan_of(columns, mapped, [0])
    for nulls, _ in images:
        planned.function(nulls)
    assert len(planned.functions) == 1


def declined(kind: str, value: bytes) -> bool:
    column, mapped = shapes(kind, 0)
    refused = []
    ways: list[Callable[..., object]] = [by_plan, by_text]
    for way in ways:
        try:
            way([column], [mapped], [], body([(b"\0", value)], 1))
        except NOT_PLAIN:
            refused.append(way)
    assert len(refused) in (0, 2)
    return bool(refused)


def test_values_that_no_column_has_are_declined() -> None:
    assert declined("double", struct.pack("<d", float("inf")))
    assert declined("float", struct.pack("<f", float("nan")))
    assert declined("datetime(0)", bytes(5))
    assert declined("datetime(6)", bytes(8))
    assert declined("enum('a','b\"','é')", b"\4")
    assert declined("set('a','b\"','é')", b"\x08")
    assert declined("varchar(300)", b"\1\0\xff")
    assert declined("varchar(15)|ascii", b"\1\xff")
    assert declined("varchar(15)|utf16", b"\2\xd8\x00")
    assert not declined("varchar(300)", b"\1\0x")
