"""What is checked before a call: small pure policies, in order; the first one that refuses says why.

A policy looks at the skill, the action and the input. None of them is what keeps a skill in its sandbox: that is the
kernel's and the cluster's work. They stop mistakes and obvious abuse early, with a message that helps.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

from openclaw_runtime.sandbox.protocol import CONTEXT_METHODS
from openclaw_runtime.skills.schemas import InvalidSchemaError, first_error
from openclaw_runtime.skills.types import PERMISSIONS, ActionSpec, InstalledSkill, SecurityLevel

FORBIDDEN_EXTENSIONS: Final = frozenset({".exe", ".dll", ".so", ".sh", ".bat", ".cmd"})
MAX_INPUT_BYTES: Final = 2 * 1024 * 1024
_MAX_STRING: Final = 100_000
"""Patterns are looked for in this much of a string; a command that does harm is shorter."""
_MAX_PATH: Final = 4096
_MAX_NAME: Final = 255
"""Linux opens no longer path, and has no longer name in a folder."""
_CLIMBS: Final = re.compile(r"(?:^(?:[A-Za-z]:)?|[\\/])\.\.(?:[\\/]|$)")
"""A component `..` of a path, as POSIX or Windows reads it, whatever else the path holds: spaces do not matter."""

_DANGEROUS: Final = (
    (
        re.compile(
            r"\brm\s+(?=(?:-[^\srR]*+\s++)*+-[^\srR]*+[rR])(?:-\S++\s++)++[\"']?(?:/\*?|(?:~|\$HOME)(?:/\*?)?|\*)(?:\s|[\"']|$)"
        ),
        "rm -r of a root",
    ),
    (re.compile(r":\s*+\(\s*+\)\s*+\{\s*+:\s*+\|\s*+:\s*+&\s*+\}\s*+;\s*+:"), "a fork bomb"),
    (re.compile(r"\bmkfs(?:\.\w+)?\s"), "formatting a disk"),
    (re.compile(r"\bdd\b(?:(?!\bof=/dev/)[^\n])*+(?P<harm>of=/dev/)?"), "writing to a device"),
    (re.compile(r">\s*+/dev/(?:sd|nvme|vd|hd|mem|kmem)"), "writing to a device"),
    (
        re.compile(r"\b(?:curl|wget)\b[^\n|]*+(?P<harm>\|\s*+(?:sudo\s+)?(?:ba|z|da|k)?sh\b)?"),
        "running what was downloaded",
    ),
    (re.compile(r"\bchmod\s+(?:-\S++\s++)*+(?:0?777|a\+rwx)\s+/(?:\s|$)"), "opening up the root folder"),
    (re.compile(r"(?:^|[;&|`(]\s*+)(?:sudo|su)\s+-?\w"), "becoming another user"),
    (re.compile(r"\b(?:shutdown|reboot|halt|poweroff)\b\s+(?:-|now)"), "stopping the machine"),
    (re.compile(r"/dev/(?:tcp|udp)/"), "a network shell"),
    (re.compile(r"\bnc\b(?:(?!\s-[^\s]*e\s)[^\n])*+(?P<harm>\s-\S*e\s)?"), "a network shell"),
)
"""Patterns, searched by `_does_harm`. The text is anybody's, so each takes time linear in its length: repetitions are
possessive, and what begins often (a command's name) consumes its line up to the group `harm` in one match."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one policy found. `reason` is one CamelCase word for audit and metrics."""

    policy: str
    allowed: bool
    reason: str = "Allowed"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is about to be called."""

    skill: InstalledSkill
    action: str
    input: Mapping[str, Any]
    security_level: SecurityLevel
    input_bytes: int

    @property
    def spec(self) -> ActionSpec | None:
        """The action's declaration, if there is one."""
        return self.skill.action(self.action)


Policy = Callable[[Attempt], tuple[str, str] | None]
"""Returns None to allow, or a reason and a message."""


def context_methods(permissions: frozenset[str], level: SecurityLevel) -> frozenset[str]:
    """Returns what of its context a skill may use.

    Memory, model and questions need no declared permission, with one exception. At level strict a skill that can reach
    the internet (network:external) may not search memory: what it reads there could leave.
    """
    if level == "strict" and "network:external" in permissions:
        return CONTEXT_METHODS - {"memory.search"}
    return CONTEXT_METHODS


def known_action(attempt: Attempt) -> tuple[str, str] | None:
    """The action is declared."""
    if attempt.spec is not None:
        return None
    known = ", ".join(action.name for action in attempt.skill.actions)
    return "UnknownAction", f"action: {attempt.skill.name} has no {attempt.action}; it has {known}"


def known_permissions(attempt: Attempt) -> tuple[str, str] | None:
    """Every declared permission exists, so that none is silently without effect."""
    unknown = sorted(attempt.skill.permissions - PERMISSIONS)
    if not unknown:
        return None
    return "UnknownPermission", f"permissions: {', '.join(unknown)} unknown; allowed: {', '.join(sorted(PERMISSIONS))}"


def level_allowed(attempt: Attempt) -> tuple[str, str] | None:
    """At security level strict, nothing runs trusted that starts programs and reaches the network as well."""
    skill = attempt.skill
    if attempt.security_level != "strict" or skill.level != "trusted":
        return None
    if "process:execute" in skill.permissions and skill.permissions & {"network:external", "network:internal"}:
        return (
            "LevelNotAllowed",
            f"level: {skill.name} is trusted, starts programs and reaches the network; use level isolated, or "
            "security_level moderate",
        )
    return None


def input_size(attempt: Attempt) -> tuple[str, str] | None:
    """The input fits into one message."""
    if attempt.input_bytes <= MAX_INPUT_BYTES:
        return None
    return "InputTooLarge", f"input: {attempt.input_bytes} bytes; at most {MAX_INPUT_BYTES} are allowed"


def input_schema(attempt: Attempt) -> tuple[str, str] | None:
    """The input is what the action's JSON Schema asks for."""
    assert attempt.spec is not None
    try:
        problem = first_error(attempt.spec.input_schema, dict(attempt.input), "input")
    except InvalidSchemaError as error:
        return "InvalidSchema", f"inputSchema of {attempt.action}: {error}"
    return None if problem is None else ("InvalidInput", _short(problem))


def _short(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def strings_of(value: object, path: str = "input") -> Iterator[tuple[str, str]]:
    """Yields every string inside a JSON value with its path, keys included."""
    pending: list[tuple[str, object]] = [(path, value)]
    while pending:
        where, item = pending.pop()
        if isinstance(item, str):
            yield where, item[:_MAX_STRING]
        elif isinstance(item, Mapping):
            for key, inner in item.items():
                yield where, str(key)
                pending.append((f"{where}.{key}", inner))
        elif isinstance(item, list | tuple):
            pending.extend((f"{where}[{index}]", inner) for index, inner in enumerate(item))


def _as_paths(text: str) -> set[str]:
    """Returns how a skill may read a text as a path: stripped, and percent-decoded. Several lines are none."""
    readings = (reading.strip() for reading in (text, unquote(text)))
    return {path for path in readings if len(path) <= _MAX_PATH and "\n" not in path}


def path_traversal(attempt: Attempt) -> tuple[str, str] | None:
    """No string of the input is a path that climbs out of a folder."""
    for where, text in strings_of(attempt.input):
        if "\x00" in text:
            return "PathTraversal", f"{where}: holds a NUL byte"
        if any(_CLIMBS.search(path) for path in _as_paths(text)):
            return "PathTraversal", f"{where}: {_short(text, 80)!r} climbs out of its folder; give a path without .."
    return None


def forbidden_extensions(attempt: Attempt) -> tuple[str, str] | None:
    """At level strict and moderate, no string of the input names a file that is a program.

    Names may hold spaces, so prose that ends with such a name is refused as well, if it is as short as a name.
    """
    if attempt.security_level == "permissive":
        return None
    for where, text in strings_of(attempt.input):
        if "://" in text:
            continue
        names = (PurePosixPath(path.replace("\\", "/")) for path in _as_paths(text))
        if any(name.suffix.lower() in FORBIDDEN_EXTENSIONS and len(name.name) <= _MAX_NAME for name in names):
            allowed = ", ".join(sorted(FORBIDDEN_EXTENSIONS))
            return (
                "ForbiddenExtension",
                f"{where}: {_short(text, 80)!r} names a program; these are refused: {allowed}; "
                "a text must not end with such a name",
            )
    return None


def _does_harm(pattern: re.Pattern[str], text: str) -> bool:
    return any(match["harm"] if "harm" in pattern.groupindex else True for match in pattern.finditer(text))


def dangerous_commands(attempt: Attempt) -> tuple[str, str] | None:
    """No string of the input is a command that only does harm."""
    if attempt.security_level == "permissive" or "process:execute" not in attempt.skill.permissions:
        return None
    for where, text in strings_of(attempt.input):
        for pattern, meaning in _DANGEROUS:
            if _does_harm(pattern, text):
                return "DangerousCommand", f"{where}: holds a command that is refused: {meaning}"
    return None


POLICIES: Final[tuple[Policy, ...]] = (
    known_action,
    known_permissions,
    level_allowed,
    input_size,
    input_schema,
    path_traversal,
    forbidden_extensions,
    dangerous_commands,
)


DISCOVERY_POLICIES: Final[tuple[Policy, ...]] = (known_permissions, level_allowed)
"""For asking an MCP server what it has: there is no action and no input yet."""


def check(attempt: Attempt, policies: tuple[Policy, ...] = POLICIES) -> list[Verdict]:
    """Runs the policies in order, up to and including the first that refuses."""
    verdicts: list[Verdict] = []
    for policy in policies:
        refused = policy(attempt)
        if refused is not None:
            verdicts.append(Verdict(policy.__name__, allowed=False, reason=refused[0], message=refused[1]))
            break
        verdicts.append(Verdict(policy.__name__, allowed=True))
    return verdicts
