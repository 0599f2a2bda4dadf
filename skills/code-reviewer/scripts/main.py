"""code-reviewer: static checks and a model's review of files or of a git diff."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import diffs
import findings
import gitrepo
import model
import pychecks
import textchecks
import workspace
from reply import ReplyError

from openclaw_skill import ContextError, SkillError

MAX_FILES = 200


@dataclass
class Material:
    """What is reviewed: the files' texts, the diff if there is one, and per file the lines that count (None: all)."""

    texts: dict[str, str] = field(default_factory=dict)
    diff: str | None = None
    scope: dict[str, set[int] | None] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


async def reviewFiles(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Reviews files, or the source files of folders."""
    material = await asyncio.to_thread(_from_files, ctx, args["paths"])
    return await _review(ctx, material, args)


async def reviewDiff(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Reviews what changed: the work tree or `head` against `base`; only added lines are remarked on."""
    material = await asyncio.to_thread(_from_diff, ctx, args)
    return await _review(ctx, material, args)


def _from_files(ctx: Any, paths: list[str]) -> Material:
    material = Material()
    for path in paths:
        place = workspace.locate(ctx, path, "paths")
        if not place.exists():
            raise SkillError(f"paths: {path!r} does not exist; name files or folders of the workspace")
        for file in workspace.walk(place):
            _take(ctx, material, workspace.show(ctx, file), None)
    return material


def _from_diff(ctx: Any, args: dict[str, Any]) -> Material:
    root = workspace.root(ctx)
    base = gitrepo.check_revision(args.get("base", "HEAD"), "base")
    command = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--unified=5", "--relative"]
    if args.get("staged", False):
        command += ["--cached", base]
    elif "head" in args:
        command.append(f"{base}...{gitrepo.check_revision(args['head'], 'head')}")
    else:
        command.append(base)
    paths = [workspace.show(ctx, workspace.locate(ctx, path, "paths")) for path in args.get("paths", [])]
    diff = gitrepo.git(root, *command, "--", *paths, field="base")
    material = Material(diff=diff)
    for name, lines in diffs.added_lines(diff).items():
        if lines:
            text = gitrepo.git(root, "show", f"{args['head']}:./{name}", field="head") if "head" in args else None
            _take(ctx, material, name, lines, text)
    return material


def _take(ctx: Any, material: Material, name: str, lines: set[int] | None, text: str | None = None) -> None:
    if name in material.texts:
        return
    if len(material.texts) == MAX_FILES:
        raise SkillError(f"paths: more than {MAX_FILES} files; review a part of them at a time")
    try:
        material.texts[name] = text if text is not None else workspace.read_text(ctx, workspace.locate_file(ctx, name))
    except SkillError as error:
        material.skipped.append(f"{name}: {error}")
    else:
        material.scope[name] = lines


async def _review(ctx: Any, material: Material, args: dict[str, Any]) -> dict[str, Any]:
    static = await asyncio.to_thread(_static, material)
    await ctx.progress(0.4, f"{len(material.texts)} files checked")
    known = findings.in_order(static)
    remarks: list[findings.Finding] = []
    verdict = "skipped"
    if args.get("useModel", True) and material.texts:
        remarks, verdict = await _ask_model(ctx, material, known)
    found = findings.in_order([*static, *remarks])
    return {
        "findings": found,
        "summary": findings.summary(found, len(material.texts)),
        "modelReview": verdict,
        "skipped": material.skipped,
    }


def _static(material: Material) -> list[findings.Finding]:
    found: list[findings.Finding] = []
    for name, text in material.texts.items():
        remarks = [
            *textchecks.check(name, text),
            *(pychecks.check(name, text) if name.endswith((".py", ".pyi")) else []),
        ]
        lines = material.scope[name]
        found += [remark for remark in remarks if lines is None or remark.line in lines]
    return found


async def _ask_model(ctx: Any, material: Material, known: list[dict[str, Any]]) -> tuple[list[findings.Finding], str]:
    """Returns the model's findings and how that went; a review never fails because the model does."""
    source = material.diff
    if source is None:
        source = "\n".join(model.numbered(name, text) for name, text in material.texts.items())
    cut = len(source) > model.MAX_MATERIAL
    sizes = {name: len(text.splitlines()) for name, text in material.texts.items()}
    try:
        answer = await ctx.llm.generate(model.prompt(source[: model.MAX_MATERIAL], known))
        remarks, dropped = model.read(answer, sizes)
    except (ReplyError, ContextError) as error:
        ctx.logger.warning("the model's review is left out: %s", error)
        return [], f"unusable: {error}"
    notes = [f"{dropped} findings dropped"] * bool(dropped)
    notes += [f"only the first {model.MAX_MATERIAL} characters were read"] * cut
    return remarks, "; ".join(["used", *notes])
