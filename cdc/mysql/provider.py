"""Managed MySQL services: told by what only they say of themselves, and how a thing is set there."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdc.mysql.catalog import Catalog
from cdc.mysql.dialect import MARIADB


@dataclass(frozen=True, slots=True)
class Provider:
    """Where the server runs. `own`: what is set in another way there, by name of the variable.

    `global_lock`: a role can be given the right to the lock under which a copy begins; else it locks its tables.
    """

    label: str
    how_to_set: str
    own: dict[str, str] = field(default_factory=dict)
    global_lock: bool = False

    def set(self, variable: str, value: str | int) -> str:
        """How to change a variable of the server."""
        if variable in self.own:
            return self.own[variable]
        shown = f"'{value}'" if isinstance(value, str) and self in (SELF_MANAGED, SELF_MANAGED_MARIADB) else value
        return self.how_to_set.format(name=variable, value=shown)


SELF_MANAGED = Provider(
    "",
    "SET PERSIST {name} = {value};",
    {
        "log_bin": "log_bin = binlog under [mysqld] in my.cnf, then restart the server",
        "gtid_mode": "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; then "
        "ON_PERMISSIVE, and ON once Ongoing_anonymous_transaction_count is 0",
        "log_replica_updates": "log_replica_updates = ON under [mysqld] in my.cnf, then restart the server",
    },
    global_lock=True,
)
SELF_MANAGED_MARIADB = Provider(
    "",
    "SET GLOBAL {name} = {value}; and {name} = {value} under [mysqld] in my.cnf",
    {
        "log_bin": "log_bin = binlog under [mysqld] in my.cnf, then restart the server",
        "log_replica_updates": "log_slave_updates = ON under [mysqld] in my.cnf, then restart the server",
    },
    global_lock=True,
)
_RDS = {
    "log_bin": "turn on automated backups (a retention of 1 day or more); on Aurora set binlog_format = ROW in the "
    "cluster's parameter group, then reboot",
    "gtid_mode": "set gtid-mode = ON and enforce_gtid_consistency = ON in the parameter group, then reboot",
    "binlog_expire_logs_seconds": "CALL mysql.rds_set_configuration('binlog retention hours', 168);",
}
_PATCH = "gcloud sql instances patch INSTANCE "
_AZURE = "az mysql flexible-server parameter set -g GROUP -s SERVER "
RDS = Provider(" (Amazon RDS)", "set {name} = {value} in the instance's parameter group", _RDS)
AURORA = Provider(" (Amazon Aurora)", "set {name} = {value} in the cluster's parameter group, then reboot", _RDS)
CLOUD_SQL = Provider(
    " (Google Cloud SQL)", _PATCH + "--database-flags={name}={value}", {"log_bin": _PATCH + "--enable-bin-log"}
)
AZURE = Provider(" (Azure Database)", _AZURE + "--name {name} --value {value}")


def recognise(catalog: Catalog) -> Provider:
    """By its version's name, or where its files are."""
    version, base = catalog.version, str(catalog.rows("SELECT @@basedir")[0][0])
    if catalog.variable("aurora_version"):
        return AURORA
    if base.startswith("/rdsdbbin"):
        return RDS
    if "google" in version:
        return CLOUD_SQL
    if "azure" in version:
        return AZURE
    return SELF_MANAGED_MARIADB if catalog.dialect is MARIADB else SELF_MANAGED
