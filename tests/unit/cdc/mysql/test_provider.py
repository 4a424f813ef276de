"""Managed services are told apart, and a setting is written as each of them wants it."""

from typing import Any, cast

import pytest

from cdc.mysql.catalog import Catalog
from cdc.mysql.dialect import dialect_of
from cdc.mysql.provider import AURORA, AZURE, CLOUD_SQL, RDS, SELF_MANAGED, SELF_MANAGED_MARIADB, Provider, recognise


class Asked:
    """A catalog that answers what such a server does."""

    def __init__(self, version: str, base: str, aurora: str | None) -> None:
        self.version, self.dialect = version, dialect_of(version)
        self._base, self._aurora = base, aurora

    def rows(self, *_: object) -> list[Any]:
        return [(self._base,)]

    def variable(self, name: str) -> str | None:
        return self._aurora if name == "aurora_version" else None


@pytest.mark.parametrize(
    ("version", "base", "aurora", "provider"),
    [
        ("8.0.31", "/usr/", None, SELF_MANAGED),
        ("8.0.35", "/rdsdbbin/mysql-8.0.35.R3/", None, RDS),
        ("8.0.32", "/rdsdbbin/oscar-8.0.mysql_aurora/", "3.05.2", AURORA),
        ("8.0.31-google", "/usr/", None, CLOUD_SQL),
        ("8.0.37-azure", "c:/", None, AZURE),
        ("10.11.19-MariaDB-0+deb12u1", "/usr", None, SELF_MANAGED_MARIADB),
        ("10.11.9-MariaDB-log", "/rdsdbbin/mariadb-10.11.9.R1/", None, RDS),
    ],
)
def test_a_service_gives_itself_away(version: str, base: str, aurora: str | None, provider: Provider) -> None:
    assert recognise(cast("Catalog", Asked(version, base, aurora))) is provider


def test_a_setting_is_written_as_the_service_wants_it() -> None:
    assert SELF_MANAGED.set("binlog_format", "ROW") == "SET PERSIST binlog_format = 'ROW';"
    assert SELF_MANAGED.set("sync_binlog", 1) == "SET PERSIST sync_binlog = 1;"
    assert "parameter group" in RDS.set("binlog_format", "ROW")
    assert (
        RDS.set("binlog_expire_logs_seconds", 1) == "CALL mysql.rds_set_configuration('binlog retention hours', 168);"
    )
    assert CLOUD_SQL.set("log_bin", "binlog") == "gcloud sql instances patch INSTANCE --enable-bin-log"
    assert AZURE.set("binlog_row_image", "FULL").endswith("--name binlog_row_image --value FULL")
