"""test-generator: unit tests for a Python module of the workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import atomic
import compose
import running
import target
import workspace
from reply import ReplyError, ask

from openclaw_skill import ContextError, SkillError


def inspect(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Names the public functions of a module, without importing it."""
    subject = _read(ctx, args["module"])
    return {
        "module": subject.name,
        "testFile": subject.test_path,
        "functions": [target.as_json(function) for function in subject.functions],
    }


async def generate(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Writes tests for a module's public functions and runs them."""
    subject = await asyncio.to_thread(_read, ctx, args["module"])
    functions = _chosen(subject, args.get("functions"))
    place = workspace.locate(ctx, args.get("testFile", subject.test_path), "testFile")
    if place.suffix != ".py" or not place.name.startswith("test_"):
        raise SkillError(f"testFile: {place.name!r} is not found by test runners; call it test_<name>.py")
    if place.exists() and not args.get("overwrite", False):
        raise SkillError(f"testFile: {workspace.show(ctx, place)!r} exists; set overwrite to replace it")
    code, source, reason = await _compose(ctx, subject, functions, use_model=args.get("useModel", True))
    await asyncio.to_thread(atomic.write_text, place, code)
    await ctx.progress(0.7, f"tests written to {workspace.show(ctx, place)}")
    result = None
    if args.get("run", True):
        import_root = workspace.root(ctx) / subject.import_root
        timeout = args.get("timeoutSeconds", 60)
        result = await asyncio.to_thread(running.run, place, import_root, ctx.scratch, timeout)
    return {
        "module": subject.name,
        "testFile": workspace.show(ctx, place),
        "functions": [function.name for function in functions],
        "source": source,
        "reason": reason,
        "result": result,
    }


def _read(ctx: Any, module: str) -> target.Target:
    path = module if module.endswith(".py") else module.replace(".", "/") + ".py"
    place = workspace.locate_file(ctx, path, "module")
    return target.describe(workspace.root(ctx), place, workspace.read_text(ctx, place))


def _chosen(subject: target.Target, names: Sequence[str] | None) -> list[target.Function]:
    known = {function.name: function for function in subject.functions}
    if not known:
        raise SkillError(f"module: {subject.name} has no public functions at its top level; choose another module")
    for name in names or ():
        if name not in known:
            raise SkillError(f"functions: {subject.name} has no public function {name!r}; it has {', '.join(known)}")
    return [function for name, function in known.items() if not names or name in names]


async def _compose(
    ctx: Any, subject: target.Target, functions: list[target.Function], *, use_model: bool
) -> tuple[str, str, str | None]:
    """Returns the test file, who wrote it (model or skeleton) and why the model did not."""
    why = "useModel is false"
    if use_model:
        plain = running.has_pytest()
        try:
            text = await ask(
                ctx,
                lambda again: compose.prompt(subject, functions, again),
                lambda said: compose.from_reply(said, subject, plain_functions=plain),
            )
        except ReplyError as error:
            why = str(error)
            ctx.logger.info("the model's tests are not taken: %s", why)
        except ContextError as error:
            why = f"the model did not answer: {error}"
        else:
            return text, "model", None
    return compose.skeleton(subject, functions), "skeleton", why
