"""The GitHub workflows: valid, pinned, with no right they do not use; and the scripts that guard what they do."""

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

from tests.cluster import devtools, preflight
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


@pytest.mark.parametrize("target", ["test", "test-faults"])
def test_what_starts_a_cluster_runs_where_one_can_be_started(target: str) -> None:
    """As root of a Debian 12: what preflight asks for."""
    assert "postgresql-15" in preflight.TEST_PACKAGES.values(), "that of Debian 12"
    steps = [(job, step.get("run", "")) for _, job in jobs() for step in job.get("steps", ())]
    found = [job for job, run in steps if target in MAKE.findall(run)]
    assert found
    for job in found:
        assert job["container"]["image"].startswith("debian:12")
        assert "--privileged" in job["container"]["options"]


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
    assert rights.get("contents") == ("write" if name == "promote.yml:notes" else "read")
    assert set(rights) <= {"actions", "contents", "packages", "id-token"}
    assert rights.get("actions", "read") == "read"
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


def test_main_publishes_nothing_untested_and_deploys_nothing_unpublished() -> None:
    release = load(GITHUB / "workflows" / "release.yml")
    assert release["on"] == {"push": {"branches": ["main"]}}
    steps = release["jobs"]
    assert steps["test"]["uses"] == "./.github/workflows/ci.yml"
    assert "test" in steps["images"]["needs"]
    assert "images" in steps["chart"]["needs"]
    assert "chart" in steps["deploy"]["needs"]
    assert steps["deploy"]["with"]["environment"] == "staging"


def test_a_tag_builds_nothing_and_releases_what_staging_ran() -> None:
    promote = load(GITHUB / "workflows" / "promote.yml")
    assert promote["on"].keys() == {"push"}
    assert promote["on"]["push"].keys() == {"tags"}
    work = promote["jobs"]["promote"]
    text = json.dumps(work)
    assert "build-push-action" not in text
    assert "make" not in text
    scripts = [step.get("run", "") for step in work["steps"]]
    (checked, *_), (tagged, *_), (pushed, *_) = (
        [number for number, script in enumerate(scripts) if word in script]
        for word in ("promote.py check", "promote.py images", "helm push")
    )
    assert checked < tagged < pushed
    assert "promote" in promote["jobs"]["deploy"]["needs"]
    assert promote["jobs"]["deploy"]["with"]["environment"] == "production"
    assert set(promote["jobs"]["notes"]["needs"]) == {"promote", "deploy"}


def test_production_takes_only_what_was_tagged() -> None:
    steps = load(GITHUB / "workflows" / "deploy.yml")["jobs"]["deploy"]["steps"]
    (step,) = [each for each in steps if "cosign verify" in each.get("run", "")]
    assert (
        step["env"]["SIGNED_FOR"] == "${{ inputs.environment == 'production' && 'tags/v' || '(heads/main$|tags/v)' }}"
    )
    assert "(release|promote).yml@refs/$SIGNED_FOR" in step["run"]


def test_a_tag_asks_for_the_version_that_main_published() -> None:
    """Both say it with the same words, and the same images are pinned by one and read by the other."""
    release, promote = ((GITHUB / "workflows" / f"{name}.yml").read_text() for name in ("release", "promote"))
    assert "version=$declared-main.${GITHUB_SHA::12}" in release
    assert "CANDIDATE=$declared-main.${commit::12}" in promote
    assert re.findall(r"\.images\.(\w+) =", release) == ["operator", "runtime", "sandbox", "egress", "sandboxNode"]


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


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, GITHUB / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rollout(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = script("rollout")
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


OURS = "ghcr.io/acme"
DIGESTS = {name: f"sha256:{number:064x}" for number, name in enumerate(("operator", "runtime"), 1)}


class Registry:
    """What gh, cosign and docker would answer."""

    def __init__(self, *runs: dict[str, Any]) -> None:
        self.runs = runs
        self.unsigned = ""
        self.tags: dict[str, str] = {}
        self.copied = True

    def run(self, *command: str) -> str:
        if command[0] == "gh":
            assert {"release.yml", "main", "abc"} <= set(command)
            return json.dumps(self.runs)
        if command[0] == "cosign":
            assert "https://github.com/acme/openclaw/.github/workflows/release.yml@refs/heads/main" in command
            if self.unsigned and self.unsigned in command[2]:
                raise subprocess.CalledProcessError(1, command)
        elif command[3] == "create":
            tag, source = command[5:]
            self.tags[tag] = source.partition("@")[2]
        else:
            return (self.tags[command[4]] if self.copied else "sha256:other") + "\n"
        return ""


Promote = Callable[..., int]


@pytest.fixture
def promote(monkeypatch: pytest.MonkeyPatch) -> Promote:
    module = script("promote")
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/openclaw")

    def go(registry: Registry, *arguments: str) -> int:
        monkeypatch.setattr(module, "run", registry.run)
        return int(module.main(list(arguments)))

    return go


@pytest.fixture
def values(tmp_path: Path) -> Path:
    """The values of a chart of main, as JSON."""
    images = {name: {"repository": f"{OURS}/{name}", "digest": digest} for name, digest in DIGESTS.items()}
    images["redis"] = {"repository": "redis", "digest": ""}
    file = tmp_path / "values.json"
    file.write_text(json.dumps({"images": images}))
    return file


def a_run(conclusion: str, status: str = "completed") -> dict[str, str]:
    return {"conclusion": conclusion, "status": status, "url": "https://example.org/1"}


@pytest.mark.parametrize(
    ("runs", "code", "says"),
    [
        ([a_run("success")], 0, ""),
        ([a_run("failure"), a_run("success")], 0, ""),
        ([], 1, "main never built abc"),
        ([a_run("failure")], 1, "is failure, see https://example.org/1"),
        ([a_run("", "in_progress")], 1, "is in_progress"),
    ],
    ids=["ran", "ran before", "never built", "failed", "runs"],
)
def test_only_what_staging_ran_is_released(
    promote: Promote, capsys: pytest.CaptureFixture[str], runs: list[dict[str, str]], code: int, says: str
) -> None:
    assert promote(Registry(*runs), "check", "abc") == code
    assert says in capsys.readouterr().out


def test_images_that_staging_ran_get_the_version(promote: Promote, values: Path) -> None:
    registry = Registry()
    assert promote(registry, "images", str(values), OURS, "1.2.3") == 0
    assert registry.tags == {f"{OURS}/{name}:1.2.3": digest for name, digest in DIGESTS.items()}


def test_no_image_is_tagged_where_one_is_not_mains(promote: Promote, values: Path) -> None:
    registry = Registry()
    registry.unsigned = f"{OURS}/runtime@"
    assert promote(registry, "images", str(values), OURS, "1.2.3") == 1
    assert registry.tags == {}


def test_an_image_that_became_another_one_is_noticed(promote: Promote, values: Path) -> None:
    registry = Registry()
    registry.copied = False
    assert promote(registry, "images", str(values), OURS, "1.2.3") == 1


def test_a_chart_without_digests_is_not_released(
    promote: Promote, values: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values.write_text(values.read_text().replace(DIGESTS["runtime"], ""))
    assert promote(Registry(), "images", str(values), OURS, "1.2.3") == 1
    assert f"pins no digest of {OURS}/runtime" in capsys.readouterr().out
