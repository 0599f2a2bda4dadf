#!/usr/bin/env python3
"""The state of a deployment around an upgrade; only the standard library, kubectl and helm.

    rollout.py remember FILE   note the release's revision and the agents that are ready
    rollout.py verify FILE     wait for the operator's rollout, then for those agents to be ready again
    rollout.py back FILE       show what is wrong and return to the noted revision, or uninstall when there was none

Environment: RELEASE, NAMESPACE, ROLLOUT_SECONDS (default 600), and KUBECONFIG for the two programs.
"""

# ruff: noqa: T201  (its output is the job's log)
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

AGENTS = "agents.openclaw.io"
CRDS = (AGENTS, "skills.openclaw.io", "memorystores.openclaw.io", "memoryrestores.openclaw.io")
POLL_SECONDS = 5.0


def run(*command: str) -> str:
    """Returns what a program prints. Raises `subprocess.CalledProcessError`."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def show(*command: str) -> None:
    """Runs a program for its output in the log; whether it works does not matter."""
    subprocess.run(command, check=False)


def name(agent: dict[str, Any]) -> str:
    """Returns namespace/name."""
    return f"{agent['metadata']['namespace']}/{agent['metadata']['name']}"


def is_ready(agent: dict[str, Any]) -> bool:
    """Whether the agent is ready, and says so of its latest spec."""
    status = agent.get("status", {})
    current = status.get("observedGeneration") == agent["metadata"]["generation"]
    return current and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in status.get("conditions", ())
    )


def is_meant_to_run(agent: dict[str, Any]) -> bool:
    """Whether its owner wants it: not suspended, not being deleted."""
    return "deletionTimestamp" not in agent["metadata"] and not agent["spec"].get("suspend", False)


def lost(before: Iterable[str], now: Iterable[dict[str, Any]]) -> list[str]:
    """Returns the agents that were ready before, are still wanted, and are not ready now."""
    ready_before = set(before)
    return sorted(
        name(agent) for agent in now if name(agent) in ready_before and is_meant_to_run(agent) and not is_ready(agent)
    )


def agents() -> list[dict[str, Any]]:
    """All agents of the cluster; none where the kind is not known yet."""
    if not run("kubectl", "get", "crd", AGENTS, "--ignore-not-found", "--output", "name").strip():
        return []
    items: list[dict[str, Any]] = json.loads(run("kubectl", "get", AGENTS, "--all-namespaces", "--output", "json"))[
        "items"
    ]
    return items


def deployments(release: str, namespace: str) -> list[str]:
    """The release's Deployments as deployment.apps/NAME."""
    selector = f"app.kubernetes.io/instance={release}"
    return run("kubectl", "-n", namespace, "get", "deployments", "--selector", selector, "--output", "name").split()


def remember(file: Path, release: str, namespace: str) -> None:
    """Writes {revision, ready} to the file; revision 0 means that nothing is installed."""
    found = json.loads(run("helm", "list", "-n", namespace, "--all", "--filter", f"^{release}$", "--output", "json"))
    revision = int(found[0]["revision"]) if found else 0
    ready = [name(agent) for agent in agents() if is_ready(agent)]
    file.write_text(json.dumps({"revision": revision, "ready": ready}))
    print(f"revision {revision}, ready agents: {', '.join(ready) or 'none'}")


def verify(file: Path, release: str, namespace: str, seconds: float) -> int:
    """Returns the exit code: 0 when everything that was ready is ready again."""
    before = json.loads(file.read_text())["ready"]
    limit = f"--timeout={seconds:.0f}s"
    found = deployments(release, namespace)
    if not found:
        print(f"::error::release {release} has no Deployment in namespace {namespace}")
        return 1
    for deployment in found:
        run("kubectl", "-n", namespace, "rollout", "status", deployment, limit)
    run("kubectl", "wait", "--for=condition=Established", limit, *(f"crd/{crd}" for crd in CRDS))
    deadline = time.monotonic() + seconds
    # The new operator needs a moment to look at its agents: only two good looks in a row count.
    good = 0
    while good < 2:
        missing = lost(before, agents())
        good = 0 if missing else good + 1
        if missing and time.monotonic() > deadline:
            print(f"::error::agents that were ready before the upgrade are not: {', '.join(missing)}")
            return 1
        if good < 2:
            time.sleep(POLL_SECONDS)
    print(f"{len(before)} agents were ready before, none was lost")
    return 0


def back(file: Path, release: str, namespace: str) -> None:
    """Restores the noted revision."""
    for deployment in deployments(release, namespace):
        show("kubectl", "-n", namespace, "describe", deployment)
        show("kubectl", "-n", namespace, "logs", deployment, "--tail=200")
    show("kubectl", "get", AGENTS, "--all-namespaces")
    revision = json.loads(file.read_text())["revision"]
    if revision:
        print(run("helm", "rollback", release, str(revision), "-n", namespace, "--wait", "--timeout=5m"))
    else:
        print(run("helm", "uninstall", release, "-n", namespace, "--wait", "--timeout=5m"))


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    if len(arguments) != 2 or arguments[0] not in {"remember", "verify", "back"}:
        print(__doc__, file=sys.stderr)
        return 2
    action, file = arguments[0], Path(arguments[1])
    release, namespace = os.environ["RELEASE"], os.environ["NAMESPACE"]
    try:
        if action == "remember":
            remember(file, release, namespace)
        elif action == "verify":
            return verify(file, release, namespace, float(os.environ.get("ROLLOUT_SECONDS", "600")))
        else:
            back(file, release, namespace)
    except subprocess.CalledProcessError as error:
        print(f"::error::{' '.join(error.cmd)} ended with {error.returncode}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
