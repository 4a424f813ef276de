"""`cdc check`: everything that is missing, of every section asked for and of Kafka, at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from cdc.brokers import Cluster, check_cluster, check_link, check_registry_link, check_topics
from cdc.commands.sections import chosen, url_of
from cdc.commands.terminal import say, say_json
from cdc.config import Config
from cdc.engine import engine_of
from cdc.errors import KAFKA_DENIED, CdcError
from cdc.finding import Finding, Level, fail, note, ok
from cdc.kafka_admin import Admin
from cdc.mysql import check as mysql
from cdc.mysql import check_target as mysql_target
from cdc.mysql.inventory import Inventory as MySqlInventory
from cdc.postgres import check as postgres
from cdc.postgres import check_target as postgres_target
from cdc.postgres.inventory import Inventory as PostgresInventory
from cdc.registry import Registry
from cdc.sections import Source
from cdc.topics import log_topic, message_topic, row_topics, shape_topic

_STYLE = {Level.OK: "green", Level.NOTE: "dim", Level.WARN: "yellow", Level.FAIL: "bold red"}
Inventory = PostgresInventory | MySqlInventory
Section = tuple[str, str, list[Finding]]


def check(config: Config, name: str | None, check_archive: Callable[[Config, str], list[Finding]]) -> list[Section]:
    """(section, where it is, findings), in the file's order, Kafka last."""
    sections: list[Section] = []
    captured: list[tuple[Source, Inventory | None]] = []
    for unit in chosen(config, name):
        kind, unit_name = unit
        if kind == "source":
            source = config.source(unit_name)
            findings, inventory = _check_source(source)
            captured.append((source, inventory))
        elif kind == "archive":
            findings = check_archive(config, unit_name)
        else:
            sink = config.sink(unit_name)
            if engine_of(sink.url) == "postgresql":
                findings = postgres_target.check_target(sink, config.written(sink.source))
            else:
                findings = mysql_target.check_target(sink, config.source(sink.source))
        sections.append((".".join(unit), url_of(config, unit), findings))
    return [*sections, ("kafka", config.kafka.bootstrap_servers, _kafka(config, captured))]


def _check_source(source: Source) -> tuple[list[Finding], Inventory | None]:
    return mysql.check_source(source) if source.engine == "mysql" else postgres.check_source(source)


def _kafka(config: Config, captured: list[tuple[Source, Inventory | None]]) -> list[Finding]:
    findings = list(check_link(config.kafka))
    if config.registry is not None:
        findings += [*check_registry_link(config.registry), _registry(config)]
    try:
        admin = Admin(config.kafka_options())
        settings, unseen = _broker_settings(admin)
        findings += unseen
        findings += check_cluster(config.kafka, Cluster(*admin.cluster(), settings))
        for source, inventory in captured:
            prefix = source.topic_prefix
            capture = inventory.capture if inventory else ()
            rows = list(row_topics(prefix, [(table.schema, table.name) for table in capture]).values())
            topics = admin.describe([log_topic(prefix), shape_topic(prefix), message_topic(prefix), *rows])
            findings += check_topics(config.kafka, source, topics, rows)
    except CdcError as error:
        return [*findings, fail(f"{error.code.name}: {error.text}", error.hint)]
    return findings


def _registry(config: Config) -> Finding:
    try:
        server = config.registry_server()
        assert server is not None
        with closing(Registry(server)) as registry:
            return ok(f"the schema registry answers: {len(registry.subjects())} subjects")
    except CdcError as error:
        return fail(f"{error.code.name}: {error.text}", error.hint)


def _broker_settings(admin: Admin) -> tuple[dict[str, str], list[Finding]]:
    """No process needs them but this one: without the right to see them there is less to judge."""
    try:
        return admin.broker_config(), []
    except CdcError as error:
        if error.code is not KAFKA_DENIED:
            raise
        return {}, [note(f"the brokers' settings are not judged: {error.text}", error.hint)]


def failed(sections: list[Section]) -> bool:
    return any(finding.level is Level.FAIL for _, _, findings in sections for finding in findings)


def show(sections: list[Section]) -> None:
    """For people."""
    counts = dict.fromkeys(Level, 0)
    for name, where, findings in sections:
        say(f"{name}  {where}", "bold")
        for finding in findings:
            counts[finding.level] += 1
            say(f"  {finding.level.value:<4}  ", _STYLE[finding.level], end="")
            say(finding.what)
            if finding.fix:
                say(f"        → {finding.fix}")
    say(", ".join(f"{number} {level.value}" for level, number in counts.items() if number))


def show_json(sections: list[Section]) -> None:
    """For programs."""
    say_json(
        {
            "v": 1,
            "ok": not failed(sections),
            "sections": [
                {
                    "section": name,
                    "where": where,
                    "findings": [{"level": f.level.value, "what": f.what, "fix": f.fix} for f in findings],
                }
                for name, where, findings in sections
            ],
        }
    )
