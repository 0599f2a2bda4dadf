"""Alerts and dashboards: they fire when they should, and ask only for what our programs measure."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from openclaw_operator import telemetry as operator_telemetry
from openclaw_runtime import telemetry as runtime_telemetry
from openclaw_runtime.egress.journal import Decision, Journal
from tests.cluster import devtools
from tests.cluster.paths import REPOSITORY

FILES = REPOSITORY / "charts" / "openclaw-operator" / "files"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
RUNBOOKS = REPOSITORY / "docs" / "runbooks.md"
JOB = "oc-metrics"
# Labels that come from the scrape, not from the program.
TARGET_LABELS = {"job", "namespace", "pod", "instance", "service", "endpoint", "container"}
NAME = re.compile(r"\b((?:openclaw|process|gen_ai_client)_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
# Every grouping and every histogram adds this label.
BUCKET = "le"


def rendered() -> str:
    """The rules as the chart ships them."""
    text = (FILES / "alerts.yaml").read_text()
    return text.replace("{{JOB}}", JOB).replace("{{RUNBOOKS}}", "docs/runbooks.md")


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(rendered())["groups"] for rule in group["rules"]]


def panels(path: Path) -> Iterator[dict[str, Any]]:
    for panel in json.loads(path.read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions() -> list[tuple[str, str]]:
    """(where, PromQL) of every alert and every panel, with Grafana's variables filled in."""
    found = [(rule["alert"], rule["expr"]) for rule in alerts()]
    for path in DASHBOARDS:
        for panel in panels(path):
            for target in panel["targets"]:
                text = target["expr"].replace("$__rate_interval", "5m")
                found.append((f"{path.stem}: {panel['title']}", re.sub(r"\$\w+", ".*", text)))
    return found


def measured() -> dict[str, set[str]]:
    """Name of each series that operator, gateways and egress proxies expose, with its labels."""
    operator = operator_telemetry.Metrics()
    runtime = runtime_telemetry.Metrics(version="0", agent="a", start_time=0.0)
    found: dict[str, set[str]] = {}
    for registry in (operator.registry, runtime.registry):
        for collector, names in registry._collector_to_names.items():
            labels = set(getattr(collector, "_labelnames", ()))
            for name in names:
                found[name] = labels | ({BUCKET} if name.endswith("_bucket") else set())
        # The process collector has no names before it is asked.
        for family in registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, set(sample.labels))
    for family in text_string_to_metric_families(_egress()):
        for sample in family.samples:
            found[sample.name] = set(sample.labels)
    return found


def _egress() -> str:
    """What an egress proxy answers on /metrics after a request."""
    journal = Journal(lambda _line: None)
    journal.begin(Decision("1", 0.0, "", "GET", "example.com", 80))
    journal.end("1")
    return journal.metrics()


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [devtools.build("promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.timeout(devtools.BUILD_TIMEOUT_SECONDS)
def test_alerts_fire_and_stay_quiet_as_they_should(tmp_path: Path) -> None:
    rules = yaml.safe_load(rendered())
    for group in rules["groups"]:
        for rule in group["rules"]:
            # promtool compares annotations only where a test lists all of them.
            del rule["annotations"]
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    shutil.copy(Path(__file__).with_name("alerts_test.yaml"), tmp_path)
    result = promtool("test", "rules", tmp_path / "alerts_test.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested_both_ways() -> None:
    cases = yaml.safe_load(Path(__file__).with_name("alerts_test.yaml").read_text())["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    fires = {check["alertname"] for check in checks if check.get("exp_alerts")}
    quiet = {check["alertname"] for check in checks if not check.get("exp_alerts")}
    names = {rule["alert"] for rule in alerts()}
    assert fires == names
    assert quiet == names


@pytest.mark.timeout(devtools.BUILD_TIMEOUT_SECONDS)
def test_promtool_reads_every_expression(tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(rendered())
    recorded = [{"record": f"panel:{index}", "expr": text} for index, (_, text) in enumerate(expressions())]
    panel_rules = {"groups": [{"name": "panels", "rules": recorded}]}
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump(panel_rules))
    result = promtool("check", "rules", "--lint=none", tmp_path / "alerts.yaml", tmp_path / "panels.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("where", "expression"), expressions(), ids=lambda value: re.sub(r"\W+", "-", value)[:60])
def test_every_metric_and_label_exists(where: str, expression: str) -> None:
    known = measured()
    used: set[str] = set()
    for name, matchers in NAME.findall(expression):
        assert name in known, f"{where}: nothing measures {name}"
        used |= known[name]
        assert set(MATCHER.findall(re.sub(r'"[^"]*"', '""', matchers))) <= known[name] | TARGET_LABELS, where
    assert used or "up{" in expression or NAME.search(expression), where
    for group in GROUPING.findall(expression):
        assert {label.strip() for label in group.split(",")} <= used | TARGET_LABELS, where


def test_everything_measured_is_shown() -> None:
    shown = {name for _, text in expressions() for name, _ in NAME.findall(text)}
    families = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in shown}
    ours = {name for name in measured() if name.startswith("openclaw_")}
    assert {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in ours} <= families


def test_the_alerts_have_the_numbers_that_were_asked_for() -> None:
    rules = {rule["alert"]: rule for rule in alerts()}
    assert rules["HighErrorRate"]["expr"] == "rate(openclaw_skill_errors_total[5m]) > 0.1"
    assert rules["HighErrorRate"]["for"] == "5m"
    assert rules["MemoryUsageHigh"]["expr"] == "openclaw_memory_usage_bytes > 1024 * 1024 * 1024"
    assert rules["MemoryUsageHigh"]["for"] == "2m"


def test_every_alert_says_what_is_wrong_and_has_a_runbook() -> None:
    headings = {
        line.removeprefix("## ").lower() for line in RUNBOOKS.read_text().splitlines() if line.startswith("## ")
    }
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, rule["alert"]
        assert rule["labels"]["severity"] in {"warning", "critical"}
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbooks.md"
        assert anchor == rule["alert"].lower()
        assert anchor in headings, f"docs/runbooks.md has no section {rule['alert']}"


def test_runbooks_are_about_alerts_that_exist() -> None:
    headings = {line.removeprefix("## ") for line in RUNBOOKS.read_text().splitlines() if line.startswith("## ")}
    assert headings == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_imported_anywhere(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert dashboard["uid"] == f"openclaw-{path.stem}"
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in panels(path):
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        used = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for target in panel["targets"])))
        assert used - {"__rate_interval"} <= variables, panel["title"]
    known = measured()
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
            assert metric in known
            assert label in known[metric] | TARGET_LABELS


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
