"""The shape of a finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One remark: `source` is static or model, `line` counts from 1."""

    file: str
    line: int
    severity: str
    rule: str
    message: str
    suggestion: str
    source: str = "static"


def in_order(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Returns findings as JSON: by file, line, severity, each once."""
    unique = dict.fromkeys(findings)
    key = lambda f: (f.file, f.line, SEVERITIES.index(f.severity), f.rule, f.message)  # noqa: E731
    return [asdict(finding) for finding in sorted(unique, key=key)]


def summary(findings: list[dict[str, Any]], files: int) -> dict[str, int]:
    """Returns how many findings there are of each severity."""
    counts = Counter(finding["severity"] for finding in findings)
    return {"files": files, **{severity: counts[severity] for severity in SEVERITIES}}
