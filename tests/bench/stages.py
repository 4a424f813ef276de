"""`python -m tests.bench.stages`: CPU per event of each stage of our own code, one after the other on the same changes.

In: nothing but the checkout. Out: one line per measure, best of five passes, and a folder in `results/`. The stages:
reading the replication connection; log bytes to records; records to whole transactions; transactions to their net
effect. The two in the middle, and the records' size, in every format and both profiles of types too. What the bench
measures beyond their sum is librdkafka, the broker's protocol and the target's statements.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from cdc.avro_format import AvroFormat
from cdc.decoded import Captured, Transaction
from cdc.envelope import Format
from cdc.event import Table, Types
from cdc.json_format import JSON, JsonFormat
from cdc.log import Identity, Opened, OrdinaryEnds, Start
from cdc.position import Lsn, PgPosition
from cdc.postgres.catalog import Catalog
from cdc.postgres.decode import Decoder
from cdc.postgres.session import Server, Side
from cdc.postgres.stream import ReplicationStream
from cdc.rowevents import RunFacts
from cdc.topics import message_topic, row_topic
from sinks.assemble import Assembler
from sinks.decode import Decoder as RecordDecoder
from sinks.fold import fold
from sinks.transaction import ChangeTransaction, Part, parts
from tests.bench.__main__ import RESULTS, machine, servers
from tests.bench.measure import measure_line
from tests.bench.workload import MIXED, PUBLICATION, SINGLE, TABLE, Workload, create_source, generate

PASSES = 5
BATCH_EVENTS = 20_000
SCALE = 0.2
RUN, EPOCH, PREFIX, SLOT = "0123456789abcdef", 1_700_000_000_000, "stages", "stages"
TOPIC = row_topic(PREFIX, "public", TABLE)
Messages = list[tuple[int, bytes]]
Log = list[tuple[int, bytes]]
Rows = list[tuple[int, bytes | None]]


def read(server: Server, transactions: int) -> Messages:
    """What the server sends, until so many commits were seen. Nothing is acknowledged: it can be read again."""
    messages: Messages = []
    commits = 0
    with closing(ReplicationStream(server)) as stream:
        stream.identify()
        stream.start(SLOT, PUBLICATION)
        while commits < transactions:
            got = stream.read(0.1)
            commits += sum(data[0] == ord("C") for _, data in got)
            messages += got
    return messages


class Schemas:
    """In place of a registry: it is asked once a table, and not what is measured."""

    def __init__(self) -> None:
        self.known: list[Any] = []

    def register(self, _topic: str, _part: str, schema: Any) -> int:
        self.known.append(schema)
        return len(self.known) - 1


SCHEMAS = Schemas()
FORMATS: dict[str, Format] = {
    "json": JSON,
    "json-with-schema": JsonFormat(with_schema=True),
    "avro": AvroFormat(SCHEMAS.register),
}


def decode(
    shape: Table, messages: Messages, form: Format = JSON
) -> Iterator[Transaction | list[tuple[bytes | None, bytes | None]]]:
    """Log bytes to records, as the source does it."""
    decoder = Decoder(
        RunFacts(PREFIX, PREFIX, RUN, EPOCH, form),
        Captured({shape.full_name: shape}, partial(row_topic, PREFIX), message_topic(PREFIX), lambda *_: True),
        after=PgPosition(1, Lsn(0)),
        last_seq=0,
        tokens=frozenset(),
        secret=None,
        clock_ns=time.time_ns,
    )
    for lsn, data in messages:
        decoded = decoder.feed(data, lsn)
        if isinstance(decoded, list):
            yield [(key, value) for _, key, value, _ in decoded]
        elif isinstance(decoded, Transaction) and decoded.numbered:
            yield decoded


def topics(shape: Table, messages: Messages, start: Start, form: Format = JSON) -> tuple[Log, Rows]:
    """The records as Kafka would hold them, in one partition."""
    ends, log = OrdinaryEnds(RUN, EPOCH), [(0, start.to_bytes())]
    rows: Rows = []
    first, previous = 0, None
    for decoded in decode(shape, messages, form):
        if isinstance(decoded, list):
            rows += [(len(rows) + at, value) for at, (_, value) in enumerate(decoded)]
            continue
        count = decoded.event_count
        # The offset after the last event belongs to its tombstone, if it was a delete.
        last = max(at for at, value in rows[-2:] if value is not None)
        position = str(decoded.position)
        spans = [(TOPIC, 0, first, last, count)]
        end = ends.to_bytes(
            decoded.id, decoded.collections, decoded.commit_ts_us or 0, decoded.seq, position, previous,
            decoded.xid or 0, spans,
        )  # fmt: skip
        log.append((len(log), end))
        first, previous = len(rows), position
    return log, rows


def assemble(log: Log, rows: Rows) -> list[ChangeTransaction]:
    """Records to whole transactions, as the reader does it."""
    assembler, taken = Assembler(PREFIX, decode=RecordDecoder(SCHEMAS.known.__getitem__).value), []
    for offset, value in log:
        assembler.log(offset, value)
    assembler.next()  # reads the log up to the first transaction, which names the partition
    assembler.assigned((TOPIC, 0))
    for offset, row in rows:
        assembler.row((TOPIC, 0), offset, row)
    while (transaction := assembler.next()) is not None:
        taken.append(transaction)
    return taken


def net(shape: Table, transactions: list[ChangeTransaction]) -> None:
    """Batches of the sink's size to their net effect."""
    batch: list[Part] = []
    events = 0
    for transaction in transactions:
        batch += parts(transaction, sys.maxsize, sys.maxsize)
        events += transaction.end.event_count
        if events >= BATCH_EVENTS or transaction is transactions[-1]:
            list(fold(batch, lambda _: shape))
            batch, events = [], 0


def best(stage: Callable[[], object]) -> float:
    """CPU seconds of this process, the best of some passes."""
    seconds = []
    for _ in range(PASSES):
        gc.collect()
        gc.freeze()
        began = time.process_time()
        stage()
        seconds.append(time.process_time() - began)
    return min(seconds)


def measure(server: Server, workload: Workload) -> Iterator[str]:
    """The lines of one workload."""
    with closing(Catalog(server)) as catalog:
        oid = catalog.rows("SELECT 'public.orders'::regclass::oid::bigint")[0][0]
        shape = catalog.shapes([oid])[0]
    identity = Identity("postgresql", "1", 1, PREFIX, SLOT)
    start = Start(RUN, EPOCH, identity, "", "none", "", 0, Opened("first", None))
    messages = read(server, workload.transactions)
    log, rows = topics(shape, messages, start)
    transactions = assemble(log, rows)
    found = sum(len(list(transaction.events)) for transaction in transactions)
    if found != workload.events:
        raise RuntimeError(f"{found} events instead of {workload.events}")
    stages: dict[str, Callable[[], object]] = {
        "read": partial(read, server, workload.transactions),
        "decode": partial(_decoded, shape, messages, JSON),
        "assemble": partial(assemble, log, rows),
        "fold": partial(net, shape, transactions),
    }
    for name, stage in stages.items():
        yield measure_line(f"{workload.name}.{name}.cpu_us_per_event", best(stage) / workload.events * 1e6)
    for types in get_args(Types):
        for name, form in FORMATS.items():
            log, rows = topics(replace(shape, types=types), messages, start, form)
            stages = {
                "decode": partial(_decoded, replace(shape, types=types), messages, form),
                "assemble": partial(assemble, log, rows),
            }
            for stage_name, stage in stages.items():
                yield measure_line(
                    f"{workload.name}.{stage_name}.{name}.{types}.cpu_us_per_event", best(stage) / workload.events * 1e6
                )
            size = sum(len(value) for _, value in rows if value is not None)
            yield measure_line(f"{workload.name}.value.{name}.{types}.bytes_per_event", size / workload.events)


def _decoded(shape: Table, messages: Messages, form: Format) -> int:
    return sum(1 for _ in decode(shape, messages, form))


def main() -> None:
    """Run, print, keep."""
    lines = []
    with servers() as bench:
        for whole in (MIXED, SINGLE):
            workload = whole.scaled(SCALE)
            database = create_source(bench.source, workload.name)
            database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])
            generate(database, workload)
            server = Server(Side.SOURCE, PREFIX, database.url(), bench.source.password)
            for line in measure(server, workload):
                print(line, flush=True)
                lines.append(line)
            database.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])
    results = RESULTS / time.strftime("%Y-%m-%dT%H-%M-%SZ-stages", time.gmtime())
    results.mkdir()
    (results / "machine.json").write_text(json.dumps(machine({"scale": SCALE, "passes": PASSES}), indent=1))
    (results / "measures.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
