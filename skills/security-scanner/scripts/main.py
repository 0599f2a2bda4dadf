"""security-scanner: what endangers the workspace - secrets, code, rights, dependencies, manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import dependencies
import files
import kubernetes
import leaks
import sarif
import sourcecode
import workspace
from issue import SEVERITIES, Issue

from openclaw_skill import SkillError

VERSION = "1.0.0"
CHECKS = ("secrets", "code", "permissions", "dependencies", "kubernetes")
IGNORE = "scan:ignore"
"""A line that holds this is not reported."""
MAX_FILE = 2 * 1024 * 1024


def scan(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Scans a folder or file and returns findings, the worst first; as SARIF too where that is asked for."""
    base = workspace.locate(ctx, args.get("path", "."))
    if not base.exists():
        raise SkillError(f"path: {args['path']!r} does not exist; name a folder or file of the workspace")
    checks = frozenset(args.get("checks", CHECKS))
    exclude = [*args.get("exclude", []), *ctx.config.get("exclude", [])]
    found: list[Issue] = []
    scanned = skipped = 0
    for place in workspace.walk(base):
        name = workspace.show(ctx, place)
        if any(fnmatch(name, pattern) or fnmatch(place.name, pattern) for pattern in exclude):
            continue
        text = _text(place)
        scanned += 1
        skipped += text is None
        found += _file(place, name, text, checks)
    least = SEVERITIES.index(args.get("minSeverity", "low"))
    wanted = [issue for issue in dict.fromkeys(found) if SEVERITIES.index(issue.severity) <= least]
    wanted.sort(key=lambda issue: (SEVERITIES.index(issue.severity), issue.file, issue.line, issue.rule))
    counts = Counter(issue.severity for issue in wanted)
    limit = args.get("limit", 200)
    result: dict[str, Any] = {
        "findings": [_as_json(issue) for issue in wanted[:limit]],
        "summary": {severity: counts[severity] for severity in SEVERITIES},
        "filesScanned": scanned,
        "filesNotRead": skipped,
        "truncated": len(wanted) > limit,
    }
    if args.get("format", "json") == "sarif":
        result["sarif"] = sarif.document(wanted[:limit], VERSION)
    return result


def _as_json(issue: Issue) -> dict[str, Any]:
    values = asdict(issue)
    del values["evidence"]
    return {**values, "fingerprint": issue.fingerprint}


def _text(place: Path) -> str | None:
    """A file's text, or None for what is binary, too large or unreadable."""
    try:
        data = workspace.read_bytes(place, MAX_FILE + 1)
    except PermissionError:
        return None
    if len(data) > MAX_FILE or b"\0" in data[:8192]:
        return None
    return data.decode("utf-8", "replace")


def _file(place: Path, name: str, text: str | None, checks: frozenset[str]) -> Iterator[Issue]:
    if "permissions" in checks:
        public = text is not None and "PRIVATE KEY-----" not in text and place.suffix == ".pem"
        yield from files.check(name, place.stat().st_mode, is_public_pem=public)
    if text is None:
        return
    lines = text.splitlines()
    for issue in _text_checks(name, text, checks):
        if not (0 < issue.line <= len(lines) and IGNORE in lines[issue.line - 1]):
            yield issue


def _text_checks(name: str, text: str, checks: frozenset[str]) -> Iterator[Issue]:
    path = PurePosixPath(name)
    if "secrets" in checks:
        yield from _secrets(name, text)
    if "code" in checks:
        yield from sourcecode.check(name, path.suffix, text)
    if "dependencies" in checks and dependencies.is_requirements(path.name):
        yield from dependencies.requirements(name, text)
    if "dependencies" in checks and dependencies.is_dockerfile(path.name):
        yield from dependencies.dockerfile(name, text)
    if "kubernetes" in checks and path.suffix in {".yaml", ".yml", ".json"}:
        yield from kubernetes.check(name, text)


def _secrets(name: str, text: str) -> Iterator[Issue]:
    fix = "Replace the credential where it is issued, and read the new one from a secret store."
    for number, line in enumerate(text.splitlines(), 1):
        for leak in leaks.find(line):
            severity = "high" if leak.rule == "named-secret" else "critical"
            message = f"{leak.what} in the clear: {leak.masked}"
            yield Issue(f"secret-{leak.rule}", severity, name, number, message, fix, leak.masked)
