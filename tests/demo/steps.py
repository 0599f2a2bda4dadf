"""The story, step by step: install the operator, apply three kinds of resources, have real work done, look at it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.cluster import gotools
from tests.cluster.paths import REPOSITORY, Cache
from tests.demo import stand_in, workspace
from tests.demo.chat import Gateway, SkillCall
from tests.demo.clusters import Cluster
from tests.demo.errors import DemoError
from tests.demo.kube import Kube
from tests.demo.report import Report

RELEASE = "openclaw"
SYSTEM = "openclaw-system"
NAMESPACE = "openclaw-demo"
CHART = REPOSITORY / "charts" / "openclaw-operator"
QUICKSTART = REPOSITORY / "examples" / "quickstart"
SANDBOX_IMAGE = "openclaw.local/sandbox:test"
TESTKIT_IMAGE = "openclaw.local/testkit:test"
GATEWAY_PORT = 7456
READY_SECONDS = 300.0

COMMIT_PLEASE = "Please commit the work in the repository."
WHAT_LAST = "What did you commit last?"


@dataclass(frozen=True)
class Model:
    """The language model the agents think with."""

    title: str
    provider: str
    name: str
    base_url: str
    key: str
    stand_in: bool


def model_from(environment: Mapping[str, str]) -> Model:
    """The user's model when OPENAI_API_KEY or OPENAI_BASE_URL is set, else the stand-in."""
    key, base_url = environment.get("OPENAI_API_KEY", ""), environment.get("OPENAI_BASE_URL", "")
    name = environment.get("OPENAI_MODEL", "gpt-4o-mini")
    if base_url:
        return Model(f"{name} at {base_url}", "openai-compatible", name, base_url, key or "unused", stand_in=False)
    if key:
        return Model(f"OpenAI's {name}", "openai-compatible", name, "https://api.openai.com/v1", key, stand_in=False)
    title = "a stand-in (fixed rules, no intelligence; set OPENAI_API_KEY for a real one)"
    return Model(title, "openai-compatible", "stand-in", stand_in.BASE_URL, "stand-in", stand_in=True)


@dataclass(frozen=True)
class Tools:
    """Programs against one cluster."""

    helm: Path
    kubectl: Path
    kubeconfig: Path

    @classmethod
    def of(cls, cache: Cache, cluster: Cluster) -> Tools:
        found = {name: gotools.tool(cache, "kubernetes", name) for name in ("helm", "kubectl")}
        return cls(found["helm"], found["kubectl"], cluster.kubeconfig)

    def kube(self, namespace: str) -> Kube:
        return Kube(self.kubectl, self.kubeconfig, namespace)


def install_chart(tools: Tools, cluster: Cluster, values: Mapping[str, str] | None = None) -> None:
    """`helm upgrade --install`, then wait until the operator answers. Raises DemoError.

    `values` are more of the chart's values, each as JSON.
    """
    command = [str(tools.helm), f"--kubeconfig={tools.kubeconfig}", f"--namespace={SYSTEM}", "upgrade", "--install"]
    command += [RELEASE, str(CHART), "--create-namespace"]
    command += [argument for file in cluster.values for argument in ("--values", str(file))]
    command += [f"--set-json={name}={text}" for name, text in (values or {}).items()]
    # A rebuilt image has the same tag: this is what replaces the running operator, and only then.
    command += ["--set-string", f"podAnnotations.image-revision={cluster.revision()}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if result.returncode:
        raise DemoError(f"helm: {result.stderr.strip().splitlines()[-1]}", result.stderr)
    kube = tools.kube(SYSTEM)
    rollout = ["rollout", "status", f"deployment/{RELEASE}", "--timeout=120s"]
    if kube.try_run(*rollout, seconds=130).returncode:
        logs = kube.try_run("logs", f"deployment/{RELEASE}", "--tail=30").stdout.strip()
        raise DemoError(f"the operator does not start; its last words:\n{logs or '(none)'}")


def make_namespace(kube: Kube) -> None:
    """The demo's namespace, where only pods that meet PodSecurity `restricted` may run."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kube.namespace, "labels": labels}})


def provide_model(kube: Kube, model: Model) -> None:
    """The Secret with the key and, where there is no real model, the stand-in."""
    kube.apply(stand_in.credentials(model.key))
    if model.stand_in:
        kube.apply(*stand_in.objects(TESTKIT_IMAGE))


def apply_quickstart(kube: Kube, model: Model) -> None:
    """examples/quickstart; only the agents' model differs, when it is not OpenAI's."""
    with tempfile.TemporaryDirectory(prefix="openclaw-demo-") as folder:
        quickstart = os.path.relpath(QUICKSTART, Path(folder).resolve())  # kustomize takes no absolute paths
        overlay = stand_in.kustomization(quickstart, model.provider, model.name, model.base_url)
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        kube.run("apply", "--server-side", "-k", folder)


def replace_pods(kube: Kube) -> None:
    """End the pods of a former run, after images were rebuilt under the same tag. Volumes stay."""
    kube.run("delete", "pods", "--all", "--grace-period=1", "--timeout=60s")


QUICKSTART_SANDBOXES = "openclaw.io/workspace=code-expert-workspace"
QUICKSTART_OBJECTS = ["memorystore/memory", "skill/git-ai-helper", "agent/code-expert", "agent/coordinator"]


def await_quickstart(kube: Kube, report: Report) -> float:
    """Prints each resource as it becomes Ready; returns the seconds until the last one was."""
    last = 0.0
    for name, seconds in kube.wait_all_ready(QUICKSTART_OBJECTS, READY_SECONDS):
        report.mark(seconds, f"{name} Ready")
        last = seconds
    return last


def seed(kube: Kube) -> str:
    """A git repository with uncommitted work in the workspace of code-expert; returns what `git status` says."""
    workspace.open_shell(kube, SANDBOX_IMAGE, "code-expert-workspace", READY_SECONDS)
    return workspace.leave_work(kube)


def ready_sandboxes(kube: Kube, selector: str = QUICKSTART_SANDBOXES) -> set[str]:
    """Names of the sandbox pods that wait for a call, those of the quickstart unless others are selected."""
    return {
        pod["metadata"]["name"]
        for pod in kube.items("pods", selector)
        if any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"].get("conditions", []))
    }


def await_sandboxes(kube: Kube, count: int, seconds: float, selector: str = QUICKSTART_SANDBOXES) -> None:
    """Until so many sandbox pods wait for a call. Raises DemoError."""
    until = time.monotonic() + seconds
    while len(found := ready_sandboxes(kube, selector)) < count:
        if time.monotonic() > until:
            raise DemoError(f"{len(found)} sandbox pods are ready after {seconds:.0f} s, {count} are wanted")
        time.sleep(0.2)


@dataclass(frozen=True)
class Conversation:
    """What was said and what it caused."""

    first: str
    second: str
    calls: list[SkillCall]


def talk(kube: Kube, report: Report, session: str) -> Conversation:
    """Two questions in two sessions, so that the second can only be answered from memory."""
    token = kube.secret("coordinator-gateway-token", "token")
    with kube.forward("service/coordinator-gateway", GATEWAY_PORT) as url:
        gateway = Gateway(url, token, "coordinator")
        work, recall = f"{session}-work", f"{session}-recall"
        first = report.conversation("you", COMMIT_PLEASE, "coordinator", gateway.ask(COMMIT_PLEASE, session=work))
        second = report.conversation("you", WHAT_LAST, "coordinator", gateway.ask(WHAT_LAST, session=recall))
        return Conversation(first, second, gateway.skill_calls(work))


def show_what_happened(kube: Kube, report: Report, said: Conversation, commits_before: int) -> None:
    """Where the skill ran, what git says, and where the second answer came from. Raises DemoError when it is not so."""
    calls = [call for call in said.calls if call.skill == "git-ai-helper" and call.outcome == "ok"]
    if not calls:
        raise DemoError(f"no call of git-ai-helper was recorded; the coordinator said: {said.first}")
    for call in calls:
        report.note(f"{call.skill} {call.action} ran in pod {call.sandbox} for {call.duration_ms:.0f} ms")
    with report.step(f"pod {calls[0].sandbox} served one call and is gone", remember="the used pod is replaced"):
        kube.wait("delete", f"pod/{calls[0].sandbox}", seconds=60)
    report.block("git log in the workspace of code-expert", workspace.git(kube, "log", "--stat", "-1"))
    if workspace.commits(kube) != commits_before + 1 or workspace.git(kube, "status", "--short"):
        raise DemoError("the work was not committed: " + workspace.git(kube, "status", "--short"))
    subject = workspace.git(kube, "log", "-1", "--format=%s").strip()
    if subject not in said.second:
        raise DemoError(f"the second answer does not tell of the commit {subject!r}: {said.second}")
    report.note("the second answer came from Qdrant: it was asked in a new session")
