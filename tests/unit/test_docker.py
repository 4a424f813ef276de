"""What stands in docker/ is as our programs know it: images by version, metrics by name, configuration by its loader.

There is no engine here that could run it: files are read, judged and, where a linter is at hand, linted.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry
from typer.main import get_command

from cdc.cli import app
from cdc.config import Config, parse
from cdc.metrics import ArchiveMetrics, SinkMetrics, SourceMetrics

DOCKER = Path(__file__).parents[2] / "docker"
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+[\w.-]*")
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "cdc"}
RUNNING = {name: service for name, service in OURS.items() if service["restart"] != "no"}
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana/cdc.json").read_text())
UNIT = DOCKER / "systemd" / "cdc@.service"


def config() -> Config:
    return parse((DOCKER / "cdc.toml").read_text(), DOCKER / "cdc.toml")


# -- images and containers --------------------------------------------------------------------------------------
def test_the_image_is_linted_and_runs_as_nobody() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    text = (DOCKER / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)(?: AS \w+)?$", text, re.MULTILINE)
    assert len(bases) == 2
    assert all(PINNED.fullmatch(base) for base in bases)
    assert text.count("USER 10001:10001") == 1
    assert text.index("USER 10001") > text.index("apt-get")
    assert "HEALTHCHECK" in text


def test_the_image_holds_what_the_package_is_made_of() -> None:
    root, text = DOCKER.parent, (DOCKER / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    sources = [name for line in copied for name in line.split()]
    assert {"requirements.lock", "cdc", "sinks", "schemas", "pyproject.toml"} <= set(sources)
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    for name in sources:
        assert (root / name).exists(), name
        assert f"!{name}" in allowed, name


def test_every_image_is_pinned() -> None:
    for name, service in SERVICES.items():
        assert service["image"] == "cdc" or PINNED.fullmatch(service["image"]), name


def test_compose_has_the_shape_of_its_specification() -> None:
    assert set(COMPOSE) <= {"name", "services", "networks", "volumes", "secrets", "x-cdc", "x-setup"}
    known = {"image", "build", "command", "environment", "secrets", "depends_on", "volumes", "ports", "healthcheck",
             "networks", "restart", "read_only", "tmpfs", "cap_drop", "security_opt"}  # fmt: skip
    for name, service in SERVICES.items():
        assert set(service) <= known, name
        assert set(service["networks"]) <= COMPOSE["networks"].keys(), name
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys(), name
        for other, wanted in service.get("depends_on", {}).items():
            assert other in SERVICES, (name, other)
            has_check = "healthcheck" in SERVICES[other]
            assert wanted["condition"] != "service_healthy" or has_check, (name, other)
            assert wanted["condition"] != "service_completed_successfully" or SERVICES[other]["restart"] == "no"
        for volume in service.get("volumes", ()):
            source, _, _ = volume.partition(":")
            assert (DOCKER / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"], volume
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name


def test_compose_is_as_docker_reads_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here")
    names = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yml").read_text()))
    done = subprocess.run(
        [docker, "compose", "-f", DOCKER / "compose.yml", "config", "--quiet"],
        env=dict.fromkeys(names, "x"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_ours_are_locked_in_and_told_no_secret_by_their_environment() -> None:
    assert len(OURS) == 7
    for name, service in OURS.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    text = (DOCKER / "compose.yml").read_text()
    assert not re.search(r"(?i)(password|secret|key)\w*: (?!\$\{|$|\w+_(PASSWORD|KEY)$|cdc)\S+$", text, re.MULTILINE)


def test_secrets_are_files_that_git_and_the_image_leave_out() -> None:
    """A service whose root is read-only gets no secret out of the environment: compose would have to write it there."""
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    assert "docker/secrets/" in (DOCKER.parent / ".gitignore").read_text().splitlines()


def test_ours_run_commands_and_sections_that_there_are() -> None:
    loaded, command = config(), get_command(app)
    ports = {f"{kind}.{name}": loaded.metrics_address(kind, name) for kind, name in loaded.units()}
    watched = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0][
        "targets"
    ]
    seen = []
    for name, service in OURS.items():
        words = service["command"]
        context = command.make_context("cdc", list(words), resilient_parsing=True)
        assert words[0] in command.list_commands(context), words  # type: ignore[attr-defined]
        secrets = {f"/run/secrets/{secret}" for secret in service["secrets"]}
        if name in RUNNING:
            kind, section = words[0], words[2]
            unit = f"{kind}.{section}" if kind != "archive" else f"archive.{section}.shop"
            address = ports[unit]
            assert address is not None
            assert service["environment"]["CDC_HEALTH_PORT"] == str(address[1]), name
            seen.append(f"{name}:{address[1]}")
            assert wanted_secrets(loaded, kind, section) <= secrets, name
    assert sorted(seen) == sorted(watched)
    assert len(ports) == len(RUNNING)


def wanted_secrets(loaded: Config, kind: str, section: str) -> set[str]:
    """Files that a process of this section reads."""
    match kind:
        case "source":
            references = [loaded.source(section).password]
        case "sink":
            references = [loaded.sink(section).password]
        case _:
            archive, source = loaded.archive(section)
            key = archive.encryption_key
            references = [loaded.source(source).password, None if isinstance(key, str) else key]
    return {str(reference).removeprefix("file:") for reference in references if reference is not None}


# -- metrics ----------------------------------------------------------------------------------------------------
def known_metrics() -> dict[str, set[str]]:
    """Every series that a process shows, with its labels."""
    found: dict[str, set[str]] = {}
    for unit in (SourceMetrics("x"), SinkMetrics("x"), ArchiveMetrics("x")):
        registry: CollectorRegistry = unit.registry
        for family in registry.collect():
            labels = {label for sample in family.samples for label in sample.labels} | {unit._kind}
            names = {sample.name for sample in family.samples} or {f"{family.name}_total", family.name}
            for name in names:
                found[name] = labels
    return found


KNOWN = known_metrics()
OTHERS_LABELS = {"code", "table", "job", "instance", "le"}
"""Of series that show up with their first event, and Prometheus' own."""


def selectors(node: Any) -> Iterator[Any]:
    """Every vector selector of an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from selectors(argument)
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from selectors(node.lhs)
        yield from selectors(node.rhs)
    elif isinstance(node, promql_parser.AggregateExpr | promql_parser.ParenExpr | promql_parser.UnaryExpr):
        yield from selectors(node.expr)
    else:
        assert isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral), node


def metrics_of(expression: str) -> set[str]:
    """The names that an expression asks for, each known."""
    found = {selector.name for selector in selectors(promql_parser.parse(expression))}
    assert found <= KNOWN.keys() | {"up"}, (expression, found - KNOWN.keys())
    return found


def test_every_alert_asks_for_what_there_is() -> None:
    asked: set[str] = set()
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
        found = metrics_of(rule["expr"])
        asked |= found
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "action"}
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        known = set().union(*(KNOWN.get(name, set()) for name in found)) | OTHERS_LABELS
        assert labels <= known, rule["alert"]
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for subject in ("up", "cdc_source_lag_seconds", "cdc_source_behind_bytes", "cdc_sink_lag_seconds",
                    "cdc_archive_unarchived_seconds", "cdc_archive_base_overdue", "cdc_archive_job_failures_total",
                    "cdc_archive_retries_total"):  # fmt: skip
        assert subject in asked, f"no alarm for {subject}"


def test_the_dashboard_asks_for_what_there_is_and_leaves_nothing_out() -> None:
    (source,) = yaml.safe_load((DOCKER / "grafana/datasource.yml").read_text())["datasources"]
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    asked: set[str] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == source["uid"]
            found = metrics_of(target["expr"])
            asked |= found
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert labels <= set().union(*(KNOWN[name] for name in found)) | OTHERS_LABELS, target
    families = {re.sub("_(total|created|bucket|sum|count)$", "", name) for name in KNOWN}
    shown = {re.sub("_(total|bucket)$", "", name) for name in asked}
    assert families - shown <= {"cdc_source_position_bytes", "cdc_sink_position_bytes", "cdc_archive_position_bytes"}


def test_a_metric_that_there_is_not_is_seen() -> None:
    with pytest.raises(AssertionError, match="cdc_sink_lag_minutes"):
        metrics_of("cdc_sink_lag_minutes > 1")


def test_prometheus_reads_the_rules_that_are_mounted() -> None:
    given = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    assert set(given) == {"global", "rule_files", "scrape_configs"}
    mounted = [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"] if volume.startswith("./")]
    for file in ["prometheus.yml", *given["rule_files"]]:
        assert f"/etc/prometheus/{file}" in mounted
    (provider,) = yaml.safe_load((DOCKER / "grafana/dashboards.yml").read_text())["providers"]
    assert any(
        volume.split(":")[1].startswith(provider["options"]["path"]) for volume in SERVICES["grafana"]["volumes"]
    )


# -- systemd ----------------------------------------------------------------------------------------------------
def test_the_unit_is_valid_and_shut_in(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    text = UNIT.read_text()
    assert "ExecStart=/opt/cdc/bin/cdc up %i" in text
    assert "RestartPreventExitStatus=2 5" in text
    unit = tmp_path / "cdc@source.shop.service"
    unit.write_text(text.replace("/opt/cdc/bin/cdc", sys.executable))
    verified = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", unit], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout
