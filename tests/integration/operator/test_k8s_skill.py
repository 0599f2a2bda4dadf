"""The skill k8s-operator in a real sandbox, with a service account's token, at a real API server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from openclaw_runtime.sandbox.errors import SkillFailedError
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.skills.audit import Audit
from openclaw_runtime.skills.registry import SkillRegistry, read_folder
from openclaw_runtime.skills.service import SkillService
from openclaw_runtime.skills.types import InstalledSkill
from tests.cluster.apiserver import ApiServer
from tests.cluster.paths import REPOSITORY
from tests.integration.operator.conftest import Cluster
from tests.integration.sandbox.helpers import RecordingContext

OBJECTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: helper}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: helper}
rules:
- {apiGroups: [apps], resources: [deployments, deployments/scale], verbs: [get, list, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: helper}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: helper}
subjects: [{kind: ServiceAccount, name: helper}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
"""


@pytest.fixture
async def skill(server: ApiServer, cluster: Cluster) -> InstalledSkill:
    """The skill, with the token of an account that may scale Deployments and nothing else."""
    *helper, deployment = OBJECTS.split("---")
    binding = helper.pop().replace("name: helper}]", f"name: helper, namespace: {cluster.namespace}}}]")
    await cluster.apply(*helper, binding, deployment)
    account = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/helper"
    asked = await cluster.client._request("POST", f"{account}/token", verb="create", body={"spec": {}})
    return replace(
        read_folder(REPOSITORY / "skills/k8s-operator", {}),
        config={"namespace": cluster.namespace, "allowWrites": True},
        secrets={
            "KUBE_API_SERVER": server.url,
            "KUBE_TOKEN": asked["status"]["token"],
            "KUBE_CA": (server.pki / "ca.crt").read_text(),
        },
    )


@pytest.fixture
async def service() -> AsyncIterator[SkillService]:
    executor = SubprocessExecutor(warm=1, limit=2)
    await executor.start()
    yield SkillService("agent", SkillRegistry("demo"), executor, Audit([]))
    await executor.close()


async def test_it_lists_and_scales_what_its_account_may_and_no_more(
    service: SkillService, skill: InstalledSkill, cluster: Cluster
) -> None:
    async def call(action: str, **given: Any) -> Any:
        return (await service.call(skill, action, given, session="s", context=RecordingContext())).output

    assert '"web"' in json.dumps(await call("list", kind="deploy"))
    scaled = await call("scale", kind="Deployment", name="web", replicas=3)
    assert (scaled["before"], scaled["after"]) == (1, 3)
    assert (await cluster.get("Deployment", "web"))["spec"]["replicas"] == 3
    with pytest.raises(SkillFailedError, match=r"Kubernetes refused GET .*/secrets \(403\): .*helper"):
        await call("list", kind="Secret")
    with pytest.raises(SkillFailedError, match="403"):
        await call("scale", kind="Deployment", name="web", replicas=0, namespace="kube-system")
