"""The operator's rights: each has a reason, and it can only pass on what it has itself."""

from __future__ import annotations

import pytest
import yaml

from openclaw_operator import rbac
from openclaw_operator.cluster.kinds import CHILDREN, EVENT, PRIMARY, Kind
from openclaw_operator.main import main
from openclaw_operator.resources import agent_identity
from tests.unit.operator.builders import agent_inputs


def allowed(group: str, resource: str) -> set[str]:
    return {
        verb for rule in rbac.RULES if rule.api_group == group and resource in rule.resources for verb in rule.verbs
    }


@pytest.mark.parametrize("kind", CHILDREN, ids=lambda kind: kind.name)
def test_children_can_be_kept(kind: Kind) -> None:
    change = {"Pod": {"delete"}, "Job": set()}.get(kind.name, {"patch", "delete"})
    assert {"list", "watch", "create"} | change <= allowed(kind.group, kind.plural)


@pytest.mark.parametrize("kind", PRIMARY, ids=lambda kind: kind.name)
def test_specs_of_users_cannot_be_written(kind: Kind) -> None:
    # The API server knows no right to finalizers alone: that of MemoryStores is used for nothing else.
    finalizer = {"patch"} if kind.name == "MemoryStore" else set()
    assert allowed(kind.group, kind.plural) == {"list", "watch"} | finalizer
    assert allowed(kind.group, f"{kind.plural}/status") == {"patch"}


def test_nothing_beyond_what_is_used() -> None:
    kinds = {(kind.group, kind.plural) for kind in (*CHILDREN, *PRIMARY, EVENT)}
    for rule in rbac.RULES:
        assert rule.reason
        assert not {"*", "escalate", "bind", "impersonate", "deletecollection"} & set(rule.verbs)
        for resource in rule.resources:
            assert (rule.api_group, resource.split("/")[0]) in kinds


def test_roles_of_gateways_grant_nothing_the_operator_lacks() -> None:
    for rule in agent_identity.role(agent_inputs("ada", {}, skills=True))["rules"]:
        for resource in rule["resources"]:
            assert set(rule["verbs"]) <= allowed(rule["apiGroups"][0], resource)


def test_command_prints_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac"]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["rules"] == rbac.policy_rules()
    assert all(f"# {rule.reason}" in text for rule in rbac.RULES)
