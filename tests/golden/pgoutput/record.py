"""Records what a real Postgres sends over pgoutput: `python -m tests.golden.pgoutput.record`.

Out: `postgres-18.jsonl`, one message a line (`lsn`, `tag`, `hex`), of the statements below; and beside it
`postgres-18.shapes.json`, the tables' shapes before them as schema records, and the event trigger's secret.
"""

import json
import tempfile
import time
from pathlib import Path

from cdc.postgres.catalog import Catalog
from cdc.postgres.messages import EVENT_TRIGGER
from cdc.postgres.session import Server, Side
from cdc.postgres.stream import ReplicationStream
from cdc.shape import SchemaRecord, schema_id
from tests.servers.postgres import Postgres

SQL = """
BEGIN; INSERT INTO wide VALUES (1, 'a', NULL, repeat(md5('x'), 400), '{1,NULL}', 'ok'); COMMIT;
BEGIN; UPDATE wide SET b = 'b'; UPDATE wide SET id = 2; DELETE FROM wide; COMMIT;
INSERT INTO keyless VALUES (1, NULL), (1, NULL);
UPDATE keyless SET y = 'b';
DELETE FROM keyless;
INSERT INTO indexed VALUES (1, 10, 'x');
UPDATE indexed SET code = 11;
DELETE FROM indexed;
TRUNCATE wide, keyless RESTART IDENTITY CASCADE;
ALTER TABLE wide ADD COLUMN z int NOT NULL DEFAULT 7;
INSERT INTO wide (id, big) VALUES (3, 'é');
SELECT pg_logical_emit_message(true, 'note', 'transactional');
SELECT pg_logical_emit_message(false, 'note', 'alone');
SELECT pg_replication_origin_create('elsewhere');
SELECT pg_replication_origin_session_setup('elsewhere');
INSERT INTO wide (id) VALUES (4);
SELECT pg_replication_origin_session_reset();
"""
TABLES = """
CREATE SCHEMA cdc;
CREATE TYPE mood AS ENUM ('ok');
CREATE TABLE wide (id int PRIMARY KEY, b text, c numeric, big text, arr int[], m mood);
ALTER TABLE wide ALTER COLUMN big SET STORAGE EXTERNAL;
CREATE TABLE keyless (x int, y text); ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE indexed (id int PRIMARY KEY, code int NOT NULL UNIQUE, t text);
ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_code_key;
CREATE PUBLICATION golden FOR ALL TABLES;
"""


def main() -> None:
    """Start a server, run the statements, write down the stream."""
    with (
        tempfile.TemporaryDirectory(prefix="pgoutput-") as directory,
        Postgres(Path(directory) / "postgres") as postgres,
    ):
        postgres.execute(TABLES + EVENT_TRIGGER)
        server = Server(Side.SOURCE, "golden", postgres.url(), postgres.password)
        _shapes(Catalog(server))
        stream = ReplicationStream(server)
        stream.create_slot("golden", lambda: None)
        with postgres.connect() as connection:
            for statement in filter(None, (line.strip() for line in SQL.splitlines())):
                connection.execute(statement)
        stream.start("golden", "golden")
        lines, until = [], time.monotonic() + 3
        while time.monotonic() < until:
            lines += [
                json.dumps({"lsn": lsn, "tag": chr(data[0]), "hex": data.hex()}) for lsn, data in stream.read(0.2)
            ]
        stream.close()
        Path(__file__).with_name("postgres-18.jsonl").write_text("\n".join(lines) + "\n")
        print(f"{len(lines)} messages")


def _shapes(catalog: Catalog) -> None:
    publication = catalog.publication("golden", lambda schema, _: schema == "public")
    assert publication is not None
    tables = catalog.shapes([table.oid for table in publication.tables])
    records = [
        SchemaRecord(schema_id(table), table, "", 0, 0, "", "").to_bytes(source={}, ts_ms=0, database="golden")
        for table in tables
    ]
    secret = catalog.secret()
    assert secret is not None
    written = {"secret": secret.hex(), "shapes": [json.loads(record) for record in records]}
    Path(__file__).with_name("postgres-18.shapes.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
