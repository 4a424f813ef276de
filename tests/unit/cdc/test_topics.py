"""Names are Debezium's, partitions are Java's, and no two tables share a topic."""

import pytest

from cdc.errors import TOPIC_NAMES_COLLIDE, CdcError
from cdc.topics import log_topic, murmur2, partition_of, row_topic, row_topics, slot_name


@pytest.mark.parametrize(
    ("key", "expected"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_murmur2_is_kafka_s(key: bytes, expected: int) -> None:
    """The vectors of Kafka's own test of its partitioner."""
    assert murmur2(key) == expected % 2**32


def test_partitions() -> None:
    assert partition_of(None, 7) == 0
    assert partition_of(b"21", 1) == 0
    assert partition_of(b"21", 1000) == (murmur2(b"21") & 0x7FFFFFFF) % 1000


def test_names() -> None:
    assert row_topic("shop", "public", "Odd name-é") == "shop.public.Odd_name-_"
    assert log_topic("shop") == "shop.transaction"
    assert slot_name("my-shop") == "cdc_my_shop"


@pytest.mark.parametrize("tables", [[("public", "a b"), ("public", "a_b")], [("a.b", "c"), ("a", "b.c")]])
def test_tables_that_would_share_a_topic_are_refused(tables: list[tuple[str, str]]) -> None:
    with pytest.raises(CdcError) as caught:
        row_topics("shop", tables)
    assert caught.value.code is TOPIC_NAMES_COLLIDE
