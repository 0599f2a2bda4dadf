"""monitoring-setup: Prometheus and Grafana configuration for agents, and a check of rules files."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any

import atomic
import minyaml
import render
import rulecheck
import workspace

from openclaw_skill import SkillError

_TARGET = re.compile(r"^[A-Za-z0-9.\[\]:-]+:\d{1,5}$")


def scrapeConfig(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Writes a Prometheus configuration that scrapes the agents' gateways."""
    interval, job = args.get("intervalSeconds", 15), args.get("job", "openclaw-agents")
    targets = args.get("targets", [])
    for target in targets:
        if not _TARGET.match(target):
            raise SkillError(f"targets: {target!r} is not host:port; write for example agent1:7456")
    if targets:
        scrape = render.scrape_targets(job, targets, interval)
    else:
        scrape = render.scrape_by_discovery(job, args.get("namespaces", []), interval, args.get("port", 7456))
    document = render.prometheus([scrape], interval, args.get("ruleFiles", ["alerts.yml"]))
    return _write(ctx, args.get("path", "monitoring/prometheus.yml"), minyaml.dump(document), args)


def alertRules(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Writes the agents' alert rules."""
    defaults = render.Limits()
    limits = render.Limits(
        error_rate=args.get("errorRate", defaults.error_rate),
        error_for=args.get("errorFor", defaults.error_for),
        memory_mb=args.get("memoryMb", defaults.memory_mb),
        memory_for=args.get("memoryFor", defaults.memory_for),
    )
    document = render.alert_rules(limits)
    problems = rulecheck.check(document)
    if problems:
        raise SkillError(f"{problems[0]['where']}: {problems[0]['message']}; {problems[0]['fix']}")
    return _write(ctx, args.get("path", "monitoring/alerts.yml"), minyaml.dump(document), args)


def dashboard(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Writes a Grafana dashboard."""
    document = render.dashboard(
        args.get("title", "OpenClaw agents"), args.get("uid", "openclaw"), args.get("refresh", "30s")
    )
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return _write(ctx, args.get("path", "monitoring/dashboard.json"), text, args)


def _write(ctx: Any, path: str, text: str, args: dict[str, Any]) -> dict[str, Any]:
    place = workspace.locate(ctx, path)
    if PurePosixPath(path).suffix not in {".yml", ".yaml", ".json"}:
        raise SkillError(f"path: {path!r} must end in .yml, .yaml or .json")
    changed = not place.exists() or workspace.read_text(ctx, workspace.locate_file(ctx, path)) != text
    if changed and place.exists() and not args.get("overwrite", False):
        raise SkillError(f"path: {path!r} exists with other contents; set overwrite to replace it, or choose another")
    if changed:
        atomic.write_text(place, text)
    return {"path": workspace.show(ctx, place), "changed": changed, "content": text}


def checkRules(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Checks a Prometheus rules file for structural mistakes."""
    if ("path" in args) == ("content" in args):
        raise SkillError("path: give exactly one of path and content")
    text = args.get("content")
    if text is None:
        text = workspace.read_text(ctx, workspace.locate_file(ctx, args["path"]))
    try:
        document = minyaml.load(text)
    except minyaml.YamlError as error:
        problem = {"where": f"line {error.line}", "message": str(error), "fix": "Correct the YAML.", "level": "error"}
        return {"valid": False, "groups": 0, "rules": 0, "problems": [problem]}
    problems = rulecheck.check(document)
    groups, rules = rulecheck.count(document)
    valid = not any(problem["level"] == "error" for problem in problems)
    return {"valid": valid, "groups": groups, "rules": rules, "problems": problems}
