"""Which engine a URL means: the one place where a server of a section is made from its URL.

An engine is loaded when a URL asks for it: a process serves one, and needs the client of no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cdc.server import Side

if TYPE_CHECKING:
    from cdc.mysql.session import Server as MySqlServer
    from cdc.postgres.session import Server as PostgresServer

    Server = PostgresServer | MySqlServer
else:
    from cdc.server import Endpoint as Server  # what both are; `engine` tells them apart

_SCHEMES: dict[str, Literal["postgresql", "mysql"]] = {
    "postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql",
}  # fmt: skip


def engine_of(url: str) -> Literal["postgresql", "mysql"]:
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
        from cdc.mysql.session import Server as MySqlServer

        return MySqlServer(side, name, url, password, purpose)
    from cdc.postgres.session import Server as PostgresServer

    return PostgresServer(side, name, url, password, purpose)
