"""`openclaw k8s doctor` on a cluster with a kubelet: probes find out what no API tells, and leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.demo.kube import Kube

OPENCLAW = Path(sys.executable).with_name("openclaw")
MADE_BY = "app.kubernetes.io/managed-by=openclaw-doctor"


def doctor(kube: Kube) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Exit code, and check → what it found."""
    done = subprocess.run(
        [str(OPENCLAW), "k8s", "doctor", "-n", kube.namespace, "-o", "json"],
        env={**os.environ, "KUBECONFIG": str(kube.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for each in json.loads(done.stdout)["checks"]:
        found.setdefault(each["check"], []).append(each)
    return done.returncode, found


def test_a_cluster_that_is_well_is_found_so(kube: Kube) -> None:
    code, found = doctor(kube)
    for check in ("CRDs", "Operator", "Rights", "Metrics", "Images", "NetworkPolicy", "Provider"):
        assert {each["level"] for each in found[check]} == {"ok"}, found[check]
    assert "failure" not in {each["level"] for findings in found.values() for each in findings}, found
    assert code == 0
    system = kube.in_namespace("default")
    assert system.run("get", "pods", "-A", "-l", MADE_BY, "-o", "name") == ""
    left = json.loads(system.run("get", "namespaces", "-l", MADE_BY, "-o", "json"))["items"]
    assert [item for item in left if "deletionTimestamp" not in item["metadata"]] == []
