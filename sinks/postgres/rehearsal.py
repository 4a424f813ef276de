"""What goes with dropped columns, found by trying: the whole schema is made, the columns dropped, and all of it undone.

In: a connection whose transaction has made what stands before the rows (all tables empty); the statements that come
behind the rows; what drops the columns. Out: which of these statements no longer have anything to stand on, and the
names of all that went. Refuses: what the server refuses of the statements, as it comes.

A dump is older than the moment that is restored. An index, a constraint, a view on a column that was dropped in between
went with it at the source, and must not come back, least of all on a new column that has the old one's name. What
depends on what only the server knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from cdc.errors import CdcError

Run = Callable[[int], None]
Key = tuple[int, int, int]

_MADE = """
SELECT o.classid::bigint, o.objid::bigint, o.objsubid FROM (
  SELECT 'pg_catalog.pg_class'::regclass AS classid, c.oid AS objid, 0 AS objsubid FROM pg_catalog.pg_class c
    WHERE c.relkind <> 't'
  UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, c.oid, 0 FROM pg_catalog.pg_constraint c
  UNION ALL SELECT 'pg_catalog.pg_trigger'::regclass, t.oid, 0 FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal
  UNION ALL SELECT 'pg_catalog.pg_rewrite'::regclass, r.oid, 0 FROM pg_catalog.pg_rewrite r
    WHERE r.rulename <> '_RETURN'
  UNION ALL SELECT 'pg_catalog.pg_policy'::regclass, p.oid, 0 FROM pg_catalog.pg_policy p
  UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, p.oid, 0 FROM pg_catalog.pg_proc p
  UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::regclass, s.oid, 0 FROM pg_catalog.pg_statistic_ext s
  UNION ALL SELECT 'pg_catalog.pg_publication_rel'::regclass, r.oid, 0 FROM pg_catalog.pg_publication_rel r
  UNION ALL SELECT 'pg_catalog.pg_class'::regclass, a.attrelid, a.attnum FROM pg_catalog.pg_attribute a
    WHERE a.attgenerated <> '' AND NOT a.attisdropped
) o WHERE o.objid >= 16384
"""
_NAMED = f"""
SELECT m.classid, m.objid, m.objsubid, n.type || ' ' || n.identity FROM ({_MADE}) m,
LATERAL pg_catalog.pg_identify_object(m.classid::oid, m.objid::oid, m.objsubid) n
"""  # noqa: S608 - no parameter


@dataclass(frozen=True, slots=True)
class Gone:
    """`statements` by their places; `objects` by type and name, in order."""

    statements: frozenset[int]
    objects: tuple[str, ...]


def rehearse(
    connection: psycopg.Connection[tuple[Any, ...]], statements: Sequence[int], run: Run, drop: Callable[[], None]
) -> Gone:
    """`run` makes the statement at a place of the dump."""
    connection.execute("SAVEPOINT rehearsal")
    made = _keys(connection)
    owner: dict[Key, int] = {}
    for at in statements:
        run(at)
        now = _keys(connection)
        owner |= dict.fromkeys(now - made, at)
        made = now
    names = {(int(c), int(o), int(s)): str(name) for c, o, s, name in connection.execute(_NAMED)}
    drop()
    gone = names.keys() - _keys(connection)
    lost = {owner[key] for key in gone if key in owner}
    # A comment on what is gone, a cluster order by it: properties, which make nothing of their own.
    for at in set(statements) - set(owner.values()):
        connection.execute("SAVEPOINT again")
        try:
            run(at)
        except CdcError:
            lost.add(at)
        connection.execute("ROLLBACK TO again")
    connection.execute("ROLLBACK TO rehearsal")
    connection.execute("RELEASE rehearsal")
    return Gone(frozenset(lost), tuple(sorted({names[key] for key in gone})))


def _keys(connection: psycopg.Connection[tuple[Any, ...]]) -> set[Key]:
    return {(int(c), int(o), int(s)) for c, o, s in connection.execute(_MADE)}
