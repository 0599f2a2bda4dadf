"""A backup is made, everything changes, a MemoryRestore brings it back: with real pods, volumes and NetworkPolicies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.paths import REPOSITORY
from tests.demo import stand_in, steps
from tests.demo.kube import Kube
from tests.demo.steps import Tools

NAMESPACE = "openclaw-e2e-restore"
SECONDS = 300
QDRANT = """
import json, os, sys, urllib.request
method, path, body = sys.argv[1:]
request = urllib.request.Request("http://127.0.0.1:6333" + path, body.encode(), method=method)
request.add_header("api-key", os.environ["QDRANT__SERVICE__API_KEY"])
request.add_header("content-type", "application/json")
print(urllib.request.urlopen(request).read().decode())
"""


@pytest.fixture
def kube(tools: Tools) -> Iterator[Kube]:
    """A namespace of its own with a MemoryStore that is backed up to a volume, and an agent that uses it."""
    tools.kube("default").run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s", seconds=130)
    kube = tools.kube(NAMESPACE)
    steps.make_namespace(kube)
    store = yaml.safe_load((REPOSITORY / "examples" / "quickstart" / "memorystore.yaml").read_text())
    store["spec"]["backup"] = {"schedule": "0 0 1 1 *", "destination": {"pvc": {"claimName": "backups"}}}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    kube.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "backups"}, "spec": claim})
    kube.apply(store, AGENT)
    kube.wait("condition=Ready", "memorystore/memory", "agent/ada", seconds=SECONDS)
    yield kube
    tools.kube("default").run("delete", "namespace", NAMESPACE, "--wait=false")


AGENT = {
    "apiVersion": "openclaw.io/v1alpha1",
    "kind": "Agent",
    "metadata": {"name": "ada"},
    "spec": {
        "model": {"provider": "local", "name": "stand-in", "baseURL": stand_in.BASE_URL},
        "memory": {"storeRef": {"name": "memory"}},
        "gateway": {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
    },
}


def test_a_restore_brings_back_what_a_backup_holds(kube: Kube) -> None:
    sql(kube, "CREATE TABLE notes (text text); INSERT INTO notes VALUES ('first')")
    set_point(kube, "first")
    (before,) = kube.items("pods", "openclaw.io/agent=ada,app.kubernetes.io/name=gateway")
    kube.run("create", "job", "--from=cronjob/memory-backup", "now")
    kube.wait("condition=Complete", "job/now", seconds=SECONDS)

    sql(kube, "UPDATE notes SET text = 'wrong'")
    set_point(kube, "wrong")
    spec: dict[str, Any] = {"storeRef": {"name": "memory"}}
    restore = {"apiVersion": "openclaw.io/v1alpha1", "kind": "MemoryRestore", "metadata": {"name": "back"}}
    kube.apply({**restore, "spec": spec})
    kube.wait("jsonpath={.status.phase}=Succeeded", "memoryrestore/back", seconds=SECONDS)

    assert sql(kube, "SELECT text FROM notes").strip() == "first"
    assert '"text":"first"' in qdrant(kube, "POST", "/collections/openclaw/points", '{"ids": [1]}')
    # The agent was stopped for it, and runs again.
    (after,) = kube.items("pods", "openclaw.io/agent=ada,app.kubernetes.io/name=gateway")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    kube.wait("condition=Ready", "agent/ada", seconds=60)
    done = kube.get("memoryrestore", "back")
    assert done is not None
    assert done["status"]["backup"] in done["status"]["conditions"][-1]["message"]


def sql(kube: Kube, text: str) -> str:
    return kube.exec("memory-postgresql-0", "psql", "-U", "openclaw", "-d", "openclaw", "-tAc", text)


def set_point(kube: Kube, text: str) -> None:
    vector = [1.0, *[0.0] * 255]
    points = {"points": [{"id": 1, "vector": vector, "payload": {"text": text}}]}
    qdrant(kube, "PUT", "/collections/openclaw/points?wait=true", json.dumps(points))


def qdrant(kube: Kube, method: str, path: str, body: str) -> str:
    return kube.exec("memory-qdrant-0", "python", "-c", QDRANT, method, path, body)
