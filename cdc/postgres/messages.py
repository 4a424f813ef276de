"""Logical messages of ours: heartbeats and schema changes, and how they are told from forgeries. Pure.

Any role of the database can write a logical message under our prefixes (CORRECTNESS 11). So a heartbeat carries the
token of its run, and a schema change a code over its transaction and text, made with a secret that only the event
trigger and the source's role can read. What does not prove itself is published like anybody's message.
"""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from typing import Any

from cdc.postgres.tables import SHAPE

HEARTBEAT = "cdc.heartbeat"
DDL = "cdc.ddl"


def _code(secret: bytes, text: bytes) -> str:
    """Hashed twice, so that nothing can be appended to a known text (sha256 alone allows that)."""
    return sha256(secret + sha256(secret + text).digest()).hexdigest()


def parse_ddl(content: bytes, secret: bytes | None, xid: int) -> dict[str, Any] | None:
    """What the event triggers say: a result of `SHAPE`, `{"dropped": name}` or `{"rewritten": oid, …}`.

    None if it is not their word.

    Content: `<code> <xid> <json>`; the code covers what follows it, the xid must be the transaction's own.
    """
    code, _, text = content.partition(b" ")
    if secret is None or not hmac.compare_digest(code, _code(secret, text).encode()):
        return None
    written_xid, _, record = text.partition(b" ")
    if int(written_xid) % (1 << 32) != xid:
        return None
    parsed: dict[str, Any] = json.loads(record)
    return parsed


EVENT_TRIGGER = f"""
CREATE TABLE IF NOT EXISTS cdc.secret (
  only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), value bytea NOT NULL);
REVOKE ALL ON cdc.secret FROM PUBLIC;
INSERT INTO cdc.secret (value) SELECT sha256(string_agg(gen_random_uuid()::text, '')::bytea) FROM generate_series(1, 4)
  ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION cdc.emit_ddl(record jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $cdc$
DECLARE
  key bytea := (SELECT value FROM cdc.secret);
  body text := pg_catalog.pg_current_xact_id()::text || ' ' || record::text;
  raw bytea := pg_catalog.convert_to(body, 'UTF8');
BEGIN
  PERFORM pg_catalog.pg_logical_emit_message(true, '{DDL}',
    pg_catalog.encode(pg_catalog.sha256(key || pg_catalog.sha256(key || raw)), 'hex') || ' ' || body);
END $cdc$;
REVOKE ALL ON FUNCTION cdc.emit_ddl(jsonb) FROM PUBLIC;

CREATE OR REPLACE FUNCTION cdc.on_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET datestyle = 'ISO' SET intervalstyle = 'postgres'
SET timezone = 'UTC' SET bytea_output = 'hex' SET extra_float_digits = 1 SET lc_monetary = 'C' AS $cdc$
DECLARE
  changed oid;
BEGIN
  FOR changed IN
    SELECT DISTINCT o.oid FROM pg_catalog.pg_event_trigger_ddl_commands() d
    CROSS JOIN LATERAL (
      SELECT d.objid WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
      UNION SELECT i.indrelid FROM pg_catalog.pg_index i
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.indexrelid = d.objid
      UNION SELECT a.attrelid FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid IN (t.oid, t.typelem)
    ) o(oid)
    JOIN pg_catalog.pg_class c ON c.oid = o.oid
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  LOOP
    PERFORM cdc.emit_ddl(({SHAPE}changed));
  END LOOP;
END $cdc$;

CREATE OR REPLACE FUNCTION cdc.on_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET datestyle = 'ISO' SET intervalstyle = 'postgres'
SET timezone = 'UTC' SET bytea_output = 'hex' SET extra_float_digits = 1 SET lc_monetary = 'C' AS $cdc$
DECLARE
  dropped text;
  changed oid;
BEGIN
  FOR dropped IN
    SELECT d.schema_name || '.' || d.object_name FROM pg_catalog.pg_event_trigger_dropped_objects() d
    WHERE d.object_type = 'table' AND NOT d.is_temporary
  LOOP
    PERFORM cdc.emit_ddl(pg_catalog.jsonb_build_object('dropped', dropped));
  END LOOP;
  -- A column that goes with its type (DROP TYPE … CASCADE) is no command on its table.
  FOR changed IN
    SELECT DISTINCT c.oid FROM pg_catalog.pg_event_trigger_dropped_objects() d
    JOIN pg_catalog.pg_class c ON c.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid > 0
      AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  LOOP
    PERFORM cdc.emit_ddl(({SHAPE}changed));
  END LOOP;
END $cdc$;

CREATE OR REPLACE FUNCTION cdc.on_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $cdc$
BEGIN
  PERFORM cdc.emit_ddl(pg_catalog.jsonb_build_object(
    'rewritten', pg_catalog.pg_event_trigger_table_rewrite_oid()::bigint,
    'reason', pg_catalog.pg_event_trigger_table_rewrite_reason()));
END $cdc$;
""" + "".join(
    f"""
DROP EVENT TRIGGER IF EXISTS {trigger};
CREATE EVENT TRIGGER {trigger} ON {event} EXECUTE FUNCTION cdc.{function}();
ALTER EVENT TRIGGER {trigger} ENABLE ALWAYS;
"""
    for trigger, event, function in (
        ("cdc_ddl", "ddl_command_end", "on_ddl"),
        ("cdc_drop", "sql_drop", "on_drop"),
        ("cdc_rewrite", "table_rewrite", "on_rewrite"),
    )
)
"""Run by `cdc setup` as a superuser, in schema cdc. It reports the shape of every table that a command touched.

Before that it reports that a table was rewritten: its rows have new values then, without a row event, and the shape
need not change. Sessions with session_replication_role = replica report too.
"""
TRIGGERS = ("cdc_ddl", "cdc_drop", "cdc_rewrite")
REWRITTEN_FOR_COLUMN = 2
"""pg_event_trigger_table_rewrite_reason(): an added column got a value of its own in every row."""
REWRITTEN_IN_PLACE = 1 | 8
"""… : the same rows elsewhere (SET LOGGED, SET ACCESS METHOD). Every other reason gives rows new values."""
