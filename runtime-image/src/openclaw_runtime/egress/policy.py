"""Who may connect where: pure decisions over a grant, a host name and the addresses it has."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from openclaw_runtime.egress.grant import Grant

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_PORTS: Final = frozenset({80, 443})
"""What a domain that names no port opens."""
PRIVATE: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(item)
    for item in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "fc00::/7")
)
"""Addresses inside: RFC 1918, carrier NAT, benchmarking and unique local ones."""
NEVER: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(item)
    for item in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        # Metadata services outside of the link-local range: Alibaba Cloud's, Azure's wire server, AWS's over IPv6.
        "100.100.100.200/32",
        "168.63.129.16/32",
        "fd00:ec2::/32",
        "::/96",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
"""Loopback, link-local (the metadata services are there), multicast, reserved: nobody's business, whoever asks."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4: Final = ipaddress.IPv6Network("2002::/16")


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all calls of a namespace besides their grants.

    `api_server` are its addresses; they are open only to grants that name the host itself, and only if
    `allow_api_server` is set. `denied` are networks that are never reached.
    """

    api_server: frozenset[Address] = frozenset()
    allow_api_server: bool = False
    denied: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Pattern:
    """One entry of allowedDomains: a host name, `*.` and a domain, `*`, or an address; perhaps with a port."""

    host: str
    port: int | None

    def exact(self) -> bool:
        """Whether it names one host."""
        return not self.host.startswith("*")

    def matches(self, host: str, port: int) -> bool:
        """Whether it opens that port of that host (lower case, no final dot, no brackets)."""
        if (port != self.port) if self.port is not None else (port not in DEFAULT_PORTS):
            return False
        if self.exact():
            return host == self.host
        # An address is not a name below anything: only an entry that is this address opens it.
        return literal(host) is None and (self.host == "*" or host.endswith(self.host[1:]))


def literal(host: str) -> Address | None:
    """Returns the address if a host is written as one, in any of the ways that resolvers take for one."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def normalise(host: str) -> str:
    """Returns a host as it is compared: lower case, without the final dot and without brackets."""
    host = host.lower().removesuffix(".")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    address = literal(host)
    return str(address) if address is not None else host


def pattern(text: str) -> Pattern:
    """Reads one entry of allowedDomains; what is not one matches nothing."""
    host, port = text, None
    head, colon, tail = text.rpartition(":")
    if colon and tail.isascii() and tail.isdigit() and ("]" in head or ":" not in head):
        host, port = head, int(tail)
    return Pattern(normalise(host), port)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a connection is made; `reason` is one word, as metrics count it. `address` is what is dialled."""

    allowed: bool
    reason: str
    address: str | None = None


def judge_name(grant: Grant, host: str, port: int) -> Verdict:
    """Decides by name and port alone, before anything is resolved."""
    if not (grant.internal or grant.external):
        return Verdict(False, "no_network_permission")
    if any(item.matches(host, port) for item in map(pattern, grant.domains)):
        return Verdict(True, "allowed")
    others = (Pattern(item.host, port) for item in map(pattern, grant.domains))
    if any(item.matches(host, port) for item in others):
        return Verdict(False, "port_not_allowed")
    return Verdict(False, "domain_not_allowed")


def judge_addresses(grant: Grant, rules: Rules, host: str, addresses: Sequence[str]) -> Verdict:
    """Decides by the addresses a host has, after `judge_name`; the first is what is dialled.

    One bad address is enough for a no: a name that is half inside is a name somebody plays with.
    """
    if not addresses:
        return Verdict(False, "not_resolved")
    named = any(item.exact() and item.host == host for item in map(pattern, grant.domains))
    for text in addresses:
        reason = _refusal(grant, rules, ipaddress.ip_address(text), named=named)
        if reason is not None:
            return Verdict(False, reason, text)
    return Verdict(True, "allowed", addresses[0])


def _refusal(grant: Grant, rules: Rules, address: Address, *, named: bool) -> str | None:
    address = unwrapped(address)
    if _inside(address, NEVER):
        return "address_forbidden"
    if address in rules.api_server:
        return None if rules.allow_api_server and grant.internal and named else "api_server"
    if _inside(address, rules.denied):
        return "address_denied"
    private = _inside(address, PRIVATE)
    if private and not grant.internal:
        return "address_private"
    if not private and not grant.external:
        return "address_public"
    return None


def unwrapped(address: Address) -> Address:
    """Returns the IPv4 address inside an IPv6 one that a translator would turn into it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _6TO4 and address.sixtofour is not None:
        return address.sixtofour
    return address


def _inside(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def judge_sni(host: str, sni: str) -> Verdict:
    """Decides by the name in the TLS handshake: it is the name of CONNECT. An address has none, so none may be sent."""
    if not sni:
        return Verdict(True, "allowed") if literal(host) else Verdict(False, "sni_missing")
    return Verdict(True, "allowed") if normalise(sni) == host else Verdict(False, "sni_mismatch")
