"""Both ways across, by the commands: copied, streamed, compared; and a difference is found."""

from pathlib import Path
from typing import Any

import orjson

from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQLDatabase
from tests.servers.postgres import Database
from tests.system.pipeline import Pipeline, wait_until


def verdict(pipeline: Pipeline) -> dict[str, Any]:
    """Of `cdc verify`, which waits until the replica has everything; but for what is still being copied."""
    found: dict[str, Any] = {}

    def comparable() -> bool:
        done = pipeline.command("verify", pipeline.name, "--sink", "eu", "--json", "--wait", "30")
        assert done.returncode in (0, 1), done.stderr
        found.update(orjson.loads(done.stdout))
        return bool(found["result"] != "NOT COMPARABLE")

    wait_until(comparable, "a verdict")
    return found


def assert_equal(pipeline: Pipeline, rows: dict[str, int]) -> None:
    found = verdict(pipeline)
    assert found["result"] == "EQUAL", found
    assert {table["table"]: table["target_rows"] for table in found["tables"]} == rows


def test_mysql_into_postgres(
    tmp_path: Path, mysql_database: MySQLDatabase, target_database: Database, kafka: Kafka
) -> None:
    source, name = mysql_database, mysql_database.name
    source.execute(
        "CREATE TABLE bills (code varchar(20), n int unsigned, amount decimal(12,2), ratio double, at timestamp(3),"
        " state enum('new', 'paid'), body blob, more json, PRIMARY KEY (code, n));"
        "INSERT INTO bills SELECT CONCAT('c', n), n, n / 7, n / 3, FROM_UNIXTIME(n), 'new', HEX(n), JSON_ARRAY(n / 4) "
        "FROM (WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 300) SELECT n FROM s) s;"
        "CREATE TABLE notes (v varchar(10) CHARACTER SET latin1, f float)"
    )
    pipeline = Pipeline(tmp_path, source, target_database, kafka.bootstrap, source_options={"tables": [f"{name}.*"]})
    with pipeline.source_running(), pipeline.sink_running():
        assert_equal(pipeline, {f"{name}.bills": 300, f"{name}.notes": 0})
        source.execute(
            "UPDATE bills SET state = 'paid', ratio = ratio * 1e20 WHERE n > 250; DELETE FROM bills WHERE n <= 10;"
            "UPDATE bills SET code = UPPER(code) WHERE n < 20; INSERT INTO bills (code, n) VALUES ('Á', 4294967295);"
            "INSERT INTO notes VALUES ('é', 0.1), ('é', 0.1), (NULL, 1e-7); DELETE FROM notes LIMIT 1"
        )
        assert_equal(pipeline, {f"{name}.bills": 291, f"{name}.notes": 2})
        target_database.execute(f"UPDATE {name}.bills SET amount = amount + 0.01 WHERE n = 100")
        found = verdict(pipeline)
    assert found["result"] == "DIFFERENT"
    assert [table["keys"] for table in found["tables"] if not table["equal"]] == [['"c100","100"']]


def test_postgres_into_mysql(
    tmp_path: Path, database: Database, mysql_target_database: MySQLDatabase, kafka: Kafka
) -> None:
    database.execute(
        "CREATE TABLE orders (id bigint, k text, price numeric(12,2), free numeric, ratio float8, at timestamptz,"
        " done bool, body bytea, more jsonb, tags text[], PRIMARY KEY (id, k));"
        "INSERT INTO orders SELECT n, 'k' || n, n / 7.0, n / 7.0, n / 3.0, to_timestamp(n / 10.0), n % 2 = 0, "
        "decode(to_hex(n + 4096), 'hex'), jsonb_build_object('n', n, 'a', 1.50), ARRAY['x', NULL, n::text] "
        "FROM generate_series(1, 300) n;"
        "CREATE TABLE notes (v text, f real); ALTER TABLE notes REPLICA IDENTITY FULL"
    )
    pipeline = Pipeline(tmp_path, database, mysql_target_database, kafka.bootstrap)
    pipeline.publish()
    with pipeline.source_running(), pipeline.sink_running():
        assert_equal(pipeline, {"public.notes": 0, "public.orders": 300})
        database.execute(
            "UPDATE orders SET done = NULL, ratio = ratio * 1e20 WHERE id > 250; DELETE FROM orders WHERE id <= 10;"
            "UPDATE orders SET k = upper(k) WHERE id < 20; INSERT INTO orders (id, k) VALUES (20, 'Á'), (20, 'a ');"
            "INSERT INTO notes VALUES ('é', 0.1), ('é', 0.1), (NULL, 1e-7);"
            "DELETE FROM notes WHERE ctid = '(0,1)'"
        )
        assert_equal(pipeline, {"public.notes": 2, "public.orders": 292})
        mysql_target_database.execute("UPDATE orders SET price = price + 0.01 WHERE id = 100")
        found = verdict(pipeline)
    assert found["result"] == "DIFFERENT"
    assert [table["keys"] for table in found["tables"] if not table["equal"]] == [['"100","k100"']]
