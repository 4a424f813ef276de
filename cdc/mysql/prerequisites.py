"""What a MySQL server must be set to, to be a source: one list for `cdc check` and for a start. I/O, changes nothing.

In: a catalog. Out: findings, each with the statement that mends it.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdc.finding import Finding, Level, fail, ok, warn
from cdc.mysql.catalog import Catalog

_OLDEST = (8, 0, 17)
_SHORTEST_RETENTION_S = 86_400


def prerequisites(catalog: Catalog) -> Iterator[Finding]:
    """In the order in which somebody would mend them."""
    yield _version(catalog)
    if catalog.variable("log_bin") != "ON":
        yield fail("the server writes no binary log", "log_bin = binlog in my.cnf, and a restart")
        return
    yield _set(catalog, "binlog_format", "ROW")
    yield _set(catalog, "binlog_row_metadata", "FULL", "the log names no columns")
    if catalog.variable("gtid_mode") == "ON":
        yield ok("gtid_mode = ON")
    else:
        yield fail(
            f"gtid_mode = {catalog.variable('gtid_mode')}, ON is needed",
            "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; then ON_PERMISSIVE, ON",
        )
    yield _image(catalog)
    if catalog.variable("binlog_row_value_options"):
        yield fail(
            "binlog_row_value_options = PARTIAL_JSON: updates of JSON are not in the log whole",
            "SET PERSIST binlog_row_value_options = ''",
        )
    yield _retention(catalog)


def first_failing(catalog: Catalog) -> Finding | None:
    return next((finding for finding in prerequisites(catalog) if finding.level is Level.FAIL), None)


def _version(catalog: Catalog) -> Finding:
    text = str(catalog.rows("SELECT VERSION()")[0][0])
    if "mariadb" in text.lower():
        return fail(f"this is {text}: MariaDB is not supported yet", "see docs/LIMITS.md")
    version = tuple(int(part) for part in text.split("-", maxsplit=1)[0].split(".")[:3] if part.isdigit())
    needed = ".".join(map(str, _OLDEST))
    return fail(f"MySQL {text} is too old, {needed} or later is needed") if version < _OLDEST else ok(f"MySQL {text}")


def _set(catalog: Catalog, name: str, wanted: str, otherwise: str = "") -> Finding:
    value = catalog.variable(name)
    if value == wanted:
        return ok(f"{name} = {wanted}")
    why = f": {otherwise}" if otherwise else ""
    return fail(f"{name} = {value}, {wanted} is needed{why}", f"SET PERSIST {name} = '{wanted}'")


def _image(catalog: Catalog) -> Finding:
    image = catalog.variable("binlog_row_image")
    if image == "FULL":
        return ok("binlog_row_image = FULL")
    return warn(
        f"binlog_row_image = {image}: events lack what did not change, and an insert that leaves out a column stops "
        "the source",
        "SET PERSIST binlog_row_image = 'FULL'",
    )


def _retention(catalog: Catalog) -> Finding:
    seconds = int(catalog.variable("binlog_expire_logs_seconds") or 0)
    if seconds and seconds < _SHORTEST_RETENTION_S:
        return warn(
            f"binlog_expire_logs_seconds = {seconds}: a source that is stopped for longer must copy again",
            "SET PERSIST binlog_expire_logs_seconds = 604800",
        )
    return ok(f"the binary log is kept for {f'{seconds // 3600} h' if seconds else 'ever'}")
