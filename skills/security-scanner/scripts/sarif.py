"""SARIF 2.1.0 (OASIS): https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from issue import Issue

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.0", "low": "2.0"}


def document(issues: Sequence[Issue], version: str) -> dict[str, Any]:
    """Returns a log with one run; its rules are those that were broken, by name."""
    first = {issue.rule: issue for issue in reversed(issues)}
    rules = sorted(first)
    driver = {
        "name": "openclaw-security-scanner",
        "version": version,
        "rules": [_rule(first[rule]) for rule in rules],
    }
    results = [_result(issue, rules.index(issue.rule)) for issue in issues]
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }


def _rule(issue: Issue) -> dict[str, Any]:
    return {
        "id": issue.rule,
        "shortDescription": {"text": issue.rule.replace("-", " ")},
        "help": {"text": issue.fix},
        "defaultConfiguration": {"level": _LEVELS[issue.severity]},
        "properties": {"security-severity": _SCORES[issue.severity], "tags": ["security"]},
    }


def _result(issue: Issue, index: int) -> dict[str, Any]:
    place = {
        "artifactLocation": {"uri": quote(issue.file), "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": issue.line},
    }
    return {
        "ruleId": issue.rule,
        "ruleIndex": index,
        "level": _LEVELS[issue.severity],
        "message": {"text": f"{issue.message}. {issue.fix}"},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"openclaw/v1": issue.fingerprint},
    }
