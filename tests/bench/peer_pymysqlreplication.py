"""pymysqlreplication decodes, and says how far it came.

    python -m tests.bench.peer_pymysqlreplication PORT AFTER DATABASE TABLE CHANGES [frozen]

In: the set of transactions to begin behind; root's password in BENCH_SOURCE_PASSWORD. Out: a line with the number of
changes so far, after every event that crosses a hundred. What can be left out is: other events, other tables, its log;
`frozen` besides: reading the description of a table again that stands before every rows event.
"""

import os
import sys

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent


def main(port: str, after: str, database: str, table: str, changes: str, frozen: str = "") -> None:
    """Decode so many row changes."""
    reader = BinLogStreamReader(
        connection_settings={
            "host": "127.0.0.1",
            "port": int(port),
            "user": "root",
            "password": os.environ["BENCH_SOURCE_PASSWORD"],
            "ssl_disabled": True,
        },
        server_id=99_999,
        auto_position=after,
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
        only_schemas=[database],
        only_tables=[table],
        freeze_schema=bool(frozen),
        enable_logging=False,
    )
    seen, wanted = 0, int(changes)
    for event in reader:
        before, seen = seen, seen + len(event.rows)
        if seen // 100 > before // 100:
            print(min(seen, wanted), flush=True)
        if seen >= wanted:
            return
    raise SystemExit(f"the log ended after {seen} changes")


if __name__ == "__main__":
    main(*sys.argv[1:])
