"""What is measured: skills that do nothing, one for each level and language, and a Job that does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.demo.steps import SANDBOX_IMAGE

Object = dict[str, Any]

NAMESPACE = "openclaw-bench"
AGENT = "bench"
LEVELS = ("isolated", "restricted", "trusted")
BARE_LABEL = "openclaw-bench/bare"
COLD_SKILL = "noop-cold"


@dataclass(frozen=True)
class Language:
    """A no-op action `noop` in one language."""

    runtime: str
    file: str
    source: str
    permissions: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def spec(self) -> Object:
        """What of a Skill's spec depends on it."""
        own_image = {"image": SANDBOX_IMAGE, "command": list(self.command)} if self.runtime == "image" else {}
        return {
            "source": {"inline": {"files": {self.file: self.source}}},
            "runtime": self.runtime,
            "entrypoint": self.file,
            "permissions": list(self.permissions),
            **own_image,
        }


LANGUAGES = {
    "python": Language("python", "scripts/main.py", "async def noop(ctx, input):\n    return {}\n"),
    "node": Language("node", "scripts/main.mjs", "export async function noop(ctx, input) {\n  return {};\n}\n"),
    "bash": Language("bash", "scripts/main.sh", "echo '{}'\n", ("process:execute",)),
    # Any image will do for a skill's own: what is measured is the runner that is copied into its pod.
    "image": Language("image", "scripts/main.sh", "echo '{}'\n", ("process:execute",), ("bash",)),
}


@dataclass(frozen=True)
class Case:
    """One level in one language."""

    level: str
    language: str

    @property
    def skill(self) -> str:
        """Name of the Skill."""
        return f"noop-{self.language}-{self.level}"

    @property
    def title(self) -> str:
        return f"{self.level}, {self.language}"


def cases(levels: tuple[str, ...], languages: tuple[str, ...]) -> list[Case]:
    """Every level in every language; only skills in Python can be trusted."""
    return [
        Case(level, language)
        for language in languages
        for level in levels
        if level != "trusted" or language == "python"
    ]


def skill(case: Case, warm: int) -> Object:
    """The Skill of a case."""
    language = LANGUAGES[case.language]
    return {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": case.skill, "namespace": NAMESPACE},
        "spec": {
            "version": "1.0.0",
            **language.spec(),
            "actions": [{"name": "noop", "description": "Does nothing."}],
            "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
            "sandbox": {"level": case.level, "warm": warm},
        },
    }


def cold_skill(case: Case) -> Object:
    """The Skill of a case in a pool of its own, of one pod: no demand makes that larger, not even its own."""
    made = skill(case, 1)
    made["spec"]["sandbox"]["maxWarm"] = 1
    made["metadata"]["name"] = COLD_SKILL
    made["spec"]["resources"]["limits"]["memory"] = "255Mi"
    return made


def agent(skills: list[str], parallel: int) -> Object:
    """The Agent whose gateway makes the calls. It allows every level, so that each Skill gets its own."""
    return {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": AGENT, "namespace": NAMESPACE},
        "spec": {
            "model": {"provider": "openai-compatible", "name": "none", "baseURL": "http://127.0.0.1:1/v1"},
            "skills": [{"name": name} for name in skills],
            "execution": {"maxConcurrent": parallel, "sandbox": {"level": "trusted"}},
            "gateway": {
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
            },
        },
    }


def bare(pod: Object) -> Object:
    """A pod like one of a pool, that belongs to nobody."""
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "bare-", "namespace": NAMESPACE, "labels": {BARE_LABEL: "true"}},
        "spec": spec,
    }


def job(name: str, image: str) -> Object:
    """A Job per call, the plainest alternative: the same image, a program that does nothing."""
    confined = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    container = {
        "name": "noop",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-I", "-c", "pass"],
        "securityContext": confined,
        "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 10001,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                }
            },
        },
    }
