"""A pod with a shell in an agent's workspace: how the demo leaves work there, and how it looks at what was done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.demo.kube import Kube

SHELL = "workspace-shell"
REPOSITORY = "/workspace"
# git asks who owns the folder; a volume's root belongs to whoever provisioned it.
GIT = ["env", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "HOME=/tmp", "git"]

SEED = Path(__file__).with_name("seed.sh")


def shell_pod(image: str, claim: str) -> dict[str, Any]:
    """A pod that idles with the claim mounted, under the same restrictions as a sandbox pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": SHELL, "labels": {"app.kubernetes.io/name": SHELL}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "shell",
                    "image": image,
                    "command": ["sleep", "infinity"],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "workspace", "mountPath": "/workspace"},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                }
            ],
            "volumes": [
                {"name": "workspace", "persistentVolumeClaim": {"claimName": claim}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }


def open_shell(kube: Kube, image: str, claim: str, seconds: float) -> None:
    """Start the pod; the claim may still have to be made. Raises DemoError when it does not come up."""
    kube.delete("pod", SHELL)
    kube.apply(shell_pod(image, claim))
    kube.wait("condition=Ready", f"pod/{SHELL}", seconds=seconds)


def close_shell(kube: Kube) -> None:
    kube.delete("pod", SHELL)


def leave_work(kube: Kube) -> str:
    """A git repository with uncommitted changes, new ones each time; returns `git status --short`."""
    return kube.exec(SHELL, "bash", "-c", SEED.read_text())


def git(kube: Kube, *arguments: str) -> str:
    """git in the repository of the workspace."""
    return kube.exec(SHELL, *GIT, "-C", REPOSITORY, *arguments)


def commits(kube: Kube) -> int:
    """How many commits there are."""
    return int(git(kube, "rev-list", "--count", "HEAD"))
