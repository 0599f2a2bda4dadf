"""task-manager: the team's tasks in a file of the workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import atomic
import board
import plan
import store
import workspace
from reply import ReplyError, ask

from openclaw_skill import SkillError

_CHANGEABLE = ("title", "description", "status", "priority", "assignee", "dependsOn", "tags", "due")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def create(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Adds a task."""
    with store.change(store.place_of(ctx)) as state:
        task = board.create(state.tasks, state.next, args, _now())
        state.next += 1
    return {"task": task}


def update(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Changes fields of a task."""
    fields = {name: args[name] for name in _CHANGEABLE if name in args}
    if not fields:
        raise SkillError(f"update: nothing is to be changed; give one of {', '.join(_CHANGEABLE)}")
    with store.change(store.place_of(ctx)) as state:
        task = board.update(state.tasks, args["id"], fields, _now())
    return {"task": task}


def assign(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Gives a task to somebody, or with null to nobody."""
    return update(ctx, {"id": args["id"], "assignee": args["assignee"]})


def list(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:  # noqa: A001 (the action's name)
    """Tasks by status, assignee, tag or readiness, in the order in which to do them."""
    tasks = store.read(store.place_of(ctx)).tasks
    found = [
        task
        for task in board.in_order(tasks.values())
        if args.get("status") in {None, task["status"]}
        and args.get("assignee") in {None, task["assignee"]}
        and (args.get("tag") is None or args["tag"] in task["tags"])
        and (not args.get("ready", False) or board.is_ready(tasks, task))
    ]
    limit = args.get("limit", 100)
    return {"tasks": found[:limit], "total": len(found)}


def summarize(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """The board as Markdown, also as a file where a path is given."""
    tasks = store.read(store.place_of(ctx)).tasks
    text = board.summary(tasks, datetime.now(UTC).date().isoformat())
    shown = None
    if "path" in args:
        place = workspace.locate(ctx, args["path"])
        if place.suffix != ".md" or place.is_dir():
            raise SkillError(f"path: {args['path']!r} must be a file that ends in .md")
        atomic.write_text(place, text)
        shown = workspace.show(ctx, place)
    return {"markdown": text, "path": shown}


async def decompose(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Asks the model to break a goal into tasks and adds them with their dependencies, all or none."""
    place = store.place_of(ctx)
    limit = args.get("maxTasks", 8)
    existing = (await asyncio.to_thread(store.read, place)).tasks
    open_tasks = [task for task in existing.values() if task["status"] not in board.CLOSED]
    goal = args["goal"]
    try:
        drafts: Sequence[dict[str, Any]] = await ask(
            ctx, lambda again: plan.prompt(goal, limit, open_tasks, again), lambda said: plan.read(said, limit)
        )
    except ReplyError as error:
        message = f"goal: the model's plan is not usable ({error}); put the goal more plainly and try again"
        raise SkillError(message) from None
    added = not args.get("dryRun", False)
    tasks = await asyncio.to_thread(_add, place, drafts, args.get("tags", [])) if added else drafts
    return {"tasks": tasks, "added": added}


def _add(place: Any, drafts: Sequence[dict[str, Any]], tags: Sequence[str]) -> Sequence[dict[str, Any]]:
    with store.change(place) as state:
        first, now = state.next, _now()
        for at, draft in enumerate(drafts):
            board.create(state.tasks, first + at, {**draft, "dependsOn": [], "tags": tags}, now)
        state.next += len(drafts)
        # Dependencies may point forward, so they are set when every task is there.
        return [
            board.update(
                state.tasks, f"T-{first + at}", {"dependsOn": [f"T-{first + n - 1}" for n in draft["dependsOn"]]}, now
            )
            for at, draft in enumerate(drafts)
        ]
