"""A backup is made, proven and restored, and a last one when its store goes: real pods, volumes and NetworkPolicies."""

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
    never = {"schedule": "0 0 1 1 *"}
    store["spec"]["backup"] = {**never, "destination": {"pvc": {"claimName": "backups"}}, "drill": never}
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

    # It comes back in scratch servers first.
    kube.run("create", "job", "--from=cronjob/memory-drill", "proof")
    kube.wait("condition=Complete", "job/proof", seconds=SECONDS)
    kube.wait("condition=RestoreProven", "memorystore/memory", seconds=60)
    drilled = kube.get("memorystore", "memory")
    assert drilled is not None
    assert drilled["status"]["lastDrill"]["proven"] is True
    assert drilled["status"]["lastDrill"]["points"] == 1
    assert drilled["status"]["lastDrill"]["rows"] >= 1

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

    # It goes after a last backup, and its volumes go with it.
    kube.run("patch", "memorystore", "memory", "--type=merge", "-p", '{"spec": {"deletionPolicy": "Snapshot"}}')
    kube.wait("jsonpath={.metadata.finalizers[0]}=openclaw.io/last-backup", "memorystore/memory", seconds=60)
    kube.run("delete", "memorystore", "memory", f"--timeout={SECONDS}s", seconds=SECONDS + 10)
    kube.wait("delete", "pvc/data-memory-qdrant-0", "pvc/data-memory-postgresql-0", seconds=SECONDS)
    assert kube.get("pvc", "backups") is not None
    told = [event["note"] for event in kube.items("events.events.k8s.io", "") if event["reason"] == "LastBackupMade"]
    assert [note.endswith("was made; volumes are deleted") for note in told] == [True]


def sql(kube: Kube, text: str) -> str:
    return kube.exec("memory-postgresql-0", "psql", "-U", "openclaw", "-d", "openclaw", "-tAc", text)


def set_point(kube: Kube, text: str) -> None:
    vector = [1.0, *[0.0] * 255]
    points = {"points": [{"id": 1, "vector": vector, "payload": {"text": text}}]}
    qdrant(kube, "PUT", "/collections/openclaw/points?wait=true", json.dumps(points))


def qdrant(kube: Kube, method: str, path: str, body: str) -> str:
    return kube.exec("memory-qdrant-0", "python", "-c", QDRANT, method, path, body)
