"""Names on MySQL whose holder says nothing any more: a frozen process, a link that passes nothing."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import cdc.mysql.held
from cdc.errors import SOURCE_HELD, SOURCE_UNREACHABLE, CdcError
from cdc.mysql.catalog import lock_name
from cdc.mysql.held import HeldName
from cdc.mysql.session import Server
from cdc.mysql.stream import BinlogStream
from cdc.position import parse_gtids
from cdc.server import Side
from tests.servers.mariadb import FLAVOURS
from tests.servers.mysql import MySQLDatabase
from tests.servers.process import Process
from tests.servers.proxy import Proxy
from tests.system.pipeline import wait_until
from tests.system.shop import Shop

BOTH = pytest.mark.parametrize("flavour", FLAVOURS, indirect=True)

IMPATIENT = "import cdc.mysql.held as h; h._SAYS_S, h._SILENT_S = 0.5, 3; from cdc.cli import main; main()"
"""`cdc`, but that a server hears of it more often and waits for it less."""


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdc.mysql.held, "_SAYS_S", 0.5)
    monkeypatch.setattr(cdc.mysql.held, "_SILENT_S", 2)


@pytest.fixture
def server(mysql_database: MySQLDatabase) -> Server:
    return Server(Side.SOURCE, "shop", mysql_database.url(), mysql_database.server.password)


# -- the name alone ---------------------------------------------------------------------------------------------
@BOTH
@pytest.mark.usefixtures("_impatient")
def test_a_name_lasts_as_long_as_its_holder_says_something(server: Server, unique_name: str) -> None:
    with closing(HeldName(server, unique_name)) as one, closing(HeldName(server, unique_name)) as other:
        assert one.try_take()
        time.sleep(4)
        one.refuse_lost()
        assert not other.try_take()
        one.close()
        wait_until(other.try_take, "the name")
    assert not [thread for thread in threading.enumerate() if thread.name == "held"]


@BOTH
@pytest.mark.usefixtures("_impatient")
def test_behind_a_link_that_passes_nothing_it_is_lost(
    server: Server, mysql_database: MySQLDatabase, unique_name: str
) -> None:
    with Proxy(mysql_database.server.port) as proxy:
        away = Server(Side.SOURCE, "shop", mysql_database.url(port=proxy.port), mysql_database.server.password)
        with closing(HeldName(away, unique_name)) as one, closing(HeldName(server, unique_name)) as other:
            assert one.try_take()
            proxy.stall()
            wait_until(other.try_take, "the name")
            proxy.restore()
            wait_until(lambda: one._lost is not None, "word of it")
            with pytest.raises(CdcError) as caught:
                one.refuse_lost()
            assert caught.value.code is SOURCE_UNREACHABLE
            assert caught.value.transient


@BOTH
@pytest.mark.usefixtures("_impatient")
def test_whatever_ends_its_thread_it_is_lost(server: Server, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object, **__: object) -> None:
        raise ValueError("read of closed file")

    with closing(HeldName(server, unique_name)) as one:
        assert one.try_take()
        monkeypatch.setattr("pymysql.connections.Connection.ping", broken)
        wait_until(lambda: one._lost is not None, "word of it")
        with pytest.raises(CdcError, match="read of closed file"):
            one.refuse_lost()


def read_on(stream: BinlogStream) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        stream.read(0.1)


@BOTH
def test_a_dump_ends_where_another_begins_under_its_name(server: Server, mysql_database: MySQLDatabase) -> None:
    """As a frozen source finds it when it wakes up: it is not at fault."""
    now = parse_gtids(mysql_database.server.gtids())
    with closing(BinlogStream(server)) as one, closing(BinlogStream(server)) as other:
        one.start(now)
        other.start(now)
        with pytest.raises(CdcError) as caught:
            read_on(one)
        assert caught.value.code is SOURCE_HELD
        other.read(0.1)


# -- processes --------------------------------------------------------------------------------------------------
@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def start(shop: Shop, *arguments: str, failpoint: str | None = None) -> Process:
        environment = {**shop.environment, **({"CDC_FAILPOINT": failpoint} if failpoint else {})}
        log = tmp_path / f"{len(made)}.log"
        made.append(Process([sys.executable, "-c", IMPATIENT, *arguments], log, env=environment))
        return made[-1]

    yield start
    for process in made:
        if process.running:
            process.kill9()


@BOTH
def test_a_frozen_source_is_taken_over_and_publishes_nothing_more(
    make_shop: Callable[..., Shop], run: Callable[..., Process]
) -> None:
    shop = make_shop("mysql", "postgres")
    with shop.sink_running():
        frozen = run(shop, "source", "run", shop.name)
        shop.wait_caught_up()
        frozen.pause()
        second = run(shop, "source", "run", shop.name)
        shop.work(0, 2)
        shop.wait_caught_up()
        holder = "SELECT IS_USED_LOCK(%s)"
        before = shop.source.execute(holder, [lock_name(shop.name)])
        frozen.cont()
        shop.work(2, 4)
        wait_until(lambda: "SOURCE_HELD" in frozen.log.read_text(), "the first to stand by")
        shop.wait_caught_up()
        shop.assert_equal()
        assert shop.source.execute(holder, [lock_name(shop.name)]) == before
        assert second.running


@BOTH
def test_a_sink_frozen_in_its_transaction_is_taken_over(
    make_shop: Callable[..., Shop], run: Callable[..., Process]
) -> None:
    """The row of its progress is locked by then."""
    shop = make_shop("postgres", "mysql")
    with shop.source_running():
        frozen = run(shop, "sink", "run", "eu")
        shop.wait_caught_up()
        # Its next transaction waits behind the guard, with the progress row locked, and there it is frozen.
        with shop.target.connect(autocommit=False) as other, other.cursor() as cursor:
            cursor.execute("SELECT * FROM accounts FOR UPDATE")
            shop.work(0, 2)
            waits = "SHOW ENGINE INNODB STATUS"
            wait_until(lambda: "LOCK WAIT" in shop.target.execute(waits)[0][2], "a transaction that waits")
            frozen.pause()
        run(shop, "sink", "run", "eu")
        shop.wait_caught_up()
        frozen.cont()
        shop.work(2, 4)
        shop.wait_caught_up()
        shop.assert_equal()
        wait_until(lambda: "standing by" in frozen.log.read_text(), "the first to stand by")
