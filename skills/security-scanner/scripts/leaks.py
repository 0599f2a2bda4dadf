"""Finding credentials in text by their known forms and by their randomness.

A package holds all it runs, so each skill that needs this file has a copy of it. The forms are those that the
services document for their tokens.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

KNOWN: dict[str, tuple[str, str]] = {
    "private-key": ("private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
    "aws-access-key": ("AWS access key id", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "github-token": ("GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b"),
    "gitlab-token": ("GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "slack-token": ("Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "stripe-key": ("Stripe live key", r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    "google-api-key": ("Google API key", r"\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    "anthropic-key": ("Anthropic API key", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    "openai-key": ("OpenAI API key", r"\bsk-(?!ant-)(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    "groq-key": ("Groq API key", r"\bgsk_[A-Za-z0-9]{40,}"),
    "tavily-key": ("Tavily API key", r"\btvly-[A-Za-z0-9-]{20,}"),
    "jwt": ("signed web token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "url-password": ("password in a URL", r"\b[a-z][a-z0-9+.-]*://[^\s:/@\"'{}$<]+:(?P<secret>[^\s:/@\"'{}$<]{4,})@"),
}
"""Rule: (what it is, how it looks). Where only a part is secret, it is the group `secret`."""

_KNOWN = {rule: (what, re.compile(pattern)) for rule, (what, pattern) in KNOWN.items()}
_NAMED = re.compile(
    r"(?i)\b[\w.-]*(?:secret|token|passw(?:or)?d|passwd|api[_-]?key|access[_-]?key|private[_-]?key|credential)[\w.-]*"
    r"[\"']?\s*(?::=|=>|[:=])\s*(?P<quote>[\"']?)(?P<secret>[A-Za-z0-9+/=_.!@#$%^&*~-]{8,})(?P=quote)"
)
_PLACEHOLDER = re.compile(
    r"(?i)^(?:x+|\*+|\.+|<.*|\$.*|.*\b(?:example|changeme|change-me|placeholder|dummy|sample|your|redacted|todo|test|fake)\b.*"
    r"|none|null|true|false|undefined|.*_(?:key|token|secret|password)$)$"
)
_WORDS = re.compile(r"^[A-Za-z]+(?:[-_.:/ ][A-Za-z]+)*$")
"""Names of things, not values."""
_MIN_ENTROPY = 3.0
"""Bits per character above which a quoted value counts as random; English words stay below."""
_MIN_ENTROPY_BARE = 3.5
"""The same for a value without quotes, which is often a name or an expression."""
_MAX_LINE = 2000


@dataclass(frozen=True)
class Leak:
    """A credential on one line. `masked` is fit to be shown."""

    rule: str
    what: str
    masked: str


def entropy(text: str) -> float:
    """Returns Shannon's entropy in bits per character."""
    counts = Counter(text)
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())


def mask(secret: str) -> str:
    """Returns the first four characters and the length, never more than a third of the secret."""
    return f"{secret[: min(4, len(secret) // 3)]}... ({len(secret)} characters)"


def find(line: str) -> Iterator[Leak]:
    """Yields the credentials on a line, each once, the known forms first."""
    line = line[:_MAX_LINE]
    taken: list[tuple[int, int]] = []
    for rule, (what, pattern) in _KNOWN.items():
        for match in pattern.finditer(line):
            secret = match["secret"] if "secret" in pattern.groupindex else match[0]
            if not _PLACEHOLDER.match(secret) and not _inside(match.span(), taken):
                taken.append(match.span())
                yield Leak(rule, what, mask(secret))
    for match in _NAMED.finditer(line):
        secret = match["secret"]
        limit = _MIN_ENTROPY if match["quote"] else _MIN_ENTROPY_BARE
        if _inside(match.span("secret"), taken) or _PLACEHOLDER.match(secret) or entropy(secret) < limit:
            continue
        if (match["quote"] or _looks_random(secret)) and not _WORDS.match(secret):
            yield Leak("named-secret", "value of a secret's name", mask(secret))


def _looks_random(value: str) -> bool:
    """A bare value counts only with letters and digits and without the dots and brackets of an expression."""
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value) and "." not in value.strip(".")


def _inside(span: tuple[int, int], taken: list[tuple[int, int]]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in taken)
