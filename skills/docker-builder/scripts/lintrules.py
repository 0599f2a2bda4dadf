"""Rules for Dockerfiles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_SECRET = re.compile(
    r"(?:^|_)(?:password|passwd|secret|token|api_?key|private_?key|credentials?)(?:$|_)", re.IGNORECASE
)
# A word of its own, as BuildKit reads it: neither a shift (1<<20) nor a here-string (<<<word) begins one.
_HEREDOC = re.compile(r"(?<!\S)\d*<<(-?)([\"']?)([A-Za-z_][\w.-]*)\2(?!\S)")
_TAKES_HEREDOC = re.compile(r"(?:ONBUILD\s+)?(?:RUN|COPY|ADD)\s", re.IGNORECASE)
_ESCAPE = re.compile(r"^#\s*escape\s*=\s*(\S)", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    """One instruction; `line` is its first, from 1."""

    line: int
    name: str
    value: str


def instructions(text: str) -> Iterator[Instruction]:
    """Yields the instructions of a Dockerfile: continued lines joined, comments and here-documents left out.

    A here-document without an end is yielded last, as an instruction `<<`.
    """
    escape = "\\"
    start, parts, ends = 0, list[str](), list[tuple[bool, str]]()
    for number, line in enumerate(re.split(r"\r?\n", text), 1):
        if ends:
            tabs, end = ends[0]
            if (line.lstrip("\t") if tabs else line) == end:
                ends.pop(0)
            continue
        if number == 1 and (told := _ESCAPE.match(line)):
            escape = told[1]
        if line.lstrip().startswith("#") or (not line.strip() and not parts):
            continue
        start = start if parts else number
        stripped = line.strip()
        parts.append(stripped.removesuffix(escape).strip())
        if stripped.endswith(escape):
            continue
        joined = " ".join(filter(None, parts))
        name, _, value = joined.partition(" ")
        if _TAKES_HEREDOC.match(joined):
            ends = [(bool(tabs), end) for tabs, _, end in _HEREDOC.findall(value)]
        yield Instruction(start, name.upper(), value.strip())
        parts = []
    if parts:
        name, _, value = " ".join(filter(None, parts)).partition(" ")
        yield Instruction(start, name.upper(), value.strip())
    if ends:
        yield Instruction(start, "<<", ends[0][1])


def check(text: str) -> list[dict[str, Any]]:
    """Returns what is wrong, in the order of lines: severity, rule, line, message."""
    given = list(instructions(text))
    if not any(each.name == "FROM" for each in given):
        return [_finding("error", "from", 1, "it has no FROM; begin with a base image")]
    found: list[dict[str, Any]] = []
    stages: set[str] = set()
    for each in given:
        found += _one(each, stages)
        if each.name == "FROM" and (named := re.search(r"\bas\s+(\S+)", each.value, re.IGNORECASE)):
            stages.add(named[1].lower())
    return sorted([*found, *_whole(given)], key=lambda finding: finding["line"])


def _finding(severity: str, rule: str, line: int, message: str) -> dict[str, Any]:
    return {"severity": severity, "rule": rule, "line": line, "message": message}


def _one(each: Instruction, stages: set[str]) -> Iterator[dict[str, Any]]:
    """What is wrong with an instruction; `stages` are the names of those before it."""
    line, value = each.line, each.value
    match each.name:
        case "FROM":
            yield from _base(line, value, stages)
        case "ADD":
            yield from _add(line, value)
        case "ENV" | "ARG":
            names = re.findall(r"([A-Za-z_]\w*)\s*=", value) or value.split()[:1]
            # An ARG without a value is only a name.
            for name in names if each.name == "ENV" or "=" in value else ():
                if _SECRET.search(name):
                    told = f"{name} stays in the image for all to read; use RUN --mount=type=secret"
                    yield _finding("error", "secret", line, told)
        case "RUN":
            yield from _run(line, value)
        case "CMD" | "ENTRYPOINT":
            if not value.startswith("["):
                told = f'a shell takes the signals of what {each.name} starts; write ["program", "argument"]'
                yield _finding("warning", "shell-form", line, told)
        case "<<":
            told = f"nothing ends <<{value}, so all that follows belongs to it; write {value} alone on a line"
            yield _finding("error", "heredoc", line, told)
        case "MAINTAINER":
            yield _finding("warning", "deprecated", line, "write LABEL org.opencontainers.image.authors=…")
        case _:
            pass


def _base(line: int, value: str, stages: set[str]) -> Iterator[dict[str, Any]]:
    image = next((word for word in value.split() if not word.startswith("--")), "")
    if image.lower() in stages | {"scratch"} or "@" in image or "$" in image:
        return
    if image.rpartition("/")[2].partition(":")[2] in {"", "latest"}:
        told = f"{image} is another image every day; write a version, best with its digest"
        yield _finding("error", "unpinned", line, told)


def _add(line: int, value: str) -> Iterator[dict[str, Any]]:
    if re.search(r"https?://|git@", value):
        if "--checksum" not in value:
            yield _finding("error", "add", line, "ADD of an address checks nothing; give --checksum=sha256:…")
    elif not re.search(r"\.(?:tar|t?gz|bz2|xz)\b", value):
        yield _finding("warning", "add", line, "ADD may unpack what it copies; write COPY")


def _run(line: int, value: str) -> Iterator[dict[str, Any]]:
    cached = "--mount=type=cache" in value
    if re.search(r"\bapt(?:-get)?\s+(?:-\S+\s+)*install\b", value):
        if not re.search(r"\bupdate\b", value):
            yield _finding(
                "error", "apt", line, "the list of packages may be old; write apt-get update && in the same RUN"
            )
        if "--no-install-recommends" not in value:
            yield _finding("warning", "apt", line, "write --no-install-recommends, or twice as much is installed")
        if not cached and "/var/lib/apt/lists" not in value:
            yield _finding("warning", "apt", line, "the lists stay in the layer; end with rm -rf /var/lib/apt/lists/*")
    if re.search(r"\bpip3?\s+install\b", value) and "--no-cache-dir" not in value and not cached:
        yield _finding("warning", "pip", line, "the cache stays in the layer; write --no-cache-dir")
    if re.search(r"\bapk\s+(?:-\S+\s+)*add\b", value) and "--no-cache" not in value and not cached:
        yield _finding("warning", "apk", line, "the index stays in the layer; write --no-cache")
    if re.search(r"\b(?:curl|wget)\b[^|&;]*\|\s*(?:sudo\s+)?(?:ba|z|da)?sh\b", value):
        yield _finding(
            "error", "pipe-to-shell", line, "what comes is run unseen; fetch it, check its sha256, then run it"
        )
    if re.search(r"\bsudo\b", value):
        yield _finding("warning", "sudo", line, "a build is root already; leave sudo out")
    if re.search(r"\bchmod\s+(?:-R\s+)?0?777\b", value):
        yield _finding("warning", "chmod", line, "777 lets everybody write; give the files to the user that needs them")


def _whole(given: list[Instruction]) -> Iterator[dict[str, Any]]:
    """What is said of the last stage, which is the image."""
    begin = max(at for at, each in enumerate(given) if each.name == "FROM")
    last = given[begin:]
    users = [each for each in last if each.name == "USER"]
    if not users:
        yield _finding("warning", "root", last[0].line, "the program runs as root; end with USER 10001:10001")
    elif users[-1].value.partition(":")[0] in {"root", "0"}:
        yield _finding("error", "root", users[-1].line, "the program runs as root; write USER 10001:10001")
    for name in ("CMD", "ENTRYPOINT"):
        for each in [each for each in last if each.name == name][:-1]:
            yield _finding("warning", "overridden", each.line, f"only the last {name} counts; delete this one")
