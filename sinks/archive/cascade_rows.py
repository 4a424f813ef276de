"""Which rows of one table its foreign keys reached, and when. SQL of DuckDB.

In: the fold of the table with the logged changes in it, the keys with what they acted on (`acted_N`), its base.
Out: derived changes in the fold's own table; queries for the rows that were deleted, which act on further tables.
Refuses: texts of which only the server's collation can say whether they are equal (CASCADE_UNFOLDED).

A row with a key stands from one logged change of it to the next; what it holds in the columns that matter is known
where it begins to stand. The first act in that span that names those values changes it, and it stands on from there
with others, or is gone. A change whose image lacks some of the columns goes on from what the row held before it.
Copies of a row without a key are counted, and counts add up: each logged +1 or -1 goes its own way, whatever others do,
and what there is at one place in the end is their sum.

Only rows that hold what some act names are looked at; a step of the walk takes all of them at once, and there are as
many steps as acts that reach one and the same row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cdc.errors import CASCADE_UNFOLDED, CdcError
from cdc.event import ForeignKey, Table
from sinks.archive.collation import Likeness, likeness
from sinks.archive.fold import BaseRows, TableFold
from sinks.archive.lines import line
from sinks.archive.scratch import Scratch

Action = Literal["delete", "null", "follow"]
_ON_DELETE: dict[str, Action] = {"CASCADE": "delete", "SET NULL": "null"}
_ON_UPDATE: dict[str, Action] = {"CASCADE": "follow", "SET NULL": "null"}


@dataclass(frozen=True, slots=True)
class Edge:
    """A foreign key that acts; keys of parents have lower numbers, and of one table the order of their names."""

    child: str
    key: ForeignKey
    number: int

    @property
    def parent(self) -> str:
        return self.key.parent

    @property
    def on_delete(self) -> Action | None:
        return _ON_DELETE.get(self.key.on_delete)

    @property
    def on_update(self) -> Action | None:
        return _ON_UPDATE.get(self.key.on_update)

    @property
    def acts(self) -> str:
        """Table of what the key acted on: `same`, `near`, `doubt` of the old values, `pos`, `action`, `new` values."""
        return f"acted_{self.number}"

    def unfolded(self, problem: str) -> CdcError:
        return CdcError(CASCADE_UNFOLDED, table=self.child, key=self.key.name, parent=self.parent, problem=problem)


def places_of(table: Table, names: Sequence[str]) -> list[int]:
    """From 1."""
    all_names = [column.name for column in table.columns]
    return [all_names.index(name) + 1 for name in names]


def reach(scratch: Scratch, fold: TableFold, edges: Sequence[Edge], referenced: Sequence[Sequence[str]]) -> Reach:
    """`referenced`: columns of the table by which keys of others refer to it."""
    return (_Rows if fold.keyed else _Copies)(scratch, fold, edges, referenced)


class Reach:
    """One table's walk, a step at a time. `standing` are rows, or copies, that an act may still reach.

    They hold values in the columns that matter, those of `places`: the keys, and what other keys refer to.
    """

    one: str
    """What tells one that stands from another."""

    def __init__(
        self, scratch: Scratch, fold: TableFold, edges: Sequence[Edge], referenced: Sequence[Sequence[str]]
    ) -> None:
        self._scratch, self._fold, self._edges, self._shape = scratch, fold, edges, fold.plan.shape
        names = [name for of in (self._shape.key, *(edge.key.columns for edge in edges), *referenced) for name in of]
        places = places_of(self._shape, names) if fold.keyed else range(1, len(self._shape.columns) + 1)
        self._places = sorted(set(places))
        self._like = {edge: self._likeness(edge) for edge in edges}

    def carry_out(self, base: BaseRows | None) -> None:
        """Until nothing is reached any more; then the fold has it all."""
        self._begin(base if self._fold.plan.from_base else None)
        while self._scratch.rows("SELECT count(*) FROM standing")[0][0]:
            self._refuse_doubt()
            self._meet()
            self._step()
        self._end()

    def gone(self, referenced: Sequence[str]) -> str:
        """A query: what deleted rows held in these columns, and where they went."""
        raise NotImplementedError

    def _begin(self, base: BaseRows | None) -> None:
        raise NotImplementedError

    def _step(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError

    # -- values -------------------------------------------------------------------------------------------------
    def _values(self, names: Sequence[str], of: str = "held") -> list[str]:
        return [f"{of}[{self._places.index(place) + 1}]" for place in places_of(self._shape, names)]

    def _picked(self, cells: Sequence[str]) -> str:
        """The values out of the cells of a whole row."""
        return f"[{', '.join(cells[place - 1] for place in self._places)}]"

    def _likeness(self, edge: Edge) -> Likeness:
        columns = [self._shape.columns[at - 1] for at in places_of(self._shape, edge.key.columns)]
        return likeness(columns, self._values(edge.key.columns))

    def _after(self, edge: Edge) -> str:
        """The values when the act has set the key's columns: to the new ones, or to NULL."""
        at = places_of(self._shape, edge.key.columns)
        cells = [
            f"CASE action WHEN 'follow' THEN new[{at.index(place) + 1}] END" if place in at else f"held[{number}]"
            for number, place in enumerate(self._places, 1)
        ]
        return f"[{', '.join(cells)}]"

    # -- a step -------------------------------------------------------------------------------------------------
    def _reachable(self) -> str:
        """Whether an act names what the values hold, or something near it."""
        return " OR ".join(
            f"coalesce({self._like[edge].near} IN (SELECT near FROM {edge.acts}), false)" for edge in self._edges
        )

    def _refuse_doubt(self) -> None:
        for edge in self._edges:
            like = self._like[edge]
            found = self._scratch.rows(
                f"SELECT s.same, a.same FROM (SELECT {like.same} AS same, {like.near} AS near, {like.doubt} AS doubt "
                f"FROM standing) s JOIN {edge.acts} a ON s.near = a.near AND s.same <> a.same AND (s.doubt OR a.doubt) "
                "LIMIT 1"
            )
            for one, other in found:
                raise edge.unfolded(f"only its collation can say whether {one} is {other}")

    def _meet(self) -> None:
        """Table `struck`: of all that stands what an act names, with the next one that does."""
        named = [
            f"SELECT s.*, {edge.number} AS edge, a.pos AS acted, a.action, a.new "
            f"FROM standing s ASOF JOIN {edge.acts} a ON {self._like[edge].same} = a.same AND s.pos < a.pos"
            for edge in self._edges
        ]
        self._scratch.run(
            f"CREATE OR REPLACE TABLE struck AS SELECT * FROM ({' UNION ALL '.join(named)}) "
            f"QUALIFY row_number() OVER (PARTITION BY {self.one}, pos ORDER BY acted) = 1"
        )


class _Rows(Reach):
    """With a key."""

    one = "key"

    def gone(self, referenced: Sequence[str]) -> str:
        return f"SELECT pos, [{', '.join(self._values(referenced))}] AS old FROM gone"

    def _begin(self, base: BaseRows | None) -> None:
        """View `logged`: the changes that bring a row, take it, or change what matters; `partial`: keys of those that
        lack some of it, and of the rows before them."""
        run, columns = self._scratch.run, len(self._shape.columns)
        values = self._picked([f"image[{at}]" for at in range(1, columns + 1)])
        run(
            f"CREATE OR REPLACE VIEW logged AS SELECT key, pos, op, moved_from, {values} AS held, "
            f"list_filter(coalesce(lacking, []), lambda place: list_contains({self._places}, place)) AS lacks "
            f"FROM {self._fold.changes} WHERE op <> 'u' OR NOT coalesce(list_has_all(lacking, {self._places}), false)"
        )
        run("CREATE OR REPLACE TABLE partial AS SELECT key FROM logged WHERE len(lacks) > 0 "
            "UNION SELECT moved_from FROM logged WHERE len(lacks) > 0 AND moved_from IS NOT NULL")  # fmt: skip
        run("CREATE OR REPLACE TABLE derived (pos HUGEINT, op VARCHAR, key VARCHAR, image VARCHAR[], "
            "lacking INTEGER[], moved_from VARCHAR)")  # fmt: skip
        run("CREATE OR REPLACE TABLE gone (pos HUGEINT, held VARCHAR[])")
        begins = f"{self._reachable()} OR key IN (SELECT key FROM partial)"
        run(f"CREATE OR REPLACE TABLE standing AS SELECT key, pos, held FROM logged "
            f"WHERE op <> 'd' AND len(lacks) = 0 AND ({begins})")  # fmt: skip
        if base is not None:
            key, cells = self._fold.base_rows()
            for _ in self._fold.pieces(base):
                run(f"INSERT INTO standing SELECT * FROM (SELECT {key} AS key, -1 AS pos, {self._picked(cells)} AS "
                    f"held FROM incoming) WHERE {begins}")  # fmt: skip

    def _step(self) -> None:
        run = self._scratch.run
        run("CREATE OR REPLACE TABLE hit AS SELECT s.* FROM struck s ASOF LEFT JOIN "
            "(SELECT l.key, l.pos FROM logged l SEMI JOIN struck t ON t.key = l.key) l "
            "ON s.key = l.key AND s.pos < l.pos WHERE l.pos IS NULL OR s.acted < l.pos")  # fmt: skip
        run("CREATE OR REPLACE TABLE onward (key VARCHAR, pos HUGEINT, held VARCHAR[])")
        run("INSERT INTO gone SELECT acted, held FROM hit WHERE action = 'delete'")
        run("INSERT INTO derived SELECT acted, 'd', key, NULL, NULL, NULL FROM hit WHERE action = 'delete'")
        for edge in self._edges:
            if {edge.on_delete, edge.on_update} & {"null", "follow"}:
                self._change(edge)
        if self._scratch.rows("SELECT count(*) FROM partial")[0][0]:
            self._go_on()
        run("CREATE OR REPLACE TABLE standing AS SELECT * FROM onward")

    def _change(self, edge: Edge) -> None:
        """An update that carries the key's columns alone; two events where they are part of the row's own key."""
        run, set_places = self._scratch.run, places_of(self._shape, edge.key.columns)
        places = range(1, len(self._shape.columns) + 1)
        image = [f"after[{self._places.index(at) + 1}]" if at in set_places else "NULL" for at in places]
        rest = [at for at in places if at not in set_places]
        moves = bool(set(edge.key.columns) & set(self._shape.key))
        new_key = line(self._values(self._shape.key, "after")) if moves else "key"
        run(
            f"CREATE OR REPLACE TABLE changed AS SELECT *, {new_key} AS new_key FROM "
            f"(SELECT key, acted, {self._after(edge)} AS after FROM hit "
            f"WHERE edge = {edge.number} AND action <> 'delete')"
        )
        to = f"new_key, [{', '.join(image)}]::VARCHAR[], {rest}::INTEGER[]"
        run(f"INSERT INTO derived SELECT acted, 'u', {to}, NULL FROM changed WHERE new_key = key")
        run("INSERT INTO derived SELECT acted, 'd', key, NULL, NULL, NULL FROM changed WHERE new_key <> key")
        run(f"INSERT INTO derived SELECT acted + 1, 'c', {to}, key FROM changed WHERE new_key <> key")
        run("INSERT INTO onward SELECT new_key, acted + (new_key <> key)::INT, after FROM changed")

    def _go_on(self) -> None:
        """What no act reached before its next change goes on to there, if that lacks something; it may move the row."""
        merged = ", ".join(
            f"CASE WHEN list_contains(lacks, {place}) THEN before[{at}] ELSE carried[{at}] END"
            for at, place in enumerate(self._places, 1)
        )
        self._scratch.run(
            "CREATE OR REPLACE TABLE following AS SELECT s.key, s.held AS before, l.pos AS acted, l.op, l.lacks, "
            "l.held AS carried FROM (SELECT s.* FROM standing s ANTI JOIN hit h ON h.key = s.key AND h.pos = s.pos) s "
            "ASOF JOIN (SELECT l.* FROM logged l SEMI JOIN standing t ON t.key = l.key) l "
            "ON s.key = l.key AND s.pos < l.pos"
        )
        self._scratch.run(
            f"INSERT INTO onward SELECT key, acted, [{merged}] FROM (SELECT * FROM following WHERE op = 'u' UNION ALL "
            "SELECT l.key, n.before, l.pos, l.op, l.lacks, l.held FROM following n JOIN logged l "
            "ON l.moved_from = n.key AND l.pos = n.acted + 1) WHERE len(lacks) > 0"
        )

    def _end(self) -> None:
        self._scratch.run(f"INSERT INTO {self._fold.changes} SELECT * FROM derived")


class _Copies(Reach):
    """Without a key: `held` are whole rows, `n` how many more of them there are from `pos` on."""

    one = "held"

    def gone(self, referenced: Sequence[str]) -> str:
        values = f"[{', '.join(self._values(referenced))}]"
        return f"SELECT pos, {values} AS old FROM gone GROUP BY ALL HAVING sum(n) > 0"

    def _begin(self, base: BaseRows | None) -> None:
        run = self._scratch.run
        run("CREATE OR REPLACE TABLE derived (held VARCHAR[], n BIGINT, pos HUGEINT)")
        run("CREATE OR REPLACE TABLE gone (pos HUGEINT, held VARCHAR[], n BIGINT)")
        of_log = f"(SELECT image AS held, pos, n FROM {self._fold.changes})"
        run(f"CREATE OR REPLACE TABLE standing AS {self._counted(of_log)}")
        if base is not None:
            _, cells = self._fold.base_rows()
            for number, _ in enumerate(self._fold.pieces(base)):
                of_base = f"(SELECT {self._picked(cells)} AS held, {-1 - number} AS pos, 1 AS n FROM incoming)"
                run(f"INSERT INTO standing {self._counted(of_base)}")

    def _counted(self, of: str) -> str:
        return f"SELECT held, pos::HUGEINT AS pos, sum(n)::BIGINT AS n FROM {of} WHERE {self._reachable()} GROUP BY ALL"

    def _step(self) -> None:
        run = self._scratch.run
        run("CREATE OR REPLACE TABLE onward (held VARCHAR[], pos HUGEINT, n BIGINT)")
        run("INSERT INTO gone SELECT acted, held, n FROM struck WHERE action = 'delete'")
        run("INSERT INTO derived SELECT held, -n, acted FROM struck")
        for edge in self._edges:
            run(f"INSERT INTO onward SELECT {self._after(edge)}, acted, n FROM struck "
                f"WHERE edge = {edge.number} AND action <> 'delete'")  # fmt: skip
        run("INSERT INTO derived SELECT held, n, pos FROM onward")
        run("CREATE OR REPLACE TABLE standing AS SELECT held, pos, sum(n)::BIGINT AS n FROM onward GROUP BY ALL")

    def _end(self) -> None:
        self._scratch.run(f"INSERT INTO {self._fold.changes} SELECT * FROM derived")
