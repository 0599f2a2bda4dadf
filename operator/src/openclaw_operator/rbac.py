"""Every right the operator uses, with its reason; the chart and the documentation are checked against this list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import yaml

Scope = Literal["served", "cluster"]
# get: an object that is in the way is looked at by name, for the watches only tell of the operator's own.
_CHILD = ("get", "list", "watch", "create", "patch", "delete")


@dataclass(frozen=True)
class Rule:
    """One rule of a (Cluster)Role. `scope` served: a Role in each served namespace is enough."""

    api_group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str
    scope: Scope = "served"


RULES: tuple[Rule, ...] = (
    Rule(
        "openclaw.io",
        ("agents", "skills", "memorystores", "memoryrestores"),
        ("list", "watch"),
        "Read what users ask for. Specs are never written.",
    ),
    Rule(
        "openclaw.io",
        ("memorystores",),
        ("patch",),
        "Set and take away the finalizer of deletionPolicy Snapshot; nothing else of a resource is written.",
    ),
    Rule(
        "openclaw.io",
        ("agents/status", "skills/status", "memorystores/status", "memoryrestores/status"),
        ("patch",),
        "Report what was observed.",
    ),
    Rule(
        "openclaw.io",
        ("agents/finalizers", "skills/finalizers", "memorystores/finalizers", "memoryrestores/finalizers"),
        ("update",),
        "Set blockOwnerDeletion on children where the OwnerReferencesPermissionEnforcement plugin is on.",
    ),
    Rule("apps", ("deployments",), _CHILD, "Gateways of Agents; watched to repair drift and report readiness."),
    Rule("apps", ("statefulsets",), _CHILD, "Qdrant, PostgreSQL and Redis of MemoryStores."),
    Rule("batch", ("cronjobs",), _CHILD, "Backups of MemoryStores."),
    Rule(
        "batch",
        ("jobs",),
        ("get", "list", "watch", "create"),
        "Run a MemoryRestore, or the last backup of a MemoryStore, once.",
    ),
    Rule("autoscaling", ("horizontalpodautoscalers",), _CHILD, "Autoscaling of gateways."),
    Rule(
        "policy",
        ("poddisruptionbudgets",),
        _CHILD,
        "Keep gateways, activators and Qdrant there through node drains.",
    ),
    Rule("networking.k8s.io", ("ingresses",), _CHILD, "Ways to gateways from outside, for Agents that ask for one."),
    Rule(
        "gateway.networking.k8s.io",
        ("httproutes",),
        _CHILD,
        "The same through a Gateway, where the Gateway API is installed.",
    ),
    Rule(
        "monitoring.coreos.com",
        ("servicemonitors",),
        _CHILD,
        "Scraping of gateways, for Agents that ask for it, where the Prometheus Operator is installed.",
    ),
    Rule("keda.sh", ("scaledobjects",), _CHILD, "Autoscaling of gateways by KEDA, where it is installed."),
    Rule("networking.k8s.io", ("networkpolicies",), _CHILD, "Close gateways, stores and sandbox pods off."),
    Rule("", ("services", "serviceaccounts"), _CHILD, "Addresses and identities of gateways and stores."),
    Rule("", ("persistentvolumeclaims",), _CHILD, "Workspaces of Agents."),
    Rule(
        "",
        ("configmaps",),
        _CHILD,
        "Rendered configuration and skill packages. Users' ConfigMaps that an Agent's soul or a Skill's source names "
        "are read by name; of all others only metadata is seen, to notice when a named one changes.",
    ),
    Rule(
        "",
        ("secrets",),
        _CHILD,
        "Generated tokens, store credentials and the sandbox signing key. Lists and watches select the operator's own "
        "by label; a user's Secret is only read by the name a resource gives, to check that the key is there, or to "
        "fetch a Skill's package with it.",
    ),
    Rule(
        "",
        ("pods",),
        ("get", "list", "watch", "create", "delete"),
        "Keep pools of warm sandbox pods, replace used ones; say why those of a gateway or a server do not get ready. "
        "get is granted on to gateways, see roles.",
    ),
    Rule(
        "rbac.authorization.k8s.io",
        ("roles", "rolebindings"),
        _CHILD,
        "Let a gateway read its skill packages and watch sandbox pods. It grants nothing the operator does not have.",
    ),
    Rule("events.k8s.io", ("events",), ("create",), "Tell the user in `kubectl describe` when something changes."),
)


def policy_rules(scope: Scope | None = None) -> list[dict[str, Any]]:
    """The rules as a (Cluster)Role's `rules`; only those of one scope where given."""
    return [
        {"apiGroups": [rule.api_group], "resources": list(rule.resources), "verbs": list(rule.verbs)}
        for rule in RULES
        if scope is None or rule.scope == scope
    ]


def to_yaml() -> str:
    """A ClusterRole's `rules` as YAML, each with its reason as a comment."""
    lines = ["rules:"]
    for rule, data in zip(RULES, policy_rules(), strict=True):
        lines.append(f"  # {rule.reason}")
        body = yaml.safe_dump([data], sort_keys=False, default_flow_style=None, width=200).rstrip()
        lines.extend(f"  {line}" for line in body.splitlines())
    return "\n".join(lines) + "\n"
