"""Records what sessions make a real MySQL write to its binary log: `python -m tests.golden.mysql.record_sessions`.

Out: sessions.json beside this file: for each session of sessions.toml the events as the dump sent them, and the shape
that its table had before. Run it again only for another version of the server.
"""

import json
import tempfile
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

from cdc.mysql.catalog import Catalog
from cdc.mysql.session import Server
from cdc.mysql.stream import BinlogStream
from cdc.position import GtidSet
from cdc.server import Side
from cdc.shape import table_bytes
from tests.servers.mysql import MySQL

HERE = Path(__file__).parent
TABLE = """
CREATE DATABASE golden; CREATE DATABASE cdc; USE golden;
CREATE TABLE t (id int PRIMARY KEY, a int DEFAULT 7, b text, j json); INSERT INTO t (id, b) VALUES (1, 'x');
CREATE TABLE other (id int PRIMARY KEY, g geometry);
CREATE TABLE cdc.heartbeat (source varchar(64) PRIMARY KEY, token char(16) NOT NULL, at timestamp(6) NOT NULL)
"""


def record(mysql: MySQL, statements: str) -> dict[str, Any]:
    """Events and shape of one session, on tables made anew."""
    mysql.execute("DROP DATABASE IF EXISTS golden; DROP DATABASE IF EXISTS cdc")
    mysql.execute(TABLE)
    server = Server(Side.SOURCE, "golden", mysql.url(), mysql.password)
    with closing(Catalog(server)) as catalog:
        shape = catalog.shape("golden", "t")
        before = catalog.executed()
        assert isinstance(before, GtidSet)
    assert shape
    with mysql.connect("golden") as connection, connection.cursor() as cursor:
        cursor.execute(statements)
        while cursor.nextset():
            pass
    return {"shape": table_bytes(shape).decode(), "executed": str(before), "events": read(server, before)}


def read(server: Server, after: GtidSet) -> list[str]:
    """Until the server has nothing more to send."""
    events: list[str] = []
    stream = BinlogStream(server)
    stream.start(after)
    with closing(stream):
        while came := stream.read(1.0):
            events += [event.hex() for event in came]
    return events


def main() -> None:
    sessions: dict[str, str] = tomllib.loads((HERE / "sessions.toml").read_text())
    with tempfile.TemporaryDirectory(prefix="cdc-golden-") as directory, MySQL(Path(directory) / "mysql") as mysql:
        found = {name: record(mysql, statements) for name, statements in sessions.items()}
    (HERE / "sessions.json").write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    main()
