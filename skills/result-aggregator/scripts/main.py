"""result-aggregator: one result from those of several agents or calls."""

from __future__ import annotations

from typing import Any

import answer
import ballot
import records
import sources
from reply import ReplyError, ask

from openclaw_skill import SkillError


def merge(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Joins records of several sources by a key and shows where they disagree."""
    given = [(source["name"], sources.items_of(ctx, source)) for source in args["sources"]]
    names = [name for name, _ in given]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise SkillError(f"sources: {', '.join(sorted(repeated))} is given twice; name each source once")
    if unknown := [name for name in args.get("prefer", ()) if name not in names]:
        raise SkillError(f"prefer: {unknown[0]!r} is none of the sources ({', '.join(names)})")
    return records.merge(given, tuple(args["key"]), tuple(args.get("prefer", ())), args.get("minSources", 1))


def vote(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Counts short answers to one question."""
    return ballot.count(args["answers"])


async def combine(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Writes one text from several, with the sources of each claim and what contradicts what."""
    texts = {each["source"]: each["text"] for each in args["texts"]}
    if len(texts) < len(args["texts"]):
        raise SkillError("texts: a source is given twice; name each source once")
    question = args["question"]
    try:
        return await ask(
            ctx, lambda again: answer.prompt(question, texts, again), lambda said: answer.read(said, texts.keys())
        )
    except ReplyError as error:
        raise SkillError(f"texts: the model's answer is not usable ({error}); try again with fewer texts") from None
