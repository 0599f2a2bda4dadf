"""What users get wrong: the API server refuses it, or a condition names the field and the fix, and nothing storms."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import yaml

from openclaw_operator.cluster.kinds import CHILDREN
from openclaw_operator.errors import RejectedError
from tests.integration.operator.conftest import Audit, Cluster, condition, exists
from tests.integration.operator.manifests import AGENT, FULL_AGENT, RESTORE, SKILL, STORE
from tests.integration.operator.process import Operator

# How long the operator is watched for requests it should not make, and how many a look-out may cost in that time.
OBSERVED_SECONDS = 3.0
LOOKOUT_REQUESTS = 4
# Longer than the operator waits to say who uses a skill, so that agents that come together cost one write.
SETTLED_SECONDS = 2.5
SETTLE_ROUNDS = 5
# Every fifteen seconds it looks why a workload is not ready, every thirty whether an add-on has come: in that time once
# at each of those there are.
LOOKED_AT = {("list", "pods", ""): 8} | {("stream", kind.plural, ""): 1 for kind in CHILDREN if kind.from_addon}
NOT_WATCHES = ("get", "list", "stream", "create", "update", "patch", "delete")
HASH = "0" * 64
OCI = {"reference": f"ghcr.io/acme/echo:1.2.0@sha256:{HASH}"}
NIGHTLY = {"name": "nightly", "schedule": "0 2 * * *"}
ARCHIVE = {"url": "https://example.org/echo.tar.gz", "sha256": HASH}


def changed(manifest: str, path: str, value: Any) -> str:
    """A manifest with one field set; `path` is dotted, digits index lists."""
    item = yaml.safe_load(manifest)
    *parents, last = path.split(".")
    node = item
    for part in parents:
        node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
    node[int(last) if last.isdigit() else last] = value
    return yaml.safe_dump(item)


MCP_SKILL = changed(changed(SKILL, "spec.actions", []), "spec.mcp", {"command": ["python", "server.py"]})

REFUSED = {
    "unknown field": (AGENT, "spec.modle", {}, 'unknown field "spec.modle"'),
    "unknown nested field": (AGENT, "spec.gateway.replica", 1, 'unknown field "spec.gateway.replica"'),
    "affinity of the wrong type": (
        AGENT,
        "spec.gateway.affinity",
        {"nodeAffinity": "x"},
        "spec.gateway.affinity.nodeAffinity",
    ),
    "negative replicas": (AGENT, "spec.gateway.replicas", -1, "spec.gateway.replicas"),
    "replicas with embedded memory": (AGENT, "spec.gateway.replicas", 2, "set memory.storeRef to a MemoryStore"),
    "autoscaling with embedded memory": (AGENT, "spec.gateway.autoscaling", {}, "cannot be autoscaled"),
    "min above max": (FULL_AGENT, "spec.gateway.autoscaling", {"minReplicas": 11}, "lower minReplicas"),
    "KEDA without Prometheus": (
        FULL_AGENT,
        "spec.gateway.autoscaling",
        {"scaler": "KEDA", "inFlightTurns": 5},
        "set prometheusAddress",
    ),
    "rollout that cannot move": (
        FULL_AGENT,
        "spec.gateway.rollout",
        {"maxSurge": 0, "maxUnavailable": "0%"},
        "set maxSurge or maxUnavailable",
    ),
    "labels of a monitor that are the operator's": (
        AGENT,
        "spec.observability.serviceMonitor",
        {"labels": {"app.kubernetes.io/name": "mine"}},
        "name others in labels",
    ),
    "traces to what is no base URL": (
        AGENT,
        "spec.observability.traces",
        {"endpoint": "http://collector:4318?token=x"},
        "spec.observability.traces.endpoint",
    ),
    "spread over what is no label": (
        AGENT,
        "spec.gateway.topologySpread",
        [{"topologyKey": "f\U0009826f"}],
        "spec.gateway.topologySpread[0].topologyKey",
    ),
    "labels of a monitor that are none": (
        AGENT,
        "spec.observability.serviceMonitor",
        {"labels": {"release": "not a label"}},
        "spec.observability.serviceMonitor.labels.release",
    ),
    "route to nowhere": (AGENT, "spec.gateway.httpRoute", {"parentRefs": []}, "spec.gateway.httpRoute.parentRefs"),
    "no model server": (AGENT, "spec.model", {"provider": "local", "name": "m"}, "set model.baseURL"),
    "no API key": (AGENT, "spec.model", {"provider": "openai", "name": "m"}, "set model.credentials.secretKeyRef"),
    "no server of a fallback": (
        AGENT,
        "spec.model.fallbacks",
        [{"provider": "local", "name": "m"}],
        "set baseURL beside provider",
    ),
    "no API key of a fallback": (
        AGENT,
        "spec.model.fallbacks",
        [{"provider": "groq", "name": "m"}],
        "set credentials.secretKeyRef beside provider",
    ),
    "no server of a candidate": (
        AGENT,
        "spec.model.candidates",
        [{"provider": "local", "name": "m"}],
        "set baseURL beside provider",
    ),
    "no API key of a candidate": (
        AGENT,
        "spec.model.candidates",
        [{"provider": "groq", "name": "m"}],
        "set credentials.secretKeyRef beside provider",
    ),
    "first pause above the longest": (
        AGENT,
        "spec.model.retry",
        {"baseDelayMilliseconds": 20000},
        "lower baseDelayMilliseconds or raise",
    ),
    "empty budget": (AGENT, "spec.model.budget", {}, "set perDay, perRequest or both"),
    "budget without prices": (AGENT, "spec.model.budget", {"perDay": 1}, "set pricing on each model"),
    "budget for no router": (AGENT, "spec.model.budget", {"perRequest": 1}, "set model.candidates, or perDay"),
    "price below nothing": (
        AGENT,
        "spec.model.pricing",
        {"inputPerMillion": -1, "outputPerMillion": 1},
        "spec.model.pricing.inputPerMillion",
    ),
    "two souls": (
        AGENT,
        "spec.soul",
        {"inline": "x", "configMapKeyRef": {"name": "a", "key": "b"}},
        "set exactly one of inline and configMapKeyRef",
    ),
    "broken range": (AGENT, "spec.skills", [{"name": "echo", "version": ">>1"}], "spec.skills[0].version"),
    "unknown provider": (AGENT, "spec.model.provider", "skynet", 'Unsupported value: "skynet"'),
    "bad quantity": (AGENT, "spec.workspace.size", "10 GB", "spec.workspace.size"),
    "empty team": (AGENT, "spec.team", {}, "name the team"),
    "two budgets": (
        AGENT,
        "spec.gateway.podDisruptionBudget",
        {"minAvailable": 1, "maxUnavailable": 1},
        "set minAvailable or maxUnavailable",
    ),
    "a token of one's own for an agent that sleeps": (
        AGENT,
        "spec.gateway",
        {"hibernation": {}, "auth": {"tokenSecretRef": {"name": "a", "key": "b"}}},
        "remove auth or hibernation",
    ),
    "two values": (
        AGENT,
        "spec.gateway.extraEnv",
        [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
        "set value or valueFrom",
    ),
    "no source of a value": (
        AGENT,
        "spec.gateway.extraEnv",
        [{"name": "A", "valueFrom": {}}],
        "set exactly one of secretKeyRef and configMapKeyRef",
    ),
    "image without a command": (SKILL, "spec.runtime", "image", "runtime image needs image and command"),
    "command without an image": (SKILL, "spec.command", ["/bin/tool"], "no other runtime has them"),
    "bash without programs": (SKILL, "spec.runtime", "bash", "add process:execute to permissions"),
    "long agent name": (AGENT, "metadata.name", "a" * 51, "at most 50 characters"),
    "long skill name": (SKILL, "metadata.name", "a" * 64, "at most 63 characters"),
    "long store name": (STORE, "metadata.name", "a" * 41, "at most 40 characters"),
    "no version": (SKILL, "spec.version", "1.2", "spec.version"),
    "two sources": (SKILL, "spec.source.configMapRef", {"name": "x"}, "set exactly one of inline, configMapRef"),
    "no digest": (SKILL, "spec.source", {"oci": {"reference": "ghcr.io/acme/echo:1.2.0"}}, "openclaw registry publish"),
    "no registry": (
        SKILL,
        "spec.source",
        {"oci": {"reference": f"acme/echo@sha256:{HASH}"}},
        "must be HOST/PATH[:VERSION]@sha256:DIGEST",
    ),
    "certificates without TLS": (
        SKILL,
        "spec.source",
        {"oci": {**OCI, "plainHTTP": True, "caBundleRef": {"name": "a", "key": "b"}}},
        "caBundleRef needs TLS",
    ),
    "archive without TLS": (
        SKILL,
        "spec.source",
        {"archive": {**ARCHIVE, "url": "http://example.org/echo.tar.gz"}},
        "or set plainHTTP: true",
    ),
    "credentials without TLS": (
        SKILL,
        "spec.source",
        {
            "archive": {
                "url": "http://example.org/x.zip",
                "sha256": HASH,
                "plainHTTP": True,
                "authorization": {"secretKeyRef": {"name": "a", "key": "b"}},
            }
        },
        "needs an https:// address",
    ),
    "folder above the archive": (
        SKILL,
        "spec.source",
        {"archive": {**ARCHIVE, "path": "../etc"}},
        "spec.source.archive.path",
    ),
    "empty signature": (SKILL, "spec.signature", {}, "set sha256, cosign or both"),
    "two keys": (
        SKILL,
        "spec.signature",
        {"cosign": {"publicKey": "x", "publicKeyRef": {"secretKeyRef": {"name": "a", "key": "b"}}, "signature": "x"}},
        "set exactly one of publicKey and publicKeyRef",
    ),
    "two places of a key": (
        SKILL,
        "spec.signature",
        {
            "cosign": {
                "publicKeyRef": {
                    "secretKeyRef": {"name": "a", "key": "b"},
                    "configMapKeyRef": {"name": "a", "key": "b"},
                },
                "signature": "x",
            }
        },
        "set exactly one of configMapKeyRef and secretKeyRef",
    ),
    "signature that is nowhere": (
        SKILL,
        "spec.signature",
        {"cosign": {"publicKey": "x"}},
        "set signature.cosign.signature",
    ),
    "unknown permission": (SKILL, "spec.permissions", ["root"], 'Unsupported value: "root"'),
    "domains without permission": (SKILL, "spec.allowedDomains", ["example.org"], "network:external"),
    "a URL for a domain": (SKILL, "spec.allowedDomains", ["https://example.org/"], "spec.allowedDomains"),
    "fewer pods at most than always": (SKILL, "spec.sandbox", {"maxWarm": 1}, "raise maxWarm or lower warm"),
    "incomplete trigger": (SKILL, "spec.triggers", [{"type": "cron", "schedule": "0 0 * * *"}], "schedule and action"),
    "schedule of nothing": (AGENT, "spec.schedules", [NIGHTLY], "set exactly one of prompt and skill"),
    "schedule of two things": (
        FULL_AGENT,
        "spec.schedules",
        [{**NIGHTLY, "prompt": "x", "skill": {"name": "echo", "action": "say"}}],
        "set exactly one of prompt and skill",
    ),
    "schedule of another's skill": (
        FULL_AGENT,
        "spec.schedules",
        [{**NIGHTLY, "skill": {"name": "other", "action": "say"}}],
        "a schedule calls one of the agent's skills",
    ),
    "schedule without skills": (
        AGENT,
        "spec.schedules",
        [{**NIGHTLY, "skill": {"name": "echo", "action": "say"}}],
        "a schedule calls one of the agent's skills",
    ),
    "schedule in words": (
        AGENT,
        "spec.schedules",
        [{**NIGHTLY, "schedule": "every night", "prompt": "x"}],
        "spec.schedules[0].schedule",
    ),
    "two schedules of a name": (
        AGENT,
        "spec.schedules",
        [{**NIGHTLY, "prompt": "x"}, {**NIGHTLY, "prompt": "y"}],
        "Duplicate value",
    ),
    "trigger of no action": (
        SKILL,
        "spec.triggers",
        [{"type": "cron", "schedule": "0 0 * * *", "action": "nope"}],
        "must name one of the skill's actions",
    ),
    "actions and mcp": (
        SKILL,
        "spec.mcp",
        {"command": ["python", "x.py"]},
        "the tools of an MCP server are the actions",
    ),
    "no server": (MCP_SKILL, "spec.mcp", {"tools": ["a"]}, "set exactly one of command and url"),
    "program without permission": (MCP_SKILL, "spec.mcp.command", ["node", "x.js"], "permission process:execute"),
    "environment of a remote server": (
        MCP_SKILL,
        "spec.mcp",
        {"url": "https://x/mcp", "env": {"A": "b"}},
        "set env only with command",
    ),
    "headers of a program": (MCP_SKILL, "spec.mcp.headers", {"A": "b"}, "set headers only with url"),
    "remote without permission": (
        MCP_SKILL,
        "spec.mcp",
        {"url": "https://x/mcp"},
        "network:external or network:internal",
    ),
    "remote without its host": (
        changed(MCP_SKILL, "spec.permissions", ["network:external"]),
        "spec.mcp",
        {"url": "https://x/mcp"},
        "only where allowedDomains lists its host",
    ),
    "program without files": (MCP_SKILL, "spec.source", None, "only a remote MCP server (mcp.url) has no files"),
    "managed and external": (
        STORE,
        "spec.vector.qdrant.external",
        {"url": "http://qdrant:6333"},
        "set exactly one of managed and external",
    ),
    "managed and external records": (
        STORE,
        "spec.records",
        {"postgresql": {"managed": {}, "external": {"url": "postgresql://me@db/x"}}},
        "set exactly one of managed and external",
    ),
    "neither managed nor external cache": (
        STORE,
        "spec.cache",
        {"redis": {}},
        "set exactly one of managed and external",
    ),
    "password in a URL": (
        STORE,
        "spec.records",
        {"postgresql": {"external": {"url": "postgresql://me:secret@db/x"}}},
        "spec.records.postgresql.external.url",
    ),
    "port out of range": (AGENT, "spec.model.baseURL", "http://llm:65536/v1", "spec.model.baseURL"),
    "port that is no number": (
        STORE,
        "spec.cache",
        {"redis": {"external": {"url": "redis://cache:abc/0"}}},
        "spec.cache.redis.external.url",
    ),
    "password in the address of a model": (AGENT, "spec.model.baseURL", "https://me:pw@llm/v1", "spec.model.baseURL"),
    "two destinations": (
        STORE,
        "spec.backup.destination.pvc",
        {"claimName": "x"},
        "set exactly one of s3 and pvc",
    ),
    "last backup to nowhere": (
        changed(STORE, "spec.backup", None),
        "spec.deletionPolicy",
        "Snapshot",
        "deletionPolicy Snapshot makes a last backup: set spec.backup",
    ),
    "bad schedule": (STORE, "spec.backup.schedule", "daily at 2", "spec.backup.schedule"),
    "no embedding server": (
        STORE,
        "spec.embedding",
        {"provider": "openai-compatible", "model": "m"},
        "set embedding.baseURL",
    ),
    "no embedding model": (STORE, "spec.embedding", {"provider": "openai"}, "set embedding.model"),
    "restore of nothing": (RESTORE, "spec.parts", [], "spec.parts"),
    "restore of what there is not": (RESTORE, "spec.parts", ["cache"], 'Unsupported value: "cache"'),
    "restore of a backup of no name": (RESTORE, "spec.source", {"backup": "yesterday"}, "spec.source.backup"),
    "restore from two places": (
        RESTORE,
        "spec.source",
        {"destination": {"s3": {"bucket": "backups"}, "pvc": {"claimName": "x"}}},
        "set exactly one of s3 and pvc",
    ),
    "restore of a long name": (RESTORE, "metadata.name", "x" * 41, "because a Job is named after it"),
    "summaries by another model": (
        AGENT,
        "spec.memory.summarization",
        {"model": "other"},
        "summaries are made by one of the agent's models",
    ),
    "compression of no product": (
        STORE,
        "spec.vector.quantization",
        {"type": "scalar", "compression": "x8"},
        "set quantization.type to product or remove compression",
    ),
    "compression of nothing": (STORE, "spec.vector.quantization", {"compression": "x8"}, "set quantization.type to"),
    "compression there is not": (
        STORE,
        "spec.vector.quantization",
        {"type": "product", "compression": "x128"},
        'Unsupported value: "x128"',
    ),
    "graph without edges": (STORE, "spec.vector.hnsw", {"m": 0}, "spec.vector.hnsw.m"),
    "tiers that shrink": (STORE, "spec.tiers", {"warm": {"records": 999}}, "set records of hot, warm and cold"),
    "tiers that grow younger": (STORE, "spec.tiers", {"warm": {"maxAgeSeconds": 60}}, "set maxAgeSeconds of hot, warm"),
    "weights of nothing": (
        AGENT,
        "spec.memory.importanceWeights",
        {"accessCount": 0, "recency": 0, "relevance": 0, "userFeedback": 0},
        "at least one signal must count",
    ),
    "wordllama of another size": (STORE, "spec.embedding", {"dimensions": 512}, "set embedding.dimensions to 256"),
}


@pytest.mark.parametrize(("manifest", "path", "value", "message"), REFUSED.values(), ids=REFUSED)
async def test_api_server_refuses(cluster: Cluster, manifest: str, path: str, value: Any, message: str) -> None:
    with pytest.raises(RejectedError) as refusal:
        await cluster.create(changed(manifest, path, value))
    assert message in refusal.value.message


ACCEPTED = {
    "smallest agent": AGENT,
    "full agent": FULL_AGENT,
    "scaled agent": changed(changed(FULL_AGENT, "spec.gateway.autoscaling", None), "spec.gateway.replicas", 5),
    "equal bounds": changed(FULL_AGENT, "spec.gateway.autoscaling", {"minReplicas": 4, "maxReplicas": 4}),
    "KEDA with Prometheus": changed(
        FULL_AGENT,
        "spec.gateway.autoscaling",
        {"scaler": "KEDA", "inFlightTurns": 5, "prometheusAddress": "http://prometheus:9090"},
    ),
    "labels of a monitor": changed(
        AGENT,
        "spec.observability.serviceMonitor",
        {"labels": {"release": "prometheus", "acme.example/team": "", "app.kubernetes.io/part-of": "acme"}},
    ),
    "rollout by percentage": changed(FULL_AGENT, "spec.gateway.rollout", {"maxSurge": 0, "maxUnavailable": "25%"}),
    "fallbacks": changed(
        changed(AGENT, "spec.model.retry", {"retries": 0, "maxDelayMilliseconds": 1000}),
        "spec.model.fallbacks",
        [
            {"name": "gpt-4o", "credentials": {"secretKeyRef": {"name": "a", "key": "b"}}},
            {"provider": "local", "name": "m", "baseURL": "http://llm:8000/v1"},
        ],
    ),
    "router and budget": changed(
        AGENT,
        "spec.model",
        {
            "provider": "local",
            "name": "m",
            "baseURL": "http://llm:8000/v1",
            "candidates": [
                {"name": "gpt-4o", "credentials": {"secretKeyRef": {"name": "a", "key": "b"}}, "performance": 1},
                {
                    "provider": "openai-compatible",
                    "name": "m",
                    "baseURL": "http://llm:8000/v1",
                    "pricing": {"inputPerMillion": 0.15, "outputPerMillion": 1},
                },
            ],
            "budget": {"perDay": 5, "perRequest": 0.05},
        },
    ),
    "soul inline": changed(AGENT, "spec.soul", {"inline": "I am Ada"}),
    "environment": changed(
        AGENT,
        "spec.gateway.extraEnv",
        [{"name": "A", "value": "x"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
    ),
    "a token of one's own": changed(AGENT, "spec.gateway.auth", {"tokenSecretRef": {"name": "a", "key": "b"}}),
    "team by label": changed(AGENT, "spec.team", {"selector": {"matchLabels": {"team": "a"}}}),
    "budget": changed(AGENT, "spec.gateway.podDisruptionBudget", {"minAvailable": "50%"}),
    "agent name of 50": changed(AGENT, "metadata.name", "a" * 50),
    "version ranges": changed(AGENT, "spec.skills", [{"name": "echo", "version": ">=1.2 <2 || ^3.0.0-rc.1"}]),
    "schedules": changed(
        FULL_AGENT,
        "spec.schedules",
        [
            {**NIGHTLY, "timeZone": "Europe/Riga", "skill": {"name": "echo", "action": "say", "input": {"any": 1}}},
            {"name": "brief", "schedule": "@daily", "prompt": "x", "concurrencyPolicy": "Forbid", "suspend": True},
        ],
    ),
    "as many schedules as there may be": changed(
        FULL_AGENT, "spec.schedules", [{**NIGHTLY, "name": f"s{number}", "prompt": "x"} for number in range(64)]
    ),
    "summaries by a fallback": changed(
        changed(
            AGENT,
            "spec.model.fallbacks",
            [{"name": "gpt-4o-mini", "credentials": {"secretKeyRef": {"name": "k", "key": "v"}}}],
        ),
        "spec.memory.summarization",
        {"model": "gpt-4o-mini", "everyRecords": 20},
    ),
    "weights of importance": changed(AGENT, "spec.memory.importanceWeights", {"recency": 1, "adaptationRate": 0}),
    "smallest skill": SKILL,
    "domains with permission": changed(
        changed(SKILL, "spec.permissions", ["network:external"]), "spec.allowedDomains", ["example.org"]
    ),
    "domains inside, with ports and wildcards": changed(
        changed(SKILL, "spec.permissions", ["network:internal"]),
        "spec.allowedDomains",
        ["web.team.svc:8080", "*.example.org", "*", "10.1.2.3", "[fd00::1]:8443"],
    ),
    "as many pods at most as always": changed(SKILL, "spec.sandbox", {"warm": 3, "maxWarm": 3}),
    "cron trigger": changed(SKILL, "spec.triggers", [{"type": "cron", "schedule": "0 9,18 * * *", "action": "say"}]),
    "command trigger": changed(SKILL, "spec.triggers", [{"type": "command", "pattern": "git.*"}]),
    "skill from a ConfigMap": changed(SKILL, "spec.source", {"configMapRef": {"name": "x"}}),
    "skill from a registry": changed(
        changed(SKILL, "spec.source", {"oci": {**OCI, "pullSecretRef": {"name": "x"}}}),
        "spec.signature",
        {"cosign": {"publicKeyRef": {"configMapKeyRef": {"name": "x", "key": "cosign.pub"}}}},
    ),
    "skill from a registry in the cluster": changed(
        SKILL, "spec.source", {"oci": {"reference": f"oci://registry:5000/a/b__c.d@sha256:{HASH}", "plainHTTP": True}}
    ),
    "skill from an archive": changed(
        changed(SKILL, "spec.source", {"archive": {**ARCHIVE, "path": "skills/echo"}}),
        "spec.signature",
        {"cosign": {"publicKey": "x", "signature": "x"}},
    ),
    "skill of instructions only": changed(SKILL, "spec.actions", []),
    "MCP server": MCP_SKILL,
    "MCP server that is a program": changed(
        changed(MCP_SKILL, "spec.mcp.command", ["node", "x.js"]), "spec.permissions", ["process:execute"]
    ),
    "remote MCP server": changed(
        changed(
            changed(changed(MCP_SKILL, "spec.source", None), "spec.permissions", ["network:internal"]),
            "spec.allowedDomains",
            ["x:8080"],
        ),
        "spec.mcp",
        {"url": "http://x:8080/mcp", "headers": {"Authorization": "${TOKEN}"}, "tools": ["a"]},
    ),
    "smallest store": changed(STORE, "spec", {}),
    "store with backups": STORE,
    "store with a last backup": changed(STORE, "spec.deletionPolicy", "Snapshot"),
    "store with small copies": changed(
        STORE,
        "spec.vector",
        {
            "hnsw": {"m": 24, "efConstruct": 300, "ef": 150},
            "quantization": {"type": "product", "compression": "x16", "oversampling": 4.5},
        },
    ),
    "store with all tiers": changed(STORE, "spec.tiers", {}),
    "store that forgets sooner": changed(
        STORE, "spec.tiers", {"cold": {"records": 20000, "maxAgeSeconds": 86400}, "warm": {"records": 2000}}
    ),
    "restore of the latest backup": RESTORE,
    "restore from elsewhere": changed(
        RESTORE,
        "spec.source",
        {"backup": "2026-11-27T02-00-00Z", "destination": {"pvc": {"claimName": "x"}}, "store": "other"},
    ),
    "external store": changed(
        STORE,
        "spec",
        {
            "vector": {"qdrant": {"external": {"url": "http://[fd00::1]:65535?x=y"}}},
            "records": {"postgresql": {"external": {"url": "postgresql://me@db.example:5432/x?ssl=true"}}},
            "cache": {"redis": {"external": {"url": "rediss://cache:6380/1"}}},
            "embedding": {"provider": "openai", "model": "text-embedding-3-small", "dimensions": 1536},
            "backup": {"destination": {"pvc": {"claimName": "backups"}}},
        },
    ),
}


@pytest.mark.parametrize("manifest", ACCEPTED.values(), ids=ACCEPTED)
async def test_api_server_accepts(cluster: Cluster, manifest: str) -> None:
    await cluster.create(manifest)


async def test_unknown_field_is_refused_in_server_side_apply(cluster: Cluster) -> None:
    with pytest.raises(RejectedError, match=r"\.spec\.modle: field not declared in schema"):
        await cluster.apply(changed(AGENT, "spec.modle", {}))


async def test_embedding_of_a_store_stays(cluster: Cluster) -> None:
    await cluster.apply(STORE)
    with pytest.raises(RejectedError, match="make a new MemoryStore"):
        await cluster.apply(changed(STORE, "spec.embedding", {"provider": "openai", "model": "x", "dimensions": 256}))


async def test_a_restore_is_not_changed(cluster: Cluster) -> None:
    await cluster.apply(RESTORE)
    with pytest.raises(RejectedError, match="make a new MemoryRestore"):
        await cluster.apply(changed(RESTORE, "spec.parts", ["records"]))


@pytest.mark.parametrize("part", ["vector.qdrant", "records.postgresql", "cache.redis"])
async def test_volumes_of_a_store_stay(cluster: Cluster, part: str) -> None:
    path = f"spec.{part}.managed.storage"
    await cluster.apply(changed(STORE, path, {"size": "5Gi"}))
    await cluster.apply(changed(STORE, path, {"size": "5120Mi"}))
    for storage in ({"size": "6Gi"}, {"size": "5Gi", "storageClassName": "fast"}):
        with pytest.raises(RejectedError, match="the volumes of a server cannot be changed: make a new MemoryStore"):
            await cluster.apply(changed(STORE, path, storage))


@pytest.mark.parametrize(
    ("part", "size", "external"),
    [
        ("vector.qdrant", "100Gi", "https://qdrant.example.org:6333"),
        ("records.postgresql", "10Gi", "postgresql://agents@db.example.org:5432/agents"),
        ("cache.redis", "10Gi", "redis://cache.example.org:6379/0"),
    ],
)
async def test_a_server_that_is_not_named_has_a_volume_that_stays(
    cluster: Cluster, part: str, size: str, external: str
) -> None:
    """What is named later, or no longer, has to be what was there."""
    where = f"spec.{part}"
    unnamed = changed(STORE, "spec", {})
    of_a_class = {"storage": {"size": size, "storageClassName": "fast"}}
    refused: list[dict[str, Any]] = [{"storage": {"size": "414"}}, of_a_class]
    in_other_words = {"storage": {"size": f"{int(size.removesuffix('Gi')) * 1024}Mi"}}
    accepted: list[dict[str, Any]] = [{"storage": {"size": size}}, in_other_words, {"image": "example.org/server:1"}]
    await cluster.apply(unnamed)
    for server in refused:
        with pytest.raises(RejectedError, match="the volumes of a server cannot be changed: make a new MemoryStore"):
            await cluster.apply(changed(unnamed, where, {"managed": server}))
    for server in accepted:
        await cluster.apply(changed(unnamed, where, {"managed": server}))
        await cluster.apply(unnamed)
    await cluster.apply(changed(unnamed, where, {"external": {"url": external}}))
    await cluster.apply(changed(unnamed, where, {"managed": {"storage": {"size": "414"}}}))
    with pytest.raises(RejectedError, match="the volumes of a server cannot be changed: make a new MemoryStore"):
        await cluster.apply(unnamed)
    other = changed(unnamed, "metadata.name", "other")
    await cluster.apply(changed(other, where, {"managed": of_a_class}))
    with pytest.raises(RejectedError, match="the volumes of a server cannot be changed: make a new MemoryStore"):
        await cluster.apply(other)


async def quiet(audit: Audit, allowed: int = 0, attempts: int = 0) -> None:
    """What is under way comes to an end; then for a while `allowed` requests at most, `attempts` of them writes."""

    def asked() -> list[tuple[str, str, str]]:
        return [request for request in audit.requests(*NOT_WATCHES) if request not in LOOKED_AT]

    def looks() -> Counter[tuple[str, str, str]]:
        return Counter(request for request in audit.requests("list", "stream") if request in LOOKED_AT)

    for _ in range(SETTLE_ROUNDS):
        before, written = len(asked()), len(audit.writes())
        await asyncio.sleep(SETTLED_SECONDS)
        if len(asked()) <= before + (1 if allowed else 0) and len(audit.writes()) == written:
            break
    before, looked = len(asked()), looks()
    await asyncio.sleep(OBSERVED_SECONDS)
    made = asked()[before:]
    assert len(made) <= allowed, made
    assert looks() - looked <= Counter(LOOKED_AT)
    assert len([request for request in made if request[0] not in ("get", "list", "stream")]) <= attempts, made


async def test_missing_soul_is_waited_for(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await cluster.apply(changed(AGENT, "spec.soul", {"configMapKeyRef": {"name": "souls", "key": "ada.md"}}))
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "SoulNotFound")
    assert "spec.soul.configMapKeyRef.name: ConfigMap 'souls' does not exist" in message
    assert "create it with the key 'ada.md'" in message
    await quiet(audit)
    await cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: souls}, data: {other.md: x}}")
    await cluster.wait(
        "Agent", "ada", lambda agent: "(it has other.md)" in condition(agent, "Ready").get("message", "")
    )
    await cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: souls}, data: {ada.md: I am Ada}}")
    config = await cluster.wait("ConfigMap", "ada-gateway", exists)
    assert "I am Ada" in config["data"]["config.yaml"]
    await cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: souls}, data: {ada.md: I am Lovelace}}")
    await cluster.wait("ConfigMap", "ada-gateway", lambda item: "I am Lovelace" in item["data"]["config.yaml"])


async def test_missing_secret_is_waited_for(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await cluster.apply(
        changed(
            AGENT,
            "spec.model",
            {"provider": "openai", "name": "m", "credentials": {"secretKeyRef": {"name": "llm", "key": "key"}}},
        )
    )
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "SecretNotFound")
    assert "spec.model.credentials.secretKeyRef: Secret 'llm' does not exist" in message
    await quiet(audit, LOOKOUT_REQUESTS)
    await cluster.apply("{apiVersion: v1, kind: Secret, metadata: {name: llm}, stringData: {wrong: x}}")
    await cluster.wait("Agent", "ada", lambda agent: "(it has wrong)" in condition(agent, "Ready").get("message", ""))
    await cluster.apply("{apiVersion: v1, kind: Secret, metadata: {name: llm}, stringData: {key: x}}")
    await cluster.wait_condition("Agent", "ada", "ReferencesResolved", "True", "Resolved")
    deployment = await cluster.wait("Deployment", "ada-gateway", exists)
    volumes = {item["name"]: item for item in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["models"]["projected"]["sources"][0]["secret"]["name"] == "llm"


async def test_skill_that_does_not_exist(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await cluster.apply(changed(AGENT, "spec.skills", [{"name": "echo", "version": "^1.0.0"}]))
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "SkillNotFound")
    assert "spec.skills[0].name: Skill 'echo' does not exist" in message
    await quiet(audit)
    await cluster.apply(SKILL)
    agent = await cluster.wait("Agent", "ada", lambda item: bool(item.get("status", {}).get("skills")))
    assert agent["status"]["skills"][0]["version"] == "1.2.0"


@pytest.mark.parametrize(
    ("version", "reason", "hint"),
    [
        ("^2.0.0", "SkillVersionMismatch", "widen the range"),
        (">=01.2", "InvalidVersionRange", "use for example"),
        (">v2.1 - ~v3", "InvalidVersionRange", "use for example"),
    ],
)
async def test_version_that_is_not_there(
    cluster: Cluster, operator: Operator, audit: Audit, version: str, reason: str, hint: str
) -> None:
    await cluster.apply(SKILL, changed(AGENT, "spec.skills", [{"name": "echo", "version": version}]))
    await cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", reason)
    assert "spec.skills[0].version" in message
    assert hint in message
    await quiet(audit, 1)


async def test_store_that_does_not_exist(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    await cluster.apply(changed(AGENT, "spec.memory", {"storeRef": {"name": "mem"}}))
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "MemoryStoreNotFound")
    assert "spec.memory.storeRef.name" in message
    await quiet(audit)
    await cluster.apply(STORE)
    await cluster.wait("Deployment", "ada-gateway", exists)


@pytest.mark.parametrize(
    "manifest",
    [
        "{apiVersion: v1, kind: Service, metadata: {name: ada-gateway}, spec: {ports: [{port: 80}]}}",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: ada-gateway}, data: {mine: x}}",
        "{apiVersion: v1, kind: Secret, metadata: {name: ada-gateway-token}, stringData: {token: mine}}",
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: ada-gateway}}",
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: ada-workspace}, spec: "
        "{accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}",
    ],
    ids=["Service", "ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim"],
)
async def test_object_of_somebody_else(cluster: Cluster, operator: Operator, audit: Audit, manifest: str) -> None:
    (theirs,) = await cluster.apply(manifest)
    reader = changed(SKILL, "spec.permissions", ["filesystem:read"])
    await cluster.apply(reader, changed(AGENT, "spec.skills", [{"name": "echo"}]))
    await cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "OwnershipConflict")
    assert f"{theirs['kind']} {theirs['metadata']['name']} already exists" in message
    assert "delete or rename it" in message
    kept = await cluster.get(theirs["kind"], theirs["metadata"]["name"])
    assert kept["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]
    # Four times a minute it looks what is in the way; it writes again once that is gone.
    await quiet(audit, allowed=1)
    # The user of an Agent need not be one who may start pods as that account, or on that volume.
    assert not await cluster.all_of("Deployment")
    assert theirs["kind"] != "PersistentVolumeClaim" or not await cluster.all_of("Pod")
    # What was in the way goes; the next look-out sees it.
    await cluster.delete(theirs["kind"], theirs["metadata"]["name"])
    await cluster.wait_condition("Agent", "ada", "ChildrenApplied", "True", "Applied")


@pytest.mark.parametrize(
    ("path", "value", "reason", "hints"),
    [
        (
            "spec.actions.0.inputSchema",
            {"type": "object", "properties": {"n": {"type": "nubmer"}}},
            "InvalidSchema",
            ["spec.actions[0].inputSchema.properties.n", "'nubmer'", "correct the JSON Schema of action 'say'"],
        ),
        (
            "spec.actions.0.inputSchema",
            {"type": "object", "properties": {"n": {"$ref": "https://example.org/n.json"}}},
            "InvalidSchema",
            ["spec.actions[0].inputSchema.properties.n.$ref", "never fetched", "refer to #/$defs/"],
        ),
        (
            "spec.source.inline.files",
            {"scripts/main.py": "def say(:\n"},
            "SyntaxError",
            ["spec.entrypoint: scripts/main.py line 1", "correct the file"],
        ),
        ("spec.signature", {"sha256": HASH}, "DigestMismatch", ["spec.signature.sha256", HASH, "restore the files"]),
        ("spec.entrypoint", "main.py", "EntrypointNotFound", ["spec.entrypoint", "'main.py'", "scripts/main.py"]),
        (
            "spec.triggers",
            [{"type": "command", "pattern": "git("}],
            "InvalidPattern",
            ["spec.triggers[0].pattern", "'git('"],
        ),
        (
            "spec.triggers",
            [{"type": "cron", "schedule": "0 25 * * *", "action": "say"}],
            "InvalidSchedule",
            ["spec.triggers[0].schedule", "'0 25 * * *'", "bad hour", "like '0 9 * * *'"],
        ),
        (
            "spec.source.inline.files",
            {"../evil.py": "x", "scripts/main.py": "x"},
            "InvalidSource",
            ["'../evil.py'", "relative path"],
        ),
        (
            "spec.source",
            {"configMapRef": {"name": "code"}},
            "SourceNotFound",
            ["spec.source.configMapRef.name", "'code'"],
        ),
    ],
    ids=["schema", "reference", "code", "digest", "entrypoint", "pattern", "cron", "path", "source"],
)
async def test_skill_that_cannot_be_verified(
    cluster: Cluster,
    operator: Operator,
    audit: Audit,
    path: str,
    value: Any,
    reason: str,
    hints: list[str],
) -> None:
    await cluster.apply(changed(SKILL, path, value))
    message = await cluster.wait_condition("Skill", "echo", "Ready", "False", reason)
    assert not [hint for hint in hints if hint not in message], message
    assert condition(await cluster.get("Skill", "echo"), "Verified")["status"] == "False"
    assert not await cluster.all_of("ConfigMap", "app.kubernetes.io/name=skill-package")
    await quiet(audit, 1)
    # Put right, it is taken at once.
    await cluster.apply(SKILL)
    await cluster.wait_condition("Skill", "echo", "Ready", "True", "Ready")


@pytest.mark.parametrize(
    "affinity",
    [
        {"nodeAffinity": {"required": 1}},
        {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": "x"}},
        {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": "x"}]}},
        {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": 5}]}},
    ],
    ids=["unknown", "node", "weight", "topology"],
)
async def test_child_the_api_server_refuses(cluster: Cluster, operator: Operator, audit: Audit, affinity: Any) -> None:
    # Of an agent that is there already, so that the Deployment is changed, not created.
    await cluster.apply(AGENT)
    await cluster.wait("Deployment", "ada-gateway", exists)
    await cluster.apply(changed(AGENT, "spec.gateway.affinity", affinity))
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "ChildRejected")
    assert "Deployment ada-gateway was refused" in message
    assert "\n" not in message
    assert "correct what spec says" in message
    await quiet(audit)


async def test_a_claim_that_cannot_be_as_wished_is_kept(cluster: Cluster, operator: Operator, audit: Audit) -> None:
    field = "spec.workspace.storageClassName"
    await cluster.apply(changed(AGENT, field, "slow"))
    await cluster.wait("PersistentVolumeClaim", "ada-workspace", exists)
    await cluster.apply(changed(AGENT, field, "fast"))
    message = await cluster.wait_condition("Agent", "ada", "Ready", "False", "NewClaimNeeded")
    assert f"{field}: 'fast', but the claim has 'slow'" in message
    await quiet(audit)
    # No wish is met by whatever there is.
    await cluster.patch("Agent", "ada", {"spec": {"workspace": {"storageClassName": None}}})
    await cluster.wait_condition("Agent", "ada", "ChildrenApplied", "True", "Applied")
    assert (await cluster.get("PersistentVolumeClaim", "ada-workspace"))["spec"]["storageClassName"] == "slow"
    assert await cluster.get("Deployment", "ada-gateway")
