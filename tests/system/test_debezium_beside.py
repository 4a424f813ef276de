"""Our source and a real Debezium connector read one log at the same time: record for record they write the same.

Left out, as docs/EVENTS.md lists: `version`, the clocks of processing, our own fields; on Postgres `transaction.id`;
and where a snapshot stands, which each took for itself.
"""

import json
from base64 import b64decode
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cdc.connect import as_json
from cdc.event import Types
from cdc.kafka import Reader
from cdc.kafka_admin import Admin
from cdc.mysql.carried import encode
from cdc.mysql.catalog import Catalog
from cdc.mysql.session import Server
from cdc.server import Side
from tests.golden.mysql.record import tables
from tests.servers.connect import (
    JSON,
    JSON_WITH_SCHEMA,
    LOSSLESS,
    Properties,
    debezium_mysql,
    debezium_postgres,
)
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQLDatabase
from tests.system.ends import AnyDatabase
from tests.system.pipeline import AnyPipeline, wait_until

POSTGRES = """
CREATE TYPE mood AS ENUM ('sad', 'so "so"');
CREATE TABLE account (id int PRIMARY KEY, owner text NOT NULL, balance numeric(12,2) NOT NULL, free numeric, born date,
  at timestamp NOT NULL DEFAULT '2024-02-29 12:34:56.5', seen timestamptz(3), hour time(3), flag bool NOT NULL,
  raw bytea, tag uuid, doc jsonb, feel mood, tiny smallint, big bigint, part real, whole double precision,
  words text[], counts int[]);
CREATE TABLE ledger (id bigint PRIMARY KEY, account int NOT NULL REFERENCES account (id) ON UPDATE CASCADE
  ON DELETE CASCADE, amount numeric(12,2));
CREATE TABLE composite (a int, b text, v int, PRIMARY KEY (b, a));
CREATE TABLE keyless (a int, b text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE toast (id int PRIMARY KEY, big text, n int, words text[]);
ALTER TABLE toast ALTER big SET STORAGE EXTERNAL, ALTER words SET STORAGE EXTERNAL;
CREATE TABLE whole (id int PRIMARY KEY, v text);
ALTER TABLE whole REPLICA IDENTITY FULL;
INSERT INTO account SELECT i, 'owner ' || i, i, i / 8.0, '2024-02-29', '2024-02-29 12:34:56',
  '2024-02-29 12:34:56.789Z',
  '12:34:56.789', i % 2 = 0, '\\x00ff', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": [1, "é𝄞"]}', 'sad', -1, 2^62,
  0.1, 0.1, ARRAY['a', NULL, 'b" c'], '{1,NULL}' FROM generate_series(1, 5) i;
INSERT INTO composite VALUES (1, 'x', 1);
INSERT INTO keyless VALUES (1, 'x'), (1, 'x');
"""
WORK = {
    "postgres": """
INSERT INTO account SELECT 10, 'eve', 1, NULL, NULL, now(), now(), '00:00', true;;
UPDATE account SET balance = balance + 1, doc = NULL WHERE id < 4;;
UPDATE account SET id = 20 WHERE id = 2;;
DELETE FROM account WHERE id = 3;;
BEGIN; INSERT INTO account (id, owner, balance, flag) VALUES (30, 'fay', 5, false);
INSERT INTO ledger VALUES (1, 30, 5), (2, 1, -5); UPDATE account SET balance = 0 WHERE id = 30;
UPDATE account SET id = 31 WHERE id = 30; DELETE FROM account WHERE id = 31; COMMIT;;
BEGIN; INSERT INTO composite VALUES (2, 'y', 1); UPDATE composite SET v = 2 WHERE a = 2;
UPDATE composite SET b = 'z' WHERE a = 2; DELETE FROM composite; COMMIT;;
BEGIN; INSERT INTO keyless VALUES (2, 'y'); UPDATE keyless SET b = NULL WHERE a = 2;
DELETE FROM keyless WHERE a = 1; COMMIT;;
INSERT INTO toast VALUES (1, repeat('0123456789', 300), 1, ARRAY[repeat('0123456789', 300)]);;
UPDATE toast SET n = 2;;
UPDATE toast SET id = 2;;
BEGIN; INSERT INTO whole VALUES (1, 'a'), (2, 'b'); UPDATE whole SET v = 'c'; DELETE FROM whole WHERE id = 1; COMMIT;;
ALTER TABLE whole ADD COLUMN more int;;
INSERT INTO whole VALUES (5, 'x', 7);;
ALTER TABLE whole DROP COLUMN v;;
INSERT INTO whole VALUES (6, 8);;
TRUNCATE keyless, composite;;
INSERT INTO whole VALUES (99, 0)
""",
    "mysql": """
INSERT INTO account VALUES (10, 'eve', 1, 2147483648, 0.5, '2024-02-29', '2024-02-29 12:34:56',
'2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789012', '12:34:56', 1, b'101', x'00ff', 'sad', 'x,z', 0.1, 0.1, 1999);;
START TRANSACTION; UPDATE account SET amount = amount + 1 WHERE id < 3;
UPDATE account SET id = 20 WHERE id = 2; COMMIT;;
START TRANSACTION; INSERT INTO plain VALUES (1, 'a'), (2, 'b'); DELETE FROM plain WHERE id = 1; COMMIT;;
DELETE FROM account;;
ALTER TABLE plain ADD COLUMN more int NOT NULL DEFAULT 7;;
INSERT INTO plain VALUES (99, 'z', 8)
""",
}
"""Statements of one transaction each, or one statement, by `;;`."""
MYSQL = """
CREATE TABLE account (id bigint PRIMARY KEY, owner varchar(40) NOT NULL, amount decimal(12,2) NOT NULL,
  n int unsigned, half double, born date, at datetime, at_ms datetime(3), seen timestamp(6) NULL, hour time,
  flag bit(1), bits bit(12), raw varbinary(20), mood enum('sad', 'so ''so'''), tags set('x', 'y', 'z'),
  single float, twice double, made year);
CREATE TABLE plain (id int PRIMARY KEY, v text NOT NULL);
INSERT INTO account (id, owner, amount) VALUES (1, 'ann', 10.50), (2, 'bob', 20)
"""
# Of inet4 and inet6 the connector's parser knows nothing: it dies of such a table. A streamed uuid that ends in a zero
# byte, which the log leaves out, it gives with all bytes moved to the right.
MARIADB = (
    MYSQL.rstrip()
    + """;
CREATE TABLE own (id int PRIMARY KEY, tag uuid, must uuid NOT NULL, doc json, words longtext);
INSERT INTO own VALUES (1, 'f27a4b6d-e73d-11f1-932d-02fc00000000', '00000000-0000-0000-0000-000000000000',
  '{"a":  1.0}', 'é'), (2, NULL, '123e4567-e89b-42d3-a456-426614174001', NULL, NULL)
"""
)
WORK["mariadb"] = """
INSERT INTO own VALUES (3, 'F27A4B6D-e73d-11f1-932d-02fc00000001', 'f27a4b6d-e73d-11f1-932d-02fc00000001', '[1,  2]',
NULL);;
UPDATE own SET tag = NULL, doc = '"x"' WHERE id = 3;;
DELETE FROM own WHERE id = 2;;
""" + WORK["mysql"].lstrip()
SCHEMA = {"postgres": POSTGRES, "mysql": MYSQL, "mariadb": MARIADB}
OURS = {
    "run", "epoch", "txn_seq", "ordinal", "schema_id", "commit_lsn", "commit_ts_us", "unchanged", "before_absent",
    "moved_to", "moved_from",
}  # fmt: skip
CLOCKS = {"version", "ts_ms", "ts_us", "ts_ns"}
PLACE = {"txId", "lsn", "sequence", "pos", "file", "server_id", "thread", "ts_ms", "ts_us", "ts_ns", "snapshot"}
"""Of a copied row: where and when its own snapshot was taken, and the row's place in it."""


class Beside(AnyPipeline):
    """Our source on a database that a connector reads too. `records` are by topic, without the prefix."""

    def records(self, prefix: str) -> dict[str, list[Any]]:
        options = {"bootstrap.servers": self.bootstrap}
        names = [name for name in Admin(options).names() if name.startswith(f"{prefix}.")]
        partitions = {name: topic.partitions for name, topic in Admin(options).describe(names).items()}
        reader = Reader(options)
        try:
            return {
                name.removeprefix(f"{prefix}."): [
                    record
                    for partition in range(partitions[name])
                    for record in reader.read_range(name, partition, *reader.watermarks(name, partition))
                ]
                for name in names
            }
        finally:
            reader.close()


@pytest.mark.parametrize(
    ("engine", "types"),
    [
        ("postgres", "exact"),
        pytest.param("postgres", "debezium", marks=pytest.mark.matrix),
        pytest.param("mysql", "exact", marks=pytest.mark.matrix),
        pytest.param("mysql", "debezium", marks=pytest.mark.matrix),
        pytest.param("mariadb", "exact", marks=pytest.mark.matrix),
        pytest.param("mariadb", "debezium", marks=pytest.mark.matrix),
    ],
)
def test_the_same_records(
    request: pytest.FixtureRequest, tmp_path: Path, kafka: Kafka, begin: Callable[[Properties], None],
    unique_name: str, engine: str, types: str,
) -> None:  # fmt: skip
    fixture = {"postgres": "database", "mysql": "mysql_database", "mariadb": "mariadb_database"}[engine]
    database: AnyDatabase = request.getfixturevalue(fixture)
    for statement in SCHEMA[engine].strip().split(";\n"):
        database.execute(statement)
    options = {"types": types, "partitions": 3, "heartbeat_every": "10m"}
    pipeline = Beside(tmp_path, database, database, kafka.bootstrap, source_options=options, name=f"{unique_name}_o")
    pipeline.publish()
    theirs = f"{unique_name}_d"
    modes = {**JSON, **(LOSSLESS if types == "exact" else {})}
    if isinstance(database, MySQLDatabase):
        properties = debezium_mysql(theirs, database.server, database.name, tmp_path, **modes)
    else:
        properties = debezium_postgres(theirs, database.server, database, **modes)
        properties |= {
            "message.prefix.exclude.list": "cdc.*", "publication.name": f"cdc_{pipeline.name}",
            "schema.include.list": "public",
        }  # fmt: skip
    with pipeline.source_running() as source:
        begin(properties)
        wait_until(lambda: "table copied" in source.log.read_text() and copied(pipeline, theirs), "both copies")
        for statement in WORK[engine].strip().split(";;\n"):
            database.execute(statement)
        wait_until(lambda: caught_up(pipeline, theirs) and caught_up(pipeline, pipeline.name), "both to the last row")
    mine, their = pipeline.records(pipeline.name), pipeline.records(theirs)
    rows = sorted(name for name in their if "." in name)
    assert rows == sorted(name for name in mine if "." in name)
    compared = sum(same_topic(mine[name], their[name], theirs, pipeline.name) for name in rows)
    assert compared > 20 if engine == "postgres" else compared > 10
    same_ends(mine["transaction"], their["transaction"], engine)


NOT_THEIRS = {"inet4", "inet6", "float(7,3)", "enum('a','b''\"','é𝄞','')", "enum('aé','𝄞') character set utf16"}
"""Of which it dies, or which it alters; see docs/EVENTS.md."""


@pytest.mark.matrix
@pytest.mark.parametrize("types", ["exact", "debezium"])
def test_the_schema_of_every_type_of_mariadb(
    tmp_path: Path, kafka: Kafka, begin: Callable[[Properties], None], mariadb_database: MySQLDatabase,
    unique_name: str, types: Types,
) -> None:  # fmt: skip
    """Those of MySQL and Postgres are recorded, and compared without servers."""
    database = mariadb_database
    declared = {name: of for name, of in tables("mariadb").items() if of not in NOT_THEIRS}
    listed = ", ".join(f"{name} {of} NULL" for name, of in declared.items())
    database.execute(f"CREATE TABLE types (id int PRIMARY KEY, {listed}); INSERT INTO types (id) VALUES (1)")
    modes = {**JSON_WITH_SCHEMA, **(LOSSLESS if types == "exact" else {})}
    begin(debezium_mysql(unique_name, database.server, database.name, tmp_path, **modes))
    beside = Beside(tmp_path, database, database, kafka.bootstrap)
    topic = f"{database.name}.types"
    wait_until(lambda: topic in beside.records(unique_name), "its copy")
    fields = value(beside.records(unique_name)[topic][0])["schema"]["fields"][1]["fields"]
    theirs = {field.pop("field"): field for field in fields}
    with closing(Catalog(Server(Side.SOURCE, "types", database.url(), database.server.password))) as catalog:
        shape = catalog.shape(database.name, "types")
    assert shape
    ours = {column.name: as_json(encode(column, types).schema) for column in shape.columns}
    assert len(theirs) > 80
    assert {declared.get(name): (ours[name], theirs[name]) for name in theirs if ours[name] != theirs[name]} == {}


def copied(pipeline: Beside, prefix: str) -> bool:
    found = pipeline.records(prefix)
    return any(value(record)["op"] == "r" for name, records in found.items() if "account" in name for record in records)


def caught_up(pipeline: Beside, prefix: str) -> bool:
    """Whether the last statement's row has come, the only one of key 99."""
    return any(
        json.loads(record.key() or b"{}") == {"id": 99}
        for name, records in pipeline.records(prefix).items()
        if "." in name
        for record in records
    )


def value(record: Any) -> Any:
    return json.loads(record.value() or b"null")


def same_topic(ours: list[Any], theirs: list[Any], prefix: str, name: str) -> int:
    """Records in order of each partition; those without a key lie in one partition of Debezium's choice."""
    assert len(ours) == len(theirs), (len(ours), len(theirs), [value(r) for r in ours], [value(r) for r in theirs])
    if any(record.key() is None for record in ours):
        ours, theirs = [r for r in ours if r.key() is None], [r for r in theirs if r.key() is None]
    else:
        assert [record.partition() for record in ours] == [record.partition() for record in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert json.loads(our.key() or b"null") == json.loads(their.key() or b"null")
        assert headers(our) == headers(their)
        same_event(value(our), value(their), prefix, name)
    return len(ours)


def headers(record: Any) -> dict[str, Any]:
    found = record.headers() or []
    return {name: json.loads(text) for name, text in found if name in ("__debezium.newkey", "__debezium.oldkey")}


def same_event(our: Any, their: Any, prefix: str, name: str) -> None:
    if their is None:
        assert our is None
        return
    assert [key for key in our if key not in OURS] == list(their)
    assert (our["op"], without(our["after"], set())) == (their["op"], without(their["after"], set()))
    # A column's default stands in Debezium's `before` for what the log did not carry; here, the type's zero.
    defaults = {"at"} & set(our.get("before_absent", ()))
    assert without(our["before"], defaults) == without(their["before"], defaults)
    copied = their["op"] == "r"
    left_out = OURS | {"version", "name"} | (PLACE if copied else set())
    assert their["source"]["name"] == prefix
    assert our["source"]["name"] == name
    assert [key for key in our["source"] if key not in OURS] == list(their["source"])
    for key in their["source"].keys() - left_out:
        assert our["source"][key] == their["source"][key], (key, our, their)
    if their["transaction"]:
        both = ("total_order", "data_collection_order")
        assert [our["transaction"][key] for key in both] == [their["transaction"][key] for key in both]


def without(image: dict[str, Any] | None, names: set[str]) -> dict[str, Any] | None:
    """An image without these columns; a number with a scale of its own is its value: Debezium cuts its last zeros."""
    return image and {name: number(value) for name, value in image.items() if name not in names}


def number(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return Decimal(int.from_bytes(b64decode(value["value"]), "big", signed=True)).scaleb(-value["scale"])


def same_ends(ours: list[Any], theirs: list[Any], engine: str) -> None:
    mine = [value for value in map(value, ours) if value["status"] == "END" and value["kind"] == "data"]
    # It ends transactions without events too.
    other = [value for value in map(value, theirs) if value["status"] == "END" and value["event_count"]]
    assert [end["event_count"] for end in mine] == [end["event_count"] for end in other]
    assert [end["ts_ms"] for end in mine] == [end["ts_ms"] for end in other]
    for one, two in zip(mine, other, strict=True):
        assert as_set(one["data_collections"]) == as_set(two["data_collections"])
    if engine != "postgres":
        assert [end["id"] for end in mine] == [end["id"] for end in other]


def as_set(collections: list[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(each["data_collection"], each["event_count"]) for each in collections}
