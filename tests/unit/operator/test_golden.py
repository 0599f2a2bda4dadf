"""What the builders make, in full, beside what they made when somebody last read it.

OPENCLAW_UPDATE_GOLDEN=1 writes the files anew; read the difference before it is committed.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from openclaw_operator.api.memoryrestore import MemoryRestoreSpec
from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.resources import (
    activator,
    agent,
    backup,
    egress,
    memorystore,
    network,
    package,
    restore,
    sandbox,
    secrets,
)
from openclaw_operator.resources.pool import pool_for
from tests.unit.operator.builders import EGRESS, IMAGES, agent_inputs, owner, skill_spec, store

GOLDEN = Path(__file__).parent / "golden"
FULL: dict[str, Any] = {
    "role": "coordinator",
    "description": "Leads",
    "model": {
        "provider": "anthropic",
        "name": "claude",
        "credentials": {"secretKeyRef": {"name": "llm", "key": "key"}},
        "settings": {"temperature": 0.2, "maxTokens": 1024},
        "retry": {"retries": 1},
        "performance": 0.9,
        "candidates": [
            {
                "provider": "openai-compatible",
                "name": "m",
                "baseURL": "http://llm:8002/v1",
                "credentials": {"secretKeyRef": {"name": "llm", "key": "other"}},
                "pricing": {"inputPerMillion": 0.5, "outputPerMillion": 2},
                "speed": 3,
            }
        ],
        "budget": {"perDay": 5, "perRequest": 0.01},
        "cache": {"turns": True},
        "fallbacks": [
            {"provider": "openai", "name": "gpt-4o", "credentials": {"secretKeyRef": {"name": "spare", "key": "key"}}},
            {"provider": "local", "name": "tiny", "baseURL": "http://llm:8001/v1", "settings": {"seed": 1}},
        ],
    },
    "team": {"members": [{"name": "code-expert"}]},
    "schedules": [
        {"name": "brief", "schedule": "0 8 * * MON-FRI", "timeZone": "Europe/Riga", "prompt": "What is new?"},
        {
            "name": "save",
            "schedule": "@hourly",
            "skill": {"name": "git-ai-helper", "action": "smartCommit", "input": {"emoji": False}},
            "startingDeadlineSeconds": 600,
            "concurrencyPolicy": "Forbid",
        },
    ],
    "workspace": {"reclaimPolicy": "Delete", "size": "5Gi", "storageClassName": "fast"},
    "gateway": {
        "autoscaling": {},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "topologySpread": [{"topologyKey": "topology.kubernetes.io/zone"}],
        "extraEnv": [
            {"name": "PLAIN", "value": "x"},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
            {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "d"}}},
        ],
        "imagePullSecrets": [{"name": "registry"}],
        "podDisruptionBudget": {"minAvailable": "50%"},
        "service": {"type": "LoadBalancer", "annotations": {"lb": "internal"}},
    },
}
REACHED = {
    "observability": {"serviceMonitor": {"interval": "15s", "labels": {"release": "prometheus"}}},
    "gateway": {
        "ingress": {
            "host": "ada.example.org",
            "className": "nginx",
            "tlsSecretName": "ada-tls",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "10m"},
        },
        "httpRoute": {"parentRefs": [{"name": "edge", "namespace": "infra"}], "hostnames": ["ada.example.org"]},
        "rollout": {"maxSurge": "50%", "maxUnavailable": 1, "paused": True},
        "probes": {"readiness": {"initialDelaySeconds": 0, "periodSeconds": 1}},
        "autoscaling": {"inFlightTurns": 10},
    },
}
KEDA = {
    "gateway": {"autoscaling": {"scaler": "KEDA", "inFlightTurns": 10, "prometheusAddress": "http://prometheus:9090"}}
}
EXTERNAL = {
    "vector": {
        "qdrant": {"external": {"url": "https://q.example:6333", "apiKey": {"secretKeyRef": {"name": "q", "key": "k"}}}}
    },
    "records": {
        "postgresql": {
            "external": {
                "url": "postgresql://me@db.example:5433/x",
                "password": {"secretKeyRef": {"name": "p", "key": "k"}},
            }
        }
    },
    "cache": {"redis": {"external": {"url": "rediss://cache.example:6380/1"}}},
}

RESTORE = MemoryRestoreSpec.model_validate({"storeRef": {"name": "mem"}})
BACKED_UP = store(
    backup={"destination": {"s3": {"bucket": "backups", "endpoint": "http://s3:9000", "credentials": {"name": "aws"}}}}
)


def cases() -> dict[str, list[dict[str, Any]]]:
    stored = agent_inputs("ada", {"memory": {"storeRef": {"name": "mem"}}}).spec
    sandboxed = pool_for("ada", stored, skill_spec(), IMAGES)
    beside_memory = pool_for("ada", agent_inputs("ada", {}).spec, skill_spec(permissions=["filesystem:read"]), IMAGES)
    assert sandboxed is not None
    assert beside_memory is not None
    return {
        "agent-embedded": agent.build(agent_inputs("ada", {})),
        "agent-full": agent.build(agent_inputs("ada", FULL, memory=store(), skills=True)),
        "agent-external-store": agent.build(agent_inputs("ada", {}, memory=store(**EXTERNAL))),
        "agent-reached": agent.build(agent_inputs("ada", REACHED, memory=store())),
        "agent-keda": agent.build(agent_inputs("ada", KEDA, memory=store())),
        "agent-hibernating": agent.build(
            replace(agent_inputs("ada", FULL | {"gateway": {"hibernation": {}}}), asleep=True, held=True)
        ),
        "activator": [
            network.activator_policy("demo"),
            *activator.build("demo", [activator.Sleeper("ada", "ab" * 32, 900, 60)], IMAGES),
        ],
        "agent-suspended": agent.build(agent_inputs("ada", FULL | {"suspend": True}, memory=store())),
        "store-managed": memorystore.build(
            owner("MemoryStore", "mem"),
            MemoryStoreSpec.model_validate(
                {"backup": {"destination": {"s3": {"bucket": "backups", "credentials": {"name": "aws"}}}}}
            ),
            IMAGES,
            {"ada": {"role": "coordinator", "memory": {"storeRef": {"name": "mem"}}}},
        ),
        "store-single-node": memorystore.build(
            owner("MemoryStore", "mem"),
            MemoryStoreSpec.model_validate(
                {
                    "vector": {"qdrant": {"managed": {"replicas": 1}}},
                    "backup": {"timeZone": "Etc/UTC", "destination": {"pvc": {"claimName": "backups"}}, "drill": {}},
                    "deletionPolicy": "Delete",
                }
            ),
            IMAGES,
            {},
        ),
        "store-external": memorystore.build(
            owner("MemoryStore", "mem"), MemoryStoreSpec.model_validate(EXTERNAL), IMAGES, {}
        ),
        "restore": [
            restore.config_map(owner("MemoryRestore", "back"), RESTORE, BACKED_UP),
            restore.job(owner("MemoryRestore", "back"), RESTORE, BACKED_UP, IMAGES),
        ],
        "last-backup": [
            backup.last(owner("MemoryStore", "mem"), BACKED_UP.spec, BACKED_UP.spec.backup, IMAGES)
            if BACKED_UP.spec.backup
            else {}
        ],
        "sandbox": [
            sandbox.pod("demo", sandboxed.shape, "abcde", "UFVCTElD", "0123456789", "IfNotPresent"),
            *network.sandbox_policies("demo"),
        ],
        "sandbox-embedded": [
            sandbox.pod("demo", beside_memory.shape, "abcde", "UFVCTElD", "0123456789", "IfNotPresent")
        ],
        "egress": [
            *network.egress_policies("demo", internal=False, denied=("10.0.0.0/16",)),
            *egress.build("demo", "UFVCTElD", EGRESS),
        ],
        "egress-internal": network.egress_policies("demo", internal=True),
        "skill-package": [
            package.config_map(
                owner("Skill", "echo"), package.build({"SKILL.md": "# echo\n", "scripts/main.py": "x\n"})
            )
        ],
        "secrets": [
            secrets.generated("ada-gateway-token", owner("Agent", "ada"), "gateway", {"token": b"t"}),
            secrets.signing("demo", b"\0" * 32, b"\1" * 32),
        ],
    }


@pytest.mark.parametrize("name", list(cases()))
def test_builders_make_what_they_made(name: str) -> None:
    built = cases()[name]
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump_all(built, sort_keys=False, width=120)
    if os.environ.get("OPENCLAW_UPDATE_GOLDEN"):
        path.write_text(text)
    assert list(yaml.safe_load_all(path.read_text())) == built


def every_pod() -> list[tuple[str, dict[str, Any]]]:
    pods = []
    for name, built in cases().items():
        for item in built:
            spec = item.get("spec", {})
            if item["kind"] == "Pod":
                pods.append((name, spec))
            elif item["kind"] == "CronJob":
                pods.append((name, spec["jobTemplate"]["spec"]["template"]["spec"]))
            elif "template" in spec:
                pods.append((name, spec["template"]["spec"]))
    return pods


@pytest.mark.parametrize(("name", "pod"), every_pod())
def test_every_pod_is_restricted(name: str, pod: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    allowed = {"configMap", "secret", "projected", "emptyDir", "persistentVolumeClaim"}
    assert {key for volume in pod["volumes"] for key in volume if key != "name"} <= allowed
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"]["memory"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        declared = {volume["name"] for volume in pod["volumes"]}
        assert mounted - declared <= {"data"}


def test_sandbox_pod_has_nothing_worth_stealing() -> None:
    pod = cases()["sandbox"][0]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert not [volume for volume in pod["volumes"] if "secret" in volume or "projected" in volume]
    assert not [item for item in pod["containers"][0]["env"] if "secretKeyRef" in item.get("valueFrom", {})]


def names_of(name: str, kind: str) -> list[str]:
    return [item["metadata"]["name"] for item in cases()[name] if item["kind"] == kind]


def test_autoscaled_deployment_leaves_replicas_out() -> None:
    deployment = next(item for item in cases()["agent-full"] if item["kind"] == "Deployment")
    assert "replicas" not in deployment["spec"]
    assert names_of("agent-full", "HorizontalPodAutoscaler") == ["ada-gateway"]
    suspended = next(item for item in cases()["agent-suspended"] if item["kind"] == "Deployment")
    assert suspended["spec"]["replicas"] == 0
    assert names_of("agent-suspended", "HorizontalPodAutoscaler") == []


def test_restart_only_for_what_cannot_be_reloaded() -> None:
    def restart_hash(spec: dict[str, Any], memory: Any = None) -> str:
        built = agent.build(agent_inputs("ada", spec, memory=memory))
        deployment = next(item for item in built if item["kind"] == "Deployment")
        found: str = deployment["spec"]["template"]["metadata"]["annotations"]["openclaw.io/restart-hash"]
        return found

    plain = restart_hash({})
    assert restart_hash({"role": "sysops", "execution": {"timeoutSeconds": 9}}) == plain
    assert restart_hash({}, store()) != plain
    assert restart_hash({"execution": {"sandbox": {"level": "trusted"}}}) != plain


def test_a_schedule_restarts_no_pod() -> None:
    def template(schedules: Any) -> Any:
        built = agent.build(agent_inputs("ada", FULL | {"schedules": schedules}, memory=store(), skills=True))
        return next(item for item in built if item["kind"] == "Deployment")["spec"]["template"]

    first = FULL["schedules"][0]
    assert template([]) == template([first]) == template([first | {"schedule": "0 9 * * *", "suspend": True}])


def test_config_names_every_secret_by_file() -> None:
    built = cases()["agent-full"]
    config = json.loads(next(item for item in built if item["kind"] == "ConfigMap")["data"]["config.yaml"])
    assert config["memory"]["vector_store"]["api_key_file"] == "/etc/openclaw/memory/qdrant-api-key"
    assert config["skills"]["installed"][0]["secret_files"] == {
        "GITHUB_TOKEN": "/etc/openclaw/skills/git-ai-helper/GITHUB_TOKEN"
    }
    pod = next(item for item in built if item["kind"] == "Deployment")["spec"]["template"]["spec"]
    sources = {volume["name"]: volume.get("projected") for volume in pod["volumes"]}
    assert sources["skill-secrets"] == {
        "sources": [{"secret": {"name": "github", "items": [{"key": "token", "path": "git-ai-helper/GITHUB_TOKEN"}]}}]
    }
