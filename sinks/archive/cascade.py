"""What MySQL's foreign keys did below its log to the tables of a restore: changes derived for their folds.

In: a plan and the tables that are wanted, rows of segments, the folds of every table that a key may have changed. Out:
changes in the folds' tables, each right behind the logged one that set it off. Refuses: what neither archive nor rule
tells (CASCADE_UNFOLDED), where a key acted at all: values that the log did not carry, a key whose columns are gone,
texts that only the server's collation can compare.

    logged changes of parents → acts (old values, new ones) → rows of the child that held the old values then
                                    ↑ rows of the child that were deleted, for its own children ↓

Parents come first; the source refuses keys in a circle, and keys that change what others refer to, so deletes alone go
on. TRUNCATE sets nothing off. Under `foreign_key_checks = 0` keys act here as they do in the sinks: the log does not
tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

import pyarrow as pa

from cdc.event import Column, Table
from sinks.archive.cascade_rows import Edge, reach
from sinks.archive.collation import likeness
from sinks.archive.fold import MOVED, POS, STEP, BaseRows, ShapeOf, TableFold
from sinks.archive.lines import literal
from sinks.archive.plan import Plan, TablePlan
from sinks.archive.scratch import Scratch


def edges_of(plan: Plan, names: Iterable[str]) -> dict[str, list[Edge]]:
    """By table, parents first, the keys that may have acted on wanted ones, and on those whose rows they hang on."""
    since = plan.base.txn_seq if plan.base else 0
    changed = {
        name
        for segment in plan.segments
        for name, rows in segment.tables.items()
        if rows.last > since and rows.first <= plan.cut.txn_seq
    }
    found: dict[str, list[Edge]] = {}
    begun: set[str] = set()
    numbers = count(1)

    def visit(name: str) -> None:
        table = plan.tables.get(name)
        if name in begun or table is None or table.shape.engine == "postgresql":
            return
        begun.add(name)
        edges = [Edge(name, key, 0) for key in sorted(table.shape.foreign_keys, key=lambda key: key.name)]
        for edge in edges:
            if edge.on_delete:
                visit(edge.parent)
        acting = [
            replace(edge, number=next(numbers))
            for edge in edges
            if (edge.on_delete and edge.parent in found)
            or ((edge.on_delete or edge.on_update) and edge.parent in changed)
        ]
        if acting:
            found[name] = acting

    for name in names:
        visit(name)
    return found


class Cascade:
    """One restore's keys. `add` what segments have of `parents`, then `carry_out`."""

    def __init__(self, scratch: Scratch, plan: Plan, edges: Mapping[str, Sequence[Edge]], shape_of: ShapeOf) -> None:
        self._scratch, self._plan, self._edges, self._shape_of = scratch, plan, edges, shape_of
        self._acts: dict[str, list[_Acts]] = {}
        self._acts_of: dict[Edge, _Acts] = {}
        for edge in (edge for edges_of_child in edges.values() for edge in edges_of_child):
            self._acts_of[edge] = self._of_parent(edge)

    @property
    def parents(self) -> frozenset[str]:
        return frozenset(self._acts)

    def _of_parent(self, edge: Edge) -> _Acts:
        known = self._acts.setdefault(edge.parent, [])
        for acts in known:
            if acts.referenced == edge.key.referenced:
                return acts
        number = sum(map(len, self._acts.values()))
        known.append(_Acts(self._scratch, self._plan, edge.parent, edge.key.referenced, self._shape_of, number))
        return known[-1]

    def add(self, name: str, rows: pa.Table) -> None:
        for acts in self._acts.get(name, ()):
            acts.add(rows)

    def carry_out(self, folds: Mapping[str, TableFold], base_of: Callable[[TablePlan], BaseRows | None]) -> None:
        """Once, when everything is added."""
        for acts in (acts for known in self._acts.values() for acts in known):
            acts.join_moves()
        for name, edges in self._edges.items():
            acting = [edge for edge in edges if self._acted(edge)]
            if acting:
                below = self._acts.get(name, [])
                fold = folds[name]
                reached = reach(self._scratch, fold, acting, [acts.referenced for acts in below])
                reached.carry_out(base_of(fold.plan))
                for acts in below:
                    acts.derive(reached.gone(acts.referenced))

    def _acted(self, edge: Edge) -> bool:
        """Write down what a key acted on, if it did."""
        acts, scratch = self._acts_of[edge].name, self._scratch
        kinds = [literal(kind) for kind, action in (("d", edge.on_delete), ("u", edge.on_update)) if action]
        where = f"kind IN ({', '.join(kinds)})"
        for problem, then in self._problems(edge):
            if scratch.rows(f"SELECT 1 FROM {acts} WHERE {where} AND {then} LIMIT 1"):
                raise edge.unfolded(problem)
        shape = self._plan.tables[edge.child].shape
        if not all(_has(shape, name) for name in edge.key.columns):
            return False
        columns = [_named(shape, name) for name in edge.key.columns]
        like = likeness(columns, [f"old[{at}]" for at in range(1, len(columns) + 1)])
        new = [f"rtrim(new[{at}], ' ')" if c.type == "char" else f"new[{at}]" for at, c in enumerate(columns, 1)]
        scratch.run(
            f"CREATE OR REPLACE TABLE {edge.acts} AS SELECT DISTINCT {like.same} AS same, {like.near} AS near, "
            f"{like.doubt} AS doubt, pos // {STEP} * {STEP} + {2 * edge.number} AS pos, "
            f"CASE kind WHEN 'd' THEN {literal(edge.on_delete)} ELSE {literal(edge.on_update)} END AS action, "
            f"[{', '.join(new)}] AS new FROM {acts} WHERE {where} AND {like.same} IS NOT NULL"
        )
        return bool(scratch.rows(f"SELECT count(*) FROM {edge.acts}")[0][0])

    def _problems(self, edge: Edge) -> Iterator[tuple[str, str]]:
        """What cannot be told, and of which acts, as SQL."""
        child, parent = (self._plan.tables[name] for name in (edge.child, edge.parent))
        yield f"the log does not carry what {edge.parent} held in {', '.join(edge.key.referenced)}", "lacks"
        lost = self._lost(edge)
        if lost:
            yield "a column of it was dropped later, and with it what it held", f"pos < {_behind(*lost)}"
        if child.void and edge.child in self._acts:
            yield f"{edge.child} was emptied later, and what it had held is not kept", f"pos < {_behind(*child.void)}"
        for name, referenced in zip(edge.key.columns, edge.key.referenced, strict=True):
            if not (_has(child.shape, name) and _has(parent.shape, referenced)):
                continue
            column, of_parent = _named(child.shape, name), _named(parent.shape, referenced)
            if column.enum_values != of_parent.enum_values:
                yield f"column {name} has other labels than {edge.parent}'s", "true"
            if (of_parent.type, edge.on_update) == ("char", "follow") and column.type != "char":
                yield f"MySQL fills column {name} up with blanks, how many the log does not tell", "kind = 'u'"

    def _lost(self, edge: Edge) -> tuple[int, int] | None:
        """Where the child lost a column of the key, and so the key."""
        drops = [
            (change.seq, change.at)
            for segment in self._plan.segments
            for change in segment.changes
            if change.table == edge.child and change.effect == "drop_column" and change.new
            and not all(_has(self._shape_of(change.new), name) for name in edge.key.columns)
        ]  # fmt: skip
        return min(drops, default=None)


class _Acts:
    """Where rows of a parent went, or changed what these columns of it hold: a table with old and new values."""

    def __init__(
        self, scratch: Scratch, plan: Plan, parent: str, referenced: tuple[str, ...], shape_of: ShapeOf, number: int
    ) -> None:
        self._scratch, self._parent, self.referenced, self._shape_of = scratch, parent, referenced, shape_of
        self.name = f"acts_{number}"
        since = plan.base.txn_seq if plan.base else 0
        self._where = f'"table" = {literal(parent)} AND txn_seq > {since} AND txn_seq <= {plan.cut.txn_seq}'
        scratch.run(
            f"CREATE OR REPLACE TABLE {self.name} (pos HUGEINT, kind VARCHAR, old VARCHAR[], new VARCHAR[], "
            "lacks BOOLEAN)"
        )

    def add(self, rows: pa.Table) -> None:
        """The two halves of a moved row are kept apart, `-` and `+`, for they may come in two batches."""
        with self._scratch.over(rows):
            for (schema_id,) in self._scratch.rows(f"SELECT DISTINCT schema_id FROM incoming WHERE {self._where}"):
                shape = self._shape_of(schema_id)
                if not all(_has(shape, name) for name in self.referenced):
                    continue  # Nothing can refer to a column that is not there.
                names = [column.name for column in shape.columns]
                places = [names.index(name) + 1 for name in self.referenced]
                old, new = (f"[{', '.join(f'{image}[{at}]' for at in places)}]" for image in ("before", "after"))
                self._scratch.run(
                    f"INSERT INTO {self.name} SELECT {POS}, CASE WHEN op = 'u' THEN 'u' WHEN op = 'c' THEN '+' "
                    f"WHEN moved_to IS NULL THEN 'd' ELSE '-' END, {old}, {new}, "
                    f"coalesce(list_has_any(before_absent, {places}), false) "
                    f"FROM incoming WHERE {self._where} AND schema_id = {literal(schema_id)} "
                    f"AND (op IN ('u', 'd') OR moved_from IS NOT NULL) "
                    f"AND NOT coalesce(list_has_all(unchanged, {places}), false) "
                    f"AND (op <> 'u' OR {old} IS DISTINCT FROM {new})"
                )

    def join_moves(self) -> None:
        name = self.name
        self._scratch.run(
            f"INSERT INTO {name} SELECT b.pos, 'u', a.old, b.new, a.lacks FROM {name} a JOIN {name} b "
            "ON b.pos = a.pos + 1 AND b.kind = '+' WHERE a.kind = '-' AND a.old IS DISTINCT FROM b.new"
        )
        self._scratch.run(f"DELETE FROM {name} WHERE kind IN ('-', '+')")

    def derive(self, gone: str) -> None:
        """`gone`: a query for places and values of rows of the parent that a key deleted."""
        self._scratch.run(f"INSERT INTO {self.name} SELECT pos, 'd', old, NULL, false FROM ({gone})")


def _behind(seq: int, ordinal: int) -> str:
    """Behind everything that the change of this number set off."""
    return f"({seq}::HUGEINT * 18446744073709551616 + {ordinal}::HUGEINT * {STEP} + {MOVED})"


def _named(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)


def _has(table: Table, name: str) -> bool:
    return any(column.name == name for column in table.columns)
