"""Postgres 15 at both ends: the whole of what a table goes through, in a minute. The matrix has the suites."""

from pathlib import Path

from tests.servers.kafka import Kafka
from tests.servers.postgres import Postgres
from tests.system.shop import SHOP, Shop


def test_a_shop_is_copied_changed_and_followed(
    tmp_path: Path, postgres15: Postgres, kafka: Kafka, unique_name: str
) -> None:
    captured, replica = (postgres15.create_database(f"{unique_name}{end}") for end in ("", "_replica"))
    captured.execute(SHOP["postgres"])
    shop = Shop(tmp_path, captured, replica, kafka.bootstrap)
    shop.engine = "postgres"
    shop.publish()
    try:
        with shop.source_running(), shop.sink_running():
            shop.wait_caught_up()
            shop.work()
            shop.wait_caught_up()
        shop.assert_equal()
        assert postgres15.version == 15
    finally:
        captured.drop()
        replica.drop()
