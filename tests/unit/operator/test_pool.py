from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live, observe
from openclaw_operator.reconcile.pool_plan import plan
from openclaw_operator.reconcile.signing import SigningKeys
from openclaw_operator.resources import sandbox
from openclaw_operator.resources.pool import Pool, PoolShape, effective_level, is_marked_trusted, merge, pool_for
from tests.unit.operator.builders import IMAGES, agent_inputs, skill_spec

KEY = "key-of-today"
LABEL = SigningKeys(KEY).label


def wanted(warm: int = 2, busy: int = 3) -> Pool:
    found = pool_for("ada", agent_inputs("ada", {}).spec, skill_spec(), IMAGES)
    assert found is not None
    return Pool(found.shape, warm, busy)


def pod(
    name: str,
    *,
    phase: str = "Running",
    ready: bool = True,
    pool: str | None = None,
    key: str = LABEL,
    labels: dict[str, str] | None = None,
) -> Live:
    return observe(
        BY_NAME["Pod"],
        {
            "metadata": {
                "name": name,
                "namespace": "demo",
                "uid": name,
                "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {
                    "openclaw.io/pool": pool or wanted().id,
                    "openclaw.io/signing-key": key,
                    **(labels or {"openclaw.io/egress": "none"}),
                },
            },
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]},
        },
    )


def decide(pool: Pool | None, pods: list[Live], served: set[str] | None = None, **state: Any) -> tuple[int, set[str]]:
    pools = {pool.id: pool} if pool else {}
    keys = state.pop("keys", SigningKeys(KEY))
    made = plan(pools, pods, {item.uid for item in pods if item.facts["ready"]} | (served or set()), keys, **state)
    return sum(made.create.values()), {item.name for item in made.delete}


def test_missing_pods_are_made() -> None:
    assert decide(wanted(), []) == (2, set())
    assert decide(wanted(), [pod("a", ready=False)]) == (1, set())
    assert decide(wanted(), [pod("a"), pod("b")]) == (0, set())


def test_used_pods_are_replaced_while_they_work() -> None:
    busy = pod("a", ready=False)
    assert decide(wanted(), [busy, pod("b")], {"a"}) == (1, set())


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_finished_pods_go(phase: str) -> None:
    assert decide(wanted(), [pod("a", phase=phase, ready=False), pod("b")], {"a"}) == (1, {"a"})


def test_a_pod_whose_egress_class_was_changed_is_replaced() -> None:
    assert decide(wanted(), [pod("a", labels={"openclaw.io/egress": "proxied"}), pod("b")]) == (1, {"a"})


def test_readiness_that_flaps_does_not_make_pods_without_end() -> None:
    flapping = [pod(str(number), ready=False) for number in range(5)]
    assert decide(wanted(warm=2, busy=3), flapping, {item.uid for item in flapping}) == (0, set())


def test_pods_that_are_being_deleted_still_work_and_one_that_never_ends_stops_nothing() -> None:
    pool = wanted(warm=2, busy=1)
    ending = [replace(pod(name), deleting=True) for name in "abc"]
    assert decide(pool, ending[:1]) == (2, set())
    assert decide(pool, [*ending[:1], pod("x", ready=False)], served={"x"}) == (1, set())
    over = replace(pod("a", phase="Succeeded"), deleting=True)
    assert decide(pool, [over, pod("x", ready=False)], served={"x"}) == (2, set())
    assert decide(pool, ending) == (2, set())


def test_surplus_goes_unready_first() -> None:
    assert decide(wanted(warm=1), [pod("a"), pod("b", ready=False)]) == (0, {"b"})


def test_pools_nobody_wants_end_but_calls_do_not() -> None:
    assert decide(None, [pod("idle"), pod("busy", ready=False)], {"busy"}) == (0, {"idle"})


def test_pods_of_an_older_key_are_replaced_when_idle() -> None:
    old = [pod("idle", key="old"), pod("busy", ready=False, key="old")]
    assert decide(wanted(), old, {"busy"}) == (2, {"idle"})


def test_pods_that_trust_too_many_keys_or_too_few_go_once_others_are_ready() -> None:
    """A rotation never leaves a pool without a pod that today's gateways can call."""
    rotating = SigningKeys(KEY, ("key-of-tomorrow",))
    old = [pod("a"), pod("b"), pod("starting", ready=False)]
    assert decide(wanted(), old, keys=rotating) == (2, {"starting"})
    new = [pod("c", key=rotating.label), pod("d", key=rotating.label, ready=False)]
    assert decide(wanted(), old[:2] + new, keys=rotating) == (0, set())
    assert decide(wanted(), old[:2] + new[:1], keys=rotating, cramped={wanted().id}) == (1, {"a"})
    ready = [pod("c", key=rotating.label), pod("d", key=rotating.label)]
    assert decide(wanted(), old[:2] + ready, keys=rotating) == (0, {"a", "b"})
    # Once tomorrow's key signs, the very same pods are up to date.
    assert SigningKeys("key-of-tomorrow", (KEY,)).label == rotating.label
    # And when the old one is no longer trusted, they are replaced in the same way.
    assert decide(wanted(), ready, keys=SigningKeys("key-of-tomorrow")) == (2, set())


def test_while_an_agent_has_not_spoken_nothing_that_may_be_wanted_goes() -> None:
    pods = [pod("a"), pod("b"), pod("c"), pod("other", pool="x"), pod("ended", phase="Failed"), pod("old", key="old")]
    assert decide(wanted(), pods, complete=False) == (0, {"ended", "old"})
    assert decide(wanted(), pods[3:4], complete=False) == (2, set())


def test_pods_of_a_pool_that_retires_wait_for_their_last_callers() -> None:
    pods = [pod("a", pool="x"), pod("b", pool="x", phase="Succeeded"), pod("c", pool="x", ready=False)]
    assert decide(wanted(), pods, retiring={"x"}) == (2, {"b", "c"})


@pytest.mark.parametrize(
    ("turned", "started", "was_ready"),
    [
        ("2026-01-01T00:00:05Z", "2026-01-01T00:00:02Z", True),
        ("2026-01-01T00:00:02Z", "2026-01-01T00:00:02Z", False),
        ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", False),
        ("2026-01-01T00:00:05Z", None, False),
    ],
)
def test_a_pod_shows_that_it_was_ready(turned: str, started: str | None, was_ready: bool) -> None:
    """An operator that has just started must not take a pod at work for one that is starting."""
    state = {"running": {"startedAt": started}} if started else {"waiting": {"reason": "ContainerCreating"}}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": turned}],
        "containerStatuses": [{"state": state}],
    }
    meta = {"name": "a", "namespace": "demo", "uid": "a", "resourceVersion": "1", "creationTimestamp": turned}
    assert observe(BY_NAME["Pod"], {"metadata": meta, "status": status}).facts["was_ready"] is was_ready


def test_leased_pods_are_replaced_but_never_take_the_place_of_calls() -> None:
    """Three calls at once, so three idle leases beside them: the seventh pod in use is not replaced."""
    spec = agent_inputs("ada", {"execution": {"sandbox": {"level": "restricted"}}}).spec
    found = pool_for("ada", spec, skill_spec(sandbox={"level": "restricted"}), IMAGES)
    assert found is not None
    pool = Pool(found.shape, 2, found.busy)
    in_use = [pod(str(number), ready=False, pool=pool.id) for number in range(7)]
    names = {item.uid for item in in_use}
    assert decide(pool, in_use[:5], names) == (2, set())
    assert decide(pool, in_use, names) == (1, set())


def test_leased_pods_are_a_pool_of_their_own() -> None:
    agent = agent_inputs("ada", {"execution": {"sandbox": {"level": "trusted"}}}).spec
    levels = ("isolated", "restricted", "trusted")
    pools = [pool_for("ada", agent, skill_spec(sandbox={"level": level}), IMAGES) for level in levels]
    assert pools[2] is None
    assert pools[0]
    assert pools[1]
    assert pools[0].id != pools[1].id
    for pool in (pools[0], pools[1]):
        (container,) = sandbox.pod("demo", pool.shape, "abcde", "keys", "label", "Always")["spec"]["containers"]
        levels_set = [item["value"] for item in container["env"] if item["name"] == "OPENCLAW_SANDBOX_LEVEL"]
        assert levels_set == (["restricted"] if pool.shape.leased else [])
        assert container["readinessProbe"]["failureThreshold"] == 1


@pytest.mark.parametrize(
    ("marks", "trusted"),
    [((), False), (("demo/git",), True), (("demo/*",), True), (("demo/gi", "other/*", "other/git"), False)],
)
def test_only_marked_skills_are_trusted(marks: tuple[str, ...], trusted: bool) -> None:
    assert is_marked_trusted("demo", "git", marks) is trusted


def test_equal_shapes_share_a_pool() -> None:
    agent = agent_inputs("ada", {}).spec
    plain = skill_spec(permissions=[], sandbox={"warm": 1})
    one = pool_for("ada", agent, plain, IMAGES)
    two = pool_for("bob", agent, skill_spec(permissions=[], sandbox={"warm": 4}), IMAGES)
    assert one
    assert two
    assert one.id == two.id
    assert merge([one, two])[one.id] == Pool(one.shape, 4, 6)
    limited = [Pool(one.shape, 1, 3, max_warm=most) for most in (5, 9)]
    assert merge(limited)[one.id].most == 9
    assert merge([*limited, one])[one.id].most == 9
    assert merge([one, two])[one.id].most == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"permissions": ["filesystem:read"]},
        {"permissions": ["network:external"]},
        {"resources": {"limits": {"memory": "1Gi"}}},
        {"sandbox": {"runtimeClassName": "gvisor"}},
    ],
)
def test_other_shapes_are_other_pools(changes: dict[str, Any]) -> None:
    agent = agent_inputs("ada", {}).spec
    plain = pool_for("ada", agent, skill_spec(permissions=[]), IMAGES)
    other = pool_for("ada", agent, skill_spec(**{"permissions": [], **changes}), IMAGES)
    assert plain
    assert other
    assert plain.id != other.id


def test_only_pods_that_would_see_an_agents_own_data_are_other_pods() -> None:
    stored = agent_inputs("ada", {"memory": {"storeRef": {"name": "mem"}}}).spec
    embedded = agent_inputs("ada", {}).spec
    for permissions, same in (([], True), (["filesystem:read"], False), (["filesystem:write"], False)):
        pools = [pool_for("ada", agent, skill_spec(permissions=permissions), IMAGES) for agent in (stored, embedded)]
        assert (pools[0] == pools[1]) is same


def test_workspaces_are_not_shared() -> None:
    agent = agent_inputs("ada", {}).spec
    ids = {pool.id for name in ("ada", "bob") if (pool := pool_for(name, agent, skill_spec(), IMAGES))}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("agent", "skill", "level"),
    [
        ("isolated", "trusted", "isolated"),
        ("trusted", "isolated", "isolated"),
        ("restricted", "trusted", "restricted"),
        ("trusted", "trusted", "trusted"),
    ],
)
def test_the_stricter_level_counts(agent: str, skill: str, level: str) -> None:
    spec = AgentSpec.model_validate(
        {"model": {"name": "m"}, "execution": {"sandbox": {"level": agent}}},
    )
    assert effective_level(spec, skill_spec(sandbox={"level": skill})) == level
    assert (pool_for("ada", spec, skill_spec(sandbox={"level": skill}), IMAGES) is None) is (level == "trusted")


def test_a_runtime_decides_the_image_and_what_its_process_starts_with() -> None:
    agent = agent_inputs("ada", {}).spec
    execute = ["process:execute"]

    def shape(runtime: str, permissions: list[str], **more: object) -> PoolShape:
        found = pool_for("ada", agent, skill_spec(runtime=runtime, permissions=permissions, **more), IMAGES)
        assert found is not None
        return found.shape

    assert shape("bash", execute) == shape("python", execute)
    node = shape("node", ["network:internal"])
    assert (node.image, node.runtime, node.allowances) == (IMAGES.sandbox_node, "node", ("network:external",))
    assert len({node.id, shape("node", []).id, shape("node", execute).id}) == 3
    own = shape("image", execute, image="tool:1", command=["/bin/tool"])
    assert (own.image, own.runner_image, own.runtime) == ("tool:1", IMAGES.sandbox, "image")
    made = sandbox.pod("space", own, "abcde", "key", signing="00", pull_policy="Always")["spec"]
    assert made["initContainers"][0]["image"] == IMAGES.sandbox
    assert made["containers"][0]["command"][0] == "/opt/openclaw/bin/python3"
    assert made["initContainers"][0]["securityContext"] == made["containers"][0]["securityContext"]


def test_only_python_runs_in_a_gateway() -> None:
    spec = agent_inputs("ada", {}).spec.model_copy(deep=True)
    spec.execution.sandbox.level = "trusted"
    skill = skill_spec(runtime="bash", permissions=["process:execute"], sandbox={"level": "trusted"})
    assert effective_level(spec, skill) == "isolated"
