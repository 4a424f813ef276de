"""What `cdc status` says of a process that runs and gets nowhere: that it waits, and for what."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from cdc.engine import Server, server_of
from cdc.errors import (
    KAFKA_UNREACHABLE,
    REGISTRY_UNREACHABLE,
    ROW_DIVERGED,
    SOURCE_UNREACHABLE,
    TARGET_UNREACHABLE,
    CdcError,
)
from cdc.mysql.catalog import Catalog as MySqlCatalog
from cdc.mysql.session import Server as MySqlServer
from cdc.mysql.waiting import waiting_for as waiting_on_mysql
from cdc.postgres.catalog import Catalog
from cdc.postgres.waiting import waiting_for as waiting_on_postgres
from cdc.server import Side
from cdc.waiting import Waiting
from tests.servers.kafka import Kafka
from tests.servers.postgres import Database
from tests.servers.proxy import Proxy
from tests.servers.registry import Registry
from tests.system.pipeline import Pipeline, wait_until

AWAY = CdcError(KAFKA_UNREACHABLE, bootstrap="k:9092", problem="no")
NO_REGISTRY = CdcError(REGISTRY_UNREACHABLE, url="http://r", problem="no")


def heard(error: CdcError, wait_s: float) -> None:
    """By whoever watches it."""
    assert error.text
    assert wait_s == 0.5


def told(server: Server) -> str | None:
    """By somebody who only asks the database."""
    if isinstance(server, MySqlServer):
        with closing(MySqlCatalog(server)) as mysql:
            return waiting_on_mysql(mysql)
    with closing(Catalog(server)) as postgres:
        return waiting_on_postgres(postgres)


@pytest.mark.parametrize("fixture", ["database", "mysql_database", "mariadb_database"])
def test_what_is_waited_for_is_told_until_it_is_over(request: pytest.FixtureRequest, fixture: str) -> None:
    database = request.getfixturevalue(fixture)
    place = database.url(), database.server.password
    source, sink = server_of(Side.SOURCE, "shop", *place), server_of(Side.TARGET, "shop", *place)
    with closing(Waiting(source, heard)) as waiting, closing(Waiting(source, heard)) as another:
        waiting.retry(AWAY, 0.5)
        assert (told(source), told(sink)) == ("KAFKA_UNREACHABLE", None)
        waiting.retry(NO_REGISTRY, 0.5)
        another.retry(NO_REGISTRY, 0.5)
        assert told(source) == "REGISTRY_UNREACHABLE"
        waiting.over()
        another.over()
        wait_until(lambda: told(source) is None, "that it is over")
        waiting.retry(CdcError(ROW_DIVERGED, op="", table="t", key="", txn_seq=1, found=0), 0.5)
        assert told(source) is None
        waiting.retry(AWAY, 0.5)
    wait_until(lambda: told(source) is None, "the end of who waited")


def test_a_database_that_is_away_is_told_nothing() -> None:
    """Nor does that end whoever waits."""
    nowhere = server_of(Side.SOURCE, "shop", "postgresql://127.0.0.1:1/shop", "pw")
    with closing(Waiting(nowhere, heard)) as waiting:
        waiting.retry(AWAY, 0.5)
        waiting.retry(CdcError(SOURCE_UNREACHABLE, problem="no"), 0.5)
        waiting.retry(CdcError(TARGET_UNREACHABLE, problem="no"), 0.5)


def states(pipeline: Pipeline) -> list[tuple[str, str | None]]:
    """Of source and sink, and their problems."""
    report = json.loads(pipeline.command("status", "--json").stdout)
    return [(stage["state"], stage["problem"]) for stage in (*report["sources"], *report["sinks"])]


def test_source_and_sink_wait_for_the_registry(
    tmp_path: Path, database: Database, target_database: Database, kafka: Kafka, registry: Registry
) -> None:
    database.execute("CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)")
    with Proxy(registry.port) as proxy:
        url = registry.url.replace(f":{registry.port}/", f":{proxy.port}/")
        pipeline = Pipeline(
            tmp_path, database, target_database, kafka.bootstrap, source_options={"format": "avro"}, registry=url
        )
        pipeline.publish()
        waits = ("waiting", f"it runs and waits, REGISTRY_UNREACHABLE: {REGISTRY_UNREACHABLE.hint}")
        proxy.cut()
        with pipeline.source_running():
            wait_until(lambda: states(pipeline)[0] == waits, "that the source waits")
            proxy.restore()
            wait_until(lambda: states(pipeline)[0] == ("streaming", None), "that it streams")
            proxy.cut()
            with pipeline.sink_running():
                wait_until(lambda: states(pipeline)[1] == waits, "that the sink waits")
                proxy.restore()
                wait_until(lambda: states(pipeline)[1] == ("applying", None), "that it applies")
                pipeline.wait_caught_up()
        wait_until(lambda: states(pipeline) == [("stopped", None)] * 2, "that both are stopped")
