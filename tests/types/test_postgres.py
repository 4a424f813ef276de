"""Every value of every type that is carried: copied, streamed and applied, it is the value that the source holds.

The server is the oracle: replica and source are compared in its own text. The values are those that a real Debezium
was asked for (tests/golden/debezium-3.5.0/values.toml). Settings that change a value's text are set the other way on
database and role (CORRECTNESS 12).
"""

import struct
import tomllib
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from psycopg import sql

from cdc.kafka import Reader
from cdc.postgres.session import Server, Side
from cdc.postgres.snapshot import parse_line
from cdc.postgres.values import encoder, to_text
from cdc.topics import row_topic
from cdc.types import TYPES
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.system.pipeline import Pipeline, wait_until

pytestmark = pytest.mark.postgres_versions("source", "target")

VALUES: dict[str, list[str]] = tomllib.loads(
    (Path(__file__).parents[1] / "golden/debezium-3.5.0/values.toml").read_text()
)["types"]
NAMES = {"char": "bpchar", "mood": "enum"}
OPPOSITE = {
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kolkata",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "xmloption": "document",
    "search_path": "pg_catalog",
}
# Written out here: what cdc.postgres.session sets has to be this.
FIXED = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
# Not of one dimension from 1: refused by name (test_array_bounds).
REFUSED = {"{{1,2},{3,4}}", "[0:1]={1,2}"}


def carried(declared: str) -> bool:
    base = declared.removesuffix("[]").partition("(")[0]
    return NAMES.get(base, base) in TYPES["postgresql"]


TABLES = {f"t{at}": (name, values) for at, (name, values) in enumerate(VALUES.items()) if carried(name)}


def test_the_table_of_types_is_covered() -> None:
    declared = {name.removesuffix("[]").partition("(")[0] for name, _ in TABLES.values()}
    assert {NAMES.get(name, name) for name in declared} >= set(TYPES["postgresql"])


def test_every_value_copied_streamed_and_applied(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka
) -> None:
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'so \"so\"', '')")
    for name, (declared, _) in TABLES.items():
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v {declared})")
    fill(database, 0)
    for side in (database, target_database):
        for setting, value in OPPOSITE.items():
            side.execute(
                f"ALTER DATABASE {side.name} SET {setting} = {value if setting == 'search_path' else repr(value)}"
            )
    pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    pipeline.publish()
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
        fill(database, 100)
        pipeline.wait_caught_up()
        pipeline.assert_equal()
    for name, (declared, _) in TABLES.items():
        copied, streamed = events(kafka, pipeline.name, name)
        assert copied == streamed == expected(database, name, declared), name


def fill(database: Database, offset: int) -> None:
    """Every value, and NULL. A connection of its own settings: the text given is ISO."""
    with database.connect(autocommit=False) as connection:
        connection.execute("SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET search_path = public")
        for name, (_, values) in TABLES.items():
            for at, value in enumerate([*(v for v in values if v not in REFUSED), None], 1):
                connection.execute(f"INSERT INTO {name} VALUES (%s, %s)", [offset + at, value])


def expected(database: Database, table: str, declared: str) -> dict[int, bytes]:
    """The bytes of `v` by row number, from the server's text under the settings that our sessions shall have."""
    name, _, modifier = declared.removesuffix("[]").partition("(")
    digits = int(modifier[0]) if name == "timestamptz" and modifier else -1
    encode = encoder(NAMES.get(name, name) + ("[]" if declared.endswith("[]") else ""), digits)
    with database.connect() as connection:
        for setting, value in FIXED.items():
            connection.execute("SELECT set_config(%s, %s, false)", [setting, value])
        copy = connection.cursor().copy(f"COPY (SELECT id, v FROM public.{table} WHERE id < 100) TO STDOUT")
        with copy as lines:
            rows = [parse_line(bytes(line)) for line in lines]
    texts = {int(bytes(row[0])): row[1] for row in rows if isinstance(row[0], bytes)}
    return {number: (b"null" if text is None else encode(bytes(text))) + b"}" for number, text in texts.items()}  # type: ignore[arg-type]


def events(kafka: Kafka, prefix: str, table: str) -> tuple[dict[int, Any], dict[int, Any]]:
    """The bytes of `v` by row number: as the copy wrote them, and as the stream did."""
    reader, topic = Reader({"bootstrap.servers": kafka.bootstrap}), row_topic(prefix, "public", table)
    seen: dict[str, dict[int, Any]] = {"r": {}, "c": {}}
    for record in reader.read_range(topic, 0, *reader.watermarks(topic, 0)):
        value = record.value() or b""
        event = orjson.loads(value)
        row = value.partition(b',"after":')[2].partition(b',"source":')[0]
        seen[event["op"]][event["after"]["id"] % 100] = row.partition(b',"v":')[2]
    reader.close()
    return seen["r"], seen["c"]


@pytest.mark.parametrize("value", sorted(REFUSED))
def test_array_bounds(tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, value: str) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY, v int[])")
    pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    pipeline.publish()
    with pipeline.source_running() as source:
        wait_until(lambda: "run started" in source.log.read_text(), "the run")
        database.execute("INSERT INTO a VALUES (1, %s)", [value])
        assert source.wait(30) == 5
        said = source.log.read_text()
        assert "VALUE_UNREPRESENTABLE" in said
        assert "column v of public.a" in said


def test_a_type_that_is_not_carried_is_refused_at_the_start(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka
) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY, spent interval)")
    pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    pipeline.publish()
    process = pipeline.run("source", "run", pipeline.name)
    assert process.wait(30) == 5
    assert "column spent of public.a has type interval" in process.log.read_text()


def test_a_long_key_that_did_not_change(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka
) -> None:
    """Its value is stored apart, so the log marks it unchanged; the old image beside it has it."""
    database.execute("CREATE TABLE a (k text PRIMARY KEY, n int, more text)")
    database.execute("ALTER TABLE a ALTER COLUMN k SET STORAGE EXTERNAL, ALTER COLUMN more SET STORAGE EXTERNAL")
    database.execute("INSERT INTO a VALUES (repeat('x', 2500), 1, repeat('y', 9000))")
    pipeline = Pipeline(tmp_path, database, target_database, kafka.bootstrap)
    pipeline.publish()
    with pipeline.source_running(), pipeline.sink_running():
        pipeline.wait_caught_up()
        database.execute("UPDATE a SET n = 2")
        database.execute("UPDATE a SET k = repeat('z', 2500)")
        database.execute("UPDATE a SET n = 3")
        pipeline.wait_caught_up()
        pipeline.assert_equal()


def test_the_way_back_is_the_server_s_own_text(database: Database) -> None:
    """What an archive holds, and what is compared with digests: the very text, not one that means the same."""
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'so \"so\"', '')")
    random = Random(1)
    doubles = [struct.unpack("d", random.randbytes(8))[0] for _ in range(2_000)]
    plain = [
        random.choice((1, -1)) * random.randrange(1, 10**17) * 10.0 ** random.randrange(-25, 10) for _ in range(2_000)
    ]
    cases = [*TABLES.values()]
    cases += [(name, [repr(v) for v in [*doubles, *plain] if name == "float8" or (abs(v) < 3e38 and abs(v) > 2e-38)])
              for name in ("float8", "float4")]  # fmt: skip
    cases += [
        ("text[]", ['{a,NULL,"NULL","null","","a b","\\\\\\"","{",",","\n","ü"}']),
        ("timestamptz(3)[]", ['{"2024-01-01 10:00:00.5+00",infinity,"0044-03-15 00:00:00+00 BC"}']),
        ("float8[]", ["{1e15,1e-5,100000,NaN,-0,Infinity}"]),
    ]
    wrong = []
    connection = Server(Side.SOURCE, "types", database.url(), database.server.password).connect()
    for declared, values in cases:
        name = declared.partition("(")[0].removesuffix("[]")
        name = NAMES.get(name, name) + ("[]" if declared.endswith("[]") else "")
        query = sql.SQL("COPY (SELECT v::{} FROM unnest({}::text[]) v) TO STDOUT")
        of = sql.SQL("public.mood" if declared == "mood" else declared)
        digits = int(declared.partition("(")[2].partition(")")[0]) if declared.startswith("timestamptz(") else -1
        with connection.cursor().copy(query.format(of, sql.Literal([v for v in values if v not in REFUSED]))) as copy:
            for line in copy:
                (text,) = parse_line(bytes(line))
                if not isinstance(text, bytes):
                    continue
                back = to_text(name)(orjson.loads(encoder(name, digits)(text)))
                if back.encode() != text:
                    wrong.append((declared, text, back))
    connection.close()
    assert wrong == []
