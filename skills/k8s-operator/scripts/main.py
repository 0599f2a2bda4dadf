"""k8s-operator: looks at a Kubernetes cluster; changes it only where the configuration allows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import kinds
import kube
import summaries

from openclaw_skill import SkillError

FIELD_MANAGER = "openclaw-k8s-operator"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
_EVENT = kinds.Kind("v1", "Event", "events", namespaced=True)
_POD = kinds.Kind("v1", "Pod", "pods", namespaced=True)


def _cluster(ctx: Any) -> kube.Cluster:
    return kube.Cluster(ctx.secrets, ctx.config.get("timeoutSeconds", 20))


def _namespace(ctx: Any, args: dict[str, Any]) -> str | None:
    """The namespace of a call, None for all; config.namespaces limits which these may be."""
    allowed = ctx.config.get("namespaces")
    namespace = args.get("namespace", ctx.config.get("namespace", "default"))
    if allowed is not None and (namespace not in allowed or namespace == "*"):
        raise SkillError(
            f"namespace: {namespace!r} is not in config.namespaces ({', '.join(allowed)}); use one of them"
        )
    return None if namespace == "*" else kinds.check_name(namespace, "namespace")


def _target(ctx: Any, cluster: kube.Cluster, args: dict[str, Any]) -> tuple[kinds.Kind, str]:
    """The kind and the path of the object a call names."""
    kind = kinds.find(cluster, args["kind"], args.get("apiVersion"))
    namespace = _namespace(ctx, args) if kind.namespaced else None
    if kind.namespaced and namespace is None:
        raise SkillError("namespace: '*' does not name one object; give its namespace")
    if not kind.namespaced and "namespaces" in ctx.config:
        raise SkillError(f"kind: {kind.kind} belongs to no namespace, and config.namespaces limits this agent to some")
    return kind, kind.path(namespace, args["name"])


def list(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:  # noqa: A001 (the action's name)
    """Objects of a kind, one row each."""
    cluster = _cluster(ctx)
    kind = kinds.find(cluster, args["kind"], args.get("apiVersion"))
    if not kind.namespaced and "namespaces" in ctx.config:
        raise SkillError(f"kind: {kind.kind} belongs to no namespace, and config.namespaces limits this agent to some")
    path = kind.path(_namespace(ctx, args) if kind.namespaced else None)
    limit = args.get("limit", 100)
    selectors = {"labelSelector": args.get("labelSelector"), "fieldSelector": args.get("fieldSelector")}
    answer = cluster.json(path, {**selectors, "limit": limit})
    now = datetime.now(UTC)
    return {
        "kind": kind.kind,
        "apiVersion": kind.api,
        "items": [summaries.line(item, now) for item in answer.get("items", [])],
        "truncated": bool(answer.get("metadata", {}).get("continue")),
    }


def get(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """One object as it is; a Secret's values are hidden."""
    cluster = _cluster(ctx)
    _, path = _target(ctx, cluster, args)
    return {"object": summaries.clean(cluster.json(path))}


def describe(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """What is known of one object: state, conditions, containers, events."""
    cluster = _cluster(ctx)
    kind, path = _target(ctx, cluster, args)
    item = cluster.json(path)
    metadata = item["metadata"]
    now = datetime.now(UTC)
    namespace = metadata.get("namespace")
    about = f"involvedObject.uid={metadata['uid']}"
    found = cluster.json(_EVENT.path(namespace or "default"), {"fieldSelector": about, "limit": 100})
    owners = [f"{owner['kind']}/{owner['name']}" for owner in metadata.get("ownerReferences", [])]
    return {
        **summaries.line(item, now),
        "kind": kind.kind,
        "apiVersion": kind.api,
        "labels": metadata.get("labels", {}),
        "owners": owners,
        "conditions": [
            {key: condition.get(key, "") for key in ("type", "status", "reason", "message")}
            for condition in (item.get("status") or {}).get("conditions") or []
        ],
        "containers": summaries.containers(item),
        "events": summaries.events(found.get("items", []), now),
    }


def logs(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """The last lines of a container's log."""
    namespace = _namespace(ctx, args)
    if namespace is None:
        raise SkillError("namespace: '*' does not name one pod; give its namespace")
    query = {
        "container": args.get("container"),
        "tailLines": args.get("tailLines", 200),
        "sinceSeconds": args.get("sinceSeconds"),
        "previous": args.get("previous", False),
        "timestamps": args.get("timestamps", False),
        "limitBytes": 512 * 1024,
    }
    text = _cluster(ctx).text(_POD.path(namespace, args["pod"], "log"), query)
    wanted = args.get("contains")
    lines = [line for line in text.splitlines() if wanted is None or wanted in line]
    return {"pod": args["pod"], "namespace": namespace, "lines": lines}


def events(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Events of a namespace, the newest first."""
    selectors = [f"involvedObject.name={kinds.check_name(args['name'], 'name')}"] if "name" in args else []
    selectors += ["type=Warning"] if args.get("warningsOnly", False) else []
    path = _EVENT.path(_namespace(ctx, args))
    answer = _cluster(ctx).json(path, {"fieldSelector": ",".join(selectors), "limit": 1000})
    found = summaries.events(answer.get("items", []), datetime.now(UTC))
    limit = args.get("limit", 50)
    return {"events": found[:limit], "truncated": len(found) > limit}


def top(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Current use of CPU and memory by pods or nodes, the greatest first (needs metrics-server)."""
    nodes = args.get("of", "pods") == "nodes"
    if nodes and "namespaces" in ctx.config:
        raise SkillError("of: nodes belong to no namespace, and config.namespaces limits this agent to some")
    kind = kinds.Kind("metrics.k8s.io/v1beta1", "", "nodes" if nodes else "pods", namespaced=not nodes)
    namespace = None if nodes else _namespace(ctx, args)
    answer = _cluster(ctx).json(kind.path(namespace), {"labelSelector": args.get("labelSelector")})
    rows = []
    for item in answer.get("items", []):
        usages = [item["usage"]] if nodes else [container["usage"] for container in item.get("containers", [])]
        rows.append(
            {
                "name": item["metadata"]["name"],
                "namespace": item["metadata"].get("namespace"),
                "cpuCores": round(sum(summaries.quantity(usage["cpu"]) for usage in usages), 4),
                "memoryBytes": round(sum(summaries.quantity(usage["memory"]) for usage in usages)),
            }
        )
    order = "memoryBytes" if args.get("sortBy", "cpu") == "memory" else "cpuCores"
    return {"items": sorted(rows, key=lambda row: (-row[order], row["name"]))}


def _check_writes(ctx: Any) -> None:
    if ctx.config.get("allowWrites") is not True:
        raise SkillError("config.allowWrites: it is not true, so nothing is changed; the platform sets it in the Agent")


def scale(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Sets the number of replicas through the scale subresource."""
    _check_writes(ctx)
    cluster = _cluster(ctx)
    kind, path = _target(ctx, cluster, args)
    before = cluster.json(f"{path}/scale")["spec"].get("replicas", 0)
    body = {"spec": {"replicas": args["replicas"]}}
    after = cluster.patch(f"{path}/scale", body, kube.MERGE, {"fieldManager": FIELD_MANAGER, **_dry(args)})
    ctx.logger.info("scaled %s %s from %d to %d", kind.kind, args["name"], before, args["replicas"])
    return {"kind": kind.kind, "name": args["name"], "before": before, "after": after["spec"].get("replicas", 0)}


def restart(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Replaces the pods of a workload step by step, as `kubectl rollout restart` does."""
    _check_writes(ctx)
    cluster = _cluster(ctx)
    kind, path = _target(ctx, cluster, args)
    if kind.kind not in {"Deployment", "StatefulSet", "DaemonSet"}:
        raise SkillError(f"kind: a {kind.kind} cannot be restarted; use a Deployment, StatefulSet or DaemonSet")
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    body = {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: stamp}}}}}
    cluster.patch(path, body, kube.MERGE, {"fieldManager": FIELD_MANAGER, **_dry(args)})
    ctx.logger.info("restarted %s %s", kind.kind, args["name"])
    return {"kind": kind.kind, "name": args["name"], "restartedAt": stamp}


def apply(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Applies an object by server-side apply; fields that others own are a conflict unless `force`."""
    _check_writes(ctx)
    manifest = args["manifest"]
    metadata = manifest.get("metadata")
    wanted = {"apiVersion": manifest.get("apiVersion"), "kind": manifest.get("kind")}
    wanted["metadata.name"] = metadata.get("name") if isinstance(metadata, dict) else None
    for field, value in wanted.items():
        if not isinstance(value, str) or not value:
            raise SkillError(f"manifest.{field}: it is missing; a manifest needs apiVersion, kind and metadata.name")
    named = {"kind": wanted["kind"], "apiVersion": wanted["apiVersion"], "name": wanted["metadata.name"]}
    if "namespace" in metadata:
        named["namespace"] = metadata["namespace"]
    cluster = _cluster(ctx)
    kind, path = _target(ctx, cluster, named)
    query = {"fieldManager": FIELD_MANAGER, "force": args.get("force", False), **_dry(args)}
    applied = cluster.patch(path, manifest, kube.APPLY, query)
    ctx.logger.info("applied %s %s", kind.kind, wanted["metadata.name"])
    return {"object": summaries.clean(applied), "dryRun": args.get("dryRun", False)}


def _dry(args: dict[str, Any]) -> dict[str, str]:
    return {"dryRun": "All"} if args.get("dryRun", False) else {}
