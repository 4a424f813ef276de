"""`make bench-restore-memory`: peak memory of a restore of 5 and of 20 million rows, which must hardly differ.

In: nothing but the checkout. Out: one line per measure, a folder in `results/` with them. The archive is made by the
modules that make one, without a source: a base of so many rows, behind it a change to every fourth one, of which every
fourth leaves a column to be looked for in the base, and a twentieth of the rows deleted. The restore is the command,
into a real Postgres; its peak is what the kernel says of the process.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cdc.secret import new_key, parse_key
from sinks.archive.archive import Archive
from sinks.archive.body import Body
from sinks.archive.dump import Dump
from sinks.archive.manifest import Base, BaseTable, Link, Segment, Stored, TableRows, body_name
from sinks.archive.segment import ROWS, TRANSACTIONS
from sinks.archive.table_files import TableFiles, csv_batches
from tests.bench.__main__ import RESULTS, machine
from tests.bench.measure import measure_line
from tests.log_writer import table
from tests.servers.postgres import Postgres
from tests.servers.process import Process

SIZES = (5_000_000, 20_000_000)
MIB_MAX, GROWTH_MAX = 1024, 1.10
EPOCH, PER_TRANSACTION, PER_SEGMENT = 1, 1_000, 500_000
BIG = table("public.big", {"id": "int8", "owner": "text", "balance": "numeric", "notes": "text"}, key=["id"])
CHANGES = """
SELECT 'public.big' AS "table", ({first} + i // 1000)::BIGINT AS txn_seq, (i % 1000 + 1)::BIGINT AS ordinal,
  '{schema_id}' AS schema_id, op, [id] AS key, CASE WHEN op = 'd' THEN [id, NULL, NULL, NULL] END AS before,
  CASE WHEN op = 'u' THEN [id, 'owner ' || id, '2.00', CASE WHEN i % 4 > 0 THEN md5(id) END] END AS after,
  CASE WHEN op = 'u' AND i % 4 = 0 THEN [4::INTEGER] END AS unchanged, NULL::INTEGER[] AS before_absent,
  NULL::VARCHAR[] AS moved_from, NULL::VARCHAR[] AS moved_to
FROM (SELECT i, CASE WHEN n % 6 = 0 THEN 'd' ELSE 'u' END AS op,
  (CASE WHEN n % 6 = 0 THEN {rows} - n // 6 ELSE 1 + (n * 7919) % ({rows} * 9 // 10) END)::VARCHAR AS id
  FROM (SELECT i, {done} + i AS n FROM range({count}) t(i)))
"""


def make(url: str, key: bytes, rows: int) -> int:
    """The archive; its last transaction's number."""
    archive = Archive.open_or_make(url, key, "bench")
    schema_id = archive.put_shape(BIG)
    _, files = TableFiles(archive, "base/files/b").write(
        BIG, csv_batches([c.name for c in BIG.columns], lines(rows)), lambda _: None
    )
    schema_file = archive.put("base/files/b/schema.json", Dump(pg_dump="18", pre=(), post=()).to_bytes())
    base = Base(
        archive=archive.identity.archive, id="b", taken_from="bench", server_version=180000, epoch=EPOCH, txn_seq=0,
        position="1:0/1", commit_us=1, started_ms=0, finished_ms=0, schema_file=schema_file, sequences={},
        tables={BIG.full_name: BaseTable(schema_id=schema_id, rows=rows, digests={}, files=files)},
    )  # fmt: skip
    archive.put_new(base.name, base.to_bytes())
    link, changes = None, rows * 3 // 10
    for done in range(0, changes, PER_SEGMENT):
        link = segment(archive, schema_id, rows, done, min(PER_SEGMENT, changes - done), link)
    return changes // PER_TRANSACTION


def lines(rows: int) -> Iterator[bytes]:
    """As COPY writes them, some thousand at a time."""
    for first in range(1, rows + 1, 5_000):
        part = range(first, min(first + 5_000, rows + 1))
        yield "".join(f'"{i}","owner {i}","{i % 1000}.25","{i * 2654435761:032x}"\n' for i in part).encode()


def segment(archive: Archive, schema_id: str, rows: int, done: int, count: int, link: Link | None) -> Link:
    first = 1 + done // PER_TRANSACTION
    last = first + count // PER_TRANSACTION - 1
    query = CHANGES.format(first=first, schema_id=schema_id, rows=rows, done=done, count=count)
    batch = duckdb.sql(query).to_arrow_table().cast(ROWS).combine_chunks()
    numbers = range(first, last + 1)
    log = pa.table(
        [
            list(numbers), ["txn"] * len(numbers), list(numbers), [f"1:0/{n:X}" for n in numbers],
            ["0" * 16] * len(numbers), list(numbers), list(numbers), [PER_TRANSACTION] * len(numbers),
        ],
        schema=TRANSACTIONS,
    )  # fmt: skip
    bodies = {what: stored(archive, body_name(EPOCH, first, "b", what), of) for what, of in
              (("rows", batch), ("txns", log))}  # fmt: skip
    made = Segment(
        archive=archive.identity.archive, epoch=EPOCH, first_seq=first, last_seq=last, run="0" * 16,
        prev_position=f"1:0/{first - 1:X}", position=f"1:0/{last:X}", log_offset=last, events=count,
        min_commit_us=first, max_commit_us=last, running_max_us=last, commit_us=last,
        tables={BIG.full_name: TableRows(rows=count, first=first, last=last, schemas=(schema_id,))},
        rows=bodies["rows"], transactions=bodies["txns"], previous=link,
    )  # fmt: skip
    written = archive.put_new(made.name, made.to_bytes())
    assert written
    return Link(name=made.name, sha256=written.sha256)


def stored(archive: Archive, name: str, rows: pa.Table) -> Stored:
    body = Body(archive, name)
    with pq.ParquetWriter(body.stream, rows.schema, compression="zstd") as writer:
        writer.write_table(rows, row_group_size=100_000)
    return body.put()


def restore(target: Postgres, url: str, key: str, last: int, log: Path) -> tuple[float, float]:
    """Peak MiB and seconds of the command."""
    database = target.create_database("restored")
    program = Path(sys.executable).with_name("cdc-restore")
    options = [
        "--archive",
        url,
        "--to-txn",
        str(last),
        "--table",
        BIG.full_name,
        "--no-anchor",
        "--into",
        database.url(),
    ]
    began, peak = time.monotonic(), 0
    process = Process(
        [program, *options], log, env={**os.environ, "CDC_ARCHIVE_KEY": key, "PGPASSWORD": target.password}
    )
    while process.running:
        peak = max(peak, high_water(process.pid))
        time.sleep(0.2)
    took = time.monotonic() - began
    if process.returncode != 0 or "VERIFIED" not in log.read_text():
        raise RuntimeError(process.tail())
    database.drop()
    return peak / 1024, took


def high_water(pid: int) -> int:
    """KiB that the process held at most so far."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")), 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=SIZES, help="default: 5 and 20 million")
    sizes = parser.parse_args().rows
    results = RESULTS / f"{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}-restore-memory"
    results.mkdir(parents=True)
    peaks, said, met = [], [json.dumps(machine({"rows": sizes}))], True
    with tempfile.TemporaryDirectory(prefix="cdc-bench-") as folder:
        Path(folder).chmod(0o755)
        with Postgres(Path(folder) / "target", {"max_wal_size": "8GB", "shared_buffers": "512MB"}) as target:
            for rows in sizes:
                archive, key = Path(folder) / "archive", new_key()
                last = make(f"file://{archive}", parse_key(key), rows)
                peak, seconds = restore(target, f"file://{archive}", key, last, results / f"restore-{rows}.log")
                shutil.rmtree(archive)
                peaks.append(peak)
                said += [measure_line(f"restore_memory.{rows}.seconds", seconds),
                         measure_line(f"restore_memory.{rows}.peak_mib", peak, f"<= {MIB_MAX:.0f}")]  # fmt: skip
                met = met and peak <= MIB_MAX
                print(*said[-2:], sep="\n", flush=True)
    growth = peaks[1] / peaks[0]
    said.append(measure_line("restore_memory.growth", growth, f"<= {GROWTH_MAX}"))
    print(said[-1])
    (results / "measures.txt").write_text("\n".join(said) + "\n")
    return 0 if met and growth <= GROWTH_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
