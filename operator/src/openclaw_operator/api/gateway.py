"""What an Agent says of its gateway: the pods that serve it, how they scale, and how they are reached."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openclaw_operator.api.base import (
    DNS_SUBDOMAIN,
    HTTP_URL,
    LABEL_KEY,
    LIST_ATOMIC,
    LIST_SET,
    FreeForm,
    IntOrPercent,
    KeyRef,
    LocalRef,
    Model,
    Name,
    Resources,
    Toleration,
    cel,
    list_map,
    schema_extra,
)


class ScalingRule(Model):
    """How fast an autoscaler moves in one direction."""

    stabilization_window_seconds: int = Field(ge=0, le=3600, description="Seconds a recommendation must hold.")
    percent: int = Field(ge=1, le=1000, description="Most change per period, in percent of the replicas.")
    period_seconds: int = Field(60, ge=1, le=1800, description="Length of a period.")


class ScalingBehavior(Model):
    """Speed limits of the autoscaler."""

    scale_down: ScalingRule = Field(
        default_factory=lambda: ScalingRule(stabilization_window_seconds=300, percent=10, period_seconds=60),
        description="Removing replicas.",
    )
    scale_up: ScalingRule = Field(
        default_factory=lambda: ScalingRule(stabilization_window_seconds=60, percent=100, period_seconds=60),
        description="Adding replicas.",
    )


class Autoscaling(Model):
    """A HorizontalPodAutoscaler on the gateway."""

    model_config = schema_extra(
        cel(
            "self.minReplicas <= self.maxReplicas",
            "minReplicas must not exceed maxReplicas: lower minReplicas or raise maxReplicas",
            ".minReplicas",
        ),
        cel(
            "!has(self.scaler) || self.scaler != 'KEDA' || !has(self.inFlightTurns) || has(self.prometheusAddress)",
            "KEDA reads turns in flight from Prometheus: set prometheusAddress, for example "
            "http://prometheus.monitoring:9090, or remove inFlightTurns",
            ".prometheusAddress",
        ),
    )
    min_replicas: int = Field(3, ge=1, le=100, description="Fewest replicas.")
    max_replicas: int = Field(10, ge=1, le=100, description="Most replicas.")
    cpu_utilization: int = Field(70, ge=1, le=1000, description="Target mean CPU use in percent of the request.")
    memory_utilization: int = Field(80, ge=1, le=1000, description="Target mean memory use in percent of the request.")
    in_flight_turns: int | None = Field(
        None,
        ge=1,
        le=10000,
        description="Target mean of turns running or waiting per pod: the pods metric openclaw_turns_in_flight, which "
        "a metrics adapter or KEDA has to serve; not looked at when unset.",
    )
    scaler: Literal["HorizontalPodAutoscaler", "KEDA"] = Field(
        "HorizontalPodAutoscaler",
        description="What scales: an autoscaler of Kubernetes, or a ScaledObject of KEDA where its API is installed.",
    )
    prometheus_address: str | None = Field(
        None,
        pattern=HTTP_URL,
        max_length=2048,
        description="Where KEDA reads openclaw_turns_in_flight, for example http://prometheus.monitoring:9090.",
    )
    behavior: ScalingBehavior = Field(default_factory=ScalingBehavior, description="Speed limits.")


class GatewayService(Model):
    """The Service in front of the gateway."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field("ClusterIP", description="Kind of Service.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations for cloud load balancers.")


class PodDisruptionBudget(Model):
    """How many replicas voluntary disruptions must leave."""

    model_config = schema_extra(
        cel(
            "!(has(self.minAvailable) && has(self.maxUnavailable))",
            "set minAvailable or maxUnavailable, not both",
        )
    )
    min_available: IntOrPercent | None = Field(None, description="Replicas that must stay, as a number or percentage.")
    max_unavailable: IntOrPercent | None = Field(
        None, description="Replicas that may be away, as a number or percentage; 1 when both are unset."
    )


class Ingress(Model):
    """An Ingress in front of the gateway."""

    host: str = Field(pattern=DNS_SUBDOMAIN, max_length=253, description="Host name the agent is reached by.")
    class_name: Name | None = Field(None, description="IngressClass; the cluster's default when unset.")
    tls_secret_name: Name | None = Field(
        None, description="Secret with the certificate of the host; without it the Ingress has no TLS of its own."
    )
    annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Annotations beside, or instead of, those for nginx that redirect to TLS (where tlsSecretName is "
        "set) and take bodies of up to 50m.",
    )


class ParentRef(Model):
    """A Gateway a route attaches to."""

    name: Name = Field(description="Name of the Gateway.")
    namespace: Name | None = Field(None, description="Its namespace; that of the Agent when unset.")
    section_name: Name | None = Field(None, description="One of its listeners; all of them when unset.")


class HTTPRoute(Model):
    """An HTTPRoute in front of the gateway, where the Gateway API is installed."""

    parent_refs: list[ParentRef] = Field(
        min_length=1, max_length=32, description="Gateways to attach to.", json_schema_extra=LIST_ATOMIC
    )
    hostnames: list[Name] = Field(
        default_factory=list,
        max_length=16,
        description="Host names the agent is reached by; those of the listener when empty.",
        json_schema_extra=LIST_SET,
    )


class Rollout(Model):
    """How gateway pods are replaced; with embedded memory it is always the one pod, stopped before its successor."""

    model_config = schema_extra(
        cel(
            "!(has(self.maxSurge) && has(self.maxUnavailable) && "
            "string(self.maxSurge) in ['0', '0%'] && string(self.maxUnavailable) in ['0', '0%'])",
            "with both 0 no pod could ever be replaced: set maxSurge or maxUnavailable to more than 0",
        )
    )
    max_surge: IntOrPercent = Field(1, description="Pods above the replicas during a rollout, number or percentage.")
    max_unavailable: IntOrPercent = Field(0, description="Pods that may be away meanwhile, number or percentage.")
    paused: bool = Field(
        False,
        description="Hold restarts back: a change of the pods waits; status.pendingRestart says for how many.",
    )


class Hibernation(Model):
    """No gateway pods while nobody needs the agent; the next message starts them and is answered."""

    idle_seconds: int = Field(
        900,
        ge=30,
        le=604800,
        description="Seconds without a request, a turn, a skill call or a message of another agent until it sleeps.",
    )
    wake_timeout_seconds: int = Field(
        60,
        ge=5,
        le=600,
        description="Longest a request is held while the gateway starts; then it is answered 503 with Retry-After.",
    )


class Probe(Model):
    """When and how often the kubelet asks."""

    initial_delay_seconds: int = Field(0, ge=0, le=3600, description="Seconds after the start of the container.")
    period_seconds: int = Field(10, ge=1, le=3600, description="Seconds between two questions.")
    timeout_seconds: int = Field(3, ge=1, le=300, description="Seconds to answer in.")
    failure_threshold: int = Field(3, ge=1, le=100, description="Failures in a row that count.")


class Probes(Model):
    """The questions of the kubelet to a gateway pod."""

    liveness: Probe = Field(
        default_factory=lambda: Probe(initial_delay_seconds=30, period_seconds=10),
        description="GET /health; a pod that does not answer is restarted.",
    )
    readiness: Probe = Field(
        default_factory=lambda: Probe(initial_delay_seconds=5, period_seconds=5),
        description="GET /ready; a pod that does not answer gets no requests.",
    )


class TopologySpread(Model):
    """Spreads gateway pods over a topology; the pod selector is filled in by the operator."""

    max_skew: int = Field(1, ge=1, description="Largest difference in pods between two domains.")
    # The API server takes any text, but server-side apply loses track of an item whose key is no label.
    topology_key: str = Field(
        pattern=LABEL_KEY, min_length=1, max_length=316, description="Node label that defines the domains."
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        "ScheduleAnyway", description="Whether a pod that would break the spread may be scheduled."
    )


class EnvVar(Model):
    """An environment variable of the gateway container."""

    model_config = schema_extra(
        cel("!(has(self.value) && has(self.valueFrom))", "set value or valueFrom, not both"),
    )
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253, description="Name of the variable.")
    value: str | None = Field(None, max_length=32768, description="Its value.")
    value_from: EnvSource | None = Field(None, description="Where its value comes from.")


class EnvSource(Model):
    """A Secret or ConfigMap key."""

    model_config = schema_extra(
        cel(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "set exactly one of secretKeyRef and configMapKeyRef",
        )
    )
    secret_key_ref: KeyRef | None = Field(None, description="A key of a Secret.")
    config_map_key_ref: KeyRef | None = Field(None, description="A key of a ConfigMap.")


def _gateway_resources() -> Resources:
    return Resources(
        requests={"cpu": "250m", "memory": "512Mi"},
        limits={"cpu": "1", "memory": "2Gi"},
    )


class Affinity(Model):
    """Affinity as in a pod spec; what is inside is checked when it is applied."""

    node_affinity: FreeForm | None = Field(None, description="Nodes the pods must or should run on.")
    pod_affinity: FreeForm | None = Field(None, description="Pods they must or should run near to.")
    pod_anti_affinity: FreeForm | None = Field(None, description="Pods they must or should run away from.")


class GatewayAuth(Model):
    """How clients show that they may talk to the agent."""

    token_secret_ref: KeyRef = Field(
        description="The key of a Secret with the bearer token, in place of one that the operator makes. Gateways take "
        "up a new value without a restart."
    )


class Gateway(Model):
    """The pods that serve the agent."""

    model_config = schema_extra(
        cel(
            "!has(self.auth) || !has(self.hibernation)",
            "who wakes an agent is known by the token that the operator makes: remove auth or hibernation",
            ".auth",
        )
    )
    replicas: int = Field(1, ge=0, le=100, description="Number of gateway pods; unused while autoscaling is set.")
    autoscaling: Autoscaling | None = Field(None, description="Let a HorizontalPodAutoscaler choose the replicas.")
    hibernation: Hibernation | None = Field(
        None, description="Scale to zero while the agent is idle, and wake it by the next message; never when unset."
    )
    auth: GatewayAuth | None = Field(None, description="A bearer token of your own; the operator makes one when unset.")
    resources: Resources = Field(default_factory=_gateway_resources, description="Resources of a gateway pod.")
    service: GatewayService = Field(default_factory=GatewayService, description="The Service in front of the pods.")
    pod_disruption_budget: PodDisruptionBudget = Field(
        default_factory=PodDisruptionBudget, description="Protection against voluntary disruptions."
    )
    ingress: Ingress | None = Field(None, description="Reach the agent from outside through an Ingress.")
    http_route: HTTPRoute | None = Field(None, description="Reach it through a Gateway of the Gateway API.")
    rollout: Rollout = Field(default_factory=Rollout, description="How pods are replaced.")
    probes: Probes = Field(default_factory=Probes, description="How the kubelet asks pods whether they are well.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels a node must have.")
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=64, description="Taints to tolerate.", json_schema_extra=LIST_ATOMIC
    )
    affinity: Affinity | None = Field(None, description="Affinity as in a pod spec; checked when it is applied.")
    topology_spread: list[TopologySpread] = Field(
        default_factory=list,
        max_length=8,
        description="Spread over nodes and zones.",
        json_schema_extra=list_map("topologyKey"),
    )
    extra_env: list[EnvVar] = Field(
        default_factory=list,
        max_length=128,
        description="More environment. A new value in a ConfigMap restarts gateways; one in a Secret counts from the "
        "next restart on.",
        json_schema_extra=list_map("name"),
    )
    image_pull_secrets: list[LocalRef] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets with credentials for the image registry.",
        json_schema_extra=list_map("name"),
    )
