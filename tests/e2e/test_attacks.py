"""Skills that try to use up what they run on, side by side in one agent: each ends its own pod and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.demo import stand_in, steps
from tests.demo.chat import Gateway
from tests.demo.kube import Kube

AGENT = "besieged"
ATTACKS = ("forks", "memory", "files")
WARM = len(ATTACKS) + 1
SOURCE = Path(__file__).with_name("bombs.py").read_text()
POOLS = "openclaw.io/pool"


@pytest.fixture
def gateway(kube: Kube) -> Iterator[Gateway]:
    """An agent that does what a message names, with no model to choose it."""
    names = ("calm", *ATTACKS)
    skill = {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": "bombs"},
        "spec": {
            "version": "1.0.0",
            "source": {"inline": {"files": {"scripts/main.py": SOURCE}}},
            "actions": [{"name": name, "description": name, "timeoutSeconds": 60} for name in names],
            "permissions": ["process:execute"],
            "triggers": [{"type": "command", "pattern": name, "action": name} for name in names],
            "sandbox": {"warm": WARM},
        },
    }
    agent = {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": AGENT},
        "spec": {
            "model": {"provider": "local", "name": "stand-in", "baseURL": stand_in.BASE_URL},
            "workspace": {"size": "64Mi", "reclaimPolicy": "Delete"},
            "skills": [{"name": "bombs"}],
            "execution": {"maxConcurrent": WARM},
            "gateway": {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
        },
    }
    kube.apply(skill, agent)
    kube.wait("condition=Ready", f"agent/{AGENT}", "skill/bombs", seconds=180)
    token = kube.secret(f"{AGENT}-gateway-token", "token")
    with kube.forward(f"service/{AGENT}-gateway", steps.GATEWAY_PORT) as url:
        yield Gateway(url, token, AGENT)
    kube.delete("agent", AGENT)
    kube.delete("skill", "bombs")


def pool_of(gateway: Gateway, kube: Kube) -> str:
    """The selector of the pods that the agent's calls run in."""
    "".join(gateway.ask("calm", session="first"))
    (call,) = gateway.skill_calls("first")
    assert call.outcome == "ok"
    return f"{POOLS}={call.sandbox.split('-')[1]}"


def neighbours(kube: Kube) -> dict[str, int]:
    """How often the containers of each pod that is no sandbox were restarted, by the pod's uid."""
    return {
        pod["metadata"]["uid"]: sum(each["restartCount"] for each in pod["status"].get("containerStatuses", []))
        for pod in kube.items("pods", f"!{POOLS}")
        if "deletionTimestamp" not in pod["metadata"]
    }


def test_an_attack_costs_its_own_pod_and_nothing_else(kube: Kube, gateway: Gateway) -> None:
    selector = pool_of(gateway, kube)
    steps.await_sandboxes(kube, WARM, seconds=120, selector=selector)
    before, restarts = steps.ready_sandboxes(kube, selector), neighbours(kube)

    def attack(name: str) -> tuple[str, str]:
        answer = "".join(gateway.ask(name, session=name))
        return answer, gateway.skill_calls(name)[0].outcome

    calm = 0
    with ThreadPoolExecutor(len(ATTACKS)) as attackers:
        attacks = {name: attackers.submit(attack, name) for name in ATTACKS}
        # Whoever talks to the agent meanwhile is served, from the pods that are left and those that come.
        while True:
            assert "calm" in "".join(gateway.ask("calm", session="calm"))
            calm += 1
            if not wait(attacks.values(), timeout=0).not_done:
                break
    ended = {name: each.result() for name, each in attacks.items()}
    assert {call.outcome for call in gateway.skill_calls("calm")} == {"ok"}
    assert {name: outcome for name, (_, outcome) in ended.items()} == {
        "forks": "skill_crashed",
        "memory": "skill_crashed",
        "files": "skill_error",
    }, ended
    stopped = re.search(r"ENOSPC after (\d+) MiB", ended["files"][0])
    assert stopped is not None, ended["files"]
    assert int(stopped[1]) <= 256

    # Nothing is left of those pods, and as many wait as before.
    for name in before:
        if name not in steps.ready_sandboxes(kube, selector):
            kube.delete_wait("pod", name)
    steps.await_sandboxes(kube, WARM, seconds=120, selector=selector)
    assert len(before - steps.ready_sandboxes(kube, selector)) >= min(WARM, len(ATTACKS) + calm)
    after = neighbours(kube)
    assert {uid: after.get(uid, count) for uid, count in restarts.items()} == restarts
    (own,) = kube.items("pods", f"openclaw.io/agent={AGENT},app.kubernetes.io/name=gateway")
    assert after[own["metadata"]["uid"]] == restarts[own["metadata"]["uid"]] == 0
