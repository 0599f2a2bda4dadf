"""The GitHub workflows: valid, pinned, with no right they do not use; and the script that guards a deployment."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.cluster import devtools
from tests.cluster.paths import REPOSITORY

GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
MAKE = re.compile(r"^\s*make ([a-z-]+)", re.MULTILINE)
USES = re.compile(r"^\s*(?:-\s+)?uses:\s*(\S+)(?:\s+#\s*(\S+))?\s*$")


def load(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    data = {("on" if key is True else key): value for key, value in yaml.safe_load(path.read_text()).items()}
    assert isinstance(data["jobs"], dict)
    return data


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [(f"{path.name}:{name}", job) for path in WORKFLOWS for name, job in load(path)["jobs"].items()]


@pytest.mark.timeout(devtools.BUILD_TIMEOUT_SECONDS)
def test_actionlint_finds_nothing() -> None:
    command: list[str | Path] = [devtools.build("actionlint"), "-shellcheck=", "-pyflakes=", *WORKFLOWS]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_a_commit_and_say_their_version(path: Path) -> None:
    for line in path.read_text().splitlines():
        match = USES.match(line)
        if match is None or match[1].startswith("./"):
            assert match is not None or "uses:" not in line, line
            continue
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", match[1]), line
        assert re.fullmatch(r"v\d+\.\d+\.\d+", match[2] or ""), line


def test_an_action_has_one_version_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for match in filter(None, map(USES.match, path.read_text().splitlines())):
            action, _, commit = match[1].partition("@")
            pins.setdefault(action, set()).add(commit)
    assert {action: commits for action, commits in pins.items() if len(commits) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_has_a_right_by_default(path: Path) -> None:
    assert load(path)["permissions"] == {}


@pytest.mark.parametrize(("name", "job"), jobs(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_job_names_its_rights_and_ends(name: str, job: dict[str, Any]) -> None:
    rights = job["permissions"]
    assert isinstance(rights, dict), f"{name}: read-all and write-all are too much"
    # Writing to the repository is for the release notes only.
    assert rights.get("contents") == ("write" if name == "release.yml:notes" else "read")
    assert set(rights) <= {"contents", "packages", "id-token"}
    assert "uses" in job or job["timeout-minutes"] <= 90


@pytest.mark.parametrize(("name", "job"), jobs(), ids=lambda value: value if isinstance(value, str) else "")
def test_no_expression_is_pasted_into_a_script(name: str, job: dict[str, Any]) -> None:
    """A branch name or an input is text from outside: it reaches a script as a variable only."""
    for step in job.get("steps", ()):
        assert "${{" not in step.get("run", ""), f"{name}: {step.get('name')}"
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_the_make_targets_that_workflows_call_exist() -> None:
    called = {name for _, job in jobs() for step in job.get("steps", ()) for name in MAKE.findall(step.get("run", ""))}
    defined = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert called
    assert called <= defined


def test_nothing_is_published_untested_and_nothing_deployed_unpublished() -> None:
    release = load(GITHUB / "workflows" / "release.yml")["jobs"]
    assert release["test"]["uses"] == "./.github/workflows/ci.yml"
    assert "test" in release["images"]["needs"]
    assert "images" in release["chart"]["needs"]
    assert "chart" in release["deploy"]["needs"]
    assert "deploy" in release["notes"]["needs"]
    environment = release["deploy"]["with"]["environment"]
    assert environment == "${{ github.ref_type == 'tag' && 'production' || 'staging' }}"


def test_every_image_is_multi_arch_and_has_an_sbom() -> None:
    steps = load(GITHUB / "workflows" / "release.yml")["jobs"]["images"]["steps"]
    builds = {step["id"]: step["with"] for step in steps if step.get("uses", "").startswith("docker/build-push-action")}
    assert set(builds) == {"operator", "runtime", "sandbox", "sandbox-node", "egress"}
    for options in builds.values():
        assert options["platforms"] == "linux/amd64,linux/arm64"
        assert options["sbom"] is True
        assert options["push"] is True
        dockerfile = (REPOSITORY / options["file"]).read_text()
        if "target" in options:
            assert re.search(rf"^FROM .* AS {options['target']}$", dockerfile, re.MULTILINE)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_each_environment_has_values_the_chart_knows(environment: str) -> None:
    values = yaml.safe_load((GITHUB / "environments" / f"{environment}.yaml").read_text())
    known = yaml.safe_load((REPOSITORY / "charts" / "openclaw-operator" / "values.yaml").read_text())

    def unknown(part: dict[str, Any], whole: dict[str, Any], path: str = "") -> Iterator[str]:
        for key, value in part.items():
            if key not in whole:
                yield f"{path}{key}"
            elif isinstance(value, dict) and isinstance(whole[key], dict):
                yield from unknown(value, whole[key], f"{path}{key}.")

    assert list(unknown(values, known)) == []


@pytest.fixture
def rollout(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("rollout", GITHUB / "scripts" / "rollout.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    monkeypatch.setenv("RELEASE", "openclaw-operator")
    monkeypatch.setenv("NAMESPACE", "openclaw-system")
    monkeypatch.setenv("ROLLOUT_SECONDS", "0")
    return module


def agent(name: str, ready: str = "True", *, observed: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "agents", "name": name, "generation": 1},
        "spec": spec,
        "status": {"observedGeneration": observed, "conditions": [{"type": "Ready", "status": ready}]},
    }


class Cluster:
    """What kubectl and helm would answer."""

    def __init__(self, agents: list[dict[str, Any]], revision: int = 3) -> None:
        self.agents = agents
        self.revision = revision
        self.commands: list[str] = []
        self.failing = ""

    def run(self, *command: str) -> str:
        line = " ".join(command)
        self.commands.append(line)
        if self.failing and self.failing in line:
            raise subprocess.CalledProcessError(1, command)
        if line.startswith("helm list"):
            return json.dumps([{"revision": str(self.revision)}] if self.revision else [])
        if line.startswith("kubectl get crd"):
            return "customresourcedefinition.apiextensions.k8s.io/agents.openclaw.io\n" if self.revision else ""
        if line.startswith("kubectl get agents"):
            return json.dumps({"items": self.agents})
        if "get deployments" in line:
            return "deployment.apps/openclaw-operator\n"
        return ""


@pytest.fixture
def act(rollout: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Cluster], int]:
    def go(action: str, cluster: Cluster) -> int:
        monkeypatch.setattr(rollout, "run", cluster.run)
        monkeypatch.setattr(rollout, "show", cluster.run)
        code = rollout.main([action, str(tmp_path / "before.json")])
        assert isinstance(code, int)
        return code

    return go


Act = Callable[[str, Cluster], int]


def test_a_good_upgrade_passes(act: Act) -> None:
    assert act("remember", Cluster([agent("one"), agent("two", "False")])) == 0
    after = Cluster([agent("one"), agent("two", "False"), agent("three", "False")])
    assert act("verify", after) == 0
    assert any(command.startswith("kubectl -n openclaw-system rollout status") for command in after.commands)


@pytest.mark.parametrize("now", [agent("one", "False"), agent("one", "Unknown"), agent("one", observed=0)])
def test_an_agent_that_is_lost_fails_the_upgrade(
    act: Act, now: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    act("remember", Cluster([agent("one")]))
    assert act("verify", Cluster([now])) == 1
    assert "::error::agents that were ready before the upgrade are not: agents/one" in capsys.readouterr().out


@pytest.mark.parametrize("now", [[], [agent("one", "False", suspend=True)]])
def test_an_agent_its_owner_stopped_is_not_missed(act: Act, now: list[dict[str, Any]]) -> None:
    act("remember", Cluster([agent("one")]))
    assert act("verify", Cluster(now)) == 0


def test_a_rollout_that_fails_fails_the_upgrade(act: Act, capsys: pytest.CaptureFixture[str]) -> None:
    act("remember", Cluster([]))
    cluster = Cluster([])
    cluster.failing = "rollout status"
    assert act("verify", cluster) == 1
    assert "rollout status" in capsys.readouterr().out


def test_the_way_back_is_the_noted_revision(act: Act) -> None:
    act("remember", Cluster([], revision=3))
    after = Cluster([], revision=4)
    assert act("back", after) == 0
    assert after.commands[-1].startswith("helm rollback openclaw-operator 3 -n openclaw-system --wait")


def test_a_first_installation_is_taken_out_again(act: Act) -> None:
    act("remember", Cluster([], revision=0))
    after = Cluster([], revision=1)
    assert act("back", after) == 0
    assert after.commands[-1].startswith("helm uninstall openclaw-operator -n openclaw-system")
