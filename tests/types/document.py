"""Writes docs/TYPES.md out of `cdc.types` and `sinks.across`: `python -m tests.types.document`.

A test says when the file is no longer what this writes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cdc.event import Column, Engine, Table
from cdc.mysql.dialect import MARIADB, MYSQL
from cdc.types import TYPES, Form, element, is_array
from sinks.across import INDEX_BYTES, NAMES, TargetColumn, target_columns

FILE = Path(__file__).parents[2] / "docs/TYPES.md"
DECLARED: Mapping[Engine, Mapping[str, Sequence[str]]] = {
    "postgresql": {
        "int2": ["smallint"],
        "int4": ["integer"],
        "int8": ["bigint"],
        "float4": ["real"],
        "float8": ["double precision"],
        "numeric": ["numeric(10,2)", "numeric"],
        "varchar": ["character varying(40)", "character varying"],
        "bpchar": ["character(5)"],
        "bool": ["boolean"],
        "time": ["time(3) without time zone", "time without time zone"],
        "timestamp": ["timestamp(3) without time zone", "timestamp without time zone"],
        "timestamptz": ["timestamp(3) with time zone", "timestamp with time zone"],
        "enum": ["enum ('a', 'b')", "enum ('', 'a ')"],
    },
    "mysql": {
        "tinyint": ["tinyint", "tinyint(1)"],
        "decimal": ["decimal(10,2)"],
        "bit": ["bit(1)", "bit(10)"],
        "time": ["time(3)"],
        "datetime": ["datetime", "datetime(3)"],
        "timestamp": ["timestamp", "timestamp(3)"],
        "char": ["char(5)"],
        "varchar": ["varchar(40)"],
        "binary": ["binary(4)"],
        "varbinary": ["varbinary(40)"],
        "enum": ["enum('a','b')"],
        "set": ["set('a','b')"],
    },
}
"""How types are written out, where not by their name alone."""
LABELS = {"enum ('a', 'b')": ("a", "b"), "enum ('', 'a ')": ("", "a ")}
FORMS = {
    Form.FLOAT: "number",
    Form.DATE: "string, ISO date with Z; a zero date in the server's text",
    Form.TIME: "string, ISO time with Z; beyond one day in the server's text",
    Form.TIMESTAMP: "string, ISO timestamp with Z; a zero date in the server's text",
    Form.TIMESTAMPTZ: "string, ISO timestamp in UTC; a zero date in the server's text",
}
"""Where MySQL's values are others than Postgres'."""
OTHER: Mapping[Engine, Engine] = {"postgresql": "mysql", "mysql": "postgresql"}


def column(name: str, declared: str) -> Column:
    return Column(name="v", type=name, type_expression=declared, type_oid=0, typmod=-1, attnum=1, not_null=True,
                  enum_values=LABELS.get(declared))  # fmt: skip


def table_of(engine: Engine, of: Column, *, key: bool = False) -> Table:
    return Table("s", "t", 0, (of,), ("v",) if key else (), "d" if key else "f", (), engine=engine)


def _code(text: str) -> str:
    return f"`{text}`"


_ON_MYSQL = [
    target_columns(table_of("mariadb", column(name, name)), "mysql")[0].type_sql.partition(" CHARACTER")[0]
    for name in ("uuid", "inet4", "inet6")
]
(_JSON,) = target_columns(table_of("mysql", column("json", "json")), "mysql")
HEAD = f"""# Types

Written by `python -m tests.types.document`; do not edit.

Every type that is carried, how its values stand in an event (`types = "exact"`), and what it is on a replica of the
other engine. On a replica of the same engine a column has its own type; in MySQL's `json`
{_JSON.note}.
A type that is not in these tables stops the source at its start, by name.

- **exact**: the type over there holds the values of this one, with the same meaning.
- **widened**: every value is held whole, in a type that holds more or says less.

No carried type is lossy: a target either holds a value whole, or the sink stops at it with APPLY_FAILED, which names
table, key, column and value. Those values are named in the last column. `cdc verify` and the comparison at the end of a
restore ask the replica for its values in the source's text, so they hold across engines too.
"""
MYSQL_TARGET = f"""
On MySQL the text types have the collation `utf8mb4_0900_bin`, which tells `a`, `A` and `a ` apart as Postgres does. An
index entry is at most {INDEX_BYTES} bytes there, a row 65535: in a key, types without a length are bounded by their
part of that, and MySQL refuses what is longer by name; where the columns of a table together pass the limit of a row,
the longest `varchar` outside the key become `longtext`.

| in a key | on MySQL |
|---|---|
"""
RELATIVES = f"""
`uuid`, `inet4` and `inet6` are MariaDB's alone, `json` is MySQL's: to MariaDB it is a name for `longtext`.

## MySQL ↔ MariaDB

A column has its own type, and the values their text, with these exceptions:

| | there |
|---|---|
| `json` of MySQL | `longtext` of the very text; MariaDB's own has the check `json_valid`, which is not set |
| `uuid`, `inet4`, `inet6` of MariaDB | {", ".join(_code(there) for there in _ON_MYSQL)} of their text |
| `utf8mb4_0900_ai_ci`, `_as_ci`, `_as_cs` of MySQL | `utf8mb4_uca1400_nopad_ai_ci`, … |
| `utf8mb4_uca1400_ai_ci`, `_as_ci`, `_as_cs`, with `nopad` or without | `utf8mb4_0900_ai_ci`, … |
| `-0` of a float or double | to MariaDB it is refused: it has none |
| any other collation that the target lacks | one that compares bytes: `{MYSQL.collation}`, `{MARIADB.collation}` |
"""


def document() -> str:
    parts = [HEAD]
    for engine, other in OTHER.items():
        source, target = (NAMES[e] + (", MariaDB" if e == "mysql" else "") for e in (engine, other))
        parts.append(f"\n## {source} → {target}\n\n")
        parts.append(f"| {NAMES[engine]} | in an event | on {NAMES[other]} | | |\n|---|---|---|---|---|\n")
        parts += [_row(engine, column) for column in columns(engine)]
        if engine == "postgresql":
            parts.append(MYSQL_TARGET)
            keys = [_key(column) for column in columns(engine) if column.type != "json"]
            parts += [
                f"| {_code(name)} | {_code(there.type_sql)} |\n"
                for name, there in keys
                if "up to" in there.note and name != "json"
            ]
    parts.append(RELATIVES)
    return "".join(parts)


def columns(engine: Engine) -> list[Column]:
    """One for every type and way to declare it."""
    declared = [(name, text) for name in TYPES[engine] for text in DECLARED[engine].get(name, [name])]
    if engine == "postgresql":
        declared.append(("int4[]", "integer[]"))
    return [column(name, text) for name, text in declared]


def _row(engine: Engine, of: Column) -> str:
    (there,) = target_columns(table_of(engine, of), OTHER[engine])
    form = element(of.type, engine).form
    said = FORMS[form] if engine == "mysql" and form in FORMS else form.value
    shown = [
        _code(_shown(of)),
        f"array of: {said}" if is_array(of.type) else said,
        _code(_short(there)),
        there.fidelity,
        there.note,
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in shown)} |\n"


def _shown(of: Column) -> str:
    return "any array, such as integer[]" if is_array(of.type) else of.type_expression


def _short(there: TargetColumn) -> str:
    """Without the collation, which the text says once."""
    return there.type_sql.partition(" CHARACTER SET ")[0]


def _key(of: Column) -> tuple[str, TargetColumn]:
    (there,) = target_columns(table_of("postgresql", of, key=True), "mysql")
    return _shown(of), there


if __name__ == "__main__":
    FILE.write_text(document())
