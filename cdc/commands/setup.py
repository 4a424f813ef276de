"""`cdc setup` and `cdc teardown`: plan, print or run, and say what is left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

from cdc.commands.sections import Unit, databases, same_server, url_of
from cdc.commands.terminal import say
from cdc.config import Config
from cdc.errors import ARGUMENT_INVALID, CdcError
from cdc.kafka import Admin
from cdc.postgres import setup, teardown
from cdc.postgres.catalog import Catalog
from cdc.postgres.session import Server, Side
from cdc.postgres.setup import Plan


def run_setup(config: Config, name: str | None, progress_tables: str, admin_url: str | None, *, dry_run: bool) -> None:
    """Roles, publication, event trigger; roles, progress tables. The slot is made by the source's first start."""
    for unit in _units(config, name, admin_url):
        kind, unit_name = unit
        with closing(_admin(config, unit, admin_url)) as catalog:
            password = _password(config, unit, dry_run=dry_run)
            if kind == "source":
                archived = any(unit_name in archive.sources for archive in config.archives.values())
                plan = setup.plan_source(catalog, config.source(unit_name), password, archived=archived)
            else:
                sink = config.sink(unit_name)
                plan = setup.plan_target(catalog, sink, config.source(sink.source), password, progress_tables)
            _carry_out(unit, catalog, plan, setup.apply, dry_run=dry_run)


def run_teardown(config: Config, name: str, admin_url: str | None, *, dry_run: bool) -> None:
    """All that setup made, and the slot."""
    for unit in _units(config, name, admin_url):
        kind, unit_name = unit
        with closing(_admin(config, unit, admin_url)) as catalog:
            shared = _shared(config, unit)
            if kind == "source":
                plan = teardown.plan_source(catalog, config.source(unit_name), shared)
            else:
                plan = teardown.plan_target(catalog, config.sink(unit_name), shared)
            _carry_out(unit, catalog, plan, teardown.apply, dry_run=dry_run)
        _say_what_is_left(config, unit)


def _units(config: Config, name: str | None, admin_url: str | None) -> list[Unit]:
    """One administrator's URL leads to one server: it must be plain which section is meant."""
    units = databases(config, name)
    if admin_url and len(units) > 1:
        names = ", ".join(".".join(unit) for unit in units)
        problem = f"--admin-url leads to one server, and {len(units)} sections are meant ({names})"
        raise CdcError(ARGUMENT_INVALID, problem=problem, fix="name one: cdc setup NAME --admin-url …")
    return units


def _admin(config: Config, unit: Unit, admin_url: str | None) -> Catalog:
    side = Side.SOURCE if unit[0] == "source" else Side.TARGET
    return setup.open_admin(setup.admin_of(Server(side, unit[1], url_of(config, unit)), admin_url))


def _password(config: Config, unit: Unit, *, dry_run: bool) -> str | None:
    """Somebody who only reads the SQL needs no secret."""
    section = config.source(unit[1]) if unit[0] == "source" else config.sink(unit[1])
    if section.password is None:
        return None
    return "not read" if dry_run else section.server().password


def _carry_out(
    unit: Unit, catalog: Catalog, plan: Plan, apply: Callable[[Catalog, Plan], list[str]], *, dry_run: bool
) -> None:
    say(f"-- [{'.'.join(unit)}] in database {catalog.database}", "bold")
    for step in plan.steps:
        say(f"{step.text().removesuffix(';')};")
    notes = list(plan.notes) if dry_run else apply(catalog, plan)
    for note in notes:
        say(f"-- note: {note}", "yellow")
    say("-- nothing was done (--dry-run)" if dry_run else "-- done", "green")


def _shared(config: Config, unit: Unit) -> teardown.Shared:
    """What other sections use too: roles belong to a server, schema cdc to a database."""
    url = url_of(config, unit)
    others = [url_of(config, other) for other in databases(config, None) if other != unit]
    role = urlsplit(url).username
    return teardown.Shared(
        role=any(same_server(url, other, database=False) and urlsplit(other).username == role for other in others),
        database=any(
            same_server(url, url_of(config, other), database=True)
            for other in databases(config, None)
            if other != unit and other[0] == unit[0]
        ),
    )


def _say_what_is_left(config: Config, unit: Unit) -> None:
    kind, name = unit
    if kind == "sink":
        say("-- left: the replica's tables with their rows; [section] in the configuration")
        return
    prefix = config.source(name).topic_prefix
    try:
        names = Admin(config.kafka_options()).topic_names()
        topics = sorted(topic for topic in names if topic == prefix or topic.startswith(f"{prefix}."))
        say(f"-- left: topics {', '.join(topics) or 'none'}")
    except CdcError as error:
        say(f"-- left: topics {prefix} and {prefix}.* (Kafka could not be asked: {error.text})")
    say("-- left: replicas and their progress (cdc teardown SINK)")
