"""The Service in front of an agent's gateway, its autoscaler and its disruption budget."""

from __future__ import annotations

from openclaw_operator.api.gateway import Autoscaling, ScalingRule
from openclaw_operator.resources import activator
from openclaw_operator.resources.agent_deployment import selector
from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import GATEWAY_PORT, Object, child, labels, pvc_spec

# What a gateway tells on /metrics: turns running or waiting.
TURNS_METRIC = "openclaw_turns_in_flight"


def service(inputs: AgentInputs) -> Object:
    """The Service <agent>-gateway on port 7456."""
    wanted = inputs.spec.gateway.service
    return child(
        "v1",
        "Service",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "gateway"),
        annotations=wanted.annotations or None,
        spec={
            "type": wanted.type,
            "selector": activator.LABELS if inputs.held else selector(inputs.owner.name),
            "ports": [{"name": "http", "port": GATEWAY_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    )


def autoscaler(inputs: AgentInputs) -> Object | None:
    """The HorizontalPodAutoscaler, None when the Agent decides its replicas itself."""
    scaling = inputs.spec.gateway.autoscaling
    if scaling is None or not inputs.autoscaled:
        return None
    if scaling.scaler == "KEDA":
        return _scaled_object(inputs, scaling)
    metrics = [_metric("cpu", scaling.cpu_utilization), _metric("memory", scaling.memory_utilization)]
    if scaling.in_flight_turns is not None:
        target = {"type": "AverageValue", "averageValue": str(scaling.in_flight_turns)}
        metrics.append({"type": "Pods", "pods": {"metric": {"name": TURNS_METRIC}, "target": target}})
    return child(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "autoscaling"),
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": inputs.gateway},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": metrics,
            "behavior": _behavior(scaling),
        },
    )


def _scaled_object(inputs: AgentInputs, scaling: Autoscaling) -> Object:
    """The ScaledObject from which KEDA makes an autoscaler: https://keda.sh/docs/latest/reference/scaledobject-spec/."""
    triggers: list[Object] = [
        {"type": name, "metricType": "Utilization", "metadata": {"value": str(value)}}
        for name, value in (("cpu", scaling.cpu_utilization), ("memory", scaling.memory_utilization))
    ]
    if scaling.in_flight_turns is not None:
        pods = f'namespace="{inputs.owner.namespace}",pod=~"{inputs.gateway}-.*"'
        triggers.append(
            {
                "type": "prometheus",
                "metadata": {
                    "serverAddress": scaling.prometheus_address or "",
                    "query": f"sum({TURNS_METRIC}{{{pods}}})",
                    "threshold": str(scaling.in_flight_turns),
                },
            }
        )
    return child(
        "keda.sh/v1alpha1",
        "ScaledObject",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "autoscaling"),
        spec={
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": inputs.gateway},
            "minReplicaCount": scaling.min_replicas,
            "maxReplicaCount": scaling.max_replicas,
            "triggers": triggers,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)}},
        },
    )


def _behavior(scaling: Autoscaling) -> Object:
    return {"scaleDown": _rule(scaling.behavior.scale_down), "scaleUp": _rule(scaling.behavior.scale_up)}


def _metric(name: str, utilization: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": utilization}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def _rule(rule: ScalingRule) -> Object:
    return {
        "stabilizationWindowSeconds": rule.stabilization_window_seconds,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": rule.percent, "periodSeconds": rule.period_seconds}],
    }


def disruption_budget(inputs: AgentInputs) -> Object:
    """The PodDisruptionBudget; by default one replica may be away."""
    wanted = inputs.spec.gateway.pod_disruption_budget
    limits = wanted.model_dump(by_alias=True, exclude_none=True) or {"maxUnavailable": 1}
    return child(
        "policy/v1",
        "PodDisruptionBudget",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "gateway"),
        spec={
            **limits,
            "selector": {"matchLabels": selector(inputs.owner.name)},
            # A pod that is not ready serves nobody: it must not block a node drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )


def workspace(inputs: AgentInputs) -> Object:
    """The PersistentVolumeClaim <agent>-workspace; with policy Retain it outlives the Agent."""
    wanted = inputs.spec.workspace
    return child(
        "v1",
        "PersistentVolumeClaim",
        inputs.owner.child("workspace"),
        inputs.owner,
        labels(inputs.owner, "gateway", "workspace"),
        owned=wanted.reclaim_policy == "Delete",
        spec=pvc_spec(wanted.size, wanted.storage_class_name, wanted.access_mode),
    )
