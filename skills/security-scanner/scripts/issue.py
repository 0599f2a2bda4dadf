"""The shape of a finding."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

SEVERITIES = ("critical", "high", "medium", "low")


@dataclass(frozen=True)
class Issue:
    """Something that endangers: `line` counts from 1, `evidence` tells two findings of a rule in one file apart."""

    rule: str
    severity: str
    file: str
    line: int
    message: str
    fix: str
    evidence: str = ""

    @property
    def fingerprint(self) -> str:
        """The same for the same finding after lines above it have moved."""
        text = "\0".join([self.rule, self.file, self.evidence or self.message])
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]
