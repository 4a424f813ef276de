"""Managed Postgres services: told by their own settings, and how a thing is set or granted there."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdc.postgres.catalog import Catalog

_NEED_RESTART = frozenset({"wal_level", "max_replication_slots", "max_wal_senders"})


@dataclass(frozen=True, slots=True)
class Provider:
    """Where the server runs. `flags`: settings that have another name and value there.

    `replication_role`: the role whose members may replicate, where the attribute itself is kept back.
    """

    label: str
    how_to_set: str
    how_to_apply: str
    flags: dict[str, tuple[str, str]] = field(default_factory=dict)
    replication_role: str | None = None

    def set(self, setting: str, value: str) -> str:
        """How to change a setting of the server."""
        name, shown = self.flags.get(setting, (setting, value))
        change = self.how_to_set.format(name=name, value=shown)
        return change + (self.how_to_apply if setting in _NEED_RESTART else "")

    def grant_replication(self, role: str) -> str:
        if self.replication_role:
            return f"GRANT {self.replication_role} TO {role};"
        return f"ALTER ROLE {role} REPLICATION;"


SELF_MANAGED = Provider(
    "", "ALTER SYSTEM SET {name} = '{value}'; SELECT pg_reload_conf();", "  then restart the server"
)
MANAGED = {
    "rds": Provider(
        " (Amazon RDS)",
        "set {name} = {value} in the instance's parameter group",
        ", then reboot the instance",
        {"wal_level": ("rds.logical_replication", "1")},
        "rds_replication",
    ),
    "cloudsql": Provider(
        " (Google Cloud SQL)",
        "gcloud sql instances patch INSTANCE --database-flags={name}={value}",
        "  (restarts the instance)",
        {"wal_level": ("cloudsql.logical_decoding", "on")},
    ),
    "azure": Provider(
        " (Azure Database)",
        "az postgres flexible-server parameter set -g GROUP -s SERVER --name {name} --value {value}",
        "  then: az postgres flexible-server restart -g GROUP -n SERVER",
    ),
}


def recognise(catalog: Catalog) -> Provider:
    """By the settings that only this service has."""
    found = catalog.rows(
        "SELECT pg_catalog.split_part(s.name, '.', 1) FROM pg_catalog.pg_settings s "
        "WHERE pg_catalog.split_part(s.name, '.', 1) = ANY(%s) LIMIT 1",
        list(MANAGED),
    )
    return MANAGED[found[0][0]] if found else SELF_MANAGED
