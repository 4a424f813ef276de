"""What MySQL and MariaDB do in different ways, as one small value; it is chosen by the server's version. Pure.

In: the version that a server greets with. Out: its `Dialect`. Refuses: nothing; a server of neither name is MySQL.

Whoever needs a difference finds it here by name. Where a whole module is another, `engine` chooses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cdc.event import Engine

Setting = str | int


@dataclass(frozen=True, slots=True)
class Dialect:
    """`engine`: whose types its tables have, and what Debezium's connector is called."""

    engine: Engine
    label: str
    collation: str
    """Binary, and blanks at the end count."""
    real: str
    """SQL that gives all digits of a float or double, `{}`."""
    default_collation: str
    """Of character set utf8mb4."""
    quotes_defaults: bool
    """Whether the catalog shows a column's default as SQL."""
    settings: Mapping[str, Setting]
    """Of every session, besides those that both have."""
    snapshot_tells_position: bool
    """Whether a consistent snapshot says where in the log it stands, so that it needs no lock."""


MYSQL = Dialect(
    engine="mysql",
    label="MySQL",
    collation="utf8mb4_0900_bin",
    # The one cast that keeps every digit: to CHAR prints six digits of a float and 22 characters of a double, and
    # CAST(… AS DOUBLE) before it leaves 15 digits of small ones.
    default_collation="utf8mb4_0900_ai_ci",
    real="TRIM(TRAILING '.0' FROM CAST(CAST({} AS JSON) AS CHAR))",
    settings={
        "max_execution_time": 0,
        # Numbers of tables as they are, not as they were a day ago.
        "information_schema_stats_expiry": 0,
    },
    quotes_defaults=False,
    snapshot_tells_position=False,
)
MARIADB = Dialect(
    engine="mariadb",
    label="MariaDB",
    collation="utf8mb4_nopad_bin",
    default_collation="utf8mb4_general_ci",
    real="CAST({} AS DOUBLE)",
    settings={"max_statement_time": 0, "max_recursive_iterations": 70_000},
    quotes_defaults=True,
    snapshot_tells_position=True,
)


def dialect_of(version: str) -> Dialect:
    """`version`: as the server greets with it (5.5.5-10.11.19-MariaDB…), or as VERSION() has it."""
    return MARIADB if "mariadb" in version.lower() else MYSQL


def of_engine(engine: Engine) -> Dialect:
    return MARIADB if engine == "mariadb" else MYSQL


def version_number(version: str) -> tuple[int, ...]:
    """Major, minor and patch number."""
    own = version.removeprefix("5.5.5-") if dialect_of(version) is MARIADB else version
    return tuple(int(part) for part in own.partition("-")[0].split(".")[:3] if part.isdigit())
