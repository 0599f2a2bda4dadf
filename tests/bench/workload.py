"""The Agents of the benchmark, and the children every one of them gets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.resources import secrets
from openclaw_operator.resources.agent import build
from openclaw_operator.resources.agent_identity import TOKEN_KEY, token_secret_name
from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import APPLIED_HASH, Images, Owner, digest
from tests.bench.api import Object

# Names a replacement finds nowhere else in the children.
PLACEHOLDER = "bench-placeholder"
PLACEHOLDER_NAMESPACE = "templates-of-children"
PLACEHOLDER_UID = "00000000-0000-4000-8000-000000000000"
_IMAGES = ("runtime", "sandbox", "sandbox_node", "qdrant", "postgresql", "redis", "backup")


def agent(name: str, namespace: str) -> Object:
    """An agent as a first-time user writes it: a soul, a model behind an address, embedded memory."""
    return {
        "apiVersion": "openclaw.io/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "role": "assistant",
            "description": "Answers questions about the benchmark.",
            "soul": {"inline": "You answer in one sentence. You say so when you do not know."},
            "model": {"provider": "local", "name": "stand-in", "baseURL": "http://llm.invalid:8000/v1"},
        },
    }


def poisoned(name: str, namespace: str) -> Object:
    """An agent whose Deployment the API server refuses each time: its nodeSelector names what can be no label."""
    item = agent(name, namespace)
    item["spec"]["gateway"] = {"nodeSelector": {"no label!": "x"}}
    return item


def namespaces_for(count: int, per_namespace: int) -> list[str]:
    """The namespace of each of `count` agents."""
    return [f"bench-{index // per_namespace}" for index in range(count)]


@dataclass(frozen=True)
class Templates:
    """The children of one Agent with placeholders for what differs from Agent to Agent."""

    name: str
    namespace: str
    uid: str
    children: tuple[Object, ...]

    def to_json(self) -> str:
        return json.dumps(
            {"name": self.name, "namespace": self.namespace, "uid": self.uid, "children": list(self.children)}
        )

    @classmethod
    def from_json(cls, text: str) -> Templates:
        data: dict[str, Any] = json.loads(text)
        return cls(data["name"], data["namespace"], data["uid"], tuple(data["children"]))

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """(kind, name with placeholder) of each child."""
        return tuple((child["kind"], child["metadata"]["name"]) for child in self.children)


def build_templates() -> Templates:
    """The children of the benchmark's Agent, made by the operator's own builders for a placeholder."""
    manifest = agent(PLACEHOLDER, PLACEHOLDER_NAMESPACE)
    spec = AgentSpec.model_validate(manifest["spec"])
    owner = Owner("Agent", PLACEHOLDER, PLACEHOLDER_NAMESPACE, PLACEHOLDER_UID)
    names = {name: f"openclaw.local/{name}:bench" for name in _IMAGES}
    images = Images(**names, pull_policy="IfNotPresent", pull_secrets=())
    soul = manifest["spec"]["soul"]["inline"]
    inputs = AgentInputs(owner, spec, soul, images, store=None, skills=(), team=())
    token = secrets.generated(token_secret_name(owner), owner, "gateway", {TOKEN_KEY: b"0" * 43})
    children = tuple({**child, "metadata": _hashed(child)} for child in (token, *build(inputs)))
    return Templates(PLACEHOLDER, PLACEHOLDER_NAMESPACE, PLACEHOLDER_UID, children)


def _hashed(child: Object) -> Object:
    """Metadata with the annotation the operator adds to what it applies: the same bytes for everybody."""
    metadata = child["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED_HASH: digest(child)}
    return {**metadata, "annotations": annotations}
