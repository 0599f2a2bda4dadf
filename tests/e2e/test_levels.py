"""Level restricted in a cluster: pods that stay with a session, and trusted that nobody grants himself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import poll
from tests.demo import steps
from tests.demo.kube import Kube

CLIENT = Path(__file__).with_name("lease_client.py")
SOURCE = """
import os

async def mark(ctx, input):
    before = sorted(os.listdir(os.environ["TMPDIR"]) + os.listdir("/dev/shm"))
    for folder in (os.environ["TMPDIR"], "/dev/shm"):
        with open(os.path.join(folder, "mark"), "w") as file:
            file.write("mark")
    return {"pid": os.getpid(), "marks": before.count("mark")}
"""


def skill(name: str, level: str) -> dict[str, Any]:
    return {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": name},
        "spec": {
            "version": "1.0.0",
            "source": {"inline": {"files": {"scripts/main.py": SOURCE}}},
            "actions": [{"name": "mark", "description": "Leaves a mark."}],
            "sandbox": {"level": level, "warm": 1},
        },
    }


@pytest.fixture
def agent(kube: Kube) -> Iterator[str]:
    """An Agent that allows every level, with a restricted Skill and one that asks for trusted."""
    made = {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": "levels"},
        "spec": {
            "model": {"provider": "openai-compatible", "name": "none", "baseURL": "http://127.0.0.1:1/v1"},
            "skills": [{"name": "marker"}, {"name": "insider"}],
            "execution": {"sandbox": {"level": "trusted"}},
        },
    }
    kube.apply(skill("marker", "restricted"), skill("insider", "trusted"), made)
    yield "levels"
    kube.delete("agent/levels", "skill/marker", "skill/insider")


def pods_ready(kube: Kube, names: set[str]) -> dict[str, bool]:
    """Of those pods that are there, whether each is ready."""
    ready = steps.ready_sandboxes(kube, "openclaw.io/pool")
    return {
        pod["metadata"]["name"]: pod["metadata"]["name"] in ready
        for pod in kube.items("pods", "openclaw.io/pool")
        if pod["metadata"]["name"] in names
    }


def test_a_session_keeps_its_pod_until_it_is_given_back(kube: Kube, agent: str) -> None:
    kube.wait("condition=Available", f"agent/{agent}", seconds=steps.READY_SECONDS)
    # The Skill that nobody marked is named with the value to set, and the agent has the other one alone.
    assert "SkillNotTrusted" in kube.why_not_ready(f"agent/{agent}")
    assert f"'{kube.namespace}/insider' to the chart value sandbox.trustedSkills" in kube.why_not_ready(
        f"agent/{agent}"
    )
    gateway = kube.items("pods", f"openclaw.io/agent={agent},app.kubernetes.io/name=gateway")[0]["metadata"]["name"]
    command = [*kube.command, "exec", "--stdin", gateway, "--", "python", "-c", CLIENT.read_text()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        first, second, other, third = json.loads(client.stdout.readline())
        assert first["pod"] == second["pod"] == third["pod"] != other["pod"]
        # A fresh process each time; nothing of a call is there in the next.
        assert len({first["pid"], second["pid"], third["pid"]}) == 3
        assert {call["marks"] for call in (first, second, third, other)} == {0}
        leased = {first["pod"], other["pod"]}
        # Both are leased and stay, and another one waits in their place.
        assert poll(lambda: pods_ready(kube, leased) == dict.fromkeys(leased, False), seconds=60)
        pool = first["pod"].split("-")[1]
        steps.await_sandboxes(kube, 1, seconds=60, selector=f"openclaw.io/pool={pool}")
        client.stdin.write("\n")
        client.stdin.close()
        assert client.wait(60) == 0
    for pod in leased:
        kube.delete_wait("pod", pod)
