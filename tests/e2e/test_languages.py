"""Skills in bash, in Node.js and in an image of their own, called by their agent's gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.demo import stand_in
from tests.demo.kube import Kube

AGENT = "polyglot"
OWN_IMAGE = "openclaw.local/testkit:test"
"""Any image of the cluster that nobody made for the sandbox."""

CALL = """
import asyncio, json, os, sys
from pathlib import Path
from openclaw_runtime.config import load_config
from openclaw_runtime.gateway.skills import RuntimeSkills


class Nothing:
    async def log(self, *_): ...


async def main(name):
    config = load_config(Path("/etc/openclaw/config/config.yaml"))
    skills = RuntimeSkills(config, environ=os.environ, environment={}, data_dir=Path("/tmp"), workspace=None)
    await skills.start()
    await skills.load(config)
    skill = next(item for item in skills.installed() if item.name == name)
    result = await skills.call(skill, "greet", {"name": "Ada"}, session="e2e", context=Nothing())
    print(json.dumps(result.output))
    await skills.close()


asyncio.run(main(sys.argv[1]))
"""
SHELL = """[ -e /usr/local/bin/testkit ] && made=testkit || made=sandbox
case $1 in
  greet) openclaw-ctx json text="Hello, $(openclaw-ctx input name)" user:="$(id -u)" made="$made" ;;
esac
"""
NODE = """export async function greet(ctx, input) {
  return { text: `Hello, ${input.name}`, user: process.getuid(), made: process.release.name };
}
"""


def skill(runtime: str, file: str, text: str, permissions: list[str], **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": f"in-{runtime}"},
        "spec": {
            "version": "1.0.0",
            "runtime": runtime,
            "source": {"inline": {"files": {file: text}}},
            "actions": [{"name": "greet", "description": "greets", "timeoutSeconds": 60}],
            "permissions": permissions,
            **more,
        },
    }


@pytest.fixture(scope="module")
def gateway(kube: Kube) -> Iterator[str]:
    """An agent with a skill of each runtime, and the name of its gateway pod."""
    skills = [
        skill("bash", "scripts/main.sh", SHELL, ["process:execute"]),
        skill("node", "scripts/main.mjs", NODE, []),
        skill("image", "run.sh", SHELL, ["process:execute"], image=OWN_IMAGE, command=["sh"], entrypoint="run.sh"),
    ]
    names = [item["metadata"]["name"] for item in skills]
    kube.apply(
        *skills,
        {
            "apiVersion": "openclaw.io/v1alpha1",
            "kind": "Agent",
            "metadata": {"name": AGENT},
            "spec": {
                "model": {"provider": "local", "name": "stand-in", "baseURL": stand_in.BASE_URL},
                "workspace": {"size": "64Mi", "reclaimPolicy": "Delete"},
                "skills": [{"name": name} for name in names],
                "gateway": {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
            },
        },
    )
    kube.wait("condition=Ready", f"agent/{AGENT}", seconds=180)
    name: str = kube.items("pods", f"openclaw.io/agent={AGENT},app.kubernetes.io/name=gateway")[0]["metadata"]["name"]
    yield name
    kube.delete("agent", AGENT)
    kube.delete("skill", *names)


@pytest.mark.parametrize("runtime", ["bash", "node", "image"])
def test_a_skill_answers_in_its_language(kube: Kube, gateway: str, runtime: str) -> None:
    output = json.loads(kube.exec(gateway, "python", "-c", CALL, f"in-{runtime}").splitlines()[-1])
    made = {"bash": "sandbox", "node": "node", "image": "testkit"}[runtime]
    assert output == {"text": "Hello, Ada", "user": 10001, "made": made}
