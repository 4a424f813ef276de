"""Events that only MariaDB writes: bodies as a 10.11 wrote them, and what of them is refused."""

import zlib
from itertools import chain

import pytest

from cdc.connect import as_json
from cdc.decoded import Captured, Transaction
from cdc.errors import CORRUPT_WIRE, EVENT_UNSUPPORTED, CdcError, Code
from cdc.event import Engine, Table
from cdc.mysql import mariadb, wire
from cdc.mysql.carried import encode
from cdc.mysql.cells import inet4_text, inet6_text, uuid_text
from cdc.mysql.ddl import UnfollowableError, effects
from cdc.mysql.decode import Decoder, Surroundings
from cdc.mysql.dialect import MARIADB, MYSQL, Dialect, dialect_of, version_number
from cdc.mysql.mariadb import Flags, as_mysql, parse_gtid
from cdc.mysql.statements import EVERY, Altered, RowsChanged, Stopping, Truncated, is_told, read_statement
from cdc.mysql.tables import Definition, column_of, plain_type, table_of
from cdc.mysql.wire import Header, parse_query
from cdc.position import DomainPosition
from cdc.rowevents import RunFacts

INSERT = bytes.fromhex("1a0000000000010002 03fc010000000a0061616161616161616161".replace(" ", ""))
V2 = INSERT[:8] + b"\2\0" + INSERT[8:]
UPDATE = bytes.fromhex("1a0000000000010002 0303 fc010000000100 61 fc010000000100 7a".replace(" ", ""))
XID = (76).to_bytes(8, "little")


def header(kind: int, size: int = 60) -> Header:
    return Header(1_700_000_000, kind, 7, size, 1000, 0)


def packed(data: bytes, *, head: int = 0x81, length: int | None = None) -> bytes:
    return bytes([head, len(data) if length is None else length]) + zlib.compress(data)


@pytest.mark.parametrize(
    ("kind", "body", "as_kind", "as_body"),
    [
        (23, INSERT, wire.WRITE_ROWS, V2),
        (25, INSERT, wire.DELETE_ROWS, V2),
        (24, UPDATE, wire.UPDATE_ROWS, UPDATE[:8] + b"\2\0" + UPDATE[8:]),
        (166, INSERT[:10] + packed(INSERT[10:]), wire.WRITE_ROWS, V2),
        (168, INSERT[:10] + packed(INSERT[10:]), wire.DELETE_ROWS, V2),
        (167, UPDATE[:11] + packed(UPDATE[11:]), wire.UPDATE_ROWS, UPDATE[:8] + b"\2\0" + UPDATE[8:]),
        (169, V2[:12] + packed(V2[12:]), wire.WRITE_ROWS, V2),
    ],
)
def test_rows_come_in_mysqls_form(kind: int, body: bytes, as_kind: int, as_body: bytes) -> None:
    found, rewritten = as_mysql(header(kind), body)
    assert (found.type, rewritten) == (as_kind, as_body)


def test_a_compressed_statement() -> None:
    text = b"ALTER TABLE t COMMENT 'x'"
    fixed = (11).to_bytes(4, "little") + bytes(4) + b"\1" + bytes(2) + bytes(2)
    found, body = as_mysql(header(165), fixed + b"d\0" + packed(text))
    assert (found.type, parse_query(body).text, parse_query(body).schema) == (wire.QUERY, text.decode(), "d")


@pytest.mark.parametrize(
    ("spoilt", "problem"),
    [
        (packed(b"x", head=0x01), "unknown compression"),
        (packed(b"x", head=0x91), "unknown compression"),
        (packed(b"x", length=2), "1 bytes unpacked, 2 said"),
        (packed(b"x")[:-3], "incomplete"),
        (b"", "truncated"),
    ],
)
def test_compression_that_is_not_understood_is_refused(spoilt: bytes, problem: str) -> None:
    with pytest.raises(CdcError, match=problem) as caught:
        as_mysql(header(166), INSERT[:10] + spoilt)
    assert caught.value.code is CORRUPT_WIRE


@pytest.mark.parametrize(
    ("body", "text", "flags", "two_phases"),
    [
        ("01000000000000000000000029000000000000", "0-7-1", Flags.STANDALONE, False),
        ("0c000000000000000300000008000000000000", "3-7-12", Flags(0), False),
        ("0800000000000000000000004c030000000101616201ff", "0-7-8", Flags.PREPARED_XA, False),
        ("0900000000000000000000008d0300000001016162", "0-7-9", Flags.COMPLETED_XA | Flags.STANDALONE, False),
        ("15000000000000000000000029020000000000", "0-7-21", Flags.STANDALONE, True),
        ("16000000000000000000000029041500000000000000", "0-7-22", Flags.STANDALONE, True),
        ("0100000000000000000000000e0900000000000000", "0-7-1", Flags.GROUP_COMMIT, False),
    ],
)
def test_what_a_gtid_says(body: str, text: str, flags: Flags, *, two_phases: bool) -> None:
    gtid = parse_gtid(header(162), bytes.fromhex(body))
    ours = Flags.STANDALONE | Flags.GROUP_COMMIT | Flags.PREPARED_XA | Flags.COMPLETED_XA
    assert (str(gtid), gtid.flags & ours, gtid.two_phases) == (text, flags, two_phases)


# -- the decoder --------------------------------------------------------------------------------------------------
BEGIN = bytes.fromhex("0c000000000000000000000008000000000000")
ALONE = bytes.fromhex("0c000000000000000000000029000000000000")


def decoder(after: str = "0-7-11") -> Decoder:
    return Decoder(
        RunFacts("shop", "d", "r" * 16, 1),
        Captured({}, lambda *_: "topic", "shop.message", lambda *_: True),
        Surroundings(frozenset, ("cdc", "heartbeat"), checksum=False, uncaptured=lambda _: None),
        after=DomainPosition.parse(after),
        last_seq=3,
        tokens=frozenset(),
        clock_ns=lambda: 1,
    )


def event(kind: int, body: bytes) -> bytes:
    head = (1_700_000_000).to_bytes(4, "little") + bytes([kind]) + (7).to_bytes(4, "little")
    return head + (19 + len(body)).to_bytes(4, "little") + (500).to_bytes(4, "little") + bytes(2) + body


def query(text: bytes) -> bytes:
    return bytes(13) + b"\0" + text


def refused(of: Decoder, *events: bytes) -> tuple[Code, str]:
    with pytest.raises(CdcError) as caught:
        list(chain.from_iterable(map(of.feed, events)))
    return caught.value.code, caught.value.text


def test_a_gtid_stands_for_begin_too() -> None:
    of = decoder()
    (found,) = [item for one in (event(162, BEGIN), event(16, XID)) for item in of.feed(one)]
    assert isinstance(found, Transaction)
    assert (found.id, str(found.position), found.seq) == ("0-7-12", "0-7-12", 3)
    (found,) = [item for one in (event(162, b"\x0d" + ALONE[1:]), event(2, query(b"FLUSH TABLES")))
                for item in of.feed(one)]  # fmt: skip
    assert str(of.executed) == "0-7-13"


def test_what_stands_around_says_nothing() -> None:
    of = decoder()
    assert [item for kind in mariadb.SILENT for item in of.feed(event(kind, b"whatever"))] == []


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([event(164, b"\1" * 17)], "encrypted"),
        ([event(162, bytes.fromhex("0b000000000000000000000008000000000000"))], "numbers of a domain must grow"),
        ([event(162, bytes.fromhex("15000000000000000000000029020000000000"))], "two phases"),
    ],
)
def test_what_is_refused_by_name(events: list[bytes], problem: str) -> None:
    code, text = refused(decoder(), *events)
    assert code is EVENT_UNSUPPORTED
    assert problem in text


# -- values that it alone has -------------------------------------------------------------------------------------
def test_uuids_and_addresses_without_their_zeros_at_the_end() -> None:
    assert uuid_text(bytes.fromhex("f27a4b6de73d11f1932d02fc")) == b"f27a4b6d-e73d-11f1-932d-02fc00000000"
    assert inet4_text(b"\x0a") == b"10.0.0.0"
    texts = {"": "::", "00" * 15 + "01": "::1", "12": "1200::", "00010000000200030004000500060007": "1::2:3:4:5:6:7",
             "00000000000000000000ffff01020304": "::ffff:1.2.3.4", "00000000000000000000000001020304": "::1.2.3.4",
             "00010000000000020000000000000003": "1:0:0:2::3", "0001000200030004000500060007" + "0008":
             "1:2:3:4:5:6:7:8"}  # fmt: skip
    assert {inet6_text(bytes.fromhex(raw)).decode() for raw in texts} == set(texts.values())
    for raw, text in texts.items():
        assert inet6_text(bytes.fromhex(raw)).decode() == text


# -- what differs, as data ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("version", "dialect", "number"),
    [
        ("5.5.5-10.11.19-MariaDB-0+deb12u1-log", MARIADB, (10, 11, 19)),
        ("10.6.4-MariaDB", MARIADB, (10, 6, 4)),
        ("8.0.31", MYSQL, (8, 0, 31)),
        ("8.0.35-google", MYSQL, (8, 0, 35)),
    ],
)
def test_a_server_is_known_by_its_version(version: str, dialect: Dialect, number: tuple[int, ...]) -> None:
    assert (dialect_of(version), version_number(version)) == (dialect, number)


# -- words --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "stopped"),
    [
        ("CREATE OR REPLACE TABLE t (a int)", ("d.t",)),
        ("CREATE OR REPLACE TABLE IF NOT EXISTS x.t SELECT 1", ("x.t",)),
        ("SET STATEMENT lock_wait_timeout=1, sql_mode='' FOR DROP TABLE t", ("d.t",)),
        ("SET STATEMENT a=1", (EVERY,)),
        ("ALTER TABLE p CONVERT PARTITION p1 TO TABLE t", ("d.p", "d.t")),
        ("ALTER TABLE p CONVERT TABLE t TO PARTITION p1 VALUES LESS THAN (9)", ("d.p", "d.t")),
        ("RENAME TABLE t WAIT 3 TO u", (EVERY,)),
        ("ALTER TABLE t DROP SYSTEM VERSIONING", ("d.t",)),
        ("ALTER TABLE t ADD COLUMN a varchar(9) COMPRESSED", ("d.t",)),
    ],
)
def test_what_stops_tables(text: str, stopped: tuple[str, ...]) -> None:
    meaning = read_statement(text, "d")
    assert isinstance(meaning, Stopping)
    assert meaning.tables == stopped


def test_a_setting_for_one_statement_hides_nothing() -> None:
    text = "SET STATEMENT max_statement_time = 5 FOR"
    assert read_statement(f"{text} TRUNCATE t", "d") == Truncated("d.t")
    assert read_statement(f"{text} INSERT INTO t VALUES (1)", "d") == RowsChanged(("d.t",))
    assert is_told(f"{text} CREATE TABLE x (a int)")
    assert not is_told(f"{text} CREATE USER x IDENTIFIED BY 'secret'")


def shape(engine: Engine, *columns: Definition) -> Table:
    return table_of("d", "t", columns, {"PRIMARY": ["id"]}, charset=("utf8mb4", "utf8mb4_general_ci"), engine=engine)


ID, NAME = Definition("id", "int", not_null=True), Definition("name", "date", not_null=False)


def after(table: Table, statement: str) -> list[str]:
    meaning = read_statement(statement, "d")
    assert isinstance(meaning, Altered)
    steps = effects(table, meaning, 9)
    return [f"{c.name} {c.type} {c.collation}" for c in (steps[-1][1] if steps else table).columns]


def test_a_column_that_is_there_already_or_gone_already_is_left() -> None:
    there = shape("mariadb", ID, NAME)
    assert after(there, "ALTER TABLE t ADD IF NOT EXISTS NAME int") == ["id int None", "name date None"]
    assert after(there, "ALTER TABLE t DROP COLUMN IF EXISTS gone, DROP IF EXISTS name") == ["id int None"]
    assert after(there, "ALTER TABLE t DROP name, ADD name int") == ["id int None", "name int None"]
    with pytest.raises(UnfollowableError, match="not known"):
        after(shape("mysql", ID, NAME), "ALTER TABLE t DROP COLUMN gone")


def test_a_columns_type_and_collation_are_its_own() -> None:
    added = "ALTER TABLE t ADD j json, ADD v varchar(9) CHARACTER SET utf8mb4, ADD u uuid, ADD COLUMN i INET6 AFTER id"
    assert after(shape("mariadb", ID), added)[1:] == [
        "i inet6 None", "j longtext utf8mb4_bin", "v varchar utf8mb4_general_ci", "u uuid None"
    ]  # fmt: skip
    assert after(shape("mysql", ID), "ALTER TABLE t ADD j json, ADD v varchar(9) CHARACTER SET utf8mb4")[1:] == [
        "j json None", "v varchar utf8mb4_0900_ai_ci"
    ]  # fmt: skip
    for definition, words in (
        ("u uuid NOT NULL DEFAULT UUID()", "does not tell"),
        ("u inet4 DEFAULT '010.1.1.1'", "does not tell"),
        ("u inet6 DEFAULT '::1%1'", "does not tell"),
        ("u xmltype", "not carried"),
    ):
        with pytest.raises(UnfollowableError, match=words):
            after(shape("mariadb", ID), f"ALTER TABLE t ADD {definition}")


def test_a_uuid_says_what_it_is_as_in_debezium() -> None:
    column = column_of(Definition("u", "uuid", not_null=True), 1)
    assert as_json(encode(column, "exact").schema) == {
        "type": "string", "optional": False, "name": "io.debezium.data.Uuid", "version": 1,
    }  # fmt: skip


def test_an_integer_has_no_width() -> None:
    types = {"int(11)": "int", "bigint(20) unsigned": "bigint unsigned", "tinyint(1)": "tinyint(1)", "year(4)": "year",
             "tinyint(4)": "tinyint", "int(5) unsigned zerofill": "int(5) unsigned zerofill"}  # fmt: skip
    assert {told: plain_type(told) for told in types} == types
