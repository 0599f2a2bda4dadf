"""The generated CRDs: current, structural, small, and every field explained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from openclaw_operator.api import crds

CRDS = Path(__file__).parents[3] / "crds"
KINDS = [kind["kind"] for kind in crds.KINDS]


def schema_of(kind: str) -> dict[str, Any]:
    found = crds.crd(next(item for item in crds.KINDS if item["kind"] == kind))
    schema: dict[str, Any] = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def test_files_are_what_the_models_say() -> None:
    assert crds.main(["--check", str(CRDS)]) == 0


def test_check_tells_of_a_difference(tmp_path: Path) -> None:
    told: list[str] = []
    assert crds.main([str(tmp_path)]) == 0
    assert crds.main(["--check", str(tmp_path)], told.append) == 0
    (tmp_path / "openclaw.io_agents.yaml").write_text("other")
    assert crds.main(["--check", str(tmp_path)], told.append) == 1
    assert "openclaw.io_agents.yaml differ from the models; fix: openclaw-crds" in told[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_explained(kind: str) -> None:
    missing = [
        path
        for path, node in nodes(schema_of(kind))
        if path and not path.endswith("[]") and path != ".metadata" and not node.get("description")
    ]
    assert missing == []


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_structural(kind: str) -> None:
    """https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema"""
    text = yaml.safe_dump(schema_of(kind))
    assert "$ref" not in text
    for path, node in nodes(schema_of(kind)):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert not ("properties" in node and "additionalProperties" in node), path
        if node.get("type") == "array":
            assert node.get("x-kubernetes-list-type"), path


@pytest.mark.parametrize("kind", KINDS)
def test_rules_say_what_to_do(kind: str) -> None:
    for path, node in nodes(schema_of(kind)):
        for rule in node.get("x-kubernetes-validations", []):
            assert any(word in rule["message"] for word in ("set ", "must", "add ", "needs", "name ", "make")), path


def test_an_agent_can_be_scaled() -> None:
    agent = yaml.safe_load((CRDS / "openclaw.io_agents.yaml").read_text())
    assert agent["spec"]["versions"][0]["subresources"]["scale"] == {
        "specReplicasPath": ".spec.gateway.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
