"""Events in every format and profile: the same to our readers, through a sink that is killed, and to an archive."""

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from cdc.event import Types
from cdc.kafka import Reader
from cdc.registry import Registry as Client
from cdc.registry import RegistryServer
from sinks.decode import Decoder
from tests.servers.postgres import Database
from tests.servers.registry import Registry
from tests.system.pipeline import wait_until
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


@contextmanager
def load(database: Database) -> Iterator[Callable[[], int]]:
    """Keys that change, go and come back, and move, all the while; how many transactions there were by now."""
    over, done = threading.Event(), itertools.count()
    so_far = [0]

    def write() -> None:
        while not over.is_set():
            at = 1 + so_far[0] % 40
            database.execute(f"UPDATE accounts SET balance = balance - 1 WHERE id = {at}; "
                             f"UPDATE accounts SET balance = balance + 1 WHERE id = {41 + at % 5}")  # fmt: skip
            database.execute(f"UPDATE accounts SET id = id + 100 WHERE id = {at}")
            database.execute(f"UPDATE accounts SET id = id - 100, owner = owner || 'x' WHERE id = {at + 100}")
            database.execute(f"DELETE FROM accounts WHERE id = {at}")
            database.execute(f"INSERT INTO accounts VALUES ({at}, 'again', {next(done)})")
            so_far[0] += 5

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: so_far[0]
    finally:
        over.set()
        thread.join()


@MATRIX
def test_the_format_changes_under_load_and_keys_go_to_other_partitions(
    make_shop: MakeShop, registry: Registry, database: Database, target_database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shop = make_shop(
        "postgres", "postgres", registry=registry.url, source_options={"format": "json", "partitions": 4},
    )  # fmt: skip
    text = shop.config.read_text()
    with shop.sink_running(), shop.archive_running(), load(database) as transactions:
        for format_ in ("json", "avro", "json-with-schema", "json"):
            shop.config.write_text(text.replace('"format" = "json"', f'"format" = "{format_}"'))
            with shop.source_running() as source:
                wait_until(lambda: "run started" in source.log.read_text(), format_)
                before = transactions()
                wait_until(lambda: transactions() > before + 50, "load")  # noqa: B023
                shop.wait_caught_up()
                source.kill9()
    with shop.source_running(), shop.sink_running(), shop.archive_running():
        shop.wait_caught_up()
        shop.wait_archived()
        now = database.execute("SELECT pg_current_wal_insert_lsn()::text")[0][0]
        database.execute("UPDATE accounts SET owner = owner")
        target_database.execute("CREATE SCHEMA restored")
        monkeypatch.setenv("CDC_ARCHIVE_KEY", shop.archive_key)
        monkeypatch.setenv("PGPASSWORD", target_database.server.password)
        done = shop.command(
            "restore", "--archive", shop.archive_url, "--into", target_database.url(), "--to-lsn", now,
            "--table", "public.accounts", "--schema", "restored",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        shop.wait_caught_up()
    shop.assert_equal()
    assert shop.into.rows("restored.accounts") == shop.from_.rows("public.accounts")
    moved, forms = keys(shop, registry)
    assert moved
    assert forms == {b"{", b"\x00"}


def keys(shop: Shop, registry: Registry) -> tuple[set[int], set[bytes]]:
    """Those that are in several partitions, and how the keys of the topic begin."""
    topic, decoder = f"{shop.name}.public.accounts", Decoder(Client(RegistryServer((registry.url,))).schema)
    places: dict[int, set[int]] = defaultdict(set)
    forms: set[bytes] = set()
    with closing(Reader({"bootstrap.servers": shop.bootstrap})) as reader:
        for partition in range(4):
            for record in reader.read_range(topic, partition, *reader.watermarks(topic, partition)):
                key = record.key()
                assert key is not None
                forms.add(key[:1])
                places[decoder.value(key, topic)["id"]].add(partition)
    return {id_ for id_, partitions in places.items() if len(partitions) > 1}, forms
