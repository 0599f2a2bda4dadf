"""Dangerous calls: Python by its syntax tree, JavaScript and shell by pattern."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from issue import Issue

_SHELL = ("high", "a shell interprets this command", "Use subprocess.run with a list of arguments.")
_PICKLE = ("high", "unpickling runs code of whoever wrote the data", "Use JSON for data from elsewhere.")
_CALLS: dict[str, tuple[str, str, str]] = {
    "eval": ("high", "eval runs whatever text it is given", "Parse the value (ast.literal_eval, json.loads)."),
    "exec": ("high", "exec runs whatever text it is given", "Call a function instead."),
    "os.system": _SHELL,
    "os.popen": _SHELL,
    "pickle.load": _PICKLE,
    "pickle.loads": _PICKLE,
    "tempfile.mktemp": ("medium", "somebody else can make the file first", "Use tempfile.mkstemp."),
    "hashlib.md5": ("medium", "MD5 is broken for signatures", "Use sha256, or usedforsecurity=False."),
    "hashlib.sha1": ("medium", "SHA-1 is broken for signatures", "Use sha256, or usedforsecurity=False."),
    "ssl._create_unverified_context": ("high", "certificates are not checked", "Use ssl.create_default_context()."),
    "yaml.unsafe_load": ("high", "YAML tags can make any object", "Use yaml.safe_load."),
}
_TRUST = "Trust the right authority instead."
_PATTERNS: dict[str, tuple[tuple[str, str, str, str, str], ...]] = {
    "javascript": (
        ("js-eval", "high", r"\beval\s*\(|new\s+Function\s*\(", "text is run as code", "Parse it (JSON.parse)."),
        ("js-exec", "high", r"\bexecSync\s*\(|\bchild_process\b.*\bexec\s*\(", _SHELL[1], "Use execFile with a list."),
        (
            "js-html",
            "medium",
            r"\.(?:inner|outer)HTML\s*=(?!=)|document\.write\(",
            "text is markup",
            "Use textContent.",
        ),
        ("js-tls", "high", r"rejectUnauthorized\s*:\s*false", "certificates are not checked", _TRUST),
    ),
    "shell": (
        (
            "sh-pipe",
            "high",
            r"\b(?:curl|wget)\b[^|#]*\|\s*(?:sudo\s+)?(?:ba|da|z)?sh\b",
            "what is downloaded runs unseen",
            "Download, check a hash, then run.",
        ),
        (
            "sh-tls",
            "medium",
            r"\bcurl\b[^|#]*\s(?:-k|--insecure)\b|\bwget\b[^|#]*--no-check-certificate",
            "certificates are not checked",
            _TRUST,
        ),
        ("sh-eval", "medium", r"^\s*eval\s+[\"']?\$", "a variable is run as code", "Use an array of arguments."),
        ("sh-mode", "medium", r"\bchmod\s+(?:-\w+\s+)*0?777\b", "everybody may change it", "Give only what is needed."),
    ),
}
_COMPILED = {
    language: [(rule, severity, re.compile(pattern), what, fix) for rule, severity, pattern, what, fix in entries]
    for language, entries in _PATTERNS.items()
}
_LANGUAGES = {".sh": "shell", ".bash": "shell"}
_LANGUAGES |= dict.fromkeys((".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx"), "javascript")


def check(file: str, suffix: str, text: str) -> Iterator[Issue]:
    """Yields the dangerous calls of a source file; a language that is not known has none."""
    if suffix == ".py":
        yield from _python(file, text)
    for rule, severity, pattern, what, fix in _COMPILED.get(_LANGUAGES.get(suffix, ""), ()):
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line) and not line.lstrip().startswith(("//", "#", "*")):
                yield Issue(rule, severity, file, number, what, fix, line.strip())


def _python(file: str, text: str) -> Iterator[Issue]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    origins = _origins(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield from _call(file, node, _name(node.func, origins))


def _origins(tree: ast.Module) -> dict[str, str]:
    """What imported names stand for: {"unpack": "pickle.loads", "sp": "subprocess"}."""
    origins: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            origins |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            origins |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return origins


def _name(node: ast.expr, origins: dict[str, str]) -> str:
    first, dot, rest = ast.unparse(node).partition(".")
    return origins.get(first, first) + dot + rest


def _call(file: str, node: ast.Call, name: str) -> Iterator[Issue]:
    values = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    evidence = ast.unparse(node)[:200]

    def issue(rule: str, severity: str, message: str, fix: str) -> Issue:
        return Issue(rule, severity, file, node.lineno, message, fix, evidence)

    if name in _CALLS and not (name.startswith("hashlib.") and _is(values.get("usedforsecurity"), False)):
        yield issue(f"py-{name.rsplit('.', 1)[-1].strip('_').replace('_', '-')}", *_CALLS[name])
    if _is(values.get("shell"), True) and name.startswith("subprocess."):
        literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
        yield issue("py-shell-true", "low" if literal else "high", _SHELL[1], "Pass a list without shell=True.")
    if _is(values.get("verify"), False):
        yield issue("py-no-verify", "high", "certificates are not checked", _TRUST)
    if name == "yaml.load" and not any("Safe" in ast.unparse(value) for value in [*node.args[1:], *values.values()]):
        yield issue("py-yaml-load", "high", "YAML tags can make any object", "Use yaml.safe_load.")
    if name.endswith(".extractall") and "filter" not in values:
        fix = 'For tar files pass filter="data"; check the names of others.'
        yield issue("py-extractall", "medium", "an archive can write outside the folder", fix)
    if name.endswith(".execute") and node.args and _is_built(node.args[0]):
        text = "a statement is put together from text: SQL can be injected"
        yield issue("py-sql", "high", text, "Pass the values as parameters.")


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_built(node: ast.expr) -> bool:
    """An f-string with values, a text joined to or formatted with something that is no text, or .format()."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        sides = [isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (node.left, node.right)]
        return any(sides) != all(sides) or _is_built(node.left)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"
