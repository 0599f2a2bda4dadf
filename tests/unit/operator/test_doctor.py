"""What the doctor makes of what it sees, and what its pods do."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openclaw_operator import rbac
from openclaw_operator.api import crds
from openclaw_operator.cli.doctor import inside, judge, reachable
from openclaw_operator.cli.doctor.command import as_json, as_text, exit_code
from openclaw_operator.cli.doctor.finding import Finding, failure, ok, warning
from openclaw_operator.cli.doctor.reachable import Image, Reached, Target
from openclaw_operator.cli.doctor.selectors import disjoint
from openclaw_operator.cli.installation import Installation
from openclaw_operator.cluster.inspector import Right
from openclaw_operator.settings import Settings
from tests.fakes.http_server import Reply, serve

KEY = "sk-never-to-be-told"


def operator(name: str, **settings: Any) -> Installation:
    return Installation("system", name, name, ready=True, version="1.0.0", settings=Settings(**settings))


def resource(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"namespace": "team", "name": name}, "spec": spec}


def levels(findings: list[Finding]) -> list[str]:
    return [each.level for each in findings]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("", "team=blue", False),
        ("team=blue", "team=red", True),
        ("team=blue", "team==blue", False),
        ("team=blue", "team!=blue", True),
        ("team=blue", "stage=test", False),
        ("team in (blue, green)", "team in (red)", True),
        ("team in (blue, green)", "team notin (green, blue)", True),
        ("team in (blue, green)", "team notin (green)", False),
        ("team", "!team", True),
        ("team=blue", "!team", True),
        ("team!=blue", "!team", False),
        ("a=1,team in (blue,green)", "b=2,team=red", True),
    ],
)
def test_selectors_that_exclude_each_other(left: str, right: str, expected: bool) -> None:
    assert disjoint(left, right) is expected
    assert disjoint(right, left) is expected


@pytest.mark.parametrize(("minor", "level"), [("29", "failure"), ("29+", "failure"), ("30", "ok"), ("34+", "ok")])
def test_kubernetes_is_new_enough(minor: str, level: str) -> None:
    (only,) = judge.kubernetes({"major": "1", "minor": minor, "gitVersion": f"v1.{minor.rstrip('+')}.2"})
    assert only.level == level
    assert f"v1.{minor.rstrip('+')}.2" in only.message


def installed_crds() -> dict[str, Any]:
    established = {"conditions": [{"type": "Established", "status": "True"}]}
    made = [copy.deepcopy(crds.crd(kind)) for kind in crds.KINDS]
    return {each["metadata"]["name"]: {**each, "status": established} for each in made}


def test_crds() -> None:
    found = installed_crds()
    assert levels(judge.custom_resources(found)) == ["ok"]
    versions = found["agents.openclaw.io"]["spec"]["versions"]
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].pop("role")
    found["skills.openclaw.io"] = None
    found["memorystores.openclaw.io"]["spec"]["versions"][0]["served"] = False
    messages = [each.message for each in judge.custom_resources(found)]
    assert messages == [
        "agents.openclaw.io has a schema of another version than this command",
        "skills.openclaw.io is not installed",
        "memorystores.openclaw.io does not serve v1alpha1",
    ]


def test_operators() -> None:
    assert levels(judge.operators([], [], "1.0.0")) == ["failure"]
    assert levels(judge.operators([operator("one")], [], "1.0.0")) == ["ok"]
    (other,) = judge.operators([operator("one")], [], "2.0.0")
    assert (other.level, other.message) == ("warning", "system/one is version 1.0.0, this command 2.0.0")


def test_operators_that_may_serve_the_same() -> None:
    blue, red = operator("blue", agent_selector="team=blue"), operator("red", agent_selector="team=red")
    everything = operator("all", watch_namespaces=("team",))
    elsewhere = operator("elsewhere", watch_namespaces=("other",))
    assert levels(judge.shares([blue, red], {"team": {"system/blue": 2}})) == ["ok"]
    assert judge.shares([blue], {}) == []
    (both,) = judge.shares([blue, everything], {})
    assert both.message == "system/blue and system/all may serve the same resources in team"
    assert levels(judge.shares([everything, elsewhere], {})) == ["ok"]
    (shared,) = judge.shares([blue, red], {"team": {"system/blue": 2, "system/red": 1}})
    assert (
        shared.message == "namespace team holds resources of system/blue and system/red, which share its sandbox pods"
    )


def test_rights() -> None:
    needed = judge.needed_rights(["team"])
    assert len(needed) == sum(len(rule.resources) * len(rule.verbs) for rule in rbac.RULES)
    unwanted = judge.unwanted_rights(["team"])
    allowed = {**dict.fromkeys(needed, True), **dict.fromkeys(unwanted, False)}
    assert levels(judge.rights("it", allowed, needed)) == ["ok"]
    allowed[Right("apps", "deployments", "patch", "team")] = False
    allowed[Right("", "pods/exec", "create", None)] = True
    missing, surplus = judge.rights("it", allowed, needed)
    assert (missing.level, missing.message) == ("failure", "it may not patch deployments.apps in namespace team")
    assert (surplus.level, surplus.message) == ("warning", "it may also create pods/exec")
    assert Right("", "secrets", "list", None) in unwanted
    assert Right("", "secrets", "list", None) in judge.needed_rights([])


def storage_class(name: str, *, default: bool, grows: bool = True) -> dict[str, Any]:
    annotations = {judge.DEFAULT_CLASS: "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations}, "allowVolumeExpansion": grows}


def test_storage() -> None:
    plain, named = resource("Agent", "a"), resource("Agent", "b", workspace={"storageClassName": "fast"})
    fast = storage_class("fast", default=False)
    assert levels(judge.storage([storage_class("fast", default=True)], [plain, named])) == ["ok"]
    assert levels(judge.storage([storage_class("fast", default=True, grows=False)], [])) == ["warning"]
    assert levels(judge.storage([fast], [named])) == ["warning"]
    (undecided,) = judge.storage([fast], [plain])
    assert undecided.message == "no StorageClass is the default, needed by Agent team/a"
    missing, *_ = judge.storage([storage_class("slow", default=True)], [named])
    assert missing.message == "StorageClass fast does not exist, named by Agent team/b"


def test_metrics_matter_to_those_that_are_scaled() -> None:
    scaled = resource("Agent", "a", gateway={"autoscaling": {"minReplicas": 3}})
    assert levels(judge.metrics_api(None, [scaled])) == ["ok"]
    assert levels(judge.metrics_api("it is not installed", [resource("Agent", "b")])) == ["warning"]
    assert levels(judge.metrics_api("it is not installed", [scaled])) == ["failure"]


def test_runtime_classes() -> None:
    agent = resource("Agent", "a", execution={"sandbox": {"runtimeClassName": "gvisor"}})
    assert judge.runtime_classes([], []) == []
    assert levels(judge.runtime_classes(["gvisor"], [agent])) == ["ok"]
    (missing,) = judge.runtime_classes(["kata"], [agent])
    assert (missing.level, missing.message) == ("failure", "gvisor does not exist, named by Agent team/a")


def test_images_that_are_in_use() -> None:
    settings = Settings()
    assert reachable.needed_images(settings, []) == [settings.runtime_image, settings.sandbox_image]
    skill = resource("Skill", "s", runtime="image", image="mine:1", permissions=["network:external"])
    managed = {"vector": {"qdrant": {"managed": {"image": "my-qdrant:1"}}}, "cache": {"redis": {"external": {}}}}
    needed = reachable.needed_images(settings, [skill, resource("MemoryStore", "m", **managed)])
    # What it says nothing of is run here.
    assert {"mine:1", settings.egress_image, "my-qdrant:1", settings.postgresql_image} < set(needed)
    assert settings.redis_image not in needed


def test_images() -> None:
    assert levels(reachable.images([Image("a")], False)) == ["ok"]
    assert levels(reachable.images([Image("a"), Image("b", "ErrImagePull")], False)) == ["failure"]
    assert levels(reachable.images([Image("b", "ErrImagePull")], True)) == ["warning"]
    assert levels(reachable.images([Image("b", known=False)], False)) == ["warning"]


@pytest.mark.parametrize(
    ("reached", "level", "words"),
    [
        (Reached(True, True, True, True), "ok", "enforced"),
        (Reached(True, False, False, True), "failure", "ingress and egress rules are not enforced"),
        (Reached(True, True, False, True), "failure", "egress rules are not enforced"),
        (Reached(True, True, True, False), "failure", "allows is closed too"),
        (Reached(False, False, False, False), "warning", "nothing is known"),
        (None, "warning", "not probed: no pods"),
    ],
)
def test_network_policies(reached: Reached | None, level: str, words: str) -> None:
    (found,) = reachable.network_policies(reached, "no pods")
    assert found.level == level
    assert words in found.message


def test_providers_of_agents() -> None:
    ref = {"secretKeyRef": {"name": "keys", "key": "openai"}}
    agents = [
        resource("Agent", "a", model={"provider": "openai", "name": "one", "credentials": ref}),
        resource("Agent", "b", model={"provider": "openai", "name": "two", "credentials": ref}),
        resource(
            "Agent",
            "c",
            model={
                "provider": "local",
                "name": "m",
                "baseURL": "http://llm:8000/v1/",
                "candidates": [{"provider": "openai", "name": "three", "credentials": ref}],
                "fallbacks": [{"provider": "local", "name": "n", "baseURL": "http://llm:8000/v1"}],
            },
        ),
        resource(
            "Agent",
            "d",
            model={"provider": "anthropic", "name": "m", "credentials": ref},
            gateway={"imagePullSecrets": [{"name": "registry"}]},
        ),
    ]
    assert reachable.targets(agents) == {
        Target("team", "https://api.openai.com/v1/models", "openai", "keys", "openai"): ["one", "three", "two"],
        Target("team", "http://llm:8000/v1/models", "local", None, None): ["m", "n"],
        Target("team", "https://api.anthropic.com/v1/models", "anthropic", "keys", "openai", ("registry",)): ["m"],
    }
    pulled = {each.provider: each.pull_secrets for each in reachable.targets(agents[-1:], ("all", "registry"))}
    assert pulled == {"anthropic": ("all", "registry")}


def test_providers_of_vectors() -> None:
    ref = {"secretKeyRef": {"name": "keys", "key": "vectors"}}
    stores = [
        resource("MemoryStore", "a", embedding={"provider": "wordllama", "dimensions": 256}),
        resource("MemoryStore", "b", embedding={"provider": "openai", "model": "small", "credentials": ref}),
        resource("MemoryStore", "c", embedding={"provider": "openai", "model": "with the key of each agent"}),
        resource(
            "MemoryStore", "d", embedding={"provider": "openai-compatible", "model": "m", "baseURL": "http://v/v1"}
        ),
    ]
    field = "spec.embedding.model"
    asked = Target("team", "https://api.openai.com/v1/models", "openai", "keys", "vectors", (), field)
    assert reachable.targets(stores) == {
        asked: ["small"],
        Target("team", "http://v/v1/models", "openai", None, None, (), field): ["m"],
    }
    told = reachable.provider(asked, {"error": "name", "detail": "x"})
    assert "correct spec.embedding.baseURL" in str(told.fix)


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        ({"status": 200, "missing": []}, "ok", "answers"),
        ({"status": 200, "missing": ["m"]}, "warning", "does not list m"),
        ({"status": 401, "missing": []}, "failure", "refuses the key"),
        ({"status": 404, "missing": []}, "warning", "no list of models"),
        ({"status": 503, "missing": []}, "failure", "answers 503"),
        ({"error": "name", "detail": "unknown"}, "failure", "the name is not known"),
        ({"error": "connection", "detail": "Connection refused"}, "failure", "cannot be reached: Connection refused"),
        ({"error": "key", "detail": ""}, "failure", "the key cannot be sent"),
        ({"error": "skipped", "detail": "why"}, "warning", "was not asked: why"),
    ],
)
def test_what_a_provider_answers(answer: dict[str, Any], level: str, words: str) -> None:
    found = reachable.provider(Target("team", "http://llm/v1/models", "openai", "keys", "openai"), answer)
    assert (found.level, words in found.message) == (level, True), found


def test_the_report() -> None:
    found = [ok("CRDs", "are there"), warning("Metrics", "no", "install it"), failure("Storage", "none", "make one")]
    assert exit_code(found) == 1
    assert exit_code(found[:2]) == 0
    assert "".join(map(as_text, found)).splitlines() == [
        "✓ CRDs          are there",
        "! Metrics       no",
        "                → install it",
        "✗ Storage       none",
        "                → make one",
    ]
    data = json.loads(as_json(found))
    assert data["healthy"] is False
    assert data["checks"][2] == {"check": "Storage", "level": "failure", "message": "none", "fix": "make one"}


# --- what its pods run ---
@pytest.mark.parametrize(("provider", "header"), [("openai", "authorization"), ("anthropic", "x-api-key")])
def test_a_provider_is_asked_with_the_key(provider: str, header: str) -> None:
    with serve(lambda _: Reply(body=b'{"data": [{"id": "known"}]}')) as server:
        answer = inside.ask(f"{server.url}/v1/models", provider, KEY, ["known", "unknown"])
    assert answer == {"status": 200, "missing": ["unknown"]}
    assert KEY in server.seen[0].headers[header]


def test_a_key_goes_to_no_other_host() -> None:
    with (
        serve(lambda _: Reply()) as other,
        serve(lambda _: Reply(302, headers={"Location": other.url})) as server,
    ):
        assert inside.ask(server.url, "openai", KEY, []) == {"status": 302, "missing": []}
    assert other.seen == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://nowhere.invalid/v1"])
def test_who_does_not_answer(url: str) -> None:
    answer = inside.ask(url, "openai", KEY, [])
    assert answer["error"] in ("connection", "name")
    assert KEY not in json.dumps(answer)


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\u2028"])
def test_a_key_with_a_line_end_is_not_told_either(key: str) -> None:
    with serve(lambda _: Reply()) as server:
        assert inside.ask(server.url, "openai", key, []) == {"error": "key", "detail": ""}


def test_ports_are_looked_at_until_they_are_as_wanted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert inside.reach("127.0.0.1", [port], [1], 60) == {str(port): True, "1": False}
        # What should be closed is open: it is said once the time is over.
        assert inside.reach("127.0.0.1", [], [port], 0) == {str(port): True}


def test_pods_run_the_text_of_the_module(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    text = Path(inside.__file__).read_text().replace(inside.ANSWER, str(answer))
    command = [sys.executable, "-I", "-c", text, "reach", "127.0.0.1", "[]", "[1]", "0"]
    subprocess.run(command, check=True)
    assert json.loads(answer.read_text()) == {"1": False}
