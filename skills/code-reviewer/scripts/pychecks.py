"""Checks of Python source over its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from findings import Finding

MAX_COMPLEXITY = 10
"""McCabe's own limit (A Complexity Measure, 1976)."""
MAX_FUNCTION_LINES = 60
MAX_ARGUMENTS = 7

Function = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.match_case)
_DANGEROUS = {"eval": "parse the value (ast.literal_eval, json.loads)", "exec": "call a function instead"}
_MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque"})


def check(file: str, source: str) -> list[Finding]:
    """Returns the findings of one file; a file that does not parse is one finding."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        text = f"it does not parse: {error.msg}"
        return [Finding(file, error.lineno or 1, "error", "syntax", text, "Correct the syntax.")]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Finding(file, 1, "error", "syntax", f"it does not parse: {error}", "Write plain Python text.")]
    found = [*_nodes(file, tree)]
    if not file.endswith("__init__.py"):
        found += _unused_imports(file, tree, source.splitlines())
    return found


def _nodes(file: str, tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            yield from _function(file, node)
        elif isinstance(node, ast.ExceptHandler):
            yield from _handler(file, node)
        elif isinstance(node, ast.Call):
            yield from _call(file, node)
        elif isinstance(node, ast.Compare):
            yield from _compare(file, node)
        elif isinstance(node, ast.Attribute) and _opens(node.value):
            text = "the opened file is left to the garbage collector"
            yield Finding(file, node.lineno, "info", "open-without-with", text, "Use with open(...) or Path.read_text.")
        elif isinstance(node, ast.Assert) and isinstance(node.test, ast.Tuple) and node.test.elts:
            text = "this assert is always true: it tests a tuple"
            yield Finding(file, node.lineno, "error", "assert-tuple", text, "Remove the brackets.")


def _function(file: str, node: Function) -> Iterator[Finding]:
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > MAX_FUNCTION_LINES:
        text = f"{node.name} has {length} lines (limit {MAX_FUNCTION_LINES})"
        yield Finding(file, node.lineno, "warning", "long-function", text, "Split it by what its parts do.")
    score = complexity(node)
    if score > MAX_COMPLEXITY:
        text = f"{node.name} has a cyclomatic complexity of {score} (limit {MAX_COMPLEXITY})"
        yield Finding(file, node.lineno, "warning", "complexity", text, "Move branches into functions or a table.")
    arguments = node.args
    names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    count = len([name for name in names if name.arg not in {"self", "cls"}])
    if count > MAX_ARGUMENTS:
        text = f"{node.name} takes {count} arguments (limit {MAX_ARGUMENTS})"
        yield Finding(file, node.lineno, "info", "many-arguments", text, "Group what belongs together in one object.")
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [*zip(reversed(positional), reversed(arguments.defaults), strict=False)]
    for argument, default in [*defaults, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        if default is not None and _is_mutable(default):
            text = f"the default of {argument.arg} in {node.name} is one object shared by all calls"
            yield Finding(
                file, default.lineno, "error", "mutable-default", text, "Use None and make the object inside."
            )


def _is_mutable(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _MUTABLE_CALLS
    return isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def complexity(function: Function) -> int:
    """Returns McCabe's number: 1 plus the branches; nested functions count on their own."""
    score = 1
    waiting: list[ast.AST] = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
            continue
        score += isinstance(node, _BRANCHES)
        if isinstance(node, ast.BoolOp):
            score += len(node.values) - 1
        if isinstance(node, ast.comprehension):
            score += len(node.ifs)
        waiting += ast.iter_child_nodes(node)
    return score


def _handler(file: str, node: ast.ExceptHandler) -> Iterator[Finding]:
    broad = isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
    silent = all(isinstance(item, ast.Pass) or _is_ellipsis(item) for item in node.body)
    if node.type is None:
        text = "a bare except also catches KeyboardInterrupt and SystemExit"
        yield Finding(file, node.lineno, "error", "bare-except", text, "Name the exceptions you can handle.")
    elif broad and silent:
        text = "every exception is caught and dropped here"
        yield Finding(
            file, node.lineno, "error", "swallowed-exception", text, "Name the exception, or log and re-raise."
        )


def _is_ellipsis(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


def _call(file: str, node: ast.Call) -> Iterator[Finding]:
    name = ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""
    if name in _DANGEROUS:
        text = f"{name}() runs whatever text it is given"
        yield Finding(file, node.lineno, "error", f"{name}-used", text, f"Instead, {_DANGEROUS[name]}.")
    if name == "os.system" or any(k.arg == "shell" and _is_true(k.value) for k in node.keywords):
        yield Finding(
            file, node.lineno, "warning", "shell-command", "a shell interprets this command and all that is in it",
            "Pass a list of arguments without shell=True.",
        )  # fmt: skip


def _opens(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _compare(file: str, node: ast.Compare) -> Iterator[Finding]:
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(operator, ast.Eq | ast.NotEq) and isinstance(right, ast.Constant) and right.value is None:
            yield Finding(file, node.lineno, "info", "none-compared", "None is compared with ==", "Use is None.")
        literal = isinstance(right, ast.Constant) and isinstance(right.value, str | int | bytes)
        if isinstance(operator, ast.Is | ast.IsNot) and literal and not isinstance(right.value, bool):
            yield Finding(file, node.lineno, "error", "is-literal", "is compares identity with a literal", "Use ==.")


def _unused_imports(file: str, tree: ast.Module, lines: list[str]) -> Iterator[Finding]:
    used = _names(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if any("noqa" in line for line in lines[node.lineno - 1 : node.end_lineno]):
            continue
        for alias in node.names:
            bound = alias.asname or alias.name.split(".")[0]
            if alias.name == "*":
                text = f"everything of {node.module if isinstance(node, ast.ImportFrom) else ''} is imported"
                yield Finding(file, node.lineno, "warning", "star-import", text, "Name what you use.")
            elif bound not in used and alias.asname != alias.name:
                text = f"{bound} is imported but not used"
                yield Finding(file, node.lineno, "warning", "unused-import", text, "Remove the import.")


def _names(tree: ast.Module) -> set[str]:
    """Every name the file reads, those in __all__ and in annotations written as text included."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isprintable():
            try:
                inner = ast.parse(node.value, mode="eval")
            except (SyntaxError, ValueError):
                continue
            names |= {part.id for part in ast.walk(inner) if isinstance(part, ast.Name)}
    return names
