"""Fixtures only: real servers for a session, fresh databases and names for a test.

Each pytest-xdist worker has servers of its own, started by the first test that asks for them. A test that
stops, kills or freezes a session server brings it back; one that cannot makes a server in `tmp_path`.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.servers.connect import Connect, Properties
from tests.servers.fetch import POSTGRES_BIN, mariadbd, postgres15_bin
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL, MySQLDatabase
from tests.servers.postgres import Database, Postgres
from tests.servers.proxy import Proxy
from tests.servers.registry import Registry
from tests.servers.s3 import S3
from tests.system.ends import AnyDatabase
from tests.system.shop import SHOP, Shop

NEWEST = (18, 18)
OLDER = {"source": (15, 18), "target": (18, 15)}
"""Versions of Postgres as source and as target."""
_numbers = itertools.count(1)
# How long an example takes says nothing on a machine that has other work.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
# Servers of tests live for minutes: what Java's second compiler takes is never earned back. Benchmarks keep it.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")


@pytest.fixture(scope="session")
def servers_directory() -> Iterator[Path]:
    """Where this session's servers keep data and logs; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="cdc-tests-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="module")
def module_directory(servers_directory: Path) -> Path:
    """For servers of one file of tests. A worker that takes over tests of another may come to the file twice."""
    path = servers_directory / unused_name("module")
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def postgres_pair(request: pytest.FixtureRequest) -> tuple[int, int]:
    """The versions of the two servers."""
    pair: tuple[int, int] = getattr(request, "param", NEWEST)
    return pair


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `postgres_versions` run in the matrix also with an older server at the ends that the mark names."""
    marker = metafunc.definition.get_closest_marker("postgres_versions")
    if marker and "postgres_pair" in metafunc.fixturenames:
        older = [pytest.param(OLDER[end], id=f"{end}-15", marks=pytest.mark.matrix) for end in marker.args]
        metafunc.parametrize("postgres_pair", [pytest.param(NEWEST, id="18"), *older], indirect=True)


@pytest.fixture(scope="session")
def postgres_source(servers_directory: Path, postgres_pair: tuple[int, int]) -> Iterator[Postgres]:
    """The server that is captured."""
    with Postgres(fresh(servers_directory, "source"), programs=programs_of(postgres_pair[0])) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_target(servers_directory: Path, postgres_pair: tuple[int, int]) -> Iterator[Postgres]:
    """The server that is replicated into."""
    with Postgres(fresh(servers_directory, "target"), programs=programs_of(postgres_pair[1])) as server:
        yield server


def fresh(directory: Path, name: str) -> Path:
    """One for each pair: a server of another version could not read what the one before left."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=directory))


def programs_of(version: int) -> Path:
    if version == 18:
        return POSTGRES_BIN
    programs = postgres15_bin()
    if programs is None:
        pytest.skip("this system has no package postgresql-15")
    return programs


@pytest.fixture(scope="session")
def postgres15(servers_directory: Path) -> Iterator[Postgres]:
    """An older server, where this system can have one."""
    programs = postgres15_bin()
    if programs is None:
        pytest.skip("this system has no package postgresql-15")
    with Postgres(servers_directory / "older", programs=programs) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def flavour(request: pytest.FixtureRequest) -> str:
    """Which servers `mysql_server` and `mysql_target` are, where a test is parametrised by `mariadb.FLAVOURS`."""
    return str(getattr(request, "param", "mysql"))


@pytest.fixture(scope="session")
def real_mysql(servers_directory: Path) -> Iterator[MySQL]:
    with MySQL(servers_directory / "mysql") as server:
        yield server


@pytest.fixture(scope="session")
def real_mysql_target(servers_directory: Path) -> Iterator[MySQL]:
    with MySQL(servers_directory / "mysql-target") as server:
        yield server


@pytest.fixture(scope="module")
def mysql_server(request: pytest.FixtureRequest, flavour: str) -> MySQL:
    """The MySQL that is captured, or replicated into from a Postgres."""
    server: MySQL = request.getfixturevalue("real_mysql" if flavour == "mysql" else "mariadb_server")
    return server


@pytest.fixture(scope="module")
def mysql_target(request: pytest.FixtureRequest, flavour: str) -> MySQL:
    """A second MySQL, to replicate the first one into."""
    server: MySQL = request.getfixturevalue("real_mysql_target" if flavour == "mysql" else "mariadb_target")
    return server


def _mariadb(directory: Path) -> Iterator[MySQL]:
    if mariadbd() is None:
        pytest.skip("this system has no package mariadb-server-core")
    with MariaDB(directory) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server(servers_directory: Path) -> Iterator[MySQL]:
    """The MariaDB that is captured."""
    yield from _mariadb(servers_directory / "mariadb")


@pytest.fixture(scope="session")
def mariadb_target(servers_directory: Path) -> Iterator[MySQL]:
    """The MariaDB that is replicated into."""
    yield from _mariadb(servers_directory / "mariadb-target")


@pytest.fixture(scope="session")
def kafka(servers_directory: Path) -> Iterator[Kafka]:
    """The broker."""
    with Kafka(servers_directory / "kafka") as broker:
        yield broker


@pytest.fixture(scope="session")
def s3(servers_directory: Path) -> Iterator[S3]:
    """The object store."""
    with S3(servers_directory / "s3") as store:
        yield store


@pytest.fixture(scope="session")
def registry(servers_directory: Path) -> Iterator[Registry]:
    """The schema registry."""
    with Registry(servers_directory / "registry") as server:
        yield server


@pytest.fixture(scope="session")
def connect(servers_directory: Path, kafka: Kafka) -> Iterator[Connect]:
    """Kafka Connect; each test has connectors of its own name."""
    # How far a connector came is written down so often; killed before the first time, it copies everything anew.
    with Connect(servers_directory / "connect", kafka.bootstrap, {"offset.flush.interval.ms": 1000}) as worker:
        yield worker


@pytest.fixture
def begin(connect: Connect) -> Iterator[Callable[[Properties], None]]:
    """Starts a connector; it is ended afterwards."""
    names: set[str] = set()

    def start(properties: Properties) -> None:
        connect.create(properties)
        names.add(str(properties["name"]))

    yield start
    for name in names:
        connect.end(name)


@pytest.fixture
def kafka_proxy(kafka: Kafka) -> Iterator[Proxy]:
    """The open proxy before `kafka.proxied_bootstrap`."""
    with kafka.proxy() as proxy:
        yield proxy


@pytest.fixture
def unique_name() -> str:
    """A name no other test of this session uses: for topic prefixes, slots, sections of cdc.toml."""
    return unused_name("t")


def unused_name(word: str) -> str:
    """Such a name for a fixture that outlives a test: made again for other servers, it meets the same Kafka."""
    return f"{word}{next(_numbers)}_{os.getpid()}"


@pytest.fixture
def database(postgres_source: Postgres, unique_name: str) -> Iterator[Database]:
    """A fresh database on the source."""
    fresh = postgres_source.create_database(unique_name)
    yield fresh
    fresh.drop()


@pytest.fixture
def target_database(postgres_target: Postgres, unique_name: str) -> Iterator[Database]:
    """A fresh database on the target, of the same name as `database`."""
    fresh = postgres_target.create_database(unique_name)
    yield fresh
    fresh.drop()


@pytest.fixture
def mysql_database(mysql_server: MySQL, unique_name: str) -> Iterator[MySQLDatabase]:
    """A fresh database on the MySQL server."""
    fresh = mysql_server.create_database(unique_name)
    yield fresh
    fresh.drop()


@pytest.fixture
def mysql_target_database(mysql_target: MySQL, unique_name: str) -> Iterator[MySQLDatabase]:
    """A fresh database on the second MySQL, of the same name as `mysql_database`."""
    fresh = mysql_target.create_database(unique_name)
    yield fresh
    fresh.drop()


@pytest.fixture
def mariadb_database(mariadb_server: MySQL, unique_name: str) -> Iterator[MySQLDatabase]:
    """A fresh database on the MariaDB that is captured."""
    fresh = mariadb_server.create_database(unique_name)
    yield fresh
    fresh.drop()


@pytest.fixture
def mariadb_target_database(mariadb_target: MySQL, unique_name: str) -> Iterator[MySQLDatabase]:
    """A fresh database on the second MariaDB, of the same name as `mariadb_database`."""
    fresh = mariadb_target.create_database(unique_name)
    yield fresh
    fresh.drop()


@pytest.fixture
def make_shop(request: pytest.FixtureRequest, tmp_path: Path, kafka: Kafka) -> Callable[..., Shop]:
    """A shop from an engine into an engine; options as those of a pipeline."""

    def make(source: str, target: str, *, bootstrap: str = kafka.bootstrap, **options: Any) -> Shop:
        fixtures = {"postgres": ("database", "target_database"), "mysql": ("mysql_database", "mysql_target_database"),
                    "mariadb": ("mariadb_database", "mariadb_target_database")}  # fmt: skip
        captured: AnyDatabase = request.getfixturevalue(fixtures[source][0])
        replica: AnyDatabase = request.getfixturevalue(fixtures[target][1])
        captured.execute(SHOP["mariadb" if captured.server.kind == "MariaDB" else source])
        folder = tmp_path / f"{source}-{target}"
        folder.mkdir()
        shop = Shop(folder, captured, replica, bootstrap, **options)
        shop.engine = source
        shop.publish()
        return shop

    return make
