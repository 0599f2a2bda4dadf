"""Who wrote what to the API server about a namespace, from the audit log of the local cluster."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.bench.audit import WRITE_VERBS, seconds
from tests.bench.sandbox.workload import AGENT, NAMESPACE

GATEWAY = f"system:serviceaccount:{NAMESPACE}:{AGENT}"
OPERATOR = "system:serviceaccount:openclaw-system:"
_WHO = (
    (GATEWAY, "gateway"),
    (OPERATOR, "operator"),
    ("system:node:", "kubelet"),
    ("system:kube-scheduler", "scheduler"),
    ("system:serviceaccount:kube-system:", "controllers"),
    ("system:kube-controller-manager", "controllers"),
)


def who(user: str) -> str:
    """The part of the cluster a user name stands for."""
    return next((name for prefix, name in _WHO if user.startswith(prefix)), "others")


def writes_between(log: Path, started: float, ended: float) -> Counter[str]:
    """Writes to the benchmark's namespace that were received in that time (Unix seconds), as `who verb resource`."""
    counts: Counter[str] = Counter()
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            # Most lines are about something else: parsing only those that name the namespace takes a tenth of the time.
            if f'"{NAMESPACE}"' in line:
                event: dict[str, Any] = json.loads(line)
                reference = event.get("objectRef", {})
                about = reference.get("namespace") == NAMESPACE and event["verb"] in WRITE_VERBS
                if about and started <= seconds(event["requestReceivedTimestamp"]) <= ended:
                    resource = "/".join(filter(None, (reference.get("resource"), reference.get("subresource"))))
                    counts[f"{who(event['user']['username'])} {event['verb']} {resource}"] += 1
    return counts
