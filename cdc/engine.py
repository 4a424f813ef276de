"""Which engine a URL means: the one place where a server of a section is made from its URL."""

from __future__ import annotations

from cdc.event import Engine
from cdc.mysql.session import Server as MySqlServer
from cdc.postgres.session import Server as PostgresServer
from cdc.server import Side

Server = PostgresServer | MySqlServer
_SCHEMES: dict[str, Engine] = {"postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql",
                               "mariadb": "mysql"}  # fmt: skip


def engine_of(url: str) -> Engine:
    """Raises ValueError, in words."""
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in _SCHEMES:
        raise ValueError(f"{scheme + '://' if scheme else 'this'} is not supported, only postgresql:// and mysql://")
    return _SCHEMES[scheme]


def database_url(value: str) -> str:
    """A URL of an engine that is supported, with a database where the engine needs one."""
    engine_of(value)
    return value


def server_of(side: Side, name: str, url: str, password: str | None = None, purpose: str = "") -> Server:
    if engine_of(url) == "mysql":
        return MySqlServer(side, name, url, password, purpose)
    return PostgresServer(side, name, url, password, purpose)
