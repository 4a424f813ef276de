"""A Kafka Connect worker set for throughput, with one connector.

In: the connector's properties. Out: a running worker of `tests.servers.connect`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.connect import JSON, JSON_WITH_SCHEMA, Connect, Properties

_THROUGHPUT: Properties = {
    "producer.compression.type": "lz4",
    "producer.linger.ms": 20,
    "producer.batch.size": 256 * 1024,
}


@contextmanager
def running(directory: Path, bootstrap: str, connector: Properties, *, schemas: bool = False) -> Iterator[Connect]:
    """On a folder that was used before it goes on; `schemas` puts each record's schema beside its payload."""
    with Connect(directory, bootstrap, _THROUGHPUT, heap="2g") as worker:
        worker.create({**connector, **(JSON_WITH_SCHEMA if schemas else JSON)})
        yield worker
