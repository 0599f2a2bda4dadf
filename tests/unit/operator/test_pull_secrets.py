"""Every pod that is made pulls its images with the operator's secrets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from openclaw_operator.reconcile.controller import egress_options, images
from openclaw_operator.resources import agent
from openclaw_operator.resources.pool import pool_for
from openclaw_operator.settings import load_settings
from tests.unit.operator import builders, test_golden
from tests.unit.operator.builders import agent_inputs, skill_spec

REGISTRY = {"name": "registry"}
WITH = load_settings({"OPENCLAW_OPERATOR_IMAGE_PULL_SECRETS": "registry"})


def pods(node: Any) -> Iterator[dict[str, Any]]:
    """Every pod spec somewhere in an object."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for value in node.values():
            yield from pods(value)
    elif isinstance(node, list):
        for value in node:
            yield from pods(value)


def test_every_pod_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every object that the golden files know."""
    with_secrets = replace(builders.IMAGES, pull_secrets=images(WITH).pull_secrets)
    monkeypatch.setattr(builders, "IMAGES", with_secrets)
    monkeypatch.setattr(test_golden, "IMAGES", with_secrets)
    monkeypatch.setattr(test_golden, "EGRESS", replace(builders.EGRESS, pull_secrets=egress_options(WITH).pull_secrets))
    made = {
        f"{case}: {item['kind']} {item['metadata']['name']}": pod
        for case, objects in test_golden.cases().items()
        for item in objects
        for pod in pods(item)
    }
    assert {key.split()[1] for key in made} == {"CronJob", "Deployment", "Job", "Pod", "StatefulSet"}
    assert [name for name, pod in made.items() if REGISTRY not in pod.get("imagePullSecrets", ())] == []


def test_an_agents_own_come_beside_them() -> None:
    own = {"gateway": {"imagePullSecrets": [{"name": "mine"}, REGISTRY]}}
    inputs = agent_inputs("ada", own)
    inputs = replace(inputs, images=replace(inputs.images, pull_secrets=("registry",)))
    (gateway,) = pods(agent.build(inputs))
    assert gateway["imagePullSecrets"] == [REGISTRY, {"name": "mine"}]


def test_sandbox_pods_that_wait_for_their_image_are_replaced() -> None:
    """A pod keeps the secrets it was made with, so pods with others are another pool's."""

    def pool(*names: str) -> str:
        made = pool_for("ada", agent_inputs("ada", {}).spec, skill_spec(), replace(builders.IMAGES, pull_secrets=names))
        assert made
        return made.id

    assert len({pool(), pool("one"), pool("two")}) == 3
