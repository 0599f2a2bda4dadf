"""quality-checker: is this good enough to be handed over?"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import columns
import prose
import rubric
import workspace
from finding import Finding
from reply import ReplyError, ask

from openclaw_skill import SkillError

MAX_FINDINGS = 500
MAX_BYTES = 32 * 1024 * 1024


def checkText(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Checks a text against stated rules."""
    if args.get("minWords", 0) > args.get("maxWords", 10**9):
        raise SkillError(f"minWords: {args['minWords']} is more than maxWords, {args['maxWords']}")
    return _told(prose.check(_text(ctx, args), args))


def checkRecords(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Checks the records of a file against what each column must be."""
    place = workspace.locate_file(ctx, args["path"])
    rules = columns.rules_of(args["columns"])
    records = columns.read(workspace.read_text(ctx, place, MAX_BYTES), place.suffix, args["path"])
    return _told(columns.check(records, rules, others=args.get("allowOthers", True), least=args.get("minRecords", 1)))


async def judge(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Has a model score a text by criteria, each score with a quote as proof."""
    text = await asyncio.to_thread(_text, ctx, args)
    criteria = {each["name"]: each["question"] for each in args["criteria"]}
    if len(criteria) < len(args["criteria"]):
        raise SkillError("criteria: a name is given twice; name each once")
    try:
        scores = await ask(
            ctx, lambda again: rubric.prompt(text, criteria, again), lambda said: rubric.read(said, criteria, text)
        )
    except ReplyError as error:
        message = f"criteria: the model's judgement is not usable ({error}); put them more plainly"
        raise SkillError(message) from None
    return {"passed": all(each["score"] >= args.get("atLeast", 4) for each in scores), "scores": scores}


def _text(ctx: Any, args: dict[str, Any]) -> str:
    if ("text" in args) == ("path" in args):
        raise SkillError("text: give exactly one of text and path")
    if "text" in args:
        return str(args["text"])
    return workspace.read_text(ctx, workspace.locate_file(ctx, args["path"]))


def _told(found: list[Finding]) -> dict[str, Any]:
    counts = Counter(each.rule for each in found)
    return {
        "passed": not any(each.severity == "error" for each in found),
        "findings": [each.shown() for each in found[:MAX_FINDINGS]],
        "counts": dict(counts),
    }
