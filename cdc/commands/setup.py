"""`cdc setup` and `cdc teardown`: plan, print or run, and say what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import cdc.mysql.setup
import cdc.mysql.teardown
import cdc.postgres.setup
import cdc.postgres.teardown
from cdc.commands.sections import Unit, databases, same_server, url_of
from cdc.commands.terminal import say
from cdc.config import Config
from cdc.connect import avro_full_name
from cdc.engine import Server, engine_of, server_of
from cdc.errors import ARGUMENT_INVALID, CdcError
from cdc.kafka_admin import Admin
from cdc.registry import Registry
from cdc.server import Side
from cdc.setup import Plan, Shared


@dataclass(frozen=True, slots=True)
class ProgressTables:
    """What a sink keeps beside its rows, as each engine makes it."""

    postgres: str
    mysql: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Work:
    """A plan, and what carries it out on the connection that it was made on; then come notes."""

    plan: Plan
    apply: Callable[[], list[str]]


def run_setup(
    config: Config, name: str | None, tables: ProgressTables, admin_url: str | None, *, dry_run: bool
) -> None:
    """Roles, publication, event trigger; roles, progress tables. A slot is made by the source's first start."""
    for unit in _units(config, name, admin_url):
        password = _password(config, unit, dry_run=dry_run)
        with _setup(config, unit, password, tables, admin_url) as work:
            _carry_out(config, unit, work, dry_run=dry_run)


def run_teardown(config: Config, name: str, admin_url: str | None, *, dry_run: bool) -> None:
    """All that setup made, and the slot."""
    for unit in _units(config, name, admin_url):
        with _teardown(config, unit, admin_url) as work:
            _carry_out(config, unit, work, dry_run=dry_run)
        _say_what_is_left(config, unit)


@contextmanager
def _setup(
    config: Config, unit: Unit, password: str | None, tables: ProgressTables, admin_url: str | None
) -> Iterator[_Work]:
    (kind, name), server = unit, _server(config, unit)
    archived = any(name in archive.sources for archive in config.archives.values())
    if server.engine == "mysql":
        on_mysql = cdc.mysql.setup
        with closing(on_mysql.open_admin(server, admin_url)) as mysql:
            if kind == "source":
                plan = on_mysql.plan_source(mysql, config.source(name), password, archived=archived)
            else:
                sink = config.sink(name)
                plan = on_mysql.plan_target(mysql, sink, config.source(sink.source), password, tables.mysql)
            yield _Work(plan, lambda: on_mysql.apply(mysql, plan))
        return
    on_postgres = cdc.postgres.setup
    with closing(on_postgres.open_admin(on_postgres.admin_of(server, admin_url))) as postgres:
        if kind == "source":
            made = on_postgres.plan_source(postgres, config.source(name), password, archived=archived)
        else:
            sink = config.sink(name)
            made = on_postgres.plan_target(postgres, sink, config.written(sink.source), password, tables.postgres)
        yield _Work(made, lambda: on_postgres.apply(postgres, made))


@contextmanager
def _teardown(config: Config, unit: Unit, admin_url: str | None) -> Iterator[_Work]:
    (kind, name), server, shared = unit, _server(config, unit), _shared(config, unit)
    if server.engine == "mysql":
        on_mysql = cdc.mysql.teardown
        with closing(cdc.mysql.setup.open_admin(server, admin_url)) as mysql:
            if kind == "source":
                plan = on_mysql.plan_source(mysql, config.source(name), shared)
            else:
                plan = on_mysql.plan_target(mysql, config.sink(name), shared)
            yield _Work(plan, lambda: on_mysql.apply(mysql, plan))
        return
    on_postgres, admin = cdc.postgres.teardown, cdc.postgres.setup.admin_of(server, admin_url)
    with closing(cdc.postgres.setup.open_admin(admin)) as postgres:
        if kind == "source":
            made = on_postgres.plan_source(postgres, config.source(name), shared)
        else:
            made = on_postgres.plan_target(postgres, config.sink(name), shared)
        yield _Work(made, lambda: on_postgres.apply(postgres, made))


def _server(config: Config, unit: Unit) -> Server:
    """Without the role's own password: an administrator logs in."""
    return server_of(Side.SOURCE if unit[0] == "source" else Side.TARGET, unit[1], url_of(config, unit))


def _units(config: Config, name: str | None, admin_url: str | None) -> list[Unit]:
    """One administrator's URL leads to one server: it must be plain which section is meant."""
    units = databases(config, name)
    if admin_url and len(units) > 1:
        names = ", ".join(".".join(unit) for unit in units)
        problem = f"--admin-url leads to one server, and {len(units)} sections are meant ({names})"
        raise CdcError(ARGUMENT_INVALID, problem=problem, fix="name one: cdc setup NAME --admin-url …")
    return units


def _password(config: Config, unit: Unit, *, dry_run: bool) -> str | None:
    """Somebody who only reads the SQL needs no secret."""
    section = config.source(unit[1]) if unit[0] == "source" else config.sink(unit[1])
    if section.password is None:
        return None
    return "not read" if dry_run else section.server().password


def _carry_out(config: Config, unit: Unit, work: _Work, *, dry_run: bool) -> None:
    database = unquote(urlsplit(url_of(config, unit)).path.strip("/"))
    say(f"-- [{'.'.join(unit)}] in database {database}" if database else f"-- [{'.'.join(unit)}]", "bold")
    for step in work.plan.steps:
        say(f"{step.text().removesuffix(';')};")
    notes = list(work.plan.notes) if dry_run else work.apply()
    for note in notes:
        say(f"-- note: {note}", "yellow")
    say("-- nothing was done (--dry-run)" if dry_run else "-- done", "green")


def _shared(config: Config, unit: Unit) -> Shared:
    """What other sections use too: roles belong to a server, our own tables to a database or to all of MySQL's."""
    url = url_of(config, unit)
    others = [(other[0], url_of(config, other)) for other in databases(config, None) if other != unit]
    role = urlsplit(url).username
    of_database = engine_of(url) == "postgresql" or unit[0] == "sink"
    return Shared(
        role=any(same_server(url, other, database=False) and urlsplit(other).username == role for _, other in others),
        home=any(kind == unit[0] and same_server(url, other, database=of_database) for kind, other in others),
        named=frozenset(config.sources if unit[0] == "source" else config.sinks),
    )


def _say_what_is_left(config: Config, unit: Unit) -> None:
    kind, name = unit
    if kind == "sink":
        say("-- left: the replica's tables with their rows; [section] in the configuration")
        return
    prefix = config.source(name).topic_prefix
    try:
        names = Admin(config.kafka_options()).names()
        topics = sorted(topic for topic in names if topic == prefix or topic.startswith(f"{prefix}."))
        say(f"-- left: topics {', '.join(topics) or 'none'}")
    except CdcError as error:
        say(f"-- left: topics {prefix} and {prefix}.* (Kafka could not be asked: {error.text})")
    if config.source(name).format == "avro":
        say(f"-- left: in the registry {_subjects(config, prefix)}; whoever reads the records needs their schemas")
    say("-- left: replicas and their progress (cdc teardown SINK)")


def _subjects(config: Config, prefix: str) -> str:
    """By any of the strategies their names begin with the prefix, as Avro has it or as it is."""
    try:
        server = config.registry_server()
        assert server is not None, "the configuration refuses Avro without it"
        with closing(Registry(server)) as registry:
            beginnings = (f"{prefix}.", f"{avro_full_name(prefix)}.")
            found = [subject for subject in registry.subjects() if subject.startswith(beginnings)]
    except CdcError as error:
        return f"subjects {prefix}.* (it could not be asked: {error.text})"
    return f"subjects {', '.join(found)}" if found else "no subjects"
