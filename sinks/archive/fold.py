"""The rows of one table as they stood at a cut: its base and the segments behind it, folded by DuckDB.

In: a `TablePlan`, batches of the table's rows in segments, batches of its base. Out: every row's key and line (see
`lines`), a batch at a time. Refuses: rows that no database can have left behind: a change of a row that is not there, a
value that nothing before carried (ARCHIVE_CORRUPT).

Cost grows with the changes once, for sorting them by key, and with the rows that come out; the changes' keys are read
again for each piece of the base, so that memory does not grow. Of a keyed table only the
last change of each key counts; where the log did not carry a column (a TOASTed value that did not change) it is looked
for in earlier changes of the row, under an earlier key if it moved, and at last in the base. A table without a key is a
multiset of lines. Images are mapped to the shape at the cut by what makes a column the same, its attnum; a column that
was added later has the value that the source gave to existing rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

from cdc.errors import ARCHIVE_CORRUPT, CdcError
from cdc.event import Table
from sinks.archive.lines import line, literal, name
from sinks.archive.plan import TablePlan
from sinks.archive.scratch import Scratch

ShapeOf = Callable[[str], Table]
BaseRows = Callable[[], Iterable[pa.RecordBatch]]
PIECE_BYTES = 128 << 20
"""Of a base, that are joined with the changes at a time."""
STEP = 1 << 20
"""From one logged change to the next: between them is room for what the keys of MySQL did behind the first."""
MOVED = STEP - 1
POS = (
    f"txn_seq::HUGEINT * 18446744073709551616 + ordinal::HUGEINT * {STEP} "
    f"+ CASE WHEN op = 'd' AND moved_to IS NOT NULL THEN {MOVED} ELSE 0 END"
)
"""A change's place. What leaves its key stands right before what comes to another one, which is the next event."""


class TableFold:
    """One table, the `number`-th of a restore. `add` its changes, then take `rows`.

    `acted`: keys of MySQL may change its rows (`cascade`). Without a key it then keeps each change's place and cells.
    """

    def __init__(
        self,
        scratch: Scratch,
        plan: TablePlan,
        shape_of: ShapeOf,
        cut_seq: int,
        number: int = 0,
        *,
        acted: bool = False,
    ) -> None:
        self._scratch, self._shape_of, self._cut_seq, self._acted = scratch, shape_of, cut_seq, acted
        self.plan = plan
        self._columns = len(plan.shape.columns)
        self.keyed = not plan.shape.keyless
        self.changes = f"changes_{number}"
        columns = "image VARCHAR[], n BIGINT, pos HUGEINT" if acted else "line VARCHAR, n BIGINT"
        if self.keyed:
            columns = "pos HUGEINT, op VARCHAR, key VARCHAR, image VARCHAR[], lacking INTEGER[], moved_from VARCHAR"
        scratch.run(f"CREATE OR REPLACE TABLE {self.changes} ({columns})")

    # -- the log ------------------------------------------------------------------------------------------------
    def add(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Rows of segments, of this table or others; what lies beyond the cut or before a void is passed over."""
        after = f"(txn_seq, ordinal) > {self.plan.void}" if self.plan.void else "true"
        span = f"txn_seq > {self.plan.since} AND txn_seq <= {self._cut_seq}"
        where = f'"table" = {literal(self.plan.name)} AND {span} AND {after}'
        with self._scratch.over(batch):
            used = self._scratch.rows(f"SELECT DISTINCT schema_id FROM incoming WHERE {where}")
            for (schema_id,) in used:
                shape = self._shape_of(schema_id)
                of = f"FROM incoming WHERE {where} AND schema_id = {literal(schema_id)}"
                self._scratch.run(self._keyed_changes(shape, of) if self.keyed else self._counted(shape, of))

    def _keyed_changes(self, shape: Table, of: str) -> str:
        key = self._key_line("key", shape)
        return f"""
INSERT INTO {self.changes}
SELECT {POS}, op, {key}, CASE WHEN after IS NOT NULL THEN {self._image(shape, "after")} END,
  {self._lacking(shape)}, CASE WHEN moved_from IS NOT NULL THEN {self._key_line("moved_from", shape)} END {of}"""

    def _counted(self, shape: Table, of: str) -> str:
        """An unchanged column of `after` has the value that `before` has, which is whole."""
        before, after = "b", "a"
        what, at = "image", ", pos"
        if not self._acted:
            before, after = self._line("b"), self._line("a")
            what, at = "line", ""
        filled = [
            f"CASE WHEN list_contains(unchanged, {at}) THEN before[{at}] ELSE after[{at}] END"
            for at in range(1, len(shape.columns) + 1)
        ]
        return f"""
INSERT INTO {self.changes} SELECT {what}, n{at} FROM (
  SELECT {POS} AS pos, unnest([{{'{what}': CASE WHEN before IS NOT NULL THEN {before} END, 'n': -1}},
                 {{'{what}': CASE WHEN after IS NOT NULL THEN {after} END, 'n': 1}}], max_depth := 2)
  FROM (SELECT *, {self._image(shape, "before")} AS b, {self._mapped(shape, filled)} AS a {of})
) WHERE {what} IS NOT NULL"""

    def _line(self, image: str) -> str:
        return line([f"{image}[{at}]" for at in range(1, self._columns + 1)])

    def _image(self, shape: Table, column: str) -> str:
        return self._mapped(shape, [f"{column}[{at}]" for at in range(1, len(shape.columns) + 1)])

    def _mapped(self, shape: Table, cells: Sequence[str]) -> str:
        return f"[{', '.join(self._cells(shape, cells))}]"

    def _cells(self, shape: Table, cells: Sequence[str]) -> list[str]:
        """Those of the shape of the cut, out of the cells of another shape of the table."""
        place = {column.attnum: at for at, column in enumerate(shape.columns)}
        return [
            cells[place[column.attnum]] if column.attnum in place else f"{literal(column.missing)}::VARCHAR"
            for column in self.plan.shape.columns
        ]

    def _lacking(self, shape: Table) -> str:
        """Places in the cut's shape that `after` does not carry, NULL if it carries all."""
        place = {column.attnum: at for at, column in enumerate(shape.columns, 1)}
        found = [
            f"CASE WHEN list_contains(unchanged, {place[column.attnum]}) THEN {at} END"
            for at, column in enumerate(self.plan.shape.columns, 1)
            if column.attnum in place
        ]
        return f"CASE WHEN unchanged IS NOT NULL THEN list_filter([{', '.join(found)}], lambda x: x IS NOT NULL) END"

    def _key_line(self, column: str, shape: Table) -> str:
        return line([f"{column}[{at}]" for at in range(1, len(shape.key) + 1)])

    # -- the result ---------------------------------------------------------------------------------------------
    def rows(self, base: BaseRows | None) -> Iterator[pa.RecordBatch]:
        """Batches of (key, line). `base` opens the table's rows in its base, in the base's shape; None: no base."""
        if self.plan.from_base and base is None:
            raise ValueError("the plan wants a base")
        if not self.plan.from_base:
            base = None
        yield from self._keyed_rows(base) if self.keyed else self._counted_rows(base)

    def pieces(self, base: BaseRows) -> Iterator[None]:
        """The base as `incoming`, a piece at a time: what a join holds and spills is as large as a piece."""
        held: list[pa.RecordBatch] = []
        for batch in base():
            held.append(batch)
            if sum(one.nbytes for one in held) >= PIECE_BYTES:
                with self._scratch.over(pa.Table.from_batches(held)):
                    yield
                held = []
        if held:
            with self._scratch.over(pa.Table.from_batches(held)):
                yield

    def _met(self, of_base: str, changed: str, by: str) -> None:
        """Table `met`: what of `changed` is in this piece, `by` a column of both."""
        self._scratch.run(
            f"CREATE OR REPLACE TABLE met AS SELECT c.{by} FROM {changed} c SEMI JOIN {of_base} ON b.{by} = c.{by}"
        )

    def base_rows(self) -> tuple[str, list[str]]:
        """Expressions over `incoming`: the key's line, the cells, in the shape of the cut."""
        assert self.plan.base_schema is not None
        shape = self._shape_of(self.plan.base_schema)
        cells = self._cells(shape, [name(column.name) for column in shape.columns])
        key = line([name(column) for column in shape.key]) if self.keyed else "''"
        return key, cells

    def _keyed_rows(self, base: BaseRows | None) -> Iterator[pa.RecordBatch]:
        scratch = self._scratch
        scratch.run(
            "CREATE OR REPLACE TABLE last AS SELECT key, max(pos) AS pos, arg_min(op, pos) IN ('u', 'd') AS was_there, "
            "arg_max(op, pos) <> 'd' AS is_there, "
            "count(*) FILTER (op IN ('c', 'r')) - count(*) FILTER (op = 'd') AS more "
            f"FROM {self.changes} GROUP BY key"
        )
        self._refuse(
            "SELECT key FROM last WHERE was_there::INT + more <> is_there::INT",
            "it was inserted while it was there, or changed while it was not",
        )
        scratch.run(
            f"CREATE OR REPLACE TABLE live AS SELECT c.* FROM {self.changes} c "
            "JOIN last l ON c.key = l.key AND c.pos = l.pos WHERE c.op <> 'd'"
        )
        filled = self._fill(base)
        yield from scratch.batches(f"SELECT key, {self._line('image')} AS line FROM {filled}")
        scratch.run("CREATE OR REPLACE TABLE began (key VARCHAR)")
        if base is not None:
            key, cells = self.base_rows()
            of_base = f"(SELECT {key} AS key, {line(cells)} AS line FROM incoming) b"
            for _ in self.pieces(base):
                self._met(of_base, "last", "key")
                scratch.run("INSERT INTO began SELECT key FROM met")
                yield from scratch.batches(f"SELECT b.key, b.line FROM {of_base} ANTI JOIN met m ON b.key = m.key")
        self._refuse(
            "SELECT key FROM last SEMI JOIN began USING (key) WHERE NOT was_there", "it was inserted while it was there"
        )
        self._refuse(
            "SELECT key FROM last ANTI JOIN began USING (key) WHERE was_there", "it was changed while it was not there"
        )

    # -- values that the last change does not carry -------------------------------------------------------------
    def _fill(self, base: BaseRows | None) -> str:
        """The name of a relation like `live` whose images are whole."""
        scratch = self._scratch
        scratch.run(
            "CREATE OR REPLACE TABLE wanted AS SELECT key AS row_key, unnest(lacking) AS col, "
            "CASE WHEN moved_from IS NULL THEN key ELSE moved_from END AS at_key, "
            "CASE WHEN moved_from IS NULL THEN pos ELSE pos - 1 END AS before, "
            "op = 'u' OR moved_from IS NOT NULL AS ok FROM live WHERE len(lacking) > 0"
        )
        columns = [col for (col,) in scratch.rows("SELECT DISTINCT col FROM wanted ORDER BY col")]
        if not columns:
            return "live"
        scratch.run("CREATE OR REPLACE TABLE found (row_key VARCHAR, col INTEGER, value VARCHAR)")
        scratch.run("CREATE OR REPLACE TABLE from_base (row_key VARCHAR, col INTEGER, at_key VARCHAR)")
        while scratch.rows("SELECT count(*) FROM wanted")[0][0]:
            self._refuse("SELECT row_key FROM wanted WHERE NOT ok", "its first change does not carry every column")
            self._step_back(columns)
        if scratch.rows("SELECT count(*) FROM from_base")[0][0]:
            self._fill_from_base(base)
        joins, cells = [], []
        for at in range(1, self._columns + 1):
            if at not in columns:
                cells.append(f"l.image[{at}]")
                continue
            joins.append(f"LEFT JOIN found f{at} ON f{at}.row_key = l.key AND f{at}.col = {at}")
            cells.append(f"CASE WHEN list_contains(l.lacking, {at}) THEN f{at}.value ELSE l.image[{at}] END")
        scratch.run(
            f"CREATE OR REPLACE TABLE filled AS SELECT l.key, [{', '.join(cells)}] AS image "
            f"FROM live l {' '.join(joins)}"
        )
        return "filled"

    def _step_back(self, columns: Sequence[int]) -> None:
        """For every value wanted, the newest earlier change under that key that carries it or where the row began."""
        scratch = self._scratch
        scratch.run("CREATE OR REPLACE TABLE seen (row_key VARCHAR, col INTEGER, at_key VARCHAR, pos HUGEINT, "
                    "op VARCHAR, carried BOOLEAN, value VARCHAR, moved_from VARCHAR)")  # fmt: skip
        for col in columns:
            scratch.run(
                f"INSERT INTO seen SELECT w.row_key, w.col, w.at_key, e.pos, e.op, e.carried, e.value, e.moved_from "
                f"FROM (SELECT * FROM wanted WHERE col = {col}) w ASOF LEFT JOIN ("
                f"SELECT key, pos, op, NOT coalesce(list_contains(lacking, {col}), false) AS carried, "
                f"image[{col}] AS value, moved_from FROM {self.changes} "
                f"WHERE op <> 'u' OR NOT coalesce(list_contains(lacking, {col}), false)"
                f") e ON w.at_key = e.key AND w.before > e.pos"
            )
        self._refuse("SELECT row_key FROM seen WHERE op = 'd'", "it was changed after it was deleted")
        scratch.run("INSERT INTO found SELECT row_key, col, value FROM seen WHERE carried AND op <> 'd'")
        scratch.run("INSERT INTO from_base SELECT row_key, col, at_key FROM seen WHERE pos IS NULL")
        scratch.run(
            "CREATE OR REPLACE TABLE wanted AS SELECT row_key, col, moved_from AS at_key, pos - 1 AS before, "
            "moved_from IS NOT NULL AS ok FROM seen WHERE NOT carried"
        )

    def _fill_from_base(self, base: BaseRows | None) -> None:
        if base is not None:
            key, cells = self.base_rows()
            for _ in self.pieces(base):
                self._scratch.run(
                    f"INSERT INTO found SELECT f.row_key, f.col, b.image[f.col] FROM from_base f "
                    f"JOIN (SELECT {key} AS key, [{', '.join(cells)}] AS image FROM incoming) b ON b.key = f.at_key"
                )
        self._refuse(
            "SELECT row_key FROM from_base f ANTI JOIN found USING (row_key, col)", "nothing before it brought the row"
        )

    def _refuse(self, query: str, problem: str) -> None:
        bad = self._scratch.rows(f"{query} LIMIT 3")
        if bad:
            keys = ", ".join(row[0] for row in bad)
            raise CdcError(ARCHIVE_CORRUPT, name=f"{self.plan.name} row {keys}", problem=problem)

    # -- tables without a key -----------------------------------------------------------------------------------
    def _counted_rows(self, base: BaseRows | None) -> Iterator[pa.RecordBatch]:
        scratch = self._scratch
        what = self._line("image") if self._acted else "line"
        scratch.run(
            f"CREATE OR REPLACE TABLE counted AS SELECT {what} AS line, sum(n)::BIGINT AS n FROM {self.changes} "
            "GROUP BY 1 HAVING sum(n) <> 0"
        )
        if base is not None:
            _, cells = self.base_rows()
            of_base = f"(SELECT {line(cells)} AS line FROM incoming) b"
            scratch.run("CREATE OR REPLACE TABLE before (line VARCHAR, n BIGINT)")
            for _ in self.pieces(base):
                self._met(of_base, "counted", "line")
                scratch.run(
                    f"INSERT INTO before SELECT b.line, count(*) FROM {of_base} "
                    "SEMI JOIN met m ON b.line = m.line GROUP BY 1"
                )
                yield from scratch.batches(
                    f"SELECT b.line AS key, b.line FROM {of_base} ANTI JOIN met m ON b.line = m.line"
                )
            scratch.run(
                "UPDATE counted SET n = counted.n + b.n "
                "FROM (SELECT line, sum(n)::BIGINT AS n FROM before GROUP BY 1) b WHERE b.line = counted.line"
            )
        self._refuse("SELECT line FROM counted WHERE n < 0", "more copies of it were removed than there were")
        yield from scratch.batches(
            "SELECT line AS key, line FROM (SELECT line, unnest(range(n)) FROM counted WHERE n > 0)"
        )
