import json
import multiprocessing
import re
from pathlib import Path

import pytest

from openclaw_skill import SkillError
from tests.fakes.skill_context import FakeContext, load_skill


async def test_create_update_assign_list(call, ctx):
    first = (await call("create", title=" Write  docs ", tags=["b", "a", "b"], due="2026-03-31"))["task"]
    assert (first["id"], first["title"], first["status"], first["tags"]) == ("T-1", "Write docs", "todo", ["a", "b"])
    await call("create", title="Release", priority="high", dependsOn=["T-1", "T-1"])
    await call("create", title="Party", priority="low", assignee="kim")
    assert [task["id"] for task in (await call("list"))["tasks"]] == ["T-2", "T-1", "T-3"]
    assert [task["id"] for task in (await call("list", ready=True))["tasks"]] == ["T-1", "T-3"]
    assert [task["id"] for task in (await call("list", assignee="kim"))["tasks"]] == ["T-3"]
    assert [task["id"] for task in (await call("list", tag="a"))["tasks"]] == ["T-1"]
    assert (await call("assign", id="T-1", assignee="lee"))["task"]["assignee"] == "lee"
    assert (await call("assign", id="T-1", assignee=None))["task"]["assignee"] is None
    await call("update", id="T-1", status="done")
    assert [task["id"] for task in (await call("list", ready=True))["tasks"]] == ["T-2", "T-3"]
    assert (await call("list", status="done"))["total"] == 1
    stored = json.loads((ctx.workspace / "tasks.json").read_text())
    assert (stored["next"], [task["id"] for task in stored["tasks"]]) == (4, ["T-1", "T-2", "T-3"])


async def test_dependencies_cannot_form_a_circle_and_hold_tasks_back(call, ctx):
    for title in ("a", "b", "c"):
        await call("create", title=title)
    await call("update", id="T-2", dependsOn=["T-1"])
    await call("update", id="T-3", dependsOn=["T-2"])
    before = (ctx.workspace / "tasks.json").read_text()
    with pytest.raises(SkillError, match=r"wait for each other \(T-1 -> T-3 -> T-2 -> T-1\)"):
        await call("update", id="T-1", dependsOn=["T-3"])
    with pytest.raises(SkillError, match=r"\(T-1 -> T-1\)"):
        await call("update", id="T-1", dependsOn=["T-1"])
    with pytest.raises(SkillError, match="no task 'T-9'"):
        await call("create", title="d", dependsOn=["T-9"])
    for status in ("in_progress", "done"):
        with pytest.raises(SkillError, match="T-2 waits for T-1"):
            await call("update", id="T-2", status=status)
    assert (ctx.workspace / "tasks.json").read_text() == before
    await call("update", id="T-1", status="cancelled")
    await call("update", id="T-2", status="done")


async def test_the_board(call, ctx, skill, monkeypatch):
    await call("create", title="Old", due="2020-01-01", priority="high", tags=["x"])
    await call("create", title="Next", dependsOn=["T-1"], assignee="kim")
    await call("create", title="Ready", status="done")
    got = await call("summarize", path="docs/board.md")
    assert got["markdown"] == (
        "# Task board\n\n2 open, 1 done, 0 cancelled.\n\n## To do (2)\n\n"
        "- [ ] **T-1** Old (high; due 2020-01-01 (late); #x)\n"
        "- [ ] **T-2** Next (@kim; waits for T-1)\n\n"
        "## Done (1)\n\n- [x] **T-3** Ready\n"
    )
    assert (ctx.workspace / "docs/board.md").read_text() == got["markdown"]
    with pytest.raises(SkillError, match=r"must be a file that ends in \.md"):
        await call("summarize", path="board.txt")


PLAN = {
    "tasks": [
        {"title": "Design", "description": "A page", "priority": "high", "dependsOn": []},
        {"title": "Ship", "priority": "urgent", "dependsOn": [3]},
        {"title": "Build", "dependsOn": [1]},
    ]
}


async def test_a_goal_becomes_tasks_with_dependencies(call, ctx):
    await call("create", title="Existing")
    ctx.llm.replies = ["```json\n" + json.dumps(PLAN) + "\n```"] * 2
    shown = await call("decompose", goal="Launch", dryRun=True)
    assert (shown["added"], (await call("list"))["total"]) == (False, 1)
    got = await call("decompose", goal="Launch", tags=["launch"])
    assert [(task["id"], task["title"], task["dependsOn"], task["priority"]) for task in got["tasks"]] == [
        ("T-2", "Design", [], "high"),
        ("T-3", "Ship", ["T-4"], "medium"),
        ("T-4", "Build", ["T-2"], "medium"),
    ]
    assert all(task["tags"] == ["launch"] for task in got["tasks"])
    assert '["Existing"]' in ctx.llm.prompts[0]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ("no idea", "holds no JSON"),
        ('{"tasks": []}', "no list of tasks"),
        (json.dumps({"tasks": [{"title": "x"}] * 4}), "4 tasks, at most 3"),
        ('[{"title": " "}]', "task 1 has no title"),
        ('[{"title": "a", "dependsOn": [2]}]', "task 1 depends on 2"),
        ('[{"title": "a", "dependsOn": [1]}]', "task 1 depends on 1"),
        ('[{"title": "a", "dependsOn": [2]}, {"title": "b", "dependsOn": [1]}]', "1 -> 2 -> 1 wait for each other"),
    ],
)
async def test_an_unusable_plan_is_asked_for_again_and_then_refused(call, ctx, reply, says):
    ctx.llm.replies = [reply, reply]
    with pytest.raises(SkillError, match=re.escape(says)):
        await call("decompose", goal="Launch", maxTasks=3)
    assert says in ctx.llm.prompts[1]
    assert not (ctx.workspace / "tasks.json").exists()
    ctx.llm.replies = [reply, json.dumps(PLAN)]
    assert len((await call("decompose", goal="Launch", maxTasks=3))["tasks"]) == 3


def _create_many(workspace, scratch, count):
    main = load_skill(Path(__file__).parent.parent)["main"]
    for _ in range(count):
        main.create(FakeContext(workspace=workspace, scratch=scratch), {"title": "x"})


def test_writers_in_other_processes_lose_nothing(ctx):
    processes = [
        multiprocessing.get_context("fork").Process(target=_create_many, args=(ctx.workspace, ctx.scratch, 15))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    stored = json.loads((ctx.workspace / "tasks.json").read_text())
    assert [task["id"] for task in stored["tasks"]] == [f"T-{number}" for number in range(1, 46)]
    assert stored["next"] == 46


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"next": 1}', '{"next": 2, "tasks": [{"id": "T-1"}]}', '{"next": "1", "tasks": []}']
)
async def test_a_foreign_file_is_never_overwritten(call, ctx, text):
    (ctx.workspace / "tasks.json").write_text(text)
    with pytest.raises(SkillError, match=r"tasks\.json: it is not a task file"):
        await call("create", title="x")
    assert (ctx.workspace / "tasks.json").read_text() == text


async def test_mistakes_are_named(call, ctx):
    with pytest.raises(SkillError, match="id: there is no task 'T-5'"):
        await call("update", id="T-5", status="done")
    with pytest.raises(SkillError, match="nothing is to be changed"):
        await call("update", id="T-5")
    with pytest.raises(SkillError, match="title: it is empty"):
        await call("create", title="  ")
    ctx.config["file"] = "../tasks.json"
    with pytest.raises(SkillError, match=r"config\.file"):
        await call("list")
    ctx.config["file"] = "plan/tasks.json"
    await call("create", title="x")
    assert (ctx.workspace / "plan/tasks.json").is_file()
