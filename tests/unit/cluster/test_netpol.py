"""NetworkPolicy → rules, judged by asking the rules about packets."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.cluster.netpol import Isolation, Match, Objects, isolations, parse_pods, policy_types, render, selects

Json = dict[str, Any]


def pod(
    name: str, address: str, *, namespace: str = "a", ports: tuple[tuple[str, int], ...] = (), **labels: str
) -> Json:
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}", "labels": labels},
        "spec": {"containers": [{"ports": [{"name": each, "containerPort": number} for each, number in ports]}]},
        "status": {"phase": "Running", "podIP": address},
    }


def namespace(name: str, **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **labels}}}


def policy(spec: Json, *, in_namespace: str = "a") -> Json:
    return {"metadata": {"namespace": in_namespace, "name": "p"}, "spec": spec}


PODS = [
    pod("web", "10.0.0.1", app="web", ports=(("http", 8080),)),
    pod("client", "10.0.0.2", role="client"),
    pod("other", "10.0.0.3", role="other"),
    pod("far", "10.0.0.4", namespace="b", role="client", ports=(("http", 9090),)),
]
NAMESPACES = [namespace("a", team="one"), namespace("b", team="two")]
WEB: Json = {"podSelector": {"matchLabels": {"app": "web"}}}
CLIENT: Json = {"podSelector": {"matchLabels": {"role": "client"}}}


def rules_for(*specs: Json, pods: list[Json] | None = None) -> list[Isolation]:
    return isolations(Objects(pods or PODS, NAMESPACES, [policy(spec) for spec in specs]), {})


def matches(match: Match, other: str, protocol: str, port: int) -> bool:
    def inside(blocks: tuple[str, ...]) -> bool:
        return any(ip_address(other) in ip_network(block) for block in blocks)

    if match.addresses is not None and not inside(match.addresses):
        return False
    if inside(match.excluded):
        return False
    if match.protocol is not None and match.protocol != protocol:
        return False
    return match.ports is None or match.ports[0] <= port <= match.ports[1]


def passes(rules: list[Isolation], source: str, target: str, port: int = 8080, protocol: str = "TCP") -> bool:
    """Whether a new connection is let through: by the source's egress and the target's ingress rules."""
    for isolation in rules:
        own, other = (source, target) if isolation.direction == "egress" else (target, source)
        if isolation.pod.address == own and not any(matches(each, other, protocol, port) for each in isolation.allowed):
            return False
    return True


WEB_IP, CLIENT_IP, OTHER_IP, FAR_IP, WORLD = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "192.0.2.7"


def test_without_policies_everything_passes() -> None:
    assert rules_for() == []


def test_default_deny_of_both_directions() -> None:
    rules = rules_for({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    assert not passes(rules, CLIENT_IP, WEB_IP)
    assert not passes(rules, CLIENT_IP, WORLD)
    assert not passes(rules, FAR_IP, WEB_IP)
    assert passes(rules, FAR_IP, WORLD)


def test_ingress_isolation_leaves_egress_alone() -> None:
    rules = rules_for({"podSelector": {}})
    assert passes(rules, CLIENT_IP, WORLD)
    assert not passes(rules, WORLD, CLIENT_IP)


def test_pods_of_the_own_namespace_by_label() -> None:
    rules = rules_for({**WEB, "ingress": [{"from": [CLIENT]}]})
    assert passes(rules, CLIENT_IP, WEB_IP)
    assert not passes(rules, OTHER_IP, WEB_IP)
    assert not passes(rules, FAR_IP, WEB_IP)


def test_namespaces_by_label() -> None:
    rules = rules_for({**WEB, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "two"}}}]}]})
    assert passes(rules, FAR_IP, WEB_IP)
    assert not passes(rules, CLIENT_IP, WEB_IP)


def test_namespace_and_pod_selectors_in_one_peer_must_both_hold() -> None:
    both = {"namespaceSelector": {"matchLabels": {"team": "two"}}, **CLIENT}
    rules = rules_for({**WEB, "ingress": [{"from": [both]}]})
    assert passes(rules, FAR_IP, WEB_IP)
    assert not passes(rules, CLIENT_IP, WEB_IP)
    assert not passes(rules, OTHER_IP, WEB_IP)


def test_two_peers_are_alternatives() -> None:
    second = {"namespaceSelector": {"matchLabels": {"team": "two"}}}
    rules = rules_for({**WEB, "ingress": [{"from": [CLIENT, second]}]})
    assert passes(rules, CLIENT_IP, WEB_IP)
    assert passes(rules, FAR_IP, WEB_IP)
    assert not passes(rules, OTHER_IP, WEB_IP)


def test_address_blocks_with_exceptions() -> None:
    block = {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}}
    rules = rules_for({**CLIENT, "policyTypes": ["Egress"], "egress": [{"to": [block]}]})
    assert passes(rules, CLIENT_IP, WORLD)
    assert not passes(rules, CLIENT_IP, "192.0.2.200")
    assert not passes(rules, CLIENT_IP, WEB_IP)


@pytest.mark.parametrize(
    ("port", "open_ports", "closed"),
    [
        ({"port": 80}, [80], [79, 81]),
        ({"port": 80, "endPort": 90}, [80, 85, 90], [79, 91]),
        ({"port": "http"}, [8080], [80]),
        ({"port": "absent"}, [], [80, 8080]),
        ({}, [1, 65535], []),
    ],
)
def test_ports(port: Json, open_ports: list[int], closed: list[int]) -> None:
    rules = rules_for({**WEB, "ingress": [{"ports": [port]}]})
    assert all(passes(rules, CLIENT_IP, WEB_IP, each) for each in open_ports)
    assert not any(passes(rules, CLIENT_IP, WEB_IP, each) for each in closed)


def test_protocols_are_told_apart() -> None:
    rules = rules_for({**WEB, "ingress": [{"ports": [{"protocol": "UDP", "port": 53}]}]})
    assert passes(rules, CLIENT_IP, WEB_IP, 53, "UDP")
    assert not passes(rules, CLIENT_IP, WEB_IP, 53, "TCP")


def test_a_named_port_of_egress_is_the_number_on_each_target() -> None:
    to_everyone = {"to": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}
    rules = rules_for({**CLIENT, "policyTypes": ["Egress"], "egress": [to_everyone]})
    assert passes(rules, CLIENT_IP, WEB_IP, 8080)
    assert not passes(rules, CLIENT_IP, WEB_IP, 9090)
    assert passes(rules, CLIENT_IP, FAR_IP, 9090)
    assert not passes(rules, CLIENT_IP, WORLD, 8080)


def test_a_named_port_of_egress_to_anyone_is_looked_up_on_every_pod() -> None:
    rules = rules_for({**CLIENT, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]})
    assert passes(rules, CLIENT_IP, WEB_IP, 8080)
    assert passes(rules, CLIENT_IP, FAR_IP, 9090)
    assert not passes(rules, CLIENT_IP, WEB_IP, 9090)


def test_policies_of_a_pod_add_up() -> None:
    rules = rules_for({**WEB}, {**WEB, "ingress": [{"from": [CLIENT]}]}, {**WEB, "ingress": [{"ports": [{"port": 1}]}]})
    assert passes(rules, CLIENT_IP, WEB_IP)
    assert passes(rules, OTHER_IP, WEB_IP, 1)
    assert not passes(rules, OTHER_IP, WEB_IP)


def test_a_peer_nobody_matches_allows_nobody() -> None:
    rules = rules_for({**WEB, "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "nobody"}}}]}]})
    assert not passes(rules, CLIENT_IP, WEB_IP)
    assert not passes(rules, WORLD, WEB_IP)


def test_empty_lists_of_peers_and_ports_mean_everyone() -> None:
    rules = rules_for({**WEB, "ingress": [{"from": [], "ports": []}]})
    assert passes(rules, WORLD, WEB_IP, 1)


def test_a_policy_of_another_namespace_does_not_apply() -> None:
    objects = Objects(PODS, NAMESPACES, [policy({"podSelector": {}}, in_namespace="b")])
    assert {isolation.pod.name for isolation in isolations(objects, {})} == {"far"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {"ingress"}),
        ({"egress": []}, {"ingress"}),
        ({"egress": [{}]}, {"ingress", "egress"}),
        ({"policyTypes": ["Egress"]}, {"egress"}),
    ],
)
def test_directions_that_are_not_named(spec: Json, expected: set[str]) -> None:
    assert policy_types(spec) == expected


@pytest.mark.parametrize(
    ("operator", "values", "labels", "expected"),
    [
        ("In", ["x"], {"key": "x"}, True),
        ("In", ["x"], {}, False),
        ("NotIn", ["x"], {"key": "x"}, False),
        ("NotIn", ["x"], {}, True),
        ("Exists", None, {"key": "y"}, True),
        ("Exists", None, {}, False),
        ("DoesNotExist", None, {}, True),
        ("DoesNotExist", None, {"key": "y"}, False),
    ],
)
def test_label_expressions(operator: str, values: list[str] | None, labels: dict[str, str], expected: bool) -> None:
    expression = {"key": "key", "operator": operator, "values": values}
    assert selects({"matchExpressions": [expression]}, labels) is expected


def test_pods_without_an_address_of_their_own_are_left_out() -> None:
    on_host = pod("host", "172.30.0.2")
    on_host["spec"]["hostNetwork"] = True
    finished = pod("done", "10.0.0.9")
    finished["status"]["phase"] = "Succeeded"
    waiting = pod("waiting", "")
    assert parse_pods([on_host, finished, waiting], {}) == []


def test_a_pod_is_covered_with_the_address_the_network_plugin_reported() -> None:
    waiting = pod("new", "", role="client")
    rules = isolations(Objects([waiting], NAMESPACES, [policy({"podSelector": {}})]), {"uid-new": "10.0.0.8"})
    assert [isolation.pod.address for isolation in rules] == ["10.0.0.8"]


def test_an_address_in_use_again_belongs_to_the_new_pod() -> None:
    old, new = pod("old", "10.0.0.8", role="other"), pod("new", "", role="client")
    found = parse_pods([old, new], {"uid-new": "10.0.0.8"})
    assert [each.name for each in found] == ["new"]


def test_rules_as_nftables() -> None:
    text = render(rules_for({**WEB, "ingress": [{"from": [CLIENT], "ports": [{"port": 80, "endPort": 90}]}]}))
    assert text.startswith("add table ip openclaw_network_policy\ndelete table ip openclaw_network_policy\n")
    assert "ip saddr { 10.0.0.2 } tcp dport 80-90 return\n    counter drop" in text
    assert "elements = { 10.0.0.1 : jump ingress_0 }" in text
    assert "ct state established,related accept" in text


def test_egress_to_the_node_is_judged_too() -> None:
    text = render(rules_for({**CLIENT, "policyTypes": ["Egress"]}))
    chain = text[text.index("chain input") :]
    assert "ip saddr vmap @egress" in chain
    assert "@ingress" not in chain
