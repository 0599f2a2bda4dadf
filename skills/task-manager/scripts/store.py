"""The tasks' file: one writer at a time, and never half written."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import atomic
import workspace
from board import PRIORITIES, STATUSES, Tasks

from openclaw_skill import SkillError

DEFAULT = "tasks.json"
_TEXTS = ("id", "title", "description", "createdAt", "updatedAt")


@dataclass
class State:
    """What the file holds: the number the next task gets, and the tasks by id."""

    next: int = 1
    tasks: Tasks = field(default_factory=dict)


def place_of(ctx: Any) -> Path:
    """Returns where the tasks are: config.file, or tasks.json."""
    place = workspace.locate(ctx, str(ctx.config.get("file", DEFAULT)), "config.file")
    if place.suffix != ".json":
        raise SkillError(f"config.file: {place.name!r} must end in .json")
    return place


def read(place: Path) -> State:
    """Returns what is stored; a file that is not there holds no tasks."""
    if not place.exists():
        return State()
    try:
        value = json.loads(place.read_text(encoding="utf-8"))
        state = State(value["next"], {task["id"]: task for task in value["tasks"]})
        sound = isinstance(state.next, int) and all(_is_sound(task, state.tasks) for task in state.tasks.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise SkillError(f"{place.name}: it is not a task file of this skill; restore it or set config.file")
    return state


def _is_sound(task: dict[str, Any], tasks: Tasks) -> bool:
    return (
        all(isinstance(task[key], str) for key in _TEXTS)
        and task["id"].removeprefix("T-").isdigit()
        and task["status"] in STATUSES
        and task["priority"] in PRIORITIES
        and all(task[key] is None or isinstance(task[key], str) for key in ("assignee", "due"))
        and all(other in tasks for other in task["dependsOn"])
        and isinstance(task["tags"], list)
    )


@contextmanager
def change(place: Path) -> Iterator[State]:
    """Reads, lets the caller change, and writes; whoever comes meanwhile waits. Nothing is written after an error."""
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = place.with_name(f".{place.name}.lock")
    # The lock is a file of its own: the tasks' file is replaced, and a lock on it would be lost with it.
    with lock.open("a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        state = read(place)
        yield state
        tasks = sorted(state.tasks.values(), key=lambda task: int(task["id"].removeprefix("T-")))
        text = json.dumps({"next": state.next, "tasks": tasks}, indent=2, ensure_ascii=False)
        atomic.write_text(place, text + "\n")
