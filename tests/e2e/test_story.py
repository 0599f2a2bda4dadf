"""The main job: three kinds applied, an agent asked, its skill run in a sandbox pod, the work done and remembered."""

from __future__ import annotations

import uuid

from tests.cluster.processes import poll
from tests.demo import steps, workspace
from tests.demo.chat import Gateway
from tests.demo.kube import Kube


def test_work_is_done_in_a_sandbox_pod_and_remembered(kube: Kube, coordinator: Gateway) -> None:
    workspace.leave_work(kube)
    commits, warm = workspace.commits(kube), steps.ready_sandboxes(kube)
    run = uuid.uuid4().hex[:8]

    pieces = list(coordinator.ask(steps.COMMIT_PLEASE, session=f"work-{run}"))

    assert len(pieces) > 1, "the answer was not streamed"
    assert workspace.commits(kube) == commits + 1
    assert not workspace.git(kube, "status", "--short")
    subject = workspace.git(kube, "log", "-1", "--format=%s").strip()
    assert "test_discount" in subject or "prices" in subject
    assert subject in "".join(pieces)
    assert workspace.git(kube, "log", "-1", "--format=%an").strip() == "code-expert"

    calls = coordinator.skill_calls(f"work-{run}")
    assert [(call.skill, call.action, call.outcome) for call in calls] == [("git-ai-helper", "smartCommit", "ok")]
    used = calls[0].sandbox
    assert used in warm, "the skill ran in a pod that was waiting for it"

    # One call, then the pod is gone and another one waits in its place.
    kube.wait("delete", f"pod/{used}", seconds=60)
    steps.await_sandboxes(kube, len(warm), seconds=60)
    assert used not in steps.ready_sandboxes(kube)

    answer = "".join(coordinator.ask(steps.WHAT_LAST, session=f"recall-{run}"))
    assert subject in answer


def test_a_skill_asks_and_the_next_message_goes_on_with_its_call(kube: Kube, coordinator: Gateway) -> None:
    workspace.leave_work(kube)
    steps.await_sandboxes(kube, 1, seconds=60)
    commits, warm, session = workspace.commits(kube), steps.ready_sandboxes(kube), f"ask-{uuid.uuid4().hex[:8]}"

    question = "".join(coordinator.ask("Please commit the work, and let me choose the files.", session=session))

    assert "Which of these files shall be committed?" in question
    # One pod waits with the call for its user, and nothing is done yet.
    assert poll(lambda: len(warm - steps.ready_sandboxes(kube)) == 1, seconds=60)
    (asking,) = warm - steps.ready_sandboxes(kube)
    assert workspace.commits(kube) == commits

    answer = "".join(coordinator.ask("1", session=session))

    assert workspace.git(kube, "log", "-1", "--format=%s").strip() in answer
    assert workspace.commits(kube) == commits + 1
    assert len(workspace.git(kube, "show", "--name-only", "--format=").split()) == 1
    calls = coordinator.skill_calls(session)
    assert [(call.action, call.outcome, call.sandbox) for call in calls] == [("smartCommit", "ok", asking)]
    kube.wait("delete", f"pod/{asking}", seconds=60)


def test_the_commit_is_in_the_teams_memory(kube: Kube, coordinator: Gateway) -> None:
    workspace.leave_work(kube)
    list(coordinator.ask(steps.COMMIT_PLEASE))
    commit = workspace.git(kube, "rev-parse", "HEAD").strip()
    found = coordinator.get("/api/v1/memory?scope=team&limit=20&q=git%20commit")
    assert any(commit[:7] in str(record) for record in found), found


def test_a_second_commit_without_work_says_so(kube: Kube, coordinator: Gateway) -> None:
    workspace.leave_work(kube)
    list(coordinator.ask(steps.COMMIT_PLEASE))
    commits = workspace.commits(kube)
    answer = "".join(coordinator.ask(steps.COMMIT_PLEASE))
    assert workspace.commits(kube) == commits
    assert "nothing" in answer.lower()
