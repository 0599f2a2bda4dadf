"""What is to be tested: a module's import name and its public functions, read without importing it."""

from __future__ import annotations

import ast
import doctest
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from openclaw_skill import SkillError


@dataclass(frozen=True)
class Example:
    """An expression of a docstring and what it must give, both as Python source."""

    source: str
    want: str


@dataclass(frozen=True)
class Function:
    """A public function; `parameters` are the names as `inspect.signature` gives them."""

    name: str
    signature: str
    parameters: tuple[str, ...]
    is_async: bool
    doc: str
    line: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Target:
    """A module: `name` as it is imported with `import_root` (relative to the workspace) on the path."""

    name: str
    import_root: str
    source: str
    functions: tuple[Function, ...]

    @property
    def test_path(self) -> str:
        """Where its tests go: tests/test_<module>.py beside the import root."""
        parts = self.name.split(".")
        stem = parts[-1] if parts[-1] != "__init__" else parts[-2]
        base = PurePosixPath(self.import_root)
        folder = base.parent if base.name == "src" else base
        return (folder / "tests" / f"test_{stem}.py").as_posix()


def describe(root: Path, place: Path, source: str) -> Target:
    """Returns the target in a file. Raises SkillError if it does not parse or cannot be imported by name."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise SkillError(f"module: {place.name} does not parse ({error}); correct it first") from None
    if place.suffix != ".py" or not place.stem.isidentifier():
        raise SkillError(f"module: {place.name!r} cannot be imported; give a .py file whose name is an identifier")
    parts = [] if place.stem == "__init__" else [place.stem]
    folder = place.parent
    while folder != root and (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    functions = tuple(
        _function(node)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    )
    return Target(".".join(parts), folder.relative_to(root).as_posix(), source, functions)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    arguments = node.args
    names = [
        *(argument.arg for argument in [*arguments.posonlyargs, *arguments.args]),
        *([arguments.vararg.arg] if arguments.vararg else []),
        *(argument.arg for argument in arguments.kwonlyargs),
        *([arguments.kwarg.arg] if arguments.kwarg else []),
    ]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    doc = ast.get_docstring(node) or ""
    return Function(
        name=node.name,
        signature=f"{node.name}({ast.unparse(arguments)}){returns}",
        parameters=tuple(names),
        is_async=isinstance(node, ast.AsyncFunctionDef),
        doc=doc,
        line=node.lineno,
        examples=tuple(_examples(doc)),
    )


def _examples(doc: str) -> list[Example]:
    """The docstring's examples that are one expression with a literal result; the rest cannot be compared."""
    try:
        parsed = doctest.DocTestParser().get_examples(doc)
    except ValueError:
        return []
    return [
        Example(example.source.strip(), example.want.strip())
        for example in parsed
        if not example.exc_msg and _parses(example.source, "eval") and _is_literal(example.want)
    ]


def _parses(text: str, mode: str) -> bool:
    try:
        compile(text.strip(), "<example>", mode)
    except (SyntaxError, ValueError):
        return False
    return True


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return False
    return True


def as_json(function: Function) -> dict[str, Any]:
    """Returns what `inspect` says of a function."""
    return {
        "name": function.name,
        "signature": function.signature,
        "line": function.line,
        "async": function.is_async,
        "doc": function.doc.split("\n\n", 1)[0],
    }
