"""`python -m tests.bench.mysql_stages`: CPU per event of each stage of the MySQL source, one after the other.

In: nothing but the checkout. Out: one line per measure, best of five passes, and a folder in `results/`. The stages:
reading the dump connection; checking events (header, checksum); log bytes to records, that included (keys and values
are written while the bytes are read: there is no decoding without encoding); publishing those records and their ENDs to
a real broker, librdkafka's threads included.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from cdc.decoded import Captured, Decoded, Transaction
from cdc.event import Table
from cdc.kafka import Producer
from cdc.mysql import wire
from cdc.mysql.catalog import HEARTBEATS, Catalog
from cdc.mysql.decode import Decoder, Surroundings
from cdc.mysql.session import Server
from cdc.mysql.stream import BinlogStream
from cdc.position import GtidSet
from cdc.publisher import Committed, PublishedRun, Publisher
from cdc.rowevents import RunFacts
from cdc.server import Side
from cdc.topics import log_topic, message_topic, row_topic
from tests.bench import topics
from tests.bench.__main__ import new_results
from tests.bench.measure import measure_line
from tests.bench.mysql import SETTINGS, servers
from tests.bench.mysql_workload import MIXED, SINGLE, TABLE, Span, create_source, generate
from tests.bench.stages import EPOCH, PASSES, PREFIX, RUN, SCALE, best
from tests.bench.workload import Workload
from tests.servers.kafka import Kafka
from tests.servers.mysql import MySQLDatabase


def read(server: Server, span: Span) -> list[bytes]:
    """What the server sends of the span."""
    events: list[bytes] = []
    got: list[bytes] = []
    left = (GtidSet.parse(span.behind) - GtidSet.parse(span.before)).number
    with closing(BinlogStream(server)) as stream:
        stream.start(GtidSet.parse(span.before))
        # The file ends behind the last of them.
        while left or not any(data[4] == wire.ROTATE for data in got):
            got = stream.read(0.1)
            left -= sum(data[4] == wire.GTID for data in got)
            events += got
    return events


def decode(shape: Table, span: Span, events: Sequence[bytes]) -> Iterator[Decoded]:
    """As the source does it."""
    captured = Captured({shape.full_name: shape}, partial(row_topic, PREFIX), message_topic(PREFIX), lambda *_: True)
    decoder = Decoder(
        RunFacts(PREFIX, shape.schema, RUN, EPOCH),
        captured,
        Surroundings(frozenset, HEARTBEATS, checksum=True, uncaptured=lambda _: None),
        after=GtidSet.parse(span.before),
        last_seq=0,
        tokens=frozenset(),
        clock_ns=time.time_ns,
    )
    for event in events:
        yield from decoder.feed(event)


def publish(kafka: Kafka, topic: str, decoded: Sequence[Decoded]) -> None:
    """As the source does it, from the records on."""
    with closing(Producer({"bootstrap.servers": kafka.bootstrap})) as producer:
        publisher = Publisher(
            producer,
            PublishedRun(PREFIX, PREFIX, RUN, EPOCH),
            partitions={topic: 1, log_topic(PREFIX): 1},
            previous=None,
            log_offset=-1,
            waiting=lambda: None,
        )
        for each in decoded:
            if isinstance(each, list):
                publisher.send(each)
            elif isinstance(each, Transaction) and each.numbered:
                publisher.commit(_committed(each))
            publisher.poll()
        publisher.flush()


def _committed(txn: Transaction) -> Committed:
    return Committed(
        "data", txn.id, txn.seq, txn.position, txn.event_count, txn.collections, txn.commit_ts_us, txn.xid
    )  # fmt: skip


def measure(database: MySQLDatabase, kafka: Kafka, workload: Workload) -> Iterator[str]:
    """The lines of one workload."""
    span = generate(database, workload)
    url = f"{database.url()}?ssl-mode=DISABLED"
    server = Server(Side.SOURCE, PREFIX, url, database.server.password)
    with closing(Catalog(server)) as catalog:
        shape = catalog.shape(database.name, TABLE)
    assert shape, "it was just made"
    events = read(server, span)
    decoded = list(decode(shape, span, events))
    found = sum(each.event_count for each in decoded if isinstance(each, Transaction))
    if found != workload.events:
        raise RuntimeError(f"{found} events instead of {workload.events}")
    topic = row_topic(PREFIX, database.name, TABLE)
    topics.create(kafka.bootstrap, topic, log_topic(PREFIX))
    stages: dict[str, Callable[[], Any]] = {
        "read": partial(read, server, span),
        "check": lambda: [wire.parse_event(event, checksum=True) for event in events],
        "decode": lambda: sum(1 for _ in decode(shape, span, events)),
        "publish": partial(publish, kafka, topic, decoded),
    }
    for name, stage in stages.items():
        yield measure_line(f"mysql.{workload.name}.{name}.cpu_us_per_event", best(stage) / workload.events * 1e6)
    topics.delete(kafka.bootstrap, [topic, log_topic(PREFIX)])


def main() -> None:
    """Run, print, keep."""
    lines = []
    with servers(SETTINGS) as (source, kafka, _):
        for workload in (MIXED, SINGLE):
            for line in measure(create_source(source, workload.name), kafka, workload.scaled(SCALE)):
                print(line, flush=True)
                lines.append(line)
    results = new_results("-mysql-stages", {"scale": SCALE, "passes": PASSES})
    (results / "measures.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
