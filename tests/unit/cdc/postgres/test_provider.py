"""How a setting is changed, here and at the managed services."""

from cdc.postgres.provider import MANAGED, SELF_MANAGED


def test_where_the_server_is_ours() -> None:
    wal_level = "ALTER SYSTEM SET wal_level = 'logical'; SELECT pg_reload_conf();  then restart the server"
    assert SELF_MANAGED.set("wal_level", "logical") == wal_level
    keep = "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();"
    assert SELF_MANAGED.set("max_slot_wal_keep_size", "50GB") == keep
    assert SELF_MANAGED.grant_replication("cdc_reader") == "ALTER ROLE cdc_reader REPLICATION;"


def test_where_it_is_managed_the_flag_has_another_name_and_place() -> None:
    rds, cloudsql, azure = MANAGED["rds"], MANAGED["cloudsql"], MANAGED["azure"]
    assert "rds.logical_replication = 1 in the instance's parameter group" in rds.set("wal_level", "logical")
    assert rds.grant_replication("cdc_reader") == "GRANT rds_replication TO cdc_reader;"
    assert "--database-flags=cloudsql.logical_decoding=on" in cloudsql.set("wal_level", "logical")
    assert "--name wal_level --value logical" in azure.set("wal_level", "logical")
    assert "restart" not in azure.set("max_slot_wal_keep_size", "50GB")
