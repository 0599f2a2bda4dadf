"""Tasks and their rules. Pure: every function returns what is to be stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from openclaw_skill import SkillError

STATUSES = ("todo", "in_progress", "blocked", "done", "cancelled")
PRIORITIES = ("high", "medium", "low")
CLOSED = frozenset({"done", "cancelled"})
_TITLES = {
    "todo": "To do",
    "in_progress": "In progress",
    "blocked": "Blocked",
    "done": "Done",
    "cancelled": "Cancelled",
}

Task = dict[str, Any]
Tasks = dict[str, Task]


def create(tasks: Tasks, number: int, fields: Mapping[str, Any], now: str) -> Task:
    """Adds a task to `tasks` under T-<number> and returns it. Raises SkillError for unknown dependencies."""
    task: Task = {
        "id": f"T-{number}",
        "title": _title(fields["title"]),
        "description": fields.get("description", ""),
        "status": fields.get("status", "todo"),
        "priority": fields.get("priority", "medium"),
        "assignee": fields.get("assignee"),
        "dependsOn": _unique(fields.get("dependsOn", [])),
        "tags": sorted(set(fields.get("tags", []))),
        "due": fields.get("due"),
        "createdAt": now,
        "updatedAt": now,
    }
    tasks[task["id"]] = task
    _check(tasks, task)
    return task


def update(tasks: Tasks, identity: str, fields: Mapping[str, Any], now: str) -> Task:
    """Changes the given fields of a task and returns it; null takes assignee and due away."""
    task = {**get(tasks, identity), **fields, "updatedAt": now}
    task["title"] = _title(task["title"])
    task["dependsOn"] = _unique(task["dependsOn"])
    task["tags"] = sorted(set(task["tags"]))
    tasks[identity] = task
    _check(tasks, task)
    return task


def get(tasks: Tasks, identity: str) -> Task:
    """Returns a task, or raises SkillError."""
    if identity not in tasks:
        raise SkillError(f"id: there is no task {identity!r}; list the tasks to see their ids")
    return tasks[identity]


def _title(text: str) -> str:
    title = " ".join(text.split())
    if not title:
        raise SkillError("title: it is empty; say in a few words what is to be done")
    return title


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _check(tasks: Tasks, task: Task) -> None:
    for other in task["dependsOn"]:
        if other not in tasks:
            raise SkillError(f"dependsOn: there is no task {other!r}; create it first")
    if cycle := find_cycle({identity: item["dependsOn"] for identity, item in tasks.items()}, task["id"]):
        raise SkillError(f"dependsOn: the tasks would wait for each other ({' -> '.join(cycle)}); leave one out")
    waiting = [other for other in task["dependsOn"] if tasks[other]["status"] not in CLOSED]
    if task["status"] in {"in_progress", "done"} and waiting:
        raise SkillError(f"status: {task['id']} waits for {', '.join(waiting)}; finish or remove these first")


def find_cycle(edges: Mapping[str, Iterable[str]], start: str) -> list[str] | None:
    """Returns a cycle through `start` as the ids along it, first and last the same, or None."""
    came_from: dict[str, str] = {}
    waiting = [start]
    while waiting:
        here = waiting.pop()
        for following in edges.get(here, ()):
            if following == start:
                path = [start]
                while here != start:
                    path.append(here)
                    here = came_from[here]
                return [start, *reversed(path[1:]), start]
            if following not in came_from:
                came_from[following] = here
                waiting.append(following)
    return None


def is_ready(tasks: Tasks, task: Task) -> bool:
    """Tells whether a task can be begun: it is to do, and all it depends on is closed."""
    return task["status"] == "todo" and all(tasks[other]["status"] in CLOSED for other in task["dependsOn"])


def in_order(tasks: Iterable[Task]) -> list[Task]:
    """Returns tasks by priority, due date and number."""
    return sorted(tasks, key=lambda task: (PRIORITIES.index(task["priority"]), task["due"] or "9999", number_of(task)))


def number_of(task: Task) -> int:
    """Returns the number in a task's id."""
    return int(task["id"].removeprefix("T-"))


def summary(tasks: Tasks, today: str) -> str:
    """Returns the board as Markdown: a section per status, the tasks in their order."""
    counts = {status: sum(task["status"] == status for task in tasks.values()) for status in STATUSES}
    open_count = sum(counts[status] for status in STATUSES if status not in CLOSED)
    lines = ["# Task board", "", f"{open_count} open, {counts['done']} done, {counts['cancelled']} cancelled."]
    for status in STATUSES:
        section = in_order(task for task in tasks.values() if task["status"] == status)
        if section:
            lines += ["", f"## {_TITLES[status]} ({len(section)})", ""]
            lines += [_line(tasks, task, today) for task in section]
    return "\n".join(lines) + "\n"


def _line(tasks: Tasks, task: Task, today: str) -> str:
    box = "x" if task["status"] == "done" else " "
    facts = [task["priority"]] if task["priority"] != "medium" else []
    facts += [f"@{task['assignee']}"] if task["assignee"] else []
    if task["due"]:
        late = task["due"] < today and task["status"] not in CLOSED
        facts.append(f"due {task['due']}" + (" (late)" if late else ""))
    waiting = [other for other in task["dependsOn"] if tasks[other]["status"] not in CLOSED]
    facts += [f"waits for {', '.join(waiting)}"] if waiting and task["status"] not in CLOSED else []
    facts += [" ".join(f"#{tag}" for tag in task["tags"])] if task["tags"] else []
    return f"- [{box}] **{task['id']}** {task['title']}" + (f" ({'; '.join(facts)})" if facts else "")
