"""What a MySQL server must be set to, to be a source: one list for `cdc check` and for a start. I/O, changes nothing.

In: a catalog. Out: findings, each with the statement that mends it, as the service writes it that runs the server.
Raises where the role may not ask (SOURCE_PREREQUISITE), behind everything that anybody may.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdc.errors import CdcError
from cdc.finding import Finding, Level, fail, ok, warn
from cdc.mysql.catalog import Catalog
from cdc.mysql.dialect import MARIADB, version_number
from cdc.mysql.provider import AURORA, RDS, Provider, recognise

_OLDEST = {"mysql": (8, 0, 17), "mariadb": (10, 6)}
_TOO_NEW = {"mysql": (8, 4), "mariadb": (11, 0)}
_SHORTEST_RETENTION_S = 86_400
_WEEK_S = 604_800


def prerequisites(catalog: Catalog) -> Iterator[Finding]:
    """In the order in which somebody would mend them."""
    provider = recognise(catalog)
    yield _version(catalog, provider)
    if catalog.variable("log_bin") != "ON":
        yield fail("the server writes no binary log", provider.set("log_bin", "binlog"))
        return
    yield _set(catalog, provider, "binlog_format", "ROW")
    yield _set(catalog, provider, "binlog_row_metadata", "FULL", "the log names no columns")
    if catalog.dialect is MARIADB:
        yield from _of_mariadb(catalog, provider)
    else:
        yield _set(catalog, provider, "gtid_mode", "ON")
    yield _image(catalog, provider)
    if catalog.variable("binlog_row_value_options"):
        yield fail(
            "binlog_row_value_options = PARTIAL_JSON: updates of JSON are not in the log whole",
            provider.set("binlog_row_value_options", ""),
        )
    if catalog.variable("lower_case_table_names") == "2":
        yield fail("lower_case_table_names = 2: the log writes names of tables in other cases than the catalog")
    yield _retention(catalog, provider)
    yield from _durable(catalog, provider)
    yield from _whole(catalog, provider)


def first_failing(catalog: Catalog) -> Finding | None:
    return next((finding for finding in prerequisites(catalog) if finding.level is Level.FAIL), None)


def _version(catalog: Catalog, provider: Provider) -> Finding:
    text, dialect = catalog.version, catalog.dialect
    oldest, too_new = _OLDEST[dialect.engine], _TOO_NEW[dialect.engine]
    if version_number(text) < oldest:
        return fail(f"{dialect.label} {text} is too old, {_dotted(oldest)} or later is needed")
    if version_number(text) >= too_new:
        only = f"only versions before {_dotted(too_new)}"
        return fail(f"{dialect.label} {text} is not supported yet, {only}", "see docs/LIMITS.md")
    return ok(f"{dialect.label} {text}{provider.label}")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _of_mariadb(catalog: Catalog, provider: Provider) -> Iterator[Finding]:
    """GTIDs are always there; that their numbers grow is not."""
    if catalog.variable("gtid_strict_mode") != "ON":
        yield warn(
            "gtid_strict_mode = OFF: a transaction whose number is not above the last of its domain stops the source",
            provider.set("gtid_strict_mode", "ON"),
        )
    if catalog.variable("binlog_alter_two_phase") == "ON":
        yield fail(
            "binlog_alter_two_phase = ON: an ALTER TABLE is told twice", provider.set("binlog_alter_two_phase", "OFF")
        )


def _set(catalog: Catalog, provider: Provider, name: str, wanted: str, otherwise: str = "") -> Finding:
    value = catalog.variable(name)
    if value == wanted:
        return ok(f"{name} = {wanted}")
    why = f": {otherwise}" if otherwise else ""
    return fail(f"{name} = {value}, {wanted} is needed{why}", provider.set(name, wanted))


def _image(catalog: Catalog, provider: Provider) -> Finding:
    image = catalog.variable("binlog_row_image")
    if image == "FULL":
        return ok("binlog_row_image = FULL")
    return warn(
        f"binlog_row_image = {image}: events lack what did not change, and an insert that leaves out a column stops "
        "the source",
        provider.set("binlog_row_image", "FULL"),
    )


def _retention(catalog: Catalog, provider: Provider) -> Finding:
    """The server keeps nothing for us: how long a source may be stopped."""
    longer = provider.set("binlog_expire_logs_seconds", _WEEK_S)
    if provider in (RDS, AURORA):
        return warn("Amazon removes the binary log as soon as it can, unless it is told how many hours to keep", longer)
    seconds = retention_s(catalog)
    if seconds is not None and seconds < _SHORTEST_RETENTION_S:
        return warn(
            f"binlog_expire_logs_seconds = {seconds}: a source that is stopped for longer must copy again", longer
        )
    return ok(f"the binary log is kept for {'ever' if seconds is None else f'{seconds // 3600} h'}")


def retention_s(catalog: Catalog) -> int | None:
    """None for ever."""
    seconds = int(catalog.variable("binlog_expire_logs_seconds") or 0)
    return seconds if seconds and catalog.variable("binlog_expire_logs_auto_purge") != "OFF" else None


def _durable(catalog: Catalog, provider: Provider) -> Iterator[Finding]:
    for name in ("sync_binlog", "innodb_flush_log_at_trx_commit"):
        value = catalog.variable(name)
        if value != "1":
            yield warn(
                f"{name} = {value}: when its machine crashes the server may forget transactions that were published",
                provider.set(name, 1),
            )


def _whole(catalog: Catalog, provider: Provider) -> Iterator[Finding]:
    """What keeps changes out of the log; both ask for REPLICATION CLIENT."""
    kept_out = catalog.rows("SHOW MASTER STATUS")[0][2:4]
    for option, databases in zip(("binlog_do_db", "binlog_ignore_db"), kept_out, strict=True):
        if databases:
            yield fail(
                f"{option} = {databases}: changes are missing from the log",
                f"remove {option} from my.cnf and restart the server",
            )
    names = ("log_replica_updates", "log_slave_updates")
    if "OFF" in [catalog.variable(name) for name in names] and _is_replica(catalog):
        yield fail(
            "the server is a replica with log_replica_updates = OFF: what it replicates is not in its log",
            provider.set("log_replica_updates", "ON"),
        )


def _is_replica(catalog: Catalog) -> bool:
    if catalog.dialect is MARIADB:
        # To ask for its state takes a right of its own; this anybody may see.
        return bool(catalog.variable("gtid_slave_pos"))
    try:
        return bool(catalog.rows("SHOW REPLICA STATUS"))
    except CdcError:  # before 8.0.22
        return bool(catalog.rows("SHOW SLAVE STATUS"))
