"""Records what Debezium's MySQL connector writes for `mysql.sql`, beside the very log that it read.

    PYTHONPATH=. python tests/golden/debezium-3.5.0/record_mysql.py

In: the checkout's servers and jars (`make servers`; the jars come once). Out, beside this file: `mysql_exact.json`:
`records` of every topic in order of topic and offset, `events` of the binary log as the server sent them (base64),
`shape` of the table before them, `after`, the transactions before them.
"""

import base64
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from cdc.mysql import wire
from cdc.mysql.catalog import Catalog
from cdc.mysql.session import Server
from cdc.mysql.stream import BinlogStream
from cdc.position import GtidSet
from cdc.server import Side
from cdc.shape import table_bytes
from tests.bench import topics
from tests.bench.connect import running
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQL

HERE = Path(__file__).parent
TOPICS = ("shop", "shop.golden.account", "shop.transaction")


def connector(server: MySQL, directory: Path) -> dict[str, str | int]:
    """The lossless modes, and nothing left out."""
    return {
        "name": "shop",
        "connector.class": "io.debezium.connector.mysql.MySqlConnector",
        "tasks.max": 1,
        "database.hostname": "127.0.0.1",
        "database.port": server.port,
        "database.user": "root",
        "database.password": server.password,
        "database.server.id": 4711,
        "topic.prefix": "shop",
        "database.include.list": "golden",
        "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
        "schema.history.internal.file.filename": str(directory / "history"),
        "snapshot.mode": "no_data",
        "decimal.handling.mode": "string",
        "time.precision.mode": "isostring",
        "bigint.unsigned.handling.mode": "precise",
        "provide.transaction.metadata": "true",
        "skipped.operations": "none",
        "extended.headers.enabled": "false",
    }


def read_all(bootstrap: str) -> list[dict[str, Any]]:
    """Every record there is."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "record", "enable.auto.commit": False})
    places = [TopicPartition(topic, 0, 0) for topic in TOPICS]
    expected = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
    consumer.assign(places)
    records: list[dict[str, Any]] = []
    while len(records) < expected:
        message = consumer.poll(10)
        assert message is not None, "a record within the end offsets did not come"
        assert message.error() is None, message.error()
        records.append({
            "topic": message.topic(),
            "offset": message.offset(),
            "headers": [[name, _text(value)] for name, value in message.headers() or []],
            "key": _text(message.key()),
            "value": _text(message.value()),
        })  # fmt: skip
    consumer.close()
    return sorted(records, key=lambda record: (record["topic"], record["offset"]))


def _text(raw: bytes | str | None) -> str | None:
    return raw.decode() if isinstance(raw, bytes) else raw


def read_log(server: Server, before: GtidSet, behind: GtidSet) -> list[bytes]:
    """What the server sends of these transactions."""
    events: list[bytes] = []
    left = (behind - before).number
    with closing(BinlogStream(server)) as stream:
        stream.start(before)
        while left or events[-1][4] != wire.HEARTBEAT:
            got = stream.read(0.1)
            left -= sum(data[4] == wire.GTID for data in got)
            events += got
    return [data for data in events if data[4] != wire.HEARTBEAT]


def main() -> None:
    """Make the file anew."""
    work = Path(tempfile.mkdtemp(prefix="record-"))
    settings: dict[str, str | int] = {"default-time-zone": "+00:00"}
    with MySQL(work / "mysql", settings) as mysql, Kafka(work / "kafka") as kafka:
        database = mysql.create_database("golden")
        schema, _, stream = (HERE / "mysql.sql").read_text().partition("-- the stream\n")
        database.execute(schema)
        topics.create(kafka.bootstrap, *TOPICS)
        with closing(Catalog(Server(Side.SOURCE, "shop", database.url(), mysql.password))) as catalog:
            shape = catalog.shape("golden", "account")
        assert shape
        with running(work / "connect", kafka.bootstrap, connector(mysql, work)) as worker:
            worker.wait_for("Keepalive thread is running")
            before = GtidSet.parse(mysql.gtids())
            database.execute(stream)
            behind = GtidSet.parse(mysql.gtids())
            # One that it emits for the next transaction, when it has emitted all before it.
            ends = topics.counter(kafka.bootstrap, "shop.transaction")
            deadline, seen = time.monotonic() + 60, -1
            while seen != (seen := ends()) or not seen:
                assert time.monotonic() < deadline, worker.explain()
                time.sleep(5)
        made = {
            "records": read_all(kafka.bootstrap),
            "after": str(before),
            "shape": json.loads(table_bytes(shape)),
            "events": [
                base64.b64encode(event).decode()
                for event in read_log(Server(Side.SOURCE, "shop", database.url(), mysql.password), before, behind)
            ],
        }
    (HERE / "mysql_exact.json").write_text(json.dumps(made, indent=0, ensure_ascii=True) + "\n")
    print(len(made["records"]), "records")


if __name__ == "__main__":
    main()
