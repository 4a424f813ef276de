"""MariaDB at both ends, by the commands. What it shares with MySQL is tested with that, in the matrix."""

from collections.abc import Callable

from tests.system.shop import Shop


def test_into_postgres(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop("mariadb", "postgres")
    with shop.source_running(), shop.sink_running():
        shop.work()
        shop.wait_caught_up()
        shop.assert_equal()


def test_from_postgres(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop("postgres", "mariadb")
    with shop.source_running(), shop.sink_running():
        shop.work()
        shop.wait_caught_up()
        shop.assert_equal()
