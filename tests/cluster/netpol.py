"""Kubernetes NetworkPolicy → nftables rules: a pure function. Test equipment, IPv4, one node.

Semantics: https://kubernetes.io/docs/concepts/services-networking/network-policies/
The rules sit behind the DNAT of Services, so a connection to a ClusterIP is judged on the pod it reaches. What the node
itself sends (kubelet probes, host programs) passes the output hook, where there is no rule: node → pod always passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

TABLE = "openclaw_network_policy"
PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
FINISHED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class Pod:
    """What the rules need of a pod that has an address of its own (never one on the host network)."""

    namespace: str
    name: str
    address: str
    labels: Mapping[str, str]
    ports: tuple[tuple[str, str, int], ...] = ()
    """Named container ports: (name, protocol, number)."""

    def port(self, name: str, protocol: str) -> int | None:
        return next((number for each, kind, number in self.ports if (each, kind) == (name, protocol)), None)


@dataclass(frozen=True)
class Match:
    """One allowed combination; None means any. Addresses are IPs or CIDRs of the other side."""

    addresses: tuple[str, ...] | None
    excluded: tuple[str, ...] = ()
    protocol: str | None = None
    ports: tuple[int, int] | None = None


@dataclass(frozen=True)
class Isolation:
    """The allowed traffic of one pod in one direction; everything else is dropped."""

    pod: Pod
    direction: str
    """`ingress` or `egress`."""
    allowed: tuple[Match, ...]


@dataclass(frozen=True)
class Objects:
    """The cluster's objects as the API gives them (JSON)."""

    pods: Sequence[Mapping[str, Any]]
    namespaces: Sequence[Mapping[str, Any]]
    policies: Sequence[Mapping[str, Any]]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A metav1.LabelSelector; the empty one selects everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        value = labels.get(expression["key"])
        values = expression.get("values") or []
        satisfied = {
            "In": value is not None and value in values,
            "NotIn": value is None or value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not satisfied[expression["operator"]]:
            return False
    return True


def parse_pods(objects: Iterable[Mapping[str, Any]], addresses: Mapping[str, str]) -> list[Pod]:
    """Running pods with their addresses, in a stable order.

    `addresses`: pod uid → address as the network plugin assigned it, known before the API server knows it.
    """
    # An address can be in use again before the pod that had it is gone: the last report counts.
    owners = {address: uid for uid, address in addresses.items()}
    pods = []
    for item in objects:
        metadata, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
        uid = metadata["uid"]
        address = addresses.get(uid) or status.get("podIP")
        if spec.get("hostNetwork") or not address or status.get("phase") in FINISHED:
            continue
        if owners.get(address, uid) != uid:
            continue
        ports = tuple(
            (port["name"], port.get("protocol", "TCP"), port["containerPort"])
            for container in spec.get("containers", [])
            for port in container.get("ports") or []
            if port.get("name")
        )
        labels = metadata.get("labels") or {}
        pods.append(Pod(metadata["namespace"], metadata["name"], address, labels, ports))
    return sorted(pods, key=lambda pod: (pod.namespace, pod.name))


def policy_types(spec: Mapping[str, Any]) -> frozenset[str]:
    """As given; else ingress always, and egress when there are egress rules."""
    given = spec.get("policyTypes")
    if given:
        return frozenset(each.lower() for each in given)
    return frozenset({"ingress", "egress"} if spec.get("egress") else {"ingress"})


def isolations(objects: Objects, addresses: Mapping[str, str]) -> list[Isolation]:
    """For every pod and direction that a policy isolates, the union of what its policies allow."""
    pods = parse_pods(objects.pods, addresses)
    namespaces = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in objects.namespaces}
    result = []
    for pod in pods:
        own = [
            each["spec"]
            for each in objects.policies
            if each["metadata"]["namespace"] == pod.namespace
            and selects(each["spec"].get("podSelector") or {}, pod.labels)
        ]
        for direction in ("egress", "ingress"):
            specs = [spec for spec in own if direction in policy_types(spec)]
            if not specs:
                continue
            allowed: dict[Match, None] = {}
            for spec in specs:
                for rule in spec.get(direction) or []:
                    allowed.update(dict.fromkeys(_matches(rule, direction, pod, pods, namespaces)))
            result.append(Isolation(pod, direction, tuple(allowed)))
    return result


def _matches(
    rule: Mapping[str, Any], direction: str, pod: Pod, pods: list[Pod], namespaces: Mapping[str, Mapping[str, str]]
) -> Iterable[Match]:
    peers = rule.get("from" if direction == "ingress" else "to") or [None]
    ports = rule.get("ports") or [None]
    for peer in peers:
        targets, block = _peer(peer, pod.namespace, pods, namespaces)
        if block is not None and ip_network(block["cidr"]).version != 4:
            continue  # no pod here has such an address
        for port in ports:
            if direction == "egress" and port is not None and isinstance(port.get("port"), str):
                yield from _named_egress(port, pods if targets is None else targets, block)
                continue
            protocol, numbers = _port(port, pod)
            if numbers == (0, 0):
                continue
            if block is not None:
                yield Match((block["cidr"],), tuple(block.get("except") or ()), protocol, numbers)
            elif targets is None:
                yield Match(None, (), protocol, numbers)
            elif targets:
                yield Match(tuple(each.address for each in targets), (), protocol, numbers)


def _peer(
    peer: Mapping[str, Any] | None,
    namespace: str,
    pods: list[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> tuple[list[Pod] | None, Mapping[str, Any] | None]:
    """(pods, None) for selectors, (None, block) for an ipBlock, (None, None) for everybody."""
    if peer is None:
        return None, None
    if peer.get("ipBlock"):
        return None, peer["ipBlock"]
    namespace_selector, pod_selector = peer.get("namespaceSelector"), peer.get("podSelector")

    def chosen(other: Pod) -> bool:
        if namespace_selector is None:
            in_namespace = other.namespace == namespace
        else:
            in_namespace = selects(namespace_selector, namespaces.get(other.namespace, {}))
        return in_namespace and (pod_selector is None or selects(pod_selector, other.labels))

    return [other for other in pods if chosen(other)], None


def _port(port: Mapping[str, Any] | None, pod: Pod) -> tuple[str | None, tuple[int, int] | None]:
    """Protocol and number range; (0, 0) where a named port does not exist on the pod, which then allows nothing."""
    if port is None:
        return None, None
    protocol = port.get("protocol", "TCP")
    wanted = port.get("port")
    if wanted is None:
        return protocol, None
    if isinstance(wanted, str):
        number = pod.port(wanted, protocol) or 0
        return protocol, (number, number)
    return protocol, (wanted, port.get("endPort") or wanted)


def _named_egress(port: Mapping[str, Any], targets: list[Pod], block: Mapping[str, Any] | None) -> Iterable[Match]:
    """A name means a different number on each pod it leads to. It means nothing outside the cluster."""
    protocol = port.get("protocol", "TCP")
    for target in targets:
        number = target.port(port["port"], protocol)
        if number is None:
            continue
        if block is None or _inside(target.address, block):
            yield Match((target.address,), (), protocol, (number, number))


def _inside(address: str, block: Mapping[str, Any]) -> bool:
    host = ip_address(address)
    return host in ip_network(block["cidr"]) and not any(host in ip_network(each) for each in block.get("except") or [])


def render(isolated: Sequence[Isolation]) -> str:
    """The whole table as one nft transaction: the kernel replaces the old rules with the new at one instant."""
    lines = [f"add table ip {TABLE}", f"delete table ip {TABLE}", f"table ip {TABLE} {{"]
    chains: dict[str, dict[str, str]] = {"egress": {}, "ingress": {}}
    for number, isolation in enumerate(isolated):
        name = f"{isolation.direction}_{number}"
        chains[isolation.direction][isolation.pod.address] = name
        lines.append(f"  chain {name} {{ # {isolation.pod.namespace}/{isolation.pod.name}")
        side = "daddr" if isolation.direction == "egress" else "saddr"
        lines += [f"    {_condition(match, side)}return" for match in isolation.allowed]
        lines += ["    counter drop", "  }"]
    for direction, members in chains.items():
        lines.append(f"  map {direction} {{")
        lines.append("    type ipv4_addr : verdict")
        if members:
            elements = ", ".join(f"{address} : jump {name}" for address, name in members.items())
            lines.append(f"    elements = {{ {elements} }}")
        lines.append("  }")
    lines += [
        "  chain forward {",
        "    type filter hook forward priority filter - 5; policy accept;",
        "    ct state established,related accept",
        "    ip saddr vmap @egress",
        "    ip daddr vmap @ingress",
        "  }",
        # Pod → node, for example the API server behind its Service.
        "  chain input {",
        "    type filter hook input priority filter - 5; policy accept;",
        "    ct state established,related accept",
        "    ip saddr vmap @egress",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _condition(match: Match, side: str) -> str:
    parts = []
    if match.addresses is not None:
        parts.append(f"ip {side} {{ {', '.join(match.addresses)} }}")
    if match.excluded:
        parts.append(f"ip {side} != {{ {', '.join(match.excluded)} }}")
    if match.protocol is not None:
        protocol = PROTOCOLS[match.protocol]
        if match.ports is None:
            parts.append(f"meta l4proto {protocol}")
        else:
            low, high = match.ports
            parts.append(f"{protocol} dport {low if low == high else f'{low}-{high}'}")
    return "".join(f"{part} " for part in parts)
