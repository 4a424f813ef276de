"""Events in every format and profile: the same to our readers, through a sink that is killed, and to an archive."""

from collections.abc import Callable

import pytest

from cdc.event import Types
from tests.servers.registry import Registry
from tests.system.shop import Shop

MakeShop = Callable[..., Shop]
MATRIX = pytest.mark.matrix


@pytest.mark.parametrize(
    ("format_", "types", "source", "target"),
    [
        ("avro", "exact", "postgres", "postgres"),
        pytest.param("avro", "debezium", "mysql", "postgres", marks=MATRIX),
        pytest.param("avro", "exact", "mysql", "mysql", marks=MATRIX),
        pytest.param("avro", "debezium", "postgres", "mysql", marks=MATRIX),
        pytest.param("json-with-schema", "exact", "postgres", "mysql", marks=MATRIX),
        pytest.param("json-with-schema", "debezium", "postgres", "postgres", marks=MATRIX),
        pytest.param("json", "debezium", "mysql", "postgres", marks=MATRIX),
    ],
)
def test_a_replica_and_an_archive_of_events_in_a_format(
    make_shop: MakeShop, registry: Registry, format_: str, types: Types, source: str, target: str
) -> None:
    shop = make_shop(
        source, target, source_options={"format": format_, "types": types},
        registry=registry.url if format_ == "avro" else None,
    )  # fmt: skip
    with shop.source_running(), shop.archive_running():
        with shop.sink_running() as sink:
            shop.wait_caught_up()
            shop.work(0, 6)
            sink.kill9()
        with shop.sink_running():
            shop.work(6)
            shop.wait_caught_up()
            shop.wait_archived()
    shop.assert_equal()
    if format_ == "avro":
        topic = f"{shop.name}.public.accounts" if source == "postgres" else f"{shop.name}.{shop.name}.accounts"
        assert registry.compatibility(f"{topic}-value") == "NONE"
