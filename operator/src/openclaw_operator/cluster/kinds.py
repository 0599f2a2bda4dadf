"""The Kubernetes kinds the operator reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

MANAGED_SELECTOR = "app.kubernetes.io/managed-by=openclaw-operator"


@dataclass(frozen=True)
class Kind:
    """A namespaced kind and its REST path."""

    name: str
    group: str
    version: str
    plural: str
    selector: str = MANAGED_SELECTOR
    # The part of a cluster that brings its API, where it may be missing; None for the APIs of Kubernetes itself.
    from_addon: str | None = None

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or its subresource; namespace None means all of them."""
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


AGENT = Kind("Agent", "openclaw.io", "v1alpha1", "agents")
SKILL = Kind("Skill", "openclaw.io", "v1alpha1", "skills")
MEMORY_STORE = Kind("MemoryStore", "openclaw.io", "v1alpha1", "memorystores")
MEMORY_RESTORE = Kind("MemoryRestore", "openclaw.io", "v1alpha1", "memoryrestores")
EVENT = Kind("Event", "events.k8s.io", "v1", "events")

CHILDREN: tuple[Kind, ...] = (
    Kind("ServiceAccount", "", "v1", "serviceaccounts"),
    Kind("Role", "rbac.authorization.k8s.io", "v1", "roles"),
    Kind("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings"),
    Kind("Secret", "", "v1", "secrets"),
    Kind("ConfigMap", "", "v1", "configmaps"),
    Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
    Kind("Service", "", "v1", "services"),
    Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
    Kind("Deployment", "apps", "v1", "deployments"),
    Kind("StatefulSet", "apps", "v1", "statefulsets"),
    Kind("CronJob", "batch", "v1", "cronjobs"),
    # Of Jobs only those the operator makes itself: a CronJob tells of its own.
    Kind("Job", "batch", "v1", "jobs", selector=f"{MANAGED_SELECTOR},app.kubernetes.io/name in (restore,last-backup)"),
    Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers"),
    Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    Kind("Ingress", "networking.k8s.io", "v1", "ingresses"),
    Kind("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes", from_addon="the Gateway API"),
    Kind("ServiceMonitor", "monitoring.coreos.com", "v1", "servicemonitors", from_addon="the Prometheus Operator"),
    Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects", from_addon="KEDA"),
    # Of pods only those of sandbox pools: the pods of Deployments and StatefulSets are their controllers' business. Not
    # by the pool's label: a pod that somebody took it from has to be seen, to be replaced.
    Kind("Pod", "", "v1", "pods", selector=f"{MANAGED_SELECTOR},app.kubernetes.io/name=sandbox"),
)
PRIMARY: tuple[Kind, ...] = (AGENT, SKILL, MEMORY_STORE, MEMORY_RESTORE)
BY_NAME: dict[str, Kind] = {kind.name: kind for kind in (*PRIMARY, *CHILDREN, EVENT)}
